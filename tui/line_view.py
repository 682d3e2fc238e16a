"""A virtual list of lines: draws what is on the screen, whatever the file's size."""

from __future__ import annotations

from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from docqa.parse.levels import find_level
from docqa.sanitize import sanitize
from tui.lines import LineSource

_SIGNS = {"FATAL": "‼", "ERROR": "✗", "WARN": "!", "INFO": "·", "DEBUG": " ", "TRACE": " "}
_LEVELS = ("fatal", "error", "warn", "info", "debug", "trace")


class LineView(ScrollView, can_focus=True):
    """Line numbers, a sign and a colour for the level, the cited lines marked with `▌`.

    `find_level` is asked of each line drawn; a line without a level has no sign.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j", "scroll_down", show=False),
        Binding("k", "scroll_up", show=False),
        Binding("g", "scroll_home", show=False),
        Binding("G", "scroll_end", show=False),
        Binding("c", "to_mark", "Cited line"),
    ]
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "lines--number",
        "lines--marked",
        *(f"lines--{level}" for level in _LEVELS),
    }
    DEFAULT_CSS = """
    LineView {
        & > .lines--number { color: $text-muted; }
        & > .lines--marked { background: $accent 30%; text-style: bold; }
        & > .lines--fatal { color: $text-error; text-style: bold reverse; }
        & > .lines--error { color: $text-error; text-style: bold; }
        & > .lines--warn { color: $text-warning; }
        & > .lines--info { color: $foreground; }
        & > .lines--debug { color: $text-muted; }
        & > .lines--trace { color: $text-disabled; }
    }
    """

    def __init__(self, *, id: str | None = None, has_levels: bool = True) -> None:
        super().__init__(id=id)
        self.has_levels = has_levels
        self._source: LineSource | None = None
        self._marked = range(0)
        self._number_width = 1
        self._width = 80

    @property
    def marked(self) -> range:
        """The lines that are marked, from 0."""
        return self._marked

    def show(self, source: LineSource | None, marked: range = range(0)) -> None:
        """Show the lines of `source`, scrolled so that `marked` (lines from 0) is in sight."""
        if self._source is not None and self._source is not source:
            self._source.close()
        self._source, self._marked = source, marked
        n_lines = source.n_lines if source else 0
        self._number_width = len(str(n_lines))
        self._width = 80
        self.virtual_size = Size(self._width, n_lines)
        self.refresh()
        self.call_after_refresh(self.action_to_mark)

    def on_unmount(self) -> None:
        """Free the source."""
        self.show(None)

    def action_page_down(self) -> None:
        """Go a page down at once: twenty frames on the way would cost twenty paintings."""
        self.scroll_page_down(animate=False)

    def action_page_up(self) -> None:
        """Go a page up at once."""
        self.scroll_page_up(animate=False)

    def action_to_mark(self) -> None:
        """Scroll to the marked lines."""
        if self._marked:
            top = self._marked.start - max(0, (self.size.height - len(self._marked)) // 2)
            self.scroll_to(0, max(0, top), animate=False)

    def render_line(self, y: int) -> Strip:
        """Draw the line at `y` of the widget."""
        index = y + self.scroll_offset.y
        if self._source is None or index >= self._source.n_lines:
            return Strip.blank(self.size.width, self.rich_style)
        return self._strip(index).crop_extend(
            self.scroll_offset.x, self.scroll_offset.x + self.size.width, self.rich_style
        )

    def _strip(self, index: int) -> Strip:
        assert self._source is not None
        text = sanitize(self._source.line(index)).expandtabs(8)
        level = find_level(text) if self.has_levels else None
        style = self._style(f"lines--{level.lower()}") if level else self.rich_style
        edge = "▌" if index in self._marked else " "
        if index in self._marked:
            style = style + self._style("lines--marked")
        sign = f"{_SIGNS.get(level or '', ' ')} " if self.has_levels else ""
        number = f"{edge}{index + 1:>{self._number_width}} "
        strip = Strip([Segment(number, self._style("lines--number")), Segment(sign + text, style)])
        if strip.cell_length > self._width:
            self._width = strip.cell_length
            self.call_later(self._widen)
        return strip

    def _widen(self) -> None:
        self.virtual_size = Size(self._width, self.virtual_size.height)

    def _style(self, name: str) -> Style:
        return self.get_component_rich_style(name, partial=False)
