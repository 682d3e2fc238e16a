"""kill -9 at random moments: the library opens, is sound, and holds what it reported, each once.

The real number of rounds, 1,000, is in `make soak`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def rounds(folder, n, seed):
    process = subprocess.run(
        [sys.executable, "-m", "tests.docqa.durability.killing", folder, str(n), str(seed)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr[-3000:]
    return json.loads(process.stdout.splitlines()[-1])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the rounds are forks")
def test_30_kills(tmp_path):
    found = rounds(tmp_path, 30, 20_260)
    assert found["wrong"] == []
    assert set(found["rounds"].values()) == {5}
    assert found["died"] >= 10


@pytest.mark.slow
@pytest.mark.timeout(36_000)
def test_1000_kills(tmp_path):
    n = int(os.environ.get("DOCQA_SOAK_KILLS", "1000"))
    found = rounds(tmp_path, n, int.from_bytes(os.urandom(4), "big"))
    assert found["wrong"] == []
    assert found["died"] >= n // 3
