"""Logs that grow and rotate: every line that is on disk is in the library exactly once."""

from __future__ import annotations

import gzip
import os
import random
import shutil
from collections import Counter
from pathlib import Path

import pytest

from docqa import append as append_module
from docqa.check import check
from docqa.config import Config
from docqa.feed import WordFeed
from docqa.ingest import SyncOptions
from docqa.library import WorkerReader
from docqa.types import Scope, State
from tests.docqa.librarian import LetterEmbedder, open_store, run_sync


@pytest.fixture
def store(tmp_path):
    with open_store(tmp_path) as opened:
        yield opened


@pytest.fixture(scope="module")
def reader():
    made = WorkerReader(Config(), None, lambda: ("", 256))
    yield made
    made.close()


class Counting:
    """A reader that says how often it read a file from its beginning."""

    def __init__(self, reader):
        self._reader = reader
        self.anew: list[str] = []
        self.on: list[str] = []

    def __getattr__(self, name):
        return getattr(self._reader, name)

    def read(self, path, **options):
        self.anew.append(path.name)
        return self._reader.read(path, **options)

    def read_on(self, path, tail, **options):
        self.on.append(path.name)
        return self._reader.read_on(path, tail, **options)


class Logger:
    """Writes numbered lines."""

    def __init__(self, path):
        self.path = path
        self.n = 0

    def write(self, n=1, end="\n"):
        with self.path.open("a") as file:
            for _ in range(n):
                self.n += 1
                level = "ERROR" if self.n % 7 == 0 else "INFO"
                time = f"2024-06-01 {self.n // 3600:02d}:{self.n // 60 % 60:02d}:{self.n % 60:02d}"
                file.write(f"{time} {level} line number N{self.n:06d} of the log" + end)


def lines_of(store):
    found = Counter()
    for chunk in store.iter_chunks():
        found.update(line for line in chunk.text.split("\n") if line.strip())
    return found


def lines_on_disk(folder):
    found = Counter()
    for path in folder.iterdir():
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        found.update(line for line in data.decode().split("\n") if line.strip())
    return found


def words_found(store, query):
    feed = WordFeed(store)
    index = feed.index()
    n_chunks = index.count()
    hits = index.search(query, 50, Scope())
    chunks = store.chunks([hit.chunk_id for hit in hits])
    feed.close()
    assert n_chunks == store.count_chunks()
    return [chunk.text for chunk in chunks if query in chunk.text]


def is_sound(store):
    assert check(store.paths) == []
    return True


def test_a_log_that_grows_is_read_on(store, tmp_path, reader):
    folder = tmp_path / "logs"
    folder.mkdir()
    log, counting = Logger(folder / "app.log"), Counting(reader)
    log.write(300)
    run_sync(store, [folder], counting, LetterEmbedder())
    (before,) = store.documents()
    first_ids = [chunk.chunk_id for chunk in store.iter_chunks()]
    for _ in range(5):
        log.write(20)
        report = run_sync(store, [folder], counting, LetterEmbedder())["app.log"]
        assert report.state is State.INDEXED and report.n_lines == log.n and not report.error
    assert counting.anew == ["app.log"] and counting.on == ["app.log"] * 5
    (after,) = store.documents()
    assert after.doc_id == before.doc_id and after.n_lines == 400
    kept = [chunk.chunk_id for chunk in store.iter_chunks()]
    assert kept[: len(first_ids) - 1] == first_ids[:-1]
    assert set(lines_of(store).values()) == {1} and len(lines_of(store)) == 400
    assert len(words_found(store, "N000399")) == 1 and store.vectors.n_pending() == 0
    assert is_sound(store)
    reports = run_sync(store, [folder], counting)
    assert reports["app.log"].state is State.UNCHANGED and len(counting.on) <= 6


def test_a_passage_that_stays_keeps_its_vector(store, tmp_path, reader):
    folder = tmp_path / "logs"
    folder.mkdir()
    log, embedder = Logger(folder / "app.log"), LetterEmbedder()
    log.write(700)
    run_sync(store, [folder], reader, embedder)
    n = len(embedder.embedded)
    log.write(3)
    run_sync(store, [folder], reader, embedder)
    assert len(embedder.embedded) <= n + 1


def test_an_index_made_anew_holds_every_chunk_once(store, tmp_path, reader, monkeypatch):
    monkeypatch.setattr(append_module, "KEPT_CHANGES", 3)
    folder = tmp_path / "logs"
    folder.mkdir()
    log = Logger(folder / "app.log")
    log.write(100)
    run_sync(store, [folder], reader)
    late = WordFeed(store)
    late.follow(is_last=True)
    for i in range(20):
        log.write(30)
        run_sync(store, [folder], reader)
        if i == 11:
            late.follow(is_last=True)
    assert len(store.changes(0)) <= 8
    late.rebuild()
    late.close()
    assert len(words_found(store, "N000500")) == 1
    assert is_sound(store)


@pytest.mark.parametrize("is_seen_between", [False, True])
def test_rotation_by_rename(store, tmp_path, reader, is_seen_between):
    folder = tmp_path / "logs"
    folder.mkdir()
    log, counting = Logger(folder / "app.log"), Counting(reader)
    log.write(200)
    run_sync(store, [folder], counting)
    ids = {}
    for turn in range(3):
        log.write(15)  # not seen before the rotation
        for i in (2, 1):
            if (folder / f"app.log.{i}").exists():
                (folder / f"app.log.{i}").replace(folder / f"app.log.{i + 1}")
        (folder / "app.log").replace(folder / "app.log.1")
        if is_seen_between:
            run_sync(store, [folder], counting)
        log.write(50)
        run_sync(store, [folder], counting)
        assert lines_of(store) == lines_on_disk(folder)
        assert set(lines_of(store).values()) == {1} and is_sound(store)
        found = {Path(d.path).name: d.doc_id for d in store.documents()}
        if turn:
            assert found[f"app.log.{turn + 1}"] == ids[f"app.log.{turn}"]
        ids = found
    assert counting.anew == ["app.log"] * 4
    assert len(words_found(store, "N000210")) == 1


def test_rotation_by_copy_and_truncate(store, tmp_path, reader):
    folder = tmp_path / "logs"
    folder.mkdir()
    log, counting = Logger(folder / "app.log"), Counting(reader)
    log.write(200)
    run_sync(store, [folder], counting)
    doc_id = store.document(folder / "app.log").doc_id
    log.write(10)
    shutil.copy(folder / "app.log", folder / "app.log.1")
    os.truncate(folder / "app.log", 0)
    log.write(300)  # beyond the old length
    run_sync(store, [folder], counting)
    assert lines_of(store) == lines_on_disk(folder) and len(lines_of(store)) == 510
    assert set(lines_of(store).values()) == {1} and is_sound(store)
    assert store.document(folder / "app.log.1").doc_id == doc_id
    assert counting.anew == ["app.log"] * 2
    assert len(words_found(store, "N000205")) == 1


def test_rotation_by_delete_and_create(store, tmp_path, reader):
    folder = tmp_path / "logs"
    folder.mkdir()
    log = Logger(folder / "app.log")
    log.write(200)
    run_sync(store, [folder], reader)
    (folder / "app.log").unlink()
    log.write(400)  # maybe the same inode, and longer
    report = run_sync(store, [folder], reader)["app.log"]
    assert lines_of(store) == lines_on_disk(folder) and set(lines_of(store).values()) == {1}
    assert any("written anew" in warning for warning in report.warnings)
    assert words_found(store, "N000100") == [] and is_sound(store)


def test_rotation_with_compression(store, tmp_path, reader):
    folder = tmp_path / "logs"
    folder.mkdir()
    log = Logger(folder / "app.log")
    log.write(200)
    run_sync(store, [folder], reader)
    log.write(10)
    (folder / "app.log").replace(folder / "app.log.1")
    log.write(30)
    run_sync(store, [folder], reader)
    (folder / "app.log.1.gz").write_bytes(gzip.compress((folder / "app.log.1").read_bytes()))
    (folder / "app.log.1").unlink()
    log.write(5)
    run_sync(store, [folder], reader)
    assert lines_of(store) == lines_on_disk(folder) and len(lines_of(store)) == 245
    assert set(lines_of(store).values()) == {1} and is_sound(store)


def test_truncation_is_noticed(store, tmp_path, reader):
    folder = tmp_path / "logs"
    folder.mkdir()
    log = Logger(folder / "app.log")
    log.write(200)
    run_sync(store, [folder], reader)
    os.truncate(log.path, 0)
    log.write(3)
    report = run_sync(store, [folder], reader)["app.log"]
    assert report.n_lines == 3 and any("was cut" in warning for warning in report.warnings)
    assert lines_of(store) == lines_on_disk(folder) and is_sound(store)


def test_a_log_that_moves_to_another_folder_keeps_its_document(store, tmp_path, reader):
    folder = tmp_path / "logs"
    (folder / "old").mkdir(parents=True)
    log, counting = Logger(folder / "app.log"), Counting(reader)
    log.write(100)
    run_sync(store, [folder], counting)
    doc_id = store.document(folder / "app.log").doc_id
    log.write(100)
    (folder / "app.log").replace(folder / "old" / "app-20240601.log")
    run_sync(store, [folder], counting)
    assert store.document(folder / "old" / "app-20240601.log").doc_id == doc_id
    assert len(lines_of(store)) == 200 and counting.anew == ["app.log"] and is_sound(store)


class Writing:
    """Settling of a watcher while a log is being written."""

    def is_ready(self, found):
        return True

    def is_at_rest(self, path):
        return False


def test_a_partial_line_is_kept_back_and_comes_when_it_is_whole(store, tmp_path, reader):
    folder = tmp_path / "logs"
    folder.mkdir()
    log, writing = Logger(folder / "app.log"), SyncOptions(settling=Writing())
    log.write(2)
    log.write(1, end="")
    run_sync(store, [folder], reader, options=writing)
    assert len(lines_of(store)) == 2
    run_sync(store, [folder], reader, options=writing)
    assert len(lines_of(store)) == 2
    with log.path.open("a") as file:
        file.write(" and its end\n")
    run_sync(store, [folder], reader, options=writing)
    assert [n for line, n in lines_of(store).items() if line.endswith("and its end")] == [1]
    assert lines_of(store) == lines_on_disk(folder)
    log.write(1, end="")
    run_sync(store, [folder], reader)  # not watched: everything is taken, and replaced later
    assert lines_of(store) == lines_on_disk(folder)
    with log.path.open("a") as file:
        file.write(" late end\n")
    run_sync(store, [folder], reader)
    assert lines_of(store) == lines_on_disk(folder) and is_sound(store)


def shift_names(folder):
    """Give every rotated file the next number, the highest first."""
    found = {}
    for path in folder.iterdir():
        number = path.name.removeprefix("app.log.").removesuffix(".gz")
        if number.isdigit():
            found[int(number)] = path
    for number, path in sorted(found.items(), reverse=True):
        tail = ".gz" if path.suffix == ".gz" else ""
        path.replace(folder / f"app.log.{number + 1}{tail}")


def test_what_was_kept_back_is_looked_at_again_though_the_file_is_old(store, tmp_path, reader):
    folder = tmp_path / "logs"
    folder.mkdir()
    log, writing = Logger(folder / "app.log"), SyncOptions(settling=Writing())
    n_whole = 0
    for _ in ("read anew", "read on"):
        log.write(2)
        log.write(1, end="")
        os.utime(log.path, (1e9 + log.n, 1e9 + log.n))
        run_sync(store, [folder], reader, options=writing)
        assert len(lines_of(store)) == n_whole + 2
        run_sync(store, [folder], reader)
        assert lines_of(store) == lines_on_disk(folder) and len(lines_of(store)) == n_whole + 3
        with log.path.open("a") as file:
            file.write("\n")
        run_sync(store, [folder], reader)
        n_whole += 3


@pytest.mark.parametrize("seed", range(3))
def test_any_sequence_of_growth_and_rotation(store, tmp_path, reader, seed):
    rng = random.Random(seed)
    folder = tmp_path / "logs"
    folder.mkdir()
    log = Logger(folder / "app.log")
    embedder = LetterEmbedder()

    def shift():
        shift_names(folder)

    def rename():
        shift()
        log.path.replace(folder / "app.log.1")

    def copy_and_truncate():
        shift()
        shutil.copy2(log.path, folder / "app.log.1")
        os.truncate(log.path, 0)

    def compress():
        for path in sorted(folder.iterdir(), reverse=True):
            if path.suffix != ".gz" and path != log.path:
                path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
                path.unlink()
                return

    def delete():
        log.path.unlink()

    for _ in range(25):
        log.write(rng.choice([1, 1, 5, 60]))
        rng.choice([rename, copy_and_truncate, compress, delete] + [lambda: None] * 4)()
        if rng.random() < 0.7:
            run_sync(store, [folder], reader, embedder)
            present = Counter({line: n for line, n in lines_on_disk(folder).items()})
            assert lines_of(store) == present and set(present.values()) <= {1}
    log.write(1)
    run_sync(store, [folder], reader, embedder)
    assert lines_of(store) == lines_on_disk(folder)
    assert store.vectors.n_pending() == 0 and is_sound(store)
    assert len(words_found(store, f"N{log.n:06d}")) == 1
