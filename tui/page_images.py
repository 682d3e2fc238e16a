"""Widgets that show an image by Kitty's graphics protocol or by Sixel, of textual-image.

Importing that library's widgets asks the terminal, a question at a time; tui/terminal.py has asked
already, so here it is told, and finds no terminal to ask. Import this module through `widgets`.
"""

from __future__ import annotations

import io
import sys
from typing import Any

# Placeholders number their row and column by a list of so many marks.
MAX_KITTY_CELLS = 297


def widgets(cell_px: tuple[int, int]) -> tuple[Any, Any]:
    """Return the classes for Sixel and Kitty; the library has no types.

    `cell_px` is the width and height of a cell in pixels.
    """
    from textual_image._terminal import CellSize, get_cell_size

    get_cell_size._result = CellSize(*cell_px)
    terminal = sys.__stdout__
    sys.__stdout__ = io.StringIO()  # type: ignore[misc, assignment]
    try:
        from textual_image.widget import SixelImage
    finally:
        sys.__stdout__ = terminal  # type: ignore[misc]
    return SixelImage, _kitty_image()


def _kitty_image() -> Any:
    from textual_image.renderable.tgp import Image as Placeholders
    from textual_image.widget._base import Image

    class FreedPlaceholders(Placeholders):  # type: ignore[misc]
        """Lets the terminal free the image; the library's order names no image by its id."""

        terminal_image_id: int | None

        def cleanup(self) -> None:
            number, self.terminal_image_id = self.terminal_image_id, None
            if number is not None and sys.__stdout__ is not None:
                sys.__stdout__.write(f"\x1b_Ga=d,d=I,i={number},q=2\x1b\\")
                sys.__stdout__.flush()

    class KittyImage(Image, Renderable=FreedPlaceholders):  # type: ignore[misc, call-arg]
        """Leaves nothing in the terminal's memory."""

        def on_unmount(self) -> None:
            self.image = None

    return KittyImage


def widest_columns(width_px: int, height_px: int, cell_px: tuple[int, int]) -> int:
    """Return how many columns an image can have in Kitty's protocol, its shape kept."""
    columns_a_row = width_px / height_px * cell_px[1] / cell_px[0]
    return max(1, min(MAX_KITTY_CELLS, int(MAX_KITTY_CELLS * columns_a_row)))
