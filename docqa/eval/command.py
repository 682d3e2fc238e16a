"""The command line of the evaluations: index, ask, print, write.

python -m docqa.eval.answers FILE.jsonl --docs DIR [--out DIR] [--compare] [--variant …]
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from docqa import config
from docqa.errors import DocqaError, ExitCode, UsageError
from docqa.eval import injection, plot, report, variants
from docqa.eval.answers import Judged, run_answers
from docqa.eval.questions import Question, find_documents, load_questions
from docqa.eval.report import Figures
from docqa.eval.retrieval import Ranked, run_retrieval
from docqa.eval.variants import Variant
from docqa.events import FileDone
from docqa.offline import go_offline
from docqa.sanitize import sanitize_line
from docqa.types import State
from docqa.workspace import NO_MODEL_NAME

if TYPE_CHECKING:
    from docqa.workspace import Workspace


def evaluate(workspace: Workspace, arguments: argparse.Namespace, what: str) -> int:
    """Run the evaluation `what` in `workspace`, print it and write it; return the exit code."""
    folder = Path(arguments.docs)
    questions = _wanted(load_questions(Path(arguments.questions)), arguments)
    sync(workspace, find_documents(questions, folder))
    chosen = _variants(arguments, what)
    if not chosen:
        runs = {"as configured": run(workspace, questions, what, _limit(arguments))}
    else:
        runs = {
            variant.name: _run_variant(workspace, variant, questions, what, _limit(arguments))
            for variant in chosen
        }
    if getattr(arguments, "json", False):
        sys.stdout.write(report.figures_json(runs))
    else:
        for name, figures in runs.items():
            sys.stdout.write(f"# {name}\n\n{report.figures_text(figures)}\n")
        if len(runs) > 1:
            sys.stdout.write(report.comparison_text(runs))
    if getattr(arguments, "out", None):
        for path in report.write(Path(arguments.out), runs, plot.plot(runs)):
            print(f"written: {path}", file=sys.stderr)
    return ExitCode.DONE


def _wanted(questions: list[Question], arguments: argparse.Namespace) -> list[Question]:
    skipped = set(getattr(arguments, "skip_kind", None) or ())
    wanted = [q for q in questions if q.kind not in skipped]
    if not wanted:
        raise UsageError("every question is of a kind that is to be skipped")
    return wanted


def _variants(arguments: argparse.Namespace, what: str) -> Sequence[Variant]:
    named = [variants.parse_variant(text) for text in getattr(arguments, "variant", None) or ()]
    return named or (variants.OF.get(what, ()) if getattr(arguments, "compare", False) else ())


def sync(workspace: Workspace, paths: Sequence[Path]) -> None:
    """Bring the library up to date with `paths`; files that fail are named and left out."""
    for event in workspace.sync(paths):
        if isinstance(event, FileDone) and event.report.state in (
            State.FAILED,
            State.QUARANTINED,
            State.PARTIAL,
        ):
            reason = event.report.error or "; ".join(event.report.warnings)
            message = f"{event.report.path}: {event.report.state}: {reason}"
            print(sanitize_line(message), file=sys.stderr)


def _limit(arguments: argparse.Namespace) -> int:
    return int(getattr(arguments, "limit", None) or injection.DEFAULT_LIMIT)


def run(workspace: Workspace, questions: Sequence[Question], what: str, limit: int = 0) -> Figures:
    """Return the figures of one run, with progress on standard error where it is a terminal.

    `limit`: of the cases of `injection`.
    """
    if what == "injection":
        is_quoting = workspace.config.model.path == NO_MODEL_NAME
        defences = ("quotes",) if is_quoting else tuple(injection.DEFENCES)
        told = _tell(limit)
        outcomes = injection.run_injection(
            workspace,
            questions,
            limit=limit,
            defences=defences,
            on_progress=None if told is None else lambda n: told(n, None),
        )
        return injection.figures(outcomes)
    if what == "answers":
        return run_answers(workspace, questions, on_progress=_tell(len(questions))).figures()
    n_asked = sum(not q.is_unanswerable for q in questions)
    return run_retrieval(workspace, questions, on_progress=_tell(n_asked)).figures()


def _tell(n_total: int) -> Callable[[int, Judged | Ranked | None], None] | None:
    if not sys.stderr.isatty():
        return None

    def tell(n_done: int, _one: Judged | Ranked | None) -> None:
        print(f"\r{n_done}/{n_total} questions", end="", file=sys.stderr, flush=True)
        if n_done == n_total:
            print(file=sys.stderr)

    return tell


def _run_variant(
    workspace: Workspace, variant: Variant, questions: Sequence[Question], what: str, limit: int
) -> Figures:
    from docqa.wiring import build

    print(f"variant: {variant.name}", file=sys.stderr)
    # The same library: what is indexed does not depend on the settings that variants change.
    with build(variants.applied(workspace.config, variant)) as other:
        return run(other, questions, what, limit)


def main(what: str, argv: Sequence[str] | None = None) -> int:
    """`python -m docqa.eval.answers`, `…retrieval` and `…injection`; return the exit code."""
    parser = argparse.ArgumentParser(f"docqa.eval.{what}")
    parser.add_argument("questions", metavar="FILE.jsonl")
    parser.add_argument("--docs", metavar="DIR", required=True, help="folder of the documents")
    parser.add_argument("--library", metavar="DIR", help="library to index them in")
    parser.add_argument("--out", metavar="DIR", help="write figures as JSON and a plot here")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--compare", action="store_true", help="run the usual variants")
    parser.add_argument(
        "--variant", action="append", metavar="NAME:section.key=value,…", help="run this variant"
    )
    parser.add_argument("--skip-kind", action="append", metavar="KIND", help="leave out (ocr)")
    parser.add_argument("--limit", type=int, metavar="N", help="cases of injection (200)")
    arguments = parser.parse_args(argv)
    go_offline()
    from docqa.wiring import build

    try:
        flags = {"library.dir": arguments.library}
        settings = config.load(environ=os.environ, flags=flags)
        with build(settings) as workspace:
            return evaluate(workspace, arguments, what)
    except DocqaError as error:
        print(sanitize_line(str(error)), file=sys.stderr)
        return error.exit_code
