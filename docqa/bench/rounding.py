"""How llama.cpp rounds on a CPU before it multiplies, in plain torch.

Beside quantised weights it rounds activations to eight bits, a scale for 32 or 256 of them; beside
an f16 cache it rounds Q, and what it sums of V, to f16. As in ggml's `ggml-quants.c` and
`ggml-cpu/quants.c` (`quantize_row_q8_0`, `_q8_1`, `_q8_K`) and `ops.cpp` (flash attention).
"""

from __future__ import annotations

import torch
from torch import Tensor

# weights → the format that activations take beside them
ACTIVATIONS = {
    **dict.fromkeys(("Q4_0", "Q5_0", "Q8_0"), "Q8_0"),
    **dict.fromkeys(("Q4_1", "Q5_1"), "Q8_1"),
    **dict.fromkeys(("Q4_K", "Q5_K", "Q6_K"), "Q8_K"),
}
BLOCK, LARGE_BLOCK = 32, 256
TILE = 64  # queries from which on attention is computed another way, in float32


def rounded(x: Tensor, kind: str) -> Tensor:
    """Return activations x (T, K) as they are beside weights of `kind`, float32."""
    form = ACTIVATIONS.get(kind)
    if form is None:
        return x.to({"F16": torch.float16, "BF16": torch.bfloat16}.get(kind, x.dtype)).float()
    codes, d = _codes(x, form)
    return (codes * (d if form == "Q8_K" else d.half().float())).flatten(1)


def lost_sums(x: Tensor) -> Tensor:
    """Return (T, K / 32): what Q8_1's sum of a block is more than the sum of its activations.

    Formats with a minimum multiply it by that sum, which was rounded to f16 on its own.
    """
    codes, d = _codes(x, "Q8_1")
    sums = codes.sum(-1, keepdim=True)
    return ((d * sums).half().float() - d.half().float() * sums).flatten(1)


def minima(raw: Tensor, kind: str) -> Tensor:
    """Return the minimum of each block (N, K / 32) float32 of Q4_1's or Q5_1's bytes."""
    block = raw.view(len(raw), -1, {"Q4_1": 20, "Q5_1": 24}[kind])
    return block[:, :, 2:4].contiguous().view(torch.float16).flatten(1).float()


def rounded_attention(q: Tensor, k: Tensor, v: Tensor, scale: float, allowed: Tensor) -> Tensor:
    """Return (H, T, D), T < 64: a key after the other, Q and the sums of V in f16.

    Args:
        q: (H, T, D).
        k: (H_kv, n, D) float16.
        v: (H_kv, n, D) float16.
        scale: of the scores.
        allowed: what may be seen (T, n).
    """
    assert q.shape[1] < TILE
    group = q.shape[0] // k.shape[0]
    keys = k.float().repeat_interleave(group, 0)
    values = v.float().repeat_interleave(group, 0)
    scores = (q.half().float() @ keys.transpose(1, 2)) * scale
    scores = scores.masked_fill(~allowed, float("-inf"))
    most = torch.full(q.shape[:2], float("-inf"))
    total = torch.zeros(q.shape[:2])
    mixed = torch.zeros(q.shape, dtype=torch.float16)
    for at in range(k.shape[1]):
        score, seen = scores[:, :, at], allowed[:, at].expand(q.shape[:2])
        is_higher = score > most
        shrunk = torch.where(is_higher, (most - score).exp(), 1.0)
        weight = torch.where(is_higher, 1.0, (score - most).exp())
        kept = torch.where(is_higher[..., None], (mixed.float() * shrunk[..., None]).half(), mixed)
        added = (kept.float() + weight[..., None] * values[:, None, at]).half()
        mixed = torch.where(seen[..., None], added, mixed)
        total = torch.where(seen, total * shrunk + weight, total)
        most = torch.where(is_higher, score, most)
    return mixed.float() / total[..., None]


def _codes(x: Tensor, form: str) -> tuple[Tensor, Tensor]:
    """Return codes (T, blocks, values) and scales (T, blocks, 1), float32."""
    size = LARGE_BLOCK if form == "Q8_K" else BLOCK
    blocks = x.view(len(x), -1, size)
    most = blocks.abs().amax(-1, keepdim=True)
    if form == "Q8_K":  # the largest, with its sign, becomes -127
        most = -blocks.gather(-1, blocks.abs().argmax(-1, keepdim=True))
    # A number over a tensor is computed as its reciprocal times the number: another last digit.
    inverse = torch.where(most == 0, 0.0, torch.full_like(most, 127.0) / most)
    codes = (blocks * inverse).round().clamp(max=127)
    d = torch.where(most == 0, 0.0, 1.0 / inverse) if form == "Q8_K" else most / 127.0
    return codes, d
