"""Hard negatives: what docqa's own search brings for each question, computed with matrices.

Lexical: BM25 over word pieces (k1 1.2, b 0.75; pieces in more than `MAX_SHARE` of the passages do
not count). Dense: the packaged MiniLM over context and text. Fused by reciprocal ranks, as in
`docqa.retrieve`. Everything is exact and dense, so that a GPU does 80,000 questions in seconds.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.reader_pairs import CLS, PAD, SEP
from models.training.reader_model import Weights, cast, embed
from models.training.reader_records import DOCUMENT, POOLS, Arrays

N_HYBRID = 50
N_EACH = 100  # of each ranking that is fused
RRF_K = 60
MAX_SHARE = 0.15
K1, B = 1.2, 0.75
VOCABULARY = 30_522
EMBED_TOKENS = 254

Ids = npt.NDArray[np.int64]


def mine(arrays: Arrays, base: Weights, device: str) -> npt.NDArray[np.int32]:
    """Return (Q, N_HYBRID): passages best first, -1 where a query's scope holds fewer.

    Development passages are left out for training queries, and only for them.
    """
    dtype = torch.float32 if device == "cpu" else torch.float16
    weights = cast(base, dtype)
    passages = _embedded(_passage_rows(arrays), weights, device)
    questions = _embedded(_question_rows(arrays), weights, device)
    found = np.full((len(arrays["kind"]), N_HYBRID), -1, np.int32)
    for scope in np.unique(arrays["scope"]):
        queries = np.flatnonzero(arrays["scope"] == scope)
        if scope & DOCUMENT:
            _mine_documents(arrays, queries, questions, passages, found, device)
        elif scope:
            pools = [i for i in range(len(POOLS)) if scope >> i & 1]
            members = np.flatnonzero(np.isin(arrays["pool_of"], pools))
            lexical = Lexical(arrays, members, device)
            for split in (0, 1):
                chosen = queries[arrays["split"][queries] == split]
                hidden = arrays["is_dev"][members].astype(bool) if split == 0 else None
                _rank(arrays, chosen, questions, passages, members, lexical, hidden, found)
    return found


def _mine_documents(
    arrays: Arrays,
    queries: Ids,
    questions: Tensor,
    passages: Tensor,
    found: npt.NDArray[np.int32],
    device: str,
) -> None:
    """Rank each query's own document. Word weights are those of the whole pool."""
    anchors = np.array([_anchor(arrays, int(q)) for q in queries])
    docs = np.where(anchors >= 0, arrays["doc_of"][np.maximum(anchors, 0)], -1)
    order = np.argsort(arrays["doc_of"], kind="stable")
    sorted_docs = arrays["doc_of"][order]
    idf = Lexical.idf_of(arrays, np.flatnonzero(np.isin(arrays["doc_of"], docs)), device)
    for doc in np.unique(docs[docs >= 0]):
        left, right = np.searchsorted(sorted_docs, [doc, doc + 1])
        members = np.sort(order[left:right])
        lexical = Lexical(arrays, members, device, idf)
        chosen = queries[docs == doc]
        _rank(arrays, chosen, questions, passages, members, lexical, None, found)


def _anchor(arrays: Arrays, query: int) -> int:
    """Return a passage of the document that the query is asked of; -1 where none is known."""
    at = arrays["right_at"]
    if at[query + 1] > at[query]:
        return int(arrays["right"][at[query], 0])
    at = arrays["wrong_at"]
    return int(arrays["wrong"][at[query]]) if at[query + 1] > at[query] else -1


def _rank(
    arrays: Arrays,
    queries: Ids,
    questions: Tensor,
    passages: Tensor,
    members: Ids,
    lexical: Lexical,
    hidden: npt.NDArray[np.bool_] | None,
    found: npt.NDArray[np.int32],
    step: int = 512,
) -> None:
    """Write into `found` the fused ranking of `members` for each of `queries`."""
    device = passages.device
    vectors = passages[torch.from_numpy(members).to(device)]
    mask = torch.from_numpy(hidden).to(device) if hidden is not None else None
    n_each, n_kept = min(N_EACH, len(members)), min(N_HYBRID, len(members))
    for start in range(0, len(queries), step):
        batch = queries[start : start + step]
        near = questions[torch.from_numpy(batch).to(device)] @ vectors.T
        words = lexical.scores(_rows(arrays, "question", batch))
        fused = torch.zeros(near.shape, device=device)
        share = 1.0 / (RRF_K + 1 + torch.arange(n_each, device=device, dtype=torch.float32))
        for scores in (near.float(), words.float()):
            if mask is not None:
                scores = scores.masked_fill(mask, -1e9)
            best = scores.topk(n_each, dim=1)
            kept = torch.where(best.values > 0.0, share, torch.zeros_like(share))
            fused.scatter_add_(1, best.indices, kept)
        top = fused.topk(n_kept, dim=1)
        ids = np.where(top.values.cpu().numpy() > 0.0, members[top.indices.cpu().numpy()], -1)
        found[batch, :n_kept] = ids


class Lexical:
    """BM25 of one set of passages, as a matrix (P, V) of word weights."""

    def __init__(
        self, arrays: Arrays, members: Ids, device: str, idf: Tensor | None = None
    ) -> None:
        dtype = torch.float32 if device == "cpu" else torch.float16
        rows = _rows(arrays, "text", members, context=True)
        lengths = torch.tensor([len(r) for r in rows], device=device, dtype=torch.float32)
        norm = K1 * (1 - B + B * lengths / max(1.0, float(lengths.mean())))
        self._idf = idf if idf is not None else self.idf_of(arrays, members, device)
        self._weights = torch.zeros((len(members), VOCABULARY), device=device, dtype=dtype)
        for start in range(0, len(members), 2048):
            counts = _counts(rows[start : start + 2048], device)
            weight = counts * (K1 + 1) / (counts + norm[start : start + 2048, None])
            self._weights[start : start + 2048] = (weight * self._idf).to(dtype)

    @staticmethod
    def idf_of(arrays: Arrays, members: Ids, device: str) -> Tensor:
        """Return (V,) inverse document frequencies; 0 for the pieces that are everywhere."""
        seen = torch.zeros(VOCABULARY, device=device)
        for start in range(0, len(members), 2048):
            rows = _rows(arrays, "text", members[start : start + 2048], context=True)
            seen += (_counts(rows, device) > 0).sum(0)
        idf = torch.log(1 + (len(members) - seen + 0.5) / (seen + 0.5))
        limit = max(MAX_SHARE * len(members), 3.0)
        return torch.where(seen > limit, torch.zeros_like(idf), idf)

    def scores(self, questions: list[Ids]) -> Tensor:
        """Return (Q, P) scores."""
        asked = (_counts(questions, self._weights.device) > 0).to(self._weights.dtype)
        return asked @ self._weights.T


def _counts(rows: list[Ids], device: str | torch.device) -> Tensor:
    flat = np.concatenate([*rows, np.zeros(0, np.int64)])
    owner = np.repeat(np.arange(len(rows)), [len(r) for r in rows])
    counts = torch.zeros(len(rows) * VOCABULARY, device=device)
    index = torch.from_numpy(owner * VOCABULARY + flat).to(device)
    counts.index_add_(0, index, torch.ones(len(flat), device=device))
    return counts.view(len(rows), VOCABULARY)


def _rows(arrays: Arrays, name: str, which: Ids, *, context: bool = False) -> list[Ids]:
    flat, at = arrays[name], arrays[f"{name}_at"]
    rows = [flat[at[i] : at[i + 1]].astype(np.int64) for i in which]
    if context:
        told, told_at = arrays["context"], arrays["context_at"]
        of = arrays["context_of"][which]
        rows = [
            np.concatenate([told[told_at[c] : told_at[c + 1]].astype(np.int64), row])
            for c, row in zip(of, rows, strict=True)
        ]
    return rows


def _passage_rows(arrays: Arrays) -> list[Ids]:
    rows = _rows(arrays, "text", np.arange(len(arrays["doc_of"])), context=True)
    return [np.concatenate([[CLS], row[:EMBED_TOKENS], [SEP]]) for row in rows]


def _question_rows(arrays: Arrays) -> list[Ids]:
    rows = _rows(arrays, "question", np.arange(len(arrays["kind"])))
    return [np.concatenate([[CLS], row[:EMBED_TOKENS], [SEP]]) for row in rows]


def _embedded(rows: list[Ids], weights: Weights, device: str) -> Tensor:
    """Return (N, H) in the order of `rows`; batches of equal length."""
    vectors = torch.empty((len(rows), 384), device=device, dtype=weights["word"].dtype)
    with torch.inference_mode():
        for batch in _batches([len(row) for row in rows], 65_536):
            width = -(-max(len(rows[i]) for i in batch) // 8) * 8
            ids = np.full((len(batch), width), PAD, np.int64)
            for target, i in zip(ids, batch, strict=True):
                target[: len(rows[i])] = rows[i]
            lengths = torch.tensor([len(rows[i]) for i in batch], device=device)
            found = embed(weights, torch.from_numpy(ids).to(device), lengths)
            vectors[torch.from_numpy(batch).to(device)] = found.to(vectors.dtype)
    return vectors


def _batches(lengths: list[int], n_tokens: int) -> Iterator[Ids]:
    order = np.argsort(np.asarray(lengths), kind="stable")[::-1]
    start = 0
    while start < len(order):
        size = max(1, n_tokens // lengths[order[start]])
        yield order[start : start + size].copy()
        start += size
