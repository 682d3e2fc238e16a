"""A real workspace with the real parse worker, and small stand-ins for the models."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from docqa.config import Config, LibraryConfig, ParseConfig
from docqa.events import SyncDone
from docqa.library import Library
from docqa.paths import LibraryPaths
from docqa.types import FileReport
from docqa.workspace import Workspace
from models.embedder import packaged_folder
from tests.fakes import HashEmbedder, OverlapReranker, ScriptedEngine

Open = Callable[..., Workspace]


@pytest.fixture
def open_workspace(tmp_path: Path) -> Iterator[Open]:
    """Return a function that opens the one library of the test."""
    opened: list[Workspace] = []

    def open_it(replies: Sequence[str] = ("",), **limits: object) -> Workspace:
        parse = ParseConfig(**{"ocr": "never", **limits})
        config = Config(library=LibraryConfig(tmp_path / "library"), parse=parse)
        library = Library(
            LibraryPaths(config.library.dir),
            config,
            open_embedder=HashEmbedder,
            tokenizer_file=lambda: packaged_folder() / "tokenizer.json",
        )
        engine, reranker = ScriptedEngine(replies), OverlapReranker()
        made = Workspace(
            library, config, open_engine=lambda: engine, open_reranker=lambda: reranker
        )
        opened.append(made)
        return made

    yield open_it
    for workspace in opened:
        workspace.close()


def synced(workspace: Workspace, *paths: Path) -> dict[str, FileReport]:
    """Bring the library up to date; return name → report."""
    reports: Sequence[FileReport] = ()
    for event in workspace.sync(paths):
        if isinstance(event, SyncDone):
            reports = event.reports
    return {Path(report.path).name: report for report in reports}


def found(workspace: Workspace, words: str) -> set[str]:
    """Return the names of the files in which a search finds passages that hold all the words."""
    hits = workspace.search(words, 50, is_reranked=False)
    wanted = words.lower().split()
    return {Path(h.path).name for h in hits if all(w in h.chunk.text.lower() for w in wanted)}
