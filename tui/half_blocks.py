"""An image as half blocks in a virtual view: only the rows on the screen are drawn.

For terminals without a graphics protocol. Two pixels stand above one another in a cell.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar

from rich.color import Color
from rich.segment import Segment
from rich.style import Style
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Pixels = npt.NDArray[np.uint8]  # (H, W, 3) RGB, H even


@lru_cache(8192)
def _style(upper: tuple[int, int, int], lower: tuple[int, int, int]) -> Style:
    return Style(color=Color.from_rgb(*upper), bgcolor=Color.from_rgb(*lower))


class HalfBlockView(ScrollView, can_focus=True):
    """Draws pixels, one column a pixel and one row two."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j", "scroll_down", show=False),
        Binding("k", "scroll_up", show=False),
    ]

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._pixels: Pixels | None = None

    def show(self, pixels: Pixels | None) -> None:
        """Show an image of an even number of rows."""
        self._pixels = pixels
        if pixels is not None:
            self.virtual_size = Size(pixels.shape[1], pixels.shape[0] // 2)
        self.refresh()

    def render_line(self, y: int) -> Strip:
        """Draw one row of cells; equal neighbours are one segment."""
        row = y + self.scroll_offset.y
        if self._pixels is None or 2 * row + 1 >= self._pixels.shape[0]:
            return Strip.blank(self.size.width, self.rich_style)
        left = self.scroll_offset.x
        upper = self._pixels[2 * row, left : left + self.size.width].tolist()
        lower = self._pixels[2 * row + 1, left : left + self.size.width].tolist()
        segments: list[Segment] = []
        run, last = 0, None
        for pair in zip(map(tuple, upper), map(tuple, lower), strict=True):
            if pair != last and last is not None:
                segments.append(Segment("▀" * run, _style(*last)))
                run = 0
            run, last = run + 1, pair
        if last is not None:
            segments.append(Segment("▀" * run, _style(*last)))
        return Strip(segments).adjust_cell_length(self.size.width, self.rich_style)
