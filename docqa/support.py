"""Is a sentence of the answer supported by a source, and by which words of it?

A claim is supported by a passage when a few adjacent sentences of the passage contain all numbers
of the claim and most of its content words. Words that the question already said prove nothing: a
claim must add something, and what it adds must be there. The check is deterministic: the model
has no say in it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from docqa.asked import NUMBER
from docqa.types import Citation, Evidence, Mark
from docqa.wording import (
    content_words,
    family,
    identifier_spans,
    identifiers,
    numbers,
    sentences,
    without_identifiers,
)

MIN_COVERAGE = 0.75  # of the claim's new content words, within the quoted sentences
MAX_QUOTE_SENTENCES = 3
MAX_QUOTE_CHARS = 600
LONG_CLAIM_WORDS = 8  # of a shorter claim every new word must be there: one wrong word is a lie
SHORT_CLAIM_WORDS = 2  # a claim with so few new words could stand anywhere
MIN_NEAR = 0.25  # of the question's words, in the quote or its headings, where the claim is short
MAX_VALUE_CHARS = 40
MIN_QUOTE_WORDS = 5  # a shorter line without a full stop, colon or number is a heading
MAX_HEADING_CHARS = 100
ROW_MARK = " | "  # between the cells of a table row
ROW_SLACK = 0.2  # a row may lack this share of the question's words that another row has
MIN_FIELD_SHARE = 0.6  # of the question's content words, codes aside, in the name of a field
SENTENCE_PRICE = 0.2  # a further sentence must bring this share of the words looked for

_CLAUSE = re.compile(r"[,;:](?=\s)|\.\s")
_FIELD = re.compile(r"([^:|\n]{3,60}):\s+\S")
_BARE_NUMBER = re.compile(r"\W*\d{1,3}\W*")
_ASKS_FOR_NUMBER = re.compile(
    r"\b(how many|number|count|which (page|step|chapter|section|version)|no\.)", re.IGNORECASE
)
_MARKER = re.compile(r"\s*\[(\d{1,4})(?:\s*[,;]\s*(\d{1,4}))*\]")


def markers_in(text: str) -> list[int]:
    """Return the numbers of `[n]` and `[n, m]` in `text`, in order, each once."""
    found: dict[int, None] = {}
    for match in _MARKER.finditer(text):
        for number in re.findall(r"\d+", match.group()):
            found[int(number)] = None
    return list(found)


def without_markers(text: str) -> str:
    """Return `text` without its citation markers."""
    return _MARKER.sub("", text).strip()


@dataclass(frozen=True, slots=True)
class Support:
    """Where a claim stands: characters of the evidence's passage, and how well it is covered."""

    evidence: Evidence
    start: int
    end: int
    coverage: float


def find_support(claim: str, question: str, evidence: Sequence[Evidence]) -> Support | None:
    """Return the shortest quote of the best passage that supports `claim`, or None."""
    found = [s for e in evidence if (s := _support_in(claim, question, e)) is not None]
    return max(found, key=lambda s: (s.coverage, s.evidence.score), default=None)


def _support_in(claim: str, question: str, evidence: Evidence) -> Support | None:
    text = evidence.chunk.text
    known = set(content_words(question))
    claimed = list(dict.fromkeys(content_words(claim)))
    new = [word for word in claimed if word not in known]
    added_numbers = numbers(claim) - numbers(question)
    if not new or not added_numbers <= numbers(text):
        return None  # it says nothing that the question did not say, or a number from nowhere
    if _BARE_NUMBER.fullmatch(claim) and not _ASKS_FOR_NUMBER.search(question):
        return None  # "2" of what? The sentence with its unit answers
    spoken = [word for word in new if not word[0].isdigit()]  # 2000 is 2,000: compared as numbers
    is_short = len(new) <= SHORT_CLAIM_WORDS
    around = _context_words(evidence)
    best_row = max((_share(list(known), words) for words in _rows(text)), default=0.0)
    best: Support | None = None
    best_key = (0.0, 0.0, 0)
    for start, end, n_sentences in windows(text):
        words = set(content_words(text[start:end]))
        added = _share(spoken, words)
        if added < (
            MIN_COVERAGE if len(new) >= LONG_CLAIM_WORDS else 1.0
        ) or not added_numbers <= numbers(text[start:end]):
            continue
        if ROW_MARK in text[start:end] and (
            n_sentences > 1 or _share(list(known), words) < best_row - ROW_SLACK
        ):
            continue  # a value of another row than the one the question is about
        if _belongs_to_a_sibling(claim, question, text[start:end]):
            continue
        if _is_of_another_clause(claim, known, text[start:end]):
            continue
        near = _share(list(known), words | around)
        is_marked = any(start <= mark.start < end for mark in evidence.marks[:1])
        if is_short and near < MIN_NEAR and not is_marked:
            continue  # "2." stands everywhere: the words around it must be the question's
        literal = 1.0 if claim.strip(" .") in text[start:end] else 0.0
        context = _share([*claimed, *known], words) - SENTENCE_PRICE * (n_sentences - 1)
        key = (added + literal, context, start - end)
        if best is None or key > best_key:
            best, best_key = Support(evidence, start, end, added), key
    return best


def _rows(text: str) -> list[set[str]]:
    """Return the content words of each table row of `text`."""
    spans = sentences(text)
    return [set(content_words(text[s:e])) for s, e in spans if ROW_MARK in text[s:e]]


def _belongs_to_a_sibling(claim: str, question: str, quote: str) -> bool:
    """Return whether `quote` says the claim of another thing than the code the question names.

    In "six vanes on the TWX 40 and seven on the TWX 65" the nearest code owns a value, where a
    comma, "and", or a column between them counts as distance.
    """
    asked = identifiers(question)
    at = _place_of(claim, quote)
    if not asked or at is None:
        return False
    rivals = [
        (_distance(quote, at, (start, end)), code in asked)
        for code, start, end in identifier_spans(quote)
        if family(code) in {family(a) for a in asked}
    ]
    return bool(rivals) and not min(rivals, key=lambda rival: (rival[0], not rival[1]))[1]


def _is_of_another_clause(claim: str, known: set[str], quote: str) -> bool:
    """Return whether a short claim with a number stands in a clause that is not the question's.

    In "14 were caused by cavitation, eight by a loose sensor" the words beside a number say of what
    it is: a clause with a number and more of the question's words than the claim's own owns the
    answer.
    """
    if ROW_MARK in quote or len(claim) > MAX_VALUE_CHARS or not NUMBER.search(claim):
        return False
    bare = claim.strip(" .").lower()
    clauses = [part.lower() for part in _CLAUSE.split(quote) if NUMBER.search(part)]
    shared = [len(known & set(content_words(part))) for part in clauses]
    own = [n for part, n in zip(clauses, shared, strict=True) if bare in part]
    return bool(own) and max(own) < max(shared) and max(own) == 0


def _place_of(claim: str, quote: str) -> tuple[int, int] | None:
    bare = claim.strip(" .")
    start = quote.lower().find(bare.lower())
    if start >= 0 and not identifiers(bare):
        return start, start + len(bare)
    for number in re.findall(r"\d+(?:[.,]\d+)*", bare):
        found = re.search(rf"(?<![\w.,]){re.escape(number)}(?![\w]|[.,]\d)", quote)
        if found and not any(s <= found.start() < e for _, s, e in identifier_spans(quote)):
            return found.span()
    return None


def _distance(text: str, left: tuple[int, int], right: tuple[int, int]) -> int:
    between = text[min(left[1], right[1]) : max(left[0], right[0])]
    return (
        len(between)
        + 40 * len(re.findall(r"[;|]|\.\s", between))
        + 20 * len(re.findall(r",|\band\b|\bor\b|\bbut\b", between))
    )


def _context_words(evidence: Evidence) -> set[str]:
    return set(content_words(" ".join((evidence.title, *evidence.chunk.headings))))


def _share(wanted: Sequence[str], there: set[str]) -> float:
    return sum(word in there for word in wanted) / len(wanted) if wanted else 1.0


def windows(text: str) -> list[tuple[int, int, int]]:
    """Return (start, end, n) of each run of n = 1 … MAX_QUOTE_SENTENCES adjacent sentences."""
    spans = list(sentences(text))
    found = []
    for n in range(1, MAX_QUOTE_SENTENCES + 1):
        for i in range(len(spans) - n + 1):
            start, end = spans[i][0], spans[i + n - 1][1]
            if n == 1 or end - start <= MAX_QUOTE_CHARS:
                found.append((start, end, n))
    return found


def standing(claim: str, support: Support, evidence: Sequence[Evidence]) -> float:
    """Return how far the marks place the sentence that says `claim` behind the best; 0.0: it is it.

    Infinite where nothing of it is marked although its passage has marks; 0.0 without any marks.
    """
    best = max((mark.score for e in evidence for mark in e.marks), default=None)
    if best is None or not support.evidence.marks:
        return 0.0
    start, end = _said_in(claim, support)
    own = [m.score for m in support.evidence.marks if m.start < end and start < m.end]
    return best - max(own) if own else math.inf


def _said_in(claim: str, support: Support) -> tuple[int, int]:
    """Return the one sentence of the supporting words that has most of the claim's."""
    text = support.evidence.chunk.text
    claimed = set(content_words(claim))
    spans = [s for s in sentences(text) if support.start <= s[0] and s[1] <= support.end]
    return max(
        spans,
        key=lambda s: len(claimed & set(content_words(text[s[0] : s[1]]))),
        default=(support.start, support.end),
    )


def best_sentences(question: str, evidence: Evidence) -> list[Mark]:
    """Return the sentences that may answer, best first: the reranker's, else the likest one.

    Lines that only name what follows are left out while there are others.
    """
    text = evidence.chunk.text
    headings = {heading.strip().lower() for heading in evidence.chunk.headings}
    marks = [_whole(mark, text) for mark in evidence.marks]
    said = [m for m in marks if not _is_heading(text[m.start : m.end], headings)]
    if said:
        return said
    whole = list(sentences(text)) or [(0, len(text))]
    spans = [s for s in whole if not _is_heading(text[s[0] : s[1]], headings)] or whole
    wanted = set(content_words(question))
    start, end = max(spans, key=lambda s: len(wanted & set(content_words(text[s[0] : s[1]]))))
    score = max((mark.score for mark in marks), default=evidence.score)
    return [Mark(start, end, score)]


def is_field_asked_for(sentence: str, question: str) -> bool:
    """Return whether `sentence` begins with a name and a colon, and the question asks for that."""
    field = _FIELD.match(sentence)
    if field is None:
        return False
    name = set(content_words(field[1]))
    wanted = set(content_words(without_identifiers(question, identifiers(question))))
    return bool(name) and name <= wanted and len(name) >= MIN_FIELD_SHARE * len(wanted)


def _whole(mark: Mark, text: str) -> Mark:
    """Return the mark with the sentences whole that it begins and ends in."""
    spans = list(sentences(text))
    start = max((s for s, _ in spans if s <= mark.start), default=mark.start)
    end = min((e for _, e in spans if e >= mark.end), default=mark.end)
    return Mark(start, end, mark.score)


def _is_heading(sentence: str, headings: set[str]) -> bool:
    """Return whether a line only names what follows: it answers nothing."""
    line = sentence.strip().lower()
    if line in headings or any(line.endswith(heading) for heading in headings if heading):
        return len(line) < MAX_HEADING_CHARS
    says_something = line[-1:] in ".!?" or ROW_MARK in line or ":" in line
    return not says_something and len(line.split()) < MIN_QUOTE_WORDS and not numbers(line)


def cite(evidence: Evidence, start: int, end: int) -> Citation:
    """Return the citation of `evidence.chunk.text[start:end]`, its place exact."""
    chunk = evidence.chunk
    where = chunk.locate(start, end)
    is_page = where.unit == "page"
    last = where.last if where.last != where.first else None
    return Citation(
        marker=evidence.marker,
        path=evidence.path,
        page=where.first if is_page else None,
        page_last=last if is_page else None,
        line=None if is_page else where.first,
        line_last=None if is_page else last,
        quote=chunk.text[start:end],
        char_start=chunk.span.start + start,
        char_end=chunk.span.start + end,
    )
