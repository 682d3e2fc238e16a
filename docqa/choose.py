"""A short answer that two models agree on: the one that writes and the one that marks.

What the language model wrote is one candidate, the trained reader's likeliest spans are the others.
Both models say how likely each is, and the best by their sum is the answer:

    log P(written) / words^LENGTH + READER · (log P(span | passage) + PASSAGE · logit P(it answers))

The models err in different places: a small one that writes is fluent and misses the line, the
reader knows the line and not where the answer ends. Measured on the adapter's development prompts
(`models/weights/smollm2-135m-instruct-cite.md`), F1 of the model alone, the reader alone, both:
0.73, 0.69, 0.79 with the right paragraph alone. The weights lie on a plateau: halved or doubled
they cost two points at most; LENGTH of 0.25 instead of none brings contracts from 0.81 to 0.84
right citations.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from docqa.asked import Asked, asked_for
from docqa.odds import log_odds
from docqa.protocols import TellsLikelihood
from docqa.support import markers_in, without_markers
from docqa.types import Evidence, PackedPrompt
from docqa.wording import content_words

READER, PASSAGE = 0.7, 4.0  # weights, see above
LENGTH = 0.25  # a clause of forty words has forty chances to be unlikely (Wu et al. 2016, eq. 14)
UNMARKED = 1.0  # a span that the reader did not name is less likely than those by so much, in logs
_CODE_WORD = re.compile(r"\b[A-Za-z]+\d[\w./-]*")
MOST = 6  # spans that the model is asked about: more changed no figure by a point


@dataclass(frozen=True, slots=True)
class _Candidate:
    """An answer with its marker, the passage it is of, and what the reader says of it."""

    text: str
    marker: int
    read: float

    @property
    def n_words(self) -> int:
        """At least 1; a sign alone is none."""
        words = without_markers(self.text).split()
        return max(1, sum(any(c.isalnum() for c in word) for word in words))


@dataclass(frozen=True, slots=True)
class Choice:
    """The answer, with its marker, and how likely both models together find it, in logs."""

    text: str
    score: float


def best_answer(
    written: str, question: str, prompt: PackedPrompt, engine: TellsLikelihood
) -> Choice | None:
    """Return what one model wrote, or the span that both prefer; None: the reader marked none.

    Args:
        written: the model's whole answer, one claim with at most one marker.
        question: the user's; what lacks a number that it asks for is no candidate.
        prompt: as the model read it.
        engine: the model that wrote.

    Raises:
        ModelError: as the engine does.
    """
    asked = asked_for(question)
    spans = _spans(asked, prompt.evidence)
    if not spans:
        return None
    own = _own(written, spans)
    found = [span for span in spans if not _is_same(span, own)][:MOST]
    if _may_answer(without_markers(own.text), asked) or not found:
        found.insert(0, own)
    likely = engine.log_probs(prompt.tokens, [one.text for one in found])
    scores = [
        log_p / one.n_words**LENGTH + READER * one.read
        for one, log_p in zip(found, likely, strict=True)
    ]
    score = max(scores)
    best = found[scores.index(score)]
    return Choice(written if best is own else best.text, score)


def _spans(asked: Asked | None, evidence: Sequence[Evidence]) -> list[_Candidate]:
    """Return the reader's spans in all passages, the likeliest first, each text once a passage."""
    found: dict[tuple[str, int], float] = {}
    for source in evidence:
        odds = log_odds(source.read_score or 0.0)  # one that the reader did not read counts as poor
        for mark in source.answers:
            text = " ".join(source.chunk.text[mark.start : mark.end].split())
            if not text or not _may_answer(text, asked):
                continue
            named = f"{text} [{source.marker}]", source.marker
            found[named] = max(found.get(named, -math.inf), mark.score + PASSAGE * odds)
    spans = [_Candidate(text, marker, read) for (text, marker), read in found.items()]
    return sorted(spans, key=lambda span: -span.read)


def _may_answer(text: str, asked: Asked | None) -> bool:
    """Whether a text has the number asked for; that of a thread is none: `M10 / M12`."""
    return asked is None or not asked.is_number or asked.fits(_CODE_WORD.sub(" ", text))


def _own(written: str, spans: Sequence[_Candidate]) -> _Candidate:
    """Return what the model wrote as a candidate: one of the spans, or one nobody marked."""
    marker = next(iter(markers_in(written)), spans[0].marker)
    own = _Candidate(" ".join(written.split()), marker, -math.inf)
    same = [span.read for span in spans if _is_same(span, own)]
    there = [span.read for span in spans if span.marker == marker] or [spans[-1].read]
    return replace(own, read=max(same, default=min(there) - UNMARKED))


def _is_same(one: _Candidate, other: _Candidate) -> bool:
    """Whether two say the same of one passage: `a 3-inch crack` and `3-inch crack.` do."""
    return one.marker == other.marker and _words(one) == _words(other)


def _words(one: _Candidate) -> list[str]:
    text = without_markers(one.text)
    return content_words(text) or [text.rstrip(".").casefold()]
