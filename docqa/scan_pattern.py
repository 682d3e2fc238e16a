"""What a scan matches: the readings of a query, from the narrow to the wide, as patterns.

A reading says in words what it matches, because the answer shows it. Words of the question match
whole words in any case with the endings of plurals and verbs; quoted strings and identifiers match
as they stand but for case.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from docqa.parse.levels import LEVELS
from docqa.scan_intent import EXTREMES, ScanQuery, Term

_ENDINGS = "(?:s|es|ed|d|ing|er|ers)?"
_SOFT = frozenset(
    """request requests hit hits visit visits call calls attempt attempts login logins answered
    answer ended returned returning responded resulted got serve served sent try tried name names
    used open opened run ran execute executed issue issued take took taken give gave given
    server website site web going exist exists present show shows shown query queries connection
    connections people ask asks asked fetch fetches fetched
    found missing connect connects connected connecting
    talk talks talked user account""".split()  # noqa: SIM905
)
"""What a log is made of, or does, and does not say: given up beside something definite."""
_REQUESTS = frozenset("request requests requested requesting".split())  # noqa: SIM905
_VISITS = frozenset("hit hits visit visits visited".split())  # noqa: SIM905
_IS_REQUEST = r"(?:GET|POST|PUT|DELETE|PATCH|HEAD|OPTIONS)(?= (?:/|\*|\w+://))"
"""Requests are the lines with an HTTP method, and so are visits that stand alone."""
_SAME = {"successful": "(?:success(?:es|ful(?:ly)?)?|succeed(?:ed|s)?|accepted)"}
"""What else logs call it: sshd writes `Accepted password`."""
_SUFFIX = re.compile(r"(?:ies|ing|ed|es|s|e)$")


@dataclass(frozen=True, slots=True)
class Reading:
    """One way to understand the query. All `patterns` have to match, on one line or one record."""

    text: str  # in words, for the user
    patterns: tuple[re.Pattern[str], ...] = ()
    literals: tuple[str, ...] = ()  # lower case; a record without them cannot match
    levels: frozenset[str] = frozenset()
    is_by_line: bool = True
    is_phrase: bool = False  # words of the question that were neighbours have to be neighbours
    without: tuple[re.Pattern[str], ...] = ()  # a line with any of these does not match


def readings(query: ScanQuery) -> tuple[Reading, ...]:
    """Return the ways to understand `query`, the narrowest first."""
    level_text = f"level {' or '.join(x for x in LEVELS if x in query.levels)}"
    if not query.terms:
        found = [Reading(level_text if query.levels else "all records", levels=query.levels)]
    else:
        suffix = f", {level_text}" if query.levels else ""
        found = [
            _reading(query.terms, True, True, query.levels, suffix),
            _reading(query.terms, False, True, query.levels, suffix),
            _reading(query.terms, False, False, query.levels, suffix),
        ]
    hard = _hard(query.terms)
    if hard != query.terms and (_is_enough(hard) or (hard and query.names_log)):
        found.append(_reading(hard, False, True, query.levels, ""))
        if query.operation in EXTREMES:
            found.append(_reading(hard, False, False, query.levels, ""))
    elif query.terms and not hard and query.names_log and query.operation in EXTREMES:
        found.append(Reading("all records"))  # the slowest query: of what states how long
    exact = tuple(term for term in query.terms if term.is_exact)
    if exact != query.terms and any(term.is_quoted for term in exact):
        found.append(_reading(exact, False, True, query.levels, ""))  # beside what it is said to do
    if query.levels:
        word = Term((query.level_word,))
        phrase = _with_level_word(query)
        found.append(_reading((*query.terms, word), False, True, frozenset(), ""))
        if phrase is not None:
            found.insert(0, phrase)
    unique: dict[tuple[object, ...], Reading] = {}
    for reading in found:
        key = (tuple(p.pattern for p in reading.patterns), reading.levels, reading.is_by_line)
        unique.setdefault(key, reading)
    return tuple(_excluding(query.without, reading) for reading in unique.values())


def _hard(terms: tuple[Term, ...]) -> tuple[Term, ...]:
    """Return the terms without soft words."""
    cut = [
        term
        if term.is_exact
        else replace(term, words=tuple(w for w in term.words if w not in _SOFT))
        for term in terms
    ]
    return tuple(term for term in cut if term.words)


def _is_enough(terms: tuple[Term, ...]) -> bool:
    return any(term.is_exact for term in terms) or sum(len(term.words) for term in terms) > 1


def _excluding(words: tuple[str, ...], reading: Reading) -> Reading:
    if not words:
        return reading
    told = " or ".join(f'"{word}"' for word in words)
    patterns = tuple(_pattern(word, True) for word in words)
    return replace(reading, text=f"{reading.text}, without {told}", without=patterns)


def _with_level_word(query: ScanQuery) -> Reading | None:
    """`connection errors` may be a phrase of the log: the word before the level word with it."""
    low = query.question.lower()
    for term in query.terms:
        if not term.is_exact and f"{term.text} {query.level_word}" in low:
            rest = tuple(t for t in query.terms if t is not term)
            joined = Term((*term.words, query.level_word))
            return _reading((*rest, joined), True, True, frozenset(), "")
    return None


def _reading(
    terms: tuple[Term, ...], phrases: bool, by_line: bool, levels: frozenset[str], suffix: str
) -> Reading:
    pieces: list[tuple[str, Term]] = []
    for term in terms:
        words = (term.text,) if term.is_exact or phrases else term.words
        pieces += [(word, term) for word in words]
    requests = [word for word, term in pieces if _may_be_request(word, term)]
    shown = " and ".join(
        f"HTTP status {word}" if term.is_status else f'"{word}"' for word, term in pieces
    )
    where = "lines" if by_line else "records"
    endings = "" if all(term.is_exact for _, term in pieces) else ", other endings allowed"
    if requests:
        endings += ", or an HTTP request"
    literals = [
        literal
        for word, term in pieces
        if word not in requests
        for literal in _literals(word, term.is_exact)
    ]
    return Reading(
        text=f"{where} with {shown} (any case{endings}){suffix}",
        patterns=tuple(_term_pattern(word, term) for word, term in pieces),
        literals=tuple(dict.fromkeys(literals)),
        levels=levels,
        is_by_line=by_line,
        is_phrase=phrases and any(len(term.words) > 1 and not term.is_exact for term in terms),
    )


_STATUS_BEFORE = (
    r"(?:HTTP/[\d.]+\"? |\bstatus(?:_?code)?[\"']?\s*[=:]?\s*[\"']?|\bcode[\"']?\s*[=:]\s*[\"']?"
    r"|\b(?:GET|POST|PUT|DELETE|PATCH|HEAD|OPTIONS) \S+ )"
)


def _term_pattern(word: str, term: Term) -> re.Pattern[str]:
    if term.is_status:
        number = re.escape(word).replace("x", r"\d")  # 5xx
        return re.compile(_STATUS_BEFORE + number + r"(?!\w)", re.IGNORECASE)
    pattern = _pattern(word, term.is_exact)
    if _may_be_request(word, term):
        return re.compile(rf"{pattern.pattern}|\b{_IS_REQUEST}", re.IGNORECASE)
    return pattern


def _may_be_request(word: str, term: Term) -> bool:
    """Whether a line with an HTTP method is one of what is asked for; not so for cache hits."""
    return not term.is_exact and (word in _REQUESTS or (word in _VISITS and len(term.words) == 1))


def _pattern(text: str, is_exact: bool) -> re.Pattern[str]:
    """Return what finds a word or a phrase: whole words, any case, any space between them."""
    if is_exact:
        body = r"\s+".join(map(re.escape, text.split()))
    else:
        body = r"[\W_]+".join(_inflected(word) for word in text.split())
    before = r"(?<!\w)" if text[0].isalnum() else ""
    after = r"(?!\w)" if text[-1].isalnum() else ""
    return re.compile(before + body + after, re.IGNORECASE)


def _inflected(word: str) -> str:
    if word in _SAME:
        return _SAME[word]
    stem = _stem(word)
    return re.escape(stem) + (
        "(?:y|ies|ied)" if stem != word and word.endswith("ies") else _tail(stem, word)
    )


def _tail(stem: str, word: str) -> str:
    if not word.isalpha() or len(word) < 4:
        return "[sd]?" if word.isalpha() else ""  # ssh is what sshd logs
    doubled = f"{re.escape(stem[-1])}?" if stem[-1] in "bdgmnprt" else ""
    return f"(?:e|{doubled}{_ENDINGS})"


def _stem(word: str) -> str:
    """Cut a common ending, never below three letters."""
    if not word.isalpha() or len(word) < 4 or word.endswith("ss"):
        return word
    stem = _SUFFIX.sub("", word)
    if len(stem) < 3:
        return word
    if len(stem) > 3 and stem[-1] == stem[-2] and stem[-1] in "bdgmnprt" and stem != word:
        stem = stem[:-1]
    return stem


def _literals(text: str, is_exact: bool) -> list[str]:
    words = [word.lower().removesuffix("xx") for word in text.split()]
    return words if is_exact else [_stem(word) for word in words if word not in _SAME]


def prefilter_terms(query: ScanQuery) -> tuple[str, ...]:
    """Return terms that every match contains as whole words: what an index may narrow by.

    Only exact terms: the others may occur with other endings. Empty: every chunk has to be read.
    """
    return tuple(t.text for t in query.terms if t.is_exact and not t.text.endswith("xx"))
