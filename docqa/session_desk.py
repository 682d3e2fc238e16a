"""What front ends do with sessions by name and path: their rows, their saved KV, the traces."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from docqa.config import Config
from docqa.errors import UnsupportedFile
from docqa.session_kv import Evict, KvShelf
from docqa.session_rows import SessionInfo, StoredTurn
from docqa.sessions import Sessions
from docqa.stats import Stats, stats_of
from docqa.store import Store
from docqa.talk import Talk
from docqa.trace import Trace, purge_traces
from docqa.types import FileReport, State


class SessionDesk:
    """The sessions of a library. Safe from any thread and process."""

    def __init__(self, store: Store, config: Config, evict_kv: Evict) -> None:
        """Open nothing. `evict_kv` keeps the folder of saved KV within its quota."""
        self._store = store
        self.sessions = Sessions(store.db)
        quota_bytes = int(config.session.kv_quota_gib * 2**30)
        self.kv = KvShelf(store.db, store.paths.kv, quota_bytes, evict_kv)

    def talk(self, config: Config, session: str | None, pins: Sequence[Path]) -> Talk | None:
        """Return what is before a question in its session; None where it stands alone."""
        if session is None and not pins:
            return None
        doc_ids = self._pinnable(pins)
        return Talk(self._store, self.sessions, self.kv, config, session, doc_ids)

    def turns(self, session: SessionInfo) -> list[StoredTurn]:
        """Return the turns of a session, oldest first."""
        return self.sessions.turns(session.session_id)

    def pinned(self, session: SessionInfo) -> list[str]:
        """Return the paths of the documents pinned in a session."""
        pins = self.sessions.pins(session.session_id)
        found = (self._store.document(pin.doc_id) for pin in pins)
        return [document.path for document in found if document is not None]

    def pin(self, name: str, paths: Sequence[Path]) -> None:
        """Pin documents in a session, made where there is none; see `docqa.history`.

        Raises:
            UnsupportedFile: one is not in the library.
        """
        self.sessions.pin(name, self._pinnable(paths))

    def unpin(self, name: str, paths: Sequence[Path]) -> None:
        """Pin documents in a session no more."""
        self.sessions.unpin(name, self._pinnable(paths))

    def _pinnable(self, paths: Sequence[Path]) -> list[int]:
        doc_ids = []
        for path in paths:
            found = self._store.document(path.absolute())
            if found is None or not found.n_chunks:
                raise UnsupportedFile(path, "cannot be pinned: it is not in the library, or empty")
            doc_ids.append(found.doc_id)
        return doc_ids

    def delete(self, name: str) -> None:
        """Forget a session and its saved KV."""
        self.sessions.delete(name)
        self.kv.sweep()

    def stats(self, session: SessionInfo) -> Stats:
        """Return what the questions of a session cost."""
        answers = (turn.answer for turn in self.turns(session))
        return stats_of(session.name, answers, self.kv.n_bytes(session.session_id))

    def trace(self, path: Path) -> Trace:
        """Return a trace that appends to `path`; lines about removed documents are purged."""
        return Trace(self._store.db, path)

    def purge_traces(self, reports: Sequence[FileReport]) -> None:
        """Take documents that were removed out of the traces."""
        removed = [report.path for report in reports if report.state is State.REMOVED]
        purge_traces(self._store.db, removed)
