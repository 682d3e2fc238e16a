"""A library on a real disk that is read-only or full: the old index answers, the rest is said."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docqa.durability.disks import LEFT_BYTES

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def unshare():
    """Return what runs a command where it may mount."""
    program = shutil.which("unshare")
    if program is None:
        pytest.skip("there is no `unshare` on this system")
    prefix = [program, "-rm", "--"]
    probe = subprocess.run(
        [*prefix, "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, text=True
    )
    if probe.returncode != 0:
        pytest.skip(f"nothing can be mounted here: {probe.stderr.strip()}")
    return prefix


def on_a_disk(unshare, folder, what):
    folder.mkdir()
    process = subprocess.run(
        [*unshare, sys.executable, "-m", "tests.docqa.durability.disks", folder, what],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr[-6000:]
    return json.loads(process.stdout.splitlines()[-1])


def test_a_read_only_disk(unshare, tmp_path):
    done = on_a_disk(unshare, tmp_path / "disk", "read-only")
    assert done == [f"read-only, {how} before" for how in ("closed", "killed", "damaged")]


def test_a_full_disk(unshare, tmp_path):
    done = on_a_disk(unshare, tmp_path / "disk", "full")
    assert len(done) == len(LEFT_BYTES)
    assert done[0] == "full, 0 bytes left, refused"
