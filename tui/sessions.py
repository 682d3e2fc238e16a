"""Sessions: conversations that are kept, listed, resumed, renamed, deleted and exported.

`SessionKeeper` is what the side list needs of whoever keeps them. `OpenSessions` keeps them while
the app runs.
"""

from __future__ import annotations

import itertools
import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Protocol

from docqa.types import Answer
from tui.turns import Phase, Turn

MAX_TITLE_CHARS = 60


@dataclass(frozen=True, slots=True)
class SessionRow:
    """One line of the side list."""

    session_id: str
    title: str
    n_turns: int
    changed_s: float  # seconds since the epoch


class SessionKeeper(Protocol):
    """Keeps the answers of sessions."""

    def rows(self) -> Sequence[SessionRow]:
        """Return all sessions, the one changed last first."""
        ...

    def begin(self, title: str) -> str:
        """Begin a session; return its id."""
        ...

    def append(self, session_id: str, answer: Answer) -> None:
        """Keep one more answer."""
        ...

    def answers(self, session_id: str) -> Sequence[Answer]:
        """Return the answers of a session, oldest first."""
        ...

    def rename(self, session_id: str, title: str) -> None:
        """Give a session another title."""
        ...

    def delete(self, session_id: str) -> None:
        """Forget a session."""
        ...


class OpenSessions:
    """Sessions of this run, in memory."""

    def __init__(self) -> None:
        self._rows: dict[str, SessionRow] = {}
        self._answers: dict[str, list[Answer]] = {}
        self._numbers = itertools.count(1)

    def rows(self) -> Sequence[SessionRow]:
        """Return all sessions, the one changed last first."""
        return sorted(self._rows.values(), key=lambda row: -row.changed_s)

    def begin(self, title: str) -> str:
        """Begin a session; return its id."""
        session_id = str(next(self._numbers))
        self._rows[session_id] = SessionRow(session_id, title, 0, time.time())
        self._answers[session_id] = []
        return session_id

    def append(self, session_id: str, answer: Answer) -> None:
        """Keep one more answer."""
        self._answers[session_id].append(answer)
        row = self._rows[session_id]
        self._rows[session_id] = replace(row, n_turns=row.n_turns + 1, changed_s=time.time())

    def answers(self, session_id: str) -> Sequence[Answer]:
        """Return the answers of a session, oldest first."""
        return tuple(self._answers[session_id])

    def rename(self, session_id: str, title: str) -> None:
        """Give a session another title."""
        self._rows[session_id] = replace(self._rows[session_id], title=title)

    def delete(self, session_id: str) -> None:
        """Forget a session."""
        del self._rows[session_id], self._answers[session_id]


def title_of(question: str) -> str:
    """Return a session's first title: its first question, cut."""
    line = " ".join(question.split())
    return line if len(line) <= MAX_TITLE_CHARS else line[: MAX_TITLE_CHARS - 1] + "…"


def turns_of(answers: Sequence[Answer]) -> list[Turn]:
    """Return the answers of a session as turns."""
    turns = []
    for answer in answers:
        turn = Turn(answer.question, phase=Phase.DONE)
        turn.finish(answer)
        turns.append(turn)
    return turns


def markdown(title: str, answers: Sequence[Answer]) -> str:
    """Return a session as Markdown: questions, answers, the quotes with their places."""
    lines = [f"# {title}", ""]
    for answer in answers:
        lines += [f"## {answer.question}", "", answer.text, ""]
        for c in answer.citations:
            place = f"page {c.page}" if c.page is not None else f"line {c.line}"
            lines.append(f"- [{c.marker}] {c.path}, {place}: {' '.join(c.quote.split())}")
        lines += [f"- note: {note}" for note in answer.notes]
        lines.append("")
    return "\n".join(lines)


def export(path: Path, title: str, answers: Sequence[Answer]) -> None:
    """Write a session to a new file: JSON where the name ends in `.json`, else Markdown.

    Raises:
        OSError: it cannot be written; FileExistsError: there is one already.
    """
    if path.suffix == ".json":
        value = {"title": title, "answers": [asdict(answer) for answer in answers]}
        text = json.dumps(value, indent=1)
    else:
        text = markdown(title, answers)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    with os.fdopen(os.open(path, flags, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
