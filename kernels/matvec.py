"""Triton: a quantised matrix times one vector in integers: four products an instruction.

Codes stay bytes. The vector is brought to 16-bit integers once, one factor for 32 values, and its
high and low bytes are multiplied apart (`dp4a`), so that nothing is lost but the 16th bit:

    x = f (256 high + low),   sum w x = scale f (256 sum code high + sum code low)
                                        - (offset scale + min) sum x

Three to four instructions a weight, all counted. The vector is stored in the order in which the
kernel reads it (`kernels.integers`): neighbours in a warp read neighbours.
"""

# ruff: noqa: ANN001, ANN201, ANN202 (what a kernel takes are pointers and tensors of Triton)
from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from kernels.integers import RUN, Activations, is_native, places, store_integers
from kernels.packed import PackedMatrix
from kernels.tuned import matvec_blocks


@triton.jit
def prepare_kernel(
    x_ptr,
    norm_ptr,
    codes_ptr,
    factor_ptr,
    sums_ptr,
    k,
    eps,
    has_norm: tl.constexpr,
    has_gate: tl.constexpr,
    block_k: tl.constexpr,  # at least K, where there is a norm
    block_r: tl.constexpr,
):
    """Bring `block_r` runs of f(x) to integers; every program computes the norm anew."""
    n_runs = k // 32
    run = tl.program_id(0) * block_r + tl.arange(0, block_r)
    at = places(run)
    here = (run < n_runs)[:, None, None]
    x = tl.load(x_ptr + at, mask=here, other=0.0)
    if has_gate:
        up = tl.load(x_ptr + k + at, mask=here, other=0.0)
        x = x / (1.0 + tl.exp(-x)) * up
    if has_norm:
        whole = tl.arange(0, block_k)
        every = tl.load(x_ptr + whole, mask=whole < k, other=0.0)
        x *= tl.load(norm_ptr + at, mask=here, other=0.0)
        x *= tl.rsqrt(tl.sum(every * every, axis=0) / k + eps)
    store_integers(x, run, n_runs, codes_ptr, factor_ptr, sums_ptr)


@triton.jit
def _dot4(a, b, c, b_signed: tl.constexpr, is_native: tl.constexpr):
    """Return c + the four products of the bytes of a (unsigned) and of b."""
    if is_native:
        if b_signed:
            return tl.inline_asm_elementwise(
                "dp4a.u32.s32 $0, $1, $2, $3;", "=r,r,r,r", [a, b, c], tl.int32, True, 1
            )
        return tl.inline_asm_elementwise(
            "dp4a.u32.u32 $0, $1, $2, $3;", "=r,r,r,r", [a, b, c], tl.int32, True, 1
        )
    for j in tl.static_range(4):
        value = (b >> (8 * j)) & 255
        if b_signed:
            value = (value ^ 128) - 128
        c = c + ((a >> (8 * j)) & 255) * value
    return c


@triton.jit
def _above(v, is_odd: tl.constexpr, bits: tl.constexpr):
    """Return what is above four bits of the even or odd values, in place, as bytes of words."""
    h: tl.constexpr = bits - 4
    i = tl.arange(0, 4)
    if h == 4:
        return (v & -252645136) if is_odd else ((v & 0x0F0F0F0F) << 4)
    v = v >> ((i % (4 // h)) * (8 * h))[None, None, :]
    if h == 2:
        v = v & 0xFFFF
        v = (v | (v << 8)) & 0x00FF00FF
        v = (v | (v << 4)) & 0x0F0F0F0F
        return ((v & 0x0C0C0C0C) << 2) if is_odd else ((v & 0x03030303) << 4)
    v = v & 0xFF
    v = (v | (v << 12)) & 0x000F000F
    v = (v | (v << 6)) & 0x03030303
    return ((v & 0x02020202) << 3) if is_odd else ((v & 0x01010101) << 4)


@triton.jit
def _weights(
    low_ptr, high_ptr, d_ptr, sub_ptr, dmin_ptr, submin_ptr, start, rows, n, n_runs,
    bits: tl.constexpr, halves: tl.constexpr, per_super: tl.constexpr, has_sub: tl.constexpr,
    has_min: tl.constexpr, is_even: tl.constexpr, block_n: tl.constexpr, block_g: tl.constexpr,
):  # fmt: skip
    """Load a step of the matrix: the low four bits, what is above, factors of one or two groups."""
    run = start + tl.arange(0, block_g)
    mask = (rows < n)[:, None] & (run < n_runs)[None, :]
    if is_even:  # nothing hangs over: loads need no condition
        mask = tl.full((block_n, block_g), True, tl.int1)
    i = tl.arange(0, 4)[None, None, :]
    row = rows.to(tl.int64)[:, None]
    row_words = tl.multiple_of(n_runs * 4, 4)  # a run is four words: loads are of 16 bytes
    at = row[:, :, None] * row_words + (run * 4)[None, :, None] + i
    words = tl.load(low_ptr + at, mask=mask[:, :, None], other=0)
    above = words
    if bits > 4:
        h: tl.constexpr = bits - 4
        at = row[:, :, None] * (n_runs * h) + (run * h)[None, :, None] + (i * h) // 4
        above = tl.load(high_ptr + at, mask=mask[:, :, None], other=0)
    group = (run * halves)[None, :]
    d, sub = _factors(d_ptr, sub_ptr, row, n_runs * halves, group, per_super, mask, has_sub)
    dmin, submin = d, sub
    if has_min:
        dmin, submin = _factors(
            dmin_ptr, submin_ptr, row, n_runs * halves, group, per_super, mask, has_sub
        )
    d_next, sub_next = d, sub
    if halves == 2:
        tl.static_assert(not has_min, "a format with groups of 16 has no minimum")
        d_next, sub_next = _factors(
            d_ptr, sub_ptr, row, n_runs * halves, group + 1, per_super, mask, has_sub
        )
    return words, above, d, sub, dmin, submin, d_next, sub_next


@triton.jit
def _factors(factor_ptr, sub_ptr, row, n_groups, group, per_super, mask, has_sub: tl.constexpr):
    """Load d and sub of a group of each row; d twice where the format has no sub."""
    at = row * (n_groups // per_super) + group // per_super
    value = tl.load(factor_ptr + at, mask=mask, other=0.0)
    sub = value
    if has_sub:
        sub = tl.load(sub_ptr + row * n_groups + group, mask=mask, other=0)
    return value, sub


@triton.jit
def _scale(value, sub, has_sub: tl.constexpr):
    """Return what `_factors` loaded as one number."""
    wide = value.to(tl.float32)
    if has_sub:
        wide *= sub.to(tl.float32)
    return wide


@triton.jit
def _products(
    weights, codes_ptr, factor_ptr, sums_ptr, start, n_runs,
    bits: tl.constexpr, offset: tl.constexpr, halves: tl.constexpr, has_sub: tl.constexpr,
    has_min: tl.constexpr, is_native: tl.constexpr, is_even: tl.constexpr,
    block_n: tl.constexpr, block_g: tl.constexpr,
):  # fmt: skip
    """Return the products (N, G) of a step, as `_weights` loaded it, with its part of x."""
    words, above, d, sub, dmin, submin, d_next, sub_next = weights
    run = start + tl.arange(0, block_g)
    here = run < n_runs
    if is_even:
        here = tl.full((block_g,), True, tl.int1)
    i = tl.arange(0, 4)
    even = words & 0x0F0F0F0F
    odd = (words >> 4) & 0x0F0F0F0F
    if bits > 4:
        even |= _above(above, False, bits)
        odd |= _above(above, True, bits)
    plane = n_runs * 4
    x_at = (run * 4)[None, :, None] + i[None, None, :]
    x_here = here[None, :, None]
    high_even = tl.load(codes_ptr + x_at, mask=x_here, other=0)
    high_odd = tl.load(codes_ptr + plane + x_at, mask=x_here, other=0)
    low_even = tl.load(codes_ptr + 2 * plane + x_at, mask=x_here, other=0)
    low_odd = tl.load(codes_ptr + 3 * plane + x_at, mask=x_here, other=0)
    factor = tl.load(factor_ptr + run, mask=here, other=0.0)[None, :]
    found = tl.zeros((block_n, block_g), tl.float32)
    for half in tl.static_range(halves):
        if halves == 2:
            # The first 16 weights of a run are the low two bytes of its words.
            of_even = even & (0xFFFF if half == 0 else -65536)
            of_odd = odd & (0xFFFF if half == 0 else -65536)
            x_sum = tl.load(sums_ptr + half * n_runs + run, mask=here, other=0.0)[None, :]
        else:
            of_even, of_odd = even, odd
            x_sum = tl.load(sums_ptr + run, mask=here, other=0.0)
            x_sum = (x_sum + tl.load(sums_ptr + n_runs + run, mask=here, other=0.0))[None, :]
        zero = tl.zeros((block_n, block_g, 4), tl.int32)
        total = _dot4(of_odd, high_odd, zero, True, is_native)
        total = _dot4(of_even, high_even, total, True, is_native) * 256
        total = _dot4(of_odd, low_odd, total, False, is_native)
        total = _dot4(of_even, low_even, total, False, is_native)
        summed = tl.sum(total, axis=2).to(tl.float32)
        scale = _scale(d, sub, has_sub) if half == 0 else _scale(d_next, sub_next, has_sub)
        below = offset * scale
        if has_min:
            below += _scale(dmin, submin, has_sub)
        found += scale * (summed * factor) - below * x_sum
    return found


@triton.jit
def matvec_kernel(
    low_ptr,
    high_ptr,
    d_ptr,
    sub_ptr,
    dmin_ptr,
    submin_ptr,
    codes_ptr,
    factor_ptr,
    sums_ptr,
    bias_ptr,
    residual_ptr,
    out_ptr,
    n,
    k,
    bits: tl.constexpr,
    offset: tl.constexpr,
    halves: tl.constexpr,  # groups of a run: 1, or 2 where a group has 16 weights
    per_super: tl.constexpr,  # groups of a factor d
    has_sub: tl.constexpr,
    has_min: tl.constexpr,
    has_bias: tl.constexpr,
    has_residual: tl.constexpr,
    is_native: tl.constexpr,
    is_even: tl.constexpr,  # N and K are multiples of the blocks
    block_n: tl.constexpr,
    block_g: tl.constexpr,
    unroll: tl.constexpr,  # steps whose loads are under way together
):
    """Compute out (N,) = matrix (N, K) @ x, `block_n` rows a program."""
    n_runs = k // 32
    rows = tl.program_id(0) * block_n + tl.arange(0, block_n)
    acc = tl.zeros((block_n, block_g), tl.float32)
    for start in tl.range(0, n_runs, block_g, loop_unroll_factor=unroll):
        weights = _weights(
            low_ptr, high_ptr, d_ptr, sub_ptr, dmin_ptr, submin_ptr, start, rows, n,
            n_runs, bits, halves, per_super, has_sub, has_min, is_even, block_n, block_g,
        )  # fmt: skip
        acc += _products(
            weights, codes_ptr, factor_ptr, sums_ptr, start, n_runs, bits, offset,
            halves, has_sub, has_min, is_native, is_even, block_n, block_g,
        )  # fmt: skip
    found = tl.sum(acc, axis=1)
    if has_bias:
        found += tl.load(bias_ptr + rows, mask=rows < n, other=0.0)
    if has_residual:
        found += tl.load(residual_ptr + rows, mask=rows < n, other=0.0)
    tl.store(out_ptr + rows, found, mask=rows < n)


def prepare(
    x: Tensor,
    to: Activations,
    *,
    norm: Tensor | None = None,
    eps: float = 0.0,
    is_gated: bool = False,
    block_r: int = 2,
    num_warps: int = 1,
) -> None:
    """Write f(x) in integers; f is RMSNorm with `norm`, or silu(x[:K]) * x[K:], or nothing."""
    n_runs = to.factor.shape[0]
    prepare_kernel[(triton.cdiv(n_runs, block_r),)](
        x,
        x if norm is None else norm,
        to.codes,
        to.factor,
        to.sums,
        RUN * n_runs,
        eps,
        has_norm=norm is not None,
        has_gate=is_gated,
        block_k=triton.next_power_of_2(RUN * n_runs) if norm is not None else RUN,
        block_r=block_r,
        num_warps=num_warps,
    )


def matvec(
    matrix: PackedMatrix,
    x: Activations,
    out: Tensor,
    *,
    bias: Tensor | None = None,
    residual: Tensor | None = None,
    blocks: tuple[int, int, int, int] | None = None,
) -> None:
    """Write matrix (N, K) @ x + bias + residual into `out` (N,) float32.

    Args:
        matrix: packed.
        x: as `prepare` wrote it.
        out: (N,) float32.
        bias: (N,), added.
        residual: (N,), added; may be `out`.
        blocks: rows and runs of a program, its warps, steps at a time; None: as measured
            (`kernels.tuned`).
    """
    block_n, block_g, num_warps, unroll = blocks or matvec_blocks(matrix.bits, matrix.n, matrix.k)
    arguments = matvec_arguments(matrix, bias=bias, residual=residual)
    matvec_kernel[(triton.cdiv(matrix.n, block_n),)](
        *matrix.pointers,
        x.codes,
        x.factor,
        x.sums,
        out if bias is None else bias,
        out if residual is None else residual,
        out,
        matrix.n,
        matrix.k,
        **arguments,
        is_native=is_native(out),
        is_even=matrix.n % block_n == 0 and matrix.k % (RUN * block_g) == 0,
        block_n=block_n,
        block_g=block_g,
        unroll=unroll,
        num_warps=num_warps,
    )


def matvec_arguments(
    matrix: PackedMatrix, *, bias: Tensor | None = None, residual: Tensor | None = None
) -> dict[str, int | bool]:
    """Return the compile-time arguments for a matrix."""
    return {
        **matrix.format,
        "has_bias": bias is not None,
        "has_residual": residual is not None,
    }


def bytes_moved(matrix: PackedMatrix) -> int:
    """Return the least bytes a product must move: the matrix once, x, out."""
    return matrix.n_bytes + 4 * (matrix.n + matrix.k)
