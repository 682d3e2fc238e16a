"""The grammar of the command line. Imports argparse and os only."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

from docqa import __version__
from docqa.cli.plan_options import load_options, plan_options

SESSIONS = "conversations that were kept"
LEVELS = ("TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL")


class _Formatter(argparse.HelpFormatter):
    """argparse's, told the width: it would import shutil and what that packs files with."""

    def __init__(self, prog: str) -> None:
        try:
            n_columns = int(os.environ.get("COLUMNS", "")) or os.get_terminal_size().columns
        except (ValueError, OSError):
            n_columns = 80
        super().__init__(prog, width=n_columns - 2)


def build_parser(argv: Sequence[str] | None = None) -> argparse.ArgumentParser:
    """Return the parser of `docqa`, for `argv` alone if that is given.

    Commands that `argv` does not name are then listed only: making all of them takes longer than
    everything else that `docqa --help` does.
    """
    parser = argparse.ArgumentParser(
        prog="docqa",
        description="Questions asked of long documents, answered offline, with the page or line.",
        epilog="With no arguments in a terminal: the terminal UI.",
        formatter_class=_Formatter,
        parents=[_shared_options()],
    )
    parser.add_argument("--version", action="version", version=f"docqa {__version__}")
    # Before the command or after it: a command's own are absent where they were not given, so that
    # they leave alone what was read before.
    shared = _shared_options(argument_default=argparse.SUPPRESS)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")

    def command(name: str, about: str) -> argparse.ArgumentParser:
        if argv is not None and name not in argv:
            return commands.add_parser(name, help=about, add_help=False, formatter_class=_Formatter)
        return commands.add_parser(
            name, help=about, description=about, parents=[shared], formatter_class=_Formatter
        )

    _add(command("add", "index files and folders"))
    _ask(command("ask", "ask a question; answer with page or line"))
    _search(command("search", "show the passages that match a query"))
    command("list", "list the documents of the library")
    remove = command("remove", "remove documents and everything derived from them")
    remove.add_argument("paths", metavar="PATH", nargs="+", help="file or folder, as it was added")
    text = command("text", "print the extracted text of a document: what char_start counts in")
    text.add_argument("path", metavar="PATH", help="a document of the library")
    _parse_options(command("sync", "bring the library up to date with the files"))
    _watch(command("watch", "keep the library in step with folders"))
    doctor = command("doctor", "show what works here, and every effective setting")
    doctor.add_argument("--model", metavar="GGUF|NAME", help="model to look at")
    doctor.add_argument(
        "--offline-proof",
        action="store_true",
        help="run add, ask, search, watch and the terminal UI under a trace: no network is used",
    )
    command("models", "list the models that can be used")
    plan_options(command("plan", "show what of a model fits here, before it is loaded"))
    check = command("check", "verify the library")
    check.add_argument("--repair", action="store_true", help="rebuild what is derived and damaged")
    if argv is None or "sessions" in argv:
        _sessions(commands, shared)
    else:
        command("sessions", SESSIONS)
    stats = command("stats", "what sessions cost: tokens, reuse, seconds, KV")
    stats.add_argument("session", metavar="SESSION", nargs="?", help="one session; none: all")
    backup = command("backup", "copy the library to a file, also while it is in use")
    backup.add_argument("file", metavar="FILE")
    backup.add_argument("--force", action="store_true", help="replace FILE")
    restore = command("restore", "put a backup in place of the library")
    restore.add_argument("file", metavar="FILE", help="a file that `docqa backup` made")
    restore.add_argument("--force", action="store_true", help="replace what the library holds")
    engine = command("engine", "the warm engine process")
    engine.add_argument("action", choices=("status", "stop"))
    _eval(command("eval", "measure answers, retrieval or resistance to planted instructions"))
    tui = command("tui", "the terminal UI")
    tui.add_argument("paths", metavar="PATH", nargs="*", help="files and folders to add first")
    completions = commands.add_parser(
        "completions", help="print shell completions", formatter_class=_Formatter
    )
    completions.add_argument("shell", choices=("bash", "zsh", "fish"))
    return parser


def _shared_options(argument_default: str | None = None) -> argparse.ArgumentParser:
    shared = argparse.ArgumentParser(add_help=False, argument_default=argument_default)
    group = shared.add_argument_group("options everywhere")
    group.add_argument("--library", metavar="DIR", help="library folder (or DOCQA_LIBRARY)")
    group.add_argument("--config", metavar="FILE", help="configuration file (TOML)")
    off = False if argument_default is None else argument_default
    group.add_argument("--json", action="store_true", default=off, help="print JSON on stdout")
    group.add_argument("--quiet", action="store_true", default=off, help="no progress, no notes")
    colors = ("auto", "always", "never")
    group.add_argument("--color", choices=colors, default=argument_default or "auto")
    return shared


def _parse_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--password", help="password of encrypted PDFs; it is not stored")
    parser.add_argument("--no-ocr", action="store_true", help="do not read scanned pages")


def _scope_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--since", metavar="TIME", help="log records from this time on (ISO, or 2h)"
    )
    parser.add_argument("--until", metavar="TIME", help="log records up to this time")
    parser.add_argument(
        "--level",
        action="append",
        type=str.upper,
        choices=LEVELS,
        help="log records of this level; may be repeated",
    )


def _add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("paths", metavar="PATH", nargs="+", help="file or folder")
    _parse_options(parser)


def _watch(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "paths",
        metavar="PATH",
        nargs="*",
        help="folders to watch, remembered with their globs; none: those that are remembered",
    )
    parser.add_argument(
        "--include", metavar="GLOB", action="append", default=[], help="only such files"
    )
    parser.add_argument(
        "--exclude", metavar="GLOB", action="append", default=[], help="no such files or folders"
    )
    todo = parser.add_mutually_exclusive_group()
    todo.add_argument("--list", action="store_true", help="show the folders that are remembered")
    todo.add_argument(
        "--forget", action="store_true", help="watch PATH no more; its documents stay"
    )
    todo.add_argument(
        "--install", action="store_true", help="watch in the background from login on"
    )


def _ask(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("question", metavar="QUESTION")
    parser.add_argument(
        "paths",
        metavar="PATH",
        nargs="*",
        help="files or folders: synced first, and the answer is limited to them; - reads a log "
        "from standard input",
    )
    _parse_options(parser)
    _scope_options(parser)
    parser.add_argument(
        "--model", metavar="GGUF|NAME", help="language model; none: the best quote, at once"
    )
    parser.add_argument("--engine", choices=("llama", "torch"), help="what runs the model")
    parser.add_argument("--max-tokens", type=int, metavar="N", help="length of the answer")
    parser.add_argument("--k", type=int, metavar="N", help="at most so many sources")
    parser.add_argument("--temperature", type=float, metavar="T", help="0, the default: greedy")
    parser.add_argument("--top-p", type=float, metavar="P", help="of the sampling, 0 to 1")
    parser.add_argument("--seed", type=int, metavar="N", help="of the sampling")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json-schema", metavar="FILE", help="answer with JSON of this schema")
    form.add_argument("--grammar", metavar="FILE", help="answer in the form of this grammar (GBNF)")
    load_options(parser)
    parser.add_argument("--session", metavar="NAME", help="keep the question in this session")
    parser.add_argument(
        "--pin",
        metavar="PATH",
        action="append",
        default=[],
        help="a document that stands whole in the prompt; a session keeps it; may be repeated",
    )
    parser.add_argument("--trace", metavar="FILE", help="append what happened, as JSON lines")
    parser.add_argument("--no-stream", action="store_true", help="print the answer when complete")
    parser.add_argument(
        "--explain", action="store_true", help="show ranks, scores, what was packed and dropped"
    )


def _sessions(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], shared: argparse.ArgumentParser
) -> None:
    actions = commands.add_parser(
        "sessions", help=SESSIONS, description=SESSIONS, formatter_class=_Formatter
    ).add_subparsers(dest="action", metavar="ACTION", title="actions", required=True)

    def action(name: str, about: str, *, has_name: bool = True) -> argparse.ArgumentParser:
        parser = actions.add_parser(
            name, help=about, description=about, parents=[shared], formatter_class=_Formatter
        )
        if has_name:
            parser.add_argument("name", metavar="NAME")
        return parser

    action("list", "list them, the one changed last first", has_name=False)
    action("show", "print questions, answers and quotes")
    export = action("export", "write a session as Markdown or JSON")
    export.add_argument("--format", choices=("markdown", "json"), default="markdown")
    export.add_argument("--out", metavar="FILE", help="a new file; none: standard output")
    action("rename", "give a session another name").add_argument("new_name", metavar="NEW")
    action("delete", "forget a session and its saved KV")
    search = action("search", "find turns by words, dropped ones too", has_name=False)
    search.add_argument("words", metavar="WORDS")
    for name, about in (("pin", "pin documents in a session"), ("unpin", "pin them no more")):
        action(name, about).add_argument("paths", metavar="PATH", nargs="+")


def _search(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("query", metavar="QUERY")
    parser.add_argument("paths", metavar="PATH", nargs="*", help="limit to these (not synced)")
    _scope_options(parser)
    parser.add_argument("--k", type=int, default=10, metavar="N", help="number of hits")
    parser.add_argument("--no-rerank", action="store_true", help="order by fused ranks")


def _eval(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=("answers", "retrieval", "injection"))
    parser.add_argument("questions", metavar="FILE.jsonl")
    parser.add_argument("--docs", metavar="DIR", required=True, help="folder of the documents")
    parser.add_argument("--out", metavar="DIR", help="write figures as JSON and a plot here")
    parser.add_argument("--model", metavar="GGUF|NAME", help="language model")
    parser.add_argument("--limit", type=int, metavar="N", help="cases of injection (200)")
