"""Makers for tests of sessions: a workspace over fakes, and an engine whose KV is a file."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from docqa.config import AnswerConfig, Config, LibraryConfig, ModelConfig, SessionConfig
from docqa.events import Answered, Packed
from docqa.library import Library
from docqa.paths import LibraryPaths
from docqa.types import Answer, PackedPrompt
from docqa.workspace import AskOptions, Workspace
from models.embedder import packaged_folder
from models.kv_file import enforce_quota
from tests.fakes import HashEmbedder, OverlapReranker, ScriptedEngine

PUMP = """# Pump

## Torque

The casing bolts are tightened to 38 Nm in a cross pattern.

## Seal

The mechanical seal is replaced after 4000 hours of operation.

## Storage

The pump is stored dry at 5 to 35 degrees.
"""
MOTOR = """# Motor

## Bearings

The motor bearings are greased every 2500 hours.

## Winding

The winding resistance of the motor is 1.8 ohm at 20 degrees.
"""
QUESTIONS = (
    "What torque do the casing bolts need?",
    "When is the mechanical seal replaced?",
    "How is the pump stored?",
    "How often are the motor bearings greased?",
    "What is the winding resistance of the motor?",
    "In which pattern are the casing bolts tightened?",
    "After how many hours of operation is the seal replaced?",
    "At how many degrees is the pump stored dry?",
    "What is greased every 2500 hours?",
    "What is 1.8 ohm at 20 degrees?",
)
REPLIES = {
    "casing": "The casing bolts are tightened to 38 Nm in a cross pattern",
    "seal": "The mechanical seal is replaced after 4000 hours of operation",
    "stored": "The pump is stored dry at 5 to 35 degrees",
    "greased": "The motor bearings are greased every 2500 hours",
    "ohm": "The winding resistance of the motor is 1.8 ohm at 20 degrees",
    "winding": "The winding resistance of the motor is 1.8 ohm at 20 degrees",
}


class SavingEngine(ScriptedEngine):
    """Answers from REPLIES by a word of the question; its KV is a list of tokens in a file."""

    def __init__(self, context_length: int = 4096) -> None:
        super().__init__([""], context_length)
        self.n_loaded = 0
        self.read_only: list[list[int]] = []

    def generate(self, tokens, *, max_tokens, sampling=None, stop=(), cancel=None, may_shift=False):
        if max_tokens == 0:
            self.read_only.append(list(tokens))
        else:
            asked = "".join(self.texts[t] for t in tokens).rpartition("Question: ")[2]
            words = [w for w in REPLIES if w in asked]
            self.replies = [f"{REPLIES[words[0]]}." if words else "Not found in the sources."]
        yield from super().generate(tokens, max_tokens=max_tokens, stop=stop, cancel=cancel)

    def save_kv(self, path: Path, documents: Sequence[str] = ()) -> int:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_name(f".saving-{os.getpid()}.kv")
        scratch.write_text(json.dumps({"tokens": self.cached, "documents": list(documents)}))
        scratch.replace(path)
        return len(self.cached)

    def load_kv(self, path: Path) -> int:
        self.cached = json.loads(path.read_text())["tokens"]
        self.n_loaded += 1
        return len(self.cached)


class Desk:
    """A library of two manuals, and the engines that answered over it."""

    def __init__(self, folder: Path, **session: object) -> None:
        self.folder = folder
        self.config = Config(
            library=LibraryConfig(folder / "library"),
            model=ModelConfig(),
            answer=AnswerConfig(max_tokens=40),
            session=replace(SessionConfig(), **session),
        )
        self.context_length = 4096
        self.engine = SavingEngine()
        self.workspace = self.opened()

    def opened(self) -> Workspace:
        library = Library(
            LibraryPaths(self.config.library.dir),
            self.config,
            open_embedder=HashEmbedder,
            tokenizer_file=lambda: packaged_folder() / "tokenizer.json",
        )
        self.engine = SavingEngine(self.context_length)
        return Workspace(
            library,
            self.config,
            open_engine=lambda: self.engine,
            open_reranker=OverlapReranker,
            evict_kv=enforce_quota,
        )

    def restart(self) -> None:
        self.workspace.close()
        self.workspace = self.opened()

    def write(self, name: str, text: str) -> Path:
        path = self.folder / "docs" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        for _ in self.workspace.sync([path]):
            pass
        return path

    def ask(self, question: str, session: str | None = "pumps", **options: object) -> Answer:
        return self.asked(question, session, **options)[0]

    def asked(
        self, question: str, session: str | None = "pumps", **options: object
    ) -> tuple[Answer, PackedPrompt | None]:
        answer = prompt = None
        for event in self.workspace.ask(question, AskOptions(session=session, **options)):
            if isinstance(event, Packed):
                prompt = event.prompt
            elif isinstance(event, Answered):
                answer = event.answer
        assert answer is not None
        return answer, prompt

    def kv_files(self) -> set[str]:
        return {path.name for path in LibraryPaths(self.config.library.dir).kv.glob("*")}

    def turns(self, session: str = "pumps"):
        return self.workspace.desk.turns(self.workspace.desk.sessions.get(session))
