"""Figures of question answering and retrieval: pure functions, each stating its definition."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from docqa.support import without_markers

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
# `12,000` is one number; `12 000` may be one, or two cells of a table row.
_GROUPED = re.compile(r"(?<=\d)[,'\u00a0\u202f](?=\d{3}(?!\d))")
_SPACED = re.compile(r"(?<=\d) (?=\d{3}(?!\d))")
_WORD = re.compile(r"\d+(?:[.:,/-]\d+)*|[^\W\d_]+|[^\w\s]", re.UNICODE)
# Said in several ways, compared as one.
_SAME = {
    "zero": "0",
    "one": "1",
    "two": "2",
    "three": "3",
    "four": "4",
    "five": "5",
    "six": "6",
    "seven": "7",
    "eight": "8",
    "nine": "9",
    "ten": "10",
    "percent": "%",
    "seconds": "s",
    "second": "s",
    "minutes": "min",
    "minute": "min",
}


def squad_normalised(text: str) -> str:
    """Return lower case without punctuation, articles and extra blanks.

    Source: the evaluation script of SQuAD 1.1 (Rajpurkar et al., EMNLP 2016), its order of steps.
    """
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(shown: str, accepted: Sequence[str]) -> float:
    """Return 1 where `shown` without its markers equals an accepted answer after normalising."""
    mine = squad_normalised(without_markers(shown))
    return float(any(mine == squad_normalised(one) for one in accepted))


def token_f1(shown: str, accepted: Sequence[str]) -> float:
    """Return the best F1 of word overlap with an accepted answer; 0 where there is none.

    Source: SQuAD 1.1: precision and recall over the multisets of normalised words.
    """
    mine = squad_normalised(without_markers(shown)).split()
    return max((_f1(mine, squad_normalised(one).split()) for one in accepted), default=0.0)


def _f1(mine: Sequence[str], gold: Sequence[str]) -> float:
    n_common = sum((Counter(mine) & Counter(gold)).values())
    if n_common == 0:
        return 0.0
    precision, recall = n_common / len(mine), n_common / len(gold)
    return 2 * precision * recall / (precision + recall)


def contains_answer(shown: str, accepted: Sequence[str]) -> bool:
    """Whether an accepted answer stands in `shown` as whole words.

    Case, punctuation around words, thousands separators (`12,000`, `12 000`), the blank between
    number and unit (`17Nm`) and number words up to ten make no difference; `4.5` is not in `14.5`.
    """
    plain = without_markers(shown)
    wanted = [words for one in accepted for words in (_words(one), _words(_SPACED.sub("", one)))]
    readings = (_words(plain), _words(_SPACED.sub("", plain)))
    return any(_is_inside(needle, words) for needle in wanted for words in readings)


def _words(text: str) -> list[str]:
    grouped = _GROUPED.sub("", text.lower().replace("\u2013", "-").replace("\u2212", "-"))
    words = _WORD.findall(grouped)
    # A symbol such as % or ° carries meaning; other punctuation does not.
    return [_SAME.get(w, w) for w in words if w[0].isalnum() or w in "%°$€µ"]


def _is_inside(needle: Sequence[str], words: Sequence[str]) -> bool:
    n = len(needle)
    return n > 0 and any(list(words[i : i + n]) == list(needle) for i in range(len(words) - n + 1))


def recall_at(is_right: Sequence[bool], k: int) -> float:
    """Return 1 where one of the first `k` results is right."""
    return float(any(is_right[:k]))


def reciprocal_rank(is_right: Sequence[bool]) -> float:
    """Return 1 / rank of the first right result, ranks from 1; 0 where none is right."""
    return next((1.0 / rank for rank, right in enumerate(is_right, 1) if right), 0.0)


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean with its 95 % interval. `n` is the number of values; 0: nothing to average."""

    value: float
    low: float
    high: float
    n: int


def bootstrap_mean(values: Sequence[float], *, n_draws: int = 2000, seed: int = 0) -> Mean:
    """Return the mean of `values` and its percentile interval over `n_draws` resamples.

    Source: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13. Equal values
    and seed give equal bounds.
    """
    if not values:
        return Mean(0.0, 0.0, 0.0, 0)
    array = np.asarray(values, dtype=np.float64)
    draws = np.random.default_rng(seed).integers(0, len(array), (n_draws, len(array)))
    low, high = np.quantile(array[draws].mean(axis=1), (0.025, 0.975))
    return Mean(float(array.mean()), float(low), float(high), len(array))


def median(values: Sequence[float]) -> float:
    """Return the median; 0 of nothing."""
    return float(np.median(values)) if values else 0.0
