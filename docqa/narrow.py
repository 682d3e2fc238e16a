"""The part of a log chunk that a question is about.

A chunk of a log holds some forty lines; the reranker reads 256 tokens and the prompt has room for
few such chunks. `narrow` takes the run of whole records around the lines that answer best: those
with the question's rarer words, errors before routine. Prose chunks are small already.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

from docqa.asked import asked_for
from docqa.types import BlockKind, Chunk, Span
from docqa.wording import content_words

MAX_CHARS = 900  # about 300 tokens: what one source of a prompt should cost
VALUE = "\0value"  # a word that a line has where it has the question's and the kind of value asked
SEVERE = {"FATAL": 1.0, "CRITICAL": 1.0, "ERROR": 0.8, "SEVERE": 0.8, "WARN": 0.4, "WARNING": 0.4}


@dataclass(frozen=True, slots=True)
class _Line:
    start: int
    end: int
    words: frozenset[str]
    severity: float


def narrow(chunk: Chunk, question: str, max_chars: int = MAX_CHARS) -> Chunk:
    """Return the part of a log chunk of at most `max_chars` that fits `question` best.

    Chunks of other kinds, and short ones, are returned as they are. Span, lines and breaks of the
    part are exact; `chunk_id`, ordinal, times and levels stay the chunk's.
    """
    if chunk.kind is not BlockKind.RECORD or len(chunk.text) <= max_chars:
        return chunk
    lines = _lines(chunk.text, question)
    weights = _weights(question, lines)
    worth = [
        sum(weights[word] for word in line.words & weights.keys()) + 0.5 * line.severity
        for line in lines
    ]
    first, last = _best_run(lines, worth, weights, max_chars)
    return _cut(chunk, lines[first].start, min(lines[last].end, lines[first].start + max_chars))


def _lines(text: str, question: str) -> list[_Line]:
    asked = asked_for(question)
    wanted = set(content_words(question))
    found = []
    start = 0
    for raw in text.split("\n"):
        severity = max((SEVERE.get(word, 0.0) for word in raw[:80].upper().split()), default=0.0)
        words = set(content_words(raw))
        if asked is not None and asked.is_strict and words & wanted and asked.fits(raw):
            words.add(VALUE)
        found.append(_Line(start, start + len(raw), frozenset(words), severity))
        start += len(raw) + 1
    return found


def _weights(question: str, lines: list[_Line]) -> dict[str, float]:
    """Weigh the question's words: one that stands on every line tells nothing."""
    counts = Counter(word for line in lines for word in line.words)
    return {
        word: 1.0 - counts[word] / (len(lines) + 1)
        for word in {*content_words(question), VALUE}
        if counts[word]
    }


def _best_run(
    lines: list[_Line], worth: list[float], weights: dict[str, float], max_chars: int
) -> tuple[int, int]:
    """Return the first and last line of the run with most worth; each word counts once fully."""
    best, best_worth = (0, 0), -1.0
    for first in range(len(lines)):
        last, covered, total = first, set[str](), 0.0
        while last < len(lines) and (
            last == first or lines[last].end - lines[first].start <= max_chars
        ):
            new = lines[last].words & weights.keys() - covered
            total += sum(weights[word] for word in new) + 0.1 * worth[last]
            covered |= new
            last += 1
        if total > best_worth + 1e-9:
            best, best_worth = (first, last - 1), total
    return best


def _cut(chunk: Chunk, start: int, end: int) -> Chunk:
    where = chunk.locate(start, end)
    breaks = tuple((offset - start, n) for offset, n in chunk.breaks if start < offset < end)
    return replace(
        chunk,
        text=chunk.text[start:end],
        span=Span(chunk.span.doc_id, chunk.span.start + start, chunk.span.start + end, where),
        breaks=breaks,
    )
