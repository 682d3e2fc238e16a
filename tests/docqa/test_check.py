"""`check` finds each kind of damage that is done here, and nothing in a healthy library."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest

from docqa.check import check, repair
from docqa.feed import WordFeed
from docqa.index.dense import FILE, DenseIndex, VectorIndex
from docqa.index.files import META
from docqa.index.lexical import LexicalIndex
from docqa.intake import Intake
from docqa.paths import LibraryPaths
from docqa.records import tail_blob
from tests.docqa.durability import small
from tests.docqa.librarian import log_chunks, open_store, put, run_sync, stamp_at, write


@pytest.fixture
def paths(tmp_path):
    with open_store(tmp_path) as store:
        put(store, "/a.log", log_chunks(20))
        put(store, "/b.log", log_chunks(5, "b"))
        store.vectors.use_embedder("e", 4)
        feed = WordFeed(store)
        feed.follow(is_last=True)
        feed.close()
        return store.paths


def damage(paths, *statements):
    with closing(sqlite3.connect(paths.database)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def test_a_healthy_library_has_no_findings(paths, tmp_path):
    assert check(paths) == []
    assert check(LibraryPaths(tmp_path / "none")) == []


def test_what_a_killed_writer_left_is_no_finding(paths, tmp_path, monkeypatch):
    monkeypatch.setattr("docqa.intake.STAGE_CHUNKS", 3)
    with open_store(tmp_path) as store:
        intake = Intake(store, stamp_at("/c.log"), "1")  # never left: as if it was killed
        for chunk in log_chunks(10, "c"):
            intake.add(chunk)
    assert check(paths) == []


def test_a_word_index_whose_maker_was_killed_is_no_finding(paths, tmp_path, monkeypatch):
    def killed(self, seq=None):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(LexicalIndex, "commit", killed)
        LexicalIndex.create(paths.lexical, "library")
    assert (paths.lexical / META).is_file()
    assert check(paths) == []
    with open_store(tmp_path) as store:
        feed = WordFeed(store)
        feed.follow(is_last=True)
        assert feed.index().count() == 25
        feed.close()


@pytest.mark.parametrize(
    ("statement", "subject", "problem"),
    [
        ("DELETE FROM texts WHERE chunk_id = 3", "/a.log", "19 with text"),
        ("UPDATE documents SET n_chunks = 6 WHERE doc_id = 2", "/b.log", "6 chunks said, 5 held"),
        ("UPDATE chunks SET start = 0 WHERE chunk_id = 4", "/a.log", "chunk 3 overlaps"),
        ('UPDATE chunks SET "end" = "end" + 1 WHERE chunk_id = 20', "/a.log", "characters"),
        ("UPDATE texts SET text = x'00' WHERE chunk_id = 2", "/a.log", "is damaged"),
        ("DELETE FROM changes WHERE doc_id = 1", "/a.log", "0 times in the change log"),
        ("UPDATE chunks SET passage_id = 999 WHERE chunk_id = 1", "database", "missing passages"),
        ("UPDATE passages SET hash = x'77' WHERE passage_id = 1", "database", "1 passages are not"),
        (
            "INSERT INTO vectors (embedder_id, passage_id, vector) "
            "VALUES (1, 1, x'007c0000007c0000')",
            "database",
            "1 vectors hold something that is no number",
        ),
        (
            "INSERT INTO session_pins SELECT 1, 77, 1, NULL FROM (SELECT 1) WHERE "
            "(SELECT count(*) FROM sessions) = 0",
            "database",
            "1 rows of session_pins are of no document",
        ),
        (
            "INSERT INTO vectors (embedder_id, passage_id, vector) VALUES (1, 1, x'00')",
            "database",
            "1 vectors have a wrong length",
        ),
    ],
)
def test_damage_is_found(paths, statement, subject, problem):
    damage(paths, statement)
    findings = check(paths)
    assert any(f.subject == subject and problem in f.problem for f in findings), findings
    assert repair(paths) == findings  # only a backup helps: nothing is touched


def test_a_damaged_page_is_found(paths):
    damage(paths, "PRAGMA wal_checkpoint(TRUNCATE)")
    data = bytearray(paths.database.read_bytes())
    page = len(data) // 2 // 8192 * 8192
    data[page : page + 8192] = b"\xa5" * 8192
    paths.database.write_bytes(data)
    assert any(not finding.is_derived for finding in check(paths))


def test_orphans_and_a_wrong_word_index_are_repaired(paths, tmp_path):
    damage(paths, "INSERT INTO passages (hash, priority, text) VALUES (x'01', 0, x'00')")
    with open_store(tmp_path) as store:
        feed = WordFeed(store)
        index = feed.index()
        index.remove(1)
        index.commit()
        feed.close()
    assert [(f.subject, f.is_derived) for f in check(paths)] == [
        ("database", True),
        ("lexical", True),
    ]
    assert repair(paths) == []


def test_a_flipped_byte_in_the_word_index_is_found_and_repaired(paths):
    file = max(paths.lexical.glob("*.idx"), key=lambda f: f.stat().st_size)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    assert [finding.subject for finding in check(paths)] == ["lexical"]
    assert repair(paths) == []


def test_a_wrong_place_to_read_on_is_found_and_the_log_read_anew(tmp_path):
    path = write(tmp_path / "docs" / "app.log", small.log_lines(0, 90))
    with open_store(tmp_path) as store:
        run_sync(store, [tmp_path / "docs"], small.InProcess())
        (known,) = store.known_below(str(tmp_path))
        tail = known.tail
        assert tail is not None and check(store.paths) == []
        for wrong in (
            replace(tail, ordinal=tail.ordinal + 1),
            replace(tail, start_char=tail.start_char - 1),
            replace(tail, line=1),
            replace(tail, start_byte=tail.start_byte - 3),
            replace(tail, encoding="utf-99"),
            None,
        ):
            blob = tail_blob(wrong) if wrong else b"?"
            with store.db.write() as connection:
                connection.execute("UPDATE tails SET tail = ?", (blob,))
            (finding,) = check(store.paths)
            assert finding.subject == str(path) and finding.is_derived
            assert repair(store.paths) == []
            reports = run_sync(store, [tmp_path / "docs"], small.InProcess())
            assert reports["app.log"].state.value in ("indexed", "unchanged")
            assert store.known(str(path)).tail == tail
            assert [c.text for c in store.iter_chunks()] and check(store.paths) == []


def test_an_index_that_holds_another_vector_is_found(paths, tmp_path):
    with open_store(tmp_path) as store:
        ids = [p.passage_id for p in store.vectors.pending(99)[0]]
        store.vectors.add(ids, np.eye(4, dtype=np.float32)[[i % 4 for i in range(len(ids))]])
        index = DenseIndex(paths.dense, store.library_id(), store.vectors, lambda: None)
        index.refresh()
        index.close()
        assert check(paths) == []
        held, place = VectorIndex.read(paths.dense / FILE)
        other = VectorIndex(4)
        other.add(held.ids, np.roll(held.halves().astype(np.float32), 1, axis=1))
        other.write(paths.dense / FILE, place)
    (finding,) = check(paths)
    assert finding.problem == "its vectors are not those of the database"
    assert repair(paths) == []
