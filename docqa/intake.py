"""One document on its way into the store: chunks stream in, and all of it appears at once.

A short document is written and published in one transaction. A long one (a 2 GB log has half a
million chunks) is staged in many short ones, so that memory and the write-ahead log stay small,
others can write in between, and the embedder has something to do; staged rows are seen by nobody
else. Publishing is one small transaction
either way: the new content becomes live, the old one dies, the change log tells the indexes.
Without `publish` nothing of it remains.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Sequence

from docqa.migrations import LIVE, STAGED
from docqa.purge import discard_staged, purge, retire
from docqa.records import (
    Codec,
    FileStamp,
    Row,
    chunk_values,
    passage_hash,
    path_bytes,
    priority,
    storable,
    tail_blob,
    text_values,
)
from docqa.store import Store
from docqa.types import Chunk, DocumentInfo, Kind, LogTail, PageInfo, State

STAGE_CHUNKS = 1_000
STAGE_CHARS = 4_000_000
STAGE_S = 1.0  # after which a few are staged too: a PDF may take minutes
STAGE_FEW = 64
CACHED_PASSAGES = 50_000  # hash → id of the passages of this document; log templates repeat

_DOCUMENT = (
    "INSERT INTO documents (life, sha256, n_bytes, mtime_ns, inode, device, checked_ns, parser, "
    f"kind, title, state) VALUES ({STAGED}, ?, ?, ?, ?, ?, ?, ?, 'text', '', 'failed')"
)
_CHUNK = (
    'INSERT INTO chunks (doc_id, ordinal, start, "end", unit, first, last, kind, n_tokens, '
    "time_first, time_last, level_mask, passage_id) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)


class ChunkWriter:
    """Chunks into rows. Remembers the passages of its document."""

    def __init__(self) -> None:
        self._codec = Codec()
        self._passages: dict[bytes, int] = {}

    def write(self, connection: sqlite3.Connection, doc_id: int, chunks: Sequence[Chunk]) -> None:
        """Write chunks inside the open transaction."""
        for chunk in chunks:
            passage_id = self._passage(connection, chunk)
            chunk_id = connection.execute(_CHUNK, chunk_values(chunk, doc_id, passage_id)).lastrowid
            connection.execute(
                "INSERT INTO texts VALUES (?, ?, ?, ?, ?)",
                (chunk_id, *text_values(chunk, self._codec)),
            )

    def _passage(self, connection: sqlite3.Connection, chunk: Chunk) -> int:
        """Return the id of the chunk's passage, made where it is new."""
        key = passage_hash(chunk.embed_text)
        known = self._passages.get(key)
        if known is not None:
            return known
        rank = priority(chunk)
        row = connection.execute(
            "SELECT passage_id, priority FROM passages WHERE hash = ?", (key,)
        ).fetchone()
        if row is None:
            cursor = connection.execute(
                "INSERT INTO passages (hash, priority, text) VALUES (?, ?, ?)",
                (key, rank, self._codec.pack(chunk.embed_text)),
            )
            passage_id = int(cursor.lastrowid or 0)
        else:
            passage_id = int(row[0])
            if rank < row[1]:
                connection.execute(
                    "UPDATE passages SET priority = ? WHERE passage_id = ?", (rank, passage_id)
                )
        if len(self._passages) >= CACHED_PASSAGES:
            self._passages.clear()
        self._passages[key] = passage_id
        return passage_id


def set_tail(connection: sqlite3.Connection, doc_id: int, tail: LogTail | None) -> None:
    """Record where to read on in a log; None: nowhere."""
    if tail is None:
        connection.execute("DELETE FROM tails WHERE doc_id = ?", (doc_id,))
    else:
        connection.execute("INSERT OR REPLACE INTO tails VALUES (?, ?)", (doc_id, tail_blob(tail)))


class Intake:
    """Use as a context manager, under the store's write lock, for one document."""

    def __init__(self, store: Store, stamp: FileStamp, parser: str) -> None:
        self._store = store
        self._stamp = stamp
        self._parser = parser
        self._writer = ChunkWriter()
        self._chunks: list[Chunk] = []
        self._pages: list[PageInfo] = []
        self._n_chars = 0
        self._staged_at = time.monotonic()
        self._doc_id: int | None = None  # once something is staged
        self._is_published = False
        self.n_chunks = 0

    def __enter__(self) -> Intake:
        return self

    def __exit__(self, *_: object) -> None:
        if self._doc_id is not None and not self._is_published:
            discard_staged(self._store.db)

    def add(self, chunk: Chunk) -> None:
        """Take the next chunk; `chunk_id` and `span.doc_id` are given by the store."""
        self._chunks.append(chunk)
        self.n_chunks += 1
        self._n_chars += len(chunk.text)
        is_much = len(self._chunks) >= STAGE_CHUNKS or self._n_chars >= STAGE_CHARS
        is_late = len(self._chunks) >= STAGE_FEW and time.monotonic() - self._staged_at >= STAGE_S
        if is_much or is_late:
            with self._store.db.write() as connection:
                self._write(connection)

    def add_page(self, page: PageInfo) -> None:
        """Take what is known of a page."""
        self._pages.append(page)

    def restamp(self, stamp: FileStamp) -> None:
        """Correct what is known of the file; of what is staged, `publish` corrects it."""
        self._stamp = stamp

    def publish(self, info: DocumentInfo, state: State, error: str | None = None) -> int:
        """Make the document live in place of what was at its path; return its id."""
        with self._store.db.write() as connection:
            self._write(connection)
            old = connection.execute(
                "SELECT doc_id FROM documents WHERE path = ?", (path_bytes(self._stamp.path),)
            ).fetchone()
            if old:
                retire(connection, old[0], successor=self._doc_id)
            connection.execute(
                f"UPDATE documents SET path = ?, life = {LIVE}, sha256 = ?, checked_ns = ?, "
                "kind = ?, title = ?, "
                "state = ?, n_pages = ?, n_lines = ?, n_chunks = ?, error = ?, warnings = ?, "
                "encoding = ? "
                f"WHERE doc_id = ? AND life = {STAGED}",
                (
                    path_bytes(self._stamp.path),
                    self._stamp.sha256,
                    self._stamp.checked_ns,
                    info.kind.value,
                    storable(info.title),
                    state.value,
                    info.n_pages,
                    info.n_lines,
                    self.n_chunks,
                    storable(error),
                    json.dumps(info.warnings),
                    info.encoding,
                    self._doc_id,
                ),
            )
            connection.execute(
                "INSERT INTO changes (op, doc_id) VALUES ('add', ?)", (self._doc_id,)
            )
            assert self._doc_id is not None
            set_tail(connection, self._doc_id, info.tail)
        self._is_published = True
        if old:
            purge(self._store.db)
        assert self._doc_id is not None
        return self._doc_id

    def _write(self, connection: sqlite3.Connection) -> None:
        """Move what is buffered into the open transaction."""
        doc_id = self._doc_id
        if doc_id is None:
            doc_id = _insert_document(connection, self._stamp, self._parser)
        self._writer.write(connection, doc_id, self._chunks)
        connection.executemany(
            "INSERT OR REPLACE INTO pages (doc_id, page, label, state, n_chars, reason) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            [_page_values(doc_id, page) for page in self._pages],
        )
        self._doc_id = doc_id
        self._chunks.clear()
        self._pages.clear()
        self._n_chars = 0
        self._staged_at = time.monotonic()


def record_failure(
    store: Store, stamp: FileStamp, parser: str, kind: Kind, state: State, error: str
) -> int:
    """Put a document without content in place of what was at the path; return its id."""
    with Intake(store, stamp, parser) as intake:
        return intake.publish(DocumentInfo(kind, stamp.path), state, error)


def _page_values(doc_id: int, page: PageInfo) -> Row:
    label, reason = storable(page.label), storable(page.reason)
    return doc_id, page.page, label, page.state.value, page.n_chars, reason


def _insert_document(connection: sqlite3.Connection, stamp: FileStamp, parser: str) -> int:
    cursor = connection.execute(
        _DOCUMENT,
        (
            stamp.sha256,
            stamp.n_bytes,
            stamp.mtime_ns,
            stamp.inode,
            stamp.device,
            stamp.checked_ns,
            parser,
        ),
    )
    return int(cursor.lastrowid or 0)
