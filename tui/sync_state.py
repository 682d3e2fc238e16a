"""How far indexing is, as the screen shows it."""

from __future__ import annotations

from dataclasses import dataclass, field
from time import monotonic

from docqa.events import (
    EmbedProgress,
    FileDone,
    FileProgress,
    FileStarted,
    Scanned,
    SyncDone,
    SyncEvent,
)
from docqa.types import FileReport, State
from tui.plain import file_name, middle_cut

MAX_NAME_CELLS = 32  # the rest of the status line has to stay in sight
BAD_STATES = (State.FAILED, State.QUARANTINED, State.PARTIAL)


@dataclass(slots=True)
class SyncState:
    """Files, pages and vectors so far. `is_running` is set by the owner."""

    is_running: bool = False
    is_stopping: bool = False
    n_waiting: int = 0  # paths that are looked at after these
    n_files: int = 0
    n_done: int = 0
    current: str = ""
    n_pages: int = 0
    n_lines: int = 0
    n_chunks: int = 0
    n_embedded: int = 0
    n_to_embed: int = 0
    reports: list[FileReport] = field(default_factory=list)
    error: str | None = None
    started_s: float = field(default_factory=monotonic)

    def apply(self, event: SyncEvent) -> None:
        """Take in one event of `Workspace.sync`."""
        if isinstance(event, Scanned):
            self.n_files += event.n_files
        elif isinstance(event, FileStarted):
            self.current, self.n_pages, self.n_lines, self.n_chunks = event.path, 0, 0, 0
        elif isinstance(event, FileProgress):
            self.n_pages, self.n_lines = event.n_pages, event.n_lines
            self.n_chunks = event.n_chunks
        elif isinstance(event, FileDone):
            self.n_done += 1
            self.reports.append(event.report)
        elif isinstance(event, EmbedProgress):
            self.n_embedded, self.n_to_embed = event.n_done, event.n_total
        elif isinstance(event, SyncDone):
            self.reports = list(event.reports)

    @property
    def bad(self) -> list[FileReport]:
        """The files with something to look at."""
        return [r for r in self.reports if r.state in BAD_STATES]

    def line(self) -> str:
        """Return one line: what is being done and how far it is."""
        if self.is_stopping:
            return "stopping …"
        then = f", then {self.n_waiting} more" if self.n_waiting else ""
        return self._now() + then

    def _now(self) -> str:
        if self.n_done >= self.n_files and self.n_to_embed:
            return f"vectors {self.n_embedded:,}/{self.n_to_embed:,}"
        where = f" {self.n_lines:,} lines" if self.n_lines else ""
        where = f" p. {self.n_pages:,}" if self.n_pages else where
        short = middle_cut(file_name(self.current), MAX_NAME_CELLS)
        name = f" {short}{where}" if self.current else ""
        return f"indexing {self.n_done}/{self.n_files}{name}"

    def share(self) -> float:
        """Return how much is done, 0 to 1: half for the files, half for the vectors."""
        files = self.n_done / self.n_files if self.n_files else 0.0
        vectors = self.n_embedded / self.n_to_embed if self.n_to_embed else 0.0
        return min(1.0, (files + vectors) / 2)
