"""Large buffers for KV: memory in huge pages where the system has them.

A restore touches gigabytes of fresh memory. In pages of 4 KiB that went at 2.8 GiB/s, faulted from
several threads at once at 0.9, in huge pages at 4.4, beside 3 GiB/s for the hash on one core.

What goes to a GPU and back is better page-locked: the GPU fetches it by itself, where otherwise the
driver copies it piece by piece through a small locked buffer of its own. On an H200 2.1 GiB went
there in 0.05 s instead of 0.30. Locking them took 0.08 s once they were filled, 0.46 s before.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib.util
import mmap
from pathlib import Path

import numpy as np
import numpy.typing as npt

HUGE_BYTES = 1 << 22  # below, it makes no difference
PORTABLE = 1  # cudaHostRegisterPortable: locked for every GPU


def byte_buffer(n: int, *, is_locked: bool = False) -> npt.NDArray[np.uint8]:
    """Return `n` writable bytes of undefined content. Freed with the last reference to them.

    `is_locked`: page-locked for CUDA, where llama.cpp has it and the system allows so much.
    """
    if n < HUGE_BYTES or not hasattr(mmap, "MADV_HUGEPAGE"):
        return np.empty(n, np.uint8)
    memory = _Memory(-1, n, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with contextlib.suppress(OSError):  # a kernel without them
        memory.madvise(mmap.MADV_HUGEPAGE)
    found = np.frombuffer(memory, np.uint8)
    if is_locked:
        memory.lock(n)
    return found


def lock(buffer: npt.NDArray[np.uint8]) -> None:
    """Page-lock what `byte_buffer` returned, until it is freed; memory of others stays as it is."""
    owner: object = buffer
    while isinstance(owner, np.ndarray):
        owner = owner.base
    owner = owner.obj if isinstance(owner, memoryview) else owner
    if isinstance(owner, _Memory):
        owner.lock(len(owner))


class _Memory(mmap.mmap):
    """Memory of this process alone, which tells CUDA before it goes."""

    _locked_at = 0

    def lock(self, n: int) -> None:
        cuda = cuda_runtime()
        if cuda is None or self._locked_at:
            return
        address = np.frombuffer(self, np.uint8).ctypes.data
        if cuda.cudaHostRegister(ctypes.c_void_p(address), ctypes.c_size_t(n), PORTABLE) == 0:
            self._locked_at = address
        else:
            cuda.cudaGetLastError()  # or the next kernel's launch would be told of it

    def __del__(self) -> None:
        cuda = cuda_runtime() if self._locked_at else None
        if cuda is not None:
            cuda.cudaHostUnregister(ctypes.c_void_p(self._locked_at))


@functools.cache
def cuda_runtime() -> ctypes.CDLL | None:
    """Return the CUDA runtime that llama.cpp computes with; None where it has none.

    Looked for among what its backend was linked with, so that it is the same one.
    """
    spec = importlib.util.find_spec("llama_cpp")
    if spec is None or spec.origin is None:
        return None
    for library in sorted((Path(spec.origin).parent / "lib").glob("libggml-cuda.so*")):
        with contextlib.suppress(OSError, AttributeError):  # no driver; linked statically
            found = ctypes.CDLL(str(library))
            if all((found.cudaHostRegister, found.cudaHostUnregister, found.cudaGetLastError)):
                return found
    return None
