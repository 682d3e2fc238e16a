"""A real workspace with small stand-ins for the models, and an app over it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from docqa.config import Config, LibraryConfig
from docqa.library import Library
from docqa.paths import LibraryPaths
from docqa.workspace import Workspace
from models.embedder import packaged_folder
from tests.fakes import HashEmbedder, OverlapReranker, ScriptedEngine
from tui.app import DocqaApp

MANUAL = """# Pump manual

## Maintenance

The casing bolts are tightened to 38 Nm. The seal is replaced every 4000 hours.

## Storage

Store the pump dry at 5 to 35 degrees.
"""
LOG = "".join(
    f"2026-03-11T14:{i // 60:02}:{i % 60:02}Z {'ERROR' if i % 100 == 50 else 'INFO'} step {i}\n"
    for i in range(600)
)


class Stage:
    """What a test sets up: files, a library, the model's replies, and the app."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.engine = ScriptedEngine(["The casing bolts are tightened to 38 Nm [1]."])
        self.open_engine = lambda: self.engine
        self.workspace = self.opened()

    def opened(self) -> Workspace:
        config = Config(library=LibraryConfig(self.folder / "library"))
        library = Library(
            LibraryPaths(config.library.dir),
            config,
            open_embedder=lambda: HashEmbedder(),
            tokenizer_file=lambda: packaged_folder() / "tokenizer.json",
        )
        return Workspace(
            library,
            config,
            open_engine=lambda: self.open_engine(),
            open_reranker=lambda: OverlapReranker(),
        )

    def write(self, name: str, text: str) -> Path:
        path = self.folder / "docs" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def index(self, *paths: Path) -> None:
        for _ in self.workspace.sync(paths):
            pass

    def app(self, *paths: Path) -> DocqaApp:
        return DocqaApp(self.workspace, paths)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    made = Stage(tmp_path)
    yield made
    made.workspace.close()


@pytest.fixture
def filled(stage: Stage) -> Stage:
    """A library of a manual and a log."""
    stage.index(stage.write("manual.md", MANUAL), stage.write("service.log", LOG))
    return stage


class GatedEngine(ScriptedEngine):
    """Waits before it answers, until the test opens the gate or the question is cancelled."""

    def __init__(self, reply: str) -> None:
        super().__init__([reply])
        self.gate = threading.Event()
        self.was_cancelled = threading.Event()
        self.has_begun = threading.Event()

    def generate(self, tokens, *, max_tokens, sampling=None, stop=(), cancel=None, may_shift=False):
        self.has_begun.set()
        while not self.gate.wait(0.01):
            if cancel is not None and cancel.is_set():
                self.was_cancelled.set()
                return
        yield from super().generate(tokens, max_tokens=max_tokens, stop=stop, cancel=cancel)
