"""One indexing at a time: in a thread, its progress a batch a frame; further paths wait."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from docqa.events import SyncEvent
from tui.feed import EventRun
from tui.library import LibraryScreen
from tui.plain import file_name
from tui.sync_state import SyncState

if TYPE_CHECKING:
    from tui.app import DocqaApp

VECTORS_S = 2.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file or folder to be looked at; `again`: read although it is as it was."""

    path: Path
    again: bool


class Indexing:
    """What is being indexed and what waits. Used on the UI's thread."""

    def __init__(self, app: DocqaApp) -> None:
        self._app = app
        self._run: EventRun[SyncEvent] | None = None
        self._thread: threading.Thread | None = None
        self._waiting: list[Wanted] = []
        self._told_s = 0.0  # when the list was last read for its vectors' sake
        self.state = SyncState()

    def add(self, paths: Sequence[Path], *, again: bool = False) -> None:
        """Index files and folders; behind what is being indexed where something is."""
        wanted = [Wanted(path, again) for path in paths]
        self._waiting += [w for w in wanted if w not in self._waiting]
        if self._run is None:
            self._start()
        else:
            self._show()

    def _start(self) -> None:
        if not self._waiting:
            return
        workspace, again = self._app.workspace, self._waiting[0].again
        paths = [w.path for w in self._waiting if w.again is again]
        self._waiting = [w for w in self._waiting if w.again is not again]

        def events(cancel: threading.Event) -> Iterator[SyncEvent]:
            return workspace.sync(paths, cancel=cancel, again=again)

        self.state = SyncState(is_running=True)
        self._run = EventRun(self._app, events)
        self._thread = self._run.start("indexing")
        self._show()

    def cancel(self) -> None:
        """Tell the thread to stop: the app is closing."""
        self._waiting = []
        if self._run is not None:
            self._run.cancel.set()

    def wait(self) -> None:
        """Return when nothing is being indexed any more; called after `cancel`."""
        if self._thread is not None:
            self._thread.join()

    def stop(self) -> None:
        """Stop; what was committed stays."""
        self.cancel()
        if self._run is not None:
            self.state.is_stopping = True
            self._show()

    def progressed(self, run: EventRun[object]) -> None:
        """Fetch the events a frame later, all that came until then."""
        if run is self._run:
            self._app.pacing.soon(self._take_events)

    def _take_events(self) -> None:
        if self._run is None or not self._app.main.is_laid_out:
            return
        n_done, n_embedded = self.state.n_done, self.state.n_embedded
        for event in self._run.drain():
            self.state.apply(event)
        if self.state.n_embedded != n_embedded and monotonic() - self._told_s > VECTORS_S:
            self._told_s = monotonic()
            self._app.refresh_documents()  # how many vectors each of them waits for
        elif self.state.n_done != n_done:
            self._app.refresh_documents()
        self._show()

    def ended(self, run: EventRun[object]) -> None:
        """Show the end, and begin with what waits."""
        if run is not self._run:
            return
        self._take_events()
        self._run = None
        state = self.state
        state.is_running = False
        state.error = None if run.cancel.is_set() else run.error
        self._show()
        self._app.refresh_documents()
        if run.error and not run.cancel.is_set():  # that it was interrupted, the user knows
            self._app.notify_plain(f"indexing ended: {run.error}", is_error=True)
        elif state.bad:
            first = state.bad[0]
            reason = first.error or "; ".join(first.warnings) or first.state.value
            more = f" (and {len(state.bad) - 1} more: see Library)" if len(state.bad) > 1 else ""
            self._app.notify_plain(f"{file_name(first.path)}: {reason}{more}", is_error=True)
        self._start()

    def _show(self) -> None:
        app, state = self._app, self.state
        state.n_waiting = len(self._waiting)
        app.show_status(replace(app.status, activity=state.line() if state.is_running else ""))
        if isinstance(app.screen, LibraryScreen):
            app.screen.show_progress(state)
