"""The SQLite file of a library: connections, transactions, and errors a user can act on.

WAL, `synchronous=FULL`: what is committed survives a power cut, readers never wait for the writer.
Connections are pooled, not bound to threads; one connection writes. A connection never crosses a
fork, and the file is never opened by anything but SQLite (closing it would drop SQLite's locks).
"""

from __future__ import annotations

import os
import sqlite3
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote

from docqa.errors import LibraryBusy, LibraryCorrupt, LibraryError, LibraryNewer
from docqa.lock import WriteLock
from docqa.migrations import APPLICATION_ID, SCHEMA_VERSION, migrate

BUSY_TIMEOUT_S = 30.0  # our transactions are short: this is an emergency brake, not a wait
BUSY_SLICE_S = 0.2  # SQLite waits in C, deaf to Ctrl-C; so it waits in slices
CACHE_KIB = 16_384
WAL_LIMIT_BYTES = 64 * 1024 * 1024


class Database:
    """The connections to one library file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._idle: list[sqlite3.Connection] = []
        self._guard = threading.Lock()
        self._write_lock = threading.Lock()
        self._writer: sqlite3.Connection | None = None
        self._is_stale = False  # connections were opened while nothing could be written
        self._is_closed = False

    @classmethod
    def open(cls, path: Path, lock: WriteLock) -> Database:
        """Open the library at `path`, made or migrated where needed.

        Raises:
            LibraryNewer, LibraryCorrupt, LibraryError: each says what to do; nothing was changed.
        """
        with explained(path):
            if (
                not path.exists()
                or path.stat().st_size == 0
                or check_version(path) < SCHEMA_VERSION
            ):
                try:
                    path.parent.mkdir(parents=True, exist_ok=True)
                except OSError as error:
                    raise LibraryError(
                        f"{path.parent}: the library cannot be made: {error.strerror}. "
                        "Choose another folder with --library."
                    ) from error
                with lock.held(BUSY_TIMEOUT_S), closing(_connect(path, "rwc")) as connection:
                    _create(connection)
        return cls(path)

    def close(self) -> None:
        """Close every connection; those in use when their users are done."""
        with self._guard:
            self._is_closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()
        with self._write_lock:
            if self._writer is not None:
                self._writer.close()
                self._writer = None

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """Lend a connection that only reads. Each statement sees the latest commit."""
        with explained(self.path):
            connection = self._borrow()
            try:
                yield connection
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                self._give_back(connection)

    @contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """Lend a connection whose statements all see the same state of the library."""
        with self.read() as connection:
            connection.execute("BEGIN")
            yield connection

    @contextmanager
    def write(self, timeout_s: float = BUSY_TIMEOUT_S) -> Iterator[sqlite3.Connection]:
        """Lend the writing connection inside one transaction: committed whole, or not at all.

        Raises:
            LibraryBusy: another process kept its transaction open for longer than `timeout_s`.
        """
        deadline = time.monotonic() + timeout_s
        with explained(self.path), self._write_lock:
            connection = self._writing_connection()
            _begin(connection, deadline)
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def release_space(self, max_pages: int) -> int:
        """Give at most `max_pages` freed pages back to the file system; return what is left."""
        with explained(self.path), self._write_lock:
            connection = self._writing_connection()
            connection.execute(f"PRAGMA incremental_vacuum({max_pages:d})").fetchall()
            return int(connection.execute("PRAGMA freelist_count").fetchone()[0])

    def _writing_connection(self) -> sqlite3.Connection:
        if self._is_stale and self._may_write():
            self._drop_connections()
        if self._writer is None:
            if self._is_closed:
                raise LibraryError(f"{self.path.parent}: the library was closed.")
            self._is_stale |= not self._may_write()
            self._writer = _connect(self.path, "rw")
        return self._writer

    def _may_write(self) -> bool:
        return os.access(self.path, os.W_OK)

    def _drop_connections(self) -> None:
        """Close what was opened on a disk that was read-only then: the process would stay so."""
        with self._guard:
            self._is_stale = False
            idle, self._idle = self._idle, []
        writer, self._writer = self._writer, None
        for connection in [*idle, *([writer] if writer else [])]:
            connection.close()

    def _borrow(self) -> sqlite3.Connection:
        with self._guard:
            if self._is_closed:
                raise LibraryError(f"{self.path.parent}: the library was closed.")
            if self._idle:
                return self._idle.pop()
            self._is_stale |= not self._may_write()
        return connect_reader(self.path)

    def _give_back(self, connection: sqlite3.Connection) -> None:
        with self._guard:
            # One that takes no locks is not kept: somebody may write the next moment.
            if not self._is_closed and not isinstance(connection, _Frozen):
                self._idle.append(connection)
                return
        connection.close()


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into ours, which say what to do next."""
    try:
        yield
    except sqlite3.Error as error:
        raise _explanation(path, error) from error


def _explanation(path: Path, error: sqlite3.Error) -> LibraryError:
    name = getattr(error, "sqlite_errorname", "") or ""
    where = path.parent
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return LibraryBusy(
            f"{where}: another process is writing to this library; wait for it and repeat."
        )
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return LibraryCorrupt(
            f"{path}: the database is damaged ({error}). Restore a backup, or move the file away "
            "and add the documents again; `docqa check` names what is wrong."
        )
    if name.startswith("SQLITE_FULL"):
        return LibraryError(
            f"{where}: the disk is full. What was indexed before is intact and still answers; "
            "free some space and repeat the command."
        )
    if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM", "SQLITE_AUTH")):
        return LibraryError(
            f"{where}: the library cannot be opened for this ({error}). "
            "Check the folder's permissions, or choose another with --library."
        )
    if name.startswith("SQLITE_IOERR"):
        return LibraryError(
            f"{where}: reading or writing the library failed ({name}). What was committed is "
            "intact; check the disk and its free space, and repeat."
        )
    return LibraryError(f"{path}: {error}. Run `docqa check`.")


class _Frozen(sqlite3.Connection):
    """A connection that reads the file as it is, without locks: only while nobody writes."""


def _connect(
    path: Path, mode: str, kind: type[sqlite3.Connection] = sqlite3.Connection
) -> sqlite3.Connection:
    """Connect; `mode` is that of SQLite's file names."""
    uri = f"file:{quote(str(path.absolute()))}?mode={mode}"
    connection = sqlite3.connect(
        uri,
        uri=True,
        timeout=BUSY_SLICE_S,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=256,
        factory=kind,
    )
    try:
        if kind is _Frozen:  # first of all: then the WAL's index is kept in memory
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA secure_delete = FAST")
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA cell_size_check = ON")
        connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        connection.execute(f"PRAGMA journal_size_limit = {WAL_LIMIT_BYTES}")
    except BaseException:
        connection.close()
        raise
    return connection


_NO_ROOM = ("SQLITE_CANTOPEN", "SQLITE_READONLY_DIRECTORY", "SQLITE_IOERR_SHM", "SQLITE_FULL")


def connect_reader(path: Path) -> sqlite3.Connection:
    """Connect for reading, also where nothing can be written."""
    connection = None
    try:
        connection = _connect(path, "ro")
        connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()
        return connection
    except sqlite3.OperationalError as error:
        if connection is not None:
            connection.close()
        # A folder that cannot be written, or a full disk, has no room for the WAL's index, and
        # nobody else has the library open: they would have made it.
        if not (error.sqlite_errorname or "").startswith(_NO_ROOM):
            raise
        if not _has_wal(path):
            return _connect(path, "ro&immutable=1", _Frozen)
        if sys.platform == "win32":
            raise
    return _connect(path, "ro&vfs=unix-none", _Frozen)


def _has_wal(path: Path) -> bool:
    try:
        return path.with_name(path.name + "-wal").stat().st_size > 0
    except FileNotFoundError:
        return False


def check_version(path: Path) -> int:
    """Return the schema version; refuse what is not ours or newer, before anything is written."""
    # Where there is no WAL nobody has it open, and it can be read without leaving one behind.
    is_closed = not path.with_name(path.name + "-wal").exists()
    opened = _connect(path, "ro&immutable=1", _Frozen) if is_closed else connect_reader(path)
    with closing(opened) as connection:
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (n_tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application not in (0, APPLICATION_ID) or (application == 0 and n_tables):
        raise LibraryError(
            f"{path}: this is a database of another program; choose another folder with --library."
        )
    if version > SCHEMA_VERSION:
        raise LibraryNewer(
            f"{path}: written by a newer docqa (schema {version}, this one knows "
            f"{SCHEMA_VERSION}); nothing was changed. Upgrade docqa, or use another --library."
        )
    return int(version)


def _create(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA page_size = 8192")
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    connection.execute("PRAGMA journal_mode = WAL")
    migrate(connection)


def _begin(connection: sqlite3.Connection, deadline: float) -> None:
    while True:
        try:
            connection.execute("BEGIN IMMEDIATE")
            return
        except sqlite3.OperationalError as error:
            is_busy = (error.sqlite_errorname or "").startswith("SQLITE_BUSY")
            if not is_busy or time.monotonic() >= deadline:
                raise
