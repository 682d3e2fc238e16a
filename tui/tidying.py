"""Garbage is collected while nobody types.

A full collection holds the interpreter for 50 ms and more, and Python begins one whenever enough
was allocated: in the middle of a word as well. Here it waits until the keys have rested for a
moment; young objects are collected as ever, in a millisecond or two.
"""

from __future__ import annotations

import gc
from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tui.app import DocqaApp

PERIOD_S = 1.0  # between two looks
REST_S = 1.5  # without a key: nobody is typing
N_SOON = 10  # collections of the middle generation, then a full one is due: Python's own measure
N_AT_LAST = 300  # then there is one even while somebody types: what is garbage must not pile up
NEVER = 1_000_000


class Tidying:
    """When a full collection is due. Used on the UI's thread."""

    def __init__(self, app: DocqaApp) -> None:
        self._app = app
        self._typed_s = 0.0
        self._before = gc.get_threshold()
        self._is_settled = True

    def begin(self) -> None:
        """From now on full collections are made here."""
        gc.set_threshold(self._before[0], self._before[1], NEVER)
        self._app.set_interval(PERIOD_S, self._look)

    def end(self) -> None:
        """Leave them to Python again."""
        gc.set_threshold(*self._before)

    def typed(self) -> None:
        """Note that a key was pressed, or the mouse moved."""
        self._typed_s = monotonic()

    def model_loaded(self) -> None:
        """Set aside what there is by now: it stays, and later collections need not look at it."""
        gc.freeze()
        self._is_settled = False

    def answered(self) -> None:
        """Do so once more after the first answer of a model: it loaded what ranks and embeds."""
        if not self._is_settled:
            gc.freeze()
            self._is_settled = True

    def _look(self) -> None:
        n = gc.get_count()[2]
        is_resting = monotonic() - self._typed_s > REST_S
        if n >= N_AT_LAST or (n >= N_SOON and is_resting):
            gc.collect()
