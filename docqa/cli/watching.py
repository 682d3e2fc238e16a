"""`docqa watch`: a line per change on stdout, until Ctrl-C or SIGTERM."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from docqa.cli import render
from docqa.config import Config
from docqa.errors import ExitCode, UsageError
from docqa.events import FileDone, FolderState, SyncEvent, WatchProblem
from docqa.sanitize import sanitize_line
from docqa.types import State
from docqa.workspace import Workspace

NICENESS = 10  # a question that is asked now comes first
SCHEMA = "docqa.watch/1"


def run_watch(arguments: argparse.Namespace, workspace: Workspace, config: Config) -> int:
    """Do what the command line of `docqa watch` asks for; return the exit code."""
    paths = [Path(path) for path in arguments.paths]
    if arguments.list:
        return _print_watched(arguments, workspace)
    if arguments.forget:
        for path in paths:
            workspace.set_watched(path, False)
        return ExitCode.DONE
    for path in paths:
        workspace.set_watched(path, include=arguments.include, exclude=arguments.exclude)
    if not workspace.watched():
        raise UsageError("no folder is watched yet; name one: `docqa watch PATH`")
    if arguments.install:
        from docqa.service import install

        file = Path(arguments.config) if arguments.config else None

        for line in install(config.library.dir, file):
            print(sanitize_line(line))
        return ExitCode.DONE
    with suppress(AttributeError, OSError):
        os.nice(NICENESS)
    with stopped_by_signals() as stop:
        _follow(arguments, workspace.watch(paths, stop=stop))
    return ExitCode.DONE


def _follow(arguments: argparse.Namespace, events: Iterator[SyncEvent]) -> None:
    for event in events:
        if arguments.json:
            value = event_json(event)
            if value is not None:
                render.print_json(value)
        else:
            text = event_text(event)
            if text is not None:
                where = sys.stderr if isinstance(event, FolderState | WatchProblem) else sys.stdout
                if where is sys.stdout or not arguments.quiet:
                    print(text, file=where)
        sys.stdout.flush()


def event_text(event: SyncEvent) -> str | None:
    """Return the line of an event; None of one that is not shown."""
    now = f"{datetime.now():%H:%M:%S}"
    if isinstance(event, FileDone) and event.report.state is not State.UNCHANGED:
        return f"{now} {render.report_text(event.report)}"
    if isinstance(event, FolderState):
        reason = f"  ({sanitize_line(event.reason)})" if event.reason else ""
        return f"{now} {event.state:<11} {sanitize_line(event.path)}{reason}"
    if isinstance(event, WatchProblem):
        return f"{now} docqa: {sanitize_line(event.text)}"
    return None


def event_json(event: SyncEvent) -> dict[str, Any] | None:
    """Return the object of an event; None of one that is not shown."""
    head = {"schema": SCHEMA, "time": datetime.now().astimezone().isoformat(timespec="seconds")}
    if isinstance(event, FileDone) and event.report.state is not State.UNCHANGED:
        return {**head, "event": "file", **render.report_json(event.report)}
    if isinstance(event, FolderState):
        return {
            **head,
            "event": "folder",
            "path": event.path,
            "state": event.state,
            "reason": event.reason,
        }
    if isinstance(event, WatchProblem):
        return {**head, "event": "problem", "text": event.text}
    return None


def _print_watched(arguments: argparse.Namespace, workspace: Workspace) -> int:
    for folder in workspace.watched():
        if arguments.json:
            value = {"path": folder.path, "include": folder.include, "exclude": folder.exclude}
            render.print_json(value)
        else:
            globs = _globs("include", folder.include) + _globs("exclude", folder.exclude)
            print(sanitize_line(folder.path + globs))
    return ExitCode.DONE


def _globs(name: str, globs: Sequence[str]) -> str:
    return f"  {name} {' '.join(globs)}" if globs else ""


@contextmanager
def stopped_by_signals() -> Iterator[threading.Event]:
    """Lend an event that Ctrl-C and SIGTERM set, so that what is being written is finished."""
    stop = threading.Event()
    before = {
        number: signal.signal(number, lambda *_: stop.set())
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
