"""Which session is open, and what the user does with sessions. Used on the UI's thread."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from docqa.types import Answer
from tui.dialogs import ConfirmScreen, NameScreen
from tui.sessions import SessionKeeper, export, title_of, turns_of

if TYPE_CHECKING:
    from tui.app import DocqaApp


class Conversation:
    """The open session. It begins with its first answer."""

    def __init__(self, app: DocqaApp, keeper: SessionKeeper) -> None:
        self._app = app
        self._keeper = keeper
        self.open_id: str | None = None

    def show(self) -> None:
        """Show the list."""
        self._app.main.show_sessions(self._keeper.rows(), self.open_id)

    def keep(self, answer: Answer) -> None:
        """Keep an answer in the open session."""
        if self.open_id is None:
            self.open_id = self._keeper.begin(title_of(answer.question))
        self._keeper.append(self.open_id, answer)
        self.show()

    def do(self, what: str, session_id: str | None) -> None:
        """Do what was asked for in the list."""
        if what == "new":
            self.new()
        elif session_id is not None:
            actions = {
                "resume": self.resume,
                "rename": self._rename,
                "delete": self._delete,
                "export": self._export,
            }
            actions[what](session_id)

    def new(self) -> None:
        """Begin an empty session."""
        self._app.answering.stop()
        self.open_id = None
        self._app.main.show_turns([])
        self.show()

    def resume(self, session_id: str) -> None:
        """Show a session; further questions go on with it."""
        self._app.answering.stop()
        self.open_id = session_id
        self._app.main.show_turns(turns_of(self._keeper.answers(session_id)))
        self.show()

    def _title(self, session_id: str) -> str:
        return next(r.title for r in self._keeper.rows() if r.session_id == session_id)

    def _rename(self, session_id: str) -> None:
        def rename(title: str | None) -> None:
            if title:
                self._keeper.rename(session_id, title)
                self.show()

        self._app.push_screen(NameScreen("Rename the session", self._title(session_id)), rename)

    def _delete(self, session_id: str) -> None:
        def delete(is_sure: bool | None) -> None:
            if is_sure:
                self._keeper.delete(session_id)
                if session_id == self.open_id:
                    self.new()
                self.show()

        question = f"Delete the session “{self._title(session_id)}” and its answers?"
        self._app.push_screen(ConfirmScreen(question), delete)

    def _export(self, session_id: str) -> None:
        def write(name: str | None) -> None:
            if not name:
                return
            path = Path(name).expanduser().absolute()
            try:
                export(path, self._title(session_id), self._keeper.answers(session_id))
                self._app.notify_plain(f"written to {path}")
            except OSError as error:
                self._app.notify_plain(f"{path}: {error.strerror}", is_error=True)

        prompt = "Export to a new file: .md, or .json"
        self._app.push_screen(NameScreen(prompt, f"~/docqa-session-{session_id}.md"), write)
