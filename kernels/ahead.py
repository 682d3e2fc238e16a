"""Triton: a matrix on its way into the L2 cache while something small is computed.

Between two products run kernels of a few programs and two to three microseconds, in which the
memory would have nothing to do. They take programs along that ask for the first megabytes of the
matrix that is multiplied next. Hopper and later (`cp.async.bulk.prefetch`); elsewhere nothing.
"""

# ruff: noqa: ANN001, ANN201 (what a kernel takes are pointers and tensors of Triton)
from __future__ import annotations

import functools

import torch
import triton
import triton.language as tl

from kernels import tuned
from kernels.integers import is_native
from kernels.packed import PackedMatrix

PROGRAM_BYTES = 128 << 10  # that one program asks for


@triton.jit
def fetch_ahead(ptr, program, threads: tl.constexpr):
    """Ask for bytes [128 Ki program, 128 Ki (program + 1)) behind a pointer."""
    n_bytes: tl.constexpr = 131072 // threads
    thread = tl.arange(0, threads)
    address = ptr.to(tl.int64) + program * 131072 + thread * n_bytes
    tl.inline_asm_elementwise(
        "cp.async.bulk.prefetch.L2.global [$1], $2; mov.u32 $0, 0;",
        "=r,l,r", [address, tl.full((threads,), n_bytes, tl.int32)], tl.int32, False, 1,
    )  # fmt: skip


def programs_ahead(matrix: PackedMatrix | None) -> int:
    """Return how many programs ask for a matrix's codes; 0 where it cannot be done."""
    if matrix is None or not is_native(matrix.low) or not _can_fetch(matrix.low.device):
        return 0
    n_bytes = matrix.low.numel() * matrix.low.element_size()
    return min(n_bytes, tuned.AHEAD_BYTES) // PROGRAM_BYTES


@functools.cache
def _can_fetch(device: torch.device) -> bool:
    return torch.cuda.get_device_capability(device) >= (9, 0)
