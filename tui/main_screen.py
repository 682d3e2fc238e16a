"""The main screen: side lists, transcript and question line, evidence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.screen import Screen
from textual.timer import Timer
from textual.widgets import Static

from docqa.parse.render import PageRenderer
from docqa.types import Document
from docqa.workspace import Workspace
from tui.documents_panel import DocumentsPanel
from tui.evidence import EvidencePane
from tui.key_hints import KeyHints
from tui.messages import (
    DocumentChosen,
    MainReady,
    PlaceChosen,
    TurnChosen,
)
from tui.page_view import Graphics
from tui.plain import assembled, counted, file_name, plain
from tui.question import QuestionLine
from tui.sessions import SessionRow
from tui.sessions_panel import SessionsPanel
from tui.status import Status, StatusLine
from tui.transcript import Transcript
from tui.turns import Turn
from tui.welcome import welcome_content

PAINT_S = 1 / 120  # between two looks at what is to be painted


class MainScreen(Screen[None]):
    """Questions and answers. What runs in threads is the app's; this shows it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Stop / back"),
        Binding("i,slash", "focus_question", "Question", show=False),
        Binding("w,f3", "app.why", "Why"),
        Binding("l,f2", "app.library", "Library"),
        Binding("m,f4", "app.model", "Model"),
        Binding("a", "app.add", "Add"),
        Binding("v", "next_view", "Passage, page, file", show=False),
        Binding("ctrl+b", "toggle_side", "Lists", show=False),
        Binding("ctrl+e", "toggle_evidence", "Evidence", show=False),
        Binding("question_mark,f1", "app.help", "Help"),
    ]

    def __init__(
        self, workspace: Workspace, status: Status, renderer: PageRenderer, graphics: Graphics
    ) -> None:
        super().__init__()
        self._workspace = workspace
        self._renderer, self._graphics = renderer, graphics
        self._status_line = StatusLine(status, id="status")
        self._transcript = Transcript(id="transcript")
        self._paint_timer: Timer | None = None
        self.turns: list[Turn] = []
        self.chosen: Turn | None = None

    @property
    def _update_timer(self) -> Timer:
        # Textual's own beats 60 times a second and, after a paint that took longer than a beat,
        # misses one more: a key then waited up to 33 ms for nothing.
        if self._paint_timer is None:
            self._paint_timer = self.set_interval(
                PAINT_S, self._on_timer_update, name="screen_update", pause=True
            )
        return self._paint_timer

    def compose(self) -> ComposeResult:
        """Lay out the panes."""
        yield Static(markup=False, id="top")
        yield Static(markup=False, id="banner")
        with Horizontal(id="panes"):
            with Vertical(id="side"):
                yield SessionsPanel(id="sessions")
                yield DocumentsPanel(id="documents")
            with Vertical(id="conversation"):
                yield Static(markup=False, id="welcome")
                yield self._transcript
                yield QuestionLine(id="question")
            yield EvidencePane(self._workspace, self._renderer, self._graphics, id="evidence")
        yield self._status_line
        yield KeyHints()

    def on_mount(self) -> None:
        """Begin in the question line."""
        self.query_one("#conversation").border_title = Content("Conversation")
        self.query_one(QuestionLine).focus()
        self.post_message(MainReady())

    # What the app tells

    @property
    def is_laid_out(self) -> bool:
        """Whether the panes are there: not before the first paint, nor while the app closes."""
        return self.is_mounted and self._status_line.is_attached and self._transcript.is_attached

    def show_documents(self, documents: list[Document]) -> None:
        """Show the documents of the library."""
        self.query_one(DocumentsPanel).show(documents)
        n_chunks = sum(d.n_chunks for d in documents)
        self.query_one("#top", Static).update(
            assembled(
                (" docqa ", "bold $background on $primary"),
                f"  {counted(len(documents), 'document')}, {counted(n_chunks, 'passage')}",
                (f"  {self._workspace.config.library.dir}", "$text-muted"),
            )
        )
        welcome = self.query_one("#welcome", Static)
        welcome.display = not self.turns
        welcome.update(welcome_content(documents))

    def show_banner(self, text: str) -> None:
        """Show what is wrong with the engine across the screen; nothing: hide it."""
        banner = self.query_one("#banner", Static)
        banner.display = bool(text)
        banner.update(plain(text))

    def show_status(self, status: Status) -> None:
        """Show another status."""
        self._status_line.show(status)

    def show_sessions(self, rows: Sequence[SessionRow], open_title: str | None) -> None:
        """Show the sessions and which is open."""
        self.query_one(SessionsPanel).show(rows, open_title)

    def begin_turn(self, turn: Turn) -> None:
        """Show a question that is being asked."""
        self.turns.append(turn)
        self.chosen = turn
        self.query_one("#welcome").display = False
        self._transcript.add(turn)

    def show_turns(self, turns: list[Turn]) -> None:
        """Show another session."""
        self.turns = list(turns)
        self.chosen = turns[-1] if turns else None
        self.query_one("#welcome").display = not turns
        self._transcript.replace(turns)
        self.query_one(QuestionLine).remember([t.question for t in turns])

    def refresh_turn(self, turn: Turn) -> None:
        """Show what is new of a turn."""
        self._transcript.refresh_turn(turn)

    # What the user does

    @on(PlaceChosen)
    def _show_place(self, message: PlaceChosen) -> None:
        self.add_class("-evidence")
        pane = self.query_one(EvidencePane)
        pane.show(message.place)
        if self.has_class("-narrow"):
            self.call_after_refresh(pane.focus_content)  # the conversation is behind it

    @on(TurnChosen)
    def _choose_turn(self, message: TurnChosen) -> None:
        self.chosen = message.turn

    @on(DocumentChosen)
    def _open_document(self, message: DocumentChosen) -> None:
        from tui.evidence import whole_document

        document = next(
            (d for d in self.query_one(DocumentsPanel).documents if d.doc_id == message.doc_id),
            None,
        )
        if document is not None:
            self._show_place(PlaceChosen(whole_document(document.path, document.kind)))

    @property
    def marked(self) -> set[int]:
        """The ids of the documents that questions are limited to; empty: all."""
        return self.query_one(DocumentsPanel).marked

    def show_marks(self, doc_ids: frozenset[int]) -> None:
        """Show which documents questions are limited to."""
        self.query_one(DocumentsPanel).show_marks(doc_ids)
        names = [file_name(d.path) for d in self.marked_documents()]
        text = f"only in {', '.join(names)}" if names else ""
        self.query_one(QuestionLine).border_subtitle = Content(text)

    def show_pins(self, paths: frozenset[str]) -> None:
        """Show which documents stand whole in every prompt of the session."""
        self.query_one(DocumentsPanel).show_pins(paths)

    def marked_documents(self) -> list[Document]:
        """Return the documents that questions are limited to; none: all."""
        panel = self.query_one(DocumentsPanel)
        return [d for d in panel.documents if d.doc_id in panel.marked]

    def action_leave(self) -> None:
        """Stop what is being answered; else close the evidence; else leave the question line."""
        from tui.app import DocqaApp

        assert isinstance(self.app, DocqaApp)
        if self.app.answering.stop():
            return
        if self.has_class("-narrow") and self.has_class("-evidence"):
            self.remove_class("-evidence")
            self._transcript.focus()
            return
        question = self.query_one(QuestionLine)
        if question.has_focus:
            self._transcript.focus()
        else:
            question.focus()

    def action_focus_question(self) -> None:
        """Go to the question line."""
        self.query_one(QuestionLine).focus()

    def action_next_view(self) -> None:
        """Show the evidence another way."""
        self.query_one(EvidencePane).action_next_view()

    def action_toggle_side(self) -> None:
        """Show or hide the side lists."""
        self.toggle_class("-no-side" if not self.has_class("-narrow") else "-side")

    def action_toggle_evidence(self) -> None:
        """Show or hide the evidence."""
        self.toggle_class("-no-evidence" if not self.has_class("-narrow") else "-evidence")
