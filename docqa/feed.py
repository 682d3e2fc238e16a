"""What keeps an index equal to the store: it follows the change log from the last number it holds.

An index is opened when first used, caught up, and made anew where it is damaged, missing, of
another library, or ahead of a store that was restored from an older copy. A kill between the
store's commit and the index's heals at the next `follow`. One process feeds at a time.
"""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from itertools import islice

from docqa.errors import LibraryError
from docqa.events import WordProgress
from docqa.index import IndexMismatch
from docqa.index.lexical import LexicalIndex
from docqa.index.unwritable import ReadableFolder
from docqa.lock import WriteLock
from docqa.process_memory import give_back_free_pages
from docqa.store import Store
from docqa.types import Chunk, Document, Scope

COMMIT_EVERY_S = 1.0  # while files keep coming: a commit costs 20 ms and more
ADD_CHUNKS = 128
# tantivy queues up to 10,000 rows for its writing thread, 80 MB of a log: a commit drains it.
# What it makes visible early is in the store already, and taken back where `seq` stays behind it.
COMMIT_CHUNKS = 4_096
FEED_TIMEOUT_S = 600.0  # a log of gigabytes takes another process minutes
BUSY_S = 2.0  # the library was written so lately: its writer is still at it
SEARCH_WAIT_S = 0.02  # a search does not wait for that: it answers from what is committed


@dataclass(slots=True)
class _Fed:
    """How much of what was published is taken in, in chunks."""

    n_done: int = 0
    n_total: int = 0


class WordFeed:
    """Keeps the lexical index of a library equal to its store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = WriteLock(store.paths.root / "lexical.lock")
        self._index: LexicalIndex | None = None
        self._readable = ReadableFolder(store.paths.lexical)
        self._committed_at = 0.0
        self._driven_at = -math.inf  # a sync of this process feeds it since

    def index(self) -> LexicalIndex:
        """Return the index: complete as of now, or, while files come in, as far as it is."""
        try:
            # Whoever brings files in feeds the index once a second: a search need not.
            if not self._is_current() and not (self._open() and self._is_fed()):
                _drain(self._follow(SEARCH_WAIT_S if self._open() else FEED_TIMEOUT_S))
        except LibraryError:  # busy, or a library that cannot be written: what is there answers
            if self._open() is None and not self._make_for_itself():
                raise
        assert self._index is not None
        return self._index

    def follow(self, *, is_last: bool, timeout_s: float = FEED_TIMEOUT_S) -> None:
        """Take in what was published; unless `is_last`, at most once a second.

        Raises:
            LibraryBusy: another process or thread feeds the index for longer than `timeout_s`.
        """
        _drain(self.feed(is_last=is_last, timeout_s=timeout_s))

    def feed(self, *, is_last: bool, timeout_s: float = FEED_TIMEOUT_S) -> Generator[WordProgress]:
        """Do what `follow` does and say every few hundred chunks how far it is.

        Left early, what is missing is taken in the next time.
        """
        self._driven_at = -math.inf if is_last else time.monotonic()
        if is_last or time.monotonic() - self._committed_at >= COMMIT_EVERY_S:
            yield from self._follow(timeout_s)

    def _follow(self, timeout_s: float) -> Generator[WordProgress]:
        if self._is_current():
            return
        with self._lock.held(timeout_s):
            try:
                yield from self._feed(self._open() or self._create())
            except IndexMismatch:  # damaged since it was opened
                yield from self._feed(self._create())
        self._committed_at = time.monotonic()

    def rebuild(self) -> None:
        """Make the index anew from the store."""
        with self._lock.held(FEED_TIMEOUT_S):
            _drain(self._feed(self._create()))

    def close(self) -> None:
        """Let go of the index."""
        if self._index is not None:
            self._index.close()
        self._readable.close()

    def _open(self) -> LexicalIndex | None:
        with suppress(IndexMismatch):
            folder = self._readable.path()
            if self._index is None or self._index.folder != folder:
                self._index = None
                self._index = LexicalIndex.open(folder, self._store.library_id())
        return self._index

    def _make_for_itself(self) -> bool:
        """Where nothing can be written and no index can be read: make one that nobody else has."""
        folder = self._readable.empty()
        if folder is None:
            return False
        self._index = LexicalIndex.create(folder, self._store.library_id())
        _drain(self._feed(self._index))
        return True

    def _create(self) -> LexicalIndex:
        self._index = LexicalIndex.create(self._store.paths.lexical, self._store.library_id())
        return self._index

    def _is_fed(self) -> bool:
        """Whether a sync is under way, in this process or another, that feeds the index."""
        is_ours = time.monotonic() - self._driven_at < BUSY_S
        return is_ours or self._store.lock.is_busy_elsewhere(BUSY_S)

    def _is_current(self) -> bool:
        try:
            index = self._open()
            return index is not None and index.seq == self._store.last_seq()
        except IndexMismatch:
            self._index = None
            return False

    def _feed(self, index: LexicalIndex) -> Generator[WordProgress]:
        if index.seq > self._store.last_seq():
            index = self._create()  # the library was restored from an older copy
        fed = _Fed()
        try:
            changes = self._store.changes(index.seq)
            since: dict[int, int] = {}  # a log may have grown a hundred times: it is read once
            for change in changes:
                ordinal = min(change.since_ordinal, since.get(change.doc_id, change.since_ordinal))
                since[change.doc_id] = ordinal
            for doc_id, since_ordinal in since.items():
                yield from self._replace(index, doc_id, since_ordinal, fed)
            if changes:
                index.commit(changes[-1].seq)
        except (GeneratorExit, KeyboardInterrupt):  # stopped: merges under way are not waited for
            index.abandon()
            raise
        finally:
            index.release()
            if fed.n_done >= COMMIT_CHUNKS:
                give_back_free_pages()

    def _replace(
        self, index: LexicalIndex, doc_id: int, since_ordinal: int, fed: _Fed
    ) -> Generator[WordProgress]:
        """Make the index hold what the store holds of a document from `since_ordinal` on."""
        document = self._store.document(doc_id)
        kept = self._store.chunk_id_before(doc_id, since_ordinal) if document else None
        if kept is None:
            index.remove(doc_id)
            since_ordinal = 0
        else:
            index.remove_after(doc_id, kept)
        if document is not None:
            fed.n_total += document.n_chunks - since_ordinal
            yield from self._add(index, document, since_ordinal, fed)

    def _add(
        self, index: LexicalIndex, document: Document, since_ordinal: int, fed: _Fed
    ) -> Generator[WordProgress]:
        scope = Scope(doc_ids=frozenset({document.doc_id}))
        with closing(
            self._store.iter_chunks(scope, since_ordinal=since_ordinal, embed_text=False)
        ) as chunks:
            for batch in _batched(chunks, ADD_CHUNKS):
                index.add(batch, document.title)
                fed.n_done += len(batch)
                if fed.n_done % COMMIT_CHUNKS < len(batch):
                    index.commit()
                yield WordProgress(fed.n_done, fed.n_total)


def _batched(chunks: Iterator[Chunk], n: int) -> Iterator[list[Chunk]]:
    """Yield lists of `n`, the last one with what is left."""
    while batch := list(islice(chunks, n)):
        yield batch


def _drain(progress: Generator[WordProgress]) -> None:
    for _ in progress:
        pass
