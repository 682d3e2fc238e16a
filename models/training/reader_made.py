"""The generated tasks of the adapter (tables, settings, manuals, logs) as queries of the reader."""

from __future__ import annotations

import re
from pathlib import Path, PurePath

from models.training import adapter_fields, adapter_logs, adapter_tasks
from models.training.adapter_records import Example, Passage
from models.training.reader_records import PassagePool, Query, Right

_KINDS = ("table", "check", "manual", "log", "field")
_COUNT = re.compile(r"^(?:How (?:many|often)|Count)\b")
_WORD = re.compile(r"[\w.:-]+")
MAX_WRONG = 5
MAX_CHARS = 950  # log lines have a token every two or three characters


def generated(
    pool: PassagePool, n_tasks: int, n_logs: int, seed: int, dev: bool, logs: Path | None
) -> list[Query]:
    """Return queries whose passages, right and wrong, were written for them.

    Left out are tasks that no single span answers: counts, two sources, follow-ups.
    """
    examples = adapter_tasks.generate(n_tasks, seed, dev)
    examples += adapter_logs.generate(n_logs, seed + 1, dev, logs)
    examples += adapter_fields.generate(n_logs, seed + 2, dev)
    made = []
    for example in examples:
        query = _query(example, pool)
        if query is not None:
            made.append(query)
    return made


def _query(example: Example, pool: PassagePool) -> Query | None:
    kind = example.kind.removesuffix("-twin")
    if kind not in _KINDS or not example.gold or _COUNT.match(example.question):
        return None
    if len(example.gold[0].text) > MAX_CHARS:
        return None
    doc = pool.new_document()

    def placed(passage: Passage) -> int:
        title = PurePath(passage.path).stem
        context = " > ".join((title, *passage.headings))
        text = passage.text if len(passage.text) <= MAX_CHARS else _cut(passage.text)
        return pool.add(text, context, doc, "", example.dev)

    wrong = tuple(placed(p) for p in example.other[:MAX_WRONG])
    if not example.words:
        everything = (placed(example.gold[0]), *wrong)
        return Query(kind, example.question, (), wrong=everything, dev=example.dev)
    text = example.gold[0].text
    at = _occurrence(text, example.words, example.question, is_log=kind in ("log", "field"))
    if at is None or not wrong:
        return None
    right = Right(placed(example.gold[0]), at, at + len(example.words))
    wrong = tuple(p for p in wrong if p != right.passage)
    return Query(
        kind, example.question, (right,), wrong=wrong, dev=example.dev, answer=example.words
    )


def _cut(text: str) -> str:
    """Return the whole lines of `text` that fit."""
    end = text.rfind("\n", 0, MAX_CHARS)
    return text[: end if end > 0 else MAX_CHARS]


def _occurrence(text: str, answer: str, question: str, *, is_log: bool) -> int | None:
    """Return where `answer` stands: in a log the line most like the question, else the only one."""
    places = [m.start() for m in re.finditer(re.escape(answer), text)]
    if len(places) == 1:
        return places[0]
    if not places or not is_log:
        return None
    asked = set(_WORD.findall(question.lower()))

    def likeness(at: int) -> int:
        start = text.rfind("\n", 0, at) + 1
        end = text.find("\n", at)
        line = text[start : end if end >= 0 else len(text)]
        return len(asked & set(_WORD.findall(line.lower())))

    scores = [likeness(at) for at in places]
    return places[scores.index(max(scores))]
