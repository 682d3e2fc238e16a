"""Small deterministic stand-ins for models: real classes, not mocks."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence

import numpy as np

from docqa.protocols import Passage, Piece, Prefill, Relevance, Sampling, Stop
from docqa.types import EngineInfo, Segment
from docqa.wording import content_words

GREEDY = Sampling()
WORD = re.compile(r"\w+|\W")


class ScriptedEngine:
    """Says what it was told to say. A token is a word or one other character."""

    def __init__(self, replies: Sequence[str] = ("",), context_length: int = 4096) -> None:
        self.replies = list(replies)
        self.prompts: list[list[int]] = []
        self.texts: dict[int, str] = {}
        self.cached: list[int] = []
        self.is_closed = False
        self.likely: dict[str, float] = {}  # log P of a text
        self.asked_about: list[list[str]] = []
        self.info = EngineInfo("scripted", "script", context_length, "f16", "f16")

    def tokenize(self, segments: Sequence[Segment]) -> list[list[int]]:
        return [self._ids(segment.text) for segment in segments]

    def _ids(self, text: str) -> list[int]:
        ids = []
        for word in WORD.findall(text):
            token = sum(ord(c) * 31**i for i, c in enumerate(word)) % 1_000_003
            self.texts[token] = word
            ids.append(token)
        return ids

    def chat(self, messages: Sequence[tuple[str, Sequence[Segment]]]) -> list[Segment]:
        segments: list[Segment] = []
        for role, contents in messages:
            segments += [Segment(f"<|{role}|>\n", True), *contents, Segment("\n", True)]
        return [*segments, Segment("<|assistant|>\n", True)]

    def log_probs(self, tokens: Sequence[int], texts: Sequence[str]) -> list[float]:
        self.asked_about.append(list(texts))
        return [self.likely.get(text, -20.0) for text in texts]

    def generate(
        self,
        tokens: Sequence[int],
        *,
        max_tokens: int,
        sampling: Sampling = GREEDY,
        stop: Sequence[str] = (),
        cancel: object = None,
        may_shift: bool = False,
    ) -> Iterator[Prefill | Piece | Stop]:
        self.prompts.append(list(tokens))
        reused = 0
        for old, new in zip(self.cached, tokens, strict=False):
            if old != new:
                break
            reused += 1
        self.cached = list(tokens)
        yield Prefill(len(tokens), len(tokens), reused)
        words: list[str] = []
        if max_tokens:  # else the prompt is only read
            words = WORD.findall(self.replies.pop(0) if len(self.replies) > 1 else self.replies[0])
        for word in words[:max_tokens]:
            yield Piece(word, 0)
        reason = "length" if len(words) > max_tokens else "end"
        yield Stop(reason, len(tokens), reused, min(len(words), max_tokens), 0.0, 0.0)

    kv_reason = ""

    def forget_kv(self) -> None:
        self.cached = []

    def save_kv(self, path: object, documents: Sequence[str] = ()) -> int:
        return len(self.cached)

    def load_kv(self, path: object) -> int:
        return 0

    def close(self) -> None:
        self.is_closed = True


class OverlapReranker:
    """Scores a passage by the share of the question's content words that it contains."""

    name = "overlap"
    is_calibrated = False
    threshold = 0.3

    def score(self, question: str, passages: Sequence[Passage]) -> list[Relevance]:
        wanted = set(content_words(question))
        return [
            Relevance(
                len(wanted & set(content_words(p.context + " " + p.text))) / max(1, len(wanted))
            )
            for p in passages
        ]


class HashEmbedder:
    """A bag of hashed words as a vector: texts that share words are near each other."""

    def __init__(self, dim: int = 64, max_tokens: int = 256) -> None:
        self.name, self.dim, self.max_tokens = f"hash-{dim}", dim, max_tokens
        self.n_embedded = 0

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return [len(re.findall(r"\w+|[^\w\s]", text)) for text in texts]

    def embed_documents(self, texts: Sequence[str], is_cancelled=None) -> np.ndarray:
        self.n_embedded += len(texts)
        vectors = np.full((len(texts), self.dim), 1e-3, np.float32)
        for row, text in zip(vectors, texts, strict=True):
            for word in re.findall(r"\w+", text.lower()):
                digest = hashlib.blake2b(word.encode(), digest_size=8).digest()
                row[int.from_bytes(digest[:4], "big") % self.dim] += 1 if digest[4] & 1 else -1
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors / norms

    def embed_query(self, text: str) -> np.ndarray:
        return self.embed_documents([text])[0]
