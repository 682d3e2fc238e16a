"""The evidence pane: the cited passage, its page as an image, the lines around it."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.widgets import Static, TabbedContent, TabPane

from docqa.errors import DocqaError
from docqa.parse.encoding import SAMPLE_BYTES, detect_encoding
from docqa.parse.render import PageRenderer
from docqa.passage import PassageView
from docqa.prompts import place
from docqa.types import Kind, Locator
from docqa.workspace import Workspace
from tui.line_view import LineView
from tui.lines import FileLines, LineSource, TextLines
from tui.page_view import Graphics, PageView
from tui.plain import assembled, plain, plain_line
from tui.turns import Place

MAX_NEIGHBOURS = 20


class PassageRead(Message):
    """A passage was read from the store; `view` is None where it is gone."""

    def __init__(self, place: Place, view: PassageView | None, error: str | None = None) -> None:
        self.place, self.view, self.error = place, view, error
        super().__init__()


class LinesRead(Message):
    """The lines of a document can be drawn."""

    def __init__(
        self, place: Place, source: LineSource, marked: range, has_levels: bool, note: str
    ) -> None:
        self.place, self.source, self.marked = place, source, marked
        self.has_levels, self.note = has_levels, note
        super().__init__()


class EvidencePane(Vertical):
    """Shows one place at a time. Everything is read in threads; messages bring it here."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("plus,n", "more", "More around"),
        Binding("minus,N", "less", "Less", show=False),
        Binding("v", "next_view", "Passage, page, file"),
        Binding("o", "open_outside", "Open file"),
    ]

    def __init__(
        self,
        workspace: Workspace,
        renderer: PageRenderer,
        graphics: Graphics,
        *,
        id: str | None = None,
    ) -> None:
        super().__init__(id=id)
        self._workspace = workspace
        self._renderer, self._graphics = renderer, graphics
        self.place: Place | None = None
        self.view: PassageView | None = None
        self.n_neighbours = 0

    def compose(self) -> ComposeResult:
        """Lay out the header and the tabs."""
        yield Static(plain_line("no citation chosen", "$text-muted"), id="evidence-where")
        with TabbedContent(id="evidence-tabs"):
            with TabPane(Content("Passage"), id="tab-passage"), VerticalScroll(id="passage-scroll"):
                yield Static(markup=False, id="passage")
            with TabPane(Content("Page"), id="tab-page"):
                yield PageView(self._renderer, self._graphics, id="page")
            with TabPane(Content("File"), id="tab-lines"):
                yield Static(markup=False, id="lines-note")
                yield LineView(id="lines")

    def on_mount(self) -> None:
        """Say what will stand here."""
        self.border_title = Content("Evidence")
        hint = "Choose a citation: Enter on it, its number in the transcript, or a click."
        for passage in self.query("#passage").results(Static):
            passage.update(plain(hint, "$text-muted"))

    def show(self, place: Place) -> None:
        """Show a place; the passage at once, the rest when its tab is looked at."""
        self.place, self.view, self.n_neighbours = place, None, 0
        self._show_where()
        if place.evidence is not None:
            self._show_text("", place.evidence.chunk.text, "")
        self._read_passage(place, 0)
        self._read_lines(place)
        tabs = self.query_one(TabbedContent)
        is_page = place.locator.unit == "page"
        if is_page:
            tabs.show_tab("tab-page")
            self.query_one(PageView).show(place)
        else:
            tabs.hide_tab("tab-page")
        if not is_page:
            tabs.active = "tab-lines"
        elif tabs.active == "tab-lines":
            tabs.active = "tab-passage"

    def focus_content(self) -> None:
        """Give the keys to what is shown: the lines, the page, the passage."""
        active = self.query_one(TabbedContent).active
        if active == "tab-page":
            self.query_one(PageView).focus_image()
        else:
            self.query_one("#lines" if active == "tab-lines" else "#passage-scroll").focus()

    def action_more(self) -> None:
        """Show one more neighbour on each side."""
        self._widen(1)

    def action_less(self) -> None:
        """Show one neighbour less on each side."""
        self._widen(-1)

    def _widen(self, step: int) -> None:
        if self.place is not None:
            self.n_neighbours = min(MAX_NEIGHBOURS, max(0, self.n_neighbours + step))
            self._read_passage(self.place, self.n_neighbours)

    def action_next_view(self) -> None:
        """Go from the passage to the page, to the file, and around."""
        tabs = self.query_one(TabbedContent)
        is_page = self.place is not None and self.place.locator.unit == "page"
        views = ["tab-passage", *(["tab-page"] if is_page else []), "tab-lines"]
        at = views.index(tabs.active) if tabs.active in views else -1
        tabs.active = views[(at + 1) % len(views)]
        if self.has_focus_within:
            self.call_after_refresh(self.focus_content)

    def action_open_outside(self) -> None:
        """Open the file in the user's viewer or editor, at that page or line."""
        if self.place is not None:
            from tui.outside import open_outside

            problem = open_outside(self.app, Path(self.place.path), self.place.locator)
            if problem:
                self.notify(problem, severity="warning", markup=False)

    @work(thread=True, exclusive=True, group="passage", exit_on_error=False)
    def _read_passage(self, place: Place, n_neighbours: int) -> None:
        try:
            view = self._workspace.passage(
                place.path, place.locator, place.char_start, place.char_end, n_neighbours
            )
            self.post_message(PassageRead(place, view))
        except DocqaError as error:
            self.post_message(PassageRead(place, None, str(error)))

    @work(thread=True, exclusive=True, group="lines", exit_on_error=False)
    def _read_lines(self, place: Place) -> None:
        found = lines_of(self._workspace, place)
        if found is not None:
            self.post_message(found)

    @on(PassageRead)
    def _on_passage_read(self, message: PassageRead) -> None:
        if message.place is not self.place:
            return
        self.view = message.view
        if message.view is None:
            gone = message.error or "This passage is no longer in the library: the file changed."
            text = self.place.evidence.chunk.text if self.place.evidence else self.place.quote
            self.query_one("#passage", Static).update(
                assembled((f"! {gone}\n\n", "$text-warning"), text)
            )
            return
        self._show_where()
        view = message.view
        self._show_text(view.before, view.quote, view.after)

    @on(LinesRead)
    def _on_lines_read(self, message: LinesRead) -> None:
        if message.place is not self.place:
            message.source.close()
            return
        lines = self.query_one(LineView)
        lines.has_levels = message.has_levels
        lines.show(message.source, message.marked)
        note = self.query_one("#lines-note", Static)
        note.display = bool(message.note)
        note.update(plain_line(message.note, "$text-muted"))

    def _show_where(self) -> None:
        assert self.place is not None
        place_, view = self.place, self.view
        headings = view.headings if view else ()
        if not headings and place_.evidence:
            headings = place_.evidence.chunk.headings
        parts: list[tuple[str, str]] = [
            (f"[{place_.marker}] ", "bold $accent"),
            (Path(place_.path).name, "bold"),
            (f"  {place_.where}", "$text-accent"),
        ]
        if headings:
            parts.append((f"\n{' › '.join(headings)}", "$text-muted"))
        if self.n_neighbours and view:
            parts.append((f"\nshown: {place(view.locator)}", "$text-muted"))
        self.query_one("#evidence-where", Static).update(assembled(*parts))

    def _show_text(self, before: str, quote: str, after: str) -> None:
        has_context = bool(before or after)
        mark = "bold $text-accent on $accent-muted" if has_context else ""
        # The signs say it without colour.
        parts = (before, ("▶" if has_context else "", "bold"), (quote, mark))
        self.query_one("#passage", Static).update(
            assembled(*parts, ("◀" if has_context else "", "bold"), after)
        )


def lines_of(workspace: Workspace, place: Place) -> LinesRead | None:
    """Return the lines of a document: of the file for a log or text, else as extracted."""
    document = workspace.document(place.path)
    if document is None:
        return None
    has_levels = document.kind is Kind.LOG
    marked = range(place.locator.first - 1, place.locator.last)
    if place.locator.unit == "line":
        try:
            path = Path(document.path)
            source = FileLines(path, _encoding(path))
            return LinesRead(place, source, marked, has_levels, "")
        except (OSError, UnicodeError) as error:
            reason = f"the file cannot be read ({error}); these are the words in the library"
    else:
        reason = "the text as it was extracted"
    text = workspace.text(Path(document.path))
    first = text.count("\n", 0, place.char_start)
    last = first + text.count("\n", place.char_start, place.char_end)
    return LinesRead(place, TextLines(text), range(first, last + 1), has_levels, reason)


def _encoding(path: Path) -> str:
    if path.suffix == ".gz":
        return "utf-8"
    with path.open("rb") as file:
        found = detect_encoding(file.read(SAMPLE_BYTES))
    if found.is_wide:
        raise UnicodeError(f"it is in {found.name}")
    return found.name


def whole_document(path: str, kind: Kind) -> Place:
    """Return the place that is the beginning of a document."""
    unit = Locator("page", 1, 1) if kind is Kind.PDF else Locator("line", 1, 1)
    return Place(0, path, unit, "", 0, 0)
