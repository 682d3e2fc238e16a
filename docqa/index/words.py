"""How text becomes index terms, and a question a query. One analyser for both.

A term is a run of letters and digits: lower case, accents folded, English endings stemmed; each
character of a script written without spaces is a term of its own. An identifier (`ERR-1042`,
`10.0.0.1`, `java.lang.NullPointerException`, `foo_bar`) is therefore found by its parts and, as a
phrase of adjacent terms, whole. What that misses is added by `extra_terms`: the humps of camel
case, and numbers without their thousands separators.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import tantivy

_T = TypeVar("_T")

ANALYSER_VERSION = 1

_LONGEST_TERM_BYTES = 80  # a SHA-256 in hex is 64; longer runs are data, not words
_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_TERM = rf"[{_UNSPACED}]|[[\p{{L}}\p{{M}}\p{{N}}]--[{_UNSPACED}]]+"

_TURN = re.compile(r"[a-z][A-Z]")
_REST_OF_WORD = re.compile(r"\w*")
_HUMP = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
# \b\d{1,3}(?:,\d{3})+\b, begun at its first comma, so that C looks for one character only. The
# group that matched tells how many digits stand before it.
_THOUSANDS = re.compile(r",(?:(?<=\b\d,)()|(?<=\b\d\d,)()|(?<=\b\d\d\d,)())\d{3}(?:,\d{3})*\b")
_QUOTED = re.compile(r'"([^"]+)"|“([^”]+)”|«([^»]+)»|`([^`]+)`')

_STOP_WORDS = (
    "a about above after all also am an and any are as at be because been before being below "
    "between both but by can could did do does doing down during each few for from further had "
    "has have having he her here hers him his how i if in into is it its itself just me more most "
    "my myself now of off on once only or other our ours out over own please same she should so "
    "some such tell than that the their theirs them then there these they this those through to "
    "too under until up us very was we were what when where which while who whom whose why will "
    "with would you your yours"
)
STOP_WORDS = frozenset(_STOP_WORDS.split())


def new_analyser() -> tantivy.TextAnalyzer:
    """Return the analyser of every text: what a term is."""
    import tantivy

    return _with_filters(tantivy.Tokenizer.regex(_TERM))


def split_analyser() -> tantivy.TextAnalyzer:
    """Return the analyser of the fields, which hold text that went through a `TermSplitter`.

    The terms and positions are those of `new_analyser`, at half the cost of indexing: a tokenizer
    that looks for white space is several times faster than one by expression.
    """
    import tantivy

    return _with_filters(tantivy.Tokenizer.whitespace())


class TermSplitter(dict[int, str]):
    """Text to its terms with white space between them; a table for `str.translate`.

    Filled as characters are met: each is a part of a term, a term of its own, or between terms.
    """

    def __init__(self, analyser: tantivy.TextAnalyzer) -> None:
        """Take the analyser that says so."""
        super().__init__()
        self._analyser = analyser

    def __missing__(self, code: int) -> str:
        sign = chr(code)
        is_surrogate = 0xD800 <= code < 0xE000
        n_terms = 2 if is_surrogate else len(self._analyser.pre_tokenize(f"a{sign}a").tokens)
        self[code] = {1: sign, 2: " ", 3: f" {sign} "}[n_terms]
        return self[code]

    def split(self, text: str) -> str:
        """Return the terms of `text` as they stand in it, separated by spaces."""
        return text.translate(self)


def _with_filters(tokenizer: tantivy.Tokenizer) -> tantivy.TextAnalyzer:
    import tantivy

    builder = tantivy.TextAnalyzerBuilder(tokenizer)
    for token_filter in (
        tantivy.Filter.lowercase(),
        tantivy.Filter.ascii_fold(),
        tantivy.Filter.remove_long(_LONGEST_TERM_BYTES),
        tantivy.Filter.stemmer("English"),
    ):
        builder = builder.filter(token_filter)
    return builder.build()


def extra_terms(text: str) -> str:
    """Return the words that the analyser cannot see in `text`, separated by spaces.

    Grouped numbers first, then the humps, each in the order of the text.
    """
    extra = [
        text[match.start() - (match.lastindex or 0) : match.end()].replace(",", "")
        for match in _THOUSANDS.finditer(text)
    ]
    humps: dict[str, list[str]] = {}  # the frames of a stack trace repeat
    for word in _camel_words(text):
        if word not in humps:
            humps[word] = _HUMP.findall(word)
        extra += humps[word]
    return " ".join(extra)


def _camel_words(text: str) -> Iterator[str]:
    r"""Yield the ASCII words of letters and digits in which a capital follows a small letter.

    What `\b[A-Za-z0-9]*[a-z][A-Z][A-Za-z0-9]*\b` finds, which tries every word at every place.
    """
    end = 0
    while turn := _TURN.search(text, end):
        start = turn.start()
        while start > 0 and ((sign := text[start - 1]).isalnum() or sign == "_"):
            start -= 1
        rest = _REST_OF_WORD.match(text, turn.end())
        end = rest.end() if rest else turn.end()
        word = text[start:end]
        if word.isascii() and word.isalnum():
            yield word


@dataclass(frozen=True, slots=True)
class QueryTerms:
    """A question in terms: `words` to look for, `phrases` of adjacent terms that count extra."""

    words: tuple[str, ...]
    phrases: tuple[tuple[str, ...], ...]


def query_terms(analyser: tantivy.TextAnalyzer, question: str) -> QueryTerms:
    """Return the terms of `question`, each once, in its order; any text is allowed.

    Stop words are left out unless there is nothing else. Quoted strings and identifiers made of
    several terms are phrases, stop words included.
    """
    phrases = [
        terms
        for match in _QUOTED.finditer(question)
        if len(terms := tuple(analyser.analyze(next(filter(None, match.groups()))))) > 1
    ]
    words: list[str] = []
    stopped: list[str] = []
    for compound in _compounds(analyser, question):
        terms = tuple(term for _, term in compound)
        if len(terms) > 1:
            phrases.append(terms)
            words += terms
        elif compound[0][0].lower() in STOP_WORDS:
            stopped += terms
        else:
            words += terms
    words += analyser.analyze(extra_terms(question))
    return QueryTerms(_unique(words or stopped), _unique(phrases))


def phrase_terms(analyser: tantivy.TextAnalyzer, text: str) -> tuple[str, ...]:
    """Return the terms that stand next to each other wherever `text` occurs as whole words."""
    return tuple(analyser.analyze(text))


def _compounds(analyser: tantivy.TextAnalyzer, text: str) -> list[list[tuple[str, str]]]:
    """Return (word, term) pairs, grouped where no white space stands between them."""
    groups: list[list[tuple[str, str]]] = []
    end = -1
    for token in analyser.pre_tokenize(text).tokens:
        start, stop = token.char_offset_from, token.char_offset_to
        gap = text[end:start] if end >= 0 else " "
        # More than two signs between (`--- a`, `[1] (b)`) separate as white space does.
        if not groups or len(gap) > 2 or any(sign.isspace() or sign in '"“”' for sign in gap):
            groups.append([])
        groups[-1].append((text[start:stop], token.text))
        end = stop
    return groups


def _unique(items: Iterable[_T]) -> tuple[_T, ...]:
    return tuple(dict.fromkeys(items))


def rarest(frequencies: Sequence[tuple[str, int]], n: int) -> list[str]:
    """Return the `n` terms that occur in the fewest chunks, and in one at least, in order."""
    kept = sorted((f, i) for i, (_, f) in enumerate(frequencies) if f > 0)[:n]
    return [frequencies[i][0] for _, i in sorted(kept, key=lambda pair: pair[1])]
