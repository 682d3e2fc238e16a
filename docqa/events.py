"""What `Workspace.sync()` and `Workspace.ask()` yield.

Front ends turn these into lines and widgets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from docqa.types import Answer, Candidate, FileReport, PackedPrompt


@dataclass(frozen=True, slots=True)
class Scanned:
    """The files to look at are known: `n_files` of `n_bytes`."""

    n_files: int
    n_bytes: int


@dataclass(frozen=True, slots=True)
class FileStarted:
    """A file is being parsed. `n_pages` is None where it is not known beforehand."""

    path: str
    n_bytes: int


@dataclass(frozen=True, slots=True)
class FileProgress:
    """Pages, lines and chunks of the current file so far."""

    path: str
    n_pages: int
    n_lines: int
    n_chunks: int


@dataclass(frozen=True, slots=True)
class WordProgress:
    """Chunks of committed files whose words can be found, of those that could not yet."""

    n_done: int
    n_total: int


@dataclass(frozen=True, slots=True)
class FileDone:
    """A file is committed, or failed with a reason: its words are searchable."""

    report: FileReport


@dataclass(frozen=True, slots=True)
class EmbedProgress:
    """Vectors that are done, of those that were missing."""

    n_done: int
    n_total: int


@dataclass(frozen=True, slots=True)
class SyncDone:
    """The end of a sync."""

    reports: tuple[FileReport, ...]


@dataclass(frozen=True, slots=True)
class FolderState:
    """How a watched folder is watched from now on: by events, by polling (and why), or away."""

    path: str
    state: Literal["watched", "polled", "away"]
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class WatchProblem:
    """What keeps a watcher from working, as a sentence; it tries again."""

    text: str


SyncEvent = (
    Scanned
    | FileStarted
    | FileProgress
    | WordProgress
    | FileDone
    | EmbedProgress
    | SyncDone
    | FolderState
    | WatchProblem
)


@dataclass(frozen=True, slots=True)
class Retrieved:
    """The candidates, best first, those that were dropped with their reason among them."""

    query: str
    candidates: tuple[Candidate, ...]
    retrieve_s: float
    rerank_s: float


@dataclass(frozen=True, slots=True)
class Packed:
    """The prompt as it is sent."""

    prompt: PackedPrompt


@dataclass(frozen=True, slots=True)
class PrefillProgress:
    """The model is reading: `n_done` of `n_total` prompt tokens, `n_reused` of them cached."""

    n_done: int
    n_total: int
    n_reused: int


@dataclass(frozen=True, slots=True)
class AnswerText:
    """A piece of the answer to show now; pieces are checked sentences, so none is taken back."""

    text: str


@dataclass(frozen=True, slots=True)
class Answered:
    """The end of a question."""

    answer: Answer


AskEvent = Retrieved | Packed | PrefillProgress | AnswerText | Answered
