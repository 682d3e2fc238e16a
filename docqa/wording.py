"""Sentences, content words and numbers of a text: what packing and support checks compare.

Deliberately plain: no language model, no dictionary beyond a list of English function words. Works
on any script whose words are separated; elsewhere a sentence is its own single word and only exact
matches count.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Set
from functools import lru_cache

# "24/7" is one word, "Model/Series" and a path are several.
_WORD = re.compile(r"\w+(?:[.,:'-]\w+|(?<=\d)/\d+)*")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_SENTENCE_END = re.compile(
    r"(?<=[.!?。！？])[\"')\]]*\s+(?=[\"'(\[]?[A-Z0-9À-ÖØ-Þ\u0370-\uffff])"
    r"|\n(?=\s*(?:\n|[-*•|\[(#{<]|[A-Z0-9À-ÖØ-Þ\u0370-\uffff]))\s*"
)
_ABBREVIATION = re.compile(
    r"(?:\b(?:e\.g|i\.e|etc|vs|cf|approx|ca|no|nos|fig|figs|tab|sec|ch|vol|pp?|art|para|eq|ref|"
    r"inc|ltd|co|corp|dr|mr|mrs|ms|prof|st|jr|sr|u\.s|u\.k|a\.m|p\.m|min|max|dept|est)|\b[A-Z])\.$",
    re.IGNORECASE,
)

_FILLED_FIELD = re.compile(r"(?:^|\| )([^|:\n]{2,60}):[ \t]+(?=[^|\s])", re.MULTILINE)
_EMPTY_FIELD = re.compile(r"(?:^|(?<=\| ))[^|:\n]+:\s*(?=\||$)")

FIELDS_CHARS = 300  # of a record: a few fields of JSON
FIELD_SIGN_SHARE = 0.03  # of a record's characters, where prose has next to none
_FIELD_SIGNS = ('"', "=", "{", "}", "->")

STOP_WORDS = frozenset(
    """a about above after again against all also am an and any are as at be because been before
    being below between both but by can could did do does doing down during each either else every
    few for from further get give given had has have having he her here hers him his how i if in
    into is it its itself just let like many may me might more most much must my no nor not of off
    on once one only or other our out over own per please same shall she should show so some such
    tell than that the their them then there these they this those through to too under until up
    upon us use used using very was we were what when where whether which while who whom whose why
    will with within without would you your""".split()  # noqa: SIM905 (a list would be 100 lines)
)


def without_empty_fields(row: str) -> str:
    """Return a table row without the fields of a form that nobody filled in.

    `Visibility: 10 miles | Direction from Site:` answers nothing about a direction or a site.
    """
    return _EMPTY_FIELD.sub("", row) if " | " in row else row


def field_share(row: str, wanted: Set[str]) -> float:
    """Return how much of a field's name is wanted: of the filled field of `row` with most, 0 … 1.

    `Registered Owner: Acme | Rated Power: 160 hp` has all of the rated power of an engine.
    `wanted` are stems, as `content_words` gives them.
    """
    names = (set(content_words(match[1])) for match in _FILLED_FIELD.finditer(row))
    return max((len(name & wanted) / len(name) for name in names if name), default=0.0)


def sentences(text: str) -> Iterator[tuple[int, int]]:
    """Yield (start, end) of each sentence of `text`, without the white space around it.

    A line break ends a sentence where the next line starts like one or the line is a list item or
    table row; inside a paragraph parsers have already joined lines. Of a long record of fields
    (JSON), each few fields are a sentence.
    """
    start = 0
    for match in _SENTENCE_END.finditer(text):
        if "\n" not in match.group() and _ABBREVIATION.search(text, start, match.start()):
            continue
        yield from _trimmed(text, start, match.start())
        start = match.end()
    yield from _trimmed(text, start, len(text))


def _trimmed(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    start, end = _stripped(text, start, end)
    if _is_long_record(text, start, end):
        yield from (_stripped(text, *piece) for piece in fields(text, start, end))
    elif start < end:
        yield start, end


def _stripped(text: str, start: int, end: int) -> tuple[int, int]:
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return start, end


def _is_long_record(text: str, start: int, end: int) -> bool:
    n_chars = end - start
    if n_chars <= FIELDS_CHARS:
        return False
    n_signs = sum(len(sign) * text.count(sign, start, end) for sign in _FIELD_SIGNS)
    return n_signs > FIELD_SIGN_SHARE * n_chars


def fields(text: str, start: int, end: int, size: int = FIELDS_CHARS) -> Iterator[tuple[int, int]]:
    """Yield the (start, end) of pieces of a record of at most `size` characters, cut at commas."""
    while end - start > size:
        cut = max(text.rfind(mark, start + size // 2, start + size) for mark in ",; \t") + 1
        yield start, cut or start + size
        start = cut or start + size
    yield start, end


@lru_cache(maxsize=65_536)
def stem(word: str) -> str:
    """Return `word` without its commonest English endings: so that `seals` meets `sealed`."""
    for ending in ("ings", "ing", "edly", "ies", "ied", "ers", "er", "es", "ed", "ly", "s", "e"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            base = word.removesuffix(ending)
            return base + "y" if ending in ("ies", "ied") else base
    return word


def content_words(text: str) -> list[str]:
    """Return the stems of the content words of `text`, in order, function words left out."""
    return [
        stem(word)
        for word in (match.group().lower() for match in _WORD.finditer(text))
        if word not in STOP_WORDS
    ]


def numbers(text: str) -> set[str]:
    """Return the numbers in `text`, thousands separators and trailing zeros taken away."""
    return {_plain_number(match.group()) for match in _NUMBER.finditer(text)}


def _plain_number(number: str) -> str:
    plain = re.sub(r"[,.](?=\d{3}(?:\D|$))", "", number).replace(",", ".")
    return plain.rstrip("0").rstrip(".") if "." in plain else plain


_IDENTIFIER = re.compile(
    r"\b(?=[\w./-]*\d)(?=[\w./-]*[A-Za-z])[A-Za-z0-9](?:[\w./-]*\w)\b"  # E25, KP-40, v2.1, M10
    r"|\b[A-Z]{2,}[A-Za-z]*[ -]?\d+\b"  # TWX 80
)
_CODE = re.compile(r"(?<![\w/.-])/?\w+(?:[./_:@-]+\w+)*/?(?!\w)")
_NO_CODE = re.compile(r"\d+(?:[.,]\d+)*(?:[a-zA-Z%°]{1,4})?$|and/or$", re.IGNORECASE)
_IS_CODE = re.compile(r"\d.*[A-Za-z./:_-]|[A-Za-z./:_-].*\d|\w[./_@:]\w|^/")
_MEASURE = re.compile(r"^\d+(?:[.,]\d+)*(?:[a-zA-Z%°]{1,4}|st|nd|rd|th)$")


def identifiers(text: str) -> set[str]:
    """Return the codes in `text` (`E25`, `KP-40`, `TWX 80`), lower case without separators.

    What such a code names is one thing and no other: a passage that lacks it is about another
    thing. Measures (`45Nm`, `2nd`) are no codes.
    """
    return {identifier for identifier, _, _ in identifier_spans(text)}


def identifier_spans(text: str) -> list[tuple[str, int, int]]:
    """Return (identifier, start, end) of each code in `text`, in order."""
    return [
        (re.sub(r"[\s_./-]", "", match.group()).lower(), match.start(), match.end())
        for match in _IDENTIFIER.finditer(text)
        if not _MEASURE.match(match.group())
    ]


def codes(text: str) -> list[str]:
    """Return what in `text` is written as machines write: paths, hosts, versions, dates, keys.

    `/projects/xdotool/`, `prod-02`, `zookeeper.connect`: a word with a digit and something else, or
    with a point, a slash, a colon or an underscore inside.
    """
    found = (match.group().strip("-.:") for match in _CODE.finditer(text))
    return [code for code in found if _IS_CODE.search(code) and not _NO_CODE.match(code)]


def without_identifiers(text: str, wanted: Set[str]) -> str:
    """Return `text` with blanks in place of those of its codes that are in `wanted`."""
    kept = list(text)
    for code, start, end in identifier_spans(text):
        if code in wanted:
            kept[start:end] = " " * (end - start)
    return "".join(kept)


def family(identifier: str) -> str:
    """Return `twx` of `twx40`: what the siblings of a code share."""
    return re.split(r"\d", identifier, maxsplit=1)[0]


def has_identifier(identifier: str, text: str) -> bool:
    """Return whether `text` has `identifier`, whatever the separators, not inside another."""
    spaced = r"[\s_./-]*".join(re.escape(character) for character in identifier)
    return re.search(rf"(?<![A-Za-z0-9]){spaced}(?![A-Za-z0-9])", text, re.IGNORECASE) is not None


def similarity(left: frozenset[str], right: frozenset[str]) -> float:
    """Return the Jaccard similarity of two sets of words; 0.0 where both are empty."""
    union = len(left | right)
    return len(left & right) / union if union else 0.0
