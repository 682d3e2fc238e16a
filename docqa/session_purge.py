"""What the end of a document means for sessions, saved KV and traces: in the same transaction.

A document that is *removed* takes along what sessions hold of it: the passages, the quotes, the
words of the answers that cite it, its pins, and the KV that was computed from it. The question and
the fact that something was removed stay. A document whose file has *changed* lives on under another
id: the transcript keeps what it said, marked as outdated, but it is no longer put before a model,
and its KV goes.

Files cannot die in a transaction: `sweep_kv` deletes those that the database no longer names.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from pathlib import Path, PurePath

from docqa.database import Database
from docqa.paths import LibraryPaths

KV_SUFFIX = ".kv"
SAVING_PREFIX = ".saving-"  # of files that an engine is writing (models/kv_file.py)
SAVING_S = 60.0  # older ones are remains of a save that was killed


def forget(connection: sqlite3.Connection, doc_id: int) -> None:
    """Purge a document that is removed from sessions and saved KV."""
    name = _name(connection, doc_id)
    turns = connection.execute(
        "SELECT DISTINCT turn_id, removed, max(role = 'citation') FROM turn_sources "
        "JOIN turns USING (turn_id) WHERE doc_id = ? GROUP BY turn_id",
        (doc_id,),
    ).fetchall()
    for turn_id, removed, is_cited in turns:
        names = [*json.loads(removed), name]
        connection.execute(
            "UPDATE turns SET removed = ?, text = iif(?, '', text) WHERE turn_id = ?",
            (json.dumps(sorted(set(names))), is_cited, turn_id),
        )
    connection.execute("DELETE FROM turn_sources WHERE doc_id = ?", (doc_id,))
    connection.execute("DELETE FROM session_pins WHERE doc_id = ?", (doc_id,))
    _forget_kv(connection, doc_id)


def outdate(connection: sqlite3.Connection, doc_id: int, successor: int) -> None:
    """Pass a document whose file has changed on to its `successor`, so that it dies with it."""
    connection.execute(
        "UPDATE turn_sources SET doc_id = ?, is_outdated = 1 WHERE doc_id = ?", (successor, doc_id)
    )
    connection.execute(
        "UPDATE OR IGNORE session_pins SET doc_id = ?, first_marker = NULL WHERE doc_id = ?",
        (successor, doc_id),
    )
    connection.execute("DELETE FROM session_pins WHERE doc_id = ?", (doc_id,))
    _forget_kv(connection, doc_id)


def renumber(connection: sqlite3.Connection, doc_id: int) -> None:
    """Have the passages of a pinned log that has grown numbered anew: there are more of them."""
    connection.execute("UPDATE session_pins SET first_marker = NULL WHERE doc_id = ?", (doc_id,))


def _forget_kv(connection: sqlite3.Connection, doc_id: int) -> None:
    connection.execute(
        "DELETE FROM kv_files WHERE name IN (SELECT name FROM kv_documents WHERE doc_id = ?)",
        (doc_id,),
    )


def _name(connection: sqlite3.Connection, doc_id: int) -> str:
    row = connection.execute("SELECT path FROM documents WHERE doc_id = ?", (doc_id,)).fetchone()
    path = os.fsdecode(row[0]) if row and row[0] else "a document"
    return PurePath(path).name.encode("utf-8", "replace").decode()


def sweep_kv(db: Database) -> list[Path]:
    """Delete the KV files that the database does not name, and old remains; return them."""
    folder = LibraryPaths(db.path.parent).kv
    try:
        # First the files, then the names: a name is registered before its file is written.
        files = [entry for entry in os.scandir(folder) if entry.name.endswith(KV_SUFFIX)]
    except OSError:
        return []
    if not files:
        return []
    with db.read() as connection:
        named = {name for (name,) in connection.execute("SELECT name FROM kv_files")}
    deleted = []
    for entry in files:
        if entry.name not in named and not _is_being_written(entry):
            Path(entry.path).unlink(missing_ok=True)
            deleted.append(Path(entry.path))
    return deleted


def _is_being_written(entry: os.DirEntry[str]) -> bool:
    try:
        age_s = time.time() - entry.stat().st_mtime
    except OSError:
        return True
    return entry.name.startswith(SAVING_PREFIX) and age_s < SAVING_S
