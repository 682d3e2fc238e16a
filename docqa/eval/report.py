"""Figures as text and JSON, alone or side by side."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from docqa.eval.metrics import Mean

SCHEMA = "docqa.eval/1"
Row = dict[str, str | float | int | bool | list[str] | None]


@dataclass(frozen=True, slots=True)
class Table:
    """A titled table; every line has as many cells as the head."""

    title: str
    head: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Figures:
    """What one run gave. `means` and `latencies` keep the order in which they are printed."""

    what: str  # answers | retrieval
    means: Mapping[str, Mean]
    latencies: Mapping[str, float]  # median seconds
    tables: tuple[Table, ...]
    rows: tuple[Row, ...]


def table_text(table: Table) -> str:
    """Return the table in Markdown with aligned columns; nothing where it has no lines."""
    if not table.lines:
        return ""
    cells = [table.head, *table.lines]
    widths = [max(len(row[i]) for row in cells) for i in range(len(table.head))]
    drawn = [
        "| " + " | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + " |"
        for row in cells
    ]
    drawn.insert(1, "|" + "|".join("-" * (w + 2) for w in widths) + "|")
    return f"{table.title}\n\n" + "\n".join(drawn) + "\n"


def figures_text(figures: Figures) -> str:
    """Return the figures as a person reads them."""
    lines = tuple(
        (name, _number(m.value), f"{_number(m.low)} to {_number(m.high)}", str(m.n))
        for name, m in figures.means.items()
    )
    parts = [table_text(Table("Means", ("figure", "value", "95 % interval", "n"), lines))]
    medians = tuple((name, f"{value:.3f}") for name, value in figures.latencies.items())
    parts.append(table_text(Table("Median latency", ("stage", "seconds"), medians)))
    parts += [table_text(table) for table in figures.tables]
    return "\n".join(part for part in parts if part)


def comparison_text(runs: Mapping[str, Figures]) -> str:
    """Return one line a variant, one column a figure, with intervals."""
    names = list(next(iter(runs.values())).means)
    lines = tuple(
        (
            variant,
            *(_with_interval(run.means[name]) for name in names),
            f"{run.latencies['total_s']:.2f}",
        )
        for variant, run in runs.items()
    )
    return table_text(Table("Side by side", ("variant", *names, "median s"), lines))


def _number(value: float) -> str:
    return f"{value:.3f}"


def _with_interval(mean: Mean) -> str:
    return f"{mean.value:.2f} ({mean.low:.2f}-{mean.high:.2f})" if mean.n else "-"


def figures_json(runs: Mapping[str, Figures]) -> str:
    """Return all runs as one JSON object, newline-terminated."""
    found = {
        "schema": SCHEMA,
        "what": next(iter(runs.values())).what,
        "runs": [
            {
                "variant": variant,
                "means": {name: asdict(mean) for name, mean in run.means.items()},
                "median_s": dict(run.latencies),
                "questions": list(run.rows),
            }
            for variant, run in runs.items()
        ],
    }
    return json.dumps(found, ensure_ascii=False, indent=1) + "\n"


def write(folder: Path, runs: Mapping[str, Figures], plot: str) -> Sequence[Path]:
    """Write `<what>.json` and `<what>.svg` into `folder`, made if need be; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    what = next(iter(runs.values())).what
    written = []
    for suffix, text in (("json", figures_json(runs)), ("svg", plot)):
        path = folder / f"{what}.{suffix}"
        path.write_text(text, encoding="utf-8")
        written.append(path)
    return written
