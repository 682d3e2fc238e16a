"""A full fine-tune, to compare the adapter with, and the adapter that comes nearest to it.

Every matrix of every layer is trained, as an update in float32 that starts at zero: weight decay
then draws towards the base instead of towards zero. The two norms of a layer are trained as a
factor `1 + s` on their weights. A norm's weights scale the columns of the matrices that read it,
so that the factor is part of their update and nothing but matrices differs from the base. The last
norm and the tied embedding stay: no LoRA of llama.cpp could carry them.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from models.training.adapter_llama import PROJECTIONS, Adapter, Base, Merged, fuse

READS = {
    "attn_q": "attn_norm",
    "attn_k": "attn_norm",
    "attn_v": "attn_norm",
    "ffn_gate": "ffn_norm",
    "ffn_up": "ffn_norm",
}


class FullUpdate(torch.nn.Module):  # type: ignore[misc]
    """Updates of all seven projections, (L, out, in), and of the norms before them, (L, D)."""

    def __init__(self, base: Base) -> None:
        super().__init__()
        self.w, self.norm = torch.nn.ParameterDict(), torch.nn.ParameterDict()
        for name in PROJECTIONS:
            self.w[name] = torch.nn.Parameter(torch.zeros_like(base.weights[name]))
        for name in ("attn_norm", "ffn_norm"):
            self.norm[name] = torch.nn.Parameter(torch.zeros_like(getattr(base, name)))

    def weights(self, base: Base) -> dict[str, Tensor]:
        """Return the trained matrices as they are behind the base's own norms."""
        trained = {name: base.weights[name] + self.w[name] for name in PROJECTIONS}
        for name, norm in READS.items():
            trained[name] = trained[name] * (1 + self.norm[norm])[:, None]
        return trained

    def merge(self, base: Base, dtype: torch.dtype) -> Merged:
        """Return the trained weights, rounded once."""
        return fuse({name: weight.to(dtype) for name, weight in self.weights(base).items()})

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def updates(self, base: Base) -> dict[str, Tensor]:
        """Return what to add to each projection of the base: (L, out, in), float32."""
        return {name: weight - base.weights[name] for name, weight in self.weights(base).items()}


def low_rank(update: Tensor, rank: int) -> tuple[Tensor, Tensor, float]:
    """Return the A (L, r, in) and B (L, out, r) whose product comes nearest to `update`.

    It projects onto the strongest singular vectors of the shorter side, found as eigenvectors in
    float64, which is many times faster than a whole decomposition. Both factors get the square root
    of the singular values, so that they are rounded alike. The third result is the share of the
    update's squared size that is kept.
    """
    m = update.double()
    wide = m.shape[1] < m.shape[2]
    values, vectors = torch.linalg.eigh(m @ m.mT if wide else m.mT @ m)  # ascending
    values = values.clamp_min(1e-24)  # an update that is all zero
    top, root = vectors[:, :, -rank:], values[:, None, -rank:] ** 0.25
    b, a = (top * root, (top / root).mT @ m) if wide else (m @ (top / root), (top * root).mT)
    return a.float(), b.float(), float(values[:, -rank:].sum() / values.sum())


def nearest(
    updates: Mapping[str, Tensor], ranks: Mapping[str, int]
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Return an adapter's tensors (`attn_q.a` …) for the updates, and what share each keeps."""
    tensors: dict[str, Tensor] = {}
    kept: dict[str, float] = {}
    for name in PROJECTIONS:
        a, b, kept[name] = low_rank(updates[name], ranks[name])
        tensors |= {f"{name}.a": a, f"{name}.b": b}
    return tensors, kept


@torch.no_grad()  # type: ignore[untyped-decorator]
def narrowed(
    full: FullUpdate, base: Base, ranks: dict[str, int]
) -> tuple[Adapter, dict[str, float]]:
    """Return the adapter nearest to `full`, and what share of each projection's update it keeps."""
    tensors, kept = nearest(full.updates(base), ranks)
    adapter = Adapter(base, ranks)
    for name in PROJECTIONS:
        adapter.a[name].copy_(tensors[f"{name}.a"])
        adapter.b[name].copy_(tensors[f"{name}.b"])
    return adapter.to(base.embedding.device), kept
