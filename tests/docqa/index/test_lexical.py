import functools
import json
import multiprocessing
import os
import random
import re
import shutil
from math import log
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from docqa.errors import LibraryBusy
from docqa.index import IndexMismatch
from docqa.index.files import MANIFEST
from docqa.index.lexical import LexicalIndex
from docqa.index.words import (
    TermSplitter,
    extra_terms,
    new_analyser,
    query_terms,
    split_analyser,
)
from docqa.types import BlockKind, Chunk, Locator, Scope, Span

LIBRARY = "library-1"
EVERYTHING = Scope()


def chunk(chunk_id: int, text: str, doc_id: int = 1, **fields) -> Chunk:
    span = Span(doc_id, 0, len(text), Locator("page", 1, 1))
    return Chunk(chunk_id, span, chunk_id, text, text, BlockKind.PARAGRAPH, **fields)


def filled(folder: Path, *chunks: Chunk, title: str = "") -> LexicalIndex:
    index = LexicalIndex.create(folder, LIBRARY)
    index.add(chunks, title)
    index.commit(1)
    return index


def ids(index: LexicalIndex, query: str, scope: Scope = EVERYTHING, k: int = 10) -> list[int]:
    return [hit.chunk_id for hit in index.search(query, k, scope)]


IDENTIFIERS = chunk(
    1,
    "2024-05-01 ERR-1042 at java.lang.NullPointerException from 10.0.0.1:8080 in foo_bar "
    "took 1,234 ms, id a1b2c3d4e5f60718293a4b5c6d7e8f90",
)
OTHER = chunk(2, "ERR 7 and 1042 apart; 10.0.0.2; the Pointer; foo; a bar; running pumps", doc_id=2)


@pytest.mark.parametrize(
    "query",
    [
        "ERR-1042",
        "err-1042?",
        "java.lang.NullPointerException",
        "NullPointerException",
        "nullpointerexception",
        "null pointer",
        "10.0.0.1",
        "foo_bar",
        "1234 ms",
        "a1b2c3d4e5f60718293a4b5c6d7e8f90",
        'what is "ERR-1042 at java"',
    ],
)
def test_identifiers_are_found_whole_before_their_parts(tmp_path, query):
    index = filled(tmp_path / "i", IDENTIFIERS, OTHER)
    assert ids(index, query)[0] == 1


def test_parts_stems_accents_and_case(tmp_path):
    index = filled(tmp_path / "i", IDENTIFIERS, OTHER, chunk(3, "Die Größe der Café-Ventile"))
    assert sorted(ids(index, "1042")) == [1, 2]
    assert ids(index, "run a pump") == [2]
    assert ids(index, "grosse CAFE") == [3]


def test_scripts_without_spaces(tmp_path):
    index = filled(
        tmp_path / "i", chunk(1, "東京都は日本の首都です。"), chunk(2, "京都は古い都市です。")
    )
    assert ids(index, "東京都") == [1, 2]  # the phrase wins
    assert ids(index, "古い") == [2]


def test_equals_bm25_by_hand(tmp_path):
    """Lucene's BM25 with k1 = 1.2, b = 0.75 over the body field."""
    texts = ["pump seal pump", "pump valve", "valve valve valve oil"]
    index = filled(tmp_path / "i", *(chunk(i, t) for i, t in enumerate(texts, 1)))
    n_docs = 4  # the marker counts as a document without a body
    average = sum(len(t.split()) for t in texts) / n_docs
    idf = log(1 + (n_docs - 2 + 0.5) / (2 + 0.5))

    def score(tf: int, length: int) -> float:
        return idf * tf * 2.2 / (tf + 1.2 * (0.25 + 0.75 * length / average))

    hits = index.search("pump", 10)
    assert [hit.chunk_id for hit in hits] == [1, 2]
    assert hits[0].score == pytest.approx(score(2, 3), rel=1e-3)
    assert hits[1].score == pytest.approx(score(1, 2), rel=1e-3)


def test_title_and_headings_find_a_chunk(tmp_path):
    index = LexicalIndex.create(tmp_path / "i", LIBRARY)
    index.add([chunk(1, "It is 40 bar.", headings=("Operation", "Pressure limits"))], "Pump A7")
    index.add([chunk(2, "It is 50 bar.", doc_id=2, headings=("Operation",))], "Valve B2")
    index.commit(1)
    assert ids(index, "pressure limit of the pump A7")[0] == 1
    assert ids(index, "valve") == [2]


def test_stop_words_count_only_when_alone(tmp_path):
    index = filled(tmp_path / "i", chunk(1, "to be or not to be"), chunk(2, "pump is the seal"))
    assert ids(index, "what is the pump") == [2]
    assert ids(index, "to be") == [1]


def test_ties_are_broken_by_chunk_id(tmp_path):
    index = filled(tmp_path / "i", *(chunk(i, "same words") for i in (9, 3, 7, 5)))
    assert ids(index, "same") == [3, 5, 7, 9]


def logs() -> list[Chunk]:
    times = [(0.0, 10.0), (10.0, 20.0), (30.0, 40.0)]
    levels = [("INFO",), ("INFO", "ERROR"), ("ERROR",)]
    found = [
        chunk(i + 1, "disk full", doc_id=i + 1, time_first=a, time_last=b, levels=level)
        for i, ((a, b), level) in enumerate(zip(times, levels, strict=True))
    ]
    return [*found, chunk(4, "disk full", doc_id=4)]


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        (Scope(), [1, 2, 3, 4]),
        (Scope(doc_ids=frozenset({2, 4})), [2, 4]),
        (Scope(doc_ids=frozenset()), []),
        (Scope(since=15.0), [2, 3]),
        (Scope(since=20.0), [2, 3]),
        (Scope(since=20.5), [3]),
        (Scope(until=10.0), [1, 2]),
        (Scope(since=21.0, until=29.0), []),
        (Scope(levels=frozenset({"ERROR"})), [2, 3]),
        (Scope(levels=frozenset({"ERROR", "INFO"}), until=5.0), [1]),
        (Scope(doc_ids=frozenset({1, 3}), levels=frozenset({"ERROR"}), since=0.0), [3]),
    ],
)
def test_filters_are_inside_the_index(tmp_path, scope, expected):
    index = filled(tmp_path / "i", *logs())
    assert ids(index, "disk", scope, k=len(expected) or 1) == expected
    assert list(index.chunk_ids_containing(["disk full"], scope)) == expected
    assert list(index.chunk_ids_containing(["***"], scope)) == expected


def test_a_filter_adds_nothing_to_the_score(tmp_path):
    index = filled(tmp_path / "i", *logs())
    open_score = index.search("disk", 1, Scope())[0].score
    assert index.search("disk", 1, Scope(doc_ids=frozenset({3})))[0].score == open_score


def test_all_chunks_containing(tmp_path):
    many = [chunk(i, f"request {i} timed out after 30s from 10.0.0.{i % 7}") for i in range(1, 500)]
    index = filled(tmp_path / "i", *reversed(many))
    expected = [i for i in range(1, 500) if i % 7 == 3]
    assert list(index.chunk_ids_containing(["10.0.0.3", "timed"])) == expected
    assert list(index.chunk_ids_containing(["10.0.0.3", "absent"])) == []
    assert list(index.chunk_ids_containing([])) == list(range(1, 500))


def test_remove_and_seq(tmp_path):
    index = filled(tmp_path / "i", IDENTIFIERS, OTHER)
    assert (index.seq, index.count()) == (1, 2)
    index.remove(1)
    index.commit(2)
    assert (index.seq, index.count()) == (2, 1)
    assert ids(index, "err") == [2]
    index.add([chunk(3, "ERR again", doc_id=1)])
    index.commit()
    assert (index.seq, sorted(ids(index, "err"))) == (2, [2, 3])


def test_reopened_it_is_the_same(tmp_path):
    index = filled(tmp_path / "i", IDENTIFIERS, OTHER)
    before = index.search("err 1042", 10)
    index.close()
    again = LexicalIndex.open(tmp_path / "i", LIBRARY)
    assert (again.seq, again.search("err 1042", 10)) == (1, before)


def test_uncommitted_work_is_lost_whole(tmp_path):
    index = filled(tmp_path / "i", IDENTIFIERS)
    index.add([OTHER])
    index.remove(1)
    index.close()
    again = LexicalIndex.open(tmp_path / "i", LIBRARY)
    assert (again.seq, again.count(), ids(again, "err")) == (1, 1, [1])


def test_readers_see_the_commits_of_a_writer_that_holds_the_lock(tmp_path):
    writer = filled(tmp_path / "i", IDENTIFIERS)
    reader = LexicalIndex.open(tmp_path / "i", LIBRARY)
    writer.add([OTHER])
    writer.commit(2)
    assert sorted(ids(reader, "err")) == [1, 2]
    assert reader.seq == 2
    with pytest.raises(LibraryBusy):
        reader.add([OTHER])
    writer.close()
    reader.remove(1)
    reader.commit(3)
    assert ids(writer, "err") == [2]


def _search_in_a_child(folder: str, queue) -> None:
    index = LexicalIndex.open(Path(folder), LIBRARY)
    queue.put([hit.chunk_id for hit in index.search("err", 10)])


def test_another_process_reads_while_this_one_writes(tmp_path):
    index = filled(tmp_path / "i", IDENTIFIERS, OTHER)
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    child = context.Process(target=_search_in_a_child, args=(str(tmp_path / "i"), queue))
    child.start()
    assert sorted(queue.get(timeout=60)) == [1, 2]
    child.join()
    index.close()


def test_mismatches_ask_for_a_rebuild(tmp_path):
    with pytest.raises(IndexMismatch, match="no lexical index"):
        LexicalIndex.open(tmp_path / "i", LIBRARY)
    filled(tmp_path / "i", IDENTIFIERS).close()
    with pytest.raises(IndexMismatch, match="another library"):
        LexicalIndex.open(tmp_path / "i", "library-2")
    LexicalIndex.create(tmp_path / "i", "library-2").close()
    assert LexicalIndex.open(tmp_path / "i", "library-2").count() == 0


def test_an_unknown_version_asks_for_a_rebuild(tmp_path, monkeypatch):
    filled(tmp_path / "i", IDENTIFIERS).close()
    monkeypatch.setattr("docqa.index.lexical.ANALYSER_VERSION", 999)
    with pytest.raises(IndexMismatch, match="version"):
        LexicalIndex.open(tmp_path / "i", LIBRARY)


def test_damaged_files_are_found_before_they_are_read(tmp_path):
    filled(tmp_path / "i", *(chunk(i, f"word{i} and ERR-{i}") for i in range(1, 300))).close()
    random_ = random.Random(7)
    recorded = json.loads((tmp_path / "i" / MANIFEST).read_text())
    assert len(recorded) >= 5
    for name in [*recorded, "meta.json", MANIFEST]:
        file = tmp_path / "i" / name
        good, stat = file.read_bytes(), file.stat()
        flipped = bytearray(good)
        flipped[random_.randrange(len(good))] ^= 1 << 7
        for bad in (b"", good[: len(good) // 2], good[:-1], bytes(flipped)):
            file.write_bytes(bad)
            try:
                index = LexicalIndex.open(tmp_path / "i", LIBRARY)
            except IndexMismatch:
                pass
            else:  # damage that changes nothing that is read
                assert name in ("meta.json", MANIFEST)
                assert index.count() == 299
        file.write_bytes(good)
        os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert LexicalIndex.open(tmp_path / "i", LIBRARY).count() == 299


@pytest.fixture(scope="module")
def shared(tmp_path_factory) -> LexicalIndex:
    return filled(tmp_path_factory.mktemp("lexical") / "i", IDENTIFIERS, OTHER)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.text(max_size=200) | st.text(alphabet='"()[]{}:^~*+-!\\/?AND OR NOT err 10.0', max_size=60)
)
def test_any_text_is_a_valid_question(shared, query):
    hits = shared.search(query, 10)
    assert hits == sorted(hits, key=lambda hit: (-hit.score, hit.chunk_id))
    assert {hit.chunk_id for hit in hits} <= {1, 2}
    assert set(shared.chunk_ids_containing([query])) <= {1, 2}


def test_a_pasted_page_is_a_valid_question(shared):
    assert ids(shared, "lorem ipsum ERR-1042 " + " ".join(f"word{i}" for i in range(5000)))[0] == 1


def test_query_terms():
    found = query_terms(new_analyser(), 'Why did "disk is full" and foo_bar fail on 10.0.0.1?')
    assert found.words == ("disk", "full", "foo", "bar", "fail", "10", "0", "1")
    assert found.phrases == (("disk", "is", "full"), ("foo", "bar"), ("10", "0", "0", "1"))


def test_extra_terms():
    assert extra_terms(
        "NullPointerException at getHTTPServer2 iPhone, McDonald: 1,234,567 3,14"
    ) == ("1234567 Null Pointer Exception get HTTP Server 2 i Phone Mc Donald")
    assert extra_terms("plain words ONLY 2024") == ""


@given(st.one_of(st.text("aBZ1,,_é٣ 90", max_size=40), st.text(max_size=40)))
@settings(max_examples=1_500)
def test_extra_terms_are_those_of_the_plain_expressions(text):
    numbers = re.findall(r"\b\d{1,3}(?:,\d{3})+\b", text)
    expected = [number.replace(",", "") for number in numbers]
    for word in re.findall(r"\b[A-Za-z0-9]*[a-z][A-Z][A-Za-z0-9]*\b", text):
        expected += re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+", word)
    assert extra_terms(text) == " ".join(expected)


@given(
    st.one_of(st.text(max_size=60), st.text("aÉ\u0301中ภ\u00a0\u2028_-1½²ⅷ😀\x85ß", max_size=30))
)
@settings(max_examples=1_500)
def test_split_text_has_the_same_terms(text):
    analyser, fields, splitter = analysers()
    assert fields.analyze(splitter.split(text)) == analyser.analyze(text)


@functools.cache
def analysers():
    analyser = new_analyser()
    return analyser, split_analyser(), TermSplitter(analyser)


def test_half_a_character_is_no_obstacle(tmp_path):
    index = filled(tmp_path / "lexical", chunk(1, "apple\ud800pear"))
    assert [hit.chunk_id for hit in index.search("pear", 9)] == [1]
    index.close()


def test_the_end_of_a_document_is_replaced(tmp_path):
    index = LexicalIndex.create(tmp_path / "lexical", "lib")
    index.add([chunk(i, f"apple number{i}", doc_id=1) for i in (1, 2, 3)])
    index.add([chunk(i, f"apple number{i}", doc_id=2) for i in (4, 5)])
    index.commit(1)
    index.remove_after(1, 1)
    index.add([chunk(6, "apple number6", doc_id=1)])
    index.commit(2)
    assert sorted(hit.chunk_id for hit in index.search("apple", 9)) == [1, 4, 5, 6]
    index.close()


def test_a_list_of_deletes_that_was_not_committed_is_no_obstacle(tmp_path):
    folder = tmp_path / "lexical"
    index = LexicalIndex.create(folder, "lib")
    index.add([chunk(i, f"apple number{i}", doc_id=i) for i in range(1, 5)])
    index.commit(1)
    index.release()
    shutil.copytree(folder, tmp_path / "before")
    index.remove(2)
    index.commit(2)
    index.close()
    (left,) = {p.name for p in folder.glob("*.del")} - {
        p.name for p in (tmp_path / "before").glob("*.del")
    }
    shutil.copy(folder / left, tmp_path / "before")  # as if killed before the commit
    again = LexicalIndex.open(tmp_path / "before", "lib")
    again.remove(2)
    again.commit(2)
    assert sorted(hit.chunk_id for hit in again.search("apple", 9)) == [1, 3, 4]
    again.close()
