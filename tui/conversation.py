"""Which session is open, and what the user does with sessions and pins.

The database is read and written in threads; what comes back is shown on the UI's thread.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from docqa.errors import DocqaError
from docqa.types import Answer
from tui.dialogs import ConfirmScreen, NameScreen
from tui.messages import WorkDone
from tui.plain import file_name
from tui.sessions import SessionKeeper, SessionRow, turns_of

if TYPE_CHECKING:
    from tui.app import DocqaApp

T = TypeVar("T")


class Conversation:
    """The open session. It begins with its first answer. Used on the UI's thread."""

    def __init__(self, app: DocqaApp, keeper: SessionKeeper) -> None:
        self._app = app
        self._keeper = keeper
        self.title: str | None = None  # of the open session; None: it has no answer yet
        self.pins: tuple[Path, ...] = ()  # of the open session, in the order they were pinned

    def title_for(self, question: str) -> str:
        """Return the session that a question belongs to."""
        return self.title or self._keeper.fresh_title(question)

    def kept(self, title: str) -> None:
        """Note that an answer was kept in a session: it is the open one now."""
        self.title = title
        self.show()

    def show(self) -> None:
        """Show the list as it is now."""

        def show(rows: Sequence[SessionRow]) -> None:
            self._app.pacing.gently(partial(self._show_rows, rows))

        self._in_thread(self._keeper.rows, show)

    def _show_rows(self, rows: Sequence[SessionRow]) -> None:
        if self._app.main.is_laid_out:
            self._app.main.show_sessions(rows, self.title)

    def _in_thread(self, work: Callable[[], T], then: Callable[[T], None]) -> None:
        """Do `work` in a thread, then `then` with what it returned; an error is shown."""

        def run() -> None:
            try:
                found = work()
            except DocqaError as error:
                self._app.post_message(WorkDone(partial(self._tell, str(error))))
            except OSError as error:
                told = f"{error.filename}: {error.strerror}"
                self._app.post_message(WorkDone(partial(self._tell, told)))
            else:
                self._app.post_message(WorkDone(lambda: then(found)))

        self._app.run_worker(run, thread=True, group="sessions", exit_on_error=False)

    def _tell(self, error: str) -> None:
        self._app.notify_plain(error, is_error=True)

    def do(self, what: str, title: str | None) -> None:
        """Do what was asked for in the list."""
        if what == "new":
            self.new()
        elif title is not None:
            actions = {
                "resume": self.resume,
                "rename": self._rename,
                "delete": self._delete,
                "export": self._export,
            }
            actions[what](title)

    def new(self) -> None:
        """Begin an empty session."""
        self._app.answering.stop()
        self.title = None
        self._set_pins(())
        self._app.main.show_turns([])
        self.show()

    def resume(self, title: str) -> None:
        """Show a session; further questions go on with it."""
        self._app.answering.stop()

        def read() -> tuple[list[Answer], list[Path]]:
            return self._keeper.answers(title), self._keeper.pinned(title)

        def show(found: tuple[list[Answer], list[Path]]) -> None:
            answers, pins = found
            self.title = title
            self._app.main.show_turns(turns_of(answers))
            self._set_pins(pins)
            self.show()

        self._in_thread(read, show)

    def documents_removed(self) -> None:
        """Show the open session without what it held of documents that are gone."""
        if self.title is not None and not self._app.answering.is_running:
            self.resume(self.title)

    def keep_pins(self, paths: frozenset[str]) -> None:
        """Pin only documents that are in the library, at `paths`."""
        kept = tuple(pin for pin in self.pins if str(pin) in paths)
        if kept != self.pins:
            self._set_pins(kept)

    def toggle_pin(self, path: Path) -> None:
        """Pin a document in the open session, or not any more.

        A pinned document stands whole in the prompt of every question that follows.
        """
        if path not in self.pins:
            self._set_pins((*self.pins, path))
            self._app.notify_plain(f"{file_name(str(path))} is pinned: read whole, and kept")
            return
        self._set_pins(tuple(pin for pin in self.pins if pin != path))
        title = self.title
        if title is not None:
            self._in_thread(lambda: self._keeper.unpin(title, path), lambda _: None)

    def _set_pins(self, pins: Sequence[Path]) -> None:
        self.pins = tuple(pins)
        self._app.show_pins(frozenset(str(pin) for pin in pins))

    def _rename(self, title: str) -> None:
        def renamed(new_title: str) -> None:
            if self.title == title:
                self.title = new_title
            self.show()

        def rename(wanted: str | None) -> None:
            if wanted:
                self._in_thread(lambda: self._keeper.rename(title, wanted), renamed)

        self._app.push_screen(NameScreen("Rename the session", title), rename)

    def _delete(self, title: str) -> None:
        def deleted(_: None) -> None:
            if title == self.title:
                self.new()
            self.show()

        def delete(is_sure: bool | None) -> None:
            if is_sure:
                if title == self.title:
                    self._app.answering.stop()
                self._in_thread(lambda: self._keeper.delete(title), deleted)

        question = f"Delete the session “{title}” and its answers?"
        self._app.push_screen(ConfirmScreen(question), delete)

    def _export(self, title: str) -> None:
        def export(name: str | None) -> None:
            if not name:
                return
            path = Path(name).expanduser().absolute()
            self._in_thread(
                lambda: self._keeper.export(title, path),
                lambda _: self._app.notify_plain(f"written to {path}"),
            )

        prompt = "Export to a new file: .md, or .json"
        self._app.push_screen(NameScreen(prompt, "~/docqa-session.md"), export)
