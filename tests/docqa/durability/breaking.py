"""Breaks operations of a small library at each of their steps. A process of its own.

    LD_PRELOAD=SHIM python -m tests.docqa.durability.breaking FOLDER SHIM N OPERATION… -- HOW…
    … breaking --shard I/K FOLDER SHIM N OPERATION… -- HOW…

HOW is `once` (one step fails with EIO), `ever` (each step from one on fails with ENOSPC), `kill`,
`tear` (half of a write, then kill), where a step is a call of the system; `sql-once`, `sql-ever`
and `sql-kill` do the same to statements of SQLite. N steps are tried, evenly spread; 0: every one;
of these, with `--shard 2/5`, the second, the seventh, and so on, so five processes do them all.
Each runs in a fork of this process, which itself opens nothing. Prints a JSON list: the operation,
how, its number of steps, of runs, of deaths, and what was wrong.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import shutil
import signal
import sqlite3
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from docqa import database
from docqa.errors import DocqaError, LibraryError
from docqa.types import FileReport, State
from tests.docqa.durability import small

MODES = {"count": 0, "once": 1, "ever": 2, "kill": 3, "tear": 4}
ERRORS = {"once": errno.EIO, "ever": errno.ENOSPC}
ADVICE = ("free some space", "check the disk", "permissions", "docqa check", "repeat", "--library")
STATUS = {"sql-once": "SQLITE_IOERR_WRITE", "sql-ever": "SQLITE_FULL"}

Tell = Callable[[str], None]


class Breakable(sqlite3.Connection):
    """A connection whose statements are counted, fail, or end the process."""

    n_done, target, how = 0, 0, "sql-count"

    def execute(self, *arguments: object) -> sqlite3.Cursor:
        self._step(str(arguments[0]))
        return super().execute(*arguments)  # type: ignore[arg-type]

    def executemany(self, *arguments: object) -> sqlite3.Cursor:
        self._step(str(arguments[0]))
        return super().executemany(*arguments)  # type: ignore[arg-type]

    @staticmethod
    def _step(statement: str) -> None:
        kind = Breakable
        is_write = statement.lstrip().startswith(("INSERT", "UPDATE", "DELETE", "COMMIT", "CREATE"))
        kind.n_done += is_write
        if not is_write:
            return
        if kind.how == "sql-kill" and kind.n_done == kind.target:
            os.kill(os.getpid(), signal.SIGKILL)
        is_now = kind.n_done == kind.target
        if (kind.how == "sql-once" and is_now) or (
            kind.how == "sql-ever" and kind.n_done >= kind.target
        ):
            error = sqlite3.OperationalError("broken by the test")
            error.sqlite_errorname = STATUS[kind.how]
            raise error


class Breaker:
    """One operation on one library, again and again from the same state."""

    def __init__(self, folder: Path, shim: ctypes.CDLL, operation: str) -> None:
        self.folder = folder
        self.library = folder / "library"
        self.before = folder / "before"
        self.shim = shim
        self.name = operation
        self.files, self.operation = small.OPERATIONS[operation]
        status, text = in_fork(self._prepare)
        assert status == 0, text
        shutil.copytree(self.library, self.before)

    def _prepare(self, tell: Tell) -> None:
        small.prepare(self.folder)
        self.files(self.folder)

    def count(self, how: str) -> int:
        """Return the number of steps of the operation."""
        self._restore()
        counting = "sql-count" if how.startswith("sql-") else "count"
        status, text = in_fork(lambda tell: self._run(0, counting, tell))
        assert status == 0, text
        return int(text.rpartition("steps ")[2])

    def at(self, n: int, how: str) -> tuple[bool, str]:
        """Break the `n`-th step; return (whether the process died, what was wrong)."""
        self._restore()
        status, text = in_fork(lambda tell: self._run(n, how, tell))
        has_died = status == -signal.SIGKILL
        if status != 0 and not (has_died and how in ("kill", "tear", "sql-kill")):
            return has_died, f"step {n}: ended with {status}: {text[-3000:]}"
        reported = [line[1:] for line in text.split("\n") if line.startswith("+")]
        status, text = in_fork(lambda tell: small.verify(self.folder, reported))
        return has_died, f"step {n}: {text[-3000:]}" if status else ""

    def _restore(self) -> None:
        shutil.rmtree(self.library, ignore_errors=True)
        shutil.copytree(self.before, self.library)

    def _arm(self, n: int, how: str) -> None:
        if how.startswith("sql-"):
            Breakable.n_done, Breakable.target, Breakable.how = 0, n, how
            database._connect.__defaults__ = (Breakable,)
        else:
            self.shim.fault_arm(os.fsencode(self.library), n, MODES[how], ERRORS.get(how, 0))

    def _run(self, n: int, how: str, tell: Tell) -> None:
        def told(report: FileReport) -> None:
            if report.state in (State.INDEXED, State.UNCHANGED) and Path(report.path).exists():
                tell(f"+{report.path}\n")

        self._arm(n, how)
        try:
            self.operation(self.folder, told)
        except DocqaError as error:
            is_clear = any(advice in str(error) for advice in ADVICE)
            assert isinstance(error, LibraryError) and is_clear, f"unclear: {error!r}"
        if how.endswith("ever") and self.name != "migration":  # the disk is still full
            small.answers(self.folder)
        n_steps = Breakable.n_done if how.startswith("sql-") else self.shim.fault_steps()
        tell(f"steps {n_steps}")
        self._arm(0, "count")
        Breakable.how = "sql-count"


def in_fork(do: Callable[[Tell], None]) -> tuple[int, str]:
    """Run `do` in a fork; return (0, 1 or -signal, what it told or its traceback)."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        tell_to(writer, do)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        text = pipe.read().decode(errors="replace")
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), text


def tell_to(writer: int, do: Callable[[Tell], None]) -> NoReturn:
    """Run `do` and end this process; what it tells goes into the pipe `writer`."""
    status = 1
    try:
        do(lambda text: (os.write(writer, text.encode()), None)[1])
        status = 0
    except BaseException:
        os.write(writer, traceback.format_exc()[-8000:].encode())
    finally:
        os._exit(status)


def load(shim: str) -> ctypes.CDLL:
    """Return the fault layer that this process was started with."""
    library = ctypes.CDLL(shim)
    library.fault_arm.argtypes = [ctypes.c_char_p, ctypes.c_long, ctypes.c_int, ctypes.c_int]
    library.fault_steps.restype = ctypes.c_long
    return library


def steps(n_steps: int, n_runs: int) -> list[int]:
    """Return which steps to break: `n_runs` of them evenly spread, or every one."""
    if not n_runs or n_runs >= n_steps:
        return list(range(1, n_steps + 1))
    return [1 + round((i + 0.5) * (n_steps - 1) / n_runs) for i in range(n_runs)]


def main(argv: list[str]) -> None:
    first, stride = 0, 1
    if argv[0] == "--shard":
        number, _, n_shards = argv[1].partition("/")
        first, stride, argv = int(number) - 1, int(n_shards), argv[2:]
    folder, shim, n_runs, *rest = argv
    operations, manners = rest[: rest.index("--")], rest[rest.index("--") + 1 :]
    small.shrink()
    results = []
    for operation in operations:
        place = Path(folder) / operation
        place.mkdir()
        breaker = Breaker(place, load(shim), operation)
        for how in manners:
            n_steps = breaker.count(how)
            chosen = steps(n_steps, int(n_runs))[first::stride]
            found = [breaker.at(n, how) for n in chosen]
            results.append(
                {
                    "operation": operation,
                    "how": how,
                    "steps": n_steps,
                    "runs": len(found),
                    "died": sum(has_died for has_died, _ in found),
                    "wrong": [text for _, text in found if text],
                }
            )
    print(json.dumps(results))


if __name__ == "__main__":
    main(sys.argv[1:])
