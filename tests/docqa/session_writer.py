"""A process that keeps turns and saves KV until it is killed. For tests/docqa/test_session_kill.py.

What it says on its pipe, one line each, is done: `turn N` is committed, `kv N` is on disk.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from docqa.paths import LibraryPaths
from docqa.session_kv import KvShelf
from docqa.session_rows import NewTurn
from docqa.sessions import Sessions
from docqa.store import Store
from docqa.types import Answer, AnswerKind, Citation, Usage
from models.kv_file import KvIdentity, enforce_quota, write_kv
from tests.docqa.make import evidence

KEY = b"k" * 32
N_BYTES = 1_000_003
IDENTITY = KvIdentity(
    model_sha256="m" * 64,
    architecture="llama",
    tokenizer="t",
    template="c",
    adapters=(),
    rope=(0.0,),
    context_length=4096,
    kv_type_k="q8_0",
    kv_type_v="q8_0",
    flash_attention=True,
    rotation=True,
    unified=True,
    library="1",
)


def tokens_of(n: int) -> list[int]:
    return list(range(100 * (n + 1)))


def payload_of(n: int) -> np.ndarray:
    return np.full(N_BYTES, n % 251, np.uint8)


def turn_of(n: int, doc_id: int) -> NewTurn:
    sources = tuple(
        evidence(f"turn {n} source {i} " + "words " * 200, marker=2 * n + i + 1, doc_id=doc_id)
        for i in range(2)
    )
    answer = Answer(
        question=f"question {n}",
        query=f"question {n}",
        found=True,
        kind=AnswerKind.MODEL,
        text=f"answer {n} [{2 * n + 1}]",
        citations=(Citation(2 * n + 1, sources[0].path, 3, None, f"turn {n}", 0, 6),),
        evidence=sources,
        usage=Usage(prompt_tokens=n),
        engine=None,
    )
    return NewTurn(answer, sources, (), True, None, 2 * n + 1, 2 * n + 3)


class WritingEngine:
    """An engine of which only `save_kv` is real: its file is written as any engine writes it."""

    kv_reason = ""

    def __init__(self) -> None:
        self.n = 0

    def save_kv(self, path: Path, documents: Sequence[str] = ()) -> int:
        state = payload_of(self.n)
        write_kv(path, IDENTITY, tokens_of(self.n), state, KEY, documents=documents)
        return len(tokens_of(self.n))


def write(folder: str, descriptor: int) -> None:
    """Keep turns and save KV, on and on."""
    with Store(LibraryPaths(Path(folder))) as store:
        sessions = Sessions(store.db)
        shelf = KvShelf(store.db, store.paths.kv, 10 * N_BYTES, enforce_quota)
        (document,) = store.documents()
        engine = WritingEngine()
        known = sessions.find("talk")
        engine.n = known.n_turns if known else 0
        while True:
            sessions.append("talk", turn_of(engine.n, document.doc_id))
            os.write(descriptor, f"turn {engine.n}\n".encode())
            session_id = sessions.get("talk").session_id
            path = shelf.session_path(session_id)
            assert shelf.save(engine, path, [document], session_id)  # type: ignore[arg-type]
            os.write(descriptor, f"kv {engine.n}\n".encode())
            engine.n += 1
