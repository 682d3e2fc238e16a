"""The end of a document: it dies in the transaction that says so, its rows follow in batches.

Everything derived goes with it: pages, chunks, their text, and the passages and vectors that no
other chunk needs. Whoever adds a table about documents lets it cascade from `documents`, or deletes
its rows in `retire` (docqa/session_purge.py); KV files go in `purge`, once no row names them.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence

from docqa.database import Database
from docqa.migrations import DEAD, LIVE, STAGED
from docqa.records import Row
from docqa.session_purge import forget, outdate, sweep_kv

PURGE_CHUNKS = 2_000  # in one transaction: tens of milliseconds, so that other writers get in
FREE_PAGES = 2_000  # given back to the file system at a time


def retire(connection: sqlite3.Connection, doc_id: int, successor: int | None = None) -> None:
    """Take a live document away from readers and tell the indexes; its rows go in `purge`.

    `successor`: the document of what its file holds now; None where it is removed.
    """
    if successor is None:
        forget(connection, doc_id)
    else:
        outdate(connection, doc_id, successor)
    changed = connection.execute(
        f"UPDATE documents SET life = {DEAD}, path = NULL WHERE doc_id = ? AND life = {LIVE}",
        (doc_id,),
    ).rowcount
    if changed:
        # An index that has not seen the add need not: one row a dead document is enough.
        connection.execute("DELETE FROM changes WHERE doc_id = ?", (doc_id,))
        connection.execute("INSERT INTO changes (op, doc_id) VALUES ('remove', ?)", (doc_id,))


def discard_staged(db: Database) -> None:
    """Drop what a killed or failed writer left half-written. The caller holds the write lock."""
    with db.read() as connection:
        is_clean = not connection.execute(
            f"SELECT 1 FROM documents WHERE life != {LIVE} LIMIT 1"
        ).fetchone()
    if is_clean:
        return
    with db.write() as connection:
        connection.execute(f"UPDATE documents SET life = {DEAD} WHERE life = {STAGED}")
    purge(db)


def purge(db: Database) -> None:
    """Delete the rows of dead documents in short transactions; give a large space back."""
    n_purged = 0
    while (n := _purge_some(db)) >= 0:
        n_purged += n
    sweep_kv(db)
    if n_purged >= PURGE_CHUNKS:
        n_free = None
        while (left := db.release_space(FREE_PAGES)) and left != n_free:
            n_free = left


def _purge_some(db: Database) -> int:
    """Delete some chunks, and their document with the last; return how many, -1 at the end."""
    with db.write() as connection:
        row = connection.execute(
            f"SELECT doc_id FROM documents WHERE life = {DEAD} LIMIT 1"
        ).fetchone()
        if row is None:
            return -1
        rows = connection.execute(
            "SELECT chunk_id, passage_id FROM chunks WHERE doc_id = ? "
            "ORDER BY ordinal DESC LIMIT ?",
            (row[0], PURGE_CHUNKS),
        ).fetchall()
        if rows:
            delete_chunks(connection, rows)
            drop_orphans(connection, rows)
        if len(rows) < PURGE_CHUNKS:
            connection.execute("DELETE FROM documents WHERE doc_id = ?", row)
        return len(rows)


def delete_chunks(connection: sqlite3.Connection, rows: Sequence[Row]) -> None:
    """Delete chunks, given as (chunk_id, passage_id); their passages stay."""
    connection.execute(
        "DELETE FROM chunks WHERE chunk_id IN (SELECT value FROM json_each(?))",
        (json.dumps([chunk_id for chunk_id, _ in rows]),),
    )


def drop_orphans(connection: sqlite3.Connection, rows: Sequence[Row]) -> None:
    """Delete the passages of deleted chunks that no other chunk needs, with their vectors."""
    orphans = connection.execute(
        "DELETE FROM passages WHERE passage_id IN (SELECT value FROM json_each(?)) "
        "AND NOT EXISTS (SELECT 1 FROM chunks c WHERE c.passage_id = passages.passage_id) "
        "RETURNING passage_id",
        (json.dumps(sorted({passage_id for _, passage_id in rows})),),
    ).fetchall()
    connection.executemany("INSERT INTO passage_removals (passage_id) VALUES (?)", orphans)
