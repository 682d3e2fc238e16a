"""The documents of the library in the side list: state, mark, pin; live while it indexes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from docqa.types import Document, State
from tui.messages import DocumentChosen, PinAsked, ScopeChanged
from tui.plain import assembled, file_name, middle_cut, plain

SIGNS = {
    State.INDEXED: ("✓", "$text-success"),
    State.UNCHANGED: ("✓", "$text-success"),
    State.PARTIAL: ("◐", "$text-warning"),
    State.FAILED: ("✗", "$text-error"),
    State.QUARANTINED: ("⊘", "$text-error"),
    State.REMOVED: ("-", "$text-muted"),
}
"""State → (sign, style). The sign alone says the state."""
MAX_SHOWN = 200  # more are in the library screen: each costs time whenever the list changes
PIN = "⊤"  # a document that stands whole in every prompt of the session


class DocumentsPanel(OptionList):
    """One line a document. Space marks: questions are limited to marked documents."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "mark", "Mark"),
        Binding("p", "pin", "Pin"),
        Binding("u", "unmark_all", "Unmark all", show=False),
    ]

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id, markup=False, compact=True)
        self.documents: list[Document] = []
        self.marked: set[int] = set()
        self._pinned: frozenset[str] = frozenset()  # paths

    def on_mount(self) -> None:
        """Name the panel."""
        self.border_title = Content("Documents")

    def show(self, documents: Sequence[Document]) -> None:
        """Show these documents; marks on those that are gone are dropped.

        A document that was read again has another id: it is known by its path.
        """
        if list(documents) == self.documents and self.option_count:
            return
        before = {d.path for d in self.documents if d.doc_id in self.marked}
        self.documents = list(documents)
        self.marked.clear()
        self.marked.update(d.doc_id for d in documents if d.path in before)
        self._fill()
        if len(self.marked) < len(before):
            self.post_message(ScopeChanged(frozenset(self.marked)))

    def _fill(self) -> None:
        at = self.highlighted
        shown = self.documents[:MAX_SHOWN]
        options = [Option(self._line(d), id=str(d.doc_id)) for d in shown]
        n_more = len(self.documents) - len(shown)
        if n_more:
            options.append(Option(plain(f"… {n_more:,} more: l, the library"), disabled=True))
        self.set_options(options or [Option(Content("empty: press a to add"), disabled=True)])
        if self.documents:
            self.highlighted = min(at or 0, len(shown) - 1)
        n = f"{len(self.documents)}" + (f", {len(self.marked)} marked" if self.marked else "")
        self.border_subtitle = Content(n)

    def _line(self, document: Document) -> Content:
        sign, style = SIGNS[document.state]
        mark = ("◆" if document.doc_id in self.marked else " ") + (
            PIN if document.path in self._pinned else ""
        )
        size = f" {document.n_pages} p" if document.n_pages else ""
        size = size or (f" {document.n_lines:,} l" if document.n_lines else "")
        room = max(12, self.scrollable_content_region.width - len(mark) - len(size) - 3)
        return assembled(
            (mark, "bold $accent"),
            (sign + " ", style),
            middle_cut(file_name(document.path), room),
            (size, "$text-muted"),
        )

    def action_mark(self) -> None:
        """Mark or unmark the document under the cursor."""
        if self.highlighted is None or not self.documents:
            return
        self.marked ^= {self.documents[self.highlighted].doc_id}
        self._changed()

    def action_unmark_all(self) -> None:
        """Ask all documents again."""
        self.marked.clear()
        self._changed()

    def on_resize(self) -> None:
        """Cut the names to the room that there is now."""
        if self.documents:
            self._fill()

    def show_marks(self, doc_ids: frozenset[int]) -> None:
        """Mark these documents and no others."""
        if doc_ids != self.marked:
            self.marked.intersection_update(doc_ids)
            self.marked.update(doc_ids)
        self._fill()

    def action_pin(self) -> None:
        """Pin the document under the cursor in the session, or not any more."""
        if self.highlighted is not None and self.documents:
            document = self.documents[self.highlighted]
            self.post_message(PinAsked(Path(document.path)))

    def show_pins(self, paths: frozenset[str]) -> None:
        """Show which documents are pinned."""
        self._pinned = paths
        self._fill()

    def _changed(self) -> None:
        self._fill()
        self.post_message(ScopeChanged(frozenset(self.marked)))

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Open the document that was chosen."""
        event.stop()
        if event.option_id is not None:
            self.post_message(DocumentChosen(int(event.option_id)))
