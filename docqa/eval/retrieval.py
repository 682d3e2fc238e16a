"""`docqa eval retrieval`: at which rank the right page or line comes, before any model answers."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from docqa.eval import metrics
from docqa.eval.questions import Question
from docqa.eval.report import Figures, Row, Table

if TYPE_CHECKING:
    from docqa.workspace import Workspace

DEPTH = 50  # candidates looked at
CUTOFFS = (1, 3, 5, 10, 50)


@dataclass(frozen=True, slots=True)
class Ranked:
    """One answerable question and which of its candidates, best first, are of a right place."""

    question: Question
    is_right: tuple[bool, ...]
    latency_s: float

    @property
    def rank(self) -> int | None:
        """The rank of the first right candidate, from 1."""
        return next((rank for rank, right in enumerate(self.is_right, 1) if right), None)


def run_retrieval(
    workspace: Workspace,
    questions: Sequence[Question],
    *,
    on_progress: Callable[[int, Ranked], None] | None = None,
) -> RetrievalFigures:
    """Search for every answerable question in the whole library and return the ranks.

    `on_progress` is told the number done, from 1, and the ranks.
    """
    ranked: list[Ranked] = []
    for number, question in enumerate((q for q in questions if not q.is_unanswerable), 1):
        started = time.perf_counter()
        found = workspace.search(question.question, DEPTH)
        latency_s = time.perf_counter() - started
        is_right = tuple(question.is_at(c.path, c.chunk.span.locator) for c in found)
        one = Ranked(question, is_right, latency_s)
        ranked.append(one)
        if on_progress is not None:
            on_progress(number, one)
    return RetrievalFigures(ranked)


@dataclass(slots=True)
class RetrievalFigures:
    """All ranks of a run, and the figures made of them."""

    ranked: list[Ranked] = field(default_factory=list)

    def means(self) -> dict[str, metrics.Mean]:
        """Return figure → mean with interval, in the order of the printed table."""
        found = {
            f"recall@{k}": metrics.bootstrap_mean(
                [metrics.recall_at(r.is_right, k) for r in self.ranked]
            )
            for k in CUTOFFS
        }
        found["mrr"] = metrics.bootstrap_mean(
            [metrics.reciprocal_rank(r.is_right) for r in self.ranked]
        )
        return found

    def figures(self) -> Figures:
        """Return means, latencies, tables and rows for printing and JSON."""
        return Figures(
            what="retrieval",
            means=self.means(),
            latencies={"total_s": metrics.median([r.latency_s for r in self.ranked])},
            tables=(self._by_kind(), self._misses()),
            rows=tuple(_row(r) for r in self.ranked),
        )

    def _by_kind(self) -> Table:
        lines = []
        for kind in sorted({r.question.kind for r in self.ranked}):
            some = [r for r in self.ranked if r.question.kind == kind]
            recalls = [
                sum(metrics.recall_at(r.is_right, k) for r in some) / len(some) for k in CUTOFFS
            ]
            mrr = sum(metrics.reciprocal_rank(r.is_right) for r in some) / len(some)
            lines.append((kind, str(len(some)), *(f"{r:.2f}" for r in recalls), f"{mrr:.2f}"))
        head = ("kind", "n", *(f"recall@{k}" for k in CUTOFFS), "mrr")
        return Table("By kind", head, tuple(lines))

    def _misses(self) -> Table:
        lines = tuple(
            (r.question.id, r.question.kind, str(r.rank or f"> {DEPTH}"), r.question.question)
            for r in self.ranked
            if r.rank is None or r.rank > CUTOFFS[2]
        )
        return Table(f"Not among the first {CUTOFFS[2]}", ("id", "kind", "rank", ""), lines)


def _row(ranked: Ranked) -> Row:
    return {
        "id": ranked.question.id,
        "kind": ranked.question.kind,
        "question": ranked.question.question,
        "rank": ranked.rank,
        "latency_s": round(ranked.latency_s, 4),
    }


def run_command(workspace: Workspace, arguments: argparse.Namespace) -> int:
    """`docqa eval retrieval FILE.jsonl --docs DIR [--out DIR] [--compare]`; return the code."""
    from docqa.eval import command

    return command.evaluate(workspace, arguments, "retrieval")


if __name__ == "__main__":
    from docqa.eval import command

    sys.exit(command.main("retrieval"))
