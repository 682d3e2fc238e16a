"""Folders kept in step with the library: events are hints, a look at the files is the truth.

An event makes the watcher look: at a file that was written, at the folder of one that came or went,
at all of a folder that came. Every few minutes all of a watched folder is swept, so that nothing
that events missed stays missed; at the start, after sleep, and when a folder comes back, at once.
Where there are no events (a network drive, a limit of the system reached) sweeps come more often,
and that is said. Sweeps and looks take at most about a hundredth and a tenth of the time.

A folder that is away is a state: nothing is looked at, and nothing is removed, until it is back.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from docqa.discover import IGNORED_FOLDERS, WalkOptions, is_below
from docqa.errors import Interrupted, LibraryError
from docqa.events import FileDone, FolderState, Scanned, SyncDone, SyncEvent, WatchProblem
from docqa.hints import FolderHints, Hints, SuspendClock, why_polled
from docqa.ignore import IGNORE_FILES
from docqa.records import WatchedFolder
from docqa.settling import Settler
from docqa.types import State

Look = Callable[[Sequence[str], WalkOptions], Iterator[SyncEvent]]
MANY_FILES = 100  # changed in one folder at once: the folder is looked at instead
AWAY = "is not there (moved, or its drive is away); its documents are kept"


@dataclass(frozen=True, slots=True)
class Pace:
    """When to look. Tests are in more of a hurry than users."""

    tick_s: float = 0.5
    sweep_s: float = 300.0
    poll_s: float = 10.0  # between sweeps where there are no events
    sweep_share: float = 0.006  # of the time, at most
    look_share: float = 0.1  # of the time that looks at one folder take, at most
    again_s: float = 1.5  # after which a new folder is looked at once more
    retry_s: float = 30.0  # after the library could not be written


@dataclass(slots=True)
class _Post:
    """One watched folder."""

    folder: WatchedFolder
    state: Literal["watched", "polled", "away"] | None = None
    identity: tuple[int, int] | None = None  # device and inode of the folder
    hints: FolderHints | None = None
    sweep_at: float = 0.0


@dataclass(slots=True)
class _Round:
    """What there is to look at now."""

    files: set[str] = field(default_factory=set)
    folders: set[str] = field(default_factory=set)  # without those below
    trees: set[str] = field(default_factory=set)


class Watcher:
    """Watches folders until `stop` is set. `look` is a sync that reports changes only."""

    def __init__(
        self,
        look: Look,
        folders: Callable[[], Sequence[WatchedFolder]],
        stop: threading.Event,
        settler: Settler,
        *,
        skip: str,
        pace: Pace | None = None,
    ) -> None:
        """Touch nothing yet.

        Args:
            look: brings the library up to date with paths; raises LibraryError, Interrupted.
            folders: what is to be watched now; asked again and again.
            stop: ends `run`.
            settler: the one that `look` uses.
            skip: the library's own folder.
            pace: when to look.
        """
        self._look = look
        self._folders = folders
        self._stop = stop
        self._settler = settler
        self._skip = skip
        self._pace = pace or Pace()
        self._clock = SuspendClock()
        self._wake = threading.Event()
        self._posts: dict[str, _Post] = {}
        self._again: dict[str, float] = {}  # new folders to look at again, and when
        self._put_off: dict[str, float] = {}  # folders that were looked at just now
        self._resting: dict[str, float] = {}  # folders not to look at before
        self._said: dict[str, str | None] = {}  # path → failure that was reported
        self._walk = WalkOptions(skip=(skip,), are_hints=True)
        self._hinted_at = 0.0
        self._not_before = 0.0

    def run(self) -> Iterator[SyncEvent]:
        """Yield what changes; ends when `stop` is set."""
        try:
            while not self._stop.is_set():
                self._wake.clear()
                yield from self._attend()
                if time.monotonic() >= self._not_before:
                    yield from self._work()
                self._wait()
        except Interrupted:
            if not self._stop.is_set():
                raise
        finally:
            for post in self._posts.values():
                self._deafen(post)

    def _wait(self) -> None:
        """Sleep until a hint, the next thing due, or a tick."""
        due_s = self._settler.next_due_s()
        wait_s = self._pace.tick_s if due_s is None else min(self._pace.tick_s, max(0.01, due_s))
        self._wake.wait(wait_s)

    def _work(self) -> Iterator[SyncEvent]:
        try:
            yield from self._follow_hints()
            yield from self._sweep()
        except LibraryError as error:  # a full disk, a writer that takes hours: later again
            self._not_before = time.monotonic() + self._pace.retry_s
            for post in self._posts.values():
                post.sweep_at = 0.0
            yield WatchProblem(str(error))

    # Folders that come and go

    def _attend(self) -> Iterator[SyncEvent]:
        """Follow the folders themselves: which are to be watched, and whether they are there."""
        wanted = {folder.path: folder for folder in self._folders()}
        for path in self._posts.keys() - wanted.keys():
            self._deafen(self._posts.pop(path))
        if self._clock.has_slept():
            for post in self._posts.values():
                post.sweep_at = 0.0
        for path, folder in wanted.items():
            post = self._posts.setdefault(path, _Post(folder))
            if post.folder != folder:
                post.folder, post.sweep_at = folder, 0.0
            yield from self._attend_to(post)
        folders = tuple(post.folder for post in self._posts.values())
        if folders != self._walk.watched:
            self._walk = WalkOptions(skip=(self._skip,), watched=folders, are_hints=True)

    def _attend_to(self, post: _Post) -> Iterator[SyncEvent]:
        path = post.folder.path
        try:
            status = os.stat(path)  # noqa: PTH116
            identity = (status.st_dev, status.st_ino)
            problem = (
                None if os.access(path, os.R_OK) else "may not be read; its documents are kept"
            )
        except OSError:
            identity, problem = None, AWAY
        if problem is not None:
            if post.state != "away":
                self._deafen(post)
                post.state, post.identity = "away", None
                yield FolderState(path, "away", problem)
            return
        if post.identity == identity:
            return
        # A watched file that was saved by replacing it is no news; its new inode has no ear yet.
        is_news = post.identity is None or os.path.isdir(path)  # noqa: PTH112
        self._deafen(post)  # the first time, back again, or another folder by this name
        post.identity, post.sweep_at = identity, 0.0
        reason = why_polled(path)
        if reason is None:
            post.hints = FolderHints(path, _Noise(path, self._skip), self._wake)
            self._settler.distrusted.discard(path)
        else:
            self._settler.distrusted.add(path)
        if is_news:
            yield from self._enter(post, "polled" if reason else "watched", reason)

    def _enter(
        self, post: _Post, state: Literal["watched", "polled"], reason: str | None
    ) -> Iterator[SyncEvent]:
        post.state = state
        yield FolderState(post.folder.path, state, reason)

    def _deafen(self, post: _Post) -> None:
        if post.hints is not None:
            post.hints.close()
            post.hints = None

    # Looking

    def _follow_hints(self) -> Iterator[SyncEvent]:
        """Look where something is said to have changed, or is due to be looked at again."""
        self._hinted_at = time.monotonic()
        todo = _Round(files=set(self._settler.take_due()))
        for post in self._posts.values():
            if post.hints is None:
                continue
            hints = post.hints.take()
            if hints.is_flooded:
                post.sweep_at = 0.0
            if hints.failure is not None:
                self._deafen(post)
                post.sweep_at = 0.0
                yield from self._enter(post, "polled", hints.failure)
            self._sort(hints, todo)
        self._add_due(todo)
        if todo.files or todo.folders:
            yield from self._look_at(sorted(todo.files | todo.folders), is_deep=False)
        if todo.trees:
            yield from self._look_at(sorted(todo.trees), is_deep=True)

    def _sort(self, hints: Hints, todo: _Round) -> None:
        """Say what hints are a reason to look at."""
        for path in hints.changed | hints.moved:
            folder, name = os.path.split(path)
            if name in IGNORE_FILES:
                todo.trees.add(folder)
            elif os.path.isdir(path) and not os.path.islink(path):  # noqa: PTH112,PTH114
                if path in hints.moved:
                    todo.trees.add(path)
                    self._again[path] = time.monotonic() + self._pace.again_s
            else:
                todo.files.add(path)
                if path in hints.moved:
                    todo.folders.add(folder)
        in_folder: dict[str, list[str]] = {}
        for path in todo.files:
            in_folder.setdefault(os.path.dirname(path), []).append(path)  # noqa: PTH120
        for folder, files in in_folder.items():
            if len(files) > MANY_FILES:
                todo.files.difference_update(files)
                todo.folders.add(folder)

    def _add_due(self, todo: _Round) -> None:
        """Put off folders that were looked at just now; add what was put off."""
        now = time.monotonic()
        todo.trees |= _take_due(self._again, now)
        todo.folders |= _take_due(self._put_off, now)
        _take_due(self._resting, now)
        for folder in todo.folders & self._resting.keys():
            todo.folders.remove(folder)
            self._put_off.setdefault(folder, self._resting[folder])

    def _look_at(self, paths: Sequence[str], *, is_deep: bool) -> Iterator[SyncEvent]:
        began = time.monotonic()
        walk = self._walk if is_deep else self._walk.shallow()
        for event in self._look(paths, walk):
            if isinstance(event, Scanned):
                rest_s = (time.monotonic() - began) / self._pace.look_share
                for path in paths:
                    if not is_deep and os.path.isdir(path):  # noqa: PTH112
                        self._resting[path] = time.monotonic() + rest_s
            yield from self._news(event)

    def _sweep(self) -> Iterator[SyncEvent]:
        """Look at all of the folders whose turn it is."""
        for post in list(self._posts.values()):
            began = time.monotonic()
            if post.state == "away" or post.sweep_at > began:
                continue
            every_s = self._pace.poll_s if post.state == "polled" else self._pace.sweep_s
            post.sweep_at = began + every_s
            for event in self._look([post.folder.path], self._walk):
                if isinstance(event, Scanned):
                    took_s = time.monotonic() - began
                    post.sweep_at = began + max(every_s, took_s / self._pace.sweep_share)
                yield from self._news(event)
                is_late = time.monotonic() - self._hinted_at > self._pace.tick_s
                if isinstance(event, FileDone) and is_late:
                    yield from self._follow_hints()  # what changes now does not wait for the rest
            if self._stop.is_set():
                return

    def _news(self, event: SyncEvent) -> Iterator[SyncEvent]:
        """Yield an event unless it says nothing new."""
        if isinstance(event, SyncDone) or event == Scanned(0, 0):
            return
        if isinstance(event, FileDone):
            report = event.report
            if report.state is State.UNCHANGED:
                return
            if report.state in (State.FAILED, State.QUARANTINED):
                if self._said.get(report.path, "") == report.error:
                    return
                self._said[report.path] = report.error
            else:
                self._said.pop(report.path, None)
        yield event


@dataclass(frozen=True, slots=True)
class _Noise:
    """Whether nothing at a path is ever looked at; called by the threads of hints."""

    root: str
    skip: str

    def __call__(self, path: str) -> bool:
        if is_below(path, self.skip):
            return True
        *folders, name = path[len(self.root) :].split(os.sep)  # noqa: PTH206 (bytes-safe)
        if any(part.startswith(".") or part in IGNORED_FOLDERS for part in folders):
            return True
        return name not in IGNORE_FILES and name.startswith(".")


def _take_due(times: dict[str, float], now: float) -> set[str]:
    """Remove and return what is due."""
    due = {path for path, at in times.items() if at <= now}
    for path in due:
        del times[path]
    return due
