"""Freed memory goes back to the system.

glibc keeps much of it by default: each large block that is freed raises the size up to which blocks
are carved out of the heap, where one small block still in use holds all that lies below it
(mallopt(3), M_MMAP_THRESHOLD). While a log of 200 MB was indexed, a third of what the process held
was such memory. And each thread that allocates may get a heap of its own, eight times as many as
there are cores (mallopt(3), M_ARENA_MAX), each with its own holes: a process that took in files and
answered grew by a seventh in ten minutes, while what it used stayed the same.

Elsewhere (macOS, Windows, musl) `give_back_*` do nothing: those allocators give back by themselves
or have no such call.
"""

from __future__ import annotations

import ctypes
import functools
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psutil

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # malloc.h
_BLOCK_BYTES = 1 << 20  # from which a block is a mapping of its own, gone when it is freed
_HEAP_TOP_BYTES = 8 << 20  # that may lie free at the end of the heap
_N_HEAPS = 2  # that threads share: the native libraries at work here allocate little while they run


def give_back_large_blocks() -> None:
    """Let blocks of a megabyte and more go back when they are freed, for all of the process.

    Smaller ones come from two heaps. Heaps that are there already stay: call it before threads.
    """
    if libc := _glibc():
        libc.mallopt(_M_ARENA_MAX, _N_HEAPS)
        libc.mallopt(_M_MMAP_THRESHOLD, _BLOCK_BYTES)
        libc.mallopt(_M_TRIM_THRESHOLD, _HEAP_TOP_BYTES)


def give_back_free_pages() -> None:
    """Give back every free page now: some milliseconds. After work that freed a great deal."""
    if libc := _glibc():
        libc.malloc_trim(0)


def own_bytes(process: psutil.Process) -> int:
    """Return the resident bytes of a process that no file backs.

    Mapped files of an index count as resident too, but are the system's cache: it takes them back
    when it needs the room.
    """
    memory = process.memory_info()
    return int(memory.rss - getattr(memory, "shared", 0))


@functools.cache
def _glibc() -> ctypes.CDLL | None:
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "gnu_get_libc_version") and hasattr(libc, "malloc_trim") else None
