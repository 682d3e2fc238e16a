"""`docqa sessions …` and `docqa stats`: what was kept of conversations, and what they cost."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from docqa.answer_json import answer_json
from docqa.cli import render
from docqa.errors import ExitCode, UsageError
from docqa.sanitize import sanitize, sanitize_line
from docqa.session_export import session_json, session_markdown, write_session
from docqa.session_rows import SessionInfo, StoredTurn
from docqa.stats import stats_json, stats_text
from docqa.workspace import Workspace


def run_sessions(arguments: argparse.Namespace, workspace: Workspace) -> int:
    """Do one action; return the exit code."""
    return ACTIONS[arguments.action](arguments, workspace)


def _list(arguments: argparse.Namespace, workspace: Workspace) -> int:
    found = workspace.desk.sessions.all()
    for session in found:
        n_bytes = workspace.desk.kv.n_bytes(session.session_id)
        if arguments.json:
            render.print_json(
                {
                    "name": session.name,
                    "turns": session.n_turns,
                    "created_s": session.created_s,
                    "changed_s": session.changed_s,
                    "kv_disk_bytes": n_bytes,
                    "pinned": workspace.desk.pinned(session),
                }
            )
        else:
            changed = datetime.fromtimestamp(session.changed_s)
            print(
                sanitize_line(
                    f"{session.name}  {session.n_turns} turns  {changed:%Y-%m-%d %H:%M}  "
                    f"KV {n_bytes / 1e6:.1f} MB"
                )
            )
    if not found and not arguments.quiet:
        print("no sessions yet: `docqa ask --session NAME QUESTION` begins one", file=sys.stderr)
    return ExitCode.DONE


def _show(arguments: argparse.Namespace, workspace: Workspace) -> int:
    session = workspace.desk.sessions.get(arguments.name)
    _print_session(session, workspace, is_json=arguments.json)
    return ExitCode.DONE


def _export(arguments: argparse.Namespace, workspace: Workspace) -> int:
    session = workspace.desk.sessions.get(arguments.name)
    if not arguments.out:
        is_json = arguments.json or arguments.format == "json"
        _print_session(session, workspace, is_json=is_json)
        return ExitCode.DONE
    path = Path(arguments.out).absolute()
    is_json = arguments.json or arguments.format == "json" or path.suffix == ".json"
    try:
        write_session(path, *_kept(session, workspace), is_json=is_json)
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror}") from error
    return ExitCode.DONE


def _print_session(session: SessionInfo, workspace: Workspace, *, is_json: bool) -> None:
    if is_json:
        render.print_json(session_json(*_kept(session, workspace)))
    else:
        print(sanitize(session_markdown(*_kept(session, workspace))))


def _kept(
    session: SessionInfo, workspace: Workspace
) -> tuple[SessionInfo, list[StoredTurn], list[str]]:
    turns = workspace.desk.turns(session)
    return session, turns, workspace.desk.pinned(session)


def _rename(arguments: argparse.Namespace, workspace: Workspace) -> int:
    workspace.desk.sessions.rename(arguments.name, arguments.new_name)
    return ExitCode.DONE


def _delete(arguments: argparse.Namespace, workspace: Workspace) -> int:
    workspace.desk.delete(arguments.name)
    return ExitCode.DONE


def _search(arguments: argparse.Namespace, workspace: Workspace) -> int:
    found = workspace.desk.sessions.search(arguments.words)
    for session, turn in found:
        if arguments.json:
            render.print_json(
                {
                    "session": session.name,
                    "turn": turn.ordinal + 1,
                    **answer_json(turn.answer),
                }
            )
        else:
            answer = turn.answer
            print(sanitize_line(f"{session.name}, turn {turn.ordinal + 1}: {answer.question}"))
            print("    " + sanitize_line(answer.text))
    return ExitCode.DONE if found else ExitCode.NOT_FOUND


def _pin(arguments: argparse.Namespace, workspace: Workspace) -> int:
    workspace.desk.pin(arguments.name, [Path(path) for path in arguments.paths])
    return ExitCode.DONE


def _unpin(arguments: argparse.Namespace, workspace: Workspace) -> int:
    workspace.desk.unpin(arguments.name, [Path(path) for path in arguments.paths])
    return ExitCode.DONE


def print_stats(arguments: argparse.Namespace, workspace: Workspace) -> int:
    """Print the sums of one session or of each."""
    if arguments.session is None:
        sessions = workspace.desk.sessions.all()
    else:
        sessions = [workspace.desk.sessions.get(arguments.session)]
    found = [workspace.desk.stats(session) for session in sessions]
    if arguments.json:
        for stats in found:
            render.print_json(stats_json(stats))
    elif found:
        print(sanitize(stats_text(found)))
    return ExitCode.DONE


ACTIONS: dict[str, Callable[[argparse.Namespace, Workspace], int]] = {
    "list": _list,
    "show": _show,
    "export": _export,
    "rename": _rename,
    "delete": _delete,
    "search": _search,
    "pin": _pin,
    "unpin": _unpin,
}
