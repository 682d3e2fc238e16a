"""A session as Markdown for people and as JSON for programs."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from docqa.answer_json import answer_json
from docqa.prompts import place
from docqa.session_rows import SessionInfo, StoredTurn
from docqa.types import AnswerKind, Locator

SCHEMA = "docqa.session/1"
FORMATS = ("markdown", "json")


def session_json(
    session: SessionInfo, turns: Sequence[StoredTurn], pinned: Sequence[str] = ()
) -> dict[str, Any]:
    """Return the `docqa.session/1` object; each turn is a `docqa.answer/1` with its time."""
    return {
        "schema": SCHEMA,
        "name": session.name,
        "created": _iso(session.created_s),
        "changed": _iso(session.changed_s),
        "pinned": list(pinned),
        "turns": [
            {
                **answer_json(turn.answer),
                "turn": turn.ordinal + 1,
                "asked": _iso(turn.asked_s),
                "is_outdated": turn.is_outdated,
                "removed": list(turn.removed),
            }
            for turn in turns
        ],
    }


def session_markdown(
    session: SessionInfo, turns: Sequence[StoredTurn], pinned: Sequence[str] = ()
) -> str:
    """Return questions, answers, and the quotes with their places."""
    lines = [f"# {session.name}", ""]
    if pinned:
        lines += [f"Pinned: {', '.join(pinned)}", ""]
    for turn in turns:
        answer = turn.answer
        lines += [f"## {answer.question}", ""]
        if answer.query != answer.question:
            lines += [f"*Searched for: {answer.query}*", ""]
        lines += [answer.text, ""]
        for c in answer.citations:
            quote = " ".join(c.quote.split())
            lines.append(f"- [{c.marker}] {c.path}, {_where(c.page, c.page_last, c.line)}: {quote}")
        if answer.kind in (AnswerKind.QUOTE, AnswerKind.SCAN):
            lines.append(f"- {answer.kind.value}: not the model's own words")
        lines += [f"- note: {note}" for note in answer.notes]
        lines.append("")
    return "\n".join(lines)


def write_session(
    path: Path,
    session: SessionInfo,
    turns: Sequence[StoredTurn],
    pinned: Sequence[str] = (),
    *,
    is_json: bool,
) -> None:
    """Write a session to a new file, 0600.

    Raises:
        OSError: it cannot be written; FileExistsError: there is one already.
    """
    if is_json:
        text = json.dumps(session_json(session, turns, pinned), indent=1)
    else:
        text = session_markdown(session, turns, pinned)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
        file.write(text.encode("utf-8", "replace"))


def _where(page: int | None, page_last: int | None, line: int | None) -> str:
    if page is not None:
        return place(Locator("page", page, page_last or page))
    return place(Locator("line", line or 1, line or 1))


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
