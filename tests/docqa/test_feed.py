"""The lexical index follows the store, can be watched at it, and be stopped in the middle."""

from __future__ import annotations

import threading

import pytest

from docqa import feed as feeding
from docqa.errors import Interrupted
from docqa.events import WordProgress
from docqa.feed import WordFeed
from docqa.index.files import MANIFEST, write_manifest
from docqa.types import Scope
from tests.docqa.librarian import open_store, run_sync, sync_events, write

N_LINES = 40


@pytest.fixture
def store(tmp_path):
    with open_store(tmp_path) as opened:
        yield opened


@pytest.fixture
def small_batches(monkeypatch):
    monkeypatch.setattr(feeding, "ADD_CHUNKS", 4)
    monkeypatch.setattr(feeding, "COMMIT_CHUNKS", 8)


@pytest.fixture
def log(tmp_path):
    return write(tmp_path / "a.log", "\n".join(f"cherry number{i}" for i in range(N_LINES)))


def n_found(store, query="cherry"):
    feed = WordFeed(store)
    hits = feed.index().search(query, 1_000, Scope())
    feed.close()
    assert len({hit.chunk_id for hit in hits}) == len(hits)
    return len(hits)


@pytest.mark.usefixtures("small_batches")
def test_progress_is_said_and_all_words_are_found(store, log):
    events = list(sync_events(store, [log]))
    said = [event for event in events if isinstance(event, WordProgress)]
    assert said[-1] == WordProgress(N_LINES, N_LINES)
    assert [event.n_done for event in said] == sorted({event.n_done for event in said})
    assert n_found(store) == N_LINES


@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize("n_batches", [1, 2, 3, 9])
def test_what_was_left_early_is_taken_in_next_time_once(store, log, n_batches):
    run_sync(store, [log])
    feed = WordFeed(store)
    feed._create()  # as if the index were made anew
    progress = feed.feed(is_last=True)
    for _ in range(n_batches):
        next(progress)
    progress.close()
    assert feed.index().count() == N_LINES  # the first search brings the rest
    feed.close()
    assert n_found(store) == N_LINES
    assert n_found(store, "number7") == 1


@pytest.mark.usefixtures("small_batches")
def test_a_stop_does_not_wait_for_the_words(store, log):
    cancel = threading.Event()
    events = sync_events(store, [log], cancel=cancel)
    with pytest.raises(Interrupted):
        for event in events:
            if isinstance(event, WordProgress):
                cancel.set()
    assert [document.n_chunks for document in store.documents()] == [N_LINES]  # it was committed
    assert n_found(store) == N_LINES


def test_a_file_that_a_merge_removed_is_not_recorded(tmp_path):
    kept = write(tmp_path / "kept", "x")
    write_manifest(tmp_path, [tmp_path / "merged away", kept])
    content = (tmp_path / MANIFEST).read_text(encoding="utf-8")
    assert "kept" in content and "merged away" not in content
