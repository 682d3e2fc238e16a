"""What has been added to a log goes into its document: the last chunk is made again, others follow.

All of one step is one transaction, and so is a document that other names were given to: rotation
moves `app.log` to `app.log.1`, whose former content moves to `app.log.2`. A document keeps its id,
its chunks and their vectors (docqa/migrations.py). The caller holds the write lock.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence

from docqa.intake import ChunkWriter, set_tail
from docqa.migrations import LIVE
from docqa.purge import delete_chunks, drop_orphans, purge, retire
from docqa.records import FileStamp, Known, path_bytes
from docqa.session_purge import renumber
from docqa.store import Store
from docqa.types import Chunk, DocumentInfo, LogTail, State

KEPT_CHANGES = 1_000  # rows of one log in the change log; older ones are folded into the oldest


def append(
    store: Store,
    known: Known,
    tail: LogTail,
    stamp: FileStamp,
    chunks: Sequence[Chunk],
    info: DocumentInfo,
) -> None:
    """Put `chunks` in place of the last chunk of a log, which `tail` says where to find.

    `stamp` is how the file looked before it was read on.
    """
    doc_id = known.document.doc_id
    warnings = tuple(dict.fromkeys((*known.document.warnings, *info.warnings)))
    with store.db.write() as connection:
        old = connection.execute(
            "SELECT chunk_id, passage_id FROM chunks WHERE doc_id = ? AND ordinal >= ?",
            (doc_id, tail.ordinal),
        ).fetchall()
        delete_chunks(connection, old)
        ChunkWriter().write(connection, doc_id, chunks)
        drop_orphans(connection, old)  # after the writing: a passage that stays keeps its vector
        connection.execute(
            "UPDATE documents SET state = ?, error = NULL, sha256 = NULL, n_lines = ?, "
            "n_chunks = ?, warnings = ? WHERE doc_id = ?",
            (
                State.INDEXED.value,
                info.n_lines,
                tail.ordinal + len(chunks),
                json.dumps(warnings),
                doc_id,
            ),
        )
        set_tail(connection, doc_id, info.tail)
        if tail.ordinal == 0:  # all of it is new: the one row that adds it moves to the end
            connection.execute("DELETE FROM changes WHERE doc_id = ?", (doc_id,))
        connection.execute(
            "INSERT INTO changes (op, doc_id, since_ordinal) VALUES ('add', ?, ?)",
            (doc_id, tail.ordinal),
        )
        _fold_changes(connection, doc_id)
        renumber(connection, doc_id)
    store.restamp(doc_id, stamp)


def move(store: Store, moves: Sequence[tuple[Known, FileStamp]]) -> None:
    """Give documents the paths of these stamps; what else was known there is gone."""
    moved = {known.document.doc_id for known, _ in moves}
    with store.db.write() as connection:
        for known, stamp in moves:
            key = path_bytes(stamp.path)
            at_path = connection.execute(
                f"SELECT doc_id FROM documents WHERE path = ? AND life = {LIVE}", (key,)
            ).fetchone()
            if at_path and at_path[0] not in moved:
                retire(connection, at_path[0])
            # No path has a zero byte: out of the way of the others in a ring.
            connection.execute(
                "UPDATE documents SET path = ? WHERE doc_id = ?",
                (b"\0%d" % known.document.doc_id, known.document.doc_id),
            )
        for known, stamp in moves:
            connection.execute(
                "UPDATE documents SET path = ?, inode = ?, device = ?, checked_ns = mtime_ns "
                "WHERE doc_id = ?",  # so that the file is looked at again
                (path_bytes(stamp.path), stamp.inode, stamp.device, known.document.doc_id),
            )
    purge(store.db)


def _fold_changes(connection: sqlite3.Connection, doc_id: int) -> None:
    """Keep the change log of a log that grows for months short.

    The oldest row that is kept tells of all that are dropped: an index between them does a little
    twice, none misses anything.
    """
    rows = connection.execute(
        "SELECT seq, since_ordinal FROM changes WHERE doc_id = ? AND since_ordinal > 0 "
        "ORDER BY seq DESC LIMIT -1 OFFSET ?",
        (doc_id, KEPT_CHANGES - 1),
    ).fetchall()
    if len(rows) < KEPT_CHANGES:
        return
    oldest = rows[0][0]
    least = min(since for _, since in rows)
    connection.execute("UPDATE changes SET since_ordinal = ? WHERE seq = ?", (least, oldest))
    connection.execute(
        "DELETE FROM changes WHERE doc_id = ? AND since_ordinal > 0 AND seq < ?", (doc_id, oldest)
    )
