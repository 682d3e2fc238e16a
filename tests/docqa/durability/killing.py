"""Kills whatever a small library is doing, at random moments. A process of its own.

    python -m tests.docqa.durability.killing FOLDER N SEED

Each round changes files, begins an operation in a fork, and kills it after a random part of the
time that it takes; the library goes on from there. Prints a JSON object: rounds by operation, the
number of deaths, and what was wrong.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from pathlib import Path

from docqa.events import FileDone
from docqa.types import FileReport, State
from docqa.watch import Pace
from tests.docqa.durability import small
from tests.docqa.durability.breaking import Tell, in_fork, tell_to
from tests.docqa.librarian import write

FAST = Pace(tick_s=0.02, sweep_s=0.2, sweep_share=1.0, look_share=1.0, again_s=0.1)
WATCHED_S = 0.6
OPERATIONS = ("add", "sync", "remove", "ask", "watch", "migration")


class Changes:
    """Random changes of the files, with the words that each has."""

    def __init__(self, docs: Path, rng: random.Random) -> None:
        self._docs, self._rng = docs, rng
        self._n = 0
        self._n_lines = 60

    def make(self) -> None:
        rng = self._rng
        files = sorted(self._docs.glob("*.txt"))
        files = [file for file in files if file.name != "report.txt"]
        for _ in range(rng.randrange(1, 4)):
            self._n += 1
            what = rng.choice(("new", "new", "change", "delete", "rename", "log"))
            name = f"f{rng.randrange(12)}.txt"
            text = small.text_of(f"k{self._n}", self._n, rng.randrange(1, 30))
            if what == "log":
                with (self._docs / "service.log").open("a") as log:
                    log.write(small.log_lines(self._n_lines, 30))
                self._n_lines += 30
                os.utime(self._docs / "service.log", (1.6e9 + self._n, 1.6e9 + self._n))
            elif what in ("new", "change") or not files:
                write(self._docs / name, text, age_s=3_600 + self._n)
            elif what == "delete":
                rng.choice(files).unlink(missing_ok=True)
            else:
                old = rng.choice(files)
                if old.exists():
                    old.rename(self._docs / f"r{self._n}.txt")


def operate(folder: Path, operation: str, tell: Tell) -> None:
    """Do what is to be killed, to its end."""

    def told(report: FileReport) -> None:
        if report.state is State.INDEXED and Path(report.path).exists():
            tell(f"+{report.path}\n")

    if operation in ("add", "sync"):
        small.run_sync(folder, told)
    elif operation == "ask":
        small.run_ask(folder, told)
    elif operation == "migration":
        small.run_open(folder, told)
    elif operation == "remove":
        with small.open_library(folder) as library:
            paths = [Path(document.path) for document in library.store.documents()]
            library.remove([path for path in paths if path.name != "report.txt"][::2])
    else:
        stop = threading.Event()
        timer = threading.Timer(WATCHED_S, stop.set)
        timer.start()
        with small.open_library(folder) as library:
            library.set_watched(folder / "docs", True)
            for event in library.watch(stop, [folder / "docs"], pace=FAST):
                if isinstance(event, FileDone):
                    told(event.report)


def change(folder: Path, operation: str, changes: Changes) -> None:
    """Give an operation something to do."""
    if operation == "migration":
        in_fork(lambda tell: small.first_schema(folder))
    elif operation != "remove":
        changes.make()


def time_of(folder: Path, operation: str) -> float:
    """Return the seconds that an operation takes here and now, its fork included."""
    start = time.monotonic()
    status, text = in_fork(lambda tell: operate(folder, operation, tell))
    assert status == 0, text
    return time.monotonic() - start


def killed(folder: Path, operation: str, after_s: float) -> tuple[bool, list[str], str]:
    """Run an operation and kill it; return (whether it died, what it reported, what was wrong)."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        tell_to(writer, lambda tell: operate(folder, operation, tell))
    os.close(writer)
    time.sleep(after_s)
    os.kill(child, signal.SIGKILL)
    with os.fdopen(reader, "rb") as pipe:
        text = pipe.read().decode(errors="replace")
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    reported = [line[1:] for line in text.split("\n") if line.startswith("+")]
    return code == -signal.SIGKILL, reported, text[-3000:] if code > 0 else ""


def main(argv: list[str]) -> None:
    folder, n, seed = Path(argv[0]), int(argv[1]), int(argv[2])
    rng = random.Random(seed)
    small.shrink()
    status, text = in_fork(lambda tell: small.prepare(folder))
    assert status == 0, text
    changes = Changes(folder / "docs", rng)
    took: dict[str, float] = {}
    for operation in OPERATIONS:
        change(folder, operation, changes)
        took[operation] = time_of(folder, operation)
    rounds: Counter[str] = Counter()
    wrong: list[str] = []
    n_died = 0
    for i in range(n):
        operation = OPERATIONS[i % len(OPERATIONS)] if n < 100 else rng.choice(OPERATIONS)
        change(folder, operation, changes)
        has_died, reported, error = killed(folder, operation, rng.random() * took[operation])
        took[operation] *= 1.1 if has_died else 0.7  # a library grows and shrinks
        rounds[operation] += 1
        n_died += has_died
        here = [path for path in reported if Path(path).exists()]
        status, text = in_fork(lambda tell, here=here: small.verify(folder, here))  # type: ignore[misc]
        if status or error:
            wrong.append(f"round {i}, {operation}: {error}{text[-3000:] if status else ''}")
    print(json.dumps({"rounds": rounds, "died": n_died, "wrong": wrong}))


if __name__ == "__main__":
    main(sys.argv[1:])
