"""Triton: the codes of a cache's pages (`kernels.kv_pages`), multiplied as bytes.

What they are multiplied with comes as 16-bit integers, whose high and low bytes are neighbouring
columns of a tile:

    x = f (256 high + low),   sum code x = f (256 sum code high + sum code low)
"""

# ruff: noqa: ANN001, ANN201 (what a kernel takes are pointers and tensors of Triton)
from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def load_k(codes_ptr, place, token, channel, bits: tl.constexpr, dim: tl.constexpr):
    """Load a page's K, the channels' halves apart (page, D / 2); of four bits, the same twice."""
    page: tl.constexpr = token.shape[0]
    width: tl.constexpr = dim // 2 if bits == 4 else dim
    at = place * (page * width) + token[:, None] * width + channel[None, :]
    low = tl.load(codes_ptr + at)
    high = low
    if bits > 4:
        high = tl.load(codes_ptr + at + dim // 2)
    return low, high


@triton.jit
def load_v(codes_ptr, place, token, channel, bits: tl.constexpr, dim: tl.constexpr):
    """Load a page's V, the channels' halves apart (D / 2, page; of four bits page / 2)."""
    page: tl.constexpr = token.shape[0]
    half: tl.constexpr = dim // 2
    if bits == 16:
        at = place * (page * dim) + token[:, None] * dim + channel[None, :]
        low, high = tl.trans(tl.load(codes_ptr + at)), tl.trans(tl.load(codes_ptr + at + half))
    else:
        width: tl.constexpr = page * bits // 8
        at = place * (dim * width) + channel[:, None] * width + tl.arange(0, width)[None, :]
        low, high = tl.load(codes_ptr + at), tl.load(codes_ptr + at + half * width)
    return low, high


@triton.jit
def nibbles(codes, which: tl.constexpr, is_native: tl.constexpr):
    """Return the low (0) or high (1) four bits of each byte, as int8."""
    if is_native and which == 0:  # four at a time
        found = tl.inline_asm_elementwise(
            "and.b32 $0, $1, 0x0F0F0F0F;", "=r,r", [codes], tl.int8, True, 4
        )
    elif is_native:
        found = tl.inline_asm_elementwise(
            "{ .reg .b32 t; shr.u32 t, $1, 4; and.b32 $0, t, 0x0F0F0F0F; }",
            "=r,r", [codes], tl.int8, True, 4,
        )  # fmt: skip
    else:
        found = ((codes & 15) if which == 0 else (codes >> 4)).to(tl.int8)
    return found


@triton.jit
def byte_of(x, is_high):
    """Return the high or the (signed) low byte of x, rounded to a 16-bit integer."""
    wide = tl.floor(x + 0.5).to(tl.int32)
    return tl.where(is_high, (wide + 128) >> 8, wide).to(tl.int8)


@triton.jit
def columns_of_bytes(x):
    """Return the bytes (n, 2 r) of x (n, r): of each column its high ones, its low ones."""
    wide = tl.floor(x + 0.5).to(tl.int32)
    both = tl.join(((wide + 128) >> 8).to(tl.int8), wide.to(tl.int8))
    return tl.reshape(both, (x.shape[0], 2 * x.shape[1]))


@triton.jit
def of_both_bytes(sums):
    """Return what sums (n, 2 r) over both bytes make together (n, r), float32."""
    high, low = tl.split(tl.reshape(sums, (sums.shape[0], sums.shape[1] // 2, 2)))
    return (high * 256 + low).to(tl.float32)


@triton.jit
def dot_k(k_low, k_high, q_low, q_high, bits: tl.constexpr, is_native: tl.constexpr):
    """Return the sums (page, 2 r) over the channels of codes with q's bytes (D / 2, 2 r), int32."""
    if bits == 4:
        k_low = nibbles(k_low, 0, is_native)
        k_high = nibbles(k_high, 1, is_native)
    sums = tl.dot(k_low, q_low, out_dtype=tl.int32)
    return tl.dot(k_high, q_high, sums, out_dtype=tl.int32)


@triton.jit
def dot_v(codes, weights, bits: tl.constexpr, is_native: tl.constexpr):
    """Return the sums (D / 2, 2 r) over a page's tokens of V's codes with bytes (page, 2 r)."""
    if bits == 8:
        sums = tl.dot(codes, weights, out_dtype=tl.int32)
    else:
        halves = tl.reshape(weights, (2, weights.shape[0] // 2, weights.shape[1]))
        first, second = tl.split(tl.permute(halves, (1, 2, 0)))
        sums = tl.dot(nibbles(codes, 0, is_native), first, out_dtype=tl.int32)
        sums = tl.dot(nibbles(codes, 1, is_native), second, sums, out_dtype=tl.int32)
    return sums
