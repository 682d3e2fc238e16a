"""Do the derived parts of a library agree with its database: tails of logs, and the two indexes?

An index that is behind is no finding: it catches up when it is opened. One that says it is complete
is compared row by row, and each byte of its files with the checksum that was kept of it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from docqa.errors import LibraryCorrupt
from docqa.index import IndexMismatch
from docqa.index.dense import FILE, VectorIndex
from docqa.index.lexical import UNBEGUN, LexicalIndex
from docqa.index.unwritable import ReadableFolder
from docqa.migrations import LIVE
from docqa.parse.log_tail import Growth, compare
from docqa.parse.stream import extracted_text
from docqa.records import tail_of
from docqa.store import Store
from docqa.types import LogTail

MAX_TAIL_BYTES = 64 << 20  # of a log's last chunk, beyond which it is not compared with its file


@dataclass(frozen=True, slots=True)
class BadTail:
    """A place to read on in a log that is not to be trusted: the log is to be read anew."""

    doc_id: int
    path: str
    problem: str


def bad_tails(store: Store) -> Iterator[BadTail]:
    """Yield the tails that do not agree with their document or with the log they were made of."""
    with store.db.snapshot() as connection:
        rows = connection.execute(
            "SELECT t.doc_id, d.path, t.tail FROM tails t JOIN documents d USING (doc_id) "
            f"WHERE d.life = {LIVE}"
        ).fetchall()
    for doc_id, key, blob in rows:
        path, tail = os.fsdecode(key), tail_of(blob)
        if tail is None:
            yield BadTail(doc_id, path, "where to read on cannot be read")
        elif problem := _disagreement(store, doc_id, path, tail):
            yield BadTail(doc_id, path, problem)


def drop_tails(store: Store, tails: list[BadTail]) -> None:
    """Forget where to read on, and how the files looked: the next sync reads the logs anew."""
    with store.db.write() as connection:
        for tail in tails:
            connection.execute("DELETE FROM tails WHERE doc_id = ?", (tail.doc_id,))
            connection.execute(
                "UPDATE documents SET sha256 = NULL, checked_ns = mtime_ns WHERE doc_id = ?",
                (tail.doc_id,),
            )


def _disagreement(store: Store, doc_id: int, path: str, tail: LogTail) -> str | None:
    with store.db.read() as connection:
        row = connection.execute(
            "SELECT start, first FROM chunks WHERE doc_id = ? AND ordinal = ?",
            (doc_id, tail.ordinal),
        ).fetchone()
    if row != (tail.start_char, tail.line) or not 0 <= tail.start_byte <= tail.n_bytes:
        return "where to read on is not where its last chunk begins"
    try:
        if compare(path, tail) is Growth.OTHER or tail.n_bytes - tail.start_byte > MAX_TAIL_BYTES:
            return None  # rotated, or too long to hold: nothing to compare with
        with Path(path).open("rb") as file:
            file.seek(tail.start_byte)
            data = file.read(tail.n_bytes - tail.start_byte)
        there = extracted_text(data, tail.encoding)
    except OSError:
        return None  # away
    except LookupError:
        return f"it is said to be in the unknown encoding {tail.encoding!r}"
    try:
        held = store.text(doc_id, tail.start_char)
    except LibraryCorrupt:
        return None  # said of the chunk
    if held.strip("\n") != there.strip("\n"):
        return "its last lines are not those of the file"
    return None


def lexical_problem(store: Store) -> str | None:
    """Return what is wrong with the word index; None also where there is none yet."""
    if not store.paths.lexical.exists():
        return None
    try:
        with closing(ReadableFolder(store.paths.lexical)) as readable:
            index = LexicalIndex.open(readable.path(), store.library_id(), is_thorough=True)
            seq = index.seq
            if seq != store.last_seq():
                return None
            held = np.fromiter(index.chunk_ids_containing([]), np.int64)
    except IndexMismatch as mismatch:
        return mismatch.reason if mismatch.reason != UNBEGUN else None
    with store.db.read() as connection:
        rows = connection.execute(
            f"SELECT chunk_id FROM chunks JOIN documents USING (doc_id) WHERE life = {LIVE}"
        ).fetchall()
    expected = np.sort(np.fromiter((row[0] for row in rows), np.int64, len(rows)))
    if np.array_equal(held, expected) or seq != store.last_seq():  # or written meanwhile
        return None
    missing, foreign = np.setdiff1d(expected, held), np.setdiff1d(held, expected)
    return (
        f"{len(held)} chunks indexed, {len(expected)} in the database: "
        f"{len(missing)} missing, {len(foreign)} of no document"
    )


def dense_problem(store: Store) -> str | None:
    """Return what is wrong with the vector file; None also where there is none yet."""
    file = store.paths.dense / FILE
    if not file.exists():
        return None
    try:
        index, place = VectorIndex.read(file)
    except IndexMismatch as mismatch:
        return mismatch.reason
    vectors = store.vectors
    is_current = (place.embedder, place.dim) == vectors.embedder()
    if not is_current or place.library != store.library_id():
        return None  # it will not be used
    if (place.seq, place.removal) != (vectors.last_seq(), vectors.last_removal()):
        return None
    expected = VectorIndex(place.dim)
    for batch in vectors.batches():
        expected.add(batch.ids, batch.vectors)
    here, there = np.argsort(index.ids), np.argsort(expected.ids)
    if not np.array_equal(index.ids[here], expected.ids[there]):
        return f"{len(index)} vectors held, {len(expected)} in the database"
    if not np.array_equal(index.halves()[here], expected.halves()[there]):
        return "its vectors are not those of the database"
    return None
