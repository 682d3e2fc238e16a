"""What the widgets say to one another, in the past tense."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from textual.message import Message

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
class SessionChosen(Message):
    """A session is to be resumed."""

    session_id: str


@dataclass
class ScopeChanged(Message):
    """Other documents are marked: questions are limited to them."""

    doc_ids: frozenset[int]
