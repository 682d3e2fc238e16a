"""GGUF's weight formats in torch: what a block's bytes mean. The specification of every kernel.

A quantised row is split into parts (`Parts`): integer codes, one scale a group, and for some
formats one minimum a group, both as a half-precision factor times a small integer:

    weight = (d * sub) * (code - offset) - dmin * submin

in that order of operations, which makes `dequantise` equal to gguf-py's `dequantize`, bit for bit.
Formats: github.com/ggml-org/llama.cpp, ggml/src/ggml-quants.c.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

# type → (weights of a block, bytes of a block)
BLOCKS: dict[str, tuple[int, int]] = {
    "F32": (1, 4),
    "F16": (1, 2),
    "BF16": (1, 2),
    "Q4_0": (32, 18),
    "Q4_1": (32, 20),
    "Q5_0": (32, 22),
    "Q5_1": (32, 24),
    "Q8_0": (32, 34),
    "Q4_K": (256, 144),
    "Q5_K": (256, 176),
    "Q6_K": (256, 210),
}
PLAIN: dict[str, torch.dtype] = {
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
}
TYPES = frozenset(BLOCKS)


@dataclass(frozen=True, slots=True)
class Parts:
    """A quantised matrix (N, K) in parts. A group has K / sub.shape[1] weights."""

    codes: Tensor  # (N, K) uint8
    bits: int  # of a code
    offset: int  # what a code of zero stands for
    d: Tensor  # (N, K / super-group) float16
    sub: Tensor | None  # (N, K / group) int8; None: 1, and d is per group
    dmin: Tensor | None  # (N, K / super-group) float16; None: no minimum
    submin: Tensor | None  # (N, K / group) int8; None: 1

    @property
    def scale(self) -> Tensor:
        """(N, K / group) float32."""
        return _product(self.d, self.sub)

    @property
    def minimum(self) -> Tensor | None:
        """(N, K / group) float32, what is subtracted; None: nothing."""
        return None if self.dmin is None else _product(self.dmin, self.submin)


def dequantise(raw: Tensor, kind: str) -> Tensor:
    """Return the weights (N, K) float32 of rows `raw` (N, bytes of a row) uint8.

    Raises:
        KeyError: a format that is not in `TYPES`.
    """
    if kind in PLAIN:
        return raw.contiguous().view(PLAIN[kind]).to(torch.float32)
    parts = split(raw, kind)
    n, k = parts.codes.shape
    scale = parts.scale
    grouped = parts.codes.view(n, scale.shape[1], -1).to(torch.float32)
    if parts.offset:
        grouped -= parts.offset
    grouped *= scale[..., None]
    minimum = parts.minimum
    if minimum is not None:
        grouped -= minimum[..., None]
    return grouped.view(n, k)


def split(raw: Tensor, kind: str) -> Parts:
    """Return the parts of rows `raw` (N, bytes of a row) uint8 of a block format.

    Raises:
        KeyError: `kind` is no block format of `TYPES`.
    """
    block, n_bytes = BLOCKS[kind]
    n = raw.shape[0]
    blocks = raw.reshape(-1, n_bytes)
    return _SPLITTERS[kind](blocks, n, raw.shape[1] // n_bytes * block)


def _product(factor: Tensor, sub: Tensor | None) -> Tensor:
    wide = factor.to(torch.float32)
    if sub is None:
        return wide
    n, n_super = wide.shape
    return (wide[..., None] * sub.view(n, n_super, -1).to(torch.float32)).view(n, -1)


def _half(blocks: Tensor, at: int, n: int) -> Tensor:
    """Return the float16 at byte `at` of each block, as (N, blocks of a row)."""
    return blocks[:, at : at + 2].contiguous().view(torch.float16).view(n, -1)


def _nibbles(packed: Tensor, half: int) -> Tensor:
    """Low nibbles of `half` bytes, then their high nibbles, then the next `half` bytes."""
    runs = packed.reshape(packed.shape[0], -1, half)
    return torch.stack((runs & 15, runs >> 4), dim=2).view(packed.shape[0], -1)


def _bits(packed: Tensor, width: int, run: int) -> Tensor:
    """Fields of `width` bits: the lowest of `run` bytes, then the next of the same bytes, …."""
    runs = packed.reshape(packed.shape[0], -1, 1, run)
    shifts = torch.arange(0, 8, width, dtype=torch.uint8, device=packed.device).view(1, 1, -1, 1)
    return ((runs >> shifts) & ((1 << width) - 1)).view(packed.shape[0], -1)


def _q4_0(b: Tensor, n: int, k: int) -> Parts:
    return Parts(_nibbles(b[:, 2:], 16).view(n, k), 4, 8, _half(b, 0, n), None, None, None)


def _q4_1(b: Tensor, n: int, k: int) -> Parts:
    codes = _nibbles(b[:, 4:], 16).view(n, k)
    return Parts(codes, 4, 0, _half(b, 0, n), None, -_half(b, 2, n), None)


def _fifth_bits(b: Tensor) -> Tensor:
    """One bit a weight from 4 bytes, least significant first: (blocks, 32)."""
    shifts = torch.arange(8, dtype=torch.uint8, device=b.device)
    return ((b[..., None] >> shifts) & 1).view(b.shape[0], 32)


def _q5_0(b: Tensor, n: int, k: int) -> Parts:
    codes = _nibbles(b[:, 6:], 16) | (_fifth_bits(b[:, 2:6]) << 4)
    return Parts(codes.view(n, k), 5, 16, _half(b, 0, n), None, None, None)


def _q5_1(b: Tensor, n: int, k: int) -> Parts:
    codes = _nibbles(b[:, 8:], 16) | (_fifth_bits(b[:, 4:8]) << 4)
    return Parts(codes.view(n, k), 5, 0, _half(b, 0, n), None, -_half(b, 2, n), None)


def _q8_0(b: Tensor, n: int, k: int) -> Parts:
    codes = b[:, 2:] ^ 128  # two's complement to an offset of 128
    return Parts(codes.reshape(n, k), 8, 128, _half(b, 0, n), None, None, None)


def _scales_and_minima(packed: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """The 6-bit scales and minima of 8 groups, from 12 bytes: (N, groups) int8 each."""
    low, mid, high = packed[:, :4], packed[:, 4:8], packed[:, 8:]
    scales = torch.cat((low & 63, (high & 15) | ((low >> 2) & 48)), dim=1)
    minima = torch.cat((mid & 63, (high >> 4) | ((mid >> 2) & 48)), dim=1)
    return scales.to(torch.int8).view(n, -1), minima.to(torch.int8).view(n, -1)


def _q4_k(b: Tensor, n: int, k: int) -> Parts:
    sub, submin = _scales_and_minima(b[:, 4:16], n)
    codes = _nibbles(b[:, 16:], 32).view(n, k)
    return Parts(codes, 4, 0, _half(b, 0, n), sub, _half(b, 2, n), submin)


def _q5_k(b: Tensor, n: int, k: int) -> Parts:
    sub, submin = _scales_and_minima(b[:, 4:16], n)
    codes = _nibbles(b[:, 48:], 32) | (_bits(b[:, 16:48], 1, 32) << 4)
    return Parts(codes.view(n, k), 5, 0, _half(b, 0, n), sub, _half(b, 2, n), submin)


def _q6_k(b: Tensor, n: int, k: int) -> Parts:
    codes = _nibbles(b[:, :128], 64) | (_bits(b[:, 128:192], 2, 32) << 4)
    sub = b[:, 192:208].contiguous().view(torch.int8).view(n, -1)
    return Parts(codes.view(n, k), 6, 32, _half(b, 208, n), sub, None, None)


_SPLITTERS: dict[str, Callable[[Tensor, int, int], Parts]] = {
    "Q4_0": _q4_0,
    "Q4_1": _q4_1,
    "Q5_0": _q5_0,
    "Q5_1": _q5_1,
    "Q8_0": _q8_0,
    "Q4_K": _q4_k,
    "Q5_K": _q5_k,
    "Q6_K": _q6_k,
}
