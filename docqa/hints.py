"""What the operating system says of changes: hints, never the truth.

watchfiles misses files (57 % when a folder is made and filled at once, all of a tree that is moved
in) and says nothing when the kernel's queue overflows. So an event is only a reason to look, and
whatever goes wrong here is answered by looking more often (docqa/watch.py).
"""

from __future__ import annotations

import errno
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

MAX_PATHS = 5_000  # of one folder, between two looks; beyond, all of it is looked at
DEBOUNCE_MS = 200
STEP_MS = 100
TIMEOUT_MS = 1_000

_NETWORK = frozenset(
    {"nfs", "nfs4", "cifs", "smb", "smb2", "smb3", "smbfs", "ncpfs", "afs", "9p", "drvfs", "ceph"}
    | {"glusterfs", "davfs", "lustre", "afpfs", "webdav", "vboxsf", "vmhgfs", "prl_fs", "virtiofs"}
    | {"fuse", "fuseblk.sshfs"}
)
_LOCAL_FUSE = frozenset({"fuseblk", "fuse.ntfs-3g", "fuse.exfat", "fuse.ext2", "fuse.mergerfs"})


@dataclass(slots=True)
class Hints:
    """What was said of one folder since the last look."""

    changed: set[str] = field(default_factory=set)  # files written
    moved: set[str] = field(default_factory=set)  # made, deleted, renamed: files or folders
    is_flooded: bool = False  # too many to name
    failure: str | None = None  # there will be no more hints: why


class FolderHints:
    """Hints for one folder, collected by a thread. Close it."""

    def __init__(self, path: str, is_noise: Callable[[str], bool], wake: threading.Event) -> None:
        """Start listening. `is_noise` says which paths to drop; `wake` is set by every hint."""
        self.path = path
        self._is_noise = is_noise
        self._wake = wake
        self._guard = threading.Lock()
        self._hints = Hints()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="hints", daemon=True)
        self._thread.start()

    def take(self) -> Hints:
        """Return what was said since the last call."""
        with self._guard:
            hints, self._hints = self._hints, Hints()
        return hints

    def close(self) -> None:
        """Stop listening."""
        self._stop.set()
        self._thread.join(3 * TIMEOUT_MS / 1000)

    def _run(self) -> None:
        from watchfiles import watch

        try:
            for changes in watch(
                self.path,
                watch_filter=None,
                debounce=DEBOUNCE_MS,
                step=STEP_MS,
                stop_event=self._stop,
                rust_timeout=TIMEOUT_MS,
                raise_interrupt=False,
                force_polling=False,
                ignore_permission_denied=True,
            ):
                self._note([(int(change), path) for change, path in changes])
        except (OSError, RuntimeError) as error:  # RuntimeError: watchfiles' own
            with self._guard:
                self._hints.failure = explain(error)
            self._wake.set()

    def _note(self, changes: list[tuple[int, str]]) -> None:
        kept = [(change, path) for change, path in changes if not self._is_noise(path)]
        if not kept:
            return
        with self._guard:
            hints = self._hints
            for change, path in kept:
                (hints.changed if change == _MODIFIED else hints.moved).add(path)
            if len(hints.changed) + len(hints.moved) > MAX_PATHS:
                hints.changed.clear()
                hints.moved.clear()
                hints.is_flooded = True
        self._wake.set()


_MODIFIED = 2  # watchfiles.Change.modified


def explain(error: Exception) -> str:
    """Return why there are no events, and what the user can do about it."""
    text = str(error)
    number = getattr(error, "errno", None)
    if number == errno.ENOSPC or "watch limit" in text or "os error 28" in text:
        return (
            "the system's limit of watched folders is reached (raise it with "
            "`sysctl fs.inotify.max_user_watches=524288`)"
        )
    if number in (errno.EMFILE, errno.ENFILE) or "Too many open files" in text:
        return (
            "the system's limit of watchers is reached (raise it with "
            "`sysctl fs.inotify.max_user_instances=512`)"
        )
    return f"the system gives no events ({text.splitlines()[0] if text else type(error).__name__})"


def why_polled(path: str) -> str | None:
    """Return why events cannot be relied on at `path`: a drive that others write to; else None."""
    import psutil

    if sys.platform == "win32" and path.startswith("\\\\"):
        return "it is on a network drive"
    best, kind = "", ""
    try:
        for drive in psutil.disk_partitions(all=True):
            mount = drive.mountpoint.rstrip(os.sep) + os.sep
            if (path.rstrip(os.sep) + os.sep).startswith(mount) and len(mount) >= len(best):
                best, kind = mount, drive.fstype
    except (OSError, psutil.Error):
        return None
    is_fuse = kind.startswith("fuse.") and kind not in _LOCAL_FUSE
    return f"it is on a network drive ({kind})" if kind in _NETWORK or is_fuse else None


@dataclass(slots=True)
class SuspendClock:
    """Notices that the machine slept: then the wall clock has gone on without the other one."""

    jump_s: float = 20.0
    wall: Callable[[], float] = time.time
    steady: Callable[[], float] = time.monotonic
    _offset: float | None = None

    def has_slept(self) -> bool:
        """Whether the machine slept, or its clock was set, since the last call."""
        offset = self.wall() - self.steady()
        before, self._offset = self._offset, offset
        return before is not None and abs(offset - before) > self.jump_s
