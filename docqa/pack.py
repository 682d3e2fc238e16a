"""Candidates → the prompt, under an exact token budget.

A knapsack: each passage is worth its relevance, plus what it adds to the coverage of the question's
words, minus what it repeats of passages already chosen, plus recency where the question asks for
the latest; it costs its tokens, counted by the reading model. Chosen greedily by worth a token,
which for some ten passages is within a passage of the optimum and can be explained line by line.

Order: strongest evidence at both ends (Liu et al., "Lost in the middle", TACL 2024), log passages
in the order of time. Markers count on through a session, so that they stay unique in it. A passage
that stands in the prompt already (pinned, or in an earlier turn) is not repeated: the turn names
its marker.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from docqa import prompts
from docqa.config import AnswerConfig
from docqa.errors import ContextOverflow
from docqa.protocols import Engine
from docqa.types import (
    BlockKind,
    Candidate,
    Chunk,
    Evidence,
    Locator,
    Mark,
    PackedPrompt,
    Segment,
    Span,
)
from docqa.wording import content_words, similarity

COVERAGE_WEIGHT = 0.3  # of question words that no chosen passage has yet
REPETITION_WEIGHT = 0.5
RECENCY_WEIGHT = 0.2
MIN_WORTH = 0.1  # of the best: a passage far behind it costs reading time and misleads
MIN_SOURCES = 3  # that are kept however far behind they are

MAX_GAP = 2  # newlines between two chunks; more lies between two parts of log chunks

OVER_BUDGET = "no room in the evidence budget"
OVER_COUNT = "enough sources chosen"
FAR_BEHIND = "far less relevant than the best source"

_RECENT = re.compile(r"\b(latest|newest|current(ly)?|most recent(ly)?|recent|now|today)\b", re.I)

ALONE = prompts.Frame()


@dataclass(frozen=True, slots=True)
class _Item:
    """A candidate with what the knapsack needs to know of it."""

    candidate: Candidate
    n_tokens: int
    worth: float  # 0..1
    words: frozenset[str]


def pack(
    question: str,
    candidates: Sequence[Candidate],
    *,
    engine: Engine,
    settings: AnswerConfig,
    frame: prompts.Frame = ALONE,
) -> PackedPrompt:
    """Return the prompt for `question` with the best of `candidates` as numbered sources.

    `len(tokens) + settings.max_tokens <= engine.info.context_length` holds. The prompt's evidence
    is what an answer may cite: this turn's own sources, those of the `frame` that the candidates
    are in, and all that is pinned.

    Raises:
        ContextOverflow: the question alone does not fit.
    """
    live = [c for c in candidates if c.dropped is None]
    above, new = _split(live, frame, settings.k)
    items = _items(question, new, engine)
    room = min(settings.evidence_tokens, _room(question, engine, settings, frame, above))
    chosen, dropped = _choose(question, items, room, settings.k - len(above))
    evidence = _numbered(_ordered(_merged(chosen)), frame.first_marker)
    while True:
        prompt = _prompt(question, evidence, dropped, engine, frame, above)
        if len(prompt.tokens) + settings.max_tokens <= engine.info.context_length:
            return prompt
        if not evidence:
            raise ContextOverflow(
                f"the question and history need {len(prompt.tokens)} tokens, the answer "
                f"{settings.max_tokens}, and the context has {engine.info.context_length}: ask a "
                "shorter question or give the model a longer context"
            )
        weakest = min(evidence, key=lambda e: e.score)
        evidence = _numbered([e for e in evidence if e is not weakest], frame.first_marker)


def _split(
    candidates: Sequence[Candidate], frame: prompts.Frame, k: int
) -> tuple[list[Evidence], list[Candidate]]:
    """Return the sources of the frame that hold candidates, scored like them, and the others.

    Of what stands in the prompt already only the `k` best candidates are pointed to.
    """
    if not frame.sources:
        return [], list(candidates)
    found: dict[int, Evidence] = {}
    new = []
    for rank, candidate in enumerate(sorted(candidates, key=lambda c: -_relevance(c))):
        source = next((s for s in frame.sources if _is_inside(candidate.chunk, s.chunk)), None)
        if source is None:
            new.append(candidate)
        elif rank < k and source.marker not in found:
            found[source.marker] = _scored(source, candidate)
    return sorted(found.values(), key=lambda e: e.marker), new


def _is_inside(part: Chunk, whole: Chunk) -> bool:
    inner, outer = part.span, whole.span
    return inner.doc_id == outer.doc_id and outer.start <= inner.start and inner.end <= outer.end


def _scored(source: Evidence, candidate: Candidate) -> Evidence:
    """Return a source of the frame with the score, and the marked answer, of a candidate in it."""
    shift = candidate.chunk.span.start - source.chunk.span.start
    return replace(
        source,
        score=_relevance(candidate),
        marks=_joined((), candidate.marks, shift),
        answers=_joined((), candidate.answers, shift),
        read_score=candidate.read_score,
    )


def _items(question: str, candidates: Sequence[Candidate], engine: Engine) -> list[_Item]:
    blocks = [prompts.source_block(_evidence(c, marker=99)) + "\n" for c in candidates]
    counts = [len(ids) for ids in engine.tokenize([Segment(b, False) for b in blocks])]
    top = max((_relevance(c) for c in candidates), default=0.0) or 1.0
    wants_recent = bool(_RECENT.search(question))
    by_age = sorted({_time(c) for c in candidates})
    items = []
    for candidate, n_tokens in zip(candidates, counts, strict=True):
        worth = _relevance(candidate) / top
        if wants_recent and len(by_age) > 1:
            worth += RECENCY_WEIGHT * by_age.index(_time(candidate)) / (len(by_age) - 1)
        items.append(
            _Item(candidate, n_tokens, worth, frozenset(content_words(candidate.chunk.text)))
        )
    return items


def _relevance(candidate: Candidate) -> float:
    return candidate.rrf_score if candidate.rerank_score is None else candidate.rerank_score


def _time(candidate: Candidate) -> float:
    return candidate.chunk.time_last or candidate.modified_s


def _room(
    question: str,
    engine: Engine,
    settings: AnswerConfig,
    frame: prompts.Frame,
    above: Sequence[Evidence],
) -> int:
    bare = engine.tokenize(engine.chat(_messages(question, (), frame, above)))
    used = sum(len(ids) for ids in bare)
    return engine.info.context_length - used - settings.max_tokens


def _messages(
    question: str,
    evidence: Sequence[Evidence],
    frame: prompts.Frame,
    above: Sequence[Evidence],
) -> list[tuple[str, Sequence[Segment]]]:
    return prompts.messages(
        question,
        evidence,
        frame.history(),
        pinned=frame.pinned,
        above=[e.marker for e in above],
        note=frame.note,
    )


def _choose(
    question: str, items: list[_Item], room: int, k: int
) -> tuple[list[_Item], list[Candidate]]:
    wanted = frozenset(content_words(question))
    chosen: list[_Item] = []
    dropped: list[Candidate] = []
    left = list(items)
    while left:
        fitting = [item for item in left if item.n_tokens <= room]
        if not fitting or len(chosen) >= k:
            reason = OVER_COUNT if len(chosen) >= k else OVER_BUDGET
            dropped += [replace(item.candidate, dropped=reason) for item in left]
            break
        covered = frozenset().union(*(item.words for item in chosen))
        best = max(fitting, key=lambda item: _gain(item, chosen, wanted, covered))
        if best.worth < MIN_WORTH and len(chosen) >= MIN_SOURCES:
            dropped += [replace(item.candidate, dropped=FAR_BEHIND) for item in left]
            break
        chosen.append(best)
        left.remove(best)
        room -= best.n_tokens
    return chosen, dropped


def _gain(
    item: _Item, chosen: Sequence[_Item], wanted: frozenset[str], covered: frozenset[str]
) -> float:
    new = (item.words & wanted) - covered
    repeats = max((similarity(item.words, other.words) for other in chosen), default=0.0)
    gain = item.worth + COVERAGE_WEIGHT * len(new) / max(1, len(wanted))
    # A long passage must be worth its room, but a short one is not better for being short.
    return (gain - REPETITION_WEIGHT * repeats) / float(max(item.n_tokens, 64) ** 0.25)


def _evidence(candidate: Candidate, marker: int, n_tokens: int = 0) -> Evidence:
    return Evidence(
        marker=marker,
        chunk=candidate.chunk,
        path=candidate.path,
        title=candidate.title,
        score=_relevance(candidate),
        n_tokens=n_tokens,
        marks=candidate.marks,
        answers=candidate.answers,
        read_score=candidate.read_score,
    )


def nearest(candidates: Sequence[Candidate], n: int = 3) -> tuple[Evidence, ...]:
    """Return the best candidates as evidence for a refusal: what came nearest."""
    return tuple(_evidence(c, marker) for marker, c in enumerate(candidates[:n], start=1))


def _merged(items: Sequence[_Item]) -> list[Evidence]:
    """Return evidence in which chunks that follow one another are one passage again."""
    found = [_evidence(item.candidate, 0, item.n_tokens) for item in items]
    found.sort(key=lambda e: (e.chunk.span.doc_id, e.chunk.ordinal))
    merged: list[Evidence] = []
    last_ordinal = -1
    for evidence in found:
        previous = merged[-1] if merged else None
        if (
            previous is not None
            and previous.chunk.span.doc_id == evidence.chunk.span.doc_id
            and evidence.chunk.ordinal == last_ordinal + 1
            and follows(previous.chunk, evidence.chunk)
        ):
            merged[-1] = _rejoined(previous, evidence)
        else:
            merged.append(evidence)
        last_ordinal = evidence.chunk.ordinal
    return merged


def _rejoined(left: Evidence, right: Evidence) -> Evidence:
    shift = right.chunk.span.start - left.chunk.span.start
    reads = [e.read_score for e in (left, right) if e.read_score is not None]
    return replace(
        left,
        chunk=rejoin(left.chunk, right.chunk),
        score=max(left.score, right.score),
        n_tokens=left.n_tokens + right.n_tokens,
        marks=_joined(left.marks, right.marks, shift),
        answers=_joined(left.answers, right.answers, shift),
        read_score=max(reads, default=None),
    )


def _joined(left: Sequence[Mark], right: Sequence[Mark], shift: int) -> tuple[Mark, ...]:
    """Return marks and others, of a text that begins `shift` characters later, best first."""
    moved = (mark.shifted(shift) for mark in right)
    return tuple(sorted((*left, *moved), key=lambda mark: -mark.score))


def follows(left: Chunk, right: Chunk) -> bool:
    """Return whether `right` goes on where `left`, of the same document, ends: one passage."""
    return left.headings == right.headings and 0 <= right.span.start - left.span.end <= MAX_GAP


def rejoin(left: Chunk, right: Chunk) -> Chunk:
    """Return two chunks of one document that follow one another as one passage, offsets exact."""
    gap = right.span.start - left.span.end
    shift = right.span.start - left.span.start
    first, last = left.span.locator, right.span.locator
    times = [t for t in (left.time_first, right.time_first) if t is not None]
    lasts = [t for t in (left.time_last, right.time_last) if t is not None]
    return replace(
        left,
        span=Span(
            left.span.doc_id,
            left.span.start,
            right.span.end,
            Locator(first.unit, first.first, last.last),
        ),
        text=left.text + "\n" * gap + right.text,
        breaks=(
            *left.breaks,
            (shift, last.first),
            *((offset + shift, number) for offset, number in right.breaks),
        ),
        n_tokens=left.n_tokens + right.n_tokens,
        time_first=min(times, default=None),
        time_last=max(lasts, default=None),
        levels=tuple(dict.fromkeys(left.levels + right.levels)),
    )


def _ordered(evidence: Sequence[Evidence]) -> list[Evidence]:
    """Strongest first, second strongest last, the rest between; logs as time went."""
    ranked = sorted(evidence, key=lambda e: -e.score)
    if ranked and all(e.chunk.kind is BlockKind.RECORD for e in ranked):
        return sorted(ranked, key=lambda e: (e.chunk.time_first or 0.0, e.path, e.chunk.span.start))
    return ranked[::2] + ranked[1::2][::-1]


def _numbered(evidence: Sequence[Evidence], first_marker: int) -> list[Evidence]:
    return [replace(e, marker=marker) for marker, e in enumerate(evidence, start=first_marker)]


def _prompt(
    question: str,
    evidence: Sequence[Evidence],
    dropped: Sequence[Candidate],
    engine: Engine,
    frame: prompts.Frame,
    above: Sequence[Evidence],
) -> PackedPrompt:
    segments = engine.chat(_messages(question, evidence, frame, above))
    ids = engine.tokenize(segments)
    layers: dict[str, int] = {}
    for segment, tokens in zip(segments, ids, strict=True):
        layers[segment.layer] = layers.get(segment.layer, 0) + len(tokens)
    return PackedPrompt(
        segments=tuple(segments),
        tokens=tuple(token for tokens in ids for token in tokens),
        evidence=(*above, *evidence, *_only_pinned(frame, above)),
        dropped=tuple(dropped),
        layer_tokens=layers,
        above=tuple(e.marker for e in above),
        paths=tuple(sorted({e.path for e in (*frame.sources, *evidence)})),
    )


def _only_pinned(frame: prompts.Frame, above: Sequence[Evidence]) -> list[Evidence]:
    named = {e.marker for e in above}
    return [e for e in frame.pinned if e.marker not in named]
