"""Each operation, broken at its steps: the library opens, is sound, and holds what it said.

Steps are calls of the system (write, fsync, rename, truncate, unlink, below the library) and
statements of SQLite; they fail once, fail from one on, tear a write, or kill the process. The
whole table, every step of every operation, is in `make slow`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docqa.durability import small

ROOT = Path(__file__).parents[3]
SYSTEM = ("once", "ever", "kill", "tear")
SQL = ("sql-once", "sql-ever", "sql-kill")


@pytest.fixture(scope="session")
def shim(tmp_path_factory):
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("the fault layer needs Linux and a C compiler")
    library = tmp_path_factory.mktemp("shim") / "fault_shim.so"
    source = Path(__file__).with_name("fault_shim.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    return library


def broken(folder, shim, n_runs, operations, manners):
    process = subprocess.run(
        [
            *(sys.executable, "-m", "tests.docqa.durability.breaking"),
            *(folder, shim, str(n_runs), *operations, "--", *manners),
        ],
        cwd=ROOT,
        env={**os.environ, "LD_PRELOAD": str(shim)},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr[-3000:]
    return json.loads(process.stdout.splitlines()[-1])


@pytest.mark.parametrize("operation", small.OPERATIONS)
def test_some_steps_of_each_operation(operation, shim, tmp_path):
    manners = ["ever", "kill", *(["sql-once"] if operation != "ask" else [])]  # it writes no rows
    results = broken(tmp_path, shim, 1, [operation], manners)
    assert [result["wrong"] for result in results] == [[]] * len(manners)
    assert all(result["steps"] >= 10 for result in results)
    assert [result["died"] for result in results] == [0, 1, 0][: len(manners)]


@pytest.mark.slow
@pytest.mark.timeout(7_200)
@pytest.mark.parametrize(
    ("operation", "how"),
    [
        (operation, how)
        for operation in small.OPERATIONS
        for how in (*SYSTEM, *(SQL if operation != "ask" else ()))
    ],
)
def test_every_step_of_each_operation(operation, how, shim, tmp_path):
    (result,) = broken(tmp_path, shim, 0, [operation], [how])
    assert result["wrong"] == []
    assert result["runs"] == result["steps"] >= 10
    if how in ("kill", "sql-kill"):
        # Merges run in threads of the index: a few steps more or less, and the last not reached.
        assert result["died"] >= 0.95 * result["runs"]
