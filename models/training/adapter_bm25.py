"""BM25 in NumPy, to mine the passages that look like an answer. For building data, not for search.

Scores are Robertson's with k1 = 1.2 and b = 0.75. One index holds one document or one corpus of
some ten thousand passages; a query costs the postings of its terms.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict

import numpy as np

WORD = re.compile(r"[A-Za-z0-9]+")
STOP = frozenset(
    re.findall(
        r"\w+",
        """the a an of to in is are was were and or for on by with at from as that this it its
        be does do did what which who when where how why there their has have had can may any
        not if""",
    )
)


def terms(text: str) -> list[str]:
    """Return the lower-case words of `text` without stop words, plurals cut."""
    found = (w.lower() for w in WORD.findall(text))
    return [w[:-1] if len(w) > 4 and w.endswith("s") else w for w in found if w not in STOP]


class Bm25:
    """An index over `texts`; passages are numbered in their order."""

    def __init__(self, texts: list[str], k1: float = 1.2, b: float = 0.75) -> None:
        postings: dict[str, list[tuple[int, int]]] = defaultdict(list)
        lengths = np.zeros(len(texts), np.float32)
        for i, text in enumerate(texts):
            counts = Counter(terms(text))
            lengths[i] = sum(counts.values())
            for word, count in counts.items():
                postings[word].append((i, count))
        norm = k1 * (1 - b + b * lengths / max(1.0, float(lengths.sum()) / max(1, len(texts))))
        self.n_texts = len(texts)
        self.weights: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        for word, found in postings.items():
            owners = np.array([i for i, _ in found], np.int32)
            n = np.array([c for _, c in found], np.float32)
            idf = np.log(1 + (len(texts) - len(owners) + 0.5) / (len(owners) + 0.5))
            self.weights[word] = (owners, idf * n * (k1 + 1) / (n + norm[owners]))

    def top(self, query: str, k: int) -> list[int]:
        """Return the `k` best passages, best first; fewer where the index is smaller."""
        scores = np.zeros(self.n_texts, np.float32)
        for word in set(terms(query)):
            if word in self.weights:
                found, weight = self.weights[word]
                scores[found] += weight
        k = min(k, self.n_texts)
        if not k:
            return []
        best = np.argpartition(-scores, k - 1)[:k]
        return [int(i) for i in best[np.argsort(-scores[best], kind="stable")]]
