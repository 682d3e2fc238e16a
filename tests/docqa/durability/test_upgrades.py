"""A library of every released schema is brought up whole; one of a newer docqa is left alone."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from docqa.check import check
from docqa.errors import LibraryNewer
from docqa.migrations import SCHEMA_VERSION
from docqa.types import State
from tests.docqa.durability import schemas, small
from tests.docqa.librarian import open_store

RELEASED = sorted(schemas.FOLDER.glob("*.sql"), key=lambda file: int(file.stem))


@pytest.fixture(autouse=True)
def in_process(monkeypatch):
    monkeypatch.setattr("docqa.library.WorkerReader", small.InProcess)


def old_library(folder, file):
    database = small.paths_of(folder).database
    database.parent.mkdir()
    with closing(sqlite3.connect(database)) as connection:
        connection.executescript(file.read_text())
    return database


@pytest.mark.parametrize("file", RELEASED, ids=lambda file: file.stem)
def test_a_released_schema_is_not_edited(file):
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(file.read_text())
        frozen = [sql for (sql,) in connection.execute(schemas.DDL)]
    assert frozen == schemas.ddl_of(int(file.stem))


@pytest.mark.parametrize("file", RELEASED, ids=lambda file: file.stem)
def test_every_released_schema_is_brought_up(tmp_path, file):
    database = old_library(tmp_path, file)
    with small.open_library(tmp_path) as library:
        assert {d.path: d.state for d in library.store.documents()} == {
            "/docs/report.txt": State.INDEXED,
            "/docs/service.log": State.INDEXED,
        }
        small.is_searchable(library)
        assert library.dense.count() == library.store.vectors.count() > 0
        report = library.store.document("/docs/report.txt")
        assert "44 litres" in library.store.text(report.doc_id)
    small.answers(tmp_path)
    assert check(small.paths_of(tmp_path)) == []
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)


def test_there_is_a_library_of_each_schema_before_this_one():
    assert [int(file.stem) for file in RELEASED][: SCHEMA_VERSION - 1] == list(
        range(1, SCHEMA_VERSION)
    )


def test_a_newer_library_is_left_as_it_is_in_every_byte(tmp_path):
    with open_store(tmp_path):
        pass
    with closing(sqlite3.connect(small.paths_of(tmp_path).database)) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    root = small.paths_of(tmp_path).root
    before = {file.name: file.read_bytes() for file in root.iterdir() if file.is_file()}
    for use in (open_store, small.open_library, lambda folder: check(small.paths_of(folder))):
        with pytest.raises(LibraryNewer, match="nothing was changed"):
            use(tmp_path)
    assert {file.name: file.read_bytes() for file in root.iterdir() if file.is_file()} == before
