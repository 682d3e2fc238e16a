"""How important a cached token is: one small function a method.

Each returns scores (H_kv, n) float32, higher for what should stay. They say nothing of what is
protected (sinks, newest) or how much is kept: that is `models.compression.select`.

- StreamingLLM, Xiao et al. 2023 (arXiv:2309.17453): the newest.
- H2O, Zhang et al. 2023 (arXiv:2306.14048): attention received, summed over all queries.
- SnapKV, Li et al. 2024 (arXiv:2404.14469): attention from the last queries, smoothed.
- KVzip, Kim et al. 2025 (arXiv:2505.23416): the most that any query gives it while the model is
  made to repeat the text: what is needed to say it again, whatever the question.

Shapes: Q (H, T, D), K (H_kv, n, D); the last T of the n keys are the queries' own.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from kernels import reference

OBSERVED = 64  # queries of SnapKV's window
KERNEL = 7  # tokens of its smoothing
WEIGHTS_AT_ONCE = 1 << 24  # elements of attention weights held at a time


def streaming(n: int, n_kv_heads: int) -> Tensor:
    """Return scores by which the newest of `n` tokens stay."""
    return torch.arange(n, dtype=torch.float32).expand(n_kv_heads, n)


def h2o(q: Tensor, k: Tensor) -> Tensor:
    """Return the attention that each key receives from the queries, summed; causal."""
    return _received(q, k, "sum")


def snapkv(q: Tensor, k: Tensor, n_observed: int = OBSERVED, kernel: int = KERNEL) -> Tensor:
    """Return the mean attention from the last `n_observed` queries, smoothed over neighbours.

    Smoothing keeps the words around a word that is looked at (average pooling, stride 1).
    """
    n = min(n_observed, q.shape[1])
    mean = _received(q[:, -n:], k, "sum") / n
    pooled = functional.avg_pool1d(
        mean[:, None], kernel, stride=1, padding=kernel // 2, count_include_pad=False
    )
    return pooled[:, 0]


def kvzip(q: Tensor, k: Tensor, n_context: int) -> Tensor:
    """Return the most attention that any query of a repetition gives each of the context's keys.

    Args:
        q: queries of the repetition.
        k: the context's keys (the first `n_context`), then the repetition's own.
        n_context: keys that are scored.
    """
    return _received(q, k, "max")[:, :n_context]


def _received(q: Tensor, k: Tensor, how: str) -> Tensor:
    """Sum or maximum over the queries, mean or maximum over the heads that share a KV head."""
    n_heads, n_queries, dim = q.shape
    n_kv, n_keys, _ = k.shape
    group = n_heads // n_kv
    wide = k.float()
    grouped = q.float().view(n_kv, group, n_queries, dim)
    found = torch.zeros(n_kv, group, n_keys, device=q.device)
    allowed = reference.causal(n_queries, n_keys, 0, q.device)
    step = max(1, WEIGHTS_AT_ONCE // max(1, n_heads * n_keys))
    for at in range(0, n_queries, step):
        rows = slice(at, at + step)
        part = grouped[:, :, rows]
        scores = torch.einsum("hgtd,hnd->hgtn", part, wide) * dim**-0.5
        weights = scores.masked_fill(~allowed[:, None, rows], float("-inf")).softmax(-1)
        if how == "sum":
            found += weights.sum(2)
        else:
            found = torch.maximum(found, weights.amax(2))
    return found.mean(1) if how == "sum" else found.amax(1)
