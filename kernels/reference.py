"""Attention in plain torch: the specification of the fast versions, right at any shape.

Every function returns what can be merged exactly: outputs with the log of the sum of exponentials
(LSE), in float32. Shapes: T queries, n keys, H heads of Q, H_kv heads of K and V, D.
"""

from __future__ import annotations

import torch
from torch import Tensor

SCORES_AT_ONCE = 1 << 25  # elements of one block of scores: 128 MiB


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    scale: float,
    allowed: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return (H, T, D) and LSE (H, T), float32; a query that may see nothing gives 0 and -inf.

    Args:
        q: (H, T, D).
        k: (H_kv, n, D); head h of Q reads h // (H / H_kv).
        v: (H_kv, n, D).
        scale: of the scores.
        allowed: what may be seen, broadcastable to (H_kv, T, n); None: all.
    """
    n_heads, n_queries, dim = q.shape
    n_kv, n_keys, _ = k.shape
    group = n_heads // n_kv
    wide_k, wide_v = k.float(), v.float()
    out = torch.empty(n_kv, group, n_queries, dim, device=q.device)
    lse = torch.empty(n_kv, group, n_queries, device=q.device)
    grouped = q.float().view(n_kv, group, n_queries, dim)
    step = max(1, SCORES_AT_ONCE // max(1, n_heads * n_keys))
    for at in range(0, n_queries, step):
        rows = slice(at, min(at + step, n_queries))
        part = grouped[:, :, rows].reshape(n_kv, -1, dim)
        scores = (part @ wide_k.transpose(1, 2)).view(n_kv, group, -1, n_keys) * scale
        if allowed is not None:
            seen = _rows_of(allowed, rows, n_queries)
            scores = scores.masked_fill(~seen.unsqueeze(1), float("-inf"))
        lse[:, :, rows] = scores.logsumexp(-1)
        weights = (scores - _finite(lse[:, :, rows]).unsqueeze(-1)).exp()
        mixed = weights.view(n_kv, -1, n_keys) @ wide_v
        out[:, :, rows] = mixed.view(n_kv, group, -1, dim)
    return out.view(n_heads, n_queries, dim), lse.view(n_heads, n_queries)


def merge(parts: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Return the attention over the union of the keys of `parts` (output, LSE), in float32.

    Parts that saw nothing (LSE -inf) count nothing.
    """
    outputs = torch.stack([out.float() for out, _ in parts])
    sums = torch.stack([lse for _, lse in parts])
    total = sums.logsumexp(0)
    weights = (sums - _finite(total)).exp()
    return (weights.unsqueeze(-1) * outputs).sum(0), total


def causal(n_queries: int, n_keys: int, window: int, device: torch.device | str) -> Tensor:
    """Return what the last `n_queries` of `n_keys` tokens may see: (1, T, n) bool.

    `window` tokens, the query's own included; 0: all before it.
    """
    key = torch.arange(n_keys, device=device)[None, :]
    query = torch.arange(n_keys - n_queries, n_keys, device=device)[:, None]
    allowed = key <= query
    if window:
        allowed &= key > query - window
    return allowed[None]


def matvec(weight: Tensor, x: Tensor) -> Tensor:
    """Return weight (N, K) @ x (K,), float32."""
    return weight.float() @ x.float()


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Return x (…, D) over its root mean square, times weight (D,); computed in float32."""
    wide = x.float()
    return wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps) * weight


def _rows_of(allowed: Tensor, rows: slice, n_queries: int) -> Tensor:
    return allowed[:, rows] if allowed.shape[1] == n_queries else allowed


def _finite(lse: Tensor) -> Tensor:
    """-inf becomes 0, so that exp(-inf - it) is 0 and not NaN."""
    return torch.where(lse == float("-inf"), torch.zeros_like(lse), lse)
