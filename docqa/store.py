"""The library's truth: documents, pages and chunks in SQLite; everything else is derived from it.

Reading is safe from any thread and process at any time. Writing a document goes through
docqa/intake.py under the write lock; vectors are in docqa/vectors.py. A document is seen whole or
not at all (docqa/migrations.py says how).
"""

from __future__ import annotations

import bisect
import json
import sqlite3
from collections.abc import Generator, Sequence
from pathlib import Path

from docqa.database import Database
from docqa.lock import WriteLock
from docqa.migrations import LIVE
from docqa.paths import LibraryPaths
from docqa.purge import discard_staged, purge, retire
from docqa.records import (
    CHUNK_COLUMNS,
    DOCUMENT_COLUMNS,
    Change,
    Codec,
    FileStamp,
    Known,
    Row,
    chunk_of,
    document_of,
    path_bytes,
    scope_filter,
    storable,
    tail_of,
)
from docqa.roots import RootTable, below
from docqa.types import Chunk, Document, PageInfo, PageState, Scope
from docqa.vectors import VectorTable

FETCH_ROWS = 256
EVERYTHING = Scope()


class Store:
    """One library's database. Use as a context manager, or call `close`."""

    def __init__(self, paths: LibraryPaths) -> None:
        self.paths = paths
        self.lock = WriteLock(paths.lock)
        self.db = Database.open(paths.database, self.lock)
        self.vectors = VectorTable(self.db)
        self.roots = RootTable(self.db)

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the database. A closed store is not used again."""
        self.db.close()

    # Documents

    def documents(self, folder: str | None = None) -> list[Document]:
        """Return all documents, or those at or below `folder`, by path."""
        condition, values = below(folder)
        with self.db.snapshot() as connection:
            pending = self.vectors.n_pending_by_document(connection)
            rows = connection.execute(
                f"SELECT {DOCUMENT_COLUMNS} FROM documents WHERE life = {LIVE} AND {condition} "
                "ORDER BY path",
                values,
            ).fetchall()
        return [document_of(row, pending.get(row[0], 0)) for row in rows]

    def document(self, key: int | str | Path) -> Document | None:
        """Return the document of an id or an absolute path, or None; `n_pending` is not counted."""
        column, value = ("doc_id", key) if isinstance(key, int) else ("path", path_bytes(str(key)))
        with self.db.read() as connection:
            row = connection.execute(
                f"SELECT {DOCUMENT_COLUMNS} FROM documents WHERE life = {LIVE} AND {column} = ?",
                (value,),
            ).fetchone()
        return document_of(row) if row else None

    def known(self, path: str) -> Known | None:
        """Return the document at `path` with the stamp its file had."""
        found = self._known("path = ?", (path_bytes(path),))
        return found[0] if found else None

    def known_below(self, folder: str) -> list[Known]:
        """Return the documents at or below `folder`, by path."""
        condition, values = below(folder)
        return self._known(condition, values)

    def known_in(self, folder: str) -> list[Known]:
        """Return the documents directly in `folder`, by path."""
        condition, values = below(folder)
        n = len(path_bytes(folder).rstrip(b"/\\")) + 2
        rest = f"substr(path, {n})"
        return self._known(
            f"{condition} AND instr({rest}, x'2f') = 0 AND instr({rest}, x'5c') = 0 AND path != ?",
            (*values, path_bytes(folder)),
        )

    def known_with_content(self, sha256: bytes) -> list[Known]:
        """Return the documents with this content, by path."""
        return self._known("sha256 = ?", (sha256,))

    def _known(self, condition: str, values: Sequence[object]) -> list[Known]:
        with self.db.read() as connection:
            rows = connection.execute(
                f"SELECT {DOCUMENT_COLUMNS}, inode, device, checked_ns, parser, "
                "(SELECT tail FROM tails t WHERE t.doc_id = documents.doc_id) FROM documents "
                f"WHERE life = {LIVE} AND {condition} ORDER BY path",
                tuple(values),
            ).fetchall()
        return [_known_of(row) for row in rows]

    def doc_ids_below(self, paths: Sequence[str]) -> frozenset[int]:
        """Return the ids of the documents at or below any of `paths`."""
        found: set[int] = set()
        with self.db.read() as connection:
            for path in paths:
                condition, values = below(path)
                rows = connection.execute(
                    f"SELECT doc_id FROM documents WHERE life = {LIVE} AND {condition}", values
                )
                found.update(doc_id for (doc_id,) in rows)
        return frozenset(found)

    def pages(self, doc_id: int) -> list[PageInfo]:
        """Return how each page was read, in order; labels are the printed page numbers."""
        with self.db.read() as connection:
            rows = connection.execute(
                "SELECT page, state, n_chars, label, reason FROM pages WHERE doc_id = ? "
                "ORDER BY page",
                (doc_id,),
            ).fetchall()
        return [PageInfo(row[0], PageState(row[1]), row[2], row[3], row[4]) for row in rows]

    # Chunks

    def load(self, chunk_ids: Sequence[int]) -> list[tuple[Chunk, Document]]:
        """Return (chunk, its document) in the order asked; ids that are gone are left out."""
        codec = Codec()
        with self.db.snapshot() as connection:
            rows = {row[0]: row for row in _rows_of_ids(connection, chunk_ids)}
            texts = _passage_texts(connection, {row[12] for row in rows.values()}, codec)
            documents = {
                row[0]: document_of(row)
                for row in connection.execute(
                    f"SELECT {DOCUMENT_COLUMNS} FROM documents "
                    "WHERE doc_id IN (SELECT value FROM json_each(?))",
                    (json.dumps(sorted({row[1] for row in rows.values()})),),
                )
            }
        return [
            (chunk_of(rows[i], codec, texts[rows[i][12]]), documents[rows[i][1]])
            for i in chunk_ids
            if i in rows
        ]

    def chunks(self, chunk_ids: Sequence[int]) -> list[Chunk]:
        """Return the chunks in the order asked; ids that are gone are left out."""
        return [chunk for chunk, _ in self.load(chunk_ids)]

    def headed(self, chunk_ids: Sequence[int], n_chunks: int) -> frozenset[int]:
        """Return the documents of which one of the chunks is among the first `n_chunks`."""
        with self.db.snapshot() as connection:
            rows = connection.execute(
                "SELECT DISTINCT c.doc_id FROM json_each(?) j JOIN chunks c "
                "ON c.chunk_id = j.value WHERE c.ordinal < ?",
                (json.dumps(list(chunk_ids)), n_chunks),
            )
            return frozenset(doc_id for (doc_id,) in rows)

    def neighbours(self, doc_id: int, ordinal: int, before: int, after: int) -> list[Chunk]:
        """Return the chunks from `ordinal - before` to `ordinal + after`, itself included."""
        with self.db.read() as connection:
            ids = connection.execute(
                "SELECT chunk_id FROM chunks WHERE doc_id = ? AND ordinal BETWEEN ? AND ? "
                "ORDER BY ordinal",
                (doc_id, ordinal - before, ordinal + after),
            ).fetchall()
        return self.chunks([chunk_id for (chunk_id,) in ids])

    def iter_chunks(
        self, scope: Scope = EVERYTHING, *, since_ordinal: int = 0, embed_text: bool = True
    ) -> Generator[Chunk]:
        """Yield the chunks inside `scope` by document and ordinal, all from one state of the store.

        `embed_text=False` leaves that field empty, for exact scans that only read `text`. Close the
        iterator when it is left early: it holds a snapshot.
        """
        condition, values = scope_filter(scope)
        codec = Codec()
        texts: dict[int, str] = {}
        with self.db.snapshot() as connection:
            for doc_id in _live_ids(connection, scope):
                cursor = connection.execute(
                    f"SELECT {CHUNK_COLUMNS} FROM chunks c JOIN texts t USING (chunk_id) "
                    f"WHERE c.doc_id = ? AND c.ordinal >= ? AND {condition} ORDER BY c.ordinal",
                    (doc_id, since_ordinal, *values),
                )
                while rows := cursor.fetchmany(FETCH_ROWS):
                    if embed_text:
                        missing = {row[12] for row in rows} - texts.keys()
                        if len(texts) > 20 * FETCH_ROWS:  # templates repeat, paragraphs do not
                            texts.clear()
                            missing = {row[12] for row in rows}
                        texts.update(_passage_texts(connection, missing, codec))
                    for row in rows:
                        yield chunk_of(row, codec, texts[row[12]] if embed_text else "")

    def text(self, doc_id: int, start: int = 0, end: int | None = None) -> str:
        """Return the extracted text of a document in [start, end), rebuilt from its chunks."""
        codec = Codec()
        pieces: list[str] = []
        with self.db.snapshot() as connection:
            position = start
            for piece_start, piece_end, blob in connection.execute(
                'SELECT c.start, c."end", t.text FROM chunks c JOIN texts t USING (chunk_id) '
                "WHERE c.doc_id = ? AND c.ordinal >= ? ORDER BY c.ordinal",
                (doc_id, _ordinal_at(connection, doc_id, start)),
            ):
                if end is not None and piece_start >= end:
                    pieces.append("\n" * max(0, end - position))
                    break
                if piece_end <= position:
                    continue
                # Between two chunks there are newlines only (docqa/types.py).
                pieces.append("\n" * max(0, piece_start - position))
                position = max(position, piece_start)
                until = piece_end if end is None else min(end, piece_end)
                pieces.append(codec.unpack(blob)[position - piece_start : until - piece_start])
                position = until
        return "".join(pieces)

    def chunk_id_before(self, doc_id: int, ordinal: int) -> int | None:
        """Return the id of the chunk before `ordinal`; None of the first one."""
        with self.db.read() as connection:
            row = connection.execute(
                "SELECT chunk_id FROM chunks WHERE doc_id = ? AND ordinal = ?",
                (doc_id, ordinal - 1),
            ).fetchone()
        return int(row[0]) if row else None

    def chunk_at(self, doc_id: int, number: int) -> Chunk | None:
        """Return the first chunk that reaches page or line `number`; None beyond the end."""
        with self.db.read() as connection:
            row = connection.execute(
                "SELECT chunk_id FROM chunks WHERE doc_id = ? AND ordinal >= ? AND last >= ? "
                "ORDER BY ordinal LIMIT 1",
                (doc_id, _ordinal_where(connection, doc_id, "last", number), number),
            ).fetchone()
        return self.chunks([row[0]])[0] if row else None

    # What derived indexes need

    def library_id(self) -> str:
        """Return the identity of this library; an index of another one is not used."""
        return self.setting("library_id") or ""

    def last_seq(self) -> int:
        """Return the number of the last change; 0 for a library that was never written."""
        return self._sequence("changes")

    def changes(self, after_seq: int) -> list[Change]:
        """Return what an index that holds everything up to `after_seq` has to do, in order."""
        with self.db.read() as connection:
            rows = connection.execute(
                "SELECT seq, op, doc_id, since_ordinal FROM changes WHERE seq > ? ORDER BY seq",
                (after_seq,),
            ).fetchall()
        return [Change(*row) for row in rows]

    def count_chunks(self) -> int:
        """Return the number of chunks of all documents."""
        with self.db.read() as connection:
            (n,) = connection.execute(
                f"SELECT coalesce(sum(n_chunks), 0) FROM documents WHERE life = {LIVE}"
            ).fetchone()
        return int(n)

    def _sequence(self, table: str) -> int:
        with self.db.read() as connection:
            row = connection.execute(
                "SELECT seq FROM sqlite_sequence WHERE name = ?", (table,)
            ).fetchone()
        return int(row[0]) if row else 0

    # Settings

    def setting(self, key: str) -> str | None:
        """Return a value kept in the library."""
        with self.db.read() as connection:
            row = connection.execute("SELECT value FROM settings WHERE key = ?", (key,)).fetchone()
        return str(row[0]) if row else None

    def set_setting(self, key: str, value: str) -> None:
        """Keep a value in the library."""
        with self.db.write() as connection:
            connection.execute("INSERT OR REPLACE INTO settings VALUES (?, ?)", (key, value))

    # Small changes to documents; the caller holds the write lock

    def restamp(self, doc_id: int, stamp: FileStamp) -> None:
        """Record where a content is now and how its file looks: after a touch or a rename."""
        with self.db.write() as connection:
            connection.execute(
                "UPDATE documents SET path = ?, mtime_ns = ?, inode = ?, device = ?, "
                "checked_ns = ?, n_bytes = ? WHERE doc_id = ?",
                (
                    path_bytes(stamp.path),
                    stamp.mtime_ns,
                    stamp.inode,
                    stamp.device,
                    stamp.checked_ns,
                    stamp.n_bytes,
                    doc_id,
                ),
            )

    def note_error(self, doc_id: int, error: str | None) -> None:
        """Say beside a document what is wrong with its file now; its content stays."""
        with self.db.write() as connection:
            connection.execute(
                "UPDATE documents SET error = ? WHERE doc_id = ?", (storable(error), doc_id)
            )

    def strikes(self, sha256: bytes, parser: str) -> tuple[int, str]:
        """Return how often this content killed the parse worker, and the last reason."""
        with self.db.read() as connection:
            row = connection.execute(
                "SELECT n, reason FROM strikes WHERE sha256 = ? AND parser = ?", (sha256, parser)
            ).fetchone()
        return (int(row[0]), str(row[1])) if row else (0, "")

    def add_strike(self, sha256: bytes, parser: str, reason: str) -> int:
        """Count one more death of the parse worker; return how many there were."""
        with self.db.write() as connection:
            (n,) = connection.execute(
                "INSERT INTO strikes VALUES (?, ?, 1, ?) ON CONFLICT DO UPDATE "
                "SET n = n + 1, reason = excluded.reason RETURNING n",
                (sha256, parser, storable(reason)),
            ).fetchone()
        return int(n)

    # Removal

    def remove(self, doc_ids: Sequence[int]) -> None:
        """Remove documents and all that was derived from them. Gone for readers at once."""
        with self.db.write() as connection:
            for doc_id in doc_ids:
                retire(connection, doc_id)
        purge(self.db)

    def discard_staged(self) -> None:
        """Drop what a killed writer left half-written. The caller holds the write lock."""
        discard_staged(self.db)


def _known_of(row: Row) -> Known:
    document = document_of(row)
    inode, device, checked_ns, parser, tail = row[-5:]
    stamp = FileStamp(
        document.path, document.n_bytes, document.mtime_ns, inode, device, checked_ns, row[2]
    )
    return Known(document, stamp, parser, tail_of(tail))


def _rows_of_ids(connection: sqlite3.Connection, chunk_ids: Sequence[int]) -> list[Row]:
    return connection.execute(
        f"SELECT {CHUNK_COLUMNS} FROM json_each(?) j JOIN chunks c ON c.chunk_id = j.value "
        "JOIN texts t USING (chunk_id) JOIN documents d ON d.doc_id = c.doc_id "
        f"WHERE d.life = {LIVE}",
        (json.dumps([int(chunk_id) for chunk_id in chunk_ids]),),
    ).fetchall()


def _passage_texts(
    connection: sqlite3.Connection, passage_ids: set[int], codec: Codec
) -> dict[int, str]:
    rows = connection.execute(
        "SELECT passage_id, text FROM json_each(?) j JOIN passages p ON p.passage_id = j.value",
        (json.dumps(list(passage_ids)),),
    )
    return {passage_id: codec.unpack(blob) for passage_id, blob in rows}


def _live_ids(connection: sqlite3.Connection, scope: Scope) -> list[int]:
    query = f"SELECT doc_id FROM documents WHERE life = {LIVE} "
    values: tuple[str, ...] = ()
    if scope.doc_ids is not None:  # by key: an index is fed one document at a time
        query += "AND doc_id IN (SELECT value FROM json_each(?)) "
        values = (json.dumps(sorted(scope.doc_ids)),)
    return [doc_id for (doc_id,) in connection.execute(query + "ORDER BY doc_id", values)]


def _ordinal_at(connection: sqlite3.Connection, doc_id: int, offset: int) -> int:
    """Return the ordinal of the last chunk that starts at or before `offset`, or 0."""
    return max(0, _ordinal_where(connection, doc_id, "start", offset + 1) - 1)


def _ordinal_where(connection: sqlite3.Connection, doc_id: int, column: str, value: int) -> int:
    """Return the first ordinal whose `column`, which never falls, is at least `value`.

    A binary search over ordinals: 20 seeks in a log of 500,000 chunks, and no further index.
    """
    (n,) = connection.execute(
        "SELECT coalesce(max(ordinal) + 1, 0) FROM chunks WHERE doc_id = ?", (doc_id,)
    ).fetchone()

    def at(ordinal: int) -> int:
        row = connection.execute(
            f"SELECT {column} FROM chunks WHERE doc_id = ? AND ordinal = ?", (doc_id, ordinal)
        ).fetchone()
        return int(row[0]) if row else value

    return bisect.bisect_left(range(n), value, key=at)
