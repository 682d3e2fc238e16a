"""A backup is one state of a library in use; restoring gives it back, or changes nothing."""

from __future__ import annotations

import multiprocessing
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from docqa.backup import back_up, restore
from docqa.check import check
from docqa.cli import main
from docqa.errors import LibraryBusy, LibraryCorrupt, LibraryError, LibraryNewer
from docqa.migrations import SCHEMA_VERSION
from docqa.store import Store
from tests.docqa.durability import small
from tests.docqa.librarian import log_chunks, open_store, put, write


@pytest.fixture(autouse=True)
def in_process(monkeypatch):
    monkeypatch.setattr("docqa.library.WorkerReader", small.InProcess)


@pytest.fixture
def folder(tmp_path):
    small.prepare(tmp_path)
    return tmp_path


def state(folder):
    """Return path → (text, vectors) of a library."""
    with Store(small.paths_of(folder)) as store:
        return {d.path: (store.text(d.doc_id), store.vectors.count()) for d in store.documents()}


def test_what_was_saved_comes_back(folder, tmp_path):
    saved, file = state(folder), tmp_path / "saved.docqa"
    assert back_up(small.paths_of(folder), file) == len(saved) == 5
    assert file.stat().st_mode & 0o777 == 0o600
    with open_store(folder) as store:
        old_id = store.library_id()
    small.run_remove(folder, lambda report: None)
    assert state(folder) != saved
    with pytest.raises(LibraryError, match="holds 3 documents; say --force"):
        restore(small.paths_of(folder), file)
    assert restore(small.paths_of(folder), file, is_replaced=True) == 5
    assert state(folder) == saved
    assert check(small.paths_of(folder)) == []
    with open_store(folder) as store:
        assert store.library_id() != old_id  # no index of the former state is taken for its own
    small.answers(folder)
    small.verify(folder, [])


def test_into_a_new_folder_and_over_a_damaged_library(folder, tmp_path):
    saved, file = state(folder), tmp_path / "saved.docqa"
    back_up(small.paths_of(folder), file)
    elsewhere = tmp_path / "elsewhere"
    restore(small.paths_of(elsewhere), file)
    assert state(elsewhere) == saved
    database = small.paths_of(folder).database
    database.write_bytes(b"\0" * 8192 + database.read_bytes()[8192:])
    restore(small.paths_of(folder), file)
    assert state(folder) == saved
    assert len(list(database.parent.glob("library.sqlite.damaged-??????"))) == 1


def _write_on(folder: str, stop) -> None:
    with open_store(Path(folder)) as store:
        i = 0
        while not stop.is_set():
            put(store, f"/busy{i}.log", log_chunks(9, f"busy{i}"), content=b"%d" % i)
            i += 1


def test_while_another_process_writes(tmp_path):
    with open_store(tmp_path) as store:
        put(store, "/first.log", log_chunks(30))
        context = multiprocessing.get_context("spawn")
        stop = context.Event()
        writer = context.Process(target=_write_on, args=(str(tmp_path), stop))
        writer.start()
        try:
            while len(store.documents()) < 3:
                time.sleep(0.05)
            numbers = [back_up(store.paths, tmp_path / f"{i}.docqa") for i in range(3)]
        finally:
            stop.set()
            writer.join()
    assert numbers == sorted(numbers)
    for i, n in enumerate(numbers):
        elsewhere = tmp_path / f"restored{i}"
        assert restore(small.paths_of(elsewhere), tmp_path / f"{i}.docqa") == n
        assert check(small.paths_of(elsewhere)) == []
        with open_store(elsewhere) as restored:
            assert all(len(restored.text(d.doc_id)) > 50 for d in restored.documents())


def test_a_library_that_is_open_elsewhere_is_left_alone(folder, tmp_path):
    file = tmp_path / "saved.docqa"
    back_up(small.paths_of(folder), file)
    with open_store(folder) as store:
        store.documents()
        with pytest.raises(LibraryBusy, match="close the terminal UI"):
            restore(store.paths, file, is_replaced=True)
        assert len(store.documents()) == 5
        put(store, "/still.log", log_chunks(3))


def test_what_is_no_backup_changes_nothing(folder, tmp_path):
    saved, paths = state(folder), small.paths_of(folder)
    good = tmp_path / "good.docqa"
    back_up(paths, good)
    newer = tmp_path / "newer.docqa"
    newer.write_bytes(good.read_bytes())
    with closing(sqlite3.connect(newer)) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    torn = tmp_path / "torn.docqa"
    torn.write_bytes(good.read_bytes()[: good.stat().st_size // 2])
    other = write(tmp_path / "other.docqa", "no database " * 500)
    empty = write(tmp_path / "empty.docqa", "")
    for file, error in (
        (newer, LibraryNewer),
        (torn, LibraryCorrupt),
        (other, LibraryCorrupt),
        (empty, LibraryError),
        (tmp_path / "none.docqa", LibraryError),
    ):
        with pytest.raises(error):
            restore(paths, file, is_replaced=True)
    assert state(folder) == saved
    assert not [name for name in paths.root.iterdir() if name.name.endswith(".tmp")]


def test_a_backup_of_the_first_schema_is_brought_up(folder, tmp_path):
    small.first_schema(folder)
    file = tmp_path / "old.docqa"
    back_up(small.paths_of(folder), file)
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)
    elsewhere = tmp_path / "elsewhere"
    assert restore(small.paths_of(elsewhere), file) == 5
    assert check(small.paths_of(elsewhere)) == []


def test_a_file_that_cannot_be_written_is_said(folder, tmp_path):
    paths = small.paths_of(folder)
    with pytest.raises(LibraryError, match=r"cannot be written .*; the library is as it was"):
        back_up(paths, tmp_path / "no" / "folder" / "saved.docqa")
    there = write(tmp_path / "there.docqa", "mine")
    with pytest.raises(LibraryError, match="is there already"):
        back_up(paths, there)
    assert there.read_text() == "mine"
    with pytest.raises(LibraryError, match="no library yet"):
        back_up(small.paths_of(tmp_path / "none"), there)
    assert back_up(paths, there, is_replaced=True) == 5


def test_the_commands(folder, tmp_path, capsys):
    file, library = str(tmp_path / "saved.docqa"), str(folder / "library")
    assert main(["backup", file, "--library", library]) == 0
    assert "5 documents saved to" in capsys.readouterr().err
    assert main(["restore", file, "--library", library]) == 4
    assert "say --force" in capsys.readouterr().err
    assert main(["restore", file, "--library", library, "--force"]) == 0
    assert main(["check", "--library", library]) == 0
    saved_kv = folder / "library" / "kv" / "session.kv"
    saved_kv.parent.mkdir(exist_ok=True)
    saved_kv.write_bytes(b"no KV at all" * 100)
    saved_kv.chmod(0o600)
    capsys.readouterr()
    assert main(["check", "--library", library]) == 4
    assert "saved KV: session.kv: is no saved KV of this version" in capsys.readouterr().out
    assert main(["check", "--repair", "--library", library]) == 0
    assert not saved_kv.exists()
