"""Triton: the codes of a cache's pages as numbers that tensor cores multiply."""

# ruff: noqa: ANN001, ANN201 (what a kernel takes are pointers and tensors of Triton)
from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def load_codes(codes_ptr, at, bits: tl.constexpr, dim: tl.constexpr):
    """Load what the codes of both halves of the channels are in; of four bits, the same twice."""
    low = tl.load(codes_ptr + at)
    high = low
    if bits > 4:
        high = tl.load(codes_ptr + at + dim // 2)
    return low, high


@triton.jit
def as_halves(codes, half: tl.constexpr, bits: tl.constexpr, is_native: tl.constexpr):
    """Return the codes of one half of the channels, of 64 tokens, as float16.

    Codes are centred (less 128, or 8): sums of them stay small, and so do their errors. A code
    becomes the fraction of a float16 whose exponent makes it count ones: 1024 + code, or, four bits
    further up, 64 + code. Converting integers is slower by four. `is_native`: by PTX, two codes at
    a time; else the same numbers in Triton's own words.
    """
    if bits == 16:
        return codes
    if bits == 8:
        if is_native:
            return tl.inline_asm_elementwise(
                """
                {
                .reg .b32 middle;
                mov.b32 middle, 0x64806480;
                prmt.b32 $0, $2, 0x64646464, 0x4140;
                prmt.b32 $1, $2, 0x64646464, 0x4342;
                sub.f16x2 $0, $0, middle;
                sub.f16x2 $1, $1, middle;
                }
                """,
                "=&r,=&r,r", [codes], tl.float16, True, 4,
            )  # fmt: skip
        return (codes.to(tl.uint16) | 0x6400).to(tl.float16, bitcast=True) - 1152.0
    if is_native:
        if half == 0:
            return tl.inline_asm_elementwise(
                """
                {
                .reg .b32 t, middle;
                mov.b32 middle, 0x64086408;
                and.b32 t, $2, 0x0F0F0F0F;
                prmt.b32 $0, t, 0x64646464, 0x4140;
                prmt.b32 $1, t, 0x64646464, 0x4342;
                sub.f16x2 $0, $0, middle;
                sub.f16x2 $1, $1, middle;
                }
                """,
                "=&r,=&r,r", [codes], tl.float16, True, 4,
            )  # fmt: skip
        return tl.inline_asm_elementwise(
            """
            {
            .reg .b32 t, middle;
            mov.b32 middle, 0x54805480;
            and.b32 t, $2, 0xF0F0F0F0;
            prmt.b32 $0, t, 0x54545454, 0x4140;
            prmt.b32 $1, t, 0x54545454, 0x4342;
            sub.f16x2 $0, $0, middle;
            sub.f16x2 $1, $1, middle;
            }
            """,
            "=&r,=&r,r", [codes], tl.float16, True, 4,
        )  # fmt: skip
    packed = codes.to(tl.uint16)
    if half == 0:
        return ((packed & 15) | 0x6400).to(tl.float16, bitcast=True) - 1032.0
    return ((packed & 240) | 0x5400).to(tl.float16, bitcast=True) - 72.0


@triton.jit
def as_bytes(codes, half: tl.constexpr, bits: tl.constexpr, is_native: tl.constexpr):
    """Return K's codes of one half of the channels as int8: less 128, or four bits as they are."""
    if bits == 8:
        if is_native:
            return tl.inline_asm_elementwise(
                "xor.b32 $0, $1, 0x80808080;", "=r,r", [codes], tl.int8, True, 4
            )
        return (codes ^ 128).to(tl.int8, bitcast=True)
    if is_native:
        if half == 0:
            return tl.inline_asm_elementwise(
                "and.b32 $0, $1, 0x0F0F0F0F;", "=r,r", [codes], tl.int8, True, 4
            )
        return tl.inline_asm_elementwise(
            "{ .reg .b32 t; shr.u32 t, $1, 4; and.b32 $0, t, 0x0F0F0F0F; }",
            "=r,r", [codes], tl.int8, True, 4,
        )  # fmt: skip
    return ((codes & 15) if half == 0 else (codes >> 4)).to(tl.int8)


@triton.jit
def byte_of(x, inverse, is_high):
    """Return the high, or the (signed) low byte of x * inverse as a 16-bit integer."""
    wide = tl.floor(x * inverse[None, :] + 0.5).to(tl.int32)
    return tl.where(is_high[None, :], (wide + 128) >> 8, wide).to(tl.int8)
