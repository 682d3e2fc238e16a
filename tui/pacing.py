"""What takes the UI's thread long is done in the wake of a key while somebody types.

A layout of the main screen takes 10 to 30 ms of the thread that also waits for keys, and more where
other processes have the cores. Keys come 80 to 250 ms apart: what is begun when one has just been
painted keeps none waiting, and what is begun at any other time keeps every tenth.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING

from textual.timer import Timer

from tui.feed import FRAME_S

if TYPE_CHECKING:
    from tui.app import DocqaApp

WAKE_S = 0.02  # after a key: its effect is painted
WAKE_END_S = 0.06  # the next key may come from now on
TYPING_S = 0.35  # without a key: nobody is typing
MIN_WAIT_S = 0.01  # Textual divides by a timer's time, and drops one that is over before it began
MAX_WAIT_S = 0.25  # so long at most for a key in whose wake it could be done

Work = Callable[[], None]


class Pacing:
    """When something is shown that is not the effect of a key. Used on the UI's thread."""

    def __init__(self, app: DocqaApp) -> None:
        self._app = app
        self._typed_s = float("-inf")
        self._waiting: list[Work] = []
        self._latest_s = 0.0  # then it is done, whatever is pressed
        self._timer: Timer | None = None

    def typed(self) -> None:
        """Note that a key was pressed."""
        self._typed_s = monotonic()
        if self._waiting:
            self._flush_in(min(WAKE_S, self._latest_s - self._typed_s))

    def soon(self, work: Work) -> None:
        """Do `work` a frame from now, or in the wake of a key: for what comes in batches."""
        self._app.set_timer(FRAME_S, lambda: self.gently(work))

    def gently(self, work: Work) -> None:
        """Do `work` now, or in the wake of a key; in the order of the calls."""
        since_s = monotonic() - self._typed_s
        is_good = WAKE_S <= since_s < WAKE_END_S or since_s >= TYPING_S
        if is_good and not self._waiting:
            work()
            return
        self._waiting.append(work)
        if len(self._waiting) == 1:
            self._latest_s = monotonic() + MAX_WAIT_S
            self._flush_in(WAKE_S - since_s if since_s < WAKE_S else MAX_WAIT_S)

    def _flush_in(self, wait_s: float) -> None:
        if self._timer is not None:
            self._timer.stop()
        self._timer = self._app.set_timer(max(MIN_WAIT_S, wait_s), self._flush)

    def _flush(self) -> None:
        self._timer = None
        waiting, self._waiting = self._waiting, []
        for work in waiting:
            work()
