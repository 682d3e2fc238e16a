"""The seams: each has two implementations that ship, or needs a model file that tests replace."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from docqa.types import Chunk, EngineInfo, Hit, Mark, ParseItem, Scope, Segment

if TYPE_CHECKING:
    import threading

    import numpy as np
    import numpy.typing as npt

    Vector = npt.NDArray[np.float32]  # (D,) unit length
    Vectors = npt.NDArray[np.float32]  # (N, D) rows of unit length


@dataclass(frozen=True, slots=True)
class ParseOptions:
    """What a parser may be told. Equal options and equal bytes give equal items."""

    password: str | None = None
    ocr: str = "auto"  # auto | never
    ocr_language: str = "eng"
    max_pages: int = 20_000
    whole_lines: bool = False  # of a log: leave out a last line that is still being written


Parser = Callable[[Path, ParseOptions], Iterator[ParseItem]]
"""Yields blocks in reading order, a PageInfo after the blocks of each page, a DocumentInfo last.

Raises docqa.errors.UnreadableFile (or a subclass) naming what is wrong; pages already yielded
stay valid.
"""


class Embedder(Protocol):
    """Texts to vectors of unit length."""

    @property
    def name(self) -> str:
        """Identity of the model and its settings: vectors of another name are never mixed in."""
        ...

    @property
    def dim(self) -> int:
        """D."""
        ...

    @property
    def max_tokens(self) -> int:
        """The longest text it reads; what is beyond is cut silently by the model."""
        ...

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Return the number of tokens of each text, special tokens not counted."""
        ...

    def embed_documents(
        self, texts: Sequence[str], is_cancelled: Callable[[], bool] = lambda: False
    ) -> Vectors:
        """Return (N, D) float32, rows of unit length, in the order of `texts`.

        Raises:
            Interrupted: `is_cancelled` said so; it is asked between the model's runs.
        """
        ...

    def embed_query(self, text: str) -> Vector:
        """Return (D,) float32 of unit length."""
        ...


@dataclass(frozen=True, slots=True)
class Passage:
    """What a reranker reads: `context` is title and heading path, spans count in `text`."""

    context: str
    text: str


@dataclass(frozen=True, slots=True)
class Relevance:
    """A reranker's verdict on one passage.

    `score` is higher for better; a probability where `Reranker.is_calibrated`. `marks` are where
    it answers, best first, in characters of the passage's `text`; none where the model marks none.
    `answers` are the likeliest answers in a few words, likewise, where a trained reader read the
    passage; their score is log P(this span answers, of all spans of the passage).
    """

    score: float
    marks: tuple[Mark, ...] = ()
    read_score: float | None = None  # P(it answers) of a second, trained model, if one read it
    answers: tuple[Mark, ...] = ()


class Reranker(Protocol):
    """Question and passages to relevance. Sorting is the caller's."""

    @property
    def name(self) -> str:
        """Identity, shown by `docqa doctor` and `--explain`."""
        ...

    @property
    def is_calibrated(self) -> bool:
        """Whether scores are probabilities, so that one threshold decides "no evidence"."""
        ...

    @property
    def threshold(self) -> float:
        """The score below which a passage is no evidence; measured on a development set."""
        ...

    def score(self, question: str, passages: Sequence[Passage]) -> list[Relevance]:
        """Return one Relevance a passage, in the order given."""
        ...


class SearchIndex(Protocol):
    """A disposable cache over the store's chunks: lexical or dense."""

    def add(self, chunks: Sequence[Chunk]) -> None:
        """Index chunks that have ids."""
        ...

    def remove(self, doc_id: int) -> None:
        """Forget every chunk of a document."""
        ...

    def search(self, query: str, k: int, scope: Scope) -> list[Hit]:
        """Return at most `k` hits inside `scope`, best first, ties by chunk_id."""
        ...


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is chosen. Temperature 0 is greedy."""

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    grammar: str | None = None  # GBNF
    json_schema: str | None = None  # instead of a grammar: the answer is JSON of this schema


@dataclass(frozen=True, slots=True)
class Prefill:
    """Progress of reading the prompt: `n_done` of `n_total` tokens, `n_reused` of them cached."""

    n_done: int
    n_total: int
    n_reused: int


@dataclass(frozen=True, slots=True)
class Piece:
    """A generated token as text. May be empty while a character is incomplete."""

    text: str
    token: int


@dataclass(frozen=True, slots=True)
class Stop:
    """The end of a generation: why, and what it cost."""

    reason: str  # end | length | cancelled
    n_prompt: int
    n_reused: int
    n_generated: int
    prefill_s: float
    decode_s: float
    n_shifted: int = 0  # of the reused: kept although text before them was dropped (endless chats)
    n_guessed: int = 0  # tokens guessed by looking up the prompt
    n_accepted: int = 0  # of them: confirmed by the model
    kv_bytes: int = 0  # of this conversation


class TellsLikelihood(Protocol):
    """The part of an engine that says how likely texts are."""

    def log_probs(self, tokens: Sequence[int], texts: Sequence[str]) -> list[float]:
        """Return log P that the model goes on with each of `texts` after `tokens`.

        Raises ValueError: a text without tokens; docqa.errors.ContextOverflow.
        """
        ...


class Engine(TellsLikelihood, Protocol):
    """A language model: token ids in, pieces out.

    It keeps the KV of its last prompt and reuses the longest common prefix of the next one.
    """

    @property
    def info(self) -> EngineInfo:
        """What is loaded, with the settings in effect."""
        ...

    def tokenize(self, segments: Sequence[Segment]) -> list[list[int]]:
        """Return the token ids of each segment; special tokens only in control segments.

        Concatenated they are the ids of the whole, a leading BOS included where the model wants it.
        """
        ...

    def chat(self, messages: Sequence[tuple[str, Sequence[Segment]]]) -> list[Segment]:
        """Return `messages` (role, segments) in the chat template, generation prompt last."""
        ...

    def generate(
        self,
        tokens: Sequence[int],
        *,
        max_tokens: int,
        sampling: Sampling = ...,
        stop: Sequence[str] = (),
        cancel: threading.Event | None = None,
        may_shift: bool = False,
    ) -> Iterator[Prefill | Piece | Stop]:
        """Yield Prefill …, Piece …, then one Stop. `cancel` is checked between prefill chunks.

        `may_shift`: where the prompt is the cached one with its oldest turns cut out, the rest may
        be moved down instead of computed again (attention sinks and a window: an endless chat).

        Raises docqa.errors.ContextOverflow, docqa.errors.EngineDied.
        """
        ...

    def save_kv(self, path: Path, documents: Sequence[str] = ()) -> int:
        """Write the KV of the cached tokens; return their number, 0 where that failed.

        `documents`: SHA-256 of each document whose text is in it.
        """
        ...

    def load_kv(self, path: Path) -> int:
        """Restore KV; return the number of cached tokens, 0 where the file does not fit."""
        ...

    def forget_kv(self) -> None:
        """Drop all KV that is kept in memory: a document was removed."""
        ...

    @property
    def kv_reason(self) -> str:
        """Why the last `save_kv` or `load_kv` returned 0."""
        ...

    def close(self) -> None:
        """Free the model. A closed engine is not used again."""
        ...
