"""The store: what is put in comes out, whole or not at all, and is gone when it is removed."""

from __future__ import annotations

import os
import sqlite3
import threading
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from docqa import intake as intake_module
from docqa import purge as purge_module
from docqa.errors import LibraryBusy, LibraryCorrupt, LibraryError, LibraryNewer
from docqa.intake import Intake
from docqa.migrations import SCHEMA_VERSION
from docqa.paths import LibraryPaths
from docqa.store import Store
from docqa.types import (
    BlockKind,
    Chunk,
    DocumentInfo,
    Kind,
    Locator,
    PageInfo,
    PageState,
    Scope,
    Span,
    State,
)
from tests.docqa.librarian import LONG_AGO_NS, log_chunks, open_store, put, stamp_at


@pytest.fixture
def store(tmp_path):
    with open_store(tmp_path) as opened:
        yield opened


def rows(store, table):
    with store.db.read() as connection:
        return connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]


def test_a_document_comes_back_as_it_went_in(store):
    span = Span(0, 3, 20, Locator("page", 2, 3))
    chunk = Chunk(
        0, span, 0, "naïve text \ud800 here", "Title > H\nnaïve", BlockKind.TABLE,
        ("H1", "H\ud8002"), ((0, 2), (7, 3)), 9, None, None, (),
    )  # fmt: skip
    info = DocumentInfo(Kind.PDF, "A title", 3, None, None, ("page 3: no OCR engine",))
    with store.lock.held(1), Intake(store, stamp_at("/a/b.pdf"), "7") as intake:
        intake.add(chunk)
        intake.add_page(PageInfo(2, PageState.TEXT, 17, "ii"))
        intake.add_page(PageInfo(3, PageState.UNREAD, 0, None, "no OCR engine"))
        doc_id = intake.publish(info, State.PARTIAL)

    document = store.document("/a/b.pdf")
    assert document == store.document(doc_id) == store.documents()[0].__class__(
        doc_id, "/a/b.pdf", stamp_at("").sha256.hex(), Kind.PDF, "A title", 7, LONG_AGO_NS,
        State.PARTIAL, 1, 3, None, 0, None, ("page 3: no OCR engine",),
    )  # fmt: skip
    assert store.documents()[0].n_pending == 1
    (found,) = store.iter_chunks()
    assert found == replace(chunk, chunk_id=found.chunk_id, span=replace(span, doc_id=doc_id))
    assert store.chunks([999, found.chunk_id]) == [found]
    assert [page.label for page in store.pages(doc_id)] == ["ii", None]
    assert store.pages(doc_id)[1] == PageInfo(3, PageState.UNREAD, 0, None, "no OCR engine")
    assert store.known("/a/b.pdf").parser == "7"


def test_paths_may_be_any_bytes(store):
    path = os.fsdecode(b"/a/\xff\xfe\n\x1b[31m.log")
    put(store, path, log_chunks(1))
    assert [d.path for d in store.documents()] == [path]
    assert store.document(path) is not None


def test_below_a_folder_is_not_beside_it(store):
    for path in ("/a/b", "/a/b/c", "/a/b.log", "/a/b0", "/a/bc/d"):
        put(store, path, log_chunks(1))
    assert [k.document.path for k in store.known_below("/a/b")] == ["/a/b", "/a/b/c"]
    assert len(store.known_below("/")) == 5
    assert store.doc_ids_below(["/a/bc", "/x"]) == {store.document("/a/bc/d").doc_id}


def test_chunks_come_in_the_order_asked_and_by_document(store):
    first, second = put(store, "/z.log", log_chunks(10)), put(store, "/a.log", log_chunks(3, "b"))
    ids = [chunk.chunk_id for chunk in store.iter_chunks()]
    assert len(ids) == 13
    backwards = store.chunks(ids[::-1])
    assert [chunk.chunk_id for chunk in backwards] == ids[::-1]
    assert [d.path for _, d in store.load([ids[0], ids[-1]])] == ["/z.log", "/a.log"]
    assert [c.ordinal for c in store.neighbours(first, 4, 2, 1)] == [2, 3, 4, 5]
    assert [c.ordinal for c in store.neighbours(second, 0, 5, 1)] == [0, 1]


def test_scopes_filter_by_document_time_and_level(store):
    first, _ = put(store, "/a.log", log_chunks(10)), put(store, "/b.log", log_chunks(10, "b"))

    def ordinals(**scope):
        return [c.ordinal for c in store.iter_chunks(Scope(**scope)) if c.span.doc_id == first]

    assert ordinals(doc_ids=frozenset()) == []
    assert ordinals(since=3.5, until=6.0) == [3, 4, 5, 6]
    assert ordinals(levels=frozenset({"ERROR"})) == [0, 3, 6, 9]
    assert ordinals(levels=frozenset({"WARN"})) == []
    assert ordinals(doc_ids=frozenset({first}), since=8.0, levels=frozenset({"INFO"})) == [8]


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.text(min_size=1, max_size=9).map(lambda t: t.replace("\n", "x")), min_size=1),
    st.data(),
)
def test_text_is_rebuilt_from_chunks(tmp_path_factory, pieces, data):
    gaps = data.draw(st.lists(st.integers(0, 3), min_size=len(pieces), max_size=len(pieces)))
    whole, chunks = "", []
    for i, (piece, gap) in enumerate(zip(pieces, gaps, strict=True)):
        whole += "\n" * gap
        span = Span(0, len(whole), len(whole) + len(piece), Locator("line", 1, 1))
        chunks.append(Chunk(0, span, i, piece, piece, BlockKind.PARAGRAPH))
        whole += piece
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, len(whole)))
    with open_store(tmp_path_factory.mktemp("text")) as store:
        doc_id = put(store, "/a.txt", chunks)
        assert store.text(doc_id) == whole
        assert store.text(doc_id, start, end) == whole[start:end]


def test_a_chunk_is_found_by_its_line(store):
    doc_id = put(store, "/a.log", log_chunks(100))
    for line in (1, 2, 77, 200):
        found = store.chunk_at(doc_id, line).span.locator
        assert found.first <= line <= found.last
    assert store.chunk_at(doc_id, 201) is None


def test_a_changed_document_replaces_its_former_content(store):
    old = put(store, "/a.log", log_chunks(5))
    old_ids = [c.chunk_id for c in store.iter_chunks()]
    new = put(store, "/a.log", log_chunks(2, "new"), b"new")
    assert old != new and store.document(old) is None
    assert [c.text for c in store.iter_chunks()] == ["new 0\nnew 1", "new 2\nnew 3"]
    assert store.chunks(old_ids) == []
    assert not set(old_ids) & {c.chunk_id for c in store.iter_chunks()}
    assert [(c.op, c.doc_id) for c in store.changes(0)] == [("remove", old), ("add", new)]


def test_readers_see_the_old_content_until_the_new_one_is_whole(store, monkeypatch):
    monkeypatch.setattr(intake_module, "STAGE_CHUNKS", 2)
    put(store, "/a.log", log_chunks(3))
    with store.lock.held(1), Intake(store, stamp_at("/a.log", b"new"), "1") as intake:
        for chunk in log_chunks(9, "new"):
            intake.add(chunk)
            assert [c.ordinal for c in store.iter_chunks() if "new" in c.text] == []
            assert len(store.documents()) == 1 and store.count_chunks() == 3
        assert rows(store, "chunks") > 3  # it was staged, not held in memory
        intake.publish(DocumentInfo(Kind.LOG, "a"), State.INDEXED)
    assert len([c for c in store.iter_chunks() if "new" in c.text]) == 9 == store.count_chunks()


def test_an_iterator_keeps_its_snapshot(store):
    put(store, "/a.log", log_chunks(600))
    iterator = store.iter_chunks(embed_text=False)
    next(iterator)
    store.remove([store.document("/a.log").doc_id])
    assert len(list(iterator)) == 599
    assert list(store.iter_chunks()) == []


def test_what_is_not_published_leaves_nothing(store, monkeypatch):
    monkeypatch.setattr(intake_module, "STAGE_CHUNKS", 2)
    with (
        pytest.raises(RuntimeError),
        store.lock.held(1),
        Intake(store, stamp_at("/a.log"), "1") as intake,
    ):
        for chunk in log_chunks(5):
            intake.add(chunk)
        raise RuntimeError
    assert rows(store, "documents") == rows(store, "chunks") == rows(store, "passages") == 0
    assert store.changes(0) == []


def test_removal_purges_everything_derived(store, monkeypatch):
    monkeypatch.setattr(purge_module, "PURGE_CHUNKS", 7)
    store.vectors.use_embedder("letters", 4)
    kept, gone = put(store, "/kept.log", log_chunks(5)), put(store, "/gone.log", log_chunks(30))
    put(store, "/own.log", log_chunks(3, "own"))
    pending, _ = store.vectors.pending(100)
    store.vectors.add(
        [p.passage_id for p in pending], np.eye(4, dtype=np.float32)[[0] * len(pending)]
    )
    own = store.document("/own.log").doc_id
    store.remove([gone, own])
    assert [d.doc_id for d in store.documents()] == [kept]
    assert rows(store, "chunks") == rows(store, "texts") == 5
    assert rows(store, "passages") == rows(store, "vectors") == 5
    removed, last = store.vectors.removals(0)
    assert len(removed) == len(pending) - 5 and last == store.vectors.last_removal()
    assert [c.op for c in store.changes(0)] == ["add", "remove", "remove"]


def test_equal_passages_are_pending_once_documents_before_logs_errors_before_routine(store):
    put(store, "/a.log", log_chunks(50))
    text = Chunk(0, Span(0, 0, 4, Locator("page", 1, 1)), 0, "text", "text", BlockKind.PARAGRAPH)
    put(store, "/b.pdf", [text])
    passages, _ = store.vectors.pending(100)
    texts = [p.embed_text for p in passages]
    assert len(texts) == 11 == len(set(texts)) == store.vectors.n_pending()
    assert texts[0] == "text"
    assert [t.split()[0] for t in texts[1:]] == ["ERROR"] * 5 + ["INFO"] * 5
    some, cursor = store.vectors.pending(4)
    rest, _ = store.vectors.pending(100, cursor)
    assert some + rest == passages


def test_vectors_come_back_unit_length_in_order_and_resume(store):
    put(store, "/a.log", log_chunks(20))
    store.vectors.use_embedder("e", 384)
    passages, _ = store.vectors.pending(100)
    vectors = np.random.default_rng(0).normal(size=(len(passages), 384)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    ids = [p.passage_id for p in passages]
    assert store.vectors.add(ids[:4], vectors[:4]) == 4
    assert store.vectors.add(ids, vectors) == 6  # those that are there stay
    assert store.vectors.add([12345], vectors[:1]) == 0  # gone in the meantime
    (first,) = store.vectors.batches()
    assert list(first.ids) == ids and first.last_seq == store.vectors.last_seq()
    assert np.allclose(np.linalg.norm(first.vectors, axis=1), 1, atol=1e-6)
    assert (first.vectors * vectors).sum(axis=1).min() > 0.999999
    (rest,) = store.vectors.batches(after_seq=4)
    assert list(rest.ids) == ids[4:]
    assert store.vectors.n_pending() == 0 and store.documents()[0].n_pending == 0
    with pytest.raises(ValueError, match="finite"):
        store.vectors.add(ids[:1], np.full((1, 384), np.nan, dtype=np.float32))
    with pytest.raises(ValueError, match="do not fit"):
        store.vectors.add(ids[:1], vectors[:1, :5])


def test_another_embedder_leaves_chunks_and_replaces_vectors(store):
    put(store, "/a.log", log_chunks(10))
    store.vectors.use_embedder("old", 2)
    ids = [p.passage_id for p in store.vectors.pending(100)[0]]
    store.vectors.add(ids, np.tile(np.float32([1, 0]), (len(ids), 1)))
    before = list(store.iter_chunks())
    store.vectors.use_embedder("new", 3)
    assert store.vectors.embedder() == ("new", 3)
    assert store.vectors.n_pending() == len(ids) and store.vectors.count() == 0
    assert list(store.vectors.batches()) == []
    store.vectors.add(ids[:1], np.float32([[0, 1, 0]]))
    assert store.vectors.drop_stale() == len(ids)
    assert rows(store, "vectors") == 1 and list(store.iter_chunks()) == before


def test_a_template_resolves_to_first_last_errors_and_between(store):
    chunks = [replace(c, embed_text="same", levels=("INFO",)) for c in log_chunks(1000)]
    doc_id = put(store, "/a.log", chunks)
    (passage,) = store.vectors.pending(10)[0]
    resolved = store.vectors.resolve([passage.passage_id, 999], Scope(), per_vector=5)
    assert list(resolved) == [passage.passage_id]
    times = [c.time_first for c in store.chunks(resolved[passage.passage_id])]
    assert times[0] == 0.0 and times[-1] == 999.0 and len(times) == 5
    assert any(200 < t < 800 for t in times)

    late = Scope(doc_ids=frozenset({doc_id}), since=990.6)
    times = [
        c.time_first
        for c in store.chunks(
            store.vectors.resolve([passage.passage_id], late, 3)[passage.passage_id]
        )
    ]
    assert times == [991.0, 995.0, 999.0]
    assert store.vectors.resolve([passage.passage_id], Scope(since=5000.0)) == {}


def test_errors_come_first_among_equal_templates(store):
    chunks = [
        replace(c, embed_text="same", levels=("ERROR",) if i in (7, 23) else ("INFO",))
        for i, c in enumerate(log_chunks(40))
    ]
    put(store, "/a.log", chunks)
    (passage,) = store.vectors.pending(10)[0]
    ids = store.vectors.resolve([passage.passage_id], Scope(), per_vector=2)[passage.passage_id]
    assert [c.ordinal for c in store.chunks(ids)] == [7, 23]


def test_allowed_vectors_of_a_scope(store):
    put(store, "/a.log", log_chunks(10))
    doc_id = put(store, "/b.log", log_chunks(5, "b"))
    assert store.vectors.allowed(Scope()) is None
    inside = store.vectors.allowed(Scope(doc_ids=frozenset({doc_id})))
    assert len(inside) == 5 and (np.diff(inside) > 0).all()
    assert set(inside.tolist()) == set(
        store.vectors.resolve(range(1, 99), Scope(frozenset({doc_id})))
    )


def test_roots_swallow_what_is_below_them(store):
    store.roots.add("/a/b")
    store.roots.add("/a/bc")
    store.roots.add("/a/b/c")
    assert store.roots.paths() == ["/a/b", "/a/bc"]
    store.roots.add("/a")
    assert store.roots.paths() == ["/a"]


def test_strikes_are_counted_per_content_and_parser(store):
    assert store.strikes(b"x", "1") == (0, "")
    assert store.add_strike(b"x", "1", "crashed") == 1
    assert store.add_strike(b"x", "1", "hung") == 2
    assert store.strikes(b"x", "1") == (2, "hung") and store.strikes(b"x", "2") == (0, "")


# Opening


def test_a_library_of_a_newer_docqa_is_refused_and_left_alone(tmp_path):
    open_store(tmp_path).close()
    path = LibraryPaths(tmp_path / "library").database
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    before = path.read_bytes()
    with pytest.raises(LibraryNewer, match="newer docqa"):
        open_store(tmp_path)
    assert path.read_bytes() == before


def test_a_library_of_the_first_schema_is_brought_up(tmp_path, monkeypatch):
    from docqa import database, migrations

    monkeypatch.setattr(migrations, "MIGRATIONS", migrations.MIGRATIONS[:1])
    monkeypatch.setattr(migrations, "SCHEMA_VERSION", 1)
    monkeypatch.setattr(database, "SCHEMA_VERSION", 1)
    with open_store(tmp_path) as old, old.db.write() as connection:
        connection.execute(
            "INSERT INTO documents (path, life, sha256, n_bytes, mtime_ns, inode, device, "
            "checked_ns, parser, kind, title, state) "
            "VALUES (x'2f61', 1, x'00', 1, 1, 1, 1, 1, '1', 'log', 'a', 'indexed')"
        )
    monkeypatch.undo()
    with open_store(tmp_path) as store:
        assert store.known("/a").tail is None
        with store.db.read() as connection:
            assert connection.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)


def test_a_migration_that_fails_leaves_the_former_schema(tmp_path, monkeypatch):
    open_store(tmp_path).close()

    def m002_broken(connection):
        connection.execute("CREATE TABLE half (x)")
        raise RuntimeError("power cut")

    from docqa import database, migrations

    monkeypatch.setattr(migrations, "MIGRATIONS", (*migrations.MIGRATIONS, m002_broken))
    monkeypatch.setattr(migrations, "SCHEMA_VERSION", SCHEMA_VERSION + 1)
    monkeypatch.setattr(database, "SCHEMA_VERSION", SCHEMA_VERSION + 1)
    with pytest.raises(RuntimeError, match="power cut"):
        open_store(tmp_path)
    monkeypatch.undo()
    with open_store(tmp_path) as store, store.db.read() as connection:
        assert not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'half'").fetchone()


def test_other_files_are_not_taken_for_a_library(tmp_path):
    path = LibraryPaths(tmp_path / "library").database
    path.parent.mkdir()
    path.write_bytes(b"this is a text file, and no database at all\n" * 100)
    with pytest.raises(LibraryCorrupt, match="docqa check"):
        open_store(tmp_path)
    path.unlink()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    with pytest.raises(LibraryError, match="another program"):
        open_store(tmp_path)


def test_many_threads_open_one_new_library(tmp_path):
    errors = []

    def work(i):
        try:
            with open_store(tmp_path) as store:
                put(store, f"/{i}.log", log_chunks(3, f"t{i}"))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    with open_store(tmp_path) as store:
        assert len(store.documents()) == 6 and store.count_chunks() == 18


def test_the_write_lock_names_its_holder(store):
    with (
        store.lock.held(1),
        pytest.raises(LibraryBusy, match=f"process {os.getpid()}"),
        store.lock.held(0.05),
    ):
        pass
    with store.lock.held(0.05):
        pass


def test_a_transaction_of_another_process_is_waited_for_then_reported(store):
    with closing(sqlite3.connect(store.paths.database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with (
            pytest.raises(LibraryBusy, match="another process"),
            store.db.write(timeout_s=0.3),
        ):
            pass
        other.execute("ROLLBACK")
    store.set_setting("x", "y")
    assert store.setting("x") == "y"


def test_a_full_disk_is_said_and_the_library_stays_as_it_was(store):
    put(store, "/a.log", log_chunks(5))
    with store.db.write() as connection:
        (n,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {n + 2}")
    big = [
        replace(c, text=os.urandom(20_000).hex(), span=replace(c.span, start=0, end=40_000))
        for c in log_chunks(5)
    ]
    with pytest.raises(LibraryError, match="disk is full"):
        put(store, "/b.log", big)
    assert [d.path for d in store.documents()] == ["/a.log"]
    assert len(list(store.iter_chunks())) == 5
    with store.db.write() as connection:
        connection.execute("PRAGMA max_page_count = 1000000")
    put(store, "/b.log", big)
    assert len(store.documents()) == 2


def test_a_closed_store_says_so(tmp_path):
    store = open_store(tmp_path)
    store.close()
    with pytest.raises(LibraryError, match="closed"):
        store.documents()
    assert Store(store.paths).documents() == []


# The embedder's queue


def test_passages_known_to_have_vectors_are_not_looked_at(store, monkeypatch):
    put(store, "/a.log", log_chunks(10))
    store.vectors.use_embedder("e", 4)
    first = [p.passage_id for p in store.vectors.pending(99)[0]]
    top = store.vectors.last_passage()
    assert top == max(first)
    put(store, "/b.log", log_chunks(10, "other"), content=b"b")
    new = {p.passage_id for p in store.vectors.pending(99)[0]} - set(first)
    for n_new in (20_000, 0):  # by id, and along the index
        monkeypatch.setattr("docqa.vectors.NEW_ROWS", n_new)
        one, cursor = store.vectors.pending(2, above=top)
        rest, _ = store.vectors.pending(99, cursor, above=top)
        assert [p.passage_id for p in one + rest] == [
            p.passage_id for p in store.vectors.pending(99)[0] if p.passage_id in new
        ]
        assert len(one) == 2 and len(new) == 9


def test_a_slow_document_is_staged_as_it_comes(store, monkeypatch):
    monkeypatch.setattr("docqa.intake.STAGE_S", 0.0)
    monkeypatch.setattr("docqa.intake.STAGE_FEW", 4)
    with store.lock.held(5), Intake(store, stamp_at("/slow.log"), "1") as intake:
        for chunk in log_chunks(9):
            intake.add(chunk)
        assert store.documents() == [] and store.vectors.n_pending() == 7
        intake.publish(DocumentInfo(Kind.LOG, "slow"), State.INDEXED)
    assert [d.n_chunks for d in store.documents()] == [9]
