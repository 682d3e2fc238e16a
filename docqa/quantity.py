"""A bare number with what it counts: `310 million` of `310 million Chilean pesos`.

A model that copies a few words often stops before the unit. The words behind the number stand in
the source, so that nothing is said that the source does not say.
"""

from __future__ import annotations

import re

from docqa.asked import AMOUNT, Asked
from docqa.wording import content_words

N_WORDS = 2  # behind the number, where the question names none of the next N_LOOKED
N_LOOKED = 3
_NUMBER = re.compile(
    rf"\W*(?:(?:at least|at most|up to|about|more than|less than|no more than|only) )?"
    rf"{AMOUNT}(?:[ -](?:and )?{AMOUNT})*"
    r"(?P<unit> (?:per ?cent|dollars?|euros?|days?|weeks?|months?|years?|hours?|miles?))?\W*",
    re.I,
)
_IN_FIGURES = re.compile(r"\s\([^()\n]{0,12}\d[^()\n]{0,12}\)")  # "twenty percent (20%)"
_WORD = re.compile(r"(?: |\n(?=[a-z]))([A-Za-z][\w/’'-]*)")  # a line's end may end a table's cell


def with_unit(claim: str, quote: str, question: str, asked: Asked | None) -> str:
    """Return `claim` with what follows it in `quote`, where it is a number and one was asked for.

    What follows is the number in figures and, where it has no unit yet, the words up to the last
    near one that the question names, else two; function words and signs end it.
    """
    number = _NUMBER.fullmatch(claim)
    if number is None or asked is None or not (asked.is_number and asked.is_strict):
        return claim
    bare = r"\s+".join(re.escape(word) for word in claim.strip(" .,;:").split())
    place = re.search(rf"(?<![\w.,]){bare}(?![\w%])", quote)
    if place is None:
        return claim
    figures = _IN_FIGURES.match(quote, place.end())
    end = figures.end() if figures else place.end()
    if not number["unit"]:
        end = _end_of_words(quote, end, set(content_words(question)))
    return " ".join(quote[place.start() : end].split()) if end > place.end() else claim


def _end_of_words(quote: str, at: int, wanted: set[str]) -> int:
    """Return where the words behind a number end."""
    ends, last_named = [at], 0
    while len(ends) <= N_LOOKED and (word := _WORD.match(quote, ends[-1])):
        stems = content_words(word[1])
        if not stems:
            break
        ends.append(word.end())
        if wanted & set(stems) and word[1].islower():  # "310 million Chilean" goes on
            last_named = len(ends) - 1
    return ends[last_named or min(N_WORDS, len(ends) - 1)]
