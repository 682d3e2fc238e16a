"""Small modal screens: a path to add, a yes or no, a name."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.suggester import Suggester
from textual.widgets import Input, Static

from docqa.sanitize import sanitize_line
from tui.plain import assembled, plain
from tui.question import dropped_paths

MAX_LISTED = 8


def path_completions(value: str) -> list[str]:
    """Return the paths that begin with `value`, folders with a slash, as the user writes them."""
    folder, _, start = value.rpartition("/")
    base = Path(f"{folder}/" if folder or value.startswith("/") else ".").expanduser()
    try:
        with os.scandir(base) as entries:
            names = sorted(
                entry.name + ("/" if entry.is_dir() else "")
                for entry in entries
                if entry.name.startswith(start) and (start or not entry.name.startswith("."))
            )
    except OSError:
        return []
    stem = f"{folder}/" if folder or value.startswith("/") else ""
    return [stem + name for name in names]


def _last_part(path: str) -> str:
    """Return the name, a folder's with its slash: what stands before it is in the input."""
    return path[path.rstrip("/").rfind("/") + 1 :]


class PathSuggester(Suggester):
    """Suggests the first path that begins with what was typed."""

    def __init__(self) -> None:
        super().__init__(use_cache=False, case_sensitive=True)

    async def get_suggestion(self, value: str) -> str | None:
        """Return a longer path, or None."""
        if not value:
            return None
        found = await asyncio.to_thread(path_completions, value)
        return found[0] if found else None


class PathInput(Input):
    """An input for paths: Tab completes, pasted or dropped paths are taken at once."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("tab", "complete", "Complete", priority=True),
    ]

    def action_complete(self) -> None:
        """Complete to what all paths that begin so have in common."""
        found = path_completions(self.value)
        common = os.path.commonprefix(found)  # noqa: RUF071 (characters are what is typed)
        if len(common) > len(self.value):
            self.value = common
            self.cursor_position = len(common)

    def _on_paste(self, event: events.Paste) -> None:
        event.stop()
        event.prevent_default()
        paths = dropped_paths(event.text)
        text = str(paths[0]) if len(paths) == 1 else event.text.strip().split("\n")[0]
        if len(paths) > 1 and isinstance(self.screen, AddScreen):
            self.screen.dismiss(list(paths))
            return
        self.insert_text_at_cursor(sanitize_line(text) if not paths else text)


class AddScreen(ModalScreen[list[Path] | None]):
    """Asks for a file or folder to add."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss(None)", "Cancel")]

    def compose(self) -> ComposeResult:
        """Lay out the input and what could follow."""
        with Vertical(classes="dialog"):
            yield Static(plain("Add a file or folder to the library", "bold"), markup=False)
            yield PathInput(placeholder="path, Tab completes", suggester=PathSuggester(), id="path")
            yield Static(markup=False, id="completions")
            yield Static(
                plain("Enter adds · Escape cancels · dropped paths are added", "$text-muted"),
                markup=False,
            )

    @on(Input.Changed)
    async def _list_completions(self, event: Input.Changed) -> None:
        found = await asyncio.to_thread(path_completions, event.value) if event.value else []
        lines = [sanitize_line(_last_part(path)) for path in found[:MAX_LISTED]]
        if len(found) > MAX_LISTED:
            lines.append(f"… and {len(found) - MAX_LISTED} more")
        self.query_one("#completions", Static).update(plain("\n".join(lines), "$text-muted"))

    @on(Input.Submitted)
    def _add(self, event: Input.Submitted) -> None:
        path = Path(event.value.strip()).expanduser()
        if not event.value.strip() or not path.exists():
            problem = f"{sanitize_line(event.value)}: no such file or folder"
            self.query_one("#completions", Static).update(plain(problem, "$text-error"))
            return
        self.dismiss([path.absolute()])


class ConfirmScreen(ModalScreen[bool]):
    """Asks yes or no; no is the default."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "dismiss(True)", "Yes"),
        Binding("n,escape,enter", "dismiss(False)", "No"),
    ]

    def __init__(self, question: str) -> None:
        super().__init__()
        self._question = question

    def compose(self) -> ComposeResult:
        """Lay out the question."""
        with Vertical(classes="dialog"):
            yield Static(plain(self._question), markup=False)
            yield Static(
                assembled(("y", "bold $accent"), " yes   ", ("n", "bold $accent"), " no"),
                markup=False,
            )


class NameScreen(ModalScreen[str | None]):
    """Asks for a line of text."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss(None)", "Cancel")]

    def __init__(self, prompt: str, value: str = "") -> None:
        super().__init__()
        self._prompt, self._value = prompt, sanitize_line(value)

    def compose(self) -> ComposeResult:
        """Lay out the input."""
        with Vertical(classes="dialog"):
            yield Static(plain(self._prompt, "bold"), markup=False)
            yield Input(self._value, id="name")

    @on(Input.Submitted)
    def _take(self, event: Input.Submitted) -> None:
        self.dismiss(sanitize_line(event.value.strip()) or None)
