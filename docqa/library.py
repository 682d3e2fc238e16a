"""A library: the store, the indexes that follow it, and the way in and out for files.

Opening is cheap; the indexes, the embedder and the parse worker start when they are first needed.
Several processes may have one library open at the same time.
"""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from docqa import ingest
from docqa.config import Config
from docqa.discover import WalkOptions, absolute, is_below
from docqa.embedding import Embedding
from docqa.errors import DocqaError, FileError, ModelError, UsageError
from docqa.events import SyncDone, SyncEvent, WatchProblem
from docqa.feed import WordFeed
from docqa.index.dense import DenseIndex
from docqa.index.lexical import LexicalIndex
from docqa.named import HEAD_CHUNKS, MAX_NAMED_CHUNKS
from docqa.paths import LibraryPaths
from docqa.process_memory import give_back_free_pages
from docqa.protocols import Embedder, ParseOptions
from docqa.records import WatchedFolder, storable
from docqa.store import Store
from docqa.types import Chunk, ChunkItem, FileReport, LogTail, Scope

if TYPE_CHECKING:
    from docqa.parse.worker import ParseWorker
    from docqa.watch import Pace

CANCEL_POLL_S = 0.1
TIDY_EVERY_S = 10.0  # it takes some milliseconds


class Library:
    """One library. Close it, or use it as a context manager."""

    def __init__(
        self,
        paths: LibraryPaths,
        config: Config,
        *,
        open_embedder: Callable[[], Embedder],
        tokenizer_file: Callable[[], Path],
    ) -> None:
        """Open or make the library at `paths`.

        Args:
            paths: where it is.
            config: limits of parsing.
            open_embedder: loads the embedder; called at most once.
            tokenizer_file: the embedder's tokenizer.json, by which chunks are measured.

        Raises:
            LibraryError: it cannot be opened; the message says what to do.
        """
        self.paths = paths
        self.store = Store(paths)
        self._config = config
        self._open_embedder = open_embedder
        self._tokenizer_file = tokenizer_file
        self._words = WordFeed(self.store)
        self.dense = DenseIndex(
            paths.dense, self.store.library_id(), self.store.vectors, lambda: self.embedder
        )
        self._embedder_lock = threading.Lock()
        self._embedder: Embedder | None = None
        self._n_followed = 0  # vectors
        self._tidy_at = 0.0

    def __enter__(self) -> Library:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close indexes and store. What was committed stays."""
        self.dense.close()
        self._words.close()
        self.store.close()

    @property
    def embedder(self) -> Embedder:
        """The embedder, loaded at its first use; safe from any thread."""
        with self._embedder_lock:
            if self._embedder is None:
                self._embedder = self._open_embedder()
                self.store.vectors.use_embedder(self._embedder.name, self._embedder.dim)
            return self._embedder

    @property
    def lexical(self) -> LexicalIndex:
        """The lexical index, complete as of now."""
        return self._words.index()

    def headed(self, words: str, scope: Scope) -> frozenset[int]:
        """Return the documents inside `scope` that say `words`, together, at their head."""
        found = list(self.lexical.chunk_ids_containing([words], scope, MAX_NAMED_CHUNKS + 1))
        # So many chunks have words that name nothing, whichever of them are the first.
        return self.store.headed(found if len(found) <= MAX_NAMED_CHUNKS else (), HEAD_CHUNKS)

    # Files

    def sync(
        self,
        paths: Sequence[Path],
        *,
        password: str | None = None,
        cancel: threading.Event | None = None,
        with_vectors: bool = True,
        again: bool = False,
    ) -> Iterator[SyncEvent]:
        """Bring the library up to date with the files at and below `paths`; see docqa.ingest.

        Paths that exist are remembered as roots. `with_vectors=False` leaves the vectors to a later
        sync; words are searchable. `again`: files that are named are read although they are as they
        were. Leave the iterator, or set `cancel`, to stop.
        """
        given = [absolute(path) for path in paths]
        inside = str(self.paths.root)
        for path in given:
            if os.path.exists(path) and not path.startswith(inside):  # noqa: PTH110 (any bytes)
                self.store.roots.add(path)
        walk = WalkOptions(skip=(inside,), watched=tuple(self.store.roots.watched()))
        options = ingest.SyncOptions(walk, retry_failures=password is not None, reads_again=again)
        cancel = cancel or threading.Event()
        reader = WorkerReader(self._config, password, lambda: self._chunk_limits)
        with (
            contextlib.closing(reader),
            killed_on(cancel, reader),
            Embedding(self.store, lambda: self.embedder) as embedding,
        ):
            parts = ingest.Ingest(
                self.store, reader, self._words, embedding if with_vectors else None, cancel
            )
            for event in ingest.sync(parts, given, options):
                if isinstance(event, SyncDone) and embedding.n_done:
                    self.dense.refresh()
                    self.dense.publish()  # so that the next process starts with it
                yield event
        self._tidy()

    def watch(
        self,
        stop: threading.Event,
        paths: Sequence[Path] = (),
        *,
        pace: Pace | None = None,
        with_vectors: bool = True,
    ) -> Iterator[SyncEvent]:
        """Keep the library in step with watched folders until `stop` is set; see docqa.watch.

        Without `paths` these are all that are remembered, whenever that changes. One thread of one
        process is enough; more do no harm.
        """
        from docqa.settling import Settler
        from docqa.watch import Watcher

        chosen = frozenset(absolute(path) for path in paths)

        def folders() -> list[WatchedFolder]:
            watched = self.store.roots.watched()
            return [folder for folder in watched if not chosen or folder.path in chosen]

        settler = Settler()
        reader = WorkerReader(self._config, None, lambda: self._chunk_limits)
        with (
            contextlib.closing(reader),
            killed_on(stop, reader),
            Embedding(self.store, lambda: self.embedder) as embedding,
        ):
            parts = ingest.Ingest(
                self.store, reader, self._words, embedding if with_vectors else None, stop
            )

            def look(paths: Sequence[str], walk: WalkOptions) -> Iterator[SyncEvent]:
                nonlocal parts
                options = ingest.SyncOptions(walk, settling=settler, changes_only=True)
                yield from ingest.sync(parts, paths, options)
                self._tidy()
                try:
                    self._follow_vectors(embedding)
                except ModelError as error:
                    parts = replace(parts, embedding=None)
                    yield WatchProblem(f"{error} Words are searchable all the same.")

            # The first change is to be found as quickly as the others.
            warming = threading.Thread(target=self._warm_up, args=(reader,), daemon=True)
            warming.start()
            skip = str(self.paths.root)
            watcher = Watcher(look, folders, stop, settler, skip=skip, pace=pace)
            try:
                yield from watcher.run()
            finally:
                warming.join()

    def set_watched(
        self, path: Path, is_on: bool, include: tuple[str, ...] = (), exclude: tuple[str, ...] = ()
    ) -> None:
        """Remember that a folder is to be watched, or not any more; raise UsageError."""
        place = absolute(path)
        if not is_on:
            self.store.roots.unwatch(place)
            return
        if not os.path.exists(place):  # noqa: PTH110 (any bytes)
            raise UsageError(f"{place}: there is no such file or folder to watch")
        if is_below(place, str(self.paths.root)):
            raise UsageError(f"{place}: is the library itself; it cannot be watched")
        self.store.roots.watch(WatchedFolder(place, include, exclude))

    def _warm_up(self, reader: WorkerReader) -> None:
        """Load what reading a file needs; what is wrong with it is said when a file is read."""
        with contextlib.suppress(DocqaError):
            _ = self._chunk_limits
            _ = self.lexical
            reader.warm_up()

    def _tidy(self) -> None:
        """Give back what reading has freed, so that a process of days stays the size it uses."""
        if time.monotonic() >= self._tidy_at:
            self._tidy_at = time.monotonic() + TIDY_EVERY_S
            give_back_free_pages()

    def _follow_vectors(self, embedding: Embedding) -> None:
        """Take in the vectors of a watcher that are done; save them when none is left to do."""
        is_done = embedding.wait(0)
        if embedding.n_done == self._n_followed:
            return
        self._n_followed = embedding.n_done
        self.dense.refresh()
        if is_done:
            self.dense.publish()

    def remove(self, paths: Sequence[Path]) -> tuple[FileReport, ...]:
        """Purge the documents at and below `paths` and everything derived; forget the roots."""
        given = [absolute(path) for path in paths]
        reports = ingest.remove(self.store, self._words, given)
        for path in given:
            self.store.roots.forget(path)
        return reports

    def roots(self) -> list[Path]:
        """Return the files and folders that were added: what `docqa sync` looks at."""
        return [Path(root) for root in self.store.roots.paths()]

    def doc_ids(self, paths: Sequence[Path]) -> frozenset[int]:
        """Return the documents at and below `paths`, for a Scope."""
        return self.store.doc_ids_below([absolute(path) for path in paths])

    @cached_property
    def _chunk_limits(self) -> tuple[str, int]:
        """The tokenizer's file, and the most tokens of a chunk's embed_text."""
        return str(self._tokenizer_file()), self.embedder.max_tokens


class WorkerReader:
    """The parse worker with this library's options; a `docqa.reading.Reader`."""

    def __init__(
        self, config: Config, password: str | None, limits: Callable[[], tuple[str, int]]
    ) -> None:
        """Start nothing yet: the worker begins with the first file."""
        parse = config.parse
        self._config = parse
        self._options = ParseOptions(password, parse.ocr, parse.ocr_language)
        self._limits = limits
        self._worker: ParseWorker | None = None
        self._guard = threading.Lock()
        self._is_closed = False

    @property
    def pid(self) -> int | None:
        """The worker's process; None where it died or was never started."""
        return self._worker.pid if self._worker else None

    def read(self, path: Path, *, whole_lines: bool = False) -> Iterator[ChunkItem]:
        """Yield chunks and pages, a DocumentInfo last; raise FileError."""
        return self._read(path, None, whole_lines)

    def read_on(
        self, path: Path, tail: LogTail, *, whole_lines: bool = False
    ) -> Iterator[ChunkItem]:
        """Yield what was added to a log, a DocumentInfo last; raise FileError."""
        return self._read(path, tail, whole_lines)

    def _read(self, path: Path, tail: LogTail | None, whole_lines: bool) -> Iterator[ChunkItem]:
        from docqa.chunk import MAX_TOKENS, ChunkOptions

        self.warm_up()
        assert self._worker is not None
        tokenizer, max_tokens = self._limits()
        n_special = 2  # [CLS] and [SEP], which the counter leaves out
        title = storable(path.stem) or path.name
        chunking = ChunkOptions(title, tokenizer, min(MAX_TOKENS, max_tokens - n_special))
        options = replace(self._options, whole_lines=whole_lines)
        return self._worker.parse(path, options, chunking=chunking, tail=tail)

    def warm_up(self) -> None:
        """Start the process for the first time, if that was not done; safe from any thread."""
        from docqa.parse.worker import ParseWorker

        with self._guard:
            if self._worker is None and not self._is_closed:
                worker = ParseWorker(self._config)
                worker.start()
                self._worker = worker

    def is_well(self) -> bool:
        """Whether the worker reads a harmless file."""
        with tempfile.TemporaryDirectory(prefix="docqa-") as folder:
            file = Path(folder) / "harmless.txt"
            file.write_text("Harmless.")
            try:
                return any(isinstance(item, Chunk) for item in self.read(file))
            except FileError:
                return False

    def close(self) -> None:
        """End the worker."""
        with self._guard:
            self._is_closed = True
            if self._worker is not None:
                self._worker.close()

    def kill(self) -> None:
        """End the worker's process from another thread: whoever reads from it sees it die."""
        pid = self.pid
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, getattr(signal, "SIGKILL", signal.SIGTERM))


@contextmanager
def killed_on(cancel: threading.Event, reader: WorkerReader) -> Iterator[None]:
    """Kill the worker when `cancel` is set: its file may be minutes from the next item."""
    is_over = threading.Event()

    def watch() -> None:
        while not is_over.is_set():
            if cancel.wait(CANCEL_POLL_S):
                reader.kill()
                return

    thread = threading.Thread(target=watch, name="cancel", daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()
