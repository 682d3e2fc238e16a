"""One file into the library: hashed, compared, parsed in the worker, published whole.

Everything here happens under the library's write lock, so no two processes read the same file, and
another process gets its turn after it. What may be wrong with a file ends in a report, never in an
exception; what is wrong with the library, and a stop, are exceptions.
"""

from __future__ import annotations

import hashlib
import os
import stat
import threading
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from docqa import discover, growth
from docqa.errors import DocqaError, FileError, Interrupted
from docqa.events import FileProgress, SyncEvent
from docqa.intake import Intake, record_failure
from docqa.parse import suffix_of
from docqa.records import FileStamp, Known
from docqa.store import Store
from docqa.sweep import Retry, must_retry
from docqa.types import (
    Chunk,
    ChunkItem,
    DocumentInfo,
    FileReport,
    Kind,
    PageInfo,
    PageState,
    State,
)

MAX_FILE_BYTES = 64 * 2**30
MAX_STRIKES = 2
READ_ATTEMPTS = 3  # of a file that changes while it is read
PROGRESS_S = 0.2
HASH_BYTES = 1 << 20
SMALL_BYTES = 1 << 14
NAMED_PAGES = 12  # in a warning; of more, their number is said


class Reader(growth.TailReader, Protocol):
    """The parse worker with its options chosen."""

    @property
    def pid(self) -> int | None:
        """The worker's process; None where it died or was never started."""
        ...

    def read(self, path: Path, *, whole_lines: bool = False) -> Iterator[ChunkItem]:
        """Yield chunks and pages, a DocumentInfo last; raise FileError.

        `whole_lines` leaves out the last line of a log that is still being written.
        """
        ...

    def is_well(self) -> bool:
        """Whether it reads a harmless file: if not, a death says nothing about the file."""
        ...


@dataclass(slots=True)
class _Outcome:
    """What came of parsing a file once."""

    info: DocumentInfo | None = None
    error: FileError | None = None
    has_died: bool = False
    n_chunks: int = 0
    n_pages: int = 0
    bad_pages: list[PageInfo] = field(default_factory=list)


def report_of(known: Known, state: State) -> FileReport:
    """Return the report of a document as it is, under another state."""
    document = known.document
    return FileReport(
        document.path,
        state,
        document.n_pages,
        document.n_lines,
        document.n_chunks,
        document.error,
        document.warnings,
    )


def unchanged(known: Known) -> FileReport:
    """Return the report of a file that need not be read; one that failed is still a failure."""
    has_failed = known.document.state in (State.FAILED, State.QUARANTINED)
    return report_of(known, known.document.state if has_failed else State.UNCHANGED)


def read_file(
    store: Store,
    reader: Reader,
    path: str,
    is_named: bool,
    retry: Retry,
    cancel: threading.Event,
    *,
    whole_lines: bool = False,
) -> Generator[SyncEvent, None, FileReport]:
    """Bring the document at `path` up to date; the caller holds the write lock.

    `whole_lines`: of a log, a last line without its newline is kept back.

    Raises:
        Interrupted: `cancel` was set; the library is as it was.
        DocqaError: the parse worker dies of any file; the library is as it was.
    """
    known = store.known(path)
    n_changes = 0
    is_anew = False
    while True:
        try:
            before = discover.stamp(path)
            old = known.stamp if known else None
            if not is_named and discover.leads_elsewhere(path, store.roots.paths(), old):
                raise FileNotFoundError("became a link since it was found")
            if not 0 < before.n_bytes <= MAX_FILE_BYTES:
                return _fail(store, before, retry.parser, _size_problem(before))
            if known and known.tail and not is_anew and not must_retry(known, is_named, retry):
                report = yield from growth.read_on(
                    store, reader, known, before, whole_lines=whole_lines, cancel=cancel
                )
                if report is not None:
                    return report
                is_anew = True
            before = replace(before, sha256=_hash(path, cancel))
        except OSError as error:
            return _unreadable(store, path, known, error)
        settled = _settle_without_parsing(store, before, known, is_named, retry)
        if settled is not None:
            return settled
        with Intake(store, before, retry.parser) as intake:
            outcome = yield from _parse(reader, path, intake, cancel, whole_lines)
            if outcome.has_died:
                if not reader.is_well():
                    raise DocqaError(
                        "The parse worker does not run on this machine "
                        f"({outcome.error}); nothing was changed. See `docqa doctor`."
                    )
                if _strike(store, before, retry.parser, outcome) < MAX_STRIKES:
                    continue  # once may be an accident
            change = _what_changed(path, before)
            n_changes += change is not None
            if change and n_changes < READ_ATTEMPTS and not _is_log(outcome):
                continue
            is_cut = is_anew and known is not None and not growth.is_log_still(known)
            notice = growth.CUT if is_cut else None
            return _publish(store, intake, before, outcome, change, retry.parser, notice)


def _settle_without_parsing(
    store: Store, now: FileStamp, known: Known | None, is_named: bool, retry: Retry
) -> FileReport | None:
    """Return the report of a file whose content is known: touched, moved, or quarantined."""
    assert now.sha256 is not None
    n_strikes, reason = store.strikes(now.sha256, retry.parser)
    if known is not None and known.stamp.sha256 == now.sha256:
        if n_strikes >= MAX_STRIKES or not must_retry(known, is_named, retry):
            store.restamp(known.document.doc_id, now)
            if known.document.state is State.INDEXED and known.document.error:
                store.note_error(known.document.doc_id, None)  # it can be read again
            return unchanged(store.known(now.path) or known)
    elif known is None and (moved := _moved_from(store, now, retry.parser)) is not None:
        store.restamp(moved.document.doc_id, now)
        return replace(report_of(moved, moved.document.state), path=now.path)
    if n_strikes >= MAX_STRIKES:
        return _fail(store, now, retry.parser, _quarantined(reason), State.QUARANTINED)
    return None


def _moved_from(store: Store, now: FileStamp, parser: str) -> Known | None:
    """Return a document with this content whose file is gone: it was renamed or moved."""
    for known in store.known_with_content(now.sha256 or b""):
        is_good = known.parser == parser and known.document.n_chunks > 0
        if is_good and not os.path.lexists(known.document.path):
            return known
    return None


def _parse(
    reader: Reader, path: str, intake: Intake, cancel: threading.Event, whole_lines: bool
) -> Generator[SyncEvent, None, _Outcome]:
    """Pass what the worker yields on to the store."""
    outcome = _Outcome()
    n_lines = 0
    told_at = time.monotonic()
    items = reader.read(Path(path), whole_lines=whole_lines)
    try:
        for item in items:
            if cancel.is_set():
                break
            if isinstance(item, Chunk):
                intake.add(item)
                outcome.n_chunks += 1
                if item.span.locator.unit == "line":
                    n_lines = item.span.locator.last
            elif isinstance(item, PageInfo):
                intake.add_page(item)
                outcome.n_pages = item.page
                if item.state in (PageState.UNREAD, PageState.FAILED):
                    outcome.bad_pages.append(item)
            else:
                outcome.info = item
            if time.monotonic() - told_at >= PROGRESS_S:
                told_at = time.monotonic()
                yield FileProgress(path, outcome.n_pages, n_lines, outcome.n_chunks)
    except FileError as error:
        outcome.error = error
        outcome.has_died = reader.pid is None
    finally:
        close = getattr(items, "close", None)
        if close is not None:
            close()
    if cancel.is_set():
        raise Interrupted
    return outcome


def _publish(
    store: Store,
    intake: Intake,
    before: FileStamp,
    outcome: _Outcome,
    change: str | None,
    parser: str,
    notice: str | None,
) -> FileReport:
    """Make the outcome of parsing the truth, or record why there is none."""
    error = outcome.error.reason if outcome.error else None
    tail = outcome.info.tail if outcome.info else None
    if tail is not None and (change or tail.n_bytes != before.n_bytes):
        # Exactly what stands before the tail was read; the next look reads on from there.
        before = replace(before, sha256=None, checked_ns=before.mtime_ns)
        intake.restamp(before)
        change = None
    if change:
        # What was parsed need not be what was hashed: no identity, so the next sync looks again.
        before = replace(before, sha256=None)
        intake.restamp(before)
        if not _is_log(outcome):
            error = f"{change}; the next sync reads it again"
    if outcome.n_chunks == 0 or (change and not _is_log(outcome)):
        is_quarantined = outcome.has_died and not change
        state = State.QUARANTINED if is_quarantined else State.FAILED
        reason = error or _why_empty(outcome)
        return _fail(
            store, before, parser, _quarantined(reason) if is_quarantined else reason, state
        )
    info = outcome.info or DocumentInfo(_kind_by_name(before.path), Path(before.path).name)
    warnings = list(info.warnings)
    if outcome.bad_pages:
        warnings += _page_warnings(outcome.bad_pages)
    if notice:
        warnings.append(notice)
    if change:
        warnings.append(f"{change}; the next sync reads the rest")
    if outcome.info is None and outcome.n_pages:
        info = replace(info, n_pages=outcome.n_pages)
    info = replace(info, warnings=tuple(dict.fromkeys(warnings)))
    state = State.PARTIAL if error or outcome.bad_pages else State.INDEXED
    intake.publish(info, state, error)
    return FileReport(
        before.path, state, info.n_pages, info.n_lines, outcome.n_chunks, error, info.warnings
    )


def _fail(
    store: Store, now: FileStamp, parser: str, reason: str, state: State = State.FAILED
) -> FileReport:
    """Record a file without content in place of what was there."""
    old = store.known(now.path)
    if old is None or _failure(old) != (now.sha256, parser, state, reason):
        record_failure(store, now, parser, _kind_by_name(now.path), state, reason)
    else:
        store.restamp(old.document.doc_id, now)
    return FileReport(now.path, state, error=reason)


def _failure(known: Known) -> tuple[bytes | None, str, State, str | None]:
    document = known.document
    return known.stamp.sha256, known.parser, document.state, document.error


def _unreadable(store: Store, path: str, known: Known | None, error: OSError) -> FileReport:
    """Report a file that cannot be opened now. What was indexed of it stays."""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        reason = "is not there any more"
    else:
        reason = f"cannot be read: {error.strerror or error}"
    if known is None:
        return FileReport(path, State.FAILED, error=reason)  # nothing is known of it to keep
    if known.document.n_chunks:
        reason += "; what was indexed of it before is kept"
    store.note_error(known.document.doc_id, reason)
    return replace(report_of(known, State.FAILED), error=reason)


def _strike(store: Store, before: FileStamp, parser: str, outcome: _Outcome) -> int:
    reason = outcome.error.reason if outcome.error else "ended the parser"
    return store.add_strike(before.sha256 or b"", parser, reason)


def _quarantined(reason: str) -> str:
    return f"{reason} (twice); it is left alone until it changes"


def _what_changed(path: str, before: FileStamp) -> str | None:
    """Return how the file differs from before it was read; None where it does not."""
    try:
        after = discover.stamp(path)
    except OSError:
        return None  # gone now: what was read was whole, and the next sync sees the rest
    if (after.n_bytes, after.mtime_ns, after.inode) == (
        before.n_bytes,
        before.mtime_ns,
        before.inode,
    ):
        return None
    return "was being written while it was read"


def _is_log(outcome: _Outcome) -> bool:
    return outcome.info is not None and outcome.info.kind is Kind.LOG


def _why_empty(outcome: _Outcome) -> str:
    if outcome.bad_pages:
        return "no text could be read: " + "; ".join(_page_warnings(outcome.bad_pages))
    return "has no text; nothing to index"


def _page_warnings(pages: list[PageInfo]) -> list[str]:
    """Return one sentence a reason, naming its pages."""
    by_reason: dict[str, list[int]] = {}
    for page in pages:
        default = "has no text layer" if page.state is PageState.UNREAD else "could not be read"
        by_reason.setdefault(page.reason or default, []).append(page.page)
    sentences = []
    for reason, numbers in by_reason.items():
        named = ", ".join(map(str, numbers[:NAMED_PAGES]))
        more = len(numbers) - NAMED_PAGES
        word = "page" if len(numbers) == 1 else "pages"
        sentences.append(f"{word} {named}{f' and {more} more' if more > 0 else ''}: {reason}")
    return sentences


def _size_problem(now: FileStamp) -> str:
    if now.n_bytes == 0:
        return "is empty; nothing to index"
    return f"is larger than {MAX_FILE_BYTES // 2**30} GiB; split it"


def _kind_by_name(path: str) -> Kind:
    suffix = suffix_of(Path(path))
    return {".pdf": Kind.PDF, ".log": Kind.LOG}.get(suffix, Kind.TEXT)


def _hash(path: str, cancel: threading.Event) -> bytes:
    """Return the SHA-256 of a regular file; raise OSError, Interrupted."""
    # Not blocking: between the look and the opening the file may have become a named pipe.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    digest = hashlib.sha256()
    with open(os.open(path, flags | getattr(os, "O_CLOEXEC", 0)), "rb", buffering=0) as file:  # noqa: PTH123
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError("is not a regular file")
        # A buffer for the whole block is made first: for small files that cost more than the rest.
        n_bytes = min(HASH_BYTES, max(status.st_size + 1, SMALL_BYTES))
        while block := file.read(n_bytes):
            digest.update(block)
            if cancel.is_set():
                raise Interrupted
    return digest.digest()
