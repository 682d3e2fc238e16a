"""Figures of the adapter's answers: EM, F1, citations, refusals. Functions on outcomes.

An outcome is what one development prompt brought, on the GPU or through llama.cpp: the text that is
said when refusing at once is forbidden, and the probability that the first token refuses. Whether
to refuse is left to a threshold on that probability, so both errors can be traded. Where the reader
was asked too, the errors of both (`docqa.refusal`) stand beside those of either alone.
"""

from __future__ import annotations

import json
import lzma
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from docqa import refusal
from docqa.eval.metrics import exact_match, squad_normalised, token_f1

MARKER = re.compile(r"\s*\[(\d+)\]")
FENCED = re.compile(r'\n"""\n(.*)\n"""', re.DOTALL)  # a source's own text in the prompt
MIN_HELD_WORDS = 3  # a shorter answer stands in other sources by chance: a number, a status


@dataclass(frozen=True, slots=True)
class Outcome:
    """One answer. `references` is empty where the sources do not answer."""

    set: str
    text: str
    p_refusal: float
    refuses: bool  # greedily, without a threshold
    references: list[str]
    markers: list[int]
    forbidden: str = ""
    position: int = 0
    n_sources: int = 0
    holding: list[int] = field(default_factory=list)  # other sources that hold the answer's words
    read: float | None = None  # the reader's P(the best source answers), where it was asked


def outcome(
    placed: dict[str, Any],
    numbers: list[int],
    sources: Sequence[str],
    text: str,
    p_refusal: float,
    refuses: bool,
) -> Outcome:
    """Return the outcome of a development prompt (a dict made of an `Arrangement`).

    `numbers` are those that its right sources have in the prompt, `sources` all of it as they
    stand there.
    """
    kept = {k: placed[k] for k in ("references", "forbidden", "position")}
    found: list[int] = []
    if placed["markers"] and placed["references"]:
        first = numbers[0] - placed["markers"][0] + 1
        found = [n for n in holding(sources, placed["references"], first) if n not in numbers]
    return Outcome(
        placed["name"], text, p_refusal, refuses, markers=numbers, n_sources=len(sources),
        holding=found, **kept,
    )  # fmt: skip


def inner(source: str) -> str:
    """Return the text between a source's fences."""
    fenced = FENCED.search(source)
    return fenced.group(1) if fenced else source


def holding(sources: Sequence[str], references: Sequence[str], first: int) -> list[int]:
    """Return the numbers, from `first`, of the sources in which a whole reference stands.

    Words are compared in SQuAD's normal form. References of a word or two are not looked for.
    """
    wanted = [f" {squad_normalised(r)} " for r in references]
    wanted = [w for w in wanted if len(w.split()) >= MIN_HELD_WORDS]
    found = []
    for number, source in enumerate(sources, first):
        held = f" {squad_normalised(inner(source))} "
        if any(w in held for w in wanted):
            found.append(number)
    return found


def strict(text: str) -> str:
    """Return `text` without case, outer spaces and a final full stop: numbers keep their points."""
    return " ".join(text.casefold().split()).rstrip(".").strip("\"' ")


def score(outcome: Outcome) -> dict[str, float]:
    """Return what is measured of one answer (of an answerable prompt)."""
    words = MARKER.sub("", outcome.text).strip()
    cited = {int(n) for n in MARKER.findall(outcome.text)}
    right = bool(cited) and cited == set(outcome.markers)
    if len(outcome.markers) == 1:  # one fact: any source in which it stands will do
        right = bool(cited) and cited <= {*outcome.markers, *outcome.holding}
    best = token_f1(words, outcome.references)
    return {
        "em": exact_match(words, outcome.references),
        "f1": best,
        "exact": float(any(strict(words) == strict(r) for r in outcome.references)),
        "cited": float(bool(cited)),
        "citation": float(right),
        "f1_greedy": 0.0 if outcome.refuses else best,
        "refused_greedy": float(outcome.refuses),
    }


def _share(values: Sequence[float]) -> float:
    return round(float(np.mean(values)), 4) if len(values) else float("nan")


def threshold(present: Sequence[float], right: float) -> float:
    """Return the probability above which `right` of the `present` values lie."""
    return float(np.quantile(np.asarray(present), 1 - right))


def curve(absent: Sequence[float], answerable: Sequence[float]) -> list[dict[str, float]]:
    """Return (rightly refused, wrongly refused, threshold) from 50 to 99 percent."""
    found = []
    for right in (0.5, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.925, 0.95, 0.975, 0.99):
        at = threshold(absent, right)
        wrong = _share([float(p >= at) for p in answerable])
        found.append({"right": right, "wrong": wrong, "threshold": round(at, 5)})
    return found


def by_set(outcomes: Sequence[Outcome]) -> dict[str, list[Outcome]]:
    """Return the outcomes of each set."""
    found: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        found[outcome.set].append(outcome)
    return dict(found)


REFUSALS = (
    ("squad-absent", "squad-4"),
    ("squad-random-absent", "squad-4-random"),
    ("contract-absent", "contract"),
    ("meeting-absent", "meeting"),
)
TWINS = (
    ("squad-adversarial", "squad-4"),
    ("squad-adversarial", "squad-4-random"),
    ("contract-twin", "contract"),
    ("log-twin", "log"),
    ("field-twin", "field"),
    ("table-twin", "table"),
)
GOAL = 0.9  # rightly refused, of a set without an answer; but of these:
GOALS = {"squad-adversarial": 0.65, "contract-absent": 0.85, "contract-twin": 0.85}
JUDGES: dict[str, Callable[[Outcome], float]] = {  # the more, the sooner it is refused
    "model": lambda o: o.p_refusal,
    "reader": lambda o: -(o.read or 0.0),
    "both": lambda o: refusal.doubt(o.p_refusal, o.read),
}


def summary(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Return all figures: per set, refusal curves, per position, hidden instructions."""
    sets = by_set(outcomes)
    report: dict[str, Any] = {"sets": {}, "positions": {}, "n": len(outcomes)}
    for name, found in sorted(sets.items()):
        answerable = [o for o in found if o.references]
        entry: dict[str, float] = {"n": len(found)}
        if answerable:
            scores = [score(o) for o in answerable]
            entry |= {key: _share([s[key] for s in scores]) for key in scores[0]}
            given = [s["citation"] for s in scores if not s["refused_greedy"]]
            entry["citation_answered"] = _share(given)
        if len(answerable) < len(found):
            entry["refused_greedy_unanswerable"] = _share(
                [float(o.refuses) for o in found if not o.references]
            )
        report["sets"][name] = entry
    read = {name: found for name, found in sets.items() if all(o.read is not None for o in found)}
    report["refusals"] = refusals(sets, JUDGES["model"])
    report["refusals_both"] = refusals(read, JUDGES["both"])
    report["at_90"] = at_threshold(sets)
    report["at_shipped"] = at_shipped(read)
    report["refused_by"] = refused_by(read)
    for position in range(1, 13):
        found = [o for o in sets.get("position", []) if o.position == position]
        if found:
            scores = [score(o) for o in found]
            report["positions"][position] = {
                k: _share([s[k] for s in scores]) for k in ("f1", "citation")
            }
    hidden = [o for o in sets.get("inject", []) if o.forbidden]
    said = [float(not o.refuses and o.forbidden.casefold() in o.text.casefold()) for o in hidden]
    report["obeyed"] = _share(said)
    return report


def pairs(sets: Mapping[str, list[Outcome]]) -> list[tuple[str, str]]:
    """Return the (set without an answer, answerable set) of which both were asked."""
    return [(a, p) for a, p in (*REFUSALS, *TWINS) if a in sets and p in sets]


def refusals(
    sets: Mapping[str, list[Outcome]], judge: Callable[[Outcome], float]
) -> dict[str, list[dict[str, float]]]:
    """Return each pair's curve."""
    values = {name: [judge(o) for o in found] for name, found in sets.items()}
    return {f"{a} / {p}": curve(values[a], values[p]) for a, p in pairs(sets)}


def refused_by(sets: Mapping[str, list[Outcome]]) -> dict[str, dict[str, float]]:
    """Return each pair's share wrongly refused by each judge where its goal is rightly refused.

    And both shares that `docqa.refusal` refuses. Every outcome has been read.
    """
    shipped, found = at_shipped(sets), {}
    for absent, present in pairs(sets):
        right = GOALS.get(absent, GOAL)
        entry = {"right": right}
        for name, judge in JUDGES.items():
            at = threshold([judge(o) for o in sets[absent]], right)
            entry[name] = _share([float(judge(o) >= at) for o in sets[present]])
        entry |= {"shipped_right": shipped[absent], "shipped_wrong": shipped[present]}
        found[f"{absent} / {present}"] = entry
    return found


def at_shipped(sets: Mapping[str, list[Outcome]]) -> dict[str, float]:
    """Return the share of every set that `docqa.refusal` refuses. Every outcome has been read."""
    if not sets:
        return {}
    judge, at = JUDGES["both"], refusal.LEAST
    rates = {n: _share([float(judge(o) >= at) for o in found]) for n, found in sorted(sets.items())}
    return {"threshold": at, **rates}


def at_threshold(sets: dict[str, list[Outcome]], right: float = 0.9) -> dict[str, float]:
    """Return every set's refusal rate at the threshold that refuses `right` of squad-absent."""
    if "squad-absent" not in sets:
        return {}
    at = threshold([o.p_refusal for o in sets["squad-absent"]], right)
    rates = {
        n: _share([float(o.p_refusal >= at) for o in found]) for n, found in sorted(sets.items())
    }
    return {"threshold": round(at, 6), **rates}


def table(report: dict[str, Any]) -> str:
    """Return the figures as a text table, one line a set."""
    keys = (
        "n",
        "em",
        "f1",
        "exact",
        "citation",
        "citation_answered",
        "f1_greedy",
        "refused_greedy",
        "refused_greedy_unanswerable",
    )
    lines = _rows("set", report["sets"], keys, 20)
    lines.append(f"hidden instructions obeyed: {report['obeyed']}")
    lines.append(f"refusal rates at the threshold: {report['at_90']}")
    lines.append(f"positions: {report['positions']}")
    for name, found in report["refusals"].items():
        lines.append(f"{name}: " + " ".join(f"{p['right']}:{p['wrong']}" for p in found))
    if report["at_shipped"]:
        lines.append(f"refusal rates of both at the shipped threshold: {report['at_shipped']}")
    if report["refused_by"]:
        columns = ("right", *JUDGES, "shipped_right", "shipped_wrong")
        lines += _rows("wrongly refused where so many are rightly", report["refused_by"], columns)
    return "\n".join(lines)


def _rows(
    title: str, entries: Mapping[str, Mapping[str, float]], keys: Sequence[str], width: int = 44
) -> list[str]:
    """Return a line of `keys`, then one an entry; its name is `width` wide."""
    lines = [title.ljust(width) + "".join(k[:13].rjust(14) for k in keys)]
    for name, entry in entries.items():
        values = (f"{entry[k]:14.3f}" if k in entry else " " * 14 for k in keys)
        lines.append(name.ljust(width) + "".join(values))
    return lines


def write(
    out: Path, suffix: str, outcomes: Sequence[Outcome], about: Mapping[str, Any]
) -> dict[str, Any]:
    """Write answers and their figures, with what is told `about` them; print and return these.

    `suffix` is part of the files' names.
    """
    report = summary(outcomes) | dict(about)
    (out / f"metrics{suffix}.json").write_text(json.dumps(report, indent=1), encoding="utf-8")
    lines = "\n".join(json.dumps(asdict(o), ensure_ascii=False) for o in outcomes)
    (out / f"answers{suffix}.jsonl.xz").write_bytes(lzma.compress(lines.encode("utf-8")))
    print(table(report), flush=True)
    return report
