"""The Textual app over a Workspace: `docqa` with no arguments, or `docqa tui [PATH…]`.

The app owns what runs in threads (one answer, one indexing) and the state that screens share.
Threads post messages; only handlers touch widgets.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

from textual import on
from textual.app import App
from textual.binding import Binding, BindingType
from textual.screen import Screen

from docqa.config import Config
from docqa.events import AskEvent, SyncEvent
from docqa.sanitize import sanitize
from docqa.workspace import AskOptions, Workspace
from tui.feed import FRAME_S, EventRun, RunEnded, RunProgressed
from tui.main_screen import MainScreen
from tui.messages import MainReady, PathsDropped, QuestionAsked
from tui.plain import EdgeFilter, file_name
from tui.status import Status
from tui.sync_state import SyncState
from tui.turns import Phase, Turn


class DocqaApp(App[int]):
    """Ask, see the evidence, keep the library."""

    TITLE = "docqa"
    CSS_PATH = "app.tcss"
    HORIZONTAL_BREAKPOINTS = [  # noqa: RUF012 (Textual's own declaration)
        (0, "-narrow"),
        (110, "-middle"),
        (150, "-wide"),
        (220, "-huge"),
    ]
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+q", "quit", "Quit", show=False, priority=True),
        Binding("s", "add_samples", "Sample documents", show=False),
    ]

    def __init__(self, workspace: Workspace, paths: Sequence[Path] = ()) -> None:
        super().__init__()
        self._filters.append(EdgeFilter())
        self.workspace = workspace
        self.status = Status(workspace.config.model.path)
        self.sync_state = SyncState()
        self._paths = tuple(paths)
        self._to_sync: list[Path] = []
        self._ask: EventRun[AskEvent] | None = None
        self._turn: Turn | None = None
        self._sync: EventRun[SyncEvent] | None = None
        self._asking = threading.Lock()  # one question at a time reaches the model
        self.main = MainScreen(workspace, self.status)

    def get_default_screen(self) -> Screen[None]:
        """Return the main screen."""
        return self.main

    @on(MainReady)
    def _begin(self) -> None:
        """Show the library, and index what was given."""
        self.refresh_documents()
        if self._paths:
            self.add_paths(self._paths)

    def notify_plain(self, text: str, *, is_error: bool = False) -> None:
        """Show a notification: sanitised, never markup."""
        severity = "error" if is_error else "information"
        self.notify(sanitize(text), severity=severity, markup=False)  # type: ignore[arg-type]

    # Documents

    def refresh_documents(self) -> None:
        """Read the list of documents in a thread and show it."""
        self.run_worker(
            self._read_documents,
            thread=True,
            exclusive=True,
            group="documents",
            exit_on_error=False,
        )

    def _read_documents(self) -> None:
        documents = self.workspace.documents()
        self.call_from_thread(self.main.show_documents, documents)

    @on(PathsDropped)
    def _on_paths_dropped(self, message: PathsDropped) -> None:
        self.add_paths(message.paths)

    def add_paths(self, paths: Sequence[Path]) -> None:
        """Index files and folders; behind what is being indexed where something is."""
        self._to_sync += [p for p in paths if p not in self._to_sync]
        if self._sync is None:
            self._start_sync()

    def _start_sync(self) -> None:
        paths, self._to_sync = self._to_sync, []
        if not paths:
            return

        def events(cancel: threading.Event) -> Iterator[SyncEvent]:
            return self.workspace.sync(paths, cancel=cancel)

        self.sync_state = SyncState(is_running=True)
        self._sync = EventRun(self, events)
        self.run_worker(self._sync.run, thread=True, group="sync", exit_on_error=False)
        self._show_activity()

    def stop_sync(self) -> None:
        """Stop indexing; what was committed stays."""
        if self._sync is not None:
            self.sync_state.is_stopping = True
            self._sync.cancel.set()
            self._show_activity()

    def _take_sync_events(self) -> None:
        if self._sync is None:
            return
        events = self._sync.drain()
        n_done = self.sync_state.n_done
        for event in events:
            self.sync_state.apply(event)
        if self.sync_state.n_done != n_done:
            self.refresh_documents()
        self._show_activity()

    def _end_sync(self, run: EventRun[SyncEvent]) -> None:
        self._take_sync_events()
        state = self.sync_state
        self._sync = None
        state.is_running = False
        state.error = run.error
        self._show_activity()
        self.refresh_documents()
        if run.error:
            self.notify_plain(f"indexing stopped: {run.error}", is_error=True)
        elif state.bad:
            first = state.bad[0]
            reason = first.error or "; ".join(first.warnings) or first.state.value
            more = f" (and {len(state.bad) - 1} more: see Library)" if len(state.bad) > 1 else ""
            self.notify_plain(f"{file_name(first.path)}: {reason}{more}", is_error=True)
        self._start_sync()

    def _show_activity(self) -> None:
        from dataclasses import replace

        state = self.sync_state
        self.status = replace(self.status, activity=state.line() if state.is_running else "")
        self.main.show_status(self.status)

    # Questions

    @on(QuestionAsked)
    def _on_question_asked(self, message: QuestionAsked) -> None:
        self.stop_answer()
        marked = self.main.marked_documents()
        turn = Turn(message.question, scope=tuple(file_name(d.path) for d in marked))
        options = AskOptions(paths=tuple(Path(d.path) for d in marked))

        def events(cancel: threading.Event) -> Iterator[AskEvent]:
            with self._asking:
                yield from self.workspace.ask(message.question, options, cancel=cancel)

        self._turn = turn
        self._ask = EventRun(self, events)
        self.main.begin_turn(turn)
        self.run_worker(self._ask.run, thread=True, group="ask", exit_on_error=False)

    def stop_answer(self) -> bool:
        """Stop the answer that is being made; return whether there was one."""
        if self._ask is None or self._turn is None:
            return False
        self._ask.cancel.set()
        self._take_answer_events()
        turn, self._ask, self._turn = self._turn, None, None
        turn.stop()
        self.main.refresh_turn(turn)
        return True

    def _take_answer_events(self) -> None:
        if self._ask is None or self._turn is None:
            return
        for event in self._ask.drain():
            self._turn.apply(event)
        turn = self._turn
        if turn.prompt is not None and turn.answer is None:
            self.status = self.status.with_prompt(turn.prompt)
        if turn.answer is not None:
            self.status = self.status.with_answer(turn.answer)
        self.main.show_status(self.status)
        self.main.refresh_turn(turn)

    def _end_answer(self, run: EventRun[AskEvent]) -> None:
        self._take_answer_events()
        turn, self._ask, self._turn = self._turn, None, None
        assert turn is not None
        if run.error is not None:
            turn.fail(run.error, run.detail)
        elif turn.phase is not Phase.DONE:
            turn.stop()
        self.main.refresh_turn(turn)

    # Threads

    @on(RunProgressed)
    def _on_run_progressed(self, message: RunProgressed) -> None:
        if message.run is self._ask:
            self.set_timer(FRAME_S, self._take_answer_events)
        elif message.run is self._sync:
            self.set_timer(FRAME_S, self._take_sync_events)

    @on(RunEnded)
    def _on_run_ended(self, message: RunEnded) -> None:
        if message.run is self._ask and self._ask is not None:
            self._end_answer(self._ask)
        elif message.run is self._sync and self._sync is not None:
            self._end_sync(self._sync)

    async def action_quit(self) -> None:
        """Stop what runs and leave; what was committed is there on reopening."""
        for run in (self._ask, self._sync):
            if run is not None:
                run.cancel.set()
        self.exit(0)

    def action_add_samples(self) -> None:
        """Add the sample documents."""
        from tui.welcome import sample_paths

        paths = sample_paths()
        if paths:
            self.add_paths(paths)
        else:
            self.notify_plain("the sample documents are in the source tree only", is_error=True)


def run_app(config: Config, paths: Sequence[Path] = ()) -> int:
    """Run the app until the user leaves; return the exit code.

    Raises:
        DocqaError: the library cannot be opened.
    """
    from docqa.wiring import build

    with build(config) as workspace:
        return DocqaApp(workspace, paths).run() or 0
