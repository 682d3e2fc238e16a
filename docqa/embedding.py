"""Vectors for passages, in a thread beside the parsing: the store is the queue.

What is pending is asked of the store, most useful first, so memory is bounded, a killed process
goes on where it stopped, and two processes on one library take turns instead of doing the same.
"""

from __future__ import annotations

import atexit
import threading
import time
from collections.abc import Callable, Sequence

from docqa.errors import Interrupted, LibraryBusy
from docqa.lock import WriteLock
from docqa.protocols import Embedder
from docqa.records import PendingPassage
from docqa.store import Store

MIN_BATCH = 16  # passages: under a second on a slow CPU
MAX_BATCH = 4096
FIRST_BATCH = 64  # an embedder may take a GPU only for bulk; the first batches tell what it can do
N_FIRST = 2  # the first of all may load a library
BATCH_S = 0.5
TURN_S = 5.0  # after which another process may have a turn, and the order is looked at again
STOP_S = 0.8  # for which a run of the model that has begun is waited for
EXIT_S = 10.0  # and at the end of the process
WINDOW_PASSAGES = 512  # sorted by length together, so that batches carry little padding


class Embedding:
    """Fills in vectors while it runs. Use as a context manager; leaving stops it."""

    def __init__(
        self, store: Store, open_embedder: Callable[[], Embedder], batch: int = FIRST_BATCH
    ) -> None:
        self._store = store
        self._open_embedder = open_embedder
        self._batch = batch
        self._n_batches = 0
        self._turn = WriteLock(store.paths.root / "embed.lock")
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._is_idle = threading.Event()
        self._guard = threading.Lock()  # a wake between "nothing left" and "idle" must not be lost
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None
        self._done_up_to = 0  # the id of a passage: it and all before had their vectors
        self.n_done = 0

    def __enter__(self) -> Embedding:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def is_started(self) -> bool:
        """Whether `wake` was called."""
        return self._thread is not None

    def wake(self) -> None:
        """Say that there may be new passages. Starts the thread at the first call."""
        with self._guard:
            self._is_idle.clear()
            self._wake.set()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="embedding", daemon=True)
            self._thread.start()

    def wait(self, timeout_s: float) -> bool:
        """Return whether nothing is pending any more.

        Raises:
            ModelError, LibraryError: the embedder or the library failed; what is done is kept.
        """
        is_idle = self._thread is None or self._is_idle.wait(timeout_s)
        if self._error is not None:
            raise self._error
        return is_idle

    def stop(self) -> None:
        """Stop before the model's next run; a slow one is not waited for."""
        self._stop.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(STOP_S)
            if self._thread.is_alive():
                # Native code must not be at work when the process takes its library down: abort.
                atexit.register(self._thread.join, EXIT_S)

    def _run(self) -> None:
        try:
            embedder = self._open_embedder()
            self._store.vectors.use_embedder(embedder.name, embedder.dim)
            while not self._stop.is_set():
                self._wake.clear()
                while self._take_turn(embedder):
                    pass
                with self._guard:
                    if not self._wake.is_set():
                        self._is_idle.set()
                self._wake.wait()
        except Exception as error:  # the thread's edge: raised again by `wait`
            if not self._stop.is_set():
                self._error = error
        finally:
            self._is_idle.set()

    def _take_turn(self, embedder: Embedder) -> bool:
        """Embed for a few seconds; return whether there may be more to do."""
        try:
            with self._turn.held(3600.0, self._stop.is_set):
                until = time.monotonic() + TURN_S
                cursor, last = (-1, 0), self._store.vectors.last_passage()
                while time.monotonic() < until:
                    n_window = max(WINDOW_PASSAGES, 4 * self._batch)
                    window, cursor = self._store.vectors.pending(n_window, cursor, self._done_up_to)
                    if not window:
                        self._done_up_to = last
                        return False
                    if not self._embed(window, embedder, until):
                        return not self._stop.is_set()
        except LibraryBusy:
            if not self._stop.is_set():
                raise
        return not self._stop.is_set()

    def _embed(self, window: Sequence[PendingPassage], embedder: Embedder, until: float) -> bool:
        """Embed a window in batches; return False where it was left early."""
        by_length = sorted(window, key=lambda passage: len(passage.embed_text), reverse=True)
        first = 0
        while first < len(by_length):
            if self._stop.is_set() or time.monotonic() >= until:
                return False
            batch = by_length[first : first + self._batch]
            first += len(batch)
            began = time.monotonic()
            texts = [passage.embed_text for passage in batch]
            try:
                vectors = embedder.embed_documents(texts, self._stop.is_set)
            except Interrupted:
                return False
            if self._stop.is_set():
                return False
            self._adapt(len(batch), time.monotonic() - began)
            self.n_done += self._store.vectors.add([p.passage_id for p in batch], vectors)
        return True

    def _adapt(self, n: int, took_s: float) -> None:
        """Choose the size of the next batch: half a second's work, so that a stop is quick."""
        self._n_batches += 1
        if self._n_batches < N_FIRST or n < self._batch:
            return
        if took_s < BATCH_S / 2:
            self._batch = min(MAX_BATCH, 2 * self._batch)
        elif took_s > 2 * BATCH_S:
            self._batch = max(min(MIN_BATCH, self._batch), self._batch // 2)
