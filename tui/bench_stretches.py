"""How long the UI's thread computes before it looks at the keys again, for `tui.bench_keys`.

Counted in the app, in processor time: other than the time from a key to its paint, it is hardly
another on a busy machine.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from time import thread_time

LONG_S = 0.02


class Stretches:
    """Steps of the event loop: the longest, and how many took longer than LONG_S."""

    def __init__(self) -> None:
        self.longest_s = 0.0
        self.n_long = 0

    def begin(self) -> None:
        """Time every step from now on; called on the loop's thread, before it runs."""
        run = asyncio.Handle._run

        def timed(handle: asyncio.Handle) -> None:
            began_s = thread_time()
            run(handle)
            taken_s = thread_time() - began_s
            self.longest_s = max(self.longest_s, taken_s)
            self.n_long += taken_s > LONG_S

        asyncio.Handle._run = timed  # type: ignore[method-assign, assignment]

    def forget(self) -> None:
        """Count anew: the app has started."""
        self.longest_s, self.n_long = 0.0, 0

    def write(self, path: Path) -> None:
        """Write what was counted, for the process that measures."""
        part = path.with_suffix(".part")
        part.write_text(json.dumps([self.longest_s, self.n_long]))
        part.replace(path)


def read_stretches(path: Path) -> tuple[float, int]:
    """Return what `write` wrote: the longest stretch in seconds, and the number of long ones."""
    longest_s, n_long = json.loads(path.read_text())
    return float(longest_s), int(n_long)
