"""Training questions from plain articles: a title asks for its article, a gap asks for its words.

A cloze takes a sentence of an article, takes a name, date or number out of it and asks for it with
the question word of its kind (after Lewis, Denoyer, Riedel, "Unsupervised Question Answering by
Cloze Translation", ACL 2019), with words dropped and clauses cut so that copying is not enough.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from pathlib import Path

from models.training.adapter_sources import chunks, read, sentences
from models.training.reader_records import PassagePool, Query, Right, held_out

_MONTH = (
    "January|February|March|April|May|June|July|August|September|October|November|December"
)  # fmt: skip
_KINDS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("date", re.compile(rf"\b(?:(?:{_MONTH}) \d{{1,2}}(?:, \d{{4}})?|\d{{1,2}} (?:{_MONTH})"
                        rf"(?: \d{{4}})?|(?:{_MONTH}) \d{{4}}|(?:19|20)\d\d)\b")),
    ("percent", re.compile(r"\b\d[\d.,]* ?(?:%|per ?cent)")),
    ("money", re.compile(r"(?:[$€£]|US\$|AU\$)\d[\d.,]*(?: (?:million|billion))?")),
    ("number", re.compile(r"\b\d[\d,.]*\d?(?: (?:million|billion|thousand))?(?= [a-z]{3,})")),
    ("name", re.compile(r"(?<=[a-z,] )(?:[A-Z][\w'-]+)(?: (?:of |the |de )?[A-Z][\w'-]+){1,3}")),
    ("name", re.compile(r"(?<=[a-z,] )[A-Z][a-z]{3,}\b")),
)  # fmt: skip
_PLACE_BEFORE = re.compile(r"\b(?:in|at|near|from|outside|across) (?:the )?$")
_PERSON_AROUND = re.compile(r"^,? (?:said|told|added|stated|was born|who|resigned|won)\b")
_PERSON_BEFORE = re.compile(r"\b(?:[Mm]inister|President|Mr|Mrs|Ms|Dr|Senator|by|leader|coach) $")


def articles(folder: Path, pool: PassagePool, rng: random.Random, n_cloze: int) -> list[Query]:
    """Return one title query an article and up to `n_cloze` cloze queries over all of them."""
    rows = [r for r in read(folder / "text" / "wikinews.jsonl.xz") if len(r["text"]) > 200]
    made: list[Query] = []
    wanted = n_cloze / max(1, len(rows))
    for row in rows:
        dev, doc = held_out(row["title"]), pool.new_document()
        text = row["text"].replace("\r", "")
        cuts = chunks(text, rng, 400, 1000)[:2]
        ids = [pool.add(text[a:b].strip(), "", doc, "news", dev) for a, b in cuts]
        title = row["title"].strip()
        if len(title) > 12:
            rest = tuple(ids[1:])
            made.append(Query("title", title, (Right(ids[0]),), ("news",), excluded=rest, dev=dev))
        for passage in ids:
            n_wanted = int(wanted / len(ids) + rng.random())
            rest = tuple(p for p in ids if p != passage)
            body = pool.texts[passage]
            for question, start, end in gaps(body, rng, n_wanted):
                made.append(
                    Query(
                        "cloze",
                        question,
                        (Right(passage, start, end),),
                        ("news",),
                        excluded=rest,
                        dev=dev,
                        answer=body[start:end],
                    )
                )
    return made


def gaps(text: str, rng: random.Random, n_wanted: int) -> Iterator[tuple[str, int, int]]:
    """Yield up to `n_wanted` (question, answer start, answer end) about names and numbers."""
    found = []
    for a, b in sentences(text):
        if not 50 <= b - a <= 330:
            continue
        for kind, pattern in _KINDS:
            for match in pattern.finditer(text, a, b):
                if text.count(match.group()) == 1:
                    found.append((kind, a, b, match.start(), match.end()))
    rng.shuffle(found)
    for kind, a, b, start, end in found[:n_wanted]:
        question = _asked(kind, text[a:start], text[end:b], rng)
        if question:
            yield question, start, end


def _asked(kind: str, before: str, after: str, rng: random.Random) -> str | None:
    """Return a question for the gap between `before` and `after` of one sentence."""
    word = _question_word(kind, before, after, rng)
    left, right = before.split(), after.split()
    keep_left, keep_right = rng.randint(4, 12), rng.randint(4, 12)
    left = _clause(left[::-1], keep_left)[::-1]
    right = _clause(right, keep_right)
    if kind in ("date", "name") and left and left[-1].lower() in ("in", "on", "at", "by", "of"):
        left = left[:-1]
    words = [w for w in (*left, *right) if rng.random() > 0.12]
    if len(words) < 4:
        return None
    if kind == "number" and right:  # "how many people …": the counted thing follows the word
        body = " ".join([word, *right, *left])
    elif rng.random() < 0.75:
        body = " ".join([word, *words])
    else:
        body = " ".join([*left, word, *right])
    return body.strip(" ,.;:\"'") + "?"


def _clause(words: list[str], limit: int) -> list[str]:
    """Return the words up to `limit`, preferring to stop where a clause ends."""
    for i, word in enumerate(words[:limit]):
        if i >= 4 and word.endswith((",", ";", ":")):
            return words[: i + 1]
    return words[:limit]


def _question_word(kind: str, before: str, after: str, rng: random.Random) -> str:
    if kind == "date":
        return rng.choice(("When", "When", "What date", "On what day", "What year"))
    if kind == "percent":
        return rng.choice(("What percentage", "How much", "What percent"))
    if kind == "money":
        return rng.choice(("How much", "How much money", "What amount"))
    if kind == "number":
        return "How many"
    if _PERSON_AROUND.match(after) or _PERSON_BEFORE.search(before):
        return rng.choice(("Who", "Who", "Which person"))
    if _PLACE_BEFORE.search(before):
        return rng.choice(("Where", "In which place", "What place"))
    return rng.choice(("What", "Who", "Which", "What"))
