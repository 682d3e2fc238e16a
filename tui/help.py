"""Help: every key, where it works."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from tui.plain import assembled

KEYS: dict[str, tuple[tuple[str, str], ...]] = {
    "Question line": (
        ("Enter", "ask"),
        ("Ctrl+J", "new line"),
        ("Up, Down", "earlier and later questions"),
        ("Escape", "stop the answer; else leave the line, so that single keys work"),
        ("paste a path", "add the file or folder"),
    ),
    "Anywhere": (
        ("Ctrl+P", "command palette: everything, by name"),
        ("F1 F2 F3 F4", "help, library, why, model"),
        ("Tab, Shift+Tab", "next and previous pane"),
        ("Ctrl+B, Ctrl+E", "show or hide the lists, the evidence"),
        ("Ctrl+O, Ctrl+T", "add a path, add the sample documents"),
        ("Ctrl+N, Ctrl+R", "new session, load the model anew"),
        ("Ctrl+Q", "quit"),
    ),
    "Conversation": (
        ("1 – 9", "open that citation of the last answer"),
        ("i or /", "back to the question line"),
        ("w", "why: candidates, scores, prompt"),
        ("l  m  a", "library, model, add"),
        ("j, k", "scroll"),
    ),
    "Evidence": (
        ("v", "passage, page, file in turn (from the conversation too)"),
        ("+ or n, -", "more and less of what stands around"),
        (", and .", "page back and on"),
        ("z", "zoom the page"),
        ("c", "back to the cited line"),
        ("o", "open the file at that page or line"),
    ),
    "Documents and sessions": (
        ("Space", "mark: questions are limited to marked documents"),
        ("u", "unmark all"),
        ("p", "pin: the whole document is in every prompt, and read once"),
        ("Enter", "open the document, resume the session"),
        ("n  e  d  x", "sessions: new (Ctrl+N anywhere), rename, delete, export"),
    ),
    "Library": (
        ("a  d  r", "add, remove, re-index"),
        ("Shift+R", "look at every added path again"),
        ("f", "watch the folder, or not any more"),
        ("x", "stop indexing; what was committed stays"),
        ("/", "filter by name or state"),
    ),
    "Signs": (
        ("✓ ◐ ✗ ⊘", "indexed, partly read, failed, quarantined"),
        ("◆ ⊤", "marked, pinned"),
        ("t s p h e q", "context bar: template, system, pinned, history, evidence, question"),
    ),
}


def help_content() -> Content:
    """Return all keys by place."""
    parts: list[str | tuple[str, str]] = []
    for title, keys in KEYS.items():
        parts.append((f"{title}\n", "bold $accent"))
        for key, what in keys:
            parts += [(f"  {key:<16}", "bold"), f"{what}\n"]
        parts.append("\n")
    return assembled(*parts)


class HelpScreen(ModalScreen[None]):
    """A scrollable page of keys."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,question_mark,f1", "dismiss", "Back"),
    ]

    def compose(self) -> ComposeResult:
        """Lay out the keys."""
        with VerticalScroll(classes="dialog help"):
            yield Static(help_content(), markup=False)
