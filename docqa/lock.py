"""One writer at a time: an advisory lock on a file, held for one document and never across two.

Two files make it fair. Whoever wants the lock first takes the gate and keeps it while it waits, so
a process that indexes 10,000 files lets the other one in after the file it is at.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from docqa.errors import LibraryBusy, LibraryError

POLL_S = 0.02
HOLDER_CHARS = 20


class WriteLock:
    """The lock of one library. Threads exclude each other as processes do; not re-entrant."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._gate = path.with_name(path.name + ".gate")

    @contextmanager
    def held(
        self, timeout_s: float, is_cancelled: Callable[[], bool] = lambda: False
    ) -> Iterator[None]:
        """Hold the lock.

        Raises:
            LibraryBusy: another process holds it for longer than `timeout_s`, or `is_cancelled`.
            LibraryError: the lock file cannot be made (a read-only library).
        """
        deadline = time.monotonic() + timeout_s
        gate = self._open(self._gate)
        try:
            self._wait(gate, deadline, is_cancelled)
            lock = self._open(self._path)
            try:
                self._wait(lock, deadline, is_cancelled)
                os.close(gate)
                gate = -1
                self._sign(lock)
                try:
                    yield
                finally:
                    self._sign(lock)  # the time counts: what was written is fed to the indexes now
            finally:
                os.close(lock)  # releases it
        finally:
            if gate >= 0:
                os.close(gate)

    def holder(self) -> int | None:
        """Return the process id written by the last holder, for a message."""
        try:
            return int(self._path.read_bytes()[:HOLDER_CHARS])
        except (OSError, ValueError):
            return None

    def is_busy_elsewhere(self, within_s: float) -> bool:
        """Whether another process, alive, took or let go of the lock in the last `within_s`."""
        try:
            taken_at = self._path.stat().st_mtime
        except OSError:
            return False
        holder = self.holder()
        is_recent = 0 <= time.time() - taken_at < within_s
        return is_recent and holder not in (None, os.getpid()) and _lives(holder)

    def _sign(self, lock: int) -> None:
        """Write who holds the lock, for a message: where the disk is full, nobody is told."""
        if hasattr(os, "pwrite"):  # at one go: readers never see a file without a number
            with suppress(OSError):
                os.pwrite(lock, f"{os.getpid():<{HOLDER_CHARS}}".encode(), 0)

    def _open(self, path: Path) -> int:
        try:
            return os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
        except OSError as error:
            raise LibraryError(
                f"{path.parent}: the library cannot be written ({error.strerror}); "
                "questions still work, adding files does not. Check the folder's permissions."
            ) from error

    def _wait(self, descriptor: int, deadline: float, is_cancelled: Callable[[], bool]) -> None:
        while not _try_lock(descriptor):
            if is_cancelled() or time.monotonic() >= deadline:
                holder = self.holder()
                who = f"process {holder}" if holder else "another process"
                raise LibraryBusy(
                    f"{self._path.parent}: {who} is writing to this library; "
                    "wait until it is done, or stop it, and repeat the command."
                )
            threading.Event().wait(POLL_S)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of a file, made where it is missing, however long it takes to get it."""
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
    descriptor = os.open(path, flags, 0o600)
    try:
        while not _try_lock(descriptor):
            threading.Event().wait(POLL_S)
        yield
    finally:
        os.close(descriptor)


def _lives(process_id: int | None) -> bool:
    import psutil

    return process_id is not None and bool(psutil.pid_exists(process_id))


if sys.platform == "win32":

    def _try_lock(descriptor: int) -> bool:
        import msvcrt

        os.lseek(descriptor, 1 << 30, os.SEEK_SET)  # beyond the text, so that it stays readable
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
else:

    def _try_lock(descriptor: int) -> bool:
        import fcntl

        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
