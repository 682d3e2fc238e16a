"""The schema of the library, as numbered steps. One transaction a step, never edited once released.

`documents.doc_id` names one *content* of a file, not the file: when a file changes, its new content
gets a new id and the old one dies, so that whatever is derived from a document (index entries, KV,
answers) can never be taken for that of another content. A log that has grown keeps its id: its text
is only added to, and what is derived from it stays true of the part that it was derived from.

Life of a document: staged (being written, seen by nobody) -> live -> dead (seen by nobody, its rows
go in batches). Publishing flips staged -> live and the predecessor to dead in one transaction.
"""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Callable

APPLICATION_ID = 0x646F6371  # "docq"

STAGED, LIVE, DEAD = 0, 1, 2


def m001_initial(connection: sqlite3.Connection) -> None:
    """Documents, pages, chunks, passages, vectors, the change log, settings and roots."""
    for statement in _M001:
        connection.execute(statement)
    connection.execute("INSERT INTO settings VALUES ('library_id', ?)", (uuid.uuid4().hex,))


_M001 = (
    "CREATE TABLE settings (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID",
    # Folders and files that the user added; sync without arguments looks at these.
    """CREATE TABLE roots (
        path BLOB PRIMARY KEY, is_watched INTEGER NOT NULL DEFAULT 0,
        include TEXT NOT NULL DEFAULT '[]', exclude TEXT NOT NULL DEFAULT '[]'
    ) STRICT, WITHOUT ROWID""",
    # Paths are bytes: a file name need not be valid in any encoding.
    """CREATE TABLE documents (
        doc_id INTEGER PRIMARY KEY AUTOINCREMENT,
        path BLOB UNIQUE, life INTEGER NOT NULL, sha256 BLOB,
        kind TEXT NOT NULL, title TEXT NOT NULL,
        n_bytes INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
        inode INTEGER NOT NULL, device INTEGER NOT NULL, checked_ns INTEGER NOT NULL,
        state TEXT NOT NULL, n_pages INTEGER, n_lines INTEGER, n_chunks INTEGER NOT NULL DEFAULT 0,
        error TEXT, warnings TEXT NOT NULL DEFAULT '[]', encoding TEXT, parser TEXT NOT NULL,
        CHECK ((life = 1) = (path IS NOT NULL))
    ) STRICT""",
    "CREATE INDEX documents_by_content ON documents (sha256) WHERE life = 1",
    "CREATE INDEX documents_by_life ON documents (life) WHERE life != 1",
    """CREATE TABLE pages (
        doc_id INTEGER NOT NULL REFERENCES documents ON DELETE CASCADE,
        page INTEGER NOT NULL, label TEXT, state TEXT NOT NULL, n_chars INTEGER NOT NULL,
        reason TEXT, PRIMARY KEY (doc_id, page)
    ) STRICT, WITHOUT ROWID""",
    # A passage is a distinct embed_text: what is embedded once however often it occurs.
    """CREATE TABLE passages (
        passage_id INTEGER PRIMARY KEY AUTOINCREMENT,
        hash BLOB NOT NULL UNIQUE, priority INTEGER NOT NULL, text BLOB NOT NULL
    ) STRICT""",
    "CREATE INDEX passages_by_priority ON passages (priority, passage_id)",
    # Narrow on purpose: filters read this table, the text of 500,000 chunks is in the next one.
    """CREATE TABLE chunks (
        chunk_id INTEGER PRIMARY KEY AUTOINCREMENT,
        doc_id INTEGER NOT NULL REFERENCES documents ON DELETE CASCADE,
        ordinal INTEGER NOT NULL, start INTEGER NOT NULL, "end" INTEGER NOT NULL,
        unit TEXT NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
        kind TEXT NOT NULL, n_tokens INTEGER NOT NULL, time_first REAL, time_last REAL,
        level_mask INTEGER NOT NULL, passage_id INTEGER NOT NULL REFERENCES passages,
        UNIQUE (doc_id, ordinal)
    ) STRICT""",
    """CREATE INDEX chunks_by_passage
        ON chunks (passage_id, doc_id, time_first, time_last, level_mask)""",
    """CREATE TABLE texts (
        chunk_id INTEGER PRIMARY KEY REFERENCES chunks ON DELETE CASCADE,
        text BLOB NOT NULL, headings TEXT, breaks TEXT, levels TEXT
    ) STRICT""",
    """CREATE TABLE embedders (
        embedder_id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, dim INTEGER NOT NULL
    ) STRICT""",
    # seq orders the additions, so that a vector index catches up from the last it holds.
    """CREATE TABLE vectors (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        embedder_id INTEGER NOT NULL REFERENCES embedders ON DELETE CASCADE,
        passage_id INTEGER NOT NULL REFERENCES passages ON DELETE CASCADE,
        vector BLOB NOT NULL, UNIQUE (embedder_id, passage_id)
    ) STRICT""",
    "CREATE INDEX vectors_by_passage ON vectors (passage_id)",
    "CREATE TABLE passage_removals (seq INTEGER PRIMARY KEY AUTOINCREMENT, "
    "passage_id INTEGER NOT NULL) STRICT",
    # What an index over documents has to do to catch up, in order.
    """CREATE TABLE changes (
        seq INTEGER PRIMARY KEY AUTOINCREMENT, op TEXT NOT NULL CHECK (op IN ('add', 'remove')),
        doc_id INTEGER NOT NULL, since_ordinal INTEGER NOT NULL DEFAULT 0
    ) STRICT""",
    "CREATE INDEX changes_by_document ON changes (doc_id)",
    # Contents that killed the parse worker.
    """CREATE TABLE strikes (
        sha256 BLOB NOT NULL, parser TEXT NOT NULL, n INTEGER NOT NULL, reason TEXT NOT NULL,
        PRIMARY KEY (sha256, parser)
    ) STRICT, WITHOUT ROWID""",
)


def m002_tails(connection: sqlite3.Connection) -> None:
    """Where to read on in logs that grow: a msgpack of docqa.types.LogTail."""
    connection.execute(
        "CREATE TABLE tails (doc_id INTEGER PRIMARY KEY REFERENCES documents ON DELETE CASCADE, "
        "tail BLOB NOT NULL) STRICT"
    )


def m003_sessions(connection: sqlite3.Connection) -> None:
    """Sessions with their turns, sources, pins and notes; saved KV and traces by name."""
    for statement in _M003:
        connection.execute(statement)


_M003 = (
    """CREATE TABLE sessions (
        session_id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE,
        created_s REAL NOT NULL, changed_s REAL NOT NULL, next_marker INTEGER NOT NULL DEFAULT 1
    ) STRICT""",
    # is_read: the model read it, so it stands in the prompt of the turns that follow.
    """CREATE TABLE turns (
        turn_id INTEGER PRIMARY KEY AUTOINCREMENT,
        session_id INTEGER NOT NULL REFERENCES sessions ON DELETE CASCADE,
        ordinal INTEGER NOT NULL, asked_s REAL NOT NULL, question TEXT NOT NULL,
        query TEXT NOT NULL, kind TEXT NOT NULL, found INTEGER NOT NULL, text TEXT NOT NULL,
        notes TEXT NOT NULL, usage TEXT NOT NULL, engine TEXT, is_read INTEGER NOT NULL,
        above TEXT NOT NULL DEFAULT '[]', removed TEXT NOT NULL DEFAULT '[]',
        UNIQUE (session_id, ordinal)
    ) STRICT""",
    # No reference to documents: a document that dies is dealt with in docqa/session_purge.py.
    """CREATE TABLE turn_sources (
        turn_id INTEGER NOT NULL REFERENCES turns ON DELETE CASCADE,
        role TEXT NOT NULL CHECK (role IN ('source', 'above', 'citation')), n INTEGER NOT NULL,
        doc_id INTEGER NOT NULL, is_outdated INTEGER NOT NULL DEFAULT 0, body BLOB NOT NULL,
        PRIMARY KEY (turn_id, role, n)
    ) STRICT, WITHOUT ROWID""",
    "CREATE INDEX turn_sources_by_document ON turn_sources (doc_id)",
    # first_marker: of its passages in the prompt; none yet, or none any more: the file has changed.
    """CREATE TABLE session_pins (
        session_id INTEGER NOT NULL REFERENCES sessions ON DELETE CASCADE,
        doc_id INTEGER NOT NULL, ordinal INTEGER NOT NULL, first_marker INTEGER,
        PRIMARY KEY (session_id, doc_id)
    ) STRICT, WITHOUT ROWID""",
    # What is kept of the turns before first_turn; it stands in the message of turn `ordinal`.
    """CREATE TABLE session_notes (
        note_id INTEGER PRIMARY KEY AUTOINCREMENT,
        session_id INTEGER NOT NULL REFERENCES sessions ON DELETE CASCADE,
        ordinal INTEGER NOT NULL, first_turn INTEGER NOT NULL, goal TEXT NOT NULL,
        open TEXT NOT NULL, facts TEXT NOT NULL
    ) STRICT""",
    """CREATE TABLE kv_files (
        name TEXT PRIMARY KEY, session_id INTEGER REFERENCES sessions ON DELETE CASCADE
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE kv_documents (
        name TEXT NOT NULL REFERENCES kv_files ON DELETE CASCADE, doc_id INTEGER NOT NULL,
        PRIMARY KEY (name, doc_id)
    ) STRICT, WITHOUT ROWID""",
    "CREATE INDEX kv_documents_by_document ON kv_documents (doc_id)",
    "CREATE TABLE traces (path BLOB PRIMARY KEY) STRICT, WITHOUT ROWID",
)


MIGRATIONS: tuple[Callable[[sqlite3.Connection], None], ...] = (
    m001_initial,
    m002_tails,
    m003_sessions,
)
SCHEMA_VERSION = len(MIGRATIONS)


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the schema to SCHEMA_VERSION. The caller holds the library's write lock."""
    while True:
        connection.execute("BEGIN IMMEDIATE")
        try:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version >= SCHEMA_VERSION:
                connection.execute("ROLLBACK")
                return
            MIGRATIONS[version](connection)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {version + 1}")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
