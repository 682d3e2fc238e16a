"""Makers for tests of the store and of ingest: stamps, chunks, a reader and an embedder."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from docqa.embedding import Embedding
from docqa.errors import UnreadableFile
from docqa.feed import WordFeed
from docqa.ingest import DEFAULT_OPTIONS, Ingest, SyncOptions, sync
from docqa.intake import Intake
from docqa.paths import LibraryPaths
from docqa.records import FileStamp
from docqa.store import Store
from docqa.types import (
    BlockKind,
    Chunk,
    ChunkItem,
    DocumentInfo,
    FileReport,
    Kind,
    Locator,
    PageInfo,
    PageState,
    Span,
    State,
)

LONG_AGO_NS = 1_000_000_000_000_000_000
DIM = 8


def open_store(folder: Path) -> Store:
    return Store(LibraryPaths(folder / "library"))


def stamp_at(path: str, content: bytes = b"content") -> FileStamp:
    digest = hashlib.sha256(content).digest()
    return FileStamp(path, len(content), LONG_AGO_NS, 11, 22, LONG_AGO_NS * 2, digest)


def log_chunks(n: int, prefix: str = "line") -> list[Chunk]:
    """Return `n` chunks of two lines each; every third is an error; five templates in all."""
    chunks, position = [], 0
    for i in range(n):
        text = f"{prefix} {2 * i}\n{prefix} {2 * i + 1}"
        level = "ERROR" if i % 3 == 0 else "INFO"
        chunks.append(
            Chunk(
                chunk_id=0,
                span=Span(0, position, position + len(text), Locator("line", 2 * i + 1, 2 * i + 2)),
                ordinal=i,
                text=text,
                embed_text=f"{level} {prefix} template {i % 5}",
                kind=BlockKind.RECORD,
                n_tokens=4,
                time_first=float(i),
                time_last=float(i) + 0.5,
                levels=(level,),
            )
        )
        position += len(text) + 1
    return chunks


def put(
    store: Store, path: str, chunks: Sequence[Chunk], content: bytes = b"content", **info: object
) -> int:
    """Publish a document."""
    with store.lock.held(5), Intake(store, stamp_at(path, content), "1") as intake:
        for chunk in chunks:
            intake.add(chunk)
        return intake.publish(
            DocumentInfo(Kind.LOG, Path(path).name, n_lines=2 * len(chunks)), State.INDEXED
        )


class LineReader:
    """Reads a text file as the worker would: a chunk a line, a page every ten lines.

    A line `DIE` kills the "worker", `BAD` is an unreadable page, `WAIT` calls `on_wait`.
    """

    def __init__(self, on_wait: Callable[[Path], None] = lambda path: None) -> None:
        self.pid: int | None = 1
        self.read_paths: list[str] = []
        self.on_wait = on_wait
        self.works = True

    def is_well(self) -> bool:
        return self.works

    def read(self, path: Path, *, whole_lines: bool = False) -> Iterator[ChunkItem]:
        self.pid = 1
        self.read_paths.append(str(path))
        text = path.read_text(errors="replace")
        lines = text.split("\n")
        position, ordinal = 0, 0
        for number, line in enumerate(lines, 1):
            if line == "DIE":
                self.pid = None
                raise UnreadableFile(path, "crashed the parser (SIGSEGV)")
            if line == "BROKEN":
                raise UnreadableFile(path, "is broken")
            if line == "WAIT":
                self.on_wait(path)
            if line == "BAD":
                yield PageInfo(number, PageState.UNREAD, 0, reason="no OCR engine")
            elif line:
                span = Span(0, position, position + len(line), Locator("line", number, number))
                yield Chunk(0, span, ordinal, line, line, BlockKind.PARAGRAPH)
                ordinal += 1
            position += len(line) + 1
        kind = Kind.LOG if path.suffix == ".log" else Kind.TEXT
        yield DocumentInfo(kind, path.name, n_lines=len(lines))


class LetterEmbedder:
    """Vectors of letter counts."""

    name = "letters"
    dim = DIM
    max_tokens = 256

    def __init__(self) -> None:
        self.embedded: list[str] = []

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return [len(text.split()) for text in texts]

    def embed_documents(self, texts: Sequence[str], is_cancelled=None) -> np.ndarray:
        self.embedded.extend(texts)
        return np.stack([self.embed_query(text) for text in texts])

    def embed_query(self, text: str) -> np.ndarray:
        vector = np.ones(DIM, dtype=np.float32)
        for letter in text:
            vector[ord(letter) % DIM] += 1
        return vector / np.linalg.norm(vector)


def run_sync(
    store: Store,
    paths: Sequence[str | Path],
    reader: LineReader | None = None,
    embedder: LetterEmbedder | None = None,
    options: SyncOptions = DEFAULT_OPTIONS,
) -> dict[str, FileReport]:
    """Run a sync to its end; return name → report."""
    events = list(sync_events(store, paths, reader, embedder, options))
    return {Path(report.path).name: report for report in events[-1].reports}


def sync_events(
    store: Store,
    paths: Sequence[str | Path],
    reader: LineReader | None = None,
    embedder: LetterEmbedder | None = None,
    options: SyncOptions = DEFAULT_OPTIONS,
    cancel: threading.Event | None = None,
) -> Iterator:
    words = WordFeed(store)
    embedding = Embedding(store, lambda: embedder) if embedder else None
    parts = Ingest(store, reader or LineReader(), words, embedding, cancel or threading.Event())
    try:
        yield from sync(parts, paths, options)
    finally:
        if embedding:
            embedding.stop()
        words.close()


def write(path: Path, text: str, age_s: float = 100.0) -> Path:
    """Write a file that was last changed `age_s` ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    then = path.stat().st_mtime - age_s
    os.utime(path, (then, then))
    return path
