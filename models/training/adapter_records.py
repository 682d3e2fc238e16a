"""The records of the adapter's training data, and how they become docqa's prompt.

    Passage + Passage … -> Example -> (docqa.prompts) -> segments

An `Example` says what is asked, which passages answer it and which only look as if they did; how
many sources the prompt has, in which order and under which numbers is decided when a batch is
drawn (`adapter_batches`), so that every epoch sees another arrangement.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from docqa import prompts
from docqa.types import BlockKind, Chunk, Evidence, Locator, Segment, Span


@dataclass(frozen=True, slots=True)
class Passage:
    """A source: text and where it stands."""

    text: str
    path: str
    unit: Literal["page", "line"] = "page"
    first: int = 1
    last: int = 1
    headings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Example:
    """One question with its sources.

    `answer` is a sequence of words and of indices into `gold`: `("12 bar", 0)` is written
    `12 bar [m]`, m being the number that gold[0] has in the prompt. An empty answer stands for the
    not-found sentence: `gold` are then the passages that mislead.
    """

    kind: str
    question: str
    answer: tuple[str | int, ...]
    gold: tuple[Passage, ...]
    other: tuple[Passage, ...] = ()  # distractors, the most similar first
    references: tuple[str, ...] = ()  # for EM and F1; empty: the answer's own words
    dev: bool = False
    droppable: bool = True  # without `gold` the question has no answer in `other`
    before: Example | None = None  # the turn before this one
    forbidden: str = ""  # what an instruction hidden in a source wants to be said

    @property
    def words(self) -> str:
        """The answer without markers."""
        return "".join(piece for piece in self.answer if isinstance(piece, str))


def held_out(text: str) -> bool:
    """Return whether the passage, contract or transcript `text` is in the development tenth."""
    return int(hashlib.sha256(text.encode("utf-8")).hexdigest()[:8], 16) % 10 == 0


def evidence(passage: Passage, marker: int) -> Evidence:
    """Return `passage` as docqa's packer would hand it to `docqa.prompts`."""
    locator = Locator(passage.unit, passage.first, passage.last)
    chunk = Chunk(
        chunk_id=0,
        span=Span(0, 0, len(passage.text), locator),
        ordinal=0,
        text=passage.text,
        embed_text=passage.text,
        kind=BlockKind.PARAGRAPH,
        headings=passage.headings,
    )
    return Evidence(marker, chunk, passage.path, passage.path, 0.0, 0)


def turn(question: str, passages: Sequence[Passage], first_marker: int = 1) -> list[Segment]:
    """Return the user's message as docqa writes it, sources numbered from `first_marker`."""
    numbered = [evidence(p, first_marker + i) for i, p in enumerate(passages)]
    return prompts.turn(question, numbered)


def answer_text(example: Example, markers: Sequence[int]) -> str:
    """Return the target text; `markers[i]` is the number of `example.gold[i]`."""
    if not example.answer:
        return prompts.NOT_FOUND
    parts = [p if isinstance(p, str) else f" [{markers[p]}]" for p in example.answer]
    return "".join(parts)
