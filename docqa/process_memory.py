"""Freed memory goes back to the system.

glibc keeps much of it by default: each large block that is freed raises the size up to which blocks
are carved out of the heap, where one small block still in use holds all that lies below it
(mallopt(3), M_MMAP_THRESHOLD). While a log of 200 MB was indexed, a third of what the process held
was such memory.

Elsewhere (macOS, Windows, musl) both functions do nothing: those allocators give back by themselves
or have no such call.
"""

from __future__ import annotations

import ctypes
import functools
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_BLOCK_BYTES = 1 << 20  # from which a block is a mapping of its own, gone when it is freed
_HEAP_TOP_BYTES = 8 << 20  # that may lie free at the end of the heap


def give_back_large_blocks() -> None:
    """Let blocks of a megabyte and more go back when they are freed, for all of the process."""
    if libc := _glibc():
        libc.mallopt(_M_MMAP_THRESHOLD, _BLOCK_BYTES)
        libc.mallopt(_M_TRIM_THRESHOLD, _HEAP_TOP_BYTES)


def give_back_free_pages() -> None:
    """Give back every free page now: some milliseconds. After work that freed a great deal."""
    if libc := _glibc():
        libc.malloc_trim(0)


@functools.cache
def _glibc() -> ctypes.CDLL | None:
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "gnu_get_libc_version") and hasattr(libc, "malloc_trim") else None
