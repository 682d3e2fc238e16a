"""The conversation: questions, streaming answers, their citations as links."""

from __future__ import annotations

import re
from typing import ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.style import Style
from textual.widgets import Static

from docqa.sanitize import sanitize
from docqa.types import AnswerKind
from tui.messages import PlaceChosen, TurnChosen
from tui.plain import assembled, file_name, plain, plain_line, shortened
from tui.turns import Phase, Place, Turn

FOLLOW_ROWS = 6  # so near the end, the end is followed
_MARKER = re.compile(r"\[(\d{1,4})\]")
_KINDS = {
    AnswerKind.MODEL: "",
    AnswerKind.QUOTE: "verbatim quote",
    AnswerKind.SCAN: "exact scan of the log lines, no model",
    AnswerKind.NOT_FOUND: "not found",
}


def linked(text: str, markers: set[int]) -> Content:
    """Return an answer's text in which `[n]` of a known source is a link, by action."""
    parts: list[Content] = []
    at = 0
    clean = sanitize(text)
    for match in _MARKER.finditer(clean):
        marker = int(match[1])
        parts.append(Content(clean[at : match.start()]))
        if marker in markers:
            link = Style(bold=True, underline=True) + Style.from_meta({"@click": f"cite({marker})"})
            parts.append(Content.styled(match[0], link))
        else:
            parts.append(Content(match[0]))
        at = match.end()
    return Content("").join([*parts, Content(clean[at:])])


class CitationRow(Static, can_focus=True):
    """One citation under an answer: Enter or a click opens it."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "open", "Open citation")]

    def __init__(self, place: Place) -> None:
        text = assembled(
            (f"[{place.marker}] ", "bold $accent"),
            (file_name(place.path), "bold"),
            (f", {place.where}  ", "$text-muted"),
            (shortened(place.quote, 300), "italic $text-muted"),
        )
        super().__init__(text, markup=False)
        self.place = place

    def action_open(self) -> None:
        """Show the citation in the evidence pane."""
        self.post_message(PlaceChosen(self.place))

    def on_click(self) -> None:
        """Do as Enter does."""
        self.action_open()


class AnswerText(Static):
    """The words of an answer; a click on a marker opens its source."""

    def action_cite(self, marker: int) -> None:
        """Show the source of a marker."""
        view = self.parent
        if isinstance(view, TurnView):
            view.cite(marker)


class TurnView(Vertical):
    """One question and its answer."""

    def __init__(self, turn: Turn) -> None:
        super().__init__(classes="turn")
        self.turn = turn
        self._shown: tuple[object, ...] = ()
        self._contents: dict[str, Content] = {}

    def compose(self) -> ComposeResult:
        """Lay out question, answer, notes, citations."""
        asked = [("❯ ", "bold $accent"), (self.turn.question, "bold")]
        if self.turn.scope:
            asked.append((f"  in {', '.join(self.turn.scope)}", "$text-muted"))
        yield Static(assembled(*asked), markup=False, classes="asked")
        yield Static(markup=False, classes="searched")
        yield AnswerText(markup=False, classes="answer")
        yield Static(markup=False, classes="note")
        yield Vertical(classes="citations")

    def on_mount(self) -> None:
        """Show what is known already: a resumed session."""
        self.show()

    def show(self) -> None:
        """Bring the widgets up to the state of the turn."""
        if not self.query(".citations"):
            return  # not laid out yet: `on_mount` shows what is known by then
        turn = self.turn
        self._put("searched", _searched(turn))
        self._put("answer", linked(turn.text, {p.marker for p in turn.places}))
        self._put("note", _note(turn))
        self.set_class(turn.phase is Phase.FAILED, "-failed")
        if not turn.is_open and self._shown != (places := tuple(turn.places)):
            self._shown = places
            box = self.query_one(".citations", Vertical)
            box.remove_children()
            cited = [p for p in turn.places if turn.answer or f"[{p.marker}]" in turn.text]
            box.mount(*[CitationRow(p) for p in cited])

    def _put(self, name: str, content: Content) -> None:
        if name in self._contents and content.is_same(self._contents[name]):
            return  # an update lays the whole screen out anew
        self._contents[name] = content
        widget = self.query_one(f".{name}", Static)
        widget.display = bool(content.plain)
        widget.update(content)

    def cite(self, marker: int) -> None:
        """Show the source of a marker in the text."""
        place = next((p for p in self.turn.places if p.marker == marker), None)
        if place is not None:
            self.post_message(PlaceChosen(place))


def _searched(turn: Turn) -> Content:
    if turn.answer and turn.answer.query != turn.question:
        return plain(f"searched for: {turn.answer.query}", "$text-muted italic")
    return Content("")


def _note(turn: Turn) -> Content:
    if turn.phase is Phase.FAILED:
        return assembled(("✗ error: ", "bold $text-error"), (turn.error or "", "$text-error"))
    if turn.phase is Phase.STOPPED:
        return plain_line("■ stopped", "$text-warning")
    if turn.is_open:
        return _progress(turn)
    answer = turn.answer
    if answer is None:
        return Content("")
    lines = []
    if answer.kind is AnswerKind.NOT_FOUND:
        lines.append(("○ no evidence in the library; the nearest passages:", "$text-warning"))
    elif _KINDS[answer.kind]:
        lines.append((f"≡ {_KINDS[answer.kind]}", "$text-accent"))
    lines += [(f"! {note}", "$text-warning") for note in answer.notes]
    joined: list[Content] = [plain(text, style) for text, style in lines]
    return Content("\n").join(joined)


def _progress(turn: Turn) -> Content:
    if turn.phase is Phase.SEARCHING:
        return plain_line("… searching the library", "$text-muted")
    read = turn.prefill
    if turn.phase is Phase.READING:
        if read is None:
            return plain_line(f"… ranking done, {len(turn.candidates)} candidates", "$text-muted")
        width = 20
        done = width * read.n_done // max(1, read.n_total)
        bar = "━" * done + "─" * (width - done)
        reused = f", {read.n_reused} reused" if read.n_reused else ""
        return plain_line(
            f"reading {bar} {read.n_done}/{read.n_total} tokens{reused}", "$text-muted"
        )
    return plain_line("… writing", "$text-muted")


class Transcript(VerticalScroll, can_focus=True):
    """All turns of a session. Digits open the citations of the turn chosen last."""

    BINDINGS: ClassVar[list[BindingType]] = [
        *[
            Binding(str(n), f"cite({n})", "Open citation", show=False, key_display="1–9")
            for n in range(1, 10)
        ],
        Binding("j", "scroll_down", show=False),
        Binding("k", "scroll_up", show=False),
    ]

    @property
    def views(self) -> list[TurnView]:
        """The turns shown, oldest first."""
        return list(self.query(TurnView))

    def add(self, turn: Turn) -> TurnView:
        """Show one more turn at the end."""
        view = TurnView(turn)
        self.mount(view)
        self.call_after_refresh(self.scroll_end, animate=False)
        return view

    def follow(self) -> None:
        """Keep the end in sight while an answer grows, unless the user scrolled up."""
        if self.max_scroll_y - self.scroll_y <= FOLLOW_ROWS:
            self.call_after_refresh(self.scroll_end, animate=False)

    def replace(self, turns: list[Turn]) -> None:
        """Show the turns of another session."""
        self.query(TurnView).remove()
        self.mount(*[TurnView(turn) for turn in turns])
        self.call_after_refresh(self.scroll_end, animate=False)

    def action_cite(self, number: int) -> None:
        """Open citation `number` of the last turn that has one."""
        for view in reversed(self.views):
            place = next((p for p in view.turn.places if p.marker == number), None)
            if place is not None:
                self.post_message(TurnChosen(view.turn))
                self.post_message(PlaceChosen(place))
                return

    @on(events.DescendantFocus)
    def _note_turn(self, event: events.DescendantFocus) -> None:
        view = next((a for a in event.widget.ancestors if isinstance(a, TurnView)), None)
        if view is not None:
            self.post_message(TurnChosen(view.turn))
