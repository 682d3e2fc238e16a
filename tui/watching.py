"""Watches the remembered folders while the app runs; each change is shown as it comes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from docqa.errors import DocqaError
from docqa.events import FileDone, FolderState, SyncEvent, WatchProblem
from tui.feed import EventRun
from tui.plain import file_name

if TYPE_CHECKING:
    from tui.app import DocqaApp


class Watching:
    """The watcher's thread and what it said. Used on the UI's thread."""

    def __init__(self, app: DocqaApp) -> None:
        self._app = app
        self._run: EventRun[SyncEvent] | None = None
        self._thread: threading.Thread | None = None
        self.states: dict[str, str] = {}  # folder → watched, polled, away

    @property
    def is_running(self) -> bool:
        """Whether folders are watched."""
        return self._run is not None

    def begin(self) -> None:
        """Watch the remembered folders, if there are any."""
        if self._run is not None or not self._app.workspace.watched():
            return
        workspace = self._app.workspace

        def events(cancel: threading.Event) -> Iterator[SyncEvent]:
            return workspace.watch(stop=cancel)

        self._run = EventRun(self._app, events)
        self._thread = self._run.start("watching")
        self._show("watching")

    def cancel(self) -> None:
        """Tell the thread to stop."""
        if self._run is not None:
            self._run.cancel.set()

    def wait(self) -> None:
        """Return when the thread has ended; called after `cancel`."""
        if self._thread is not None:
            self._thread.join()

    def toggle(self, path: Path) -> None:
        """Watch a folder from now on, or not any more."""
        app = self._app
        known = {Path(folder.path) for folder in app.workspace.watched()}
        try:
            app.workspace.set_watched(path, path not in known)
        except DocqaError as error:
            app.notify_plain(str(error), is_error=True)
            return
        said = "no longer watched" if path in known else "watched from now on"
        app.notify_plain(f"{path}: {said}")
        self.states.pop(str(path), None)
        self.begin()
        self._show(self._line())

    def progressed(self, run: EventRun[object]) -> None:
        """Fetch the events a frame later."""
        if run is self._run:
            self._app.pacing.soon(self._take_events)

    def ended(self, run: EventRun[object]) -> None:
        """Say why watching ended."""
        if run is not self._run:
            return
        self._take_events()
        self._run = None
        self._show("not watching")
        if run.error and not run.cancel.is_set():
            self._app.notify_plain(f"watching ended: {run.error}", is_error=True)

    def _take_events(self) -> None:
        if self._run is None or not self._app.main.is_laid_out:
            return
        has_changed = False
        for event in self._run.drain():
            if isinstance(event, FolderState):
                self.states[event.path] = event.state
            elif isinstance(event, FileDone):
                has_changed = True
                report = event.report
                self._app.notify_plain(f"{file_name(report.path)}: {report.state.value}")
            elif isinstance(event, WatchProblem):
                self._app.notify_plain(event.text, is_error=True)
        if has_changed:
            self._app.refresh_documents()
        self._show(self._line())

    def _line(self) -> str:
        n = len(self._app.workspace.watched())
        if self._run is None or not n:
            return "not watching"
        odd = sorted({state for state in self.states.values() if state != "watched"})
        return f"watching {n}" + (f" ({', '.join(odd)})" if odd else "")

    def _show(self, text: str) -> None:
        self._app.show_status(replace(self._app.status, watcher=text))
