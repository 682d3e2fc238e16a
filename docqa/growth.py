"""Logs between two looks: grown ones are read on, renamed ones keep their document.

A log is known by its content (docqa/parse/log_tail.py), so that rotation in any of its forms keeps
every line once: renamed, its document moves with it and is read on; copied and cut, the copy takes
the document over and the cut file begins another; deleted and made anew, or compressed, the new
file is read and the old document goes. The caller holds the write lock.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Generator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from docqa.append import append, move
from docqa.discover import Found
from docqa.errors import FileError, Interrupted
from docqa.events import FileProgress, SyncEvent
from docqa.parse.log_tail import FINGERPRINT_BYTES, Growth, compare, digest
from docqa.records import FileStamp, Known
from docqa.store import Store
from docqa.types import Chunk, ChunkItem, DocumentInfo, FileReport, LogTail, State

PROGRESS_S = 0.2
CUT = "was cut or written anew since it was last read; this is what it holds now"


class TailReader(Protocol):
    """Reads what was added to a log."""

    def read_on(self, path: Path, tail: LogTail, *, whole_lines: bool) -> Iterator[ChunkItem]:
        """Yield the chunks from `tail.ordinal` on, a DocumentInfo last; raise FileError."""
        ...


def is_log_still(known: Known) -> bool:
    """Whether the file at a document's path is the log that was read, grown or not."""
    if known.tail is None:
        return False
    try:
        return compare(known.document.path, known.tail) is not Growth.OTHER
    except OSError:
        return False


def read_on(
    store: Store,
    reader: TailReader,
    known: Known,
    now: FileStamp,
    *,
    whole_lines: bool,
    cancel: threading.Event,
) -> Generator[SyncEvent, None, FileReport | None]:
    """Bring a log up to `now`; return None where it must be read anew.

    Raises:
        OSError: it cannot be opened.
        Interrupted: `cancel` was set; what was committed is whole.
    """
    tail = known.tail
    assert tail is not None
    if compare(now.path, tail) is Growth.OTHER:
        return None
    n_before = tail.n_bytes
    while tail is not None and tail.n_bytes < now.n_bytes:
        step = yield from _step(reader, tail, now.path, whole_lines=whole_lines, cancel=cancel)
        if step is None:
            return None
        chunks, info = step
        if info.tail is not None and info.tail.n_bytes <= tail.n_bytes:
            break  # no line is complete yet
        append(store, known, tail, _seen(now, info.tail), chunks, info)
        known = replace(known, document=store.document(known.document.doc_id) or known.document)
        tail = info.tail
    if tail is not None and tail.n_bytes == n_before:
        store.restamp(known.document.doc_id, _seen(now, tail))
        if known.document.error:
            store.note_error(known.document.doc_id, None)
    document = store.document(known.document.doc_id) or known.document
    has_grown = tail is None or tail.n_bytes > n_before
    return FileReport(
        document.path,
        State.INDEXED if has_grown else State.UNCHANGED,
        document.n_pages,
        document.n_lines,
        document.n_chunks,
        None,
        document.warnings,
    )


def _seen(now: FileStamp, tail: LogTail | None) -> FileStamp:
    """Return the stamp to keep: one that is looked at again where a line was kept back."""
    is_whole = tail is not None and tail.n_bytes >= now.n_bytes
    return now if is_whole else replace(now, checked_ns=now.mtime_ns)


def _step(
    reader: TailReader, tail: LogTail, path: str, *, whole_lines: bool, cancel: threading.Event
) -> Generator[SyncEvent, None, tuple[list[Chunk], DocumentInfo] | None]:
    """Read a bounded part of what is new; None where the file is another log by now."""
    chunks: list[Chunk] = []
    info: DocumentInfo | None = None
    told_at = time.monotonic()
    items = reader.read_on(Path(path), tail, whole_lines=whole_lines)
    try:
        for item in items:
            if cancel.is_set():
                break
            if isinstance(item, Chunk):
                chunks.append(item)
            elif isinstance(item, DocumentInfo):
                info = item
            if chunks and time.monotonic() - told_at >= PROGRESS_S:
                told_at = time.monotonic()
                n_lines = chunks[-1].span.locator.last
                yield FileProgress(path, 0, n_lines, tail.ordinal + len(chunks))
    except FileError:
        info = None
    finally:
        close = getattr(items, "close", None)
        if close is not None:
            close()
    if cancel.is_set():
        raise Interrupted
    return (chunks, info) if info is not None and chunks else None


def follow_renames(store: Store, logs: list[Known], to_read: list[Found]) -> set[str]:
    """Move documents of logs to where their files are now; return the paths they moved to.

    `logs` are the documents whose file is gone or has changed. A file is looked for among
    `to_read`: one with the log's inode anywhere, or one beside it.
    """
    lost = [known for known in logs if not is_log_still(known)]
    if not lost:
        return set()
    known_there = {known.document.path: known for known in logs}
    free = [
        found for found in to_read if not (there := known_there.get(found.path)) or there in lost
    ]
    heads: dict[str, bytes] = {}
    moves: list[tuple[Known, FileStamp]] = []
    for known in lost:
        target = _where(known, free, heads)
        if target is not None and _is_unclaimed(store, target, known_there):
            free.remove(target)
            moves.append((known, target.stamp))
    if moves:
        move(store, moves)
    return {stamp.path for _, stamp in moves}


def _is_unclaimed(store: Store, target: Found, logs: dict[str, Known]) -> bool:
    """Whether what the library holds under the path of a file is not that file's content."""
    if target.path in logs:
        return True  # a log that is itself lost
    there = store.known(target.path)
    return there is None or there.tail is None or not is_log_still(there)


def _where(known: Known, free: list[Found], heads: dict[str, bytes]) -> Found | None:
    """Return the file that is now the log of a document."""
    tail = known.tail
    assert tail is not None
    folder = os.path.dirname(known.document.path)  # noqa: PTH120
    inode = (known.stamp.inode, known.stamp.device)
    near = [
        found
        for found in free
        if found.stamp.n_bytes >= tail.n_bytes
        and (
            (found.stamp.inode, found.stamp.device) == inode
            or os.path.dirname(found.path) == folder  # noqa: PTH120
        )
    ]
    near.sort(key=lambda found: (found.stamp.inode, found.stamp.device) != inode)
    for found in near:
        head = heads.get(found.path)
        if head is None:
            head = heads[found.path] = _head(found.path)
        if digest(head[: min(FINGERPRINT_BYTES, tail.n_bytes)]) != tail.head:
            continue
        try:
            if compare(found.path, tail) is not Growth.OTHER:
                return found
        except OSError:
            continue
    return None


def _head(path: str) -> bytes:
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        with open(os.open(path, flags | getattr(os, "O_CLOEXEC", 0)), "rb") as file:  # noqa: PTH123
            return file.read(FINGERPRINT_BYTES)
    except OSError:
        return b""
