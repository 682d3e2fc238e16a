"""How many threads to compute with: as many as there are idle cores, looked at again and again.

ggml's threads wait for each other in a spin at every operation, so one thread more than there are
cores to run it costs far more than it brings: on two cores that others were using as well, the
default model wrote 19 tokens a second with one thread and 1 to 2 with two.
"""

from __future__ import annotations

import time

INTERVAL_S = 0.5


class IdleCores:
    """The cores that are idle or already ours, from 1 to `most`."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._n = 1
        self._at, self._available = time.monotonic(), _available_s()

    def count(self) -> int:
        """Return the number of threads to use from now on."""
        now = time.monotonic()
        if self.most > 1 and now - self._at >= INTERVAL_S:
            available = _available_s()
            cores = (available - self._available) / (now - self._at)
            self._n = max(1, min(self.most, round(cores)))
            self._at, self._available = now, available
        return self._n


def _available_s() -> float:
    """Return the CPU seconds, over all cores, in which nothing ran or this process did."""
    import psutil

    system, own = psutil.cpu_times(), psutil.Process().cpu_times()
    return float(system.idle + getattr(system, "iowait", 0.0) + own.user + own.system)
