"""Sessions in the library's database: what was asked, answered, cited and pinned.

A turn is written whole, in one transaction, before its answer is shown as finished; what was shown
is there after a restart. Names are unique, so that the command line can call a session by its name.
Passages and quotes are rows of their own, by document: `docqa.session_purge` takes them away with
the document, and what reads them here says so.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import replace
from difflib import get_close_matches

from docqa.database import Database
from docqa.errors import UsageError
from docqa.migrations import LIVE
from docqa.records import Codec, Row, storable
from docqa.session_purge import forget
from docqa.session_rows import (
    TURN_COLUMNS,
    NewTurn,
    Pin,
    SessionInfo,
    StoredNote,
    StoredTurn,
    pairs,
    source_rows,
    stored_turn,
    turn_values,
)
from docqa.wording import content_words

MAX_NAME_CHARS = 200


class Sessions:
    """The sessions of a library. Safe from any thread and process."""

    def __init__(self, db: Database) -> None:
        self._db = db

    # Which there are

    def all(self) -> list[SessionInfo]:
        """Return all sessions, the one changed last first."""
        with self._db.read() as connection:
            rows = connection.execute(f"{_INFO} GROUP BY session_id ORDER BY changed_s DESC, 1")
            return [SessionInfo(*row) for row in rows]

    def find(self, name: str) -> SessionInfo | None:
        """Return the session of that name, or None."""
        with self._db.read() as connection:
            return _find(connection, name)

    def get(self, name: str) -> SessionInfo:
        """Return the session of that name.

        Raises:
            UsageError: there is none; the nearest name is said.
        """
        found = self.find(name)
        if found is None:
            near = get_close_matches(name, [s.name for s in self.all()], n=1, cutoff=0.0)
            hint = f"did you mean '{near[0]}'?" if near else "there are no sessions yet"
            raise UsageError(f"no session is called '{name}'; {hint}")
        return found

    def fresh_name(self, name: str) -> str:
        """Return `name`, with a number behind it where a session of that name has turns."""
        taken = {session.name for session in self.all() if session.n_turns}
        wanted = clean_name(name)
        numbers = (f"{wanted} ({n})" for n in range(2, len(taken) + 3))
        return next(n for n in (wanted, *numbers) if n not in taken)

    def make(self, name: str) -> SessionInfo:
        """Return the session of that name, made where there is none."""
        with self._db.write() as connection:
            return _made(connection, name)

    def rename(self, name: str, new_name: str) -> SessionInfo:
        """Give a session another name; raise UsageError where that is taken or empty."""
        session, wanted = self.get(name), clean_name(new_name)
        with self._db.write() as connection:
            other = _find(connection, wanted)
            if other is not None and other.session_id != session.session_id:
                raise UsageError(f"another session is called '{wanted}' already")
            connection.execute(
                "UPDATE sessions SET name = ? WHERE session_id = ?", (wanted, session.session_id)
            )
        return replace(session, name=wanted)

    def delete(self, name: str) -> None:
        """Forget a session; `docqa.session_purge.sweep_kv` then deletes its KV."""
        session_id = self.get(name).session_id
        with self._db.write() as connection:
            connection.execute("DELETE FROM sessions WHERE session_id = ?", (session_id,))

    # Turns

    def append(self, name: str, turn: NewTurn) -> int:
        """Keep one more turn, the session's first one making it; return its ordinal."""
        asked_s = time.time()
        with self._db.write() as connection:
            session = _made(connection, name)
            ordinal = session.n_turns
            rows = source_rows(connection, turn)
            # Another process went on with the session meanwhile: two turns with the same markers
            # cannot stand in one prompt. This one is kept, and shown, but not read again.
            is_read = turn.is_read and turn.first_marker >= _next_marker(connection, session)
            turn_id = connection.execute(
                "INSERT INTO turns (session_id, ordinal, asked_s, question, query, kind, found, "
                "text, notes, usage, engine, is_read, above) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (session.session_id, ordinal, asked_s, *turn_values(turn, is_read)),
            ).lastrowid
            connection.executemany(
                "INSERT INTO turn_sources (turn_id, role, n, doc_id, body) VALUES (?, ?, ?, ?, ?)",
                [(turn_id, *row) for row in rows],
            )
            for doc_id in _dead(connection, {row[2] for row in rows}):
                forget(connection, doc_id)  # removed while the question was being answered
            if turn.note_id is not None:
                connection.execute(
                    "UPDATE session_notes SET ordinal = ? WHERE note_id = ?",
                    (ordinal, turn.note_id),
                )
            connection.execute(
                "UPDATE sessions SET changed_s = ?, next_marker = max(next_marker, ?) "
                "WHERE session_id = ?",
                (asked_s, turn.next_marker, session.session_id),
            )
        return ordinal

    def turns(self, session_id: int) -> list[StoredTurn]:
        """Return the turns of a session, oldest first."""
        with self._db.snapshot() as connection:
            rows = connection.execute(
                f"SELECT {TURN_COLUMNS} FROM turns WHERE session_id = ? ORDER BY ordinal",
                (session_id,),
            ).fetchall()
            sources = connection.execute(
                "SELECT turn_id, role, is_outdated, body FROM turn_sources JOIN turns "
                "USING (turn_id) WHERE session_id = ? ORDER BY turn_id, role, n",
                (session_id,),
            ).fetchall()
        by_turn: dict[int, list[Row]] = {}
        for turn_id, *rest in sources:
            by_turn.setdefault(turn_id, []).append(tuple(rest))
        codec = Codec()
        return [stored_turn(row, by_turn.get(row[0], []), codec) for row in rows]

    def questions(self, session_id: int) -> list[str]:
        """Return what was asked in a session, oldest first."""
        with self._db.read() as connection:
            rows = connection.execute(
                "SELECT question FROM turns WHERE session_id = ? ORDER BY ordinal", (session_id,)
            ).fetchall()
        return [question for (question,) in rows]

    def next_marker(self, session_id: int) -> int:
        """Return the lowest marker that was never given to a source of the session."""
        with self._db.read() as connection:
            row = connection.execute(
                "SELECT next_marker FROM sessions WHERE session_id = ?", (session_id,)
            ).fetchone()
        return int(row[0]) if row else 1

    def search(self, words: str, limit: int = 20) -> list[tuple[SessionInfo, StoredTurn]]:
        """Return the turns with the most of `words` in question, answer or quotes, best first."""
        wanted = set(content_words(words))
        found = []
        for session in self.all():
            for turn in self.turns(session.session_id):
                answer = turn.answer
                quotes = " ".join(c.quote for c in answer.citations)
                there = set(content_words(f"{answer.question} {answer.text} {quotes}"))
                share = len(wanted & there) / max(1, len(wanted))
                if share > 0:
                    found.append((share, turn.asked_s, session, turn))
        found.sort(key=lambda entry: (-entry[0], -entry[1]))
        return [(session, turn) for _, _, session, turn in found[:limit]]

    # Notes on what was dropped

    def note(self, session_id: int) -> StoredNote | None:
        """Return the note of a session; None: nothing was dropped yet."""
        with self._db.read() as connection:
            row = connection.execute(
                "SELECT note_id, ordinal, first_turn, goal, open, facts FROM session_notes "
                "WHERE session_id = ? ORDER BY note_id DESC LIMIT 1",
                (session_id,),
            ).fetchone()
        if row is None:
            return None
        open_, facts = tuple(json.loads(row[4])), pairs(json.loads(row[5]))
        return StoredNote(row[0], row[1], row[2], row[3], open_, facts)

    def set_note(
        self,
        session_id: int,
        *,
        ordinal: int,
        first_turn: int,
        goal: str,
        open: Sequence[str],
        facts: Sequence[tuple[int, int]],
    ) -> StoredNote:
        """Keep the note that is to stand in the message of turn `ordinal`, instead of any other."""
        with self._db.write() as connection:
            connection.execute("DELETE FROM session_notes WHERE session_id = ?", (session_id,))
            note_id = connection.execute(
                "INSERT INTO session_notes (session_id, ordinal, first_turn, goal, open, facts) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                (session_id, ordinal, first_turn, goal, json.dumps(open), json.dumps(facts)),
            ).lastrowid
        return StoredNote(int(note_id or 0), ordinal, first_turn, goal, tuple(open), tuple(facts))

    # Pins

    def pins(self, session_id: int) -> list[Pin]:
        """Return the documents pinned in a session, in the order they were pinned."""
        with self._db.read() as connection:
            rows = connection.execute(
                "SELECT doc_id, first_marker FROM session_pins WHERE session_id = ? "
                "ORDER BY ordinal, doc_id",
                (session_id,),
            ).fetchall()
        return [Pin(*row) for row in rows]

    def pin(self, name: str, doc_ids: Sequence[int]) -> None:
        """Pin documents in a session, made where there is none; those pinned already stay."""
        with self._db.write() as connection:
            session_id = _made(connection, name).session_id
            (last,) = connection.execute(
                "SELECT coalesce(max(ordinal), -1) FROM session_pins WHERE session_id = ?",
                (session_id,),
            ).fetchone()
            connection.executemany(
                "INSERT OR IGNORE INTO session_pins (session_id, doc_id, ordinal) VALUES (?, ?, ?)",
                [(session_id, doc_id, last + 1 + i) for i, doc_id in enumerate(doc_ids)],
            )

    def unpin(self, name: str, doc_ids: Sequence[int]) -> None:
        """Take documents out of the pinned ones of a session."""
        session_id = self.get(name).session_id
        with self._db.write() as connection:
            connection.executemany(
                "DELETE FROM session_pins WHERE session_id = ? AND doc_id = ?",
                [(session_id, doc_id) for doc_id in doc_ids],
            )

    def number_pin(self, session_id: int, doc_id: int, n_passages: int) -> int:
        """Give a pinned document markers for its passages; return the first of them."""
        with self._db.write() as connection:
            (marker,) = connection.execute(
                "UPDATE sessions SET next_marker = next_marker + ? WHERE session_id = ? "
                "RETURNING next_marker",
                (n_passages, session_id),
            ).fetchone()
            first = int(marker) - n_passages
            connection.execute(
                "UPDATE session_pins SET first_marker = ? WHERE session_id = ? AND doc_id = ?",
                (first, session_id, doc_id),
            )
        return first


def clean_name(name: str) -> str:
    """Return a name in one line; raise UsageError where nothing is left."""
    clean = " ".join((storable(name) or "").split())[:MAX_NAME_CHARS]
    if not clean:
        raise UsageError("a session needs a name")
    return clean


_INFO = (
    "SELECT session_id, name, count(turn_id), created_s, changed_s "
    "FROM sessions LEFT JOIN turns USING (session_id)"
)


def _find(connection: sqlite3.Connection, name: str) -> SessionInfo | None:
    row = connection.execute(
        f"{_INFO} WHERE name = ? GROUP BY session_id", (clean_name(name),)
    ).fetchone()
    return SessionInfo(*row) if row else None


def _next_marker(connection: sqlite3.Connection, session: SessionInfo) -> int:
    (marker,) = connection.execute(
        "SELECT next_marker FROM sessions WHERE session_id = ?", (session.session_id,)
    ).fetchone()
    return int(marker)


def _dead(connection: sqlite3.Connection, doc_ids: set[int]) -> set[int]:
    """Return those of `doc_ids` that are no live document."""
    rows = connection.execute(
        f"SELECT doc_id FROM documents WHERE life = {LIVE} "
        "AND doc_id IN (SELECT value FROM json_each(?))",
        (json.dumps(sorted(doc_ids)),),
    )
    return doc_ids - {doc_id for (doc_id,) in rows}


def _made(connection: sqlite3.Connection, name: str) -> SessionInfo:
    found = _find(connection, name)
    if found is None:
        now = time.time()
        connection.execute(
            "INSERT INTO sessions (name, created_s, changed_s) VALUES (?, ?, ?)",
            (clean_name(name), now, now),
        )
        found = _find(connection, name)
        assert found is not None
    return found
