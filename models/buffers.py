"""Large buffers for KV: memory in huge pages where the system has them.

A restore touches gigabytes of fresh memory. In pages of 4 KiB that went at 2.8 GiB/s, faulted from
several threads at once at 0.9, in huge pages at 4.4, beside 3 GiB/s for the hash on one core.
"""

from __future__ import annotations

import contextlib
import mmap

import numpy as np
import numpy.typing as npt

HUGE_BYTES = 1 << 22  # below, it makes no difference


def byte_buffer(n: int) -> npt.NDArray[np.uint8]:
    """Return `n` writable bytes of undefined content. Freed with the last reference to them."""
    if n < HUGE_BYTES or not hasattr(mmap, "MADV_HUGEPAGE"):
        return np.empty(n, np.uint8)
    memory = mmap.mmap(-1, n, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with contextlib.suppress(OSError):  # a kernel without them
        memory.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(memory, np.uint8)
