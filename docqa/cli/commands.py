"""What each command does. Thin: arguments → workspace → rendering."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from docqa.cli import render
from docqa.cli.answer_printer import AnswerPrinter, note_to_user, style_of
from docqa.cli.plan_options import kv_flags
from docqa.cli.progress import SyncProgress
from docqa.cli.times import parse_when
from docqa.config import Config, load
from docqa.errors import ExitCode, UsageError
from docqa.events import Answered, AskEvent
from docqa.sanitize import sanitize, sanitize_line
from docqa.types import FileReport, State

if TYPE_CHECKING:
    from docqa.workspace import AskOptions, Workspace

BAD_STATES = (State.FAILED, State.QUARANTINED)
MAX_UNREAD = 3  # files named at a question that were not or partly read


def run(arguments: argparse.Namespace) -> int:
    """Run the command that was parsed; return its exit code."""
    if arguments.command is None:
        return _no_command(arguments)
    return COMMANDS[arguments.command](arguments)


def _no_command(arguments: argparse.Namespace) -> int:
    if sys.stdin.isatty() and sys.stdout.isatty():
        from tui.start import run_app

        return int(run_app(_config(arguments), ()))
    print("docqa: no command; see `docqa --help`", file=sys.stderr)
    return ExitCode.USAGE


def _config(arguments: argparse.Namespace) -> Config:
    def given(name: str) -> object:
        return getattr(arguments, name, None)

    flags = {
        "library.dir": given("library"),
        "model.path": given("model"),
        "model.engine": given("engine"),
        "model.context_length": given("context"),
        "model.rope": given("rope"),
        "model.evict": given("evict"),
        "model.force": given("force") or None,
        "model.memory_gib": given("memory"),
        **kv_flags(getattr(arguments, "kv_type", None)),
        "answer.temperature": given("temperature"),
        "answer.top_p": given("top_p"),
        "answer.seed": given("seed"),
        "answer.max_tokens": given("max_tokens"),
        "answer.k": given("k") if arguments.command == "ask" else None,
        "parse.ocr": "never" if given("no_ocr") else None,
    }
    file = Path(arguments.config) if arguments.config else None
    return load(file, os.environ, flags)


def _workspace(arguments: argparse.Namespace) -> Workspace:
    from docqa.wiring import build

    return build(_config(arguments), warn=lambda text: note_to_user(arguments, f"note: {text}"))


def add(arguments: argparse.Namespace) -> int:
    """`docqa add PATH…`."""
    with _workspace(arguments) as workspace:
        reports = _synced(arguments, workspace, [Path(p) for p in arguments.paths])
        return _print_reports(arguments, reports)


def sync(arguments: argparse.Namespace) -> int:
    """`docqa sync`: every path that was ever added."""
    with _workspace(arguments) as workspace:
        reports = _synced(arguments, workspace, workspace.roots())
        return _print_reports(arguments, reports)


def _synced(
    arguments: argparse.Namespace, workspace: Workspace, paths: Sequence[Path]
) -> tuple[FileReport, ...]:
    with SyncProgress(not arguments.quiet) as progress:
        return progress.follow(workspace.sync(paths, password=arguments.password))


def _print_reports(arguments: argparse.Namespace, reports: Sequence[FileReport]) -> int:
    for report in reports:
        if arguments.json:
            render.print_json(render.report_json(report))
        elif report.state is not State.UNCHANGED or len(reports) < 20:
            print(render.report_text(report))
    n_bad = sum(report.state in BAD_STATES for report in reports)
    n_good = len(reports) - n_bad
    note_to_user(arguments, f"{n_good} of {len(reports)} files are in the library")
    return ExitCode.FAILED if n_bad else ExitCode.DONE


def list_documents(arguments: argparse.Namespace) -> int:
    """`docqa list`."""
    with _workspace(arguments) as workspace:
        reports = workspace.reports()
    for report in reports:
        if arguments.json:
            render.print_json(render.report_json(report))
        else:
            print(render.report_text(report))
    if not reports:
        note_to_user(arguments, "the library is empty: `docqa add PATH` puts documents in")
    return ExitCode.DONE


def remove(arguments: argparse.Namespace) -> int:
    """`docqa remove PATH…`."""
    with _workspace(arguments) as workspace:
        reports = workspace.remove([Path(p) for p in arguments.paths])
    for report in reports:
        if arguments.json:
            render.print_json(render.report_json(report))
        else:
            print(render.report_text(report))
    if not reports:
        note_to_user(arguments, "nothing in the library under these paths; see `docqa list`")
        return ExitCode.FAILED
    return ExitCode.DONE


def text(arguments: argparse.Namespace) -> int:
    """`docqa text PATH`: the text in which `char_start` and `char_end` count."""
    with _workspace(arguments) as workspace:
        found = workspace.text(Path(arguments.path))
    if arguments.json:
        render.print_json({"path": str(Path(arguments.path).absolute()), "text": found})
    else:
        print(sanitize(found) if sys.stdout.isatty() else found)
    return ExitCode.DONE


def search(arguments: argparse.Namespace) -> int:
    """`docqa search QUERY`."""
    with _workspace(arguments) as workspace:
        options = _ask_options(arguments, [Path(p) for p in arguments.paths])
        found = workspace.search(
            arguments.query, arguments.k, options, is_reranked=not arguments.no_rerank
        )
    if arguments.json:
        render.print_json(render.search_json(arguments.query, found))
    else:
        style = style_of(arguments)
        for rank, candidate in enumerate(found, start=1):
            print(render.hit_text(rank, candidate, style))
    if not found:
        note_to_user(arguments, "no passage matches")
        return ExitCode.NOT_FOUND
    return ExitCode.DONE


def _ask_options(arguments: argparse.Namespace, paths: Sequence[Path]) -> AskOptions:
    from docqa.workspace import AskOptions

    return AskOptions(
        paths=tuple(paths),
        since=parse_when(arguments.since, "--since"),
        until=parse_when(arguments.until, "--until"),
        levels=frozenset(arguments.level) if arguments.level else None,
    )


def ask(arguments: argparse.Namespace) -> int:
    """`docqa ask QUESTION [PATH…]`."""
    if not arguments.question.strip():
        raise UsageError("the question is empty")
    with _workspace(arguments) as workspace:
        if "-" in arguments.paths:
            with workspace.spooled(sys.stdin.buffer) as spool:
                paths = [spool if p == "-" else Path(p) for p in arguments.paths]
                return _asked(arguments, workspace, paths, spool)
        return _asked(arguments, workspace, [Path(p) for p in arguments.paths], None)


def _asked(
    arguments: argparse.Namespace,
    workspace: Workspace,
    paths: Sequence[Path],
    spool: Path | None,
) -> int:
    workspace.warm_up()
    pins = [Path(p) for p in arguments.pin]
    if paths or pins:
        reports = _synced(arguments, workspace, [*paths, *pins])
        _note_unread(arguments, reports)
        if reports and all(report.state in BAD_STATES for report in reports):
            return ExitCode.FAILED
    shower = AnswerPrinter(arguments)
    options = replace(_ask_options(arguments, paths), session=arguments.session, pins=tuple(pins))
    if arguments.json_schema or arguments.grammar:
        from docqa.cli.structured import run_structured

        return run_structured(arguments, workspace, options)
    with _traced(arguments, workspace) as note:
        for event in workspace.ask(arguments.question, options):
            note(event)
            shower.show(event)
            if isinstance(event, Answered):
                shower.finish(spool)  # what is left is saving the session's KV: nobody waits
                sys.stdout.flush()
    assert shower.answer is not None
    if workspace.desk.kv.problem:
        note_to_user(
            arguments, f"note: the session's KV was not saved: {workspace.desk.kv.problem}"
        )
    return ExitCode.DONE if shower.answer.found else ExitCode.NOT_FOUND


def _note_unread(arguments: argparse.Namespace, reports: Sequence[FileReport]) -> None:
    """Say at each question what it cannot be answered from; of many files, the first few."""
    unread = [r for r in reports if r.state in BAD_STATES or r.state is State.PARTIAL]
    unread.sort(key=lambda report: report.path)
    for report in unread[:MAX_UNREAD]:
        note_to_user(arguments, render.report_text(report))
    if len(unread) > MAX_UNREAD:
        note_to_user(
            arguments, f"{len(unread) - MAX_UNREAD} more were not or partly read: docqa list"
        )


@contextmanager
def _traced(
    arguments: argparse.Namespace, workspace: Workspace
) -> Iterator[Callable[[AskEvent], None]]:
    if not arguments.trace:
        yield lambda event: None
        return
    with closing(workspace.desk.trace(Path(arguments.trace))) as trace:
        yield trace.note


def watch(arguments: argparse.Namespace) -> int:
    """`docqa watch [PATH…]`."""
    from docqa.cli.watching import run_watch

    config = _config(arguments)
    with _workspace(arguments) as workspace:
        return run_watch(arguments, workspace, config)


def doctor(arguments: argparse.Namespace) -> int:
    """`docqa doctor`."""
    from docqa.cli.diagnosis import run_doctor

    return run_doctor(arguments, _config(arguments))


def models(arguments: argparse.Namespace) -> int:
    """`docqa models`."""
    from docqa.wiring import available_models

    for model in available_models(_config(arguments)):
        if arguments.json:
            render.print_json(model)
        else:
            print(sanitize_line("  ".join(str(value) for value in model.values())))
    return ExitCode.DONE


def plan(arguments: argparse.Namespace) -> int:
    """`docqa plan [MODEL]`."""
    from docqa.cli.plan import run_plan

    return run_plan(arguments, _config(arguments))


def check(arguments: argparse.Namespace) -> int:
    """`docqa check [--repair]`."""
    from docqa.cli.keeping import run_check

    return run_check(arguments, _config(arguments))


def backup(arguments: argparse.Namespace) -> int:
    """`docqa backup FILE`."""
    from docqa.cli.keeping import run_backup

    return run_backup(arguments, _config(arguments))


def restore(arguments: argparse.Namespace) -> int:
    """`docqa restore FILE`."""
    from docqa.cli.keeping import run_restore

    return run_restore(arguments, _config(arguments))


def sessions(arguments: argparse.Namespace) -> int:
    """`docqa sessions ACTION …`."""
    from docqa.cli.sessions import run_sessions

    with _workspace(arguments) as workspace:
        return run_sessions(arguments, workspace)


def stats(arguments: argparse.Namespace) -> int:
    """`docqa stats [SESSION]`."""
    from docqa.cli.sessions import print_stats

    with _workspace(arguments) as workspace:
        return print_stats(arguments, workspace)


def engine(arguments: argparse.Namespace) -> int:
    """`docqa engine status|stop`."""
    from docqa.wiring import engine_status, stop_engine

    lines = engine_status() if arguments.action == "status" else stop_engine()
    for line in lines or ["no engine is running"]:
        print(sanitize_line(line))
    return ExitCode.DONE


def evaluate(arguments: argparse.Namespace) -> int:
    """`docqa eval answers|retrieval|injection FILE.jsonl --docs DIR`."""
    from docqa.eval import answers, injection, retrieval

    modules = {"answers": answers, "retrieval": retrieval, "injection": injection}
    evaluation = modules[arguments.what]
    with _workspace(arguments) as workspace:
        return int(evaluation.run_command(workspace, arguments))


def tui(arguments: argparse.Namespace) -> int:
    """`docqa tui [PATH…]`."""
    from tui.start import run_app

    return int(run_app(_config(arguments), tuple(Path(p) for p in arguments.paths)))


def completions(arguments: argparse.Namespace) -> int:
    """`docqa completions bash|zsh|fish`."""
    import shtab

    from docqa.cli.parser import build_parser

    print(shtab.complete(build_parser(), shell=arguments.shell))
    return ExitCode.DONE


COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "add": add,
    "ask": ask,
    "search": search,
    "text": text,
    "list": list_documents,
    "remove": remove,
    "sync": sync,
    "watch": watch,
    "doctor": doctor,
    "models": models,
    "plan": plan,
    "check": check,
    "backup": backup,
    "restore": restore,
    "sessions": sessions,
    "stats": stats,
    "engine": engine,
    "eval": evaluate,
    "tui": tui,
    "completions": completions,
}
