"""The whole pipeline with the real default models on the sample documents and on real ones.

The thresholds are the project's own promises: the expected page or line is in the evidence for
95 % of the answerable questions, the shown answer contains the value and cites its place for 80 %,
and 60 % of the unanswerable ones are refused.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from docqa import wiring
from docqa.config import Config, LibraryConfig
from docqa.eval.answers import AnswerFigures, run_answers
from docqa.eval.questions import Question, find_documents, load_questions
from docqa.eval.report import figures_text
from docqa.eval.retrieval import run_retrieval
from docqa.events import SyncDone
from docqa.types import FileReport, State
from docqa.workspace import Workspace

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "sample_docs"
SHARED = ROOT.parent / "shared" / "data"
EVIDENCE, RIGHT, REFUSED = 0.95, 0.80, 0.60
FEW_KINDS = (
    "fact",
    "table",
    "two-model",
    "page-break",
    "two-column",
    "log-first",
    "log-count",
    "log-cause",
    "wrong-model",
    "absent",
)


def synced(workspace: Workspace, paths: Sequence[Path]) -> dict[str, FileReport]:
    reports: tuple[FileReport, ...] = ()
    for event in workspace.sync(paths):
        if isinstance(event, SyncDone):
            reports = event.reports
    return {Path(report.path).name: report for report in reports}


def opened(folder: Path) -> Workspace:
    return wiring.build(Config(library=LibraryConfig(folder)))


def readable(questions: Sequence[Question], reports: dict[str, FileReport]) -> list[Question]:
    """Leave out the questions about files that need OCR, where there is none."""
    unread = {name for name, report in reports.items() if report.state is not State.INDEXED}
    assert unread <= {"scanned_note.pdf"}, {name: reports[name].error for name in unread}
    return [q for q in questions if q.is_unanswerable or q.file not in unread]


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Workspace, list[Question]]]:
    questions = load_questions(SAMPLES / "questions.jsonl")
    with opened(tmp_path_factory.mktemp("sample")) as workspace:
        reports = synced(workspace, find_documents(questions, SAMPLES))
        yield workspace, readable(questions, reports)


def hold(figures: AnswerFigures, *, evidence: float, right: float, refused: float) -> None:
    means = figures.means()
    report = figures_text(figures.figures())
    assert means["evidence"].value >= evidence, report
    assert means["right"].value >= right, report
    assert means["rightly_refused"].value >= refused, report


@pytest.mark.timeout(1200)
def test_the_right_place_is_found(sample: tuple[Workspace, list[Question]]) -> None:
    workspace, questions = sample
    # "How many" and "first" of a log are scanned, not ranked.
    ranked = [q for q in questions if not (q.is_unanswerable or q.kind.startswith("log-"))]
    means = run_retrieval(workspace, ranked[::4]).means()
    assert means["recall@10"].value >= EVIDENCE
    assert means["mrr"].value >= 0.7


@pytest.mark.timeout(1200)
def test_one_question_of_each_kind(sample: tuple[Workspace, list[Question]]) -> None:
    workspace, questions = sample
    few = [next(q for q in questions if q.kind == kind) for kind in FEW_KINDS]
    # Ten questions: looser bounds than for all of them.
    hold(run_answers(workspace, few), evidence=0.85, right=0.6, refused=0.5)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_every_question_of_the_sample(sample: tuple[Workspace, list[Question]]) -> None:
    workspace, questions = sample
    hold(run_answers(workspace, questions), evidence=EVIDENCE, right=RIGHT, refused=REFUSED)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.skipif(not SHARED.is_dir(), reason="the real documents (../shared) are not here")
def test_questions_about_real_documents(tmp_path: Path) -> None:
    questions = load_questions(Path(__file__).parent / "questions_shared.jsonl")
    with opened(tmp_path / "library") as workspace:
        # All reports, not only those that are asked about: most of the loss is the wrong document.
        reports = sorted((SHARED / "pdfs" / "reports").glob("*.pdf"))
        logs = [p for p in find_documents(questions, SHARED) if p.suffix != ".pdf"]
        synced(workspace, [*reports, *logs])
        hold(run_answers(workspace, questions), evidence=EVIDENCE, right=RIGHT, refused=REFUSED)
