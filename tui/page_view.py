"""The page of a citation as an image, the cited words boxed.

Kitty graphics and Sixel through textual-image where the terminal has them, else half blocks. Pages
are drawn in a process of their own (docqa/parse/render.py) and scaled in a thread.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import ScrollableContainer, Vertical
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Static

from docqa.errors import DocqaError
from docqa.parse.render import PageRenderer
from tui.half_blocks import HalfBlockView
from tui.plain import plain_line
from tui.terminal import DEFAULT_CELL_PX, Answers
from tui.turns import Place

if TYPE_CHECKING:
    from PIL.Image import Image

ZOOMS = (1, 2, 3)
CELL_PX = 10  # assumed width of a cell where the terminal draws pixels
BOX_COLOUR = (255, 140, 0)


@dataclass(frozen=True, slots=True)
class Graphics:
    """How this terminal shows pixels: a widget class of textual-image, or None for half blocks."""

    name: str
    widget: Any = None  # textual_image has no types
    cell_px: tuple[int, int] = DEFAULT_CELL_PX


HALF_BLOCKS = Graphics("half blocks")


def graphics_of(answers: Answers) -> Graphics:
    """Return how to show pixels in a terminal that gave these answers.

    Sixel first: terminals that have both (Konsole, WezTerm) do not know the placeholders that
    Kitty's protocol is used with here, and Kitty has no Sixel.
    """
    if not (answers.has_sixel or answers.has_kitty):
        return HALF_BLOCKS
    from tui.page_images import widgets

    sixel, kitty = widgets(answers.cell_px)
    name, widget = ("sixel", sixel) if answers.has_sixel else ("kitty", kitty)
    return Graphics(name, widget, answers.cell_px)


class PageDrawn(Message):
    """A page is drawn, or cannot be: then `error` says why."""

    def __init__(
        self, key: tuple[str, int, int], image: Image | None, top: float, note: str
    ) -> None:
        self.key, self.image, self.top, self.note = key, image, top, note
        super().__init__()


class PageView(Vertical):
    """Shows one page; `,` and `.` turn it, `z` zooms."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("comma,left_square_bracket", "turn(-1)", "Page back"),
        Binding("full_stop,right_square_bracket", "turn(1)", "Page on"),
        Binding("z", "zoom", "Zoom"),
    ]

    def __init__(
        self, renderer: PageRenderer, graphics: Graphics, *, id: str | None = None
    ) -> None:
        super().__init__(id=id)
        self._renderer = renderer
        self._graphics = graphics
        self._place: Place | None = None
        self._wanted: tuple[str, int, int] | None = None
        self.page = 0
        self.n_pages = 0
        self.zoom = ZOOMS[0]

    def compose(self) -> ComposeResult:
        """Lay out the note and the image."""
        yield Static(markup=False, id="page-note")
        if self._graphics.widget is None:
            yield HalfBlockView(id="page-image")
        else:
            with ScrollableContainer(id="page-scroll"):
                yield self._graphics.widget(id="page-image")

    def show(self, place: Place) -> None:
        """Show the page of a place."""
        self._place = place
        self._go(place.locator.first)

    def focus_image(self) -> None:
        """Give the keys to what scrolls the page."""
        is_cells = self._graphics.widget is None
        self.query_one("#page-image" if is_cells else "#page-scroll").focus()

    def action_turn(self, step: int) -> None:
        """Turn `step` pages."""
        if self._place is not None and 1 <= self.page + step <= max(1, self.n_pages):
            self._go(self.page + step)

    def action_zoom(self) -> None:
        """Go to the next zoom, after the last the first."""
        self.zoom = ZOOMS[(ZOOMS.index(self.zoom) + 1) % len(ZOOMS)]
        if self._place is not None:
            self._go(self.page)

    def on_resize(self) -> None:
        """Draw anew at the new width."""
        if self._place is not None and self.page and self.size.width > 4:
            self._go(self.page)

    def _go(self, page: int) -> None:
        assert self._place is not None
        self.page = page
        columns = max(20, self.size.width - 2) * self.zoom
        key = (self._place.path, page, columns)
        if self.size.width > 4 and key != self._wanted:
            self._wanted = key
            self._put_note(f"drawing page {page} …")
            self._draw(self._place, key)

    @work(thread=True, exclusive=True, group="page", exit_on_error=False)
    def _draw(self, place: Place, key: tuple[str, int, int]) -> None:
        path, page, columns = key
        is_cells = self._graphics.widget is None
        is_cited = place.locator.first <= page <= place.locator.last
        width_px = min(columns * (4 if is_cells else CELL_PX), 2000)
        try:
            drawn = self._renderer.draw(Path(path), page, width_px, place.quote if is_cited else "")
        except DocqaError as error:
            self.post_message(PageDrawn(key, None, 0.0, str(error)))
            return
        self.n_pages = drawn.n_pages
        image = boxed(drawn.width, drawn.height, drawn.rgb, drawn.boxes)
        top = drawn.boxes[0][1] / drawn.height if drawn.boxes else 0.0
        if is_cells:
            rows = max(2, round(columns * drawn.height / drawn.width / 2) * 2)
            image = image.resize((columns, rows))
        note = f"page {page} of {drawn.n_pages}, {self._graphics.name}"
        if is_cited and place.quote and not drawn.boxes:
            note += "; the cited words could not be located on the page"
        self.post_message(PageDrawn(key, image, top, note))

    @on(PageDrawn)
    def _on_page_drawn(self, message: PageDrawn) -> None:
        message.stop()
        if message.key != self._wanted:
            return
        self._put_note(message.note)
        view = self.query_one("#page-image", Widget)
        if isinstance(view, HalfBlockView):
            import numpy as np

            view.show(None if message.image is None else np.asarray(message.image))
            rows = view.virtual_size.height
            view.scroll_to(0, max(0, int(message.top * rows) - 5), animate=False)
        else:
            self._show_pixels(view, message)

    def _show_pixels(self, view: Widget, message: PageDrawn) -> None:
        view.image = message.image  # type: ignore[attr-defined]
        view.styles.width = f"{100 * self.zoom}%"
        if message.image is None:
            return
        if self._graphics.name == "kitty":
            from tui.page_images import widest_columns

            widest = widest_columns(*message.image.size, self._graphics.cell_px)
            if self.size.width * self.zoom > widest:
                view.styles.width = widest

        def to_the_quote() -> None:
            scroll = self.query_one("#page-scroll")
            top = int(message.top * scroll.virtual_size.height) - 5
            scroll.scroll_to(0, max(0, top), animate=False)

        self.call_after_refresh(to_the_quote)

    def _put_note(self, text: str) -> None:
        self.query_one("#page-note", Static).update(plain_line(text, "$text-muted"))


def boxed(
    width: int, height: int, rgb: bytes, boxes: list[tuple[float, float, float, float]]
) -> Image:
    """Return the page with `boxes` (pixels) filled lightly and outlined."""
    from PIL import Image, ImageDraw

    image = Image.frombytes("RGB", (width, height), rgb)
    if not boxes:
        return image
    layer = Image.new("RGBA", image.size, (0, 0, 0, 0))
    pen = ImageDraw.Draw(layer)
    line = max(2, width // 250)
    for x0, y0, x1, y1 in boxes:
        box = (x0 - line, y0 - line, x1 + line, y1 + line)
        pen.rectangle(box, fill=(*BOX_COLOUR, 90), outline=(*BOX_COLOUR, 255), width=line)
    return Image.alpha_composite(image.convert("RGBA"), layer).convert("RGB")
