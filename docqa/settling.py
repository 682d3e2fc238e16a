"""Which files have stopped changing: a watcher reads no half-written file.

A file is at rest when it was not written for `STABLE_S` and, where the system can tell (Linux),
nobody has it open for writing. The clock of a network drive is another's and so are its caches: on
it, only what was seen unchanged for `STABLE_S` is at rest. Logs that are being written are read
while they grow, once a second at most, whole lines only.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from docqa.discover import Found, is_below
from docqa.errors import FileError
from docqa.parse import kind_of
from docqa.types import Kind

STABLE_S = 0.4
AGREED_S = 60.0  # no clock of another machine is off by more, in doubt
OPEN_LIMIT_S = 60.0  # open for writing, but not written for so long: it is read
LOG_EVERY_S = 1.0
LINE_REST_S = 5.0  # after which a last line without a newline is taken for finished
EMPTY_REST_S = 60.0  # an empty file is about to be written, or is empty for good
GONE_S = 2.0  # a file that moved is found elsewhere by then, and its document goes with it
MAX_SEEN = 100_000
_PACKED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ")


@dataclass(slots=True)
class _Seen:
    key: tuple[int, int, int]
    since: float


class Settler:
    """A `docqa.ingest.Settling` that remembers which files to look at again, and when."""

    def __init__(self, *, stable_s: float = STABLE_S) -> None:
        self.due: dict[str, float] = {}  # path → monotonic time of the next look
        self.distrusted: set[str] = set()  # folders whose files carry another machine's times
        self._stable_s = stable_s
        self._seen: dict[str, _Seen] = {}
        self._read_at: dict[str, float] = {}  # logs that grow
        self._gone: dict[str, tuple[float, float]] = {}  # seen missing: first and last

    def is_ready(self, found: Found) -> bool:
        """Whether to read the file now; if not, it is due later."""
        now = time.monotonic()
        quiet_s = self._quiet_s(found, now)
        wait_s = self._stable_s - quiet_s
        if found.stamp.n_bytes == 0:
            wait_s = EMPTY_REST_S - quiet_s
        elif wait_s > 0 and _is_growing_log(found.path):
            wait_s = self._read_at.get(found.path, -LOG_EVERY_S) + LOG_EVERY_S - now
            if wait_s <= 0:
                self._read_at[found.path] = now
        elif wait_s <= 0 and quiet_s < OPEN_LIMIT_S and is_open_for_writing(found.path):
            wait_s = 0.0 if _is_growing_log(found.path) else self._stable_s
        if wait_s > 0:
            self.due[found.path] = now + wait_s
            return False
        self.due.pop(found.path, None)
        self._gone.pop(found.path, None)
        self._seen.pop(found.path, None)
        return True

    def is_at_rest(self, path: str) -> bool:
        """Whether a log's last line is taken for finished; if not, the log is due again."""
        with suppress(OSError):
            status = os.stat(path)  # noqa: PTH116
            if -AGREED_S < time.time() - status.st_mtime <= LINE_REST_S:
                self.due.setdefault(path, time.monotonic() + LINE_REST_S + 0.1)
                return False
        return True

    def is_gone(self, path: str) -> bool:
        """Whether a file has been away for long enough to be called gone; if not, it is due."""
        now = time.monotonic()
        since, last = self._gone.get(path, (now, now))
        if now - last > 2 * GONE_S:
            since = now  # it was back in between
        if now - since >= GONE_S:
            del self._gone[path]
            return True
        self._gone[path] = (since, now)
        self.due[path] = since + GONE_S
        return False

    def take_due(self) -> list[str]:
        """Return and forget the paths to look at now."""
        now = time.monotonic()
        ready = [path for path, at in self.due.items() if at <= now]
        for path in ready:
            del self.due[path]
        return ready

    def next_due_s(self) -> float | None:
        """Return the seconds until the next look; None where none is due."""
        return min(self.due.values()) - time.monotonic() if self.due else None

    def _quiet_s(self, found: Found, now: float) -> float:
        """Return for how long the file has not been written, as far as can be told."""
        stamp = found.stamp
        key = (stamp.n_bytes, stamp.mtime_ns, stamp.inode)
        seen = self._seen.get(found.path)
        if seen is None or seen.key != key:
            if len(self._seen) >= MAX_SEEN:
                self._seen.clear()
            seen = self._seen[found.path] = _Seen(key, now)
        observed_s = now - seen.since
        by_clock_s = time.time() - _last_write(found)
        if by_clock_s < 0:  # a clock that runs ahead says nothing
            return observed_s
        if by_clock_s < AGREED_S and any(is_below(found.path, f) for f in self.distrusted):
            return observed_s
        return max(observed_s, by_clock_s)


def _last_write(found: Found) -> float:
    """Return when a file was last written or renamed; `cp -p` sets the mtime back, not the ctime.

    On Windows the ctime is that of its making, which is no later.
    """
    with suppress(OSError):
        status = os.stat(found.path)  # noqa: PTH116
        return max(status.st_mtime, status.st_ctime)
    return found.stamp.mtime_ns / 1e9


def _is_growing_log(path: str) -> bool:
    """Whether the file is a log with a whole line, not packed."""
    try:
        if kind_of(Path(path)) is not Kind.LOG:
            return False
        with open(path, "rb") as file:  # noqa: PTH123
            head = file.read(65_536)
        return not head.startswith(_PACKED) and (b"\n" in head or len(head) == 65_536)
    except (FileError, OSError):
        return False


def is_open_for_writing(path: str) -> bool:
    """Whether any process has the file open for writing; False where the system cannot tell.

    A read lease is refused while there is a writer. It is given back at once; should a writer come
    in between, the signal that asks for it back is one that is ignored by default.
    """
    try:
        import fcntl

        set_lease, set_signal = fcntl.F_SETLEASE, fcntl.F_SETSIG
    except (ImportError, AttributeError):
        return False
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.fcntl(descriptor, set_signal, signal.SIGURG)
        fcntl.fcntl(descriptor, set_lease, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, set_lease, fcntl.F_UNLCK)
        return False
    except BlockingIOError:
        return True
    except OSError:  # not our file, or a file system without leases
        return False
    finally:
        os.close(descriptor)
