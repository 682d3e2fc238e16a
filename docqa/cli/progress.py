"""Progress of long work on stderr: bars in a terminal, nothing in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING

from docqa.events import (
    EmbedProgress,
    FileDone,
    FileProgress,
    FileStarted,
    Scanned,
    SyncDone,
    SyncEvent,
    WordProgress,
)
from docqa.sanitize import sanitize_line
from docqa.types import FileReport

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

MAX_NAME_CHARS = 40


class SyncProgress:
    """Bars for files, the current file's chunks, words and vectors; with rate and time left."""

    def __init__(self, is_shown: bool) -> None:
        self._is_shown = is_shown and sys.stderr.isatty()
        self._stack = ExitStack()
        self._progress: Progress | None = None
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> SyncProgress:
        if self._is_shown:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
            from rich.progress import TimeRemainingColumn as Remaining

            self._progress = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}", markup=False),
                Remaining(),
                console=Console(stderr=True),
                transient=True,
            )
            self._stack.enter_context(self._progress)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def follow(self, events: Iterable[SyncEvent]) -> tuple[FileReport, ...]:
        """Consume the events of a sync; return its reports."""
        reports: tuple[FileReport, ...] = ()
        for event in events:
            if isinstance(event, SyncDone):
                reports = event.reports
            elif self._progress is not None:
                self._show(event)
        return reports

    def _show(self, event: SyncEvent) -> None:
        if isinstance(event, Scanned):
            self._update("files", "files", 0, event.n_files)
        elif isinstance(event, FileStarted):
            self._update("file", _name(event.path), 0, None)
        elif isinstance(event, FileProgress):
            done = f"{event.n_pages} pages" if event.n_pages else f"{event.n_lines} lines"
            self._update("file", f"{_name(event.path)}: {done}", event.n_chunks, None)
        elif isinstance(event, WordProgress):
            self._update("words", "words", event.n_done, event.n_total)
        elif isinstance(event, FileDone):
            self._advance("files")
        elif isinstance(event, EmbedProgress):
            self._update("vectors", "vectors", event.n_done, event.n_total)

    def _update(self, key: str, description: str, done: int, total: int | None) -> None:
        assert self._progress is not None
        if key not in self._tasks:
            self._tasks[key] = self._progress.add_task(description, total=total, rate="")
        task = self._tasks[key]
        speed = next(t.speed for t in self._progress.tasks if t.id == task)
        rate = f"{speed:.0f}/s" if speed else ""
        self._progress.update(task, description=description, completed=done, total=total, rate=rate)

    def _advance(self, key: str) -> None:
        assert self._progress is not None
        if key in self._tasks:
            self._progress.advance(self._tasks[key])


def _name(path: str) -> str:
    name = sanitize_line(path.rpartition("/")[2])
    return name if len(name) <= MAX_NAME_CHARS else name[: MAX_NAME_CHARS - 1] + "…"
