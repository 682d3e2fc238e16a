"""Triton: a quantised matrix times one vector, dequantised on the way (decode is bound by bytes).

One kernel for every format of `kernels.packed`. A thread loads a run of 32 weights as four words.
Nibble j of a word is shifted to the top of a float's fraction and given the exponent of 1, so that
no conversion is needed:

    f = 1 + code / 2^bits,   sum w x = scale (2^bits sum f x - (2^bits + offset) sum x) - min sum x

Three instructions a weight: shift, and-or, multiply-add. Fused at the ends: RMSNorm of x (its norm
is a factor that is known when the row is done), SwiGLU of x, bias, the residual.
"""

# ruff: noqa: ANN001, ANN201, ANN202 (what a kernel takes are pointers and tensors of Triton)
from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from kernels.packed import PackedMatrix

EXPONENT = 0x3F800000  # of 1.0 in float32


@triton.jit
def _fields(words, high_ptr, high_at, mask, exponent, j: tl.constexpr, bits: tl.constexpr):
    """Return 1 + code / 2^bits of weights j * 4 + i of each run: words (BN, BG, 4) → float32."""
    low_to: tl.constexpr = 23 - bits
    shift: tl.constexpr = low_to - 4 * j
    if shift >= 0:  # noqa: SIM108 (a shift by less than nothing must not be compiled)
        code = words << shift
    else:
        code = words >> (-shift)
    code = (code & (15 << low_to)) | exponent
    if bits > 4:
        h: tl.constexpr = bits - 4
        share: tl.constexpr = 4 // h
        i = tl.arange(0, 4)[None, None, :]
        high = tl.load(high_ptr + high_at, mask=mask, other=0)
        high = (high >> ((i % share) * (8 * h) + j * h)) & ((1 << h) - 1)
        code = code | (high << (27 - bits))
    return code.to(tl.float32, bitcast=True)


@triton.jit
def _scale(
    factor_ptr, sub_ptr, row, n_super, n_groups, group, per_super, mask, has_sub: tl.constexpr
):
    """Return d * sub of a group of each row."""
    at = row * n_super + group // per_super
    value = tl.load(factor_ptr + at, mask=mask, other=0.0).to(tl.float32)
    if has_sub:
        value *= tl.load(sub_ptr + row * n_groups + group, mask=mask, other=0).to(tl.float32)
    return value


@triton.jit
def matvec_kernel(
    low_ptr,
    high_ptr,
    d_ptr,
    sub_ptr,
    dmin_ptr,
    submin_ptr,
    x_ptr,
    norm_ptr,
    bias_ptr,
    residual_ptr,
    out_ptr,
    n,
    k,
    eps,
    exponent,  # 0x3F800000, in a register: and-or is one instruction with one literal only
    bits: tl.constexpr,
    offset: tl.constexpr,
    halves: tl.constexpr,  # groups of a run: 1, or 2 where a group has 16 weights
    per_super: tl.constexpr,  # groups of a factor d
    has_sub: tl.constexpr,
    has_min: tl.constexpr,
    has_norm: tl.constexpr,
    has_gate: tl.constexpr,
    has_bias: tl.constexpr,
    has_residual: tl.constexpr,
    block_n: tl.constexpr,
    block_g: tl.constexpr,
):
    """Compute out (N,) = matrix (N, K) @ f(x), `block_n` rows a program."""
    n_runs = k // 32
    row_words = tl.multiple_of(k // 8, 4)  # a run is four words: loads are of 16 bytes
    n_groups = n_runs * halves
    n_super = n_groups // per_super
    one: tl.constexpr = 1 << bits
    rows = tl.program_id(0) * block_n + tl.arange(0, block_n)
    row = rows.to(tl.int64)[:, None]
    i = tl.arange(0, 4)
    acc = tl.zeros((block_n, block_g), tl.float32)
    squares = tl.zeros((block_g, 4), tl.float32)
    for start in range(0, n_runs, block_g):
        run = start + tl.arange(0, block_g)
        here = run < n_runs
        mask = (rows < n)[:, None] & here[None, :]
        at = row[:, :, None] * row_words + (run * 4)[None, :, None] + i[None, None, :]
        words = tl.load(low_ptr + at, mask=mask[:, :, None], other=0)
        h: tl.constexpr = bits - 4
        high_at = row[:, :, None] * (n_runs * h) + (run * h)[None, :, None]
        if h > 0:
            share: tl.constexpr = 4 // h
            high_at = high_at + (i // share)[None, None, :]
        for half in tl.static_range(halves):
            part = tl.zeros((block_n, block_g, 4), tl.float32)
            x_sum = tl.zeros((block_g, 4), tl.float32)
            for jj in tl.static_range(8 // halves):
                x_at = (run * 32)[:, None] + (half * 4 + jj) * 4 + i[None, :]
                x = tl.load(x_ptr + x_at, mask=here[:, None], other=0.0)
                if has_gate:
                    up = tl.load(x_ptr + k + x_at, mask=here[:, None], other=0.0)
                    x = x / (1.0 + tl.exp(-x)) * up
                if has_norm:
                    squares += x * x
                    x *= tl.load(norm_ptr + x_at, mask=here[:, None], other=0.0)
                f = _fields(
                    words, high_ptr, high_at, mask[:, :, None], exponent, half * 4 + jj, bits
                )
                part += f * x[None, :, :]
                x_sum += x
            group = (run * halves + half)[None, :]
            scale = _scale(d_ptr, sub_ptr, row, n_super, n_groups, group, per_super, mask, has_sub)
            summed = tl.sum(part, axis=2)
            total = tl.sum(x_sum, axis=1)[None, :]
            acc += scale * (one * summed - (one + offset) * total)
            if has_min:
                acc -= (
                    _scale(
                        dmin_ptr,
                        submin_ptr,
                        row,
                        n_super,
                        n_groups,
                        group,
                        per_super,
                        mask,
                        has_sub,
                    )
                    * total
                )
    found = tl.sum(acc, axis=1)
    if has_norm:
        found *= tl.rsqrt(tl.sum(squares) / k + eps)
    if has_bias:
        found += tl.load(bias_ptr + rows, mask=rows < n, other=0.0)
    if has_residual:
        found += tl.load(residual_ptr + rows, mask=rows < n, other=0.0)
    tl.store(out_ptr + rows, found, mask=rows < n)


def matvec(
    matrix: PackedMatrix,
    x: Tensor,
    out: Tensor,
    *,
    norm: Tensor | None = None,
    eps: float = 0.0,
    is_gated: bool = False,
    bias: Tensor | None = None,
    residual: Tensor | None = None,
    block_n: int = 4,
    block_g: int = 32,
    num_warps: int = 1,
) -> None:
    """Write matrix (N, K) @ f(x) + bias + residual into `out` (N,) float32.

    f is RMSNorm with `norm` (K,), or, `is_gated`, silu(x[:K]) * x[K:]; else nothing. `x` float32.
    """
    arguments = matvec_arguments(matrix, norm=norm, is_gated=is_gated, bias=bias, residual=residual)
    grid = (triton.cdiv(matrix.n, block_n),)
    tensors = (matrix.high, matrix.d, matrix.sub, matrix.dmin, matrix.submin)
    high, d, sub, dmin, submin = (matrix.low if t is None else t for t in tensors)
    matvec_kernel[grid](
        matrix.low,
        high,
        d,
        sub,
        dmin,
        submin,
        x,
        x if norm is None else norm,
        x if bias is None else bias,
        x if residual is None else residual,
        out,
        matrix.n,
        matrix.k,
        eps,
        EXPONENT,
        **arguments,
        block_n=block_n,
        block_g=block_g,
        num_warps=num_warps,
    )


def matvec_arguments(
    matrix: PackedMatrix,
    *,
    norm: Tensor | None,
    is_gated: bool,
    bias: Tensor | None,
    residual: Tensor | None,
) -> dict[str, int | bool]:
    """Return the compile-time arguments for a matrix."""
    n_groups = int((matrix.d if matrix.sub is None else matrix.sub).shape[1])
    return {
        "bits": matrix.bits,
        "offset": matrix.offset,
        "halves": n_groups * 32 // matrix.k,
        "per_super": n_groups // int(matrix.d.shape[1]),
        "has_sub": matrix.sub is not None,
        "has_min": matrix.dmin is not None,
        "has_norm": norm is not None,
        "has_gate": is_gated,
        "has_bias": bias is not None,
        "has_residual": residual is not None,
    }


def bytes_moved(matrix: PackedMatrix) -> int:
    """Return the least bytes a product must move: the matrix once, x, out."""
    return matrix.n_bytes + 4 * (matrix.n + matrix.k)


__all__ = ["bytes_moved", "matvec", "matvec_arguments", "matvec_kernel"]
