"""Questions that the citing adapter's training invented, as training data of the reader.

    invented.jsonl.xz (adapter_train) -> queries() -> reader_records.pack -> joined() with the rest

A question's passage may be a part of one that is in a pool already, which then answers as well and
must not be taken for wrong: it is found by a run of tokens that both have.
"""

from __future__ import annotations

import json
import lzma
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from models.training.reader_records import (
    Arrays,
    PassagePool,
    Query,
    Right,
    offsets_of,
    pack,
)

if TYPE_CHECKING:
    from tokenizers import Tokenizer

KIND = "invented"
POOL = "news"  # so that they can be mined for each other and for clozes
SCOPE = ("squad", "nq", "news")
FENCE = '\n"""\n'
N_SHARED = 12  # tokens in a row that tell the same text


def queries(file: Path) -> tuple[PassagePool, list[Query]]:
    """Return the passages and the questions of the file; the context is the source's headings."""
    pool, found = PassagePool(), []
    with lzma.open(file, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines if line.strip()]
    for row in rows:
        context, text = parted(row["passage"])
        at = row.get("at", text.find(row["answer"]))
        if at < 0:
            continue
        passage = pool.add(text, context, pool.new_document(), POOL, False)
        mark = Right(passage, at, at + len(row["answer"]))
        found.append(Query(KIND, row["question"].strip(), (mark,), SCOPE, answer=row["answer"]))
    return pool, found


def parted(passage: str) -> tuple[str, str]:
    """Return the headings and the text of a source as it stands in docqa's prompt."""
    header, text, _ = passage.split(FENCE, 2)
    return header.split(", ", 2)[2] if header.count(", ") >= 2 else "", text.strip()


def extended(arrays: Arrays, file: Path, tokenizer: Tokenizer) -> Arrays:
    """Return `arrays` and the questions of `file` behind them."""
    pool, found = queries(file)
    made = pack(pool, found, tokenizer)
    twins = _twins(arrays, made)
    passages = [q.right[0].passage for q in found]
    told = [
        replace(query, excluded=tuple(t - len(arrays["doc_of"]) for t in twins[passage]))
        for query, passage in zip(found, passages, strict=True)
    ]
    excluded = [np.array(q.excluded, np.int32) for q in told]
    made["excluded"] = np.concatenate([*excluded, np.zeros(0, np.int32)])
    made["excluded_at"] = offsets_of(excluded)
    return joined(arrays, made)


def joined(first: Arrays, second: Arrays) -> Arrays:
    """Return the passages, contexts and queries of both, those of `second` renumbered."""
    n_passages, n_contexts = len(first["doc_of"]), len(first["context_at"]) - 1
    last_doc = int(first["doc_of"].max(initial=0)) + 1
    shifted = dict(second)
    shifted["context_of"] = second["context_of"] + n_contexts
    shifted["doc_of"] = second["doc_of"] + last_doc
    right = second["right"].copy()
    right[:, 0] += n_passages
    shifted["right"] = right
    for name in ("excluded", "wrong"):
        shifted[name] = second[name] + n_passages
    both: Arrays = {}
    for name, values in first.items():
        if name.endswith("_at"):
            both[name] = np.concatenate([values, shifted[name][1:] + values[-1]])
        else:
            both[name] = np.concatenate([values, shifted[name].astype(values.dtype)])
    return both


def _twins(arrays: Arrays, made: Arrays) -> list[list[int]]:
    """Return, for each passage of `made`, those of `arrays` that share a run of tokens with it."""
    known: dict[bytes, int] = {}
    text, at = arrays["text"], arrays["text_at"]
    for passage in range(len(at) - 1):
        for start in range(int(at[passage]), int(at[passage + 1]) - N_SHARED):
            if (start - int(at[passage])) % N_SHARED == 0:
                known[text[start : start + N_SHARED].tobytes()] = passage
    found = []
    text, at = made["text"], made["text_at"]
    for passage in range(len(at) - 1):
        row = text[at[passage] : at[passage + 1]]
        runs = (row[i : i + N_SHARED].tobytes() for i in range(len(row) - N_SHARED + 1))
        found.append(sorted({known[run] for run in runs if run in known}))
    return found
