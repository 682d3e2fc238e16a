"""`docqa eval answers`: every question asked for real, and what came back judged.

A shown answer is *right* where it contains an accepted value and cites a right page or line. Each
question that is not right names the stage that lost it, so that the next thing to mend is known.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from docqa.eval import metrics
from docqa.eval.questions import Question
from docqa.eval.report import Figures, Row, Table
from docqa.events import Answered, Retrieved
from docqa.types import Answer, AnswerKind, Candidate, Citation, Evidence, Locator

if TYPE_CHECKING:
    from docqa.workspace import Workspace


# Up to the end of the first sentence or line; matches the empty text too.
_FIRST = re.compile(r"(?:(?!\.\s)[^\n])*")


@dataclass(frozen=True, slots=True)
class Judged:
    """One question, its answer, and the verdict. Booleans say nothing of an unanswerable one."""

    question: Question
    answer: Answer
    latency_s: float
    has_evidence: bool
    has_value: bool
    is_cited: bool
    stage: str  # "" where right; else which stage lost it

    @property
    def is_right(self) -> bool:
        """Shown as it should be: the value with its place, or the refusal."""
        if self.question.is_unanswerable:
            return not self.answer.found
        return self.answer.found and self.has_value and self.is_cited


def citation_locator(citation: Citation) -> Locator:
    """Return the pages or lines of a citation."""
    if citation.page is not None:
        return Locator("page", citation.page, citation.page_last or citation.page)
    line = citation.line or 0
    return Locator("line", line, citation.line_last or line)


def is_cited(question: Question, citation: Citation) -> bool:
    """Whether a citation is of a right place."""
    return question.is_at(citation.path, citation_locator(citation))


def _is_of(question: Question, passage: Candidate | Evidence) -> bool:
    return question.is_at(passage.path, passage.chunk.span.locator)


def judge(
    question: Question, answer: Answer, candidates: Sequence[Candidate], latency_s: float
) -> Judged:
    """Return the verdict on `answer`; `candidates` are what was retrieved for it."""
    cited = [is_cited(question, c) for c in answer.citations]
    # An exact scan reads the whole log: the lines that it cites are its evidence.
    has_evidence = any(_is_of(question, e) for e in answer.evidence) or any(cited)
    has_value = answer.found and metrics.contains_answer(_claim(question, answer), question.answers)
    verdict = Judged(question, answer, latency_s, has_evidence, has_value, any(cited), "")
    if verdict.is_right:
        return verdict
    stage = _lost_at(verdict, candidates)
    return Judged(question, answer, latency_s, has_evidence, has_value, any(cited), stage)


def _claim(question: Question, answer: Answer) -> str:
    """Return the part of the shown text that must hold the value.

    Of a count only the first sentence: the lines listed below it are full of numbers.
    """
    if not question.kind.endswith("count"):
        return answer.text
    first = _FIRST.match(answer.text)
    return first[0] if first is not None else ""


def _lost_at(verdict: Judged, candidates: Sequence[Candidate]) -> str:
    question, answer = verdict.question, verdict.answer
    if question.is_unanswerable:
        return f"answered ({answer.kind})"
    if answer.kind is AnswerKind.SCAN:
        return "scan"
    right = [c for c in candidates if _is_of(question, c)]
    if not right:
        return "parse, chunk or retrieve"
    kept = [c for c in right if c.dropped is None]
    if not kept:
        return f"rerank ({right[0].dropped})"
    if not verdict.has_evidence:
        return "pack"
    if not any(metrics.contains_answer(c.chunk.text, question.answers) for c in right):
        return "parse or chunk: the value is in no passage of its place"
    if not answer.found:
        return "answer: refused"
    return "answer: wrong value" if not verdict.has_value else "answer: wrong citation"


def run_answers(
    workspace: Workspace,
    questions: Sequence[Question],
    *,
    on_progress: Callable[[int, Judged], None] | None = None,
) -> AnswerFigures:
    """Ask every question of the whole library and return the verdicts.

    `on_progress` is told the number done, from 1, and the verdict.
    """
    judged: list[Judged] = []
    for number, question in enumerate(questions, 1):
        started = time.perf_counter()
        candidates: tuple[Candidate, ...] = ()
        answer: Answer | None = None
        for event in workspace.ask(question.question):
            if isinstance(event, Retrieved):
                candidates = event.candidates
            elif isinstance(event, Answered):
                answer = event.answer
        assert answer is not None, "ask() ends in Answered"
        verdict = judge(question, answer, candidates, time.perf_counter() - started)
        judged.append(verdict)
        if on_progress is not None:
            on_progress(number, verdict)
    return AnswerFigures(judged)


@dataclass(slots=True)
class AnswerFigures:
    """All verdicts of a run, and the figures made of them."""

    judged: list[Judged] = field(default_factory=list)

    @property
    def _answerable(self) -> list[Judged]:
        return [j for j in self.judged if not j.question.is_unanswerable]

    @property
    def _unanswerable(self) -> list[Judged]:
        return [j for j in self.judged if j.question.is_unanswerable]

    def means(self) -> dict[str, metrics.Mean]:
        """Return figure → mean with interval, in the order of the printed table."""
        asked, absent = self._answerable, self._unanswerable
        cited = [j for j in asked if j.answer.found and j.answer.citations]
        values: dict[str, list[float]] = {
            "evidence": [float(j.has_evidence) for j in asked],
            "right": [float(j.is_right) for j in asked],
            "contains": [float(j.has_value) for j in asked],
            "em": [_shown(j, metrics.exact_match) for j in asked],
            "f1": [_shown(j, metrics.token_f1) for j in asked],
            "citation_precision": [_precision(j) for j in cited],
            "citation_recall": [float(j.is_cited) for j in asked],
            "wrongly_refused": [float(not j.answer.found) for j in asked],
            "rightly_refused": [float(not j.answer.found) for j in absent],
        }
        return {name: metrics.bootstrap_mean(v) for name, v in values.items()}

    def latencies(self) -> dict[str, float]:
        """Return stage → median seconds over the questions that passed it."""
        found: dict[str, list[float]] = {"total_s": [j.latency_s for j in self.judged]}
        for stage in ("retrieve_s", "rerank_s", "prefill_s", "decode_s"):
            values = [float(getattr(j.answer.usage, stage)) for j in self.judged]
            found[stage] = [v for v in values if v > 0]
        return {name: metrics.median(v) for name, v in found.items()}

    def figures(self) -> Figures:
        """Return means, latencies, tables and rows for printing and JSON."""
        return Figures(
            what="answers",
            means=self.means(),
            latencies=self.latencies(),
            tables=(self._by_kind(), self._failures()),
            rows=tuple(_row(j) for j in self.judged),
        )

    def _by_kind(self) -> Table:
        kinds = sorted({j.question.kind for j in self.judged})
        lines = []
        for kind in kinds:
            some = [j for j in self.judged if j.question.kind == kind]
            answerable = [j for j in some if not j.question.is_unanswerable]
            lines.append(
                (
                    kind,
                    str(len(some)),
                    _share([j.has_evidence for j in answerable]),
                    _share([j.has_value for j in answerable]),
                    _share([j.is_right for j in some]),
                    _share([not j.answer.found for j in some]),
                )
            )
        head = ("kind", "n", "evidence", "contains", "right", "refused")
        return Table("By kind", head, tuple(lines))

    def _failures(self) -> Table:
        lines = tuple(
            (j.question.id, j.question.kind, j.stage, j.question.question)
            for j in self.judged
            if not j.is_right
        )
        return Table("Not right, and the stage that lost it", ("id", "kind", "stage", ""), lines)


def _shown(judged: Judged, metric: Callable[[str, Sequence[str]], float]) -> float:
    if not judged.answer.found:
        return 0.0
    return metric(judged.answer.text, judged.question.answers)


def _precision(judged: Judged) -> float:
    right = [is_cited(judged.question, c) for c in judged.answer.citations]
    return sum(right) / len(right)


def _share(values: Sequence[bool]) -> str:
    return f"{100 * sum(values) / len(values):.0f} %" if values else "-"


def _row(judged: Judged) -> Row:
    answer = judged.answer
    return {
        "id": judged.question.id,
        "kind": judged.question.kind,
        "question": judged.question.question,
        "accepted": list(judged.question.answers),
        "found": answer.found,
        "answer_kind": str(answer.kind),
        "answer": answer.text,
        "cited": [f"{c.path}:{c.page or c.line}" for c in answer.citations],
        "has_evidence": judged.has_evidence,
        "has_value": judged.has_value,
        "is_cited": judged.is_cited,
        "is_right": judged.is_right,
        "lost_at": judged.stage,
        "latency_s": round(judged.latency_s, 3),
    }


def run_command(workspace: Workspace, arguments: argparse.Namespace) -> int:
    """`docqa eval answers FILE.jsonl --docs DIR [--out DIR] [--compare]`; return the exit code."""
    from docqa.eval import command

    return command.evaluate(workspace, arguments, "answers")


if __name__ == "__main__":
    from docqa.eval import command

    sys.exit(command.main("answers"))
