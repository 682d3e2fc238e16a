"""Files and library agree after a sync, whatever happened to the files or to the process."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from docqa import check, sweep
from docqa.embedding import Embedding
from docqa.errors import DocqaError, Interrupted, LibraryError
from docqa.events import EmbedProgress, FileDone, FileStarted, Scanned, SyncDone
from docqa.feed import WordFeed
from docqa.ingest import SyncOptions, remove
from docqa.records import FileStamp
from docqa.types import Scope, State
from tests.docqa.librarian import (
    LetterEmbedder,
    LineReader,
    open_store,
    run_sync,
    sync_events,
    write,
)


@pytest.fixture
def store(tmp_path):
    with open_store(tmp_path) as opened:
        yield opened


@pytest.fixture
def docs(tmp_path):
    write(tmp_path / "docs" / "a.txt", "apple\nbanana")
    write(tmp_path / "docs" / "b.log", "cherry one\ncherry two")
    return tmp_path / "docs"


def texts(store):
    return [chunk.text for chunk in store.iter_chunks()]


def words_found(store, query):
    feed = WordFeed(store)
    hits = feed.index().search(query, 50, Scope())
    found = [chunk.text for chunk in store.chunks([hit.chunk_id for hit in hits])]
    feed.close()
    return sorted(found)


def test_files_become_searchable_documents(store, docs):
    embedder = LetterEmbedder()
    events = list(sync_events(store, [docs], embedder=embedder))
    assert events[0] == Scanned(2, 12 + 21)
    assert isinstance(events[-1], SyncDone)
    started = [Path(e.path).name for e in events if isinstance(e, FileStarted)]
    done = [Path(e.report.path).name for e in events if isinstance(e, FileDone)]
    assert started == done == ["a.txt", "b.log"]
    assert [r.state for r in events[-1].reports] == [State.INDEXED] * 2
    assert [e for e in events if isinstance(e, EmbedProgress)][-1] == EmbedProgress(4, 4)
    assert texts(store) == ["apple", "banana", "cherry one", "cherry two"]
    assert words_found(store, "cherry") == ["cherry one", "cherry two"]
    assert store.vectors.n_pending() == 0 and store.vectors.count() == 4
    assert [d.n_lines for d in store.documents()] == [2, 2]


def test_an_unchanged_file_is_not_opened_and_costs_no_change(store, docs, monkeypatch):
    run_sync(store, [docs])
    seq, reader = store.last_seq(), LineReader()
    monkeypatch.setattr("docqa.reading._hash", lambda *_: pytest.fail("was opened"))
    reports = run_sync(store, [docs], reader)
    assert [r.state for r in reports.values()] == [State.UNCHANGED] * 2
    assert reader.read_paths == [] and store.last_seq() == seq


def test_a_touched_file_is_hashed_not_parsed(store, docs):
    run_sync(store, [docs])
    os.utime(docs / "a.txt", (5, 5))
    reader = LineReader()
    assert run_sync(store, [docs], reader)["a.txt"].state is State.UNCHANGED
    assert reader.read_paths == []
    assert store.document(docs / "a.txt").mtime_ns == 5_000_000_000


def test_a_change_within_the_clocks_grain_is_found(store, tmp_path):
    path = write(tmp_path / "a.txt", "old!", age_s=0)
    run_sync(store, [path])
    before = path.stat()
    path.write_text("new!")
    os.utime(path, ns=(before.st_mtime_ns, before.st_mtime_ns))
    assert run_sync(store, [path])["a.txt"].state is State.INDEXED
    assert texts(store) == ["new!"]


def test_a_changed_file_is_read_again(store, docs):
    run_sync(store, [docs])
    write(docs / "a.txt", "avocado", age_s=50)
    reports = run_sync(store, [docs])
    assert reports["a.txt"].state is State.INDEXED and reports["b.log"].state is State.UNCHANGED
    assert "avocado" in texts(store) and "apple" not in texts(store)
    assert words_found(store, "apple avocado") == ["avocado"]


def test_a_deleted_file_is_removed(store, docs):
    run_sync(store, [docs], embedder=LetterEmbedder())
    (docs / "a.txt").unlink()
    reports = run_sync(store, [docs], embedder=LetterEmbedder())
    assert reports["a.txt"].state is State.REMOVED
    assert texts(store) == ["cherry one", "cherry two"]
    assert words_found(store, "apple") == [] and store.vectors.count() == 2


def test_a_deleted_folder_below_a_root_is_removed(store, tmp_path):
    write(tmp_path / "root" / "sub" / "a.txt", "x")
    store.roots.add(str(tmp_path / "root"))
    run_sync(store, [tmp_path / "root"])
    shutil.rmtree(tmp_path / "root" / "sub")
    assert run_sync(store, [tmp_path / "root" / "sub"])["a.txt"].state is State.REMOVED


def test_a_root_that_is_away_removes_nothing(store, docs, tmp_path):
    store.roots.add(str(docs))
    run_sync(store, [docs])
    docs.rename(tmp_path / "elsewhere")
    (report,) = run_sync(store, [docs]).values()
    assert report.state is State.FAILED and "its 2 documents are kept" in report.error
    assert len(texts(store)) == 4
    (tmp_path / "elsewhere").rename(docs)
    assert {r.state for r in run_sync(store, [docs]).values()} == {State.UNCHANGED}


def test_an_empty_mount_point_removes_nothing(store, docs, monkeypatch):
    store.roots.add(str(docs))
    run_sync(store, [docs])
    shutil.rmtree(docs)
    docs.mkdir()
    nearest = sweep._nearest_folder
    monkeypatch.setattr(sweep, "_nearest_folder", lambda p: (nearest(p)[0], nearest(p)[1] + 1))
    (report,) = run_sync(store, [docs]).values()
    assert "another drive" in report.error and len(texts(store)) == 4
    monkeypatch.undo()
    assert {r.state for r in run_sync(store, [docs]).values()} == {State.REMOVED}


def test_a_drive_that_got_another_number_still_loses_its_deleted_files(store, docs, monkeypatch):
    store.roots.add(str(docs))
    run_sync(store, [docs])
    with store.db.write() as connection:
        connection.execute("UPDATE documents SET device = device + 7")
    (docs / "a.txt").unlink()
    assert run_sync(store, [docs])["a.txt"].state is State.REMOVED


def test_a_folder_that_may_not_be_listed_removes_nothing(store, docs, monkeypatch):
    run_sync(store, [docs.parent / "docs"])
    scandir = os.scandir

    def refused(path):
        if str(path) == str(docs):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refused)
    monkeypatch.setattr(sweep, "stamp", lambda p: (_ for _ in ()).throw(FileNotFoundError(p)))
    reports = run_sync(store, [docs])
    assert reports["docs"].error == "cannot be listed: Permission denied"
    assert len(texts(store)) == 4


def test_a_renamed_file_keeps_chunks_and_vectors(store, docs):
    embedder = LetterEmbedder()
    run_sync(store, [docs], embedder=embedder)
    chunk_ids = [c.chunk_id for c in store.iter_chunks()]
    (docs / "a.txt").rename(docs / "renamed.txt")
    reader = LineReader()
    reports = run_sync(store, [docs], reader, embedder)
    assert reports["renamed.txt"].state is State.INDEXED and "a.txt" not in reports
    assert reader.read_paths == [] and len(embedder.embedded) == 4
    assert [c.chunk_id for c in store.iter_chunks()] == chunk_ids
    assert [Path(d.path).name for d in store.documents()] == ["b.log", "renamed.txt"]


def test_a_copy_is_a_document_of_its_own_with_the_same_vectors(store, docs):
    embedder = LetterEmbedder()
    run_sync(store, [docs], embedder=embedder)
    shutil.copy2(docs / "a.txt", docs / "copy.txt")
    assert run_sync(store, [docs], embedder=embedder)["copy.txt"].state is State.INDEXED
    assert len(store.documents()) == 3 and len(embedder.embedded) == 4


def test_bad_files_do_not_stop_the_others(store, docs):
    write(docs / "empty.txt", "")
    write(docs / "broken.txt", "BROKEN")
    write(docs / "half.txt", "good\nBROKEN")
    write(docs / "scan.txt", "fine\nBAD\nBAD")
    write(docs / "onlyscan.txt", "BAD")
    (docs / "binary").write_bytes(b"\x7fELF" + bytes(1000))
    reports = run_sync(store, [docs, docs / "missing.txt"])
    assert "binary" not in reports  # not named, not a document
    states = {name: (r.state, r.error) for name, r in reports.items()}
    assert states["empty.txt"] == (State.FAILED, "is empty; nothing to index")
    assert states["broken.txt"] == (State.FAILED, "is broken")
    assert states["half.txt"] == (State.PARTIAL, "is broken")
    assert states["scan.txt"] == (State.PARTIAL, None)
    assert reports["scan.txt"].warnings == ("pages 2, 3: no OCR engine",)
    assert states["onlyscan.txt"][1] == "no text could be read: page 1: no OCR engine"
    assert states["missing.txt"] == (State.FAILED, "there is no such file or folder")
    assert states["a.txt"][0] is State.INDEXED
    assert sorted(texts(store)) == ["apple", "banana", "cherry one", "cherry two", "fine", "good"]
    seq = store.last_seq()
    again = run_sync(store, [docs])
    assert again["broken.txt"].state is State.FAILED and store.last_seq() == seq
    assert again["empty.txt"].error == "is empty; nothing to index"


def test_a_failed_file_is_tried_again_when_named_or_with_a_password(store, docs):
    path = write(docs / "broken.txt", "BROKEN")
    run_sync(store, [docs])
    for paths, options, n in (
        ([docs], SyncOptions(), 0),
        ([path], SyncOptions(), 1),
        ([docs], SyncOptions(retry_failures=True), 1),
    ):
        reader = LineReader()
        run_sync(store, paths, reader, options=options)
        assert len(reader.read_paths) == n


def test_a_file_that_kills_the_worker_twice_is_quarantined_until_it_changes(store, docs):
    path = write(docs / "bomb.txt", "DIE")
    write(docs / "bomb2.txt", "good part\nDIE")
    reader = LineReader()
    reports = run_sync(store, [docs], reader)
    assert reports["bomb.txt"].state is State.QUARANTINED
    assert "SIGSEGV) (twice); it is left alone" in reports["bomb.txt"].error
    assert reports["bomb2.txt"].state is State.PARTIAL and "good part" in texts(store)
    assert reader.read_paths.count(str(path)) == 2
    reader = LineReader()
    assert run_sync(store, [path], reader)["bomb.txt"].state is State.QUARANTINED
    assert reader.read_paths == []
    write(path, "harmless", age_s=50)
    assert run_sync(store, [docs], reader)["bomb.txt"].state is State.INDEXED
    write(path, "DIE", age_s=40)  # the bomb is known by its content
    assert run_sync(store, [docs], LineReader())["bomb.txt"].state is State.QUARANTINED


def test_a_worker_that_never_runs_strikes_no_file(store, docs):
    write(docs / "x.txt", "DIE")
    reader = LineReader()
    reader.works = False
    with pytest.raises(DocqaError, match="does not run on this machine"):
        run_sync(store, [docs], reader)
    assert store.document(docs / "x.txt") is None
    assert run_sync(store, [docs])["x.txt"].state is State.QUARANTINED


def test_a_file_that_cannot_be_read_now_keeps_its_content(store, docs, monkeypatch):
    run_sync(store, [docs])
    os.utime(docs / "a.txt", (7, 7))

    def refused(path, cancel):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("docqa.reading._hash", refused)
    report = run_sync(store, [docs])["a.txt"]
    assert report.state is State.FAILED and "is kept" in report.error
    assert "apple" in texts(store) and store.document(docs / "a.txt").error == report.error
    monkeypatch.undo()
    assert run_sync(store, [docs])["a.txt"].state is State.UNCHANGED
    assert store.document(docs / "a.txt").error is None


def test_a_file_that_changes_while_it_is_read_is_read_again(store, tmp_path):
    path = write(tmp_path / "a.txt", "old\nWAIT")
    reader = LineReader(lambda p: write(p, "new", age_s=50))
    assert run_sync(store, [path], reader)["a.txt"].state is State.INDEXED
    assert texts(store) == ["new"] and len(reader.read_paths) == 2


def test_a_file_that_never_rests_fails_and_is_looked_at_again(store, tmp_path):
    path = write(tmp_path / "a.txt", "x\nWAIT")
    counter = iter(range(100))
    reader = LineReader(lambda p: write(p, f"x{next(counter)}\nWAIT", age_s=50))
    report = run_sync(store, [path], reader)["a.txt"]
    assert report.state is State.FAILED and "was being written" in report.error
    write(path, "at rest")
    assert run_sync(store, [tmp_path / "a.txt"])["a.txt"].state is State.INDEXED


def test_a_log_that_grows_while_it_is_read_is_taken_as_far_as_it_goes(store, tmp_path):
    path = write(tmp_path / "a.log", "one\nWAIT")

    def grow(grown):
        with grown.open("a") as file:
            file.write("\ntwo")

    report = run_sync(store, [path], LineReader(grow))["a.log"]
    assert report.state is State.INDEXED and "the next sync reads the rest" in report.warnings[0]
    assert texts(store) == ["one", "WAIT"]
    run_sync(store, [path])
    assert texts(store) == ["one", "WAIT", "two"]


def test_leaving_the_iterator_keeps_what_is_committed(store, docs):
    events = sync_events(store, [docs])
    for event in events:
        if isinstance(event, FileStarted) and event.path.endswith("b.log"):
            break
    events.close()
    assert [Path(d.path).name for d in store.documents()] == ["a.txt"]
    with store.lock.held(0.1):
        pass
    assert run_sync(store, [docs])["b.log"].state is State.INDEXED


def test_cancel_ends_it_in_the_middle_of_a_file(store, tmp_path, monkeypatch):
    monkeypatch.setattr("docqa.intake.STAGE_CHUNKS", 1)
    cancel = threading.Event()
    path = write(tmp_path / "a.txt", "one\ntwo\nWAIT\nthree")
    reader = LineReader(lambda p: cancel.set())
    with pytest.raises(Interrupted):
        list(sync_events(store, [path], reader, cancel=cancel))
    assert store.documents() == [] and texts(store) == []
    assert check.check(store.paths) == []


def test_a_failure_of_the_library_is_raised_and_leaves_it_whole(store, docs, monkeypatch):
    run_sync(store, [docs / "a.txt"])
    with store.db.write() as connection:
        (n,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {n}")
    write(docs / "big.txt", "\n".join(os.urandom(500).hex() for _ in range(500)))
    with pytest.raises(LibraryError, match="disk is full"):
        run_sync(store, [docs])
    assert "apple" in texts(store)
    with store.db.write() as connection:
        connection.execute("PRAGMA max_page_count = 100000")
    assert run_sync(store, [docs])["big.txt"].state is State.INDEXED
    assert check.check(store.paths) == []


def test_remove_purges_and_reports(store, docs):
    run_sync(store, [docs], embedder=LetterEmbedder())
    feed = WordFeed(store)
    reports = remove(store, feed, [str(docs)])
    feed.close()
    assert [(Path(r.path).name, r.state, r.n_chunks) for r in reports] == [
        ("a.txt", State.REMOVED, 0),
        ("b.log", State.REMOVED, 0),
    ]
    assert store.documents() == [] and store.vectors.count() == 0
    assert words_found(store, "apple cherry") == []


def test_vectors_go_on_where_they_stopped(store, docs):
    class Failing(LetterEmbedder):
        def embed_documents(self, texts, is_cancelled=None):
            if len(self.embedded) >= 2:
                raise RuntimeError("out of memory")
            return super().embed_documents(texts)

    failing = Failing()
    with Embedding(store, lambda: failing, batch=1) as embedding:
        run_sync(store, [docs])
        embedding.wake()
        with pytest.raises(RuntimeError, match="out of memory"):
            while not embedding.wait(0.05):
                pass
    assert store.vectors.count() == 2
    rest = LetterEmbedder()
    run_sync(store, [docs], embedder=rest)
    assert len(rest.embedded) == 2 and store.vectors.n_pending() == 0


def test_a_stop_ends_a_batch_that_is_being_embedded(store, docs):
    class Endless(LetterEmbedder):
        def embed_documents(self, texts, is_cancelled=None):
            started.set()
            while not is_cancelled():
                time.sleep(0.001)
            raise Interrupted

    started = threading.Event()
    run_sync(store, [docs])
    with Embedding(store, Endless) as embedding:
        embedding.wake()
        assert started.wait(10)
        assert not embedding.wait(0)
    assert embedding.wait(0), "the thread has ended"
    assert store.vectors.count() == 0 and store.vectors.n_pending() > 0


def test_the_word_index_heals_after_damage_and_after_a_restored_store(store, docs):
    run_sync(store, [docs])
    for file in store.paths.lexical.glob("*.idx"):
        file.write_bytes(b"damage" * 10)
    assert words_found(store, "cherry") == ["cherry one", "cherry two"]
    shutil.rmtree(store.paths.lexical)
    assert words_found(store, "cherry") == ["cherry one", "cherry two"]


def test_a_stamp_is_the_same_only_when_nothing_can_hide():
    old = FileStamp("/a", 5, 10**18, 1, 2, 10**18 + 5 * 10**9, b"x")
    assert sweep.is_same(old, replace(old, device=9, checked_ns=0))
    assert not sweep.is_same(old, replace(old, n_bytes=6))
    assert not sweep.is_same(old, replace(old, mtime_ns=10**18 + 1))
    assert not sweep.is_same(old, replace(old, inode=3))
    assert not sweep.is_same(replace(old, checked_ns=10**18 + 10**9), old)
    assert not sweep.is_same(replace(old, sha256=None), old)


CHILD = """
import sys
from pathlib import Path
from tests.docqa.librarian import LetterEmbedder, open_store, run_sync
import docqa.intake, docqa.feed
docqa.intake.STAGE_CHUNKS = 7
docqa.feed.COMMIT_EVERY_S = 0.02
folder = Path(sys.argv[1])
print("ready", flush=True)
with open_store(folder) as store:
    for report in run_sync(store, [folder / "docs"], embedder=LetterEmbedder()).values():
        pass
print("done", flush=True)
"""


def test_kill_9_at_random_moments_loses_and_doubles_nothing(tmp_path):
    """Each round changes, adds and removes files and kills the sync somewhere; then all agrees."""
    random_ = random.Random(20_240_607)
    docs, truth = tmp_path / "docs", {}
    docs.mkdir()
    n_killed = 0
    for round_ in range(8):
        for _ in range(12):
            name = f"f{random_.randrange(30)}.txt"
            if name in truth and random_.random() < 0.3:
                (docs / name).unlink()
                del truth[name]
                continue
            lines = [
                f"w{random_.randrange(999)} r{round_}" for _ in range(random_.randrange(1, 40))
            ]
            truth[name] = lines
            write(docs / name, "\n".join(lines), age_s=100 + round_)
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(tmp_path)],
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )
        assert child.stdout.readline() == b"ready\n"
        time.sleep(random_.random() * 0.5)
        child.send_signal(signal.SIGKILL)
        n_killed += child.wait() == -signal.SIGKILL
        child.stdout.close()
        assert check.check(open_paths(tmp_path)) == []
    assert n_killed > 0
    with open_store(tmp_path) as store:
        run_sync(store, [docs], embedder=LetterEmbedder())
        for name, lines in truth.items():
            document = store.document(docs / name)
            found = [c.text for c in store.iter_chunks(Scope(frozenset({document.doc_id})))]
            assert found == lines
        assert len(store.documents()) == len(truth)
        assert store.vectors.n_pending() == 0
        feed = WordFeed(store)
        assert feed.index().count() == store.count_chunks() == sum(map(len, truth.values()))
        feed.close()
    assert check.check(open_paths(tmp_path)) == []


def open_paths(folder):
    from docqa.paths import LibraryPaths

    return LibraryPaths(folder / "library")


def test_two_processes_and_a_reader_on_one_library(tmp_path):
    for i in range(20):
        write(tmp_path / "docs" / f"{i}.txt", "\n".join(f"w{i} line {j}" for j in range(20)))
    children = [
        subprocess.Popen(
            [sys.executable, "-c", CHILD, str(tmp_path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )
        for _ in range(2)
    ]
    with open_store(tmp_path) as store:
        while any(child.poll() is None for child in children):
            for document in store.documents():
                found = list(store.iter_chunks(Scope(frozenset({document.doc_id}))))
                assert len(found) in (0, 20)  # whole, or replaced in between
            time.sleep(0.02)
        for child in children:
            out, error = child.communicate()
            assert out == b"ready\ndone\n", error.decode()
        assert len(store.documents()) == 20 and store.count_chunks() == 400
        assert store.vectors.n_pending() == 0
        feed = WordFeed(store)
        assert feed.index().count() == 400
        feed.close()
    assert check.check(open_paths(tmp_path)) == []
