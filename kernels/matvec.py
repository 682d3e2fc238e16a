"""Triton: a quantised matrix times one vector in integers: four products an instruction.

Codes stay bytes. The vector is brought to 16-bit integers once, one factor for 32 values, and its
high and low bytes are multiplied apart (`dp4a`), so that nothing is lost but the 16th bit:

    x = f (256 high + low),   sum w x = scale f (256 sum code high + sum code low)
                                        - (offset scale + min) sum x

Two instructions a weight, all counted, where three left the memory waiting: K is known when the
kernel is compiled, what is read of a group stands side by side, and a run's products are one chain.
The vector is stored in the order in which the kernel reads it (`kernels.integers`): neighbours in a
warp read neighbours.
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
    x_factors_ptr,
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
    store_integers(x, run, n_runs, codes_ptr, x_factors_ptr)


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
def _four(words):
    """Return the words (…, 4) of runs, each a tensor of its own."""
    pairs = tl.reshape(words, (words.shape[0], words.shape[1], 2, 2))
    even, odd = tl.split(pairs)
    first, third = tl.split(even)
    second, fourth = tl.split(odd)
    return first, second, third, fourth


@triton.jit
def _product(codes, high, low, zero, is_native: tl.constexpr):
    """Return the sum over a run of codes (N, G, 4) times x, 256 high + low, both (1, G, 4)."""
    c, h, low4 = _four(codes), _four(high), _four(low)
    total = zero
    for j in tl.static_range(4):
        total = _dot4(c[j], h[j], total, True, is_native)
    total = total * 256
    for j in tl.static_range(4):
        total = _dot4(c[j], low4[j], total, False, is_native)
    return total


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
def _pair(at_ptr, mask, has_two: tl.constexpr):
    """Load a value, or the two that stand side by side, of each group."""
    if has_two:
        at = at_ptr[:, :, None] + tl.arange(0, 2)[None, None, :]
        return tl.split(tl.load(at, mask=mask[:, :, None], other=0))
    one = tl.load(at_ptr, mask=mask, other=0)
    return one, one


@triton.jit
def _weights(
    low_ptr, high_ptr, factors_ptr, subs_ptr, start, rows, n, n_runs: tl.constexpr,
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
    at = row[:, :, None] * (n_runs * 4) + (run * 4)[None, :, None] + i
    words = tl.load(low_ptr + at, mask=mask[:, :, None], other=0)
    above = words
    if bits > 4:
        h: tl.constexpr = bits - 4
        at = row[:, :, None] * (n_runs * h) + (run * h)[None, :, None] + (i * h) // 4
        above = tl.load(high_ptr + at, mask=mask[:, :, None], other=0)
    group = (run * halves)[None, :]
    of: tl.constexpr = 2 if has_min else 1
    n_groups: tl.constexpr = n_runs * halves
    at = row * (n_groups // per_super) + group // per_super
    d, dmin = _pair(factors_ptr + at * of, mask, has_min)
    sub, submin = d, d
    if has_sub:
        sub, submin = _pair(subs_ptr + (row * n_groups + group) * of, mask, has_min)
    d_next, sub_next = d, sub
    if halves == 2:
        tl.static_assert(not has_min, "a format with groups of 16 has no minimum")
        at = row * (n_groups // per_super) + (group + 1) // per_super
        d_next, _ = _pair(factors_ptr + at, mask, False)
        if has_sub:
            sub_next, _ = _pair(subs_ptr + row * n_groups + group + 1, mask, False)
    return words, above, d, sub, dmin, submin, d_next, sub_next


@triton.jit
def _scale(value, sub, has_sub: tl.constexpr):
    """Return a factor and its part as one number."""
    wide = value.to(tl.float32)
    if has_sub:
        wide *= sub.to(tl.float32)
    return wide


@triton.jit
def _added(
    acc, weights, codes_ptr, x_factors_ptr, start, n_runs: tl.constexpr,
    bits: tl.constexpr, offset: tl.constexpr, halves: tl.constexpr, has_sub: tl.constexpr,
    has_min: tl.constexpr, is_native: tl.constexpr, is_even: tl.constexpr,
    block_n: tl.constexpr, block_g: tl.constexpr,
):  # fmt: skip
    """Return acc (N, G) and the products of a step, as `_weights` loaded it, with its part of x."""
    words, above, d, sub, dmin, submin, d_next, sub_next = weights
    run = start + tl.arange(0, block_g)
    here = run < n_runs
    if is_even:
        here = tl.full((block_g,), True, tl.int1)
    i = tl.arange(0, 4)
    even = words & 0x0F0F0F0F
    if bits == 4:
        odd = words & -252645136  # 16 times as much
    else:
        odd = ((words >> 4) & 0x0F0F0F0F) | _above(above, True, bits)
        even |= _above(above, False, bits)
    plane: tl.constexpr = n_runs * 4
    x_at = codes_ptr + (run * 4)[None, :, None] + i[None, None, :]
    x_here = here[None, :, None]
    high_even = tl.load(x_at, mask=x_here, other=0)
    high_odd = tl.load(x_at + plane, mask=x_here, other=0)
    low_even = tl.load(x_at + 2 * plane, mask=x_here, other=0)
    low_odd = tl.load(x_at + 3 * plane, mask=x_here, other=0)
    zero = tl.zeros((block_n, block_g), tl.int32)
    of_run = x_factors_ptr + (run * 4)[None, :]
    factor, x_sum = _pair(of_run, here[None, :], True)
    x_sums = x_sum, x_sum
    if halves == 2:
        x_sums = _pair(of_run + 2, here[None, :], True)
    scales = _scale(d, sub, has_sub), _scale(d_next, sub_next, has_sub)
    for half in tl.static_range(halves):
        of_odd, of_even = odd, even
        if halves == 2:  # the first 16 weights of a run are the low two bytes of its words
            of_odd = odd & (0xFFFF if half == 0 else -65536)
            of_even = even & (0xFFFF if half == 0 else -65536)
        total = _product(of_odd, high_odd, low_odd, zero, is_native)
        if bits == 4:
            total = total >> 4
        total += _product(of_even, high_even, low_even, zero, is_native)
        part = scales[half] * (total.to(tl.float32) * factor)
        if has_min:
            part -= _scale(dmin, submin, has_sub) * x_sum
        if offset:
            part -= offset * scales[half] * x_sums[half]
        acc += part
    return acc


@triton.jit
def matvec_kernel(
    low_ptr,
    high_ptr,
    factors_ptr,
    subs_ptr,
    codes_ptr,
    x_factors_ptr,
    bias_ptr,
    residual_ptr,
    out_ptr,
    n,
    k: tl.constexpr,
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
    n_runs: tl.constexpr = k // 32
    rows = tl.program_id(0) * block_n + tl.arange(0, block_n)
    acc = tl.zeros((block_n, block_g), tl.float32)
    for start in tl.range(0, n_runs, block_g, loop_unroll_factor=unroll):
        weights = _weights(
            low_ptr, high_ptr, factors_ptr, subs_ptr, start, rows, n, n_runs, bits, halves,
            per_super, has_sub, has_min, is_even, block_n, block_g,
        )  # fmt: skip
        acc = _added(
            acc, weights, codes_ptr, x_factors_ptr, start, n_runs, bits, offset, halves, has_sub,
            has_min, is_native, is_even, block_n, block_g,
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
    n_runs = to.factors.shape[0]
    prepare_kernel[(triton.cdiv(n_runs, block_r),)](
        x,
        x if norm is None else norm,
        to.codes,
        to.factors,
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
        x.factors,
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
