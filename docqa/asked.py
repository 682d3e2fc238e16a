"""What kind of value a question asks for: a date, a duration, money, a share, a number, a name.

A sentence that has no such value is not the answer, however many words it shares with the question:
"How old was the pilot?" is answered by a sentence with a number in it. English only; a question of
no known kind expects nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from docqa.wording import identifiers, without_identifiers

_ONES = (
    "one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|"
    "sixteen|seventeen|eighteen|nineteen"
)
_WORD_NUMBER = (
    rf"(?:{_ONES}|twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety|dozen|hundred|"
    r"thousand|million|billion|once|twice|none|nobody|half)"
)
AMOUNT = rf"(?:\d(?:[\d.,]*\d)?|{_WORD_NUMBER})"
_TIME_UNIT = (
    r"(?:ms|µs|us|s|secs?|seconds?|mins?|minutes?|h|hrs?|hours?|days?|nights?|weeks?|months?|"
    r"quarters?|years?|yrs?|decades?|centur(?:y|ies))"
)
_LENGTH_UNIT = r"(?:mm|cm|m|km|nm|inch(?:es)?|in|ft|foot|feet|yards?|miles?|pages?|words?)"
_MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*"

NUMBER = re.compile(rf"\d|\b{_WORD_NUMBER}\b", re.I)
_DATE = re.compile(
    rf"\b(?:1[0-9]|20)\d\d\b|\b\d{{1,2}}[:/.]\d\d\b|\b{_MONTH}\.? \d|\b\d{{1,2}}(?:st|nd|rd|th)? "
    rf"(?:of )?{_MONTH}\b|\b\d{{4}} (?:hours|UTC|local|central|eastern|pacific|mountain)\b|"
    rf"\b{AMOUNT}[ -]{_TIME_UNIT}\b|"
    r"\b(?:century|(?:mon|tues|wednes|thurs|fri|satur|sun)day|immediately|annually|monthly|daily|"
    r"before|after|until|upon|at the end|as soon as|once)\b",
    re.I,
)
_DURATION = re.compile(
    rf"\b{AMOUNT}[ -]?{_TIME_UNIT}\b|\b{AMOUNT}[ -]?{_LENGTH_UNIT}\b"
    r"|\b(?:an?|per) (?:second|minute|hour|day|week|month|year)\b"
    r"|\b\d{1,2}:\d\d\b|\b(?:daily|weekly|monthly|yearly|annual(?:ly)?|permanent(?:ly)?|perpetual)\b",
    re.I,
)
_MONEY = re.compile(
    rf"[$€£¥]\s?\d|\b{AMOUNT}(?: (?:million|billion|thousand|hundred))* ?"
    r"(?:dollars?|euros?|pounds?|cents?|usd|eur|gbp|million|billion|percent|per cent|%)"
    r"|\b(?:usd|eur|gbp|us\$) ?\d|\bfree of charge\b|\bno (?:cost|charge|fee|compensation)\b",
    re.I,
)
_SHARE = re.compile(
    rf"{AMOUNT} ?(?:%|percent\b|per cent\b|percentage points?\b)"
    r"|\b(?:half|third|quarter|majority)\b",
    re.I,
)
_COUNT = re.compile(  # "90 percent of the cases" does not say how many cases
    rf"(?>\d(?:[\d.,]*\d)?)(?! ?(?:%|per ?cent\b))|\b{_WORD_NUMBER}\b(?! per ?cent\b)", re.I
)
_NAME = re.compile(r"(?<=[^.!?\s] )[A-Z][\w.\-]+|\A[A-Z]\w+ [A-Z]\w+")
_REASON = re.compile(
    r"\b(?:because|due to|caused?|causes|so that|in order|reason|result|led to|since|therefore)\b",
    re.I,
)

_QUANTITY = (
    r"temperature|torque|pressure|voltage|current|speed|weight|height|width|length|distance|"
    r"diameter|depth|altitude|volume|capacity|age|size|power|frequency|score|limit|setting"
)


@dataclass(frozen=True, slots=True)
class Asked:
    """The kind of value asked for. `is_strict`: what has no such value is surely no answer.

    `codes` are those of the question (`TWX 40`): the numbers in them are no values.
    """

    pattern: re.Pattern[str]
    is_strict: bool
    is_number: bool
    codes: frozenset[str] = frozenset()

    def fits(self, sentence: str) -> bool:
        """Return whether `sentence` has such a value."""
        text = _bare(sentence, self.codes) if self.is_number else sentence
        return self.pattern.search(text) is not None


_KINDS: tuple[tuple[re.Pattern[str], Asked], ...] = tuple(
    (re.compile(asked, re.I), Asked(expected, is_strict, is_number))
    for asked, expected, is_strict, is_number in (
        (
            r"\bhow much (?:money|\w+ (?:cost|pay|paid|spen[dt]|charge)|(?:do|does|did|is|are|was|"
            r"were|will|must|can) .*\b(?:cost|pay|paid|spen[dt]|charged?|fee|earn|owe)\b)|"
            r"\bwhat (?:did|does|do|will|is) .*\b(?:cost|spen[dt]|earn|charge)\b|"
            r"\b(?:what|which) (?:price|salary|fee|amount of money)\b",
            _MONEY,
            True,
            True,
        ),
        (
            r"\b(?:what|which|how many) (?:share|percentage|proportion|per ?cent|fraction)\b|"
            r"\b(?:percentage|share) of\b",
            _SHARE,
            True,
            True,
        ),
        (r"\bhow long\b|\bwhat (?:duration|period)\b", _DURATION, True, True),
        (r"\b(?:when|(?:what|which) (?:year|date|day|month|time|century))\b", _DATE, False, False),
        (r"\bhow many\b|\bnumber of\b", _COUNT, True, True),
        (
            r"\bhow (?:often|far|old|tall|high|large|big|fast|deep|heavy|hot|strong|wide|"
            r"thick|cold|loud|late|early)\b|\bhow much\b(?! (?:more|less|longer)\b)",
            NUMBER,
            True,
            True,
        ),
        (
            r"\b(?:average|mean|median|total|minimum|maximum|min|max|set (?:to|at)|value)\b|"
            rf"\bwhat (?:is the |are the )?(?:\w+ ){{0,2}}(?:{_QUANTITY})\b|"
            rf"\b(?:price|cost|rate|{_QUANTITY})\b",
            NUMBER,
            False,
            True,
        ),
        (r"\b(?:who|whose|whom|where|(?:what|which) \w+'?s? name)\b", _NAME, False, False),
        (r"\bwhy\b|\bwhat (?:caused?|causes|led)\b", _REASON, False, False),
    )
)

# The word that makes it a question: in "Which airport was it bound for when it crashed?" the first.
_INTERROGATIVE = re.compile(r"\b(?:how|what|which|who|whose|whom|when|where|why)\b", re.I)
_POINTER = re.compile(
    r"\b(?:sections?|chapters?|tables?|figs?\.?|figures?|pages?|steps?|annex|appendix|clauses?|"
    r"articles?|items?|nos?\.|paragraphs?|part)\s+\d+(?:\.\d+)*",
    re.I,
)
_TIMESTAMP = re.compile(
    r"\b\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?Z?)?|\b\d\d:\d\d:\d\d(?:[.,]\d+)?"
)
_YEAR = re.compile(
    rf"\b(?:in|since|by|before|after|from|until|during|fy|years?|{_MONTH}(?: \d{{1,2}},?)?)"
    r"\s+(?:1[6-9]|20)\d\d\b",
    re.I,
)
_LIST_NUMBER = re.compile(r"^\s*(?:\d+(?:\.\d+)+\s+(?=[A-Z][a-z]{3})|\(?\d+[.)]\s+)")


def asked_for(question: str) -> Asked | None:
    """Return what an answer to `question` must contain; None where the question does not say."""
    head = _INTERROGATIVE.search(question)
    for asked, expected in _KINDS:
        found = asked.search(question)
        if found and (
            head is None
            or found.start() <= head.start() < found.end()
            or (expected.pattern is NUMBER and not expected.is_strict)
        ):
            return replace(expected, codes=frozenset(identifiers(question)))
    return None


def _bare(sentence: str, codes: frozenset[str]) -> str:
    """Return `sentence` without numbers that are no values: "section 9.3", years, codes."""
    for pattern in (_LIST_NUMBER, _TIMESTAMP, _POINTER, _YEAR):
        sentence = pattern.sub(" ", sentence)
    return without_identifiers(sentence, codes)
