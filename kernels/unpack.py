"""Triton: a packed matrix as bfloat16, for the matrix products of a prefill.

Plain torch takes some fifty bytes of traffic a weight for it, this kernel 2.6: a chunk's products
read the weights once in this form.
"""

# ruff: noqa: ANN001, ANN201, ANN202 (what a kernel takes are pointers and tensors of Triton)
from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.packed import PackedMatrix


@triton.jit
def _factor(factors_ptr, subs_ptr, group, which, per_super, mask, has_sub: tl.constexpr, of):
    """Return d * sub of groups, or dmin * submin, which stand beside them."""
    value = tl.load(factors_ptr + group // per_super * of + which, mask=mask, other=0.0)
    value = value.to(tl.float32)
    if has_sub:
        value *= tl.load(subs_ptr + group * of + which, mask=mask, other=0).to(tl.float32)
    return value


@triton.jit
def unpack_kernel(
    low_ptr,
    high_ptr,
    factors_ptr,
    subs_ptr,
    out_ptr,
    n_runs,
    bits: tl.constexpr,
    offset: tl.constexpr,
    halves: tl.constexpr,
    per_super: tl.constexpr,
    has_sub: tl.constexpr,
    has_min: tl.constexpr,
    block: tl.constexpr,
):
    """Write `block` runs of 32 weights; the rows of a matrix are one long row here."""
    run = (tl.program_id(0) * block + tl.arange(0, block)).to(tl.int64)[:, None, None]
    j = tl.arange(0, 8)[None, :, None]
    i = tl.arange(0, 4)[None, None, :]
    here = run < n_runs
    code = (tl.load(low_ptr + run * 4 + i, mask=here, other=0) >> (4 * j)) & 15
    if bits > 4:
        h: tl.constexpr = bits - 4
        share: tl.constexpr = 4 // h
        above = tl.load(high_ptr + run * h + i // share, mask=here, other=0)
        code |= ((above >> ((i % share) * (8 * h) + j * h)) & ((1 << h) - 1)) << 4
    group = run * halves + (j * halves) // 8
    of: tl.constexpr = 2 if has_min else 1
    scale = _factor(factors_ptr, subs_ptr, group, 0, per_super, here, has_sub, of)
    weight = (code - offset).to(tl.float32) * scale
    if has_min:
        weight -= _factor(factors_ptr, subs_ptr, group, 1, per_super, here, has_sub, of)
    tl.store(out_ptr + run * 32 + j * 4 + i, weight.to(out_ptr.dtype.element_ty), mask=here)


def unpack(
    matrix: PackedMatrix,
    dtype: torch.dtype = torch.bfloat16,
    *,
    block: int = 32,
    num_warps: int = 8,
) -> Tensor:
    """Return the weights (N, K)."""
    out = torch.empty((matrix.n, matrix.k), dtype=dtype, device=matrix.low.device)
    n_runs = matrix.n * matrix.k // 32
    unpack_kernel[(triton.cdiv(n_runs, block),)](
        *matrix.pointers,
        out,
        n_runs,
        **matrix.format,
        block=block,
        num_warps=num_warps,
    )
    return out
