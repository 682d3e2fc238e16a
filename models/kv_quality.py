"""What a KV type costs, and which one to take: the verdict of `models.kv_selftest`."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

# Mean divergence that is accepted: that of Q5_K_M weights is 0.011, of Q6_K 0.0055 (llama.cpp,
# pull request 7412, Llama-3-8B on Wikitext), so the cache should not cost more than such weights.
MOST_KL = 0.01
LEAST_AGREEMENT = 0.95


class KvComparison(msgspec.Struct, frozen=True, array_like=True):
    """One KV type beside f16. `kl` in nats."""

    kv_type: str
    n_tokens: int
    mean_kl: float
    p99_kl: float
    top1_agreement: float
    bytes_ratio: float  # of f16's size

    @property
    def is_good(self) -> bool:
        """Whether it may be used for this model and text."""
        return self.mean_kl <= MOST_KL and self.top1_agreement >= LEAST_AGREEMENT


def recommend(comparisons: Sequence[KvComparison]) -> str:
    """Return the smallest KV type that is good enough; f16 where none is."""
    good = [c for c in comparisons if c.is_good]
    return min(good, key=lambda c: c.bytes_ratio).kv_type if good else "f16"
