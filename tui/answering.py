"""One answer at a time: asked in a thread, shown a batch a frame, stopped at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from docqa.events import AskEvent
from docqa.workspace import AskOptions
from tui.feed import EventRun
from tui.messages import ModelFailed
from tui.plain import file_name
from tui.turns import Phase, Turn

if TYPE_CHECKING:
    from tui.app import DocqaApp


class Answering:
    """The answer that is being made. Used on the UI's thread; `lock` is held while one is made."""

    def __init__(self, app: DocqaApp) -> None:
        self._app = app
        self._run: EventRun[AskEvent] | None = None
        self._turn: Turn | None = None
        self._title = ""  # of its session
        self.lock = threading.Lock()  # a stopped answer may take a moment to let go of the model

    @property
    def is_running(self) -> bool:
        """Whether an answer is being made."""
        return self._run is not None

    def ask(self, question: str) -> None:
        """Ask; a question that is still being answered is stopped."""
        self.stop()
        app = self._app
        marked = app.main.marked_documents()
        turn = Turn(question, scope=tuple(file_name(d.path) for d in marked))
        self._title = app.conversation.title_for(question)
        options = AskOptions(
            paths=tuple(Path(d.path) for d in marked),
            session=self._title,
            pins=app.conversation.pins,
        )

        def events(cancel: threading.Event) -> Iterator[AskEvent]:
            with self.lock:
                if not cancel.is_set():
                    yield from app.workspace.ask(question, options, cancel=cancel)

        self._turn, self._run = turn, EventRun(app, events)
        app.main.begin_turn(turn)
        self._run.start("asking")

    def cancel(self) -> None:
        """Tell the thread to stop, and show nothing more: the app is closing."""
        if self._run is not None:
            self._run.cancel.set()

    def wait(self, timeout_s: float = 5.0) -> None:
        """Wait until the thread has let go of the library and the model; not on the UI's thread."""
        if self.lock.acquire(timeout=timeout_s):
            self.lock.release()

    def stop(self) -> bool:
        """Stop the answer; what was written stays. Return whether there was one to come."""
        if self._run is None or self._turn is None:
            return False
        self._run.cancel.set()
        self._take_events()
        turn, self._run, self._turn = self._turn, None, None
        was_open = turn.is_open  # else only the session's KV was still being saved
        turn.stop()
        self._app.main.refresh_turn(turn)
        return was_open

    def progressed(self, run: EventRun[object]) -> None:
        """Fetch the events a frame later, all that came until then."""
        if run is self._run:
            self._app.pacing.soon(self._take_events)

    def ended(self, run: EventRun[object]) -> None:
        """Show the end: the answer, or the error as an error."""
        if run is not self._run:
            return
        self._take_events()
        turn, self._run, self._turn = self._turn, None, None
        assert turn is not None
        if run.error is not None:
            turn.fail(run.error, run.detail)
            if run.is_model_error:
                self._app.post_message(ModelFailed(run.error))
        elif turn.phase is not Phase.DONE:
            turn.stop()
        self._app.main.refresh_turn(turn)
        self._app.tidying.answered()

    def _take_events(self) -> None:
        if self._run is None or self._turn is None or not self._app.main.is_laid_out:
            return
        turn, app = self._turn, self._app
        was_open = turn.answer is None
        for event in self._run.drain():
            turn.apply(event)
        if was_open and turn.answer is not None:
            app.conversation.kept(self._title)
        status = app.status
        if turn.prompt is not None:
            status = status.with_prompt(turn.prompt)
        if turn.answer is not None:
            status = status.with_answer(turn.answer)
        app.show_status(status)
        app.main.refresh_turn(turn)
