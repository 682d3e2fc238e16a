"""Files into the library: `sync` makes the library equal to the files, one document at a time.

`sync` looks at the files, not at events, so `add`, the watcher, the sweep at start and the tests
share it. A document is parsed in the parse worker, published whole in the store, and its words are
searchable; vectors follow in a thread (docqa/embedding.py). One file that cannot be read never
stops the others. Whatever is committed survives: leaving the iterator drops only the open document.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from docqa.discover import EVERY_KIND, Found, WalkOptions, leads_elsewhere
from docqa.embedding import Embedding
from docqa.errors import FileError, Interrupted, LibraryBusy, UnsupportedFile
from docqa.events import (
    EmbedProgress,
    FileDone,
    FileProgress,
    FileStarted,
    Scanned,
    SyncDone,
    SyncEvent,
    WordProgress,
)
from docqa.growth import follow_renames
from docqa.parse import kind_of, suffix_of
from docqa.reading import Reader, read_file, report_of, unchanged
from docqa.records import Known
from docqa.store import Store
from docqa.sweep import Plan, Retry, make_plan
from docqa.types import FileReport, State

PARSER_VERSION = "3"  # raise it when parsing or chunking changes: files are read again
LOCK_TIMEOUT_S = 1_800.0  # another process is parsing one document: minutes at the very most
REMOVE_BATCH = 200
WAIT_S = 0.2


class WordIndex(Protocol):
    """The index that makes words searchable; it follows the store's change log."""

    def follow(self, *, is_last: bool) -> None:
        """Take in what was published; it may collect more first unless `is_last`."""
        ...

    def feed(self, *, is_last: bool) -> Generator[WordProgress]:
        """Do what `follow` does and say on the way how far it is."""
        ...


class Settling(Protocol):
    """Says which files have stopped changing. `add` reads every file at once, a watcher waits."""

    def is_ready(self, found: Found) -> bool:
        """Whether to read the file now; if not, it is left for a later sync."""
        ...

    def is_at_rest(self, path: str) -> bool:
        """Whether a log's last line without a newline is taken for finished."""
        ...

    def is_gone(self, path: str) -> bool:
        """Whether a file that is not there is gone: it may have moved, or be about to come back."""
        ...


@dataclass(frozen=True, slots=True)
class SyncOptions:
    """What a sync may be told."""

    walk: WalkOptions = EVERY_KIND
    retry_failures: bool = False  # a password was given
    reads_again: bool = False  # files that are named, whatever is known of them
    settling: Settling | None = None
    # For a watcher: files that are as they were are not reported, vectors are not waited for.
    changes_only: bool = False


DEFAULT_OPTIONS = SyncOptions()


@dataclass(frozen=True, slots=True)
class Ingest:
    """The parts that a sync works with. `embedding` None: words only."""

    store: Store
    reader: Reader
    words: WordIndex
    embedding: Embedding | None
    cancel: threading.Event


def sync(
    parts: Ingest, paths: Sequence[str | Path], options: SyncOptions = DEFAULT_OPTIONS
) -> Iterator[SyncEvent]:
    """Bring the library up to date with the files at and below `paths`.

    Yields Scanned (of the files to read), FileDone for those that are not read, then for each that
    is FileStarted, FileProgress …, FileDone, with EmbedProgress in between, and SyncDone last.
    Leave the iterator, or set `cancel`, to stop.

    Raises:
        Interrupted: `cancel` was set.
        LibraryError: the library cannot be written; what was committed is intact.
        ModelError: the embedder cannot be used; words are searchable all the same.
    """
    retry = Retry(PARSER_VERSION, failures=options.retry_failures, named=options.reads_again)
    plan = make_plan(parts.store, paths, retry, options.walk, changes_only=options.changes_only)
    settling = options.settling
    plan.to_read[:] = [
        found
        for found in plan.to_read
        if (settling is None or settling.is_ready(found)) and _is_readable_kind(parts.store, found)
    ]
    yield Scanned(len(plan.to_read), sum(found.stamp.n_bytes for found in plan.to_read))
    reports = [unchanged(known) for known in plan.unchanged]
    reports += _rejected(plan)
    for report in reports:
        yield FileDone(report)
    if settling is not None:
        plan.absent[:] = [old for old in plan.absent if settling.is_gone(old.document.path)]
    yield from _follow(parts, is_last=True)  # what a killed process left behind
    if parts.embedding is not None and parts.store.vectors.n_pending():
        parts.embedding.wake()
    moved = _follow_renames(parts, plan)
    for found in plan.to_read:
        report = yield from _sync_file(parts, found, retry, options.settling)
        if found.path in moved and report.state is State.UNCHANGED:
            report = replace(report, state=State.INDEXED)
        reports.append(report)
        yield FileDone(report)
    for report in _remove_absent(parts, plan):
        reports.append(report)
        yield FileDone(report)
    yield from _follow(parts, is_last=True)
    if parts.embedding is not None and not options.changes_only:
        yield from _await_vectors(parts, parts.embedding)
    yield SyncDone(tuple(reports))


def remove(store: Store, words: WordIndex, paths: Sequence[str]) -> tuple[FileReport, ...]:
    """Purge the documents at and below absolute `paths` and everything derived from them."""
    with store.lock.held(LOCK_TIMEOUT_S):
        store.discard_staged()
        found = {known.document.path: known for path in paths for known in store.known_below(path)}
        store.remove([known.document.doc_id for known in found.values()])
    words.follow(is_last=True)
    return tuple(
        replace(report_of(known, State.REMOVED), n_chunks=0, error=None) for known in found.values()
    )


def _follow(parts: Ingest, *, is_last: bool) -> Iterator[SyncEvent]:
    """Let words be found; of a large log that takes a while, so it can be watched and stopped."""
    with closing(parts.words.feed(is_last=is_last)) as feed:
        for progress in feed:
            if parts.cancel.is_set():
                raise Interrupted
            yield progress


def _follow_renames(parts: Ingest, plan: Plan) -> set[str]:
    """Let the documents of rotated logs follow their files; return where they went."""
    if not plan.logs or not plan.to_read:
        return set()
    with _write_lock(parts):
        return follow_renames(parts.store, plan.logs, plan.to_read)


def _sync_file(
    parts: Ingest, found: Found, retry: Retry, settling: Settling | None
) -> Generator[SyncEvent, None, FileReport]:
    """Read one file under the write lock, which other processes get in between."""
    yield FileStarted(found.path, found.stamp.n_bytes)
    with _write_lock(parts):
        reading = read_file(
            parts.store,
            parts.reader,
            found.path,
            found.is_named,
            retry,
            parts.cancel,
            whole_lines=settling is not None and not settling.is_at_rest(found.path),
        )
        report = yield from _embedding_beside(parts, reading)
    if report.state is not State.UNCHANGED:
        yield from _follow(parts, is_last=False)
        if parts.embedding is not None:
            parts.embedding.wake()
    return report


def _embedding_beside(
    parts: Ingest, reading: Generator[SyncEvent, None, FileReport]
) -> Generator[SyncEvent, None, FileReport]:
    """Pass on the events of reading a file; what it staged so far is embedded meanwhile."""
    try:
        while True:
            try:
                event = next(reading)
            except StopIteration as end:
                report: FileReport = end.value
                return report
            if parts.embedding is not None and isinstance(event, FileProgress):
                parts.embedding.wake()
            yield event
    finally:
        reading.close()


@contextmanager
def _write_lock(parts: Ingest) -> Iterator[None]:
    """Hold the library's write lock; what a killed writer left is cleared away first."""
    with ExitStack() as stack:
        try:
            stack.enter_context(parts.store.lock.held(LOCK_TIMEOUT_S, parts.cancel.is_set))
        except LibraryBusy:
            if parts.cancel.is_set():
                raise Interrupted from None
            raise
        parts.store.discard_staged()
        yield


def _is_readable_kind(store: Store, found: Found) -> bool:
    """Whether a file without a telling name, met in a folder, is text after all."""
    if found.is_named or suffix_of(Path(found.path)) or store.known(found.path) is not None:
        return True
    try:
        kind_of(Path(found.path))
    except UnsupportedFile:
        return False
    except (FileError, OSError):
        return True  # reading it will say what is wrong
    return True


def _rejected(plan: Plan) -> list[FileReport]:
    """Return what is wrong with paths as a whole, and what is kept though it is away."""
    findings = plan.findings
    problems = {**findings.unreadable, **findings.rejected}
    reports = [FileReport(path, State.FAILED, error=why) for path, why in problems.items()]
    for key, group in plan.away.items():
        path, _, why = key.partition("\0")
        if path in problems:
            continue
        many = "its document is kept" if len(group) == 1 else f"its {len(group)} documents are kept"
        text = f"{why}; {many}; `docqa remove` forgets what is gone for good"
        reports.append(FileReport(path, State.FAILED, error=text))
    return reports


def _remove_absent(parts: Ingest, plan: Plan) -> Iterator[FileReport]:
    """Remove what is proved absent; a file that was moved has another path by now."""
    roots = parts.store.roots.paths()
    for first in range(0, len(plan.absent), REMOVE_BATCH):
        batch = plan.absent[first : first + REMOVE_BATCH]
        with _write_lock(parts):
            gone = [
                old
                for old in batch
                if _is_gone(old, roots)
                and (now := parts.store.known(old.document.path)) is not None
                and now.document.doc_id == old.document.doc_id
            ]
            parts.store.remove([old.document.doc_id for old in gone])
        for old in gone:
            yield replace(report_of(old, State.REMOVED), n_chunks=0, error=None)


def _is_gone(old: Known, roots: Sequence[str]) -> bool:
    """Whether there is no file at its path any more, or a link to another one."""
    path = old.document.path
    return not os.path.lexists(path) or leads_elsewhere(path, roots, old.stamp)


def _await_vectors(parts: Ingest, embedding: Embedding) -> Iterator[SyncEvent]:
    """Yield progress until every passage has its vector."""
    n_left = parts.store.vectors.n_pending() if embedding.is_started else 0
    n_total = embedding.n_done + n_left
    while not embedding.wait(WAIT_S):
        if parts.cancel.is_set():
            raise Interrupted
        n_total = max(n_total, embedding.n_done)
        yield EmbedProgress(embedding.n_done, n_total)
    if n_total:
        yield EmbedProgress(n_total, n_total)
    parts.store.vectors.drop_stale()
