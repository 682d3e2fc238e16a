"""Sessions as the side list needs them: kept in the library, so that they survive the app.

A session is known by its name, which is unique and also what `docqa ask --session NAME` takes. Its
turns are kept by `Workspace.ask`; here they are listed, read, renamed, deleted and exported.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from docqa.session_export import write_session
from docqa.types import Answer
from docqa.workspace import Workspace
from tui.turns import Phase, Turn

MAX_TITLE_CHARS = 60


@dataclass(frozen=True, slots=True)
class SessionRow:
    """One line of the side list."""

    title: str
    n_turns: int
    changed_s: float  # seconds since the epoch


class SessionKeeper:
    """The sessions of a workspace's library. Safe from any thread."""

    def __init__(self, workspace: Workspace) -> None:
        self._desk = workspace.desk

    def rows(self) -> list[SessionRow]:
        """Return all sessions that have an answer, the one changed last first."""
        found = self._desk.sessions.all()
        return [SessionRow(s.name, s.n_turns, s.changed_s) for s in found if s.n_turns]

    def fresh_title(self, question: str) -> str:
        """Return a title that no session has yet, made of its first question."""
        return self._desk.sessions.fresh_name(title_of(question))

    def answers(self, title: str) -> list[Answer]:
        """Return the answers of a session, oldest first; raise UsageError where it is gone."""
        session = self._desk.sessions.get(title)
        return [turn.answer for turn in self._desk.turns(session)]

    def pinned(self, title: str) -> list[Path]:
        """Return the documents pinned in a session."""
        return [Path(path) for path in self._desk.pinned(self._desk.sessions.get(title))]

    def unpin(self, title: str, path: Path) -> None:
        """Pin a document in a session no more."""
        self._desk.unpin(title, [path])

    def rename(self, title: str, new_title: str) -> str:
        """Give a session another title and return it; raise UsageError where it is taken."""
        return self._desk.sessions.rename(title, new_title).name

    def delete(self, title: str) -> None:
        """Forget a session and its saved KV."""
        self._desk.delete(title)

    def export(self, title: str, path: Path) -> None:
        """Write a session to a new file: JSON where the name ends in `.json`, else Markdown.

        Raises:
            OSError: it cannot be written; FileExistsError: there is one already.
        """
        session = self._desk.sessions.get(title)
        turns, pinned = self._desk.turns(session), self._desk.pinned(session)
        write_session(path, session, turns, pinned, is_json=path.suffix == ".json")


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
