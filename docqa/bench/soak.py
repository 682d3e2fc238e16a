"""Does a long-running docqa keep its size: adds, questions and removals in one process, for hours.

    python -m docqa.bench.soak [--minutes 120]

One library that stays about the same: each round adds and changes files, asks (no language model),
searches, and removes as many documents as came. Memory and open files are looked at between rounds,
after a warm-up of a fifth of the time. The bars: resident memory grows by less than 5 %, open files
stay the same; at the end `docqa check` finds nothing. The exit code says whether all three held.
"""

from __future__ import annotations

import argparse
import gc
import random
import shutil
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from docqa.bench.log import write_log
from docqa.check import check
from docqa.config import Config, LibraryConfig, ModelConfig
from docqa.paths import LibraryPaths
from docqa.wiring import build
from docqa.workspace import NO_MODEL_NAME, Workspace

GROWTH_BAR = 0.05
WARM_UP_SHARE = 0.2
N_KEPT = 24  # documents in the library at a time
N_NEW = 4  # documents a round
N_QUESTIONS = 8
PARTS = ("pump", "valve", "motor", "gasket", "bearing", "filter", "tank", "sensor", "belt", "rotor")
DOINGS = ("inspected", "replaced", "cleaned", "adjusted", "tested", "lubricated", "measured")


@dataclass(slots=True)
class Samples:
    """What was seen between rounds: (seconds, resident bytes, open files)."""

    rows: list[tuple[float, int, int]] = field(default_factory=list)
    n_files: int = 0
    n_questions: int = 0

    def look(self, began: float) -> None:
        """Take a sample of this process."""
        process = psutil.Process()
        opened = process.num_fds() if hasattr(process, "num_fds") else process.num_handles()
        self.rows.append((time.monotonic() - began, process.memory_info().rss, opened))


def main() -> int:
    """Run for the time asked, print the figures; return 1 where a bar was missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=120.0)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="docqa-soak-"))
    try:
        return _soak(folder, 60 * arguments.minutes, random.Random(arguments.seed))
    finally:
        shutil.rmtree(folder)


def _soak(folder: Path, seconds: float, rng: random.Random) -> int:
    samples = Samples()
    docs = folder / "docs"
    docs.mkdir()
    model = ModelConfig(path=NO_MODEL_NAME)
    with build(Config(library=LibraryConfig(folder / "library"), model=model)) as workspace:
        began, told = time.monotonic(), 0.0
        n_rounds = 0
        while time.monotonic() - began < seconds:
            _round(workspace, docs, rng, n_rounds, samples)
            n_rounds += 1
            gc.collect()
            samples.look(began)
            if samples.rows[-1][0] - told >= 60:
                told = samples.rows[-1][0]
                _tell(samples, n_rounds)
    findings = check(LibraryPaths(folder / "library"))
    return _verdict(samples, n_rounds, seconds, [finding.problem for finding in findings])


def _round(
    workspace: Workspace, docs: Path, rng: random.Random, number: int, samples: Samples
) -> None:
    """Add, ask, search, list and remove."""
    for i in range(N_NEW):
        path = docs / f"note{number}-{i}.txt"
        path.write_text(_note(rng, number, i))
    path = docs / f"service{number % 3}.log"
    write_log(path, "service", 12_000 + 500 * (number % 7), seed=number)
    for _ in workspace.sync([docs]):
        pass
    samples.n_files += N_NEW + 1
    for i in range(N_QUESTIONS):
        for _ in workspace.ask(_question(rng, number, i)):
            pass
        samples.n_questions += 1
    workspace.search(rng.choice(PARTS), 10)
    documents = workspace.documents()
    notes = [d.path for d in documents if d.path.endswith(".txt")]
    gone = [Path(path) for path in rng.sample(notes, max(0, len(notes) - N_KEPT))]
    workspace.remove(gone)
    for path in gone:
        path.unlink()


def _note(rng: random.Random, number: int, i: int) -> str:
    lines = [
        f"The {rng.choice(PARTS)} of unit {number}-{i} was {rng.choice(DOINGS)} after "
        f"{rng.randrange(9_000)} hours; the reading was {rng.randrange(999) / 10} bar."
        for _ in range(6)
    ]
    return "\n\n".join(lines)


def _question(rng: random.Random, number: int, i: int) -> str:
    if i == 0:
        return "How many timeouts were there?"
    if i == 1:
        return "Who designed the control room chairs?"
    return f"When was the {rng.choice(PARTS)} of unit {number}-{i % N_NEW} {rng.choice(DOINGS)}?"


def _tell(samples: Samples, n_rounds: int) -> None:
    at, resident, opened = samples.rows[-1]
    print(f"{at / 60:6.1f} min {n_rounds:6} rounds {resident / 1e6:7.1f} MB {opened:4} open files")
    sys.stdout.flush()


def _verdict(samples: Samples, n_rounds: int, seconds: float, problems: list[str]) -> int:
    settled = [row for row in samples.rows if row[0] >= WARM_UP_SHARE * seconds] or samples.rows
    tenth = max(1, len(settled) // 8)
    before = statistics.median(row[1] for row in settled[:tenth])
    after = statistics.median(row[1] for row in settled[-tenth:])
    growth = after / before - 1
    opened = sorted({row[2] for row in settled})
    print(f"{n_rounds} rounds: {samples.n_files} files added, {samples.n_questions} questions")
    print(
        f"resident memory {before / 1e6:.1f} -> {after / 1e6:.1f} MB: {100 * growth:+.1f} %", end=""
    )
    print(f" (bar {100 * GROWTH_BAR:.0f} %)")
    print(f"open files between rounds: {', '.join(map(str, opened))} (bar: one number)")
    print(f"docqa check: {'; '.join(problems) or 'nothing wrong'}")
    return int(growth >= GROWTH_BAR or len(opened) > 1 or bool(problems))


if __name__ == "__main__":
    sys.exit(main())
