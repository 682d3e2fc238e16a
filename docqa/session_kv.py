"""Saved KV by name: which documents are in a file, who may keep it, how much room there is.

The engine writes and verifies the files (models/kv_file.py); the database says which of them may
exist. A name is registered before its file is written and dies with any of its documents, so that a
file whose document was removed while it was written is found and deleted.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path

from docqa.database import Database
from docqa.migrations import LIVE
from docqa.protocols import Engine
from docqa.session_purge import KV_SUFFIX, sweep_kv
from docqa.types import Document

Evict = Callable[[Path, int, Path | None], object]
"""(folder, bytes, a file to keep): deletes the least recently used files beyond so many bytes."""


class KvShelf:
    """The folder of saved KV of one library."""

    def __init__(self, db: Database, folder: Path, quota_bytes: int, evict: Evict) -> None:
        self._db, self.folder = db, folder
        self._quota_bytes, self._evict = quota_bytes, evict
        self.problem = ""  # why the last KV was not saved; it is computed again next time

    def session_path(self, session_id: int) -> Path:
        """Return the file of a session."""
        return self.folder / f"session-{session_id}{KV_SUFFIX}"

    def prefix_path(self, engine: Engine, tokens: Sequence[int]) -> Path:
        """Return the file of pinned documents, shared by all who begin with the same tokens."""
        info = engine.info
        settings = (info.name, info.model, info.context_length, info.kv_type_k, info.kv_type_v)
        digest = hashlib.sha256(repr((settings, info.adapter)).encode())
        digest.update(array("i", tokens).tobytes())
        return self.folder / f"pinned-{digest.hexdigest()[:32]}{KV_SUFFIX}"

    def load(self, engine: Engine, path: Path) -> tuple[int, str]:
        """Restore a file; return its tokens, or 0 and why it was refused."""
        if not path.exists():
            return 0, ""
        n_tokens = engine.load_kv(path)
        return n_tokens, "" if n_tokens else engine.kv_reason

    def save(
        self,
        engine: Engine,
        path: Path,
        documents: Sequence[Document],
        session_id: int | None = None,
    ) -> int:
        """Write the KV of the engine's last prompt; return the tokens in it, 0 where it failed."""
        doc_ids = sorted(document.doc_id for document in documents)
        self.problem = ""
        if not self._may_exist(path.name, doc_ids, session_id):
            return 0
        n_tokens = engine.save_kv(path, [document.sha256 for document in documents])
        if not n_tokens:
            self.problem = engine.kv_reason
        else:
            with self._db.write() as connection:
                connection.execute(
                    "DELETE FROM kv_documents WHERE name = ? "
                    "AND doc_id NOT IN (SELECT value FROM json_each(?))",
                    (path.name, json.dumps(doc_ids)),
                )
        sweep_kv(self._db)  # a document may have been removed in the meantime
        self._evict(self.folder, self._quota_bytes, path)
        return n_tokens

    def n_bytes(self, session_id: int | None = None) -> int:
        """Return the size of the file of a session, or of all files."""
        if session_id is None:
            return sum(_size(path) for path in self.folder.glob(f"*{KV_SUFFIX}"))
        return _size(self.session_path(session_id))

    def sweep(self) -> None:
        """Delete the files that nothing names any more."""
        sweep_kv(self._db)

    def _may_exist(self, name: str, doc_ids: Sequence[int], session_id: int | None) -> bool:
        """Register a name, beside the documents of the file that has it so far.

        False where a document was removed, or the session deleted, while the question was answered.
        """
        with self._db.write() as connection:
            (n_live,) = connection.execute(
                f"SELECT count(*) FROM documents WHERE life = {LIVE} "
                "AND doc_id IN (SELECT value FROM json_each(?))",
                (json.dumps(doc_ids),),
            ).fetchone()
            is_known = (
                session_id is None
                or connection.execute(
                    "SELECT 1 FROM sessions WHERE session_id = ?", (session_id,)
                ).fetchone()
            )
            if n_live < len(doc_ids) or not is_known:
                return False
            connection.execute("INSERT OR IGNORE INTO kv_files VALUES (?, ?)", (name, session_id))
            connection.executemany(
                "INSERT OR IGNORE INTO kv_documents VALUES (?, ?)",
                [(name, doc_id) for doc_id in doc_ids],
            )
        return True


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
