"""What the widgets say to one another, in the past tense."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from textual.message import Message

from docqa.types import Document, EngineInfo
from tui.turns import Place, Turn


class MainReady(Message):
    """The main screen is laid out."""


@dataclass
class QuestionAsked(Message):
    """The user sent a question."""

    question: str


@dataclass
class PathsDropped(Message):
    """The user pasted or dropped paths that exist."""

    paths: tuple[Path, ...]


@dataclass
class PlaceChosen(Message):
    """A citation or source is to be shown."""

    place: Place


@dataclass
class TurnChosen(Message):
    """A turn of the transcript became the one that evidence and `why` are about."""

    turn: Turn


@dataclass
class DocumentChosen(Message):
    """A document of the list is to be opened."""

    doc_id: int


@dataclass
class PinAsked(Message):
    """A document is to be pinned in the open session, or not any more."""

    path: Path


@dataclass
class ScopeChanged(Message):
    """Other documents are marked: questions are limited to them."""

    doc_ids: frozenset[int]


class ModelLoaded(Message):
    """The language model is ready."""

    def __init__(self, info: EngineInfo, kv_bytes: int | None = None) -> None:
        self.info, self.kv_bytes = info, kv_bytes
        super().__init__()


class ModelFailed(Message):
    """The language model could not be loaded; retrieval still works."""

    def __init__(self, error: str) -> None:
        self.error = error
        super().__init__()


class DocumentsRead(Message):
    """The documents of the library were read; None and `error` where they could not be."""

    def __init__(self, documents: list[Document] | None, error: str | None = None) -> None:
        self.documents, self.error = documents, error
        super().__init__()


class DocumentsRemoved(Message):
    """Documents were removed; `error` says where that failed."""

    def __init__(self, n_removed: int, error: str | None) -> None:
        self.n_removed, self.error = n_removed, error
        super().__init__()


class WorkDone(Message):
    """Something was read or written in a thread; `then` shows it."""

    def __init__(self, then: Callable[[], None]) -> None:
        self.then = then
        super().__init__()


class GpuAsked(Message):
    """The memory of the GPU was asked for; empty: there is none."""

    def __init__(self, line: str) -> None:
        self.line = line
        super().__init__()
