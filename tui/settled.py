"""Widgets that cost one layout when their size changes, and not two.

Textual keeps the size of a widget's content in a reactive that asks for a layout whenever it is
set: by a layout, too, which is followed by another one that finds everything in its place. On the
main screen each of them takes 5 to 15 ms of the thread that waits for keys.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.containers import Vertical, VerticalScroll
from textual.geometry import Size
from textual.widgets import Static

if TYPE_CHECKING:
    from textual.widget import Widget as Mixed
else:
    Mixed = object  # Textual looks for rules at the first base that is a widget: not at this one


class Settled(Mixed):
    """A widget that takes the size it is given.

    A scrollbar that comes or goes still asks for the layout that it needs.
    """

    def _size_updated(
        self, size: Size, virtual_size: Size, container_size: Size, layout: bool = True
    ) -> bool:
        return super()._size_updated(size, virtual_size, container_size, layout=False)


class SettledText(Settled, Static):
    """A Static that is settled."""


class SettledColumn(Settled, Vertical):
    """A Vertical that is settled."""


class SettledScroll(Settled, VerticalScroll):
    """A VerticalScroll that is settled."""
