"""From scores to what stays: whole pages a head, the protected never among what is dropped.

Protected tokens (sinks, newest) are not scored at all: they are not in the pages. Budgets are in
pages, because memory is freed in pages.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from kernels.kv_pages import PAGE


def uniform(scores: list[Tensor], keep: float) -> list[list[Tensor]]:
    """Return the kept tokens, ascending, of each layer's heads: the same number everywhere.

    Args:
        scores: a layer: (H_kv, n), n a multiple of a page.
        keep: share of the pages that stays, rounded up to a page.
    """
    found = []
    for layer in scores:
        n_kept = _budget(layer.shape[1], keep) * PAGE
        found.append(list(layer.topk(n_kept, dim=1).indices.sort(dim=1).values))
    return found


def adaptive(scores: list[Tensor], keep: float, floor: float = 0.2) -> list[list[Tensor]]:
    """The same share over all, more for heads whose scores are high (Feng et al. 2024, Ada-KV).

    The pages of all heads compete, a page of a head being its next 64 tokens by score; each head
    keeps `floor` of the even share at least.
    """
    n_layers, n_heads = len(scores), scores[0].shape[0]
    n_pages = scores[0].shape[1] // PAGE
    total = math.ceil(n_layers * n_heads * n_pages * keep)
    if not n_pages:
        return uniform(scores, keep)
    ordered = torch.stack(scores).sort(dim=2, descending=True)
    worth = ordered.values.unflatten(2, (n_pages, PAGE)).sum(3)  # (L, H, pages), falling
    least = min(n_pages, max(1, int(keep * floor * n_pages)))
    worth[:, :, :least] = float("inf")
    best = worth.flatten().topk(max(total, n_layers * n_heads * least)).indices
    kept = torch.zeros(worth.numel(), dtype=torch.bool)
    kept[best.cpu()] = True
    counts = kept.view(n_layers, n_heads, n_pages).sum(2)
    return [
        [
            ordered.indices[layer, head, : int(counts[layer, head]) * PAGE].sort().values
            for head in range(n_heads)
        ]
        for layer in range(n_layers)
    ]


def _budget(n_tokens: int, keep: float) -> int:
    if not 0 < keep <= 1:
        raise ValueError(f"keep {keep}: more than 0 and at most 1")
    return min(n_tokens // PAGE, math.ceil(n_tokens / PAGE * keep))
