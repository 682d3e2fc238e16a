"""The question line: Enter asks, Ctrl+J makes a new line, Up and Down go through what was asked."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import ClassVar
from urllib.parse import unquote, urlparse

from textual import events
from textual.binding import Binding, BindingType
from textual.widgets import TextArea

from docqa.sanitize import sanitize
from tui.messages import PathsDropped, QuestionAsked

MAX_HISTORY = 500
MAX_DROPPED = 100


class QuestionLine(TextArea):
    """A text area that grows with its text and remembers what was asked."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "ask", "Ask"),
        Binding("ctrl+j,alt+enter,shift+enter", "new_line", "New line", show=False),
        Binding("up", "older", "Earlier question", show=False),
        Binding("down", "newer", "Later question", show=False),
    ]

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(
            id=id,
            soft_wrap=True,
            show_line_numbers=False,
            compact=True,
            highlight_cursor_line=False,
            placeholder="Ask about your documents …",
        )
        self._history: list[str] = []
        self._at = 0
        self._draft = ""

    def remember(self, questions: list[str]) -> None:
        """Replace the history, oldest first: that of a resumed session."""
        self._history = questions[-MAX_HISTORY:]
        self._at = len(self._history)

    def action_ask(self) -> None:
        """Send the question."""
        question = self.text.strip()
        if not question:
            return
        if not self._history or self._history[-1] != question:
            self._history.append(question)
        self._history = self._history[-MAX_HISTORY:]
        self._at = len(self._history)
        self.text = ""
        self.post_message(QuestionAsked(question))

    def action_new_line(self) -> None:
        """Start a new line in the question."""
        self.insert("\n")

    def action_older(self) -> None:
        """Go up a line, and from the first line to the question before."""
        if self.cursor_location[0] > 0 or not self._history or self._at == 0:
            self.action_cursor_up()
            return
        if self._at == len(self._history):
            self._draft = self.text
        self._show(self._at - 1)

    def action_newer(self) -> None:
        """Go down a line, and from the last line to the question after."""
        is_last_line = self.cursor_location[0] >= self.document.line_count - 1
        if not is_last_line or self._at >= len(self._history):
            self.action_cursor_down()
            return
        self._show(self._at + 1)

    def _show(self, at: int) -> None:
        self._at = at
        self.text = self._history[at] if at < len(self._history) else self._draft
        self.move_cursor(self.document.end)

    async def _on_key(self, event: events.Key) -> None:
        """Take Enter before the text area does, in the order of typing.

        A priority binding would overtake the letters that were typed just before.
        """
        if event.key in ("enter", "ctrl+j", "alt+enter", "shift+enter"):
            event.stop()
            event.prevent_default()
            if event.key == "enter":
                self.action_ask()
            else:
                self.action_new_line()

    async def _on_paste(self, event: events.Paste) -> None:
        event.stop()
        event.prevent_default()
        paths = dropped_paths(event.text)
        if paths:
            self.post_message(PathsDropped(paths))
            return
        self.insert(sanitize(event.text.replace("\r\n", "\n").replace("\r", "\n")))


def dropped_paths(text: str) -> tuple[Path, ...]:
    """Return the paths that a terminal pastes when files are dropped on it; empty if it is text.

    Terminals paste them quoted, escaped, as `file://` links, one a line or separated by spaces.
    Only existing absolute paths count, and all of them must be: a question may begin with `/`.
    """
    text = text.strip()
    if not text or len(text) > 100_000 or not text.startswith(("/", "~", "'", '"', "file:")):
        return ()
    for words in (text.splitlines(), _split(text)):
        paths = [_path(word) for word in words if word.strip()]
        if paths and len(paths) <= MAX_DROPPED and all(path is not None for path in paths):
            return tuple(path for path in paths if path is not None)
    return ()


def _split(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:
        return []


def _path(word: str) -> Path | None:
    word = word.strip().strip("'\"")
    if word.startswith("file://"):
        word = unquote(urlparse(word).path)
    try:
        path = Path(word).expanduser()
        return path if path.is_absolute() and path.exists() else None
    except (OSError, ValueError, RuntimeError):
        return None
