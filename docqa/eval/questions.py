"""A file of questions: one JSON object a line, read and checked.

    {"id", "question", "file", "page" or "line": [int], "answers": [str], "unanswerable", "kind"}

`page` and `line` are 1-based and list the places that are right: any of them will do. `file` is a
name or the end of a path. Of an unanswerable question only `question` is needed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Literal

from docqa.errors import UsageError
from docqa.types import Locator


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, and what would be right."""

    id: str
    question: str
    file: str | None
    unit: Literal["page", "line"]
    places: frozenset[int]
    answers: tuple[str, ...]
    is_unanswerable: bool
    kind: str

    def is_at(self, path: str, locator: Locator) -> bool:
        """Whether a passage of `path` at `locator` covers one of the right places."""
        if self.file is None or locator.unit != self.unit or not _ends_with(path, self.file):
            return False
        return any(locator.first <= place <= locator.last for place in self.places)


def _ends_with(path: str, file: str) -> bool:
    parts, wanted = PurePath(path).parts, PurePath(file).parts
    return parts[-len(wanted) :] == wanted


def load_questions(path: Path) -> list[Question]:
    """Return the questions of `path`, in its order.

    Raises:
        UsageError: the file cannot be read, or a line is not a question; the line is named.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read: {error}") from error
    found = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                found.append(_question(json.loads(line), number))
            except (ValueError, TypeError, KeyError) as error:
                raise UsageError(f"{path}, line {number}: not a question: {error}") from error
    if not found:
        raise UsageError(f"{path}: holds no question")
    return found


def _question(row: object, number: int) -> Question:
    if not isinstance(row, dict) or not isinstance(row.get("question"), str):
        raise ValueError("'question' is missing")
    unit: Literal["page", "line"] = "line" if "line" in row else "page"
    places = frozenset(int(p) for p in row.get(unit, ()))
    answers = tuple(str(a) for a in row.get("answers", ()))
    is_unanswerable = bool(row.get("unanswerable", False))
    if not is_unanswerable and not (answers and places and row.get("file")):
        raise ValueError("an answerable question needs 'file', 'answers', and 'page' or 'line'")
    file = row.get("file")
    return Question(
        id=str(row.get("id", number)),
        question=row["question"],
        file=None if file is None else str(file),
        unit=unit,
        places=places,
        answers=answers,
        is_unanswerable=is_unanswerable,
        kind=str(row.get("kind", "question")),
    )


def find_documents(questions: Iterable[Question], folder: Path) -> list[Path]:
    """Return the files in or below `folder` that the questions name, each once, by path.

    Only these are indexed: a question file that lies beside the documents would otherwise be found
    to hold every question's words.

    Raises:
        UsageError: a named file is not there.
    """
    wanted = {q.file for q in questions if q.file is not None}
    files = [f for f in folder.rglob("*") if f.is_file()] if folder.is_dir() else []
    found = set()
    for name in sorted(wanted):
        matching = [f for f in files if _ends_with(str(f), name)]
        if not matching:
            raise UsageError(f"{folder}: '{name}', which a question names, is not in this folder")
        found.add(min(matching))
    return sorted(found)
