"""Does a long-running docqa keep its size: adds, questions and removals in one process, for hours.

    python -m docqa.bench.soak [--minutes 120] [--rest SECONDS]

One library that stays the same in size: each round adds notes, replaces a log and lets another grow
(its former file is replaced every 20 rounds), asks (no language model), searches, and removes as
many notes as came. Memory and open files are looked at between rounds, a row of the table every two
minutes. Growth is counted after a warm-up of a fifth of the time, 10 minutes at most, in which
models and caches are loaded. The bars: resident memory grows by less than 5 %, open files stay the
same; at the end `docqa check` finds nothing. The exit code says whether all three held. `--rest`
sleeps between rounds, to leave the machine to others.
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
from docqa.process_memory import own_bytes
from docqa.wiring import build
from docqa.workspace import NO_MODEL_NAME, Workspace

GROWTH_BAR = 0.05
WARM_UP_SHARE, WARM_UP_S = 0.2, 600.0
ROW_S = 120.0  # between rows of the table
N_KEPT = 24  # documents in the library at a time
N_NEW = 4  # documents a round
N_QUESTIONS = 8
LOG_BYTES = 100_000
ROUNDS_PER_LOG = 20  # after which the growing log begins anew
PARTS = ("pump", "valve", "motor", "gasket", "bearing", "filter", "tank", "sensor", "belt", "rotor")
DOINGS = ("inspected", "replaced", "cleaned", "adjusted", "tested", "lubricated", "measured")


@dataclass(slots=True)
class Samples:
    """What was seen between rounds: (seconds, resident bytes, of those anonymous, open files)."""

    rows: list[tuple[float, int, int, int]] = field(default_factory=list)
    n_files: int = 0
    n_questions: int = 0

    def look(self, began: float) -> None:
        """Take a sample of this process."""
        process = psutil.Process()
        opened = process.num_fds() if hasattr(process, "num_fds") else process.num_handles()
        resident = process.memory_info().rss
        self.rows.append((time.monotonic() - began, resident, own_bytes(process), opened))


def main() -> int:
    """Run for the time asked, print the figures; return 1 where a bar was missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=120.0)
    parser.add_argument("--rest", type=float, default=0.0, help="seconds of sleep between rounds")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="docqa-soak-"))
    try:
        return _soak(folder, 60 * arguments.minutes, arguments.rest, random.Random(arguments.seed))
    finally:
        shutil.rmtree(folder)


def _soak(folder: Path, seconds: float, rest_s: float, rng: random.Random) -> int:
    samples = Samples()
    docs = folder / "docs"
    docs.mkdir()
    model = ModelConfig(path=NO_MODEL_NAME)
    with build(Config(library=LibraryConfig(folder / "library"), model=model)) as workspace:
        print(" minutes  rounds  resident MB  own MB  open files  documents  chunks")
        began, told = time.monotonic(), -ROW_S
        n_rounds = 0
        while time.monotonic() - began < seconds:
            _round(workspace, docs, rng, n_rounds, samples)
            n_rounds += 1
            gc.collect()
            samples.look(began)
            if samples.rows[-1][0] - told >= ROW_S:
                told = samples.rows[-1][0]
                _tell(samples, n_rounds, workspace)
            time.sleep(rest_s)
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
    write_log(path, "service", LOG_BYTES, seed=number)
    _grow(docs / "growing.log", number)
    for _ in workspace.sync([docs]):
        pass
    samples.n_files += N_NEW + 2
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


def _grow(log: Path, number: int) -> None:
    """Add lines, as a program does that runs; now and then it begins a new file."""
    if number % ROUNDS_PER_LOG == 0 and log.exists():
        log.replace(log.with_name(f"{log.name}.1"))
    with log.open("a") as out:
        for i in range(50):
            at = 50 * number + i
            clock = f"{at // 3600 % 24:02}:{at // 60 % 60:02}:{at % 60:02}"
            out.write(f"2026-03-11T{clock}Z ERROR valve {i} did not close in round {number}\n")


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


def _tell(samples: Samples, n_rounds: int, workspace: Workspace) -> None:
    at, resident, own, opened = samples.rows[-1]
    documents, n_chunks = workspace.documents(), workspace.library.store.count_chunks()
    print(
        f"{at / 60:8.1f} {n_rounds:7} {resident / 1e6:12.1f} {own / 1e6:7.1f} {opened:11} "
        f"{len(documents):10} {n_chunks:7}",
        flush=True,
    )


def _verdict(samples: Samples, n_rounds: int, seconds: float, problems: list[str]) -> int:
    warm_s = min(WARM_UP_SHARE * seconds, WARM_UP_S)
    settled = [row for row in samples.rows if row[0] >= warm_s] or samples.rows
    tenth = max(1, len(settled) // 8)
    before = statistics.median(row[1] for row in settled[:tenth])
    after = statistics.median(row[1] for row in settled[-tenth:])
    growth = after / before - 1
    opened = sorted({row[3] for row in settled})
    print(f"{n_rounds} rounds: {samples.n_files} files added, {samples.n_questions} questions")
    print(f"resident memory after {warm_s / 60:.0f} min {before / 1e6:.1f} MB,", end=" ")
    print(f"at the end {after / 1e6:.1f} MB: {100 * growth:+.1f} % (bar {100 * GROWTH_BAR:.0f} %)")
    print(f"open files between rounds: {', '.join(map(str, opened))} (bar: one number)")
    print(f"docqa check: {'; '.join(problems) or 'nothing wrong'}")
    return int(growth >= GROWTH_BAR or len(opened) > 1 or bool(problems))


if __name__ == "__main__":
    sys.exit(main())
