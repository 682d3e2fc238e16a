"""Evidence → a checked answer. The model writes; this module decides what is shown.

Sentences are released one by one, each after its check against the sources (`docqa.support`), so
that nothing that was shown is taken back. A sentence that no source supports is not shown; if none
is left, the best verbatim sentence is shown instead and labelled as a quote, or the answer is "not
found". Markers the model invented are dropped; a supported sentence without a marker gets the one
of its source.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from docqa import prompts
from docqa.asked import asked_for
from docqa.choose import best_answer
from docqa.config import AnswerConfig
from docqa.events import AnswerText, PrefillProgress
from docqa.protocols import Engine, Piece, Prefill, Sampling, Stop
from docqa.quantity import with_unit
from docqa.refusal import refuses
from docqa.support import (
    Support,
    best_sentences,
    cite,
    find_support,
    is_field_asked_for,
    markers_in,
    standing,
    without_markers,
)
from docqa.types import (
    Answer,
    AnswerKind,
    BlockKind,
    Citation,
    Evidence,
    Mark,
    PackedPrompt,
    Usage,
)
from docqa.wording import content_words, sentences, similarity

# The score of evidence that is shown although the model said "not found": small models refuse too
# often. How far our adapter's refusals are to be trusted is known (`docqa.refusal`).
OVERRULES_REFUSAL = 0.1
MAX_QUOTES = 2
QUOTE_MARGIN = 0.6  # of a mark's score, within which a second sentence is shown beside the best
FIELD_BONUS = 0.5  # of a mark's score, for "Sponsor: Acme" where the sponsor is asked for
CLAIM_MARGIN = 0.3  # of a mark's score: a claim is of the best sentence, or of one as good
SURE = 0.0  # the score of a choice (`docqa.choose`) below which a log's line is shown whole
MIN_READ = 0.015  # of the trained reader's P(the best passage answers)
SAME_WORDS = 0.8  # two sentences so alike say the same
MIN_QUOTE_COVERAGE = 0.5  # of the question's content words, where no reader marked the answer

UNSUPPORTED = "the model's own words were not supported by the sources: the best quote instead"
DOUBTED = "the model answered from another place than the best quote: both places are shown"
BOTH_DOUBT = "the language model and the reader both doubt that the passages found answer"
UNSURE = "the models do not agree on a short answer: the line instead"
PARTLY_SUPPORTED = "sentences that no source supports were left out"
NO_MODEL = "answered without a language model: the best quote"


@dataclass(frozen=True, slots=True)
class Draft:
    """A finished answer before it is dressed as `types.Answer`."""

    kind: AnswerKind
    text: str
    citations: tuple[Citation, ...]
    usage: Usage
    notes: tuple[str, ...] = ()


@dataclass(slots=True)
class _Checked:
    """Released sentences and their citations, while the model writes."""

    texts: list[str] = field(default_factory=list)
    citations: list[Citation] = field(default_factory=list)
    doubted: list[Support] = field(default_factory=list)  # from another sentence than the best
    n_refused: int = 0
    is_refusal: bool = False
    is_sure: bool = True  # of the words, not of the place

    @property
    def is_untouched(self) -> bool:
        """Whether nothing was judged yet."""
        return not (self.texts or self.doubted or self.n_refused or self.is_refusal)


def generate_answer(
    question: str,
    prompt: PackedPrompt,
    engine: Engine,
    settings: AnswerConfig,
    *,
    quote_score: float,
    cancel: threading.Event | None = None,
    may_shift: bool = False,
) -> Iterator[PrefillProgress | AnswerText | Draft]:
    """Yield progress, checked sentences, and the Draft last.

    Args:
        question: the user's.
        prompt: with at least one source.
        engine: the reading model.
        settings: sampling and the length of the answer.
        quote_score: the evidence score from which a quote may stand in for the model.
        cancel: stops the model; what was released stays.
        may_shift: old turns may have been dropped from the prompt; see `Engine.generate`.
    """
    checked = _Checked()
    buffer = ""
    stop: Stop | None = None
    sampling = Sampling(settings.temperature, settings.top_p, settings.seed)
    events = engine.generate(
        prompt.tokens,
        max_tokens=settings.max_tokens,
        sampling=sampling,
        cancel=cancel,
        may_shift=may_shift,
    )
    for event in events:
        if isinstance(event, Prefill):
            yield PrefillProgress(event.n_done, event.n_total, event.n_reused)
        elif isinstance(event, Piece):
            complete, buffer = _complete_sentences(buffer + event.text)
            yield from _release(complete, question, prompt.evidence, checked)
        else:
            stop = event
    is_cut = stop is None or stop.reason != "end"
    usage = _usage(stop)
    is_trained = engine.info.refusal_threshold is not None  # only an adapter of ours states one
    is_greedy = settings.temperature == 0 and not is_cut
    is_weighed = is_trained and settings.choose and is_greedy and checked.is_untouched
    if is_weighed:
        began = time.perf_counter()
        is_refused = refuses(prompt, engine)
        if not is_refused and _is_one_claim(buffer):
            checked, buffer = _chosen(buffer, question, prompt, engine)
        usage = replace(usage, choose_s=time.perf_counter() - began)
        if is_refused:
            yield Draft(AnswerKind.NOT_FOUND, prompts.NOT_FOUND, (), usage, (BOTH_DOUBT,))
            return
        if checked.texts:
            yield AnswerText(" ".join(checked.texts))
    if not (is_cut and checked.texts):  # a tail that was cut off is no claim
        yield from _release([buffer], question, prompt.evidence, checked)
    has_doubt = checked.is_refusal and not is_weighed
    least = max(quote_score, OVERRULES_REFUSAL) if has_doubt else quote_score
    yield from _conclude(question, prompt.evidence, checked, least, usage)


def _is_one_claim(text: str) -> bool:
    """Return whether an answer says one thing of one source, and no refusal."""
    claim = without_markers(text)
    return bool(claim) and len(markers_in(text)) <= 1 and not _is_refusal(claim)


def _chosen(
    written: str, question: str, prompt: PackedPrompt, engine: Engine
) -> tuple[_Checked, str]:
    """Return what is shown instead of what the model wrote, and what of that is still to check."""
    choice = best_answer(written, question, prompt, engine)
    if choice is None:
        return _Checked(), written
    checked = _Checked(is_sure=choice.score >= SURE)
    if choice.text != written:
        for _ in _release([choice.text], question, prompt.evidence, checked):
            pass  # it is shown once it is known to stand
        if checked.texts or (checked.doubted and not checked.is_sure):
            return checked, ""
    return _Checked(is_sure=checked.is_sure), written


def _complete_sentences(text: str) -> tuple[list[str], str]:
    """Split off the sentences that are surely complete: another one has begun after them."""
    spans = list(sentences(text))
    if len(spans) < 2:
        return [], text
    cut = spans[-1][0]
    if markers_in(text[cut:]) and not without_markers(text[cut:]):
        return [], text  # the marker belongs to the sentence before it
    return [text[start:end] for start, end in spans[:-1]], text[cut:]


def _release(
    claims: Sequence[str], question: str, evidence: Sequence[Evidence], checked: _Checked
) -> Iterator[AnswerText]:
    asked = asked_for(question)
    for raw in claims:
        claim = without_markers(raw)
        if not claim:
            continue
        if _is_refusal(claim):
            checked.is_refusal = checked.is_refusal or not checked.texts
            continue
        named = set(markers_in(raw))
        cited = [e for e in evidence if e.marker in named]
        support = find_support(claim, question, cited) or find_support(claim, question, evidence)
        lacks_number = asked is not None and asked.is_number and not asked.fits(claim)
        if support is None:
            checked.n_refused += 1
            continue
        is_line = support.evidence.chunk.kind is BlockKind.RECORD
        is_aside = standing(claim, support, evidence) > CLAIM_MARGIN
        if lacks_number or is_aside or (is_line and not checked.is_sure):
            checked.doubted.append(support)
            continue
        quote = support.evidence.chunk.text[support.start : support.end]
        shown = with_unit(claim, quote, question, asked)
        if any(shown == old.rsplit(" [", 1)[0] for old in checked.texts):
            continue  # small models repeat themselves
        text = f"{shown} [{support.evidence.marker}]"
        separator = " " if checked.texts else ""
        checked.texts.append(text)
        checked.citations.append(cite(support.evidence, support.start, support.end))
        yield AnswerText(separator + text)


def _is_refusal(claim: str) -> bool:
    return claim.lower().startswith(prompts.NOT_FOUND.lower().rstrip("."))


def _conclude(
    question: str,
    evidence: Sequence[Evidence],
    checked: _Checked,
    quote_score: float,
    usage: Usage,
) -> Iterator[AnswerText | Draft]:
    if checked.texts:
        notes = (PARTLY_SUPPORTED,) if checked.n_refused or checked.doubted else ()
        text = " ".join(checked.texts)
        yield Draft(AnswerKind.MODEL, text, _once(checked.citations), usage, notes)
        return
    quote = quote_answer(question, evidence, quote_score, checked.doubted)
    if quote is None:
        yield Draft(AnswerKind.NOT_FOUND, prompts.NOT_FOUND, (), usage)
        return
    yield AnswerText(quote.text)
    doubt = DOUBTED if checked.is_sure else UNSURE
    yield replace(quote, usage=usage, notes=(doubt if checked.doubted else UNSUPPORTED,))


def quote_answer(
    question: str,
    evidence: Sequence[Evidence],
    quote_score: float,
    doubted: Sequence[Support] = (),
) -> Draft | None:
    """Return the best verbatim sentence as an answer, or None where none is good enough.

    A second sentence is shown where the model's claim was of it (`doubted`) or where it is nearly
    as good, in the same document: which of the two answers is then the reader's to say. None too
    where the question asks for a kind of value that the best lacks.
    """
    wanted = set(content_words(question))
    quotes = [
        _Quote(source, mark)
        for source in evidence
        if source.score >= quote_score and (source.marks or _is_like(wanted, source))
        for mark in best_sentences(question, source)
    ]
    quotes.sort(key=lambda q: -q.mark.score - FIELD_BONUS * is_field_asked_for(q.text, question))
    read_score = quotes[0].source.read_score if quotes else None
    if read_score is not None and read_score < MIN_READ:
        return None  # the words are like the question's, but the reader sees no answer there
    asked = asked_for(question)
    if asked is not None and asked.is_strict and quotes:
        if not asked.fits(quotes[0].text):
            return None
        quotes = [quote for quote in quotes if asked.fits(quote.text)]
    if not quotes:
        return None
    least = quotes[0].mark.score - QUOTE_MARGIN
    path = quotes[0].source.path  # what another document says is of another thing
    near = [q for q in quotes[1:] if q.mark.score >= least and q.source.path == path]
    claimed = [_Quote(d.evidence, Mark(d.start, d.end, least)) for d in doubted]
    chosen = _different([quotes[0], *claimed, *near])[:MAX_QUOTES]
    text = "\n".join(f"“{quote.text}” [{quote.source.marker}]" for quote in chosen)
    citations = [cite(quote.source, quote.mark.start, quote.mark.end) for quote in chosen]
    return Draft(AnswerKind.QUOTE, text, _once(citations), Usage())


@dataclass(frozen=True, slots=True)
class _Quote:
    """A sentence of a source that may answer."""

    source: Evidence
    mark: Mark

    @property
    def text(self) -> str:
        return self.source.chunk.text[self.mark.start : self.mark.end]


def _is_like(wanted: set[str], source: Evidence) -> bool:
    """Return whether a passage in which nothing is marked has enough of the question's words."""
    there = set(content_words(" ".join((source.title, *source.chunk.headings, source.chunk.text))))
    return not wanted or len(wanted & there) / len(wanted) >= MIN_QUOTE_COVERAGE


def _different(quotes: Sequence[_Quote]) -> list[_Quote]:
    """Return `quotes` without those that say the same words again."""
    seen: list[frozenset[str]] = []
    kept = []
    for quote in quotes:
        words = frozenset(content_words(quote.text))
        if not any(_is_same(words, other) for other in seen):
            kept.append(quote)
            seen.append(words)
    return kept


def _is_same(words: frozenset[str], other: frozenset[str]) -> bool:
    """Whether one says what the other does, or part of it."""
    return words <= other or other <= words or similarity(words, other) >= SAME_WORDS


def not_found(question: str, query: str, nearest: tuple[Evidence, ...], usage: Usage) -> Answer:
    """Return the answer that there is none, with the passages that came nearest."""
    return Answer(
        question=question,
        query=query,
        found=False,
        kind=AnswerKind.NOT_FOUND,
        text=prompts.NOT_FOUND,
        citations=(),
        evidence=nearest,
        usage=usage,
        engine=None,
    )


def _once(citations: Sequence[Citation]) -> tuple[Citation, ...]:
    seen: dict[tuple[str, int, int], Citation] = {}
    for citation in citations:
        seen.setdefault((citation.path, citation.char_start, citation.char_end), citation)
    return tuple(seen.values())


def _usage(stop: Stop | None) -> Usage:
    if stop is None:
        return Usage()
    return Usage(
        prompt_tokens=stop.n_prompt,
        reused_tokens=stop.n_reused,
        generated_tokens=stop.n_generated,
        prefill_s=stop.prefill_s,
        decode_s=stop.decode_s,
        kv_bytes=stop.kv_bytes,
        shifted_tokens=stop.n_shifted,
    )
