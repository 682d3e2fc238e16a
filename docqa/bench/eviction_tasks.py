"""What is asked of a text whose KV was made smaller: two needles, two that need nothing planted.

All are built from a book by a seed. The needles are planted and answered greedily. The others quote
the book's own sentences and offer four answers, of which the model finds one more likely than the
rest: a small model that cannot say much can still choose, and what it chooses without the text is
chance, which is measured beside it.

- which word: a sentence up to a word, and four words of the text that stand behind that word;
- how it went on: the same, with the eight words behind it.

All four answers are of the text and fit the word before them, so that neither keeping anything of
the text nor knowing the language is enough.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

N_WORDS = {"which word": 1, "how it went on": 8}  # of an answer
TASKS = ("needle", "one of four", *N_WORDS)
N_ASKED = 4  # questions about a text in which nothing is planted
N_ANSWERS = 4
END_TOKENS = 160  # of a text: about these are not asked for, because no method drops the newest
NAMES = ("Anton", "Berta", "Cesar", "Dora", "Emil", "Frieda", "Gustav", "Helga")
LEAST_QUOTED, MOST_QUOTED = 6, 40  # words of a sentence before what is asked for
AGAIN = "\n\nA sentence of the text again: "

# A full stop behind a small letter: "M. Dumas" is one sentence.
SENTENCE_END = re.compile(
    r"(?<![DM]r\.)(?<!Mrs\.)(?<!St\.)(?:(?<=[a-z][.!?])|(?<=[a-z][.!?][\"”’]))\s+(?=[\"“‘A-Z])"
)

Count = Callable[[str], int]
"""Returns the tokens of a text."""


@dataclass(frozen=True, slots=True)
class Question:
    """Words that come behind a text, and what may follow them; `answers[0]` is right.

    One answer: what is said greedily must begin with it. Several: it must be the likeliest.
    """

    words: str
    answers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Task:
    """A text and what is asked of it."""

    text: str
    questions: tuple[Question, ...]


def sentences(book: str) -> list[str]:
    """Return the sentences of a book, lines joined."""
    return SENTENCE_END.split(" ".join(book.split()))


def make_task(kind: str, book: Sequence[str], n_tokens: int, seed: int, count: Count) -> Task:
    """Return a task of a kind of `TASKS`.

    Args:
        kind: of `TASKS`.
        book: its sentences.
        n_tokens: that the text has at least, about a sentence more.
        seed: of the place in the book and of the questions.
        count: tokens of a text.

    Raises:
        ValueError: the book is shorter than two such texts, or no part of it has four answers.
    """
    rng = random.Random(seed)
    for _ in range(100):
        part = _part(book, n_tokens, rng, count)
        questions = _asked(kind, part, rng, count)
        if questions:
            return Task(" ".join(part), questions)
    raise ValueError(f"{kind}: no {N_ANSWERS} answers in {n_tokens} tokens of this book; another")


def _part(book: Sequence[str], n_tokens: int, rng: random.Random, count: Count) -> list[str]:
    """Sentences from a place in the first half of a book on."""
    part: list[str] = []
    n = 0
    for sentence in book[rng.randrange(max(1, len(book) // 2)) :]:
        part.append(sentence)
        n += count(" " + sentence)
        if n >= n_tokens:
            return part
    raise ValueError(f"the book ends before {n_tokens} tokens: take a longer one, or --length less")


def _asked(
    kind: str, part: list[str], rng: random.Random, count: Count
) -> tuple[Question, ...] | None:
    """The questions about a part of a book, needles planted into it; None: it has not enough."""
    if kind in ("needle", "one of four"):
        return _planted(part, rng, 4 if kind == "one of four" else 1)
    n_asked = len(part)
    n_end = 0
    while n_asked and n_end < END_TOKENS:
        n_asked -= 1
        n_end += count(" " + part[n_asked])
    return _quoted(part[:n_asked], N_WORDS[kind], rng)


def _planted(part: list[str], rng: random.Random, n: int) -> tuple[Question, ...]:
    names = rng.sample(NAMES, n)
    numbers = {name: rng.randrange(10_000, 99_999) for name in names}
    for name, number in numbers.items():
        part.insert(rng.randrange(len(part) + 1), f"The secret number of {name} is {number}.")
    asked = f"\n\nThe secret number of {names[0]} is"
    return (Question(asked, (f" {numbers[names[0]]}",)),)


def _quoted(part: list[str], n_words: int, rng: random.Random) -> tuple[Question, ...] | None:
    """Sentences up to a word, and what follows it there and in three other sentences."""
    # By a word: the sentences in which it stands, up to it and from there on.
    places: dict[str, dict[int, tuple[str, str]]] = {}
    for at, sentence in enumerate(part):
        words = sentence.split()
        for cut in range(LEAST_QUOTED, min(MOST_QUOTED, len(words) - n_words)):
            behind = _answer(words[cut : cut + n_words])
            if behind and re.fullmatch("[a-z]+", words[cut - 1]):
                place = " ".join(words[:cut]), behind
                places.setdefault(words[cut - 1], {}).setdefault(at, place)
    asked: list[Question] = []
    for before in rng.sample(sorted(places), len(places)):
        found = list(places[before].values())
        words_before, right = rng.choice(found)
        others = sorted({behind for _, behind in found} - {right})
        if len(others) >= N_ANSWERS - 1:
            answers = right, *rng.sample(others, N_ANSWERS - 1)
            asked.append(Question(AGAIN + words_before, answers))
        if len(asked) == N_ASKED:
            return tuple(asked)
    return None


def _answer(words: Sequence[str]) -> str:
    """The words with a space before; a single one without its comma, "" if it is a short one."""
    if len(words) > 1:
        return " " + " ".join(words)
    found = re.fullmatch(r"([A-Za-z]{5,})[,.;:!?]?", words[0])
    return f" {found[1]}" if found else ""
