"""The conversation: questions, streaming answers, their citations as links."""

from __future__ import annotations

import re
from typing import ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.style import Style

from docqa.sanitize import sanitize
from docqa.types import AnswerKind
from tui.messages import PlaceChosen, TurnChosen
from tui.plain import (
    assembled,
    counted,
    file_name,
    middle_cut,
    plain,
    plain_line,
    shortened,
)
from tui.settled import SettledColumn, SettledScroll, SettledText
from tui.turns import Phase, Place, Turn

MAX_NAME_CELLS = 40  # of a document in a citation's row
FOLLOW_ROWS = 6  # so near the end, the end is followed
N_VIEWS = 8  # turns that are shown of a session, and how many more at a time
MAX_VIEWS = 2 * N_VIEWS  # beyond, at the next question, only the last are kept
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


class CitationRow(SettledText, can_focus=True):
    """One citation under an answer: Enter or a click opens it."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "open", "Open citation")]

    def __init__(self, place: Place) -> None:
        text = assembled(
            (f"[{place.marker}] ", "bold $accent"),
            (middle_cut(file_name(place.path), MAX_NAME_CELLS), "bold"),
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


class AnswerText(SettledText):
    """The words of an answer; a click on a marker opens its source."""

    def action_cite(self, marker: int) -> None:
        """Show the source of a marker."""
        view = self.parent
        if isinstance(view, TurnView):
            view.cite(marker)


class TurnView(SettledColumn):
    """One question and its answer."""

    def __init__(self, turn: Turn) -> None:
        super().__init__(classes="turn")
        self.turn = turn
        self._searched = SettledText(markup=False, classes="searched")
        self._answer = AnswerText(markup=False, classes="answer")
        self._note = SettledText(markup=False, classes="note")
        self._citations = SettledColumn(classes="citations")
        self._places: tuple[Place, ...] = ()
        self._contents: dict[SettledText, Content] = {}

    def compose(self) -> ComposeResult:
        """Lay out question, answer, notes, citations: what is known of them by now."""
        asked = [("❯ ", "bold $accent"), (self.turn.question, "bold")]
        if self.turn.scope:
            asked.append((f"  in {', '.join(self.turn.scope)}", "$text-muted"))
        yield SettledText(assembled(*asked), markup=False, classes="asked")
        self._put_texts()
        yield self._searched
        yield self._answer
        yield self._note
        self._places = _cited(self.turn)
        with self._citations:
            yield from map(CitationRow, self._places)

    def on_mount(self) -> None:
        """Show what became known in the meantime."""
        self.show()

    def show(self) -> bool:
        """Bring the widgets up to the state of the turn; return whether it may be higher now."""
        if not self._citations.is_attached:
            return False  # not laid out yet: `compose` and `on_mount` show what is known by then
        has_grown = self._put_texts()
        self.set_class(self.turn.phase is Phase.FAILED, "-failed")
        places = _cited(self.turn)
        if places != self._places:
            self._places = places
            self._citations.remove_children()
            self._citations.mount(*map(CitationRow, places))
            return True
        return has_grown

    def _put_texts(self) -> bool:
        turn = self.turn
        searched = self._put(self._searched, _searched(turn))
        answer = self._put(self._answer, linked(turn.text, {p.marker for p in turn.places}))
        note = self._put(self._note, _note(turn))
        return searched or answer or note

    def _put(self, widget: SettledText, content: Content) -> bool:
        """Show `content`; return whether the widget needs another height.

        A layout arranges every widget of the screen anew, so it is asked for only then.
        """
        if widget in self._contents and content.is_same(self._contents[widget]):
            return False
        self._contents[widget] = content
        has_text = bool(content.plain)
        width, height = widget.content_size
        is_layout = (
            has_text != widget.display
            or not width
            or (has_text and content.get_height(widget.styles.get_rules(), width) != height)
        )
        widget.display = has_text
        widget.update(content, layout=is_layout)
        return is_layout

    def cite(self, marker: int) -> None:
        """Show the source of a marker in the text."""
        place = next((p for p in self.turn.places if p.marker == marker), None)
        if place is not None:
            self.post_message(PlaceChosen(place))


def _cited(turn: Turn) -> tuple[Place, ...]:
    """Return the places that stand below an answer: none while it is open."""
    if turn.is_open:
        return ()
    return tuple(p for p in turn.places if turn.answer or f"[{p.marker}]" in turn.text)


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


class Earlier(SettledText, can_focus=True):
    """Stands above the turns that are shown, where there are earlier ones."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "more", "Earlier turns")]

    def __init__(self) -> None:
        super().__init__(markup=False, classes="earlier")
        self.display = False

    def count(self, n: int) -> None:
        """Say how many turns are not shown."""
        self.display = n > 0
        text = f"▲ {counted(n, 'earlier turn')}: scroll up, or Enter here"
        self.update(plain_line(text, "$text-muted"))

    def action_more(self) -> None:
        """Show some of them."""
        if isinstance(self.parent, Transcript):
            self.parent.show_earlier()

    def on_click(self) -> None:
        """Do as Enter does."""
        self.action_more()


class Transcript(SettledScroll, can_focus=True):
    """The turns of a session, its last ones first of all: earlier ones when they are scrolled to.

    Every widget costs time at each layout, so a long session is not mounted whole. Digits open the
    citations of the last turn that has them.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        *[
            Binding(str(n), f"cite({n})", "Open citation", show=False, key_display="1–9")
            for n in range(1, 10)
        ],
        Binding("j", "scroll_down", show=False),
        Binding("k", "scroll_up", show=False),
    ]

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._turns: list[Turn] = []
        self._views: list[TurnView] = []  # of the last of them
        self._earlier = Earlier()
        self._goes_up = False  # the user scrolled up last

    def compose(self) -> ComposeResult:
        """Lay out the line that stands for earlier turns."""
        yield self._earlier

    @property
    def views(self) -> list[TurnView]:
        """The turns shown, oldest first."""
        return list(self._views)

    def add(self, turn: Turn) -> TurnView:
        """Show one more turn at the end."""
        view = TurnView(turn)
        self._goes_up = False
        self._turns.append(turn)
        self._views.append(view)
        if len(self._views) > MAX_VIEWS:
            self._drop(self._views[:-N_VIEWS])
        self.mount(view)
        self.call_after_refresh(self.scroll_end, animate=False)
        return view

    def _drop(self, views: list[TurnView]) -> None:
        self._views = self._views[len(views) :]
        for view in views:
            view.remove()
        self._count()

    def _count(self) -> None:
        self._earlier.count(len(self._turns) - len(self._views))

    def refresh_turn(self, turn: Turn) -> None:
        """Show what is new of a turn."""
        view = next((view for view in reversed(self._views) if view.turn is turn), None)
        if view is not None and view.show():
            self.follow()

    def follow(self) -> None:
        """Keep the end in sight while an answer grows, unless the user scrolled up."""
        if self.max_scroll_y - self.scroll_y <= FOLLOW_ROWS:
            self.call_after_refresh(self.scroll_end, animate=False)

    def replace(self, turns: list[Turn]) -> None:
        """Show the turns of another session."""
        for view in self._views:
            view.remove()
        self._goes_up = False
        self._turns = list(turns)
        self._views = [TurnView(turn) for turn in turns[-N_VIEWS:]]
        self._count()
        self.mount(*self._views)
        self.call_after_refresh(self.scroll_end, animate=False)

    def action_scroll_up(self) -> None:
        """Scroll up a line."""
        self._goes_up = True
        super().action_scroll_up()

    def action_page_up(self) -> None:
        """Scroll up a page."""
        self._goes_up = True
        super().action_page_up()

    def action_scroll_home(self) -> None:
        """Scroll to the top of what is shown."""
        self._goes_up = True
        super().action_scroll_home()

    @on(events.MouseScrollUp)
    def _note_wheel(self) -> None:
        self._goes_up = True

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Show earlier turns where the user came to the top; not where there is less to show."""
        super().watch_scroll_y(old_value, new_value)
        if new_value <= 0 < old_value and self._goes_up:
            self.call_after_refresh(self.show_earlier)

    def show_earlier(self) -> None:
        """Show some more of the earlier turns; what is in sight stays in sight."""
        n_more = min(N_VIEWS, len(self._turns) - len(self._views))
        if n_more == 0:
            return
        first = len(self._turns) - len(self._views)
        added = [TurnView(turn) for turn in self._turns[first - n_more : first]]
        below = self.virtual_size.height - self.scroll_offset.y
        self._views = added + self._views
        self._count()
        self.mount(*added, after=self._earlier)

        def stay() -> None:
            self.scroll_to(y=self.virtual_size.height - below, animate=False)

        self.call_after_refresh(stay)

    def action_cite(self, number: int) -> None:
        """Open citation `number` of the last turn that has one."""
        for turn in reversed(self._turns):
            place = next((p for p in turn.places if p.marker == number), None)
            if place is not None:
                self.post_message(TurnChosen(turn))
                self.post_message(PlaceChosen(place))
                return

    @on(events.DescendantFocus)
    def _note_turn(self, event: events.DescendantFocus) -> None:
        view = next((a for a in event.widget.ancestors if isinstance(a, TurnView)), None)
        if view is not None:
            self.post_message(TurnChosen(view.turn))
