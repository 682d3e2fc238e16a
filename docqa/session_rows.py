"""Rows of sessions <-> records: turns, their sources and citations, notes, pins.

Bodies are JSON, pure ASCII and packed: lone surrogates of a damaged text survive.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import TypeVar

import msgspec

from docqa.migrations import LIVE
from docqa.records import Codec, Row, path_bytes, storable
from docqa.types import Answer, AnswerKind, Citation, EngineInfo, Evidence, Usage

REMOVED = "what it was drawn from is no longer in the library"
TURN_COLUMNS = (
    "turn_id, ordinal, asked_s, question, query, kind, found, text, notes, usage, engine, "
    "is_read, above, removed"
)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """A session as it is listed. Times are seconds since the epoch."""

    session_id: int
    name: str
    n_turns: int
    created_s: float
    changed_s: float


@dataclass(frozen=True, slots=True)
class StoredTurn:
    """A question and its answer as they are kept.

    `sources` stood in its message and `above` named what stood before it; `answer.evidence` holds
    both. `is_outdated`: a file that it was drawn from has changed since. `removed`: names of
    documents whose passages and quotes were purged.
    """

    ordinal: int  # 0, 1, 2 …
    asked_s: float
    answer: Answer
    sources: tuple[Evidence, ...]
    above: tuple[int, ...]
    is_read: bool  # the model read its message: it may stand in later prompts
    is_outdated: bool = False
    removed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NewTurn:
    """What is to be kept of a question."""

    answer: Answer
    sources: tuple[Evidence, ...] = ()
    above: tuple[int, ...] = ()
    is_read: bool = False
    note_id: int | None = None  # of the note that stood in its message
    first_marker: int = 1  # that was free when it was asked
    next_marker: int = 1  # above every marker that was given away


@dataclass(frozen=True, slots=True)
class StoredNote:
    """A note by reference: `facts` are (ordinal of the turn, number of the citation)."""

    note_id: int
    ordinal: int  # of the turn in whose message it stands, or is to stand
    first_turn: int  # turns before it were dropped from the prompt
    goal: str
    open: tuple[str, ...]
    facts: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Pin:
    """A pinned document. `first_marker`: of its passages; None: not numbered yet."""

    doc_id: int
    first_marker: int | None


def turn_values(turn: NewTurn, is_read: bool) -> Row:
    """Return the columns of a turn from `question` to `above`."""
    answer = turn.answer
    engine = None if answer.engine is None else _json(answer.engine)
    return (
        storable(answer.question),
        storable(answer.query),
        answer.kind.value,
        answer.found,
        storable(answer.text),
        _json(answer.notes),
        _json(answer.usage),
        engine,
        is_read,
        json.dumps(turn.above),
    )


def source_rows(connection: sqlite3.Connection, turn: NewTurn) -> list[Row]:
    """Return (role, n, doc_id, body) of everything that quotes a document."""
    codec = Codec()
    own = {source.marker for source in turn.sources}
    above = [e for e in turn.answer.evidence if e.marker not in own]
    doc_ids = _doc_ids(connection, turn.answer)
    rows: list[Row] = []
    for role, evidence in (("source", turn.sources), ("above", above)):
        rows += [
            (role, n, e.chunk.span.doc_id, codec.pack(_json(_slim(e))))
            for n, e in enumerate(evidence)
        ]
    rows += [
        ("citation", n, doc_ids[c.path], codec.pack(_json(c)))
        for n, c in enumerate(turn.answer.citations)
    ]
    return rows


def _doc_ids(connection: sqlite3.Connection, answer: Answer) -> dict[str, int]:
    """Return path → document of what is cited; 0 where it was removed since it was read."""
    found = {e.path: e.chunk.span.doc_id for e in answer.evidence}
    for path in {c.path for c in answer.citations} - found.keys():  # an exact scan has no evidence
        row = connection.execute(
            f"SELECT doc_id FROM documents WHERE path = ? AND life = {LIVE}", (path_bytes(path),)
        ).fetchone()
        found[path] = int(row[0]) if row else 0
    return found


def _slim(evidence: Evidence) -> Evidence:
    return replace(evidence, chunk=replace(evidence.chunk, embed_text=""))


def stored_turn(row: Row, sources: Sequence[Row], codec: Codec) -> StoredTurn:
    """Return a turn of a row of TURN_COLUMNS and its (role, is_outdated, body)."""
    _, ordinal, asked_s, question, query, kind, found, text, notes, usage, engine = row[:11]
    is_read, above, removed = row[11:]

    def of(role: str, type_: type[T]) -> tuple[T, ...]:
        return tuple(_record(codec.unpack(s[2]), type_) for s in sources if s[0] == role)

    own = of("source", Evidence)
    gone = tuple(json.loads(removed))
    is_outdated = any(s[1] for s in sources)
    citations = of("citation", Citation)
    said = list(_record(notes, tuple[str, ...]))
    said += [f"{name}: {REMOVED}" for name in gone]
    if is_outdated:
        names = sorted({PurePath(c.path).name for c in citations})
        said.append(f"changed since this was answered: {', '.join(names) or 'a source'}")
    answer = Answer(
        question=question,
        query=query,
        found=bool(found),
        kind=AnswerKind(kind),
        text=text or (f"(removed: {REMOVED})" if gone else ""),
        citations=citations,
        evidence=(*own, *of("above", Evidence)),
        usage=_record(usage, Usage),
        engine=None if engine is None else _record(engine, EngineInfo),
        notes=tuple(said),
    )
    return StoredTurn(
        ordinal,
        asked_s,
        answer,
        own,
        tuple(json.loads(above)),
        bool(is_read),
        is_outdated,
        gone,
    )


def _json(value: object) -> str:
    """Return a record as JSON. Pure ASCII, so that lone surrogates of a damaged text survive."""
    return json.dumps(msgspec.to_builtins(value))


def _record(text: str, type_: type[T]) -> T:
    return msgspec.convert(json.loads(text), type_)


def pairs(values: Sequence[Sequence[int]]) -> tuple[tuple[int, int], ...]:
    """Return JSON's lists of two as pairs."""
    return tuple((a, b) for a, b in values)
