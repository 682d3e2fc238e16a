"""The parts of a log chunk that a question may be about.

A chunk of a log holds some forty lines; the reranker reads 256 tokens and the prompt has room for
few such chunks. `narrowed` takes the runs of whole lines that answer best: those with the
question's rarer words, errors before routine; of a line that is too long (a record of JSON), pieces
of it. Words cannot tell which run answers, so the reranker may be given several. Prose chunks are
small already.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from docqa.asked import asked_for
from docqa.columns import header_in
from docqa.types import BlockKind, Chunk, Span
from docqa.wording import FIELDS_CHARS, content_words, fields

MAX_CHARS = 900  # about 300 tokens: what one source of a prompt should cost
VALUE = "\0value"  # a word that a line has where it has the question's and the kind of value asked
SEVERE = {"FATAL": 1.0, "CRITICAL": 1.0, "ERROR": 0.8, "SEVERE": 0.8, "WARN": 0.4, "WARNING": 0.4}


@dataclass(frozen=True, slots=True)
class _Line:
    start: int
    end: int
    words: frozenset[str]
    severity: float


def rarity(question: str, texts: Sequence[str]) -> dict[str, float]:
    """Return how rare each word of `question` is among the texts found for it, 0 … 1.

    Inverse document frequency, over the candidates instead of the library: `zookeeper.connect` is
    in one of them, `server` in most.
    """
    lowered = [text.lower() for text in texts]
    most = math.log(len(texts) + 1) or 1.0
    counts = {word: sum(word in text for text in lowered) for word in set(content_words(question))}
    return {word: max(0.0, 1 - math.log(n + 0.5) / most) for word, n in counts.items()}


def narrowed(
    chunk: Chunk,
    question: str,
    rare: Mapping[str, float] | None = None,
    n_parts: int = 1,
    max_chars: int = MAX_CHARS,
) -> list[Chunk]:
    """Return at most `n_parts` parts of a log chunk, of `max_chars`, that fit `question` best.

    Chunks of other kinds, and short ones, are returned as they are. Span, lines and breaks of a
    part are exact, its heading is the columns above it; `chunk_id`, ordinal, times and levels stay
    the chunk's. `rare` weighs the
    question's words (`rarity`); without it they weigh alike.
    """
    if chunk.kind is not BlockKind.RECORD or len(chunk.text) <= max_chars:
        return [chunk]
    lines = _lines(chunk.text, question, max_chars)
    weights = _weights(question, lines, rare or {})
    parts: list[Chunk] = []
    free = [range(len(lines))]
    while free and len(parts) < n_parts:
        runs = [_best_run(lines, stretch, weights, max_chars) for stretch in free]
        best = max(range(len(runs)), key=lambda i: runs[i][2])
        first, last, _ = runs[best]
        parts.append(_cut(chunk, lines[first].start, lines[last].end))
        stretch = free.pop(best)
        rest = (range(stretch.start, first), range(last + 1, stretch.stop))
        free += [r for r in rest if any(lines[i].words & weights.keys() for i in r)]
    return parts


def _pieces(text: str, max_chars: int) -> Iterator[tuple[int, int]]:
    """Yield (start, end) of each line of `text`, of a line above `max_chars` its pieces."""
    start = 0
    for raw in text.split("\n"):
        end = start + len(raw)
        size = min(FIELDS_CHARS, max_chars) if len(raw) > max_chars else len(raw)
        yield from fields(text, start, end, size)
        start = end + 1


def _lines(text: str, question: str, max_chars: int) -> list[_Line]:
    asked = asked_for(question)
    wanted = set(content_words(question))
    found = []
    for start, end in _pieces(text, max_chars):
        raw = text[start:end]
        severity = max((SEVERE.get(word, 0.0) for word in raw[:80].upper().split()), default=0.0)
        words = set(content_words(raw))
        if asked is not None and asked.is_strict and words & wanted and asked.fits(raw):
            words.add(VALUE)
        found.append(_Line(start, end, frozenset(words), severity))
    return found


def _weights(question: str, lines: list[_Line], rare: Mapping[str, float]) -> dict[str, float]:
    """Weigh the question's words: one that stands on every line, or everywhere, tells nothing."""
    counts = Counter(word for line in lines for word in line.words)
    return {
        word: rare.get(word, 1.0) * (1.0 - counts[word] / (len(lines) + 1))
        for word in {*content_words(question), VALUE}
        if counts[word]
    }


def _best_run(
    lines: list[_Line], stretch: range, weights: dict[str, float], max_chars: int
) -> tuple[int, int, float]:
    """Return first and last line, and the worth, of the best run; each word counts once fully."""
    best = (stretch.start, stretch.start, -1.0)
    worth = {
        i: sum(weights[word] for word in lines[i].words & weights.keys()) + 0.5 * lines[i].severity
        for i in stretch
    }
    for first in stretch:
        last, covered, total = first, set[str](), 0.0
        while last in stretch and (
            last == first or lines[last].end - lines[first].start <= max_chars
        ):
            new = lines[last].words & weights.keys() - covered
            total += sum(weights[word] for word in new) + 0.1 * worth[last]
            covered |= new
            last += 1
        if total > best[2] + 1e-9:
            best = (first, last - 1, total)
    return best


def _cut(chunk: Chunk, start: int, end: int) -> Chunk:
    where = chunk.locate(start, end)
    breaks = tuple((offset - start, n) for offset, n in chunk.breaks if start < offset < end)
    header = header_in(chunk.text[:start])
    return replace(
        chunk,
        text=chunk.text[start:end],
        span=Span(chunk.span.doc_id, chunk.span.start + start, chunk.span.start + end, where),
        breaks=breaks,
        headings=(header,) if header else chunk.headings,
    )
