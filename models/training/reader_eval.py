"""What the reader is measured by: answers in characters, ranks among what search brings, honesty.

Everything is computed on development questions, on the passages that `reader_mine` found.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from docqa.eval.metrics import exact_match, token_f1
from models.reader_pairs import Ids, padded
from models.training.reader_batches import pair_row
from models.training.reader_records import KINDS, Arrays

Floats = npt.NDArray[np.float32]
Forward = Callable[[Ids, Ids, Ids], tuple[Floats, Floats]]
"""ids, types (B, T), lengths (B,) -> relevance logits (B,), start and end logits (B, T, 2)."""

RANK_KINDS = (
    "squad", "nq", "contract", "contract-named", "meeting", "medical", "table", "log", "field",
)  # fmt: skip
SPAN_KINDS = ("squad", "nq", "cloze", "table", "manual", "log", "field")
MAX_SPAN_TOKENS = 40
BATCH_TOKENS = 65_536


@dataclass(frozen=True, slots=True)
class Scored:
    """Development queries with their candidates: logits (Q, K), -inf where there is none."""

    queries: npt.NDArray[np.int64]
    passages: npt.NDArray[np.int32]  # (Q, K), -1: none
    logits: Floats  # (Q, K)
    is_right: npt.NDArray[np.bool_]  # (Q, K)


def best_span(start: Floats, end: Floats) -> tuple[int, int, float]:
    """Return (first, last, logit) of the best span of at most MAX_SPAN_TOKENS tokens."""
    total = start[:, None] + end[None, :]
    n = len(start)
    offset = np.arange(n)[None, :] - np.arange(n)[:, None]
    total = np.where((offset >= 0) & (offset < MAX_SPAN_TOKENS), total, -np.inf)
    first, last = np.unravel_index(int(total.argmax()), total.shape)
    return int(first), int(last), float(total[first, last])


def run_rows(
    forward: Forward,
    rows: Sequence[tuple[Ids, int]],
    *,
    keep_spans: bool,
    batch_tokens: int = BATCH_TOKENS,
) -> tuple[Floats, list[Floats]]:
    """Return relevance logits (N,) and, if kept, the (T, 2) span logits of each row."""
    relevance = np.empty(len(rows), np.float32)
    spans: list[Floats] = [np.zeros((0, 2), np.float32)] * len(rows)
    order = np.argsort([-len(row) for row, _ in rows], kind="stable")
    start = 0
    while start < len(order):
        size = max(1, batch_tokens // len(rows[order[start]][0]))
        batch = order[start : start + size]
        ids, types, lengths = padded(
            [rows[i][0] for i in batch], [rows[i][1] for i in batch], multiple=16
        )
        scores, logits = forward(ids, types, lengths)
        relevance[batch] = scores
        if keep_spans:
            for i, n, row in zip(batch, lengths, logits, strict=True):
                spans[i] = row[:n]
        start += size
    return relevance, spans


def span_scores(
    forward: Forward, arrays: Arrays, texts: Mapping[str, Any], kind: str, limit: int
) -> dict[str, float]:
    """Return exact match and F1 of the marked answer in the right passage, `n` questions."""
    chosen = [
        i for i in sorted(map(int, texts)) if KINDS[arrays["kind"][i]] == kind
    ][:limit]  # fmt: skip
    if not chosen:
        return {}
    built = [pair_row(arrays, i, int(arrays["right"][arrays["right_at"][i], 0])) for i in chosen]
    _, spans = run_rows(forward, [(row, first) for row, first, _ in built], keep_spans=True)
    exact, overlap = [], []
    for query, (row, _, begin), logits in zip(chosen, built, spans, strict=True):
        first, last, _ = best_span(logits[begin : len(row) - 1, 0], logits[begin : len(row) - 1, 1])
        told = texts[str(query)]
        said = told["text"][told["offsets"][first][0] : told["offsets"][last][1]]
        exact.append(exact_match(said, [told["answer"]]))
        overlap.append(token_f1(said, [told["answer"]]))
    return {"em": float(np.mean(exact)), "f1": float(np.mean(overlap)), "n": len(chosen)}


def score_candidates(
    forward: Forward,
    arrays: Arrays,
    mined: npt.NDArray[np.int32],
    kind: str,
    limit: int,
    n_candidates: int,
) -> Scored:
    """Score the candidates of the development queries of `kind`, answerable or not.

    Without mined candidates (generated tasks) they are the right and the given wrong passages.
    """
    queries = np.flatnonzero((arrays["split"] == 1) & (arrays["kind"] == KINDS.index(kind)))
    queries = queries[np.linspace(0, len(queries) - 1, min(limit, len(queries))).astype(int)]
    passages = np.full((len(queries), n_candidates), -1, np.int32)
    is_right = np.zeros(passages.shape, bool)
    for row, q in enumerate(queries):
        right = arrays["right"][arrays["right_at"][q] : arrays["right_at"][q + 1], 0]
        found = mined[q][mined[q] >= 0]
        if not len(found):
            wrong = arrays["wrong"][arrays["wrong_at"][q] : arrays["wrong_at"][q + 1]]
            found = np.concatenate([wrong, right])
        found = found[:n_candidates]
        passages[row, : len(found)] = found
        is_right[row] = np.isin(passages[row], right) & (passages[row] >= 0)
    return Scored(queries, passages, passage_logits(forward, arrays, queries, passages), is_right)


def passage_logits(
    forward: Forward,
    arrays: Arrays,
    queries: npt.NDArray[np.int64],
    passages: npt.NDArray[np.int32],
    *,
    batch_tokens: int = BATCH_TOKENS,
) -> Floats:
    """Return the logits (Q, K) of each query's `passages` (Q, K), -inf where there is none (-1)."""
    where = [(r, c) for r, c in np.argwhere(passages >= 0)]
    rows = [pair_row(arrays, int(queries[r]), int(passages[r, c]))[:2] for r, c in where]
    logits = np.full(passages.shape, -np.inf, np.float32)
    if rows:
        scores, _ = run_rows(forward, rows, keep_spans=False, batch_tokens=batch_tokens)
        logits[tuple(np.array(where).T)] = scores
    return logits


def rank_scores(scored: Scored, arrays: Arrays) -> dict[str, float]:
    """Return R@1 and MRR@10, before (search's order) and after, over answerable queries."""
    n_right = np.diff(arrays["right_at"])[scored.queries]
    answerable = n_right > 0
    if not answerable.any():
        return {}
    right, logits = scored.is_right[answerable], scored.logits[answerable]
    after = np.take_along_axis(right, np.argsort(-logits, 1, kind="stable"), 1)
    before_1, before_mrr = _ranks(right)
    after_1, after_mrr = _ranks(after)
    return {
        "r1_before": before_1,
        "r1": after_1,
        "mrr_before": before_mrr,
        "mrr": after_mrr,
        "found": float(right.any(1).mean()),
        "n": int(answerable.sum()),
    }


def _ranks(is_right: npt.NDArray[np.bool_]) -> tuple[float, float]:
    first = np.where(is_right.any(1), is_right.argmax(1), 10_000)
    return float((first == 0).mean()), float(np.where(first < 10, 1 / (first + 1), 0.0).mean())


def refusal(scored: Scored, arrays: Arrays, wrongly: float = 0.02) -> dict[str, float]:
    """Return what share is rightly refused at the threshold that wrongly refuses `wrongly`.

    absent: the same questions without their right passages; misled: questions that no passage
    answers though one is about the matter.
    """
    answerable = np.diff(arrays["right_at"])[scored.queries] > 0
    present = answerable & scored.is_right.any(1)
    if not present.any():
        return {}
    best = scored.logits[present].max(1)
    absent = np.where(scored.is_right, -np.inf, scored.logits)[present].max(1)
    threshold = float(np.quantile(best, wrongly))
    found = {"threshold": threshold, "absent": float((absent < threshold).mean())}
    if (~answerable).any():
        misled = scored.logits[~answerable].max(1)
        found["misled"] = float((misled < threshold).mean())
    return found


def calibration_error(logits: Floats, is_right: npt.NDArray[np.bool_], n_bins: int = 10) -> float:
    """Return the expected calibration error of sigmoid(logits), bins of equal width."""
    p = 1.0 / (1.0 + np.exp(-np.clip(logits.astype(np.float64), -50, 50)))
    bins = np.minimum((p * n_bins).astype(int), n_bins - 1)
    error = 0.0
    for b in range(n_bins):
        inside = bins == b
        if inside.any():
            error += inside.mean() * abs(p[inside].mean() - is_right[inside].mean())
    return float(error)
