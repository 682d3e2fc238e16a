"""The records of the reader's training data, and the arrays that they are packed into.

    PassagePool + Query … -> pack() -> dict of arrays -> reader-data.npz

A query names the passages that answer it (with the answer's place where it is known), those that
must not be taken for wrong, those known to be wrong, and where more wrong ones may be mined: in
some pools of passages, or in the document of its right passage alone. Mining itself happens where
training runs (`reader_mine`), with the vectors of the base model.

Arrays (N passages, C contexts, Q queries; `_at` arrays are offsets, one longer than their rows):
    text, text_at            uint16 token ids of all passages; int64 (N + 1)
    context, context_at      the same of the contexts; context 0 is empty
    context_of, doc_of       int32 (N)
    pool_of, is_dev          uint8 (N): index into POOLS; development passages are never trained on
    question, question_at    uint16; int64 (Q + 1)
    kind, split              uint8 (Q): index into KINDS; 0 train, 1 development
    scope                    uint8 (Q): bit i: POOLS[i] is mined; DOCUMENT: its document only
    right, right_at          int32 (R, 3): passage, first and last token of the answer (or -1)
    excluded, excluded_at    int32: passages that are neither right nor wrong
    wrong, wrong_at          int32: passages known not to answer
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from tokenizers import Tokenizer

POOLS = ("squad", "nq", "policy", "contract", "meeting", "medical", "news")
DOCUMENT = 1 << 7
MADE = len(POOLS)  # generated passages: in no pool, never mined
KINDS = (
    "squad", "nq", "policy", "hotpot", "contract", "contract-named", "meeting", "medical", "title",
    "cloze", "table", "check", "manual", "log", "invented", "field",
)  # fmt: skip
MAX_SPAN_TOKENS = 40
MAX_QUESTION_TOKENS = 64
MAX_CONTEXT_TOKENS = 48

Arrays = dict[str, npt.NDArray[Any]]


def held_out(text: str) -> bool:
    """Return whether the passage, contract or transcript `text` is in the development tenth."""
    return int(hashlib.sha256(text.encode("utf-8")).hexdigest()[:8], 16) % 10 == 0


@dataclass(frozen=True, slots=True)
class Right:
    """A passage that answers; the answer is `text[start:end]`, or -1, -1 where it is not marked."""

    passage: int
    start: int = -1
    end: int = -1


@dataclass(frozen=True, slots=True)
class Query:
    """One question. Without `right` it has no answer, and `wrong` are the passages that mislead."""

    kind: str
    question: str
    right: tuple[Right, ...]
    pools: tuple[str, ...] = ()
    in_document: bool = False
    excluded: tuple[int, ...] = ()
    wrong: tuple[int, ...] = ()
    dev: bool = False
    answer: str = ""  # for EM and F1


class PassagePool:
    """Passages, each once: text, context (title and headings as one line), document, pool."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.contexts: list[str] = [""]
        self.context_of: list[int] = []
        self.doc_of: list[int] = []
        self.pool_of: list[int] = []
        self.is_dev: list[bool] = []
        self._known: dict[tuple[str, str, int], int] = {}
        self._context_ids: dict[str, int] = {"": 0}
        self._n_docs = 0

    def new_document(self) -> int:
        """Return the id of another document."""
        self._n_docs += 1
        return self._n_docs

    def add(self, text: str, context: str, doc: int, pool: str, dev: bool) -> int:
        """Return the passage's id; the same text in the same document is one passage."""
        key = (text, context, doc)
        if key not in self._known:
            self._known[key] = len(self.texts)
            if context not in self._context_ids:
                self._context_ids[context] = len(self.contexts)
                self.contexts.append(context)
            self.texts.append(text)
            self.context_of.append(self._context_ids[context])
            self.doc_of.append(doc)
            self.pool_of.append(POOLS.index(pool) if pool in POOLS else MADE)
            self.is_dev.append(dev)
        return self._known[key]


def pack(pool: PassagePool, queries: Sequence[Query], tokenizer: Tokenizer) -> Arrays:
    """Return the arrays named above. Answers longer than MAX_SPAN_TOKENS lose their mark."""
    encoded = _encode(tokenizer, pool.texts)
    arrays: Arrays = {
        "context_of": np.array(pool.context_of, np.int32),
        "doc_of": np.array(pool.doc_of, np.int32),
        "pool_of": np.array(pool.pool_of, np.uint8),
        "is_dev": np.array(pool.is_dev, np.uint8),
        "kind": np.array([KINDS.index(q.kind) for q in queries], np.uint8),
        "split": np.array([q.dev for q in queries], np.uint8),
        "scope": np.array([_scope(q) for q in queries], np.uint8),
    }
    arrays["text"], arrays["text_at"] = _ragged([e.ids for e in encoded], np.uint16)
    contexts = [e.ids for e in _encode(tokenizer, pool.contexts)]
    arrays["context"], arrays["context_at"] = _ragged(contexts, np.uint16)
    questions = [e.ids for e in _encode(tokenizer, [q.question for q in queries])]
    arrays["question"], arrays["question_at"] = _ragged(questions, np.uint16)
    marks = [
        [(r.passage, *token_span(encoded[r.passage].offsets, r.start, r.end)) for r in q.right]
        for q in queries
    ]
    arrays["right"], arrays["right_at"] = _ragged(marks, np.int32)
    arrays["right"] = arrays["right"].reshape(-1, 3)
    arrays["excluded"], arrays["excluded_at"] = _ragged([q.excluded for q in queries], np.int32)
    arrays["wrong"], arrays["wrong_at"] = _ragged([q.wrong for q in queries], np.int32)
    return arrays


def token_span(offsets: Sequence[tuple[int, int]], start: int, end: int) -> tuple[int, int]:
    """Return the first and last token that overlap characters [start, end); -1, -1 if none."""
    inside = [i for i, (a, b) in enumerate(offsets) if a < end and b > start] if start >= 0 else []
    if not inside or len(inside) > MAX_SPAN_TOKENS:
        return -1, -1
    return inside[0], inside[-1]


def subset(arrays: Arrays, n_each: int, n_others: int, seed: int = 0) -> tuple[Arrays, list[int]]:
    """Return the arrays of `n_each` queries a kind and split, and those queries' old indices.

    Kept are the passages that they name and `n_others` drawn ones: for trials of the whole run.
    """
    rng = np.random.default_rng(seed)
    chosen: list[int] = []
    for kind in range(len(KINDS)):
        for split in (0, 1):
            mine = np.flatnonzero((arrays["kind"] == kind) & (arrays["split"] == split))
            chosen += sorted(rng.permutation(mine)[:n_each].tolist())
    ragged = {name: _taken(arrays, name, chosen) for name in ("right", "excluded", "wrong")}
    named = [
        row[..., 0] if name == "right" else row for name, rows in ragged.items() for row in rows
    ]
    others = rng.integers(len(arrays["doc_of"]), size=n_others)
    kept = np.unique(np.concatenate([*named, others])).astype(np.int64)
    renumbered = np.full(len(arrays["doc_of"]), -1, np.int32)
    renumbered[kept] = np.arange(len(kept))
    small: Arrays = {n: arrays[n][chosen] for n in ("kind", "split", "scope")}
    small |= {n: arrays[n][kept] for n in ("context_of", "doc_of", "pool_of", "is_dev")}
    small |= {n: arrays[n] for n in ("context", "context_at")}
    small["text"], small["text_at"] = _ragged(_taken(arrays, "text", kept), np.uint16)
    small["question"], small["question_at"] = _ragged(_taken(arrays, "question", chosen), np.uint16)
    for name, rows in ragged.items():
        for row in rows:
            where = row[..., 0] if name == "right" else row
            where[...] = renumbered[where]
        small[name], small[f"{name}_at"] = _ragged(rows, np.int32)
    small["right"] = small["right"].reshape(-1, 3)
    return small, chosen


def _taken(arrays: Arrays, name: str, which: Sequence[int] | npt.NDArray[Any]) -> list[Any]:
    at = arrays[f"{name}_at"]
    return [arrays[name][at[i] : at[i + 1]].copy() for i in which]


def _encode(tokenizer: Tokenizer, texts: Sequence[str]) -> list[Any]:
    found: list[Any] = []
    for start in range(0, len(texts), 4096):
        found += tokenizer.encode_batch(list(texts[start : start + 4096]), add_special_tokens=False)
    return found


def offsets_of(rows: Sequence[Any]) -> npt.NDArray[np.int64]:
    """Return the `_at` array of ragged rows."""
    at = np.zeros(len(rows) + 1, np.int64)
    np.cumsum([len(row) for row in rows], out=at[1:])
    return at


def _ragged(rows: Sequence[Sequence[Any]], dtype: Any) -> tuple[Any, Any]:
    at = offsets_of(rows)
    parts = [np.asarray(row, dtype) for row in rows if len(row)]
    return (np.concatenate(parts) if parts else np.zeros(0, dtype)), at


def _scope(query: Query) -> int:
    bits = sum(1 << POOLS.index(name) for name in query.pools)
    return bits | (DOCUMENT if query.in_document else 0)
