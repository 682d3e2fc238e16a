"""Pages of KV in few bits: the layout, and the plain torch that defines it.

A page holds `PAGE` tokens of one head. KIVI's layout (Liu et al. 2024, arXiv:2402.02750):

- K per channel: one scale and zero a channel, over the page's tokens (group size `PAGE`);
- V per token: one scale and zero for each half of a token's channels (group size D / 2).

value = code * scale + zero, scales and zeros float16. Pages are stored as tensor cores read them,
so that a kernel turns no page around: K by token, (PAGE, D); V by channel, (D, PAGE). Eight-bit
codes are kept less 128, as int8; of four bits a byte holds two, n / 2 places apart in a row of n.
Sixteen bits: the values themselves, both by token.
"""

from __future__ import annotations

import torch
from torch import Tensor

PAGE = 64
BITS = (4, 8, 16)


def encode_k(k: Tensor, bits: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return codes, scale (…, D), zero (…, D) of `k` (…, PAGE, D)."""
    if bits == 16:
        return k.to(torch.float16), _none(k, k.shape[-1]), _none(k, k.shape[-1])
    scale, zero = _range(k, bits, dim=-2)
    codes = _codes(k, scale.unsqueeze(-2), zero.unsqueeze(-2), bits)
    return pack(codes, bits), scale, zero


def encode_v(v: Tensor, bits: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return codes, scale (…, PAGE, 2), zero (…, PAGE, 2) of `v` (…, PAGE, D)."""
    if bits == 16:
        return v.to(torch.float16), _none(v, 2), _none(v, 2)
    halves = v.unflatten(-1, (2, -1))
    scale, zero = _range(halves, bits, dim=-1)
    codes = _codes(halves, scale.unsqueeze(-1), zero.unsqueeze(-1), bits).flatten(-2)
    return pack(codes.transpose(-1, -2), bits), scale, zero


def decode_k(codes: Tensor, scale: Tensor, zero: Tensor, bits: int) -> Tensor:
    """Return K (…, PAGE, D) float32."""
    if bits == 16:
        return codes.to(torch.float32)
    wide = unpack(codes, bits).to(torch.float32)
    return wide * scale.float().unsqueeze(-2) + zero.float().unsqueeze(-2)


def decode_v(codes: Tensor, scale: Tensor, zero: Tensor, bits: int) -> Tensor:
    """Return V (…, PAGE, D) float32."""
    if bits == 16:
        return codes.to(torch.float32)
    halves = unpack(codes, bits).transpose(-1, -2).to(torch.float32).unflatten(-1, (2, -1))
    return (halves * scale.float().unsqueeze(-1) + zero.float().unsqueeze(-1)).flatten(-2)


def pack(codes: Tensor, bits: int) -> Tensor:
    """Return unsigned codes (…, n) uint8 as they are stored: n int8, or n / 2 uint8 for 4 bits."""
    if bits == 8:
        return (codes ^ 128).view(torch.int8)
    low, high = codes.chunk(2, dim=-1)
    return low | (high << 4)


def unpack(packed: Tensor, bits: int) -> Tensor:
    """Return the codes (…, n) uint8."""
    if bits == 8:
        return packed.view(torch.uint8) ^ 128
    return torch.cat((packed & 15, packed >> 4), dim=-1)


def empty_codes(n: int, head_dim: int, bits: int, device: torch.device, *, is_k: bool) -> Tensor:
    """Return room for the codes of `n` pages."""
    if bits == 16:
        return torch.empty((n, PAGE, head_dim), dtype=torch.float16, device=device)
    rows, row = (PAGE, head_dim) if is_k else (head_dim, PAGE)
    dtype = torch.int8 if bits == 8 else torch.uint8
    return torch.empty((n, rows, row * bits // 8), dtype=dtype, device=device)


def page_bytes(head_dim: int, bits: int, *, is_k: bool) -> int:
    """Return the bytes of one page of K or V with its scales and zeros."""
    if bits == 16:
        return 2 * PAGE * head_dim
    n_scales = head_dim if is_k else 2 * PAGE
    return PAGE * head_dim * bits // 8 + 4 * n_scales


def hadamard(n: int, device: torch.device | str = "cpu") -> Tensor:
    """Return the orthonormal, symmetric Hadamard matrix (n, n) float32; n is a power of two.

    A rotation of Q and K by it leaves attention as it is and spreads a large channel over all.
    """
    if n < 1 or n & (n - 1):
        raise ValueError(f"no Hadamard matrix of {n} rows is built here: not a power of two")
    matrix = torch.ones(1, 1, device=device)
    while matrix.shape[0] < n:
        row = torch.cat((matrix, matrix), dim=1)
        matrix = torch.cat((row, torch.cat((matrix, -matrix), dim=1)), dim=0)
    return matrix / n**0.5


def _range(x: Tensor, bits: int, dim: int) -> tuple[Tensor, Tensor]:
    """Scale and zero as they are stored. What they cannot reach is clamped by `_codes`."""
    low = x.amin(dim).float()
    high = x.amax(dim).float()
    scale = (high - low) / ((1 << bits) - 1)
    return scale.to(torch.float16), low.to(torch.float16)


def _codes(x: Tensor, scale: Tensor, zero: Tensor, bits: int) -> Tensor:
    step = scale.float()
    inverse = torch.where(step > 0, 1 / step, torch.zeros_like(step))
    codes = ((x.float() - zero.float()) * inverse).round()
    return codes.clamp(0, (1 << bits) - 1).to(torch.uint8)


def _none(like: Tensor, n: int) -> Tensor:
    """Scales of a page that has none: of no tokens and no bytes."""
    return torch.zeros((*like.shape[:-2], 0, n), dtype=torch.float16, device=like.device)
