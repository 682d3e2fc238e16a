"""The sessions in the side list: new, resume, rename, delete, export."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from tui.plain import assembled, plain
from tui.sessions import SessionRow


class SessionAsked(Message):
    """The user wants something done: `new`, `resume`, `rename`, `delete`, `export`."""

    def __init__(self, what: str, title: str | None) -> None:
        self.what, self.title = what, title
        super().__init__()


class SessionsPanel(OptionList):
    """One line a session; the one that is open has a dot."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("n", "ask('new')", "New"),
        Binding("e", "ask('rename')", "Rename"),
        Binding("d,delete", "ask('delete')", "Delete"),
        Binding("x", "ask('export')", "Export"),
    ]

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id, markup=False, compact=True)
        self._rows: list[SessionRow] = []

    def on_mount(self) -> None:
        """Name the panel."""
        self.border_title = Content("Sessions")
        self.show([], None)

    def show(self, rows: Sequence[SessionRow], open_title: str | None) -> None:
        """Show these sessions."""
        self._rows = list(rows)
        options = [
            Option(
                assembled(
                    ("● " if row.title == open_title else "  ", "bold $accent"),
                    " ".join(row.title.split()),
                    (f"  {row.n_turns}", "$text-muted"),
                )
            )
            for row in rows
        ]
        self.set_options(options or [Option(plain("none yet", "$text-muted"), disabled=True)])
        if rows:
            open_at = [i for i, row in enumerate(rows) if row.title == open_title]
            self.highlighted = open_at[0] if open_at else 0

    def action_ask(self, what: str) -> None:
        """Ask for something to be done with the session under the cursor."""
        at = self.highlighted
        row = self._rows[at] if self._rows and at is not None else None
        if row is not None or what == "new":
            self.post_message(SessionAsked(what, row.title if row else None))

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Resume the session that was chosen."""
        event.stop()
        self.action_ask("resume")
