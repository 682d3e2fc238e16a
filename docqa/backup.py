"""`docqa backup` and `docqa restore`: one file that holds all that cannot be made again.

A backup is the database: documents with their text, vectors, sessions, settings, watched folders.
The indexes and saved KV are derived from it and are left out. It is one state of the library,
however many programs read and write meanwhile, and a plain SQLite file without a journal beside it.
The files that were indexed are not in it.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import uuid
from contextlib import closing, suppress
from pathlib import Path

from docqa.database import check_version, connect_reader, explained
from docqa.errors import LibraryBusy, LibraryCorrupt, LibraryError
from docqa.index.files import sync_folder
from docqa.ingest import LOCK_TIMEOUT_S
from docqa.lock import WriteLock
from docqa.migrations import LIVE, migrate
from docqa.paths import LibraryPaths

STEP_PAGES = 4_096  # copied at a time: Ctrl-C is heard in between


def back_up(paths: LibraryPaths, file: Path, *, is_replaced: bool = False) -> int:
    """Copy the library to `file`, whole or not at all; return its number of documents.

    Others may go on reading and writing: what is committed when the copy begins is in it.

    Raises:
        LibraryError: there is no library, it is damaged, `file` is there already and not to be
            replaced, or cannot be written. The library is not changed.
    """
    if not paths.database.exists():
        raise LibraryError(f"{paths.root}: there is no library yet; nothing to back up.")
    if file.exists() and not is_replaced:
        raise LibraryError(f"{file}: is there already; choose another name, or say --force.")
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))
        with explained(paths.database), closing(connect_reader(paths.database)) as source:
            source.execute("BEGIN")
            source.execute("SELECT 1 FROM sqlite_master").fetchone()  # the state that is copied
            n_documents = _n_documents(source)
            _copy(source, temporary, file)
        _make_durable(temporary, file)
    except OSError as error:
        raise _unwritable(file, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    return n_documents


def restore(paths: LibraryPaths, file: Path, *, is_replaced: bool = False) -> int:
    """Put the backup `file` in place of the library; return its number of documents.

    The indexes are made anew when they are next needed. A damaged database is kept beside the new
    one under another name. Until the last step the library is what it was.

    Raises:
        LibraryNewer, LibraryCorrupt, LibraryError: `file` is no backup that this docqa can read.
        LibraryBusy: another program has the library open.
        LibraryError: the library holds documents and is not to be replaced, or cannot be written.
    """
    _check(file)
    temporary = paths.root / f".restored.{os.getpid()}.tmp"
    try:
        paths.root.mkdir(parents=True, exist_ok=True)
        with WriteLock(paths.lock).held(LOCK_TIMEOUT_S):
            n_documents = _prepare(file, temporary)
            if paths.database.exists():
                _make_way(paths, is_replaced=is_replaced)
            else:
                _drop_remains(paths)
            _drop_derived(paths)
            _make_durable(temporary, paths.database)
    except OSError as error:
        raise _unwritable(paths.root, error) from error
    finally:
        for ending in ("", "-journal", "-wal", "-shm"):
            with suppress(OSError):
                temporary.with_name(temporary.name + ending).unlink(missing_ok=True)
    return n_documents


def _copy(source: sqlite3.Connection, temporary: Path, file: Path) -> None:
    """Copy what `source` sees into a file that stands alone, and check it."""
    try:
        with closing(sqlite3.connect(temporary, isolation_level=None)) as target:
            source.backup(target, pages=STEP_PAGES)
            target.execute("PRAGMA journal_mode = DELETE")
            (verdict,) = target.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.OperationalError as error:
        raise _unwritable(file, error) from error
    if verdict != "ok":
        raise LibraryCorrupt(
            f"The library is damaged ({verdict}), so no backup was made; `docqa check` says more."
        )


def _check(file: Path) -> None:
    """Refuse what is no backup, or one of a newer docqa, before anything is changed."""
    if not file.is_file():
        raise LibraryError(f"{file}: there is no such backup.")
    with explained(file):
        check_version(file)
    with explained(file), closing(connect_reader(file)) as connection:
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        verdict = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
    if not application:
        raise LibraryError(f"{file}: is no backup of a library; nothing was changed.")
    if verdict != "ok":
        raise LibraryCorrupt(f"{file}: this backup is damaged ({verdict}); nothing was changed.")


def _prepare(file: Path, temporary: Path) -> int:
    """Copy the backup beside the library, bring it up to date, and give it an identity of its own.

    With another identity no index of the former library is taken for one of this.
    """
    shutil.copyfile(file, temporary)
    temporary.chmod(0o600)
    with explained(temporary), closing(sqlite3.connect(temporary, isolation_level=None)) as made:
        migrate(made)
        made.execute("UPDATE settings SET value = ? WHERE key = 'library_id'", (uuid.uuid4().hex,))
        made.execute("DELETE FROM kv_files")
        n_documents = _n_documents(made)
    with explained(temporary), closing(sqlite3.connect(temporary, isolation_level=None)) as made:
        # The header only: the WAL itself is begun by whoever opens the library.
        made.execute("PRAGMA journal_mode = WAL")
        made.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return n_documents


def _make_way(paths: LibraryPaths, *, is_replaced: bool) -> None:
    """See that nobody uses the database that is there; move a damaged one aside."""
    try:
        with closing(sqlite3.connect(paths.database, timeout=1.0, isolation_level=None)) as there:
            n_documents = _n_documents(there)
            if n_documents and not is_replaced:
                raise LibraryError(
                    f"{paths.root}: the library holds {n_documents} documents; say --force to "
                    "put the backup in their place, or choose another folder with --library."
                )
            # Possible only for the one who has it open; empties and removes the WAL.
            there.execute("PRAGMA journal_mode = DELETE").fetchone()
    except sqlite3.DatabaseError as error:
        if (error.sqlite_errorname or "").startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            raise LibraryBusy(
                f"{paths.root}: another docqa has this library open; close the terminal UI, stop "
                "`docqa watch`, and repeat."
            ) from error
        aside = paths.database.with_name(f"{paths.database.name}.damaged-{uuid.uuid4().hex[:6]}")
        for ending in ("", "-wal", "-shm"):
            part = paths.database.with_name(paths.database.name + ending)
            if part.exists():
                part.replace(aside.with_name(aside.name + ending))


def _drop_remains(paths: LibraryPaths) -> None:
    """Delete a WAL whose database is gone: it would be taken for that of the next one."""
    for ending in ("-wal", "-shm"):
        paths.database.with_name(paths.database.name + ending).unlink(missing_ok=True)


def _drop_derived(paths: LibraryPaths) -> None:
    for folder in (paths.lexical, paths.dense, paths.kv):
        shutil.rmtree(folder, ignore_errors=True)


def _make_durable(temporary: Path, file: Path) -> None:
    handle = os.open(temporary, os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
    temporary.replace(file)
    sync_folder(file.parent)


def _n_documents(connection: sqlite3.Connection) -> int:
    (n,) = connection.execute(f"SELECT count(*) FROM documents WHERE life = {LIVE}").fetchone()
    return int(n)


def _unwritable(file: Path, error: Exception) -> LibraryError:
    reason = getattr(error, "strerror", None) or error
    return LibraryError(
        f"{file}: cannot be written ({reason}); the library is as it was. Free some space or "
        "choose another place, and repeat."
    )
