"""The reader's input: how a question, a context and a passage become one row of tokens.

    [CLS] question [SEP] context [SEP] text [SEP]      (without a context: no second [SEP])
      0      0       0      1      1    1     1        token types

Shared by training and the product, so that both read alike; numpy only. Questions and contexts
have a limit; a text longer than `room` is read in windows (`windows`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int32]
Tokens = Sequence[int] | npt.NDArray[np.int32] | npt.NDArray[np.uint16]

CLS, SEP, PAD = 101, 102, 0  # of the uncased BERT vocabulary
MAX_TOKENS = 384  # of a row
MAX_QUESTION_TOKENS = 64
MAX_CONTEXT_TOKENS = 48
WINDOW_OVERLAP = 64  # tokens that two windows share: more than an answer has
FORMAT = "reader-pair/1"


def clipped(context: Tokens) -> Tokens:
    """Return `context` cut in the middle: the title and the innermost heading are kept."""
    if len(context) <= MAX_CONTEXT_TOKENS:
        return context
    half = MAX_CONTEXT_TOKENS // 2
    return np.concatenate([np.asarray(context[:half]), np.asarray(context[-half:])])


def room(n_question: int, n_context: int) -> int:
    """Return how many tokens of text fit beside a question and a context of that many tokens."""
    question = min(n_question, MAX_QUESTION_TOKENS)
    context = min(n_context, MAX_CONTEXT_TOKENS)
    return MAX_TOKENS - question - 3 - (context + 1 if context else 0)


def layout(question: Tokens, context: Tokens, text: Tokens) -> tuple[Ids, int, int]:
    """Return (ids, number of type-0 tokens, index of the first token of `text`).

    Args:
        question: token ids without special ones; cut at MAX_QUESTION_TOKENS.
        context: likewise, may be empty; cut in the middle at MAX_CONTEXT_TOKENS.
        text: likewise, at most `room(len(question), len(context))` of them.
    """
    context = clipped(context)
    n_question = min(len(question), MAX_QUESTION_TOKENS)
    first = n_question + 2
    begin = first + (len(context) + 1 if len(context) else 0)
    ids = np.empty(begin + len(text) + 1, np.int32)
    assert len(ids) <= MAX_TOKENS, f"{len(ids)} tokens: the text was not windowed"
    ids[0] = CLS
    ids[1 : first - 1] = question[:n_question]
    ids[first - 1] = SEP
    if begin > first:
        ids[first : begin - 1] = context
        ids[begin - 1] = SEP
    ids[begin:-1] = text
    ids[-1] = SEP
    return ids, first, begin


def windows(n_tokens: int, size: int) -> list[tuple[int, int]]:
    """Return (start, end) windows of at most `size` tokens that cover `n_tokens`, overlapping.

    An empty text has one empty window. The last window is as long as the others.
    """
    if n_tokens <= size:
        return [(0, n_tokens)]
    step = max(1, size - WINDOW_OVERLAP)
    starts = list(range(0, n_tokens - size, step))
    return [(start, start + size) for start in starts] + [(n_tokens - size, n_tokens)]


def padded(rows: Sequence[Ids], n_first: Sequence[int], multiple: int = 1) -> tuple[Ids, Ids, Ids]:
    """Return ids (B, T), types (B, T) and lengths (B,), rows padded on the right.

    T is the longest row, rounded up to a multiple of `multiple`.
    """
    lengths = np.array([len(row) for row in rows], np.int32)
    width = -(-int(lengths.max()) // multiple) * multiple
    ids = np.full((len(rows), width), PAD, np.int32)
    for target, row in zip(ids, rows, strict=True):
        target[: len(row)] = row
    positions = np.arange(width, dtype=np.int32)
    types = (positions >= np.asarray(n_first, np.int32)[:, None]) & (positions < lengths[:, None])
    return ids, types.astype(np.int32), lengths
