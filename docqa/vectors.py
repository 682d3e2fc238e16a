"""Vectors in the store: one a passage (a distinct embed_text) and embedder, however many chunks.

The id of a vector is its `passage_id`. Ids are never used twice, so an index may hold them for
ever; another embedder means other vectors for the same passages and touches no chunk.

Vectors are kept as float16 (half the space; the cosine of a vector of 384 numbers to its own
rounding is above 0.999999) and handed out as float32 of unit length.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from docqa.database import Database
from docqa.errors import LibraryCorrupt
from docqa.migrations import LIVE
from docqa.records import SEVERE_MASK, Codec, PendingPassage, Row, scope_filter
from docqa.types import Scope

if TYPE_CHECKING:
    import numpy.typing as npt

    from docqa.protocols import Vectors

    Ids = npt.NDArray[np.int64]  # (N,)

NEW_ROWS = 20_000  # of the passages, so many may be new for them to be looked at by themselves
END_ROWS = 64  # of a passage with many chunks, so many are looked at from either end
STALE_ROWS = 5_000  # vectors of a former embedder deleted in one transaction


@dataclass(frozen=True, slots=True)
class VectorBatch:
    """Vectors in the order in which they were added: `ids` (N,) int64, `vectors` (N, D) float32.

    An index that holds this batch and all before it is complete up to `last_seq`.
    """

    ids: Ids
    vectors: Vectors
    last_seq: int


class VectorTable:
    """The vectors of one library."""

    def __init__(self, db: Database) -> None:
        self._db = db

    # The embedder

    def embedder(self) -> tuple[str, int] | None:
        """Return (name, D) of the current embedder; None before the first."""
        with self._db.read() as connection:
            row = connection.execute(_CURRENT_EMBEDDER).fetchone()
        return (str(row[1]), int(row[2])) if row else None

    def use_embedder(self, name: str, dim: int) -> None:
        """Make `name` current. Vectors of others stay until `drop_stale`; chunks are untouched."""
        if self.embedder() == (name, dim):
            return
        with self._db.write() as connection:
            connection.execute("DELETE FROM embedders WHERE name = ? AND dim != ?", (name, dim))
            connection.execute(
                "INSERT INTO embedders (name, dim) VALUES (?, ?) ON CONFLICT DO NOTHING",
                (name, dim),
            )
            connection.execute("INSERT OR REPLACE INTO settings VALUES ('embedder', ?)", (name,))

    def drop_stale(self) -> int:
        """Delete the vectors of former embedders in short transactions; return their number."""
        n_dropped = 0
        while True:
            with self._db.write() as connection:
                current = connection.execute(_CURRENT_EMBEDDER).fetchone()
                if current is None:
                    return n_dropped
                n = connection.execute(
                    "DELETE FROM vectors WHERE seq IN "
                    "(SELECT seq FROM vectors WHERE embedder_id != ? LIMIT ?)",
                    (current[0], STALE_ROWS),
                ).rowcount
                if n == 0:
                    connection.execute(
                        "DELETE FROM embedders WHERE embedder_id != ?", (current[0],)
                    )
                    return n_dropped
            n_dropped += n

    # What is missing

    def n_pending(self) -> int:
        """Return the number of passages without a vector of the current embedder."""
        with self._db.read() as connection:
            return _n_pending(connection)

    def n_pending_by_document(self, connection: sqlite3.Connection) -> dict[int, int]:
        """Return doc_id → number of its chunks that have no vector yet, zeros left out."""
        if not _n_pending(connection):
            return {}
        rows = connection.execute(
            "SELECT c.doc_id, count(*) FROM passages p JOIN chunks c USING (passage_id) "
            "WHERE NOT EXISTS (SELECT 1 FROM vectors v WHERE v.passage_id = p.passage_id "
            "AND v.embedder_id = ?) GROUP BY c.doc_id",
            (_embedder_id(connection),),
        )
        return dict(rows.fetchall())

    def last_passage(self) -> int:
        """Return the greatest id of a passage so far; later ones get greater ids."""
        return self._sequence("passages")

    def pending(
        self, limit: int, after: tuple[int, int] = (-1, 0), above: int = 0
    ) -> tuple[list[PendingPassage], tuple[int, int]]:
        """Return at most `limit` passages without a vector, the most useful first, and a cursor.

        Text of documents comes before log templates, trouble before routine. Pass the cursor on as
        `after` to go on from there; an empty list: begin again with (-1, 0), or all is done.
        `above`: passages up to this id are known to have vectors; that spares looking at them.
        """
        codec = Codec()
        is_few = above > 0 and self.last_passage() - above <= NEW_ROWS
        with self._db.read() as connection:
            rows = connection.execute(
                _PENDING_FEW if is_few else _PENDING,
                (above, *after, _embedder_id(connection), limit),
            ).fetchall()
        cursor = (rows[-1][2], rows[-1][0]) if rows else after
        return [PendingPassage(row[0], codec.unpack(row[1])) for row in rows], cursor

    def add(self, passage_ids: Sequence[int], vectors: Vectors) -> int:
        """Add vectors (N, D) of the current embedder in one transaction; return how many were new.

        Passages that are gone by now, or have a vector, are left alone: repeating is harmless.
        """
        if not np.isfinite(vectors).all():
            raise ValueError("the embedder returned a vector that is not finite")
        halves = np.ascontiguousarray(vectors, dtype=np.float16)
        with self._db.write() as connection:
            row = connection.execute(_CURRENT_EMBEDDER).fetchone()
            if row is None or halves.shape != (len(passage_ids), row[2]):
                raise ValueError(f"vectors of shape {halves.shape} do not fit embedder {row}")
            before = connection.total_changes
            connection.executemany(
                "INSERT INTO vectors (embedder_id, passage_id, vector) "
                "SELECT ?, passage_id, ? FROM passages WHERE passage_id = ? ON CONFLICT DO NOTHING",
                [
                    (row[0], half.tobytes(), int(passage_id))
                    for passage_id, half in zip(passage_ids, halves, strict=True)
                ],
            )
            return connection.total_changes - before

    # What a vector index needs

    def count(self) -> int:
        """Return the number of vectors of the current embedder."""
        with self._db.read() as connection:
            (n,) = connection.execute(
                "SELECT count(*) FROM vectors WHERE embedder_id = ?", (_embedder_id(connection),)
            ).fetchone()
        return int(n)

    def last_seq(self) -> int:
        """Return the number of the last vector added under any embedder."""
        return self._sequence("vectors")

    def last_removal(self) -> int:
        """Return the number of the last removal of a passage."""
        return self._sequence("passage_removals")

    def batches(self, after_seq: int = 0, size: int = 8_192) -> Iterator[VectorBatch]:
        """Yield the vectors of the current embedder added after `after_seq`, in order."""
        with self._db.snapshot() as connection:
            row = connection.execute(_CURRENT_EMBEDDER).fetchone()
            if row is None:
                return
            cursor = connection.execute(
                "SELECT seq, passage_id, vector FROM vectors "
                "WHERE embedder_id = ? AND seq > ? ORDER BY seq",
                (row[0], after_seq),
            )
            while rows := cursor.fetchmany(size):
                yield _batch_of(rows, int(row[2]))

    def removals(self, after_seq: int) -> tuple[list[int], int]:
        """Return (passages removed after `after_seq`, number of the last removal)."""
        with self._db.read() as connection:
            rows = connection.execute(
                "SELECT seq, passage_id FROM passage_removals WHERE seq > ? ORDER BY seq",
                (after_seq,),
            ).fetchall()
        return [row[1] for row in rows], rows[-1][0] if rows else after_seq

    def allowed(self, scope: Scope) -> Ids | None:
        """Return the sorted ids of vectors with a chunk inside `scope`; None: all of them."""
        if scope.is_open:
            return None
        condition, values = scope_filter(scope)
        with self._db.read() as connection:
            rows = connection.execute(
                f"SELECT DISTINCT c.passage_id FROM chunks c WHERE {condition}", values
            ).fetchall()
        return np.sort(np.fromiter((row[0] for row in rows), dtype=np.int64, count=len(rows)))

    def resolve(
        self, passage_ids: Sequence[int], scope: Scope, per_vector: int = 4
    ) -> dict[int, list[int]]:
        """Return passage → at most `per_vector` of its chunks inside `scope`, by chunk id.

        A log template may stand in a hundred thousand chunks: then first and last, errors, and some
        spread in time are chosen, with a bounded number of seeks. Passages without one are left
        out.
        """
        condition, values = scope_filter(scope)
        found = {}
        with self._db.snapshot() as connection:
            for passage_id in passage_ids:
                chosen = _spread(connection, int(passage_id), condition, values, per_vector)
                if chosen:
                    found[int(passage_id)] = chosen
        return found

    def _sequence(self, table: str) -> int:
        with self._db.read() as connection:
            row = connection.execute(
                "SELECT seq FROM sqlite_sequence WHERE name = ?", (table,)
            ).fetchone()
        return int(row[0]) if row else 0


_PENDING = (
    "SELECT p.passage_id, p.text, p.priority FROM passages p WHERE p.passage_id > ? "
    "AND (p.priority, p.passage_id) > (?, ?) AND NOT EXISTS (SELECT 1 FROM vectors v "
    "WHERE v.embedder_id = ? AND v.passage_id = p.passage_id) "
    "ORDER BY p.priority, p.passage_id LIMIT ?"
)
# By id and sorted, instead of along the index past all that is done.
_PENDING_FEW = _PENDING.replace("passages p WHERE", "passages p NOT INDEXED WHERE")
_PENDING = _PENDING.replace("p.passage_id > ? AND", "+p.passage_id > ? AND")
_CURRENT_EMBEDDER = (
    "SELECT e.embedder_id, e.name, e.dim FROM settings s JOIN embedders e ON e.name = s.value "
    "WHERE s.key = 'embedder'"
)


def _embedder_id(connection: sqlite3.Connection) -> int:
    row = connection.execute(_CURRENT_EMBEDDER).fetchone()
    return int(row[0]) if row else 0


def _n_pending(connection: sqlite3.Connection) -> int:
    (n,) = connection.execute(
        "SELECT (SELECT count(*) FROM passages) - "
        "(SELECT count(*) FROM vectors WHERE embedder_id = ?)",
        (_embedder_id(connection),),
    ).fetchone()
    return int(n)


def _batch_of(rows: Sequence[Row], dim: int) -> VectorBatch:
    blob = b"".join(row[2] for row in rows)
    if len(blob) != len(rows) * dim * 2:
        raise LibraryCorrupt("A vector in the library has the wrong length; run `docqa check`.")
    vectors = np.frombuffer(blob, dtype=np.float16).reshape(len(rows), dim).astype(np.float32)
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    np.divide(vectors, norms, out=vectors, where=norms > 0)
    ids = np.fromiter((row[1] for row in rows), dtype=np.int64, count=len(rows))
    return VectorBatch(ids, vectors, int(rows[-1][0]))


def _spread(
    connection: sqlite3.Connection,
    passage_id: int,
    condition: str,
    values: Sequence[object],
    limit: int,
) -> list[int]:
    """Return at most `limit` chunks of a passage: both ends, errors, and some between in time."""
    # chunks_by_passage covers this query and gives its order: no row is read twice or sorted.
    query = (
        "SELECT c.chunk_id, c.level_mask, c.doc_id, c.time_first FROM chunks c "
        f"WHERE c.passage_id = ? AND {condition} AND EXISTS (SELECT 1 FROM documents d "
        f"WHERE d.doc_id = c.doc_id AND d.life = {LIVE}) "
    )
    order = "ORDER BY c.doc_id {0}, c.time_first {0} LIMIT ?"
    rows = connection.execute(
        query + order.format("ASC"), (passage_id, *values, END_ROWS)
    ).fetchall()
    if len(rows) == END_ROWS:
        tail = connection.execute(
            query + order.format("DESC"), (passage_id, *values, END_ROWS)
        ).fetchall()
        rows += _between(connection, query, (passage_id, *values), rows[0], tail[0], limit)
        seen = {row[0] for row in rows}
        rows += [row for row in reversed(tail) if row[0] not in seen]
    return _choose(rows, limit)


def _between(
    connection: sqlite3.Connection,
    query: str,
    values: tuple[object, ...],
    first: Row,
    last: Row,
    n: int,
) -> list[Row]:
    """Return chunks at even times between two of one document, one seek each."""
    if first[2] != last[2] or first[3] is None or last[3] is None:
        return []
    found: dict[int, Row] = {}
    for step in range(1, n):
        moment = first[3] + (last[3] - first[3]) * step / n
        row = connection.execute(
            query + "AND c.doc_id = ? AND c.time_first >= ? "
            "ORDER BY c.doc_id, c.time_first LIMIT 1",
            (*values, first[2], moment),
        ).fetchone()
        if row:
            found[row[0]] = row
    return list(found.values())


def _choose(rows: Sequence[Row], limit: int) -> list[int]:
    """Return at most `limit` chunk ids: errors alone where there are enough, evenly spread."""
    if len(rows) > limit:
        severe = [row for row in rows if row[1] & SEVERE_MASK]
        pool = severe if len(severe) >= limit else rows
        steps = max(1, limit - 1)
        rows = [pool[round(i * (len(pool) - 1) / steps)] for i in range(limit)]
    return sorted({row[0] for row in rows})
