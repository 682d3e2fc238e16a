"""The benches of the torch engine: their arithmetic, and that they run without a GPU."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys

import pytest
import torch

from docqa.bench.ring import model
from docqa.bench.shaped_model import SHAPES, write_shaped
from docqa.bench.torch_gpu import Bench
from docqa.bench.torch_greedy import NEAR_TIE, compared, report
from tests.loopback import has_loopback


def test_a_fast_link_is_hidden_and_a_slow_one_counts():
    assert model(10.0, 8.0, kv_bytes=1e9, link=1e11, world=2) == (5.0, 0.0)
    seconds, exposed = model(10.0, 8.0, kv_bytes=1e11, link=1e10, world=2)
    # A turn: 2 s of attention, 5 s of passing on half of K and V.
    assert exposed == pytest.approx(3.0)
    assert seconds == pytest.approx(8.0)


def test_the_first_difference_and_its_gap_are_found():
    theirs = torch.tensor([[0.0, 2.0, 1.0], [3.0, 0.0, 2.99], [0.0, 1.0, 5.0]])
    ours = theirs.clone()
    ours[1] = torch.tensor([2.98, 0.0, 3.0])
    row = compared(ours, theirs, [1, 0, 2])
    assert row["at"] == 1
    assert row["gap"] == pytest.approx(0.02, abs=1e-4)
    assert row["their_gap"] == pytest.approx(0.01, abs=1e-4)
    assert 0 < row["kl"] < row["kl_most"] < 1e-3
    assert "at" not in compared(theirs, theirs, [1, 0, 2])


def test_near_ties_are_counted(tmp_path, capsys):
    rows = [
        {"weights": "F32", "by": "reading", "kl": 1e-7, "kl_most": 1e-6, "moved": 0.01},
        {"weights": "F32", "by": "reading", "kl": 1e-7, "kl_most": 1e-6, "moved": 0.01, "at": 3}
        | {"gap": NEAR_TIE / 2, "their_gap": 1.0},
        {"weights": "F32", "by": "reading", "kl": 1e-7, "kl_most": 1e-6, "moved": 0.01, "at": 3}
        | {"gap": 0.3, "their_gap": 0.2},
    ]
    lines = "\n".join(json.dumps(row) for row in rows)
    (tmp_path / "0.jsonl").write_text(lines, encoding="utf-8")
    report(argparse.Namespace(answer=8, out=None), tmp_path)
    found = json.loads(capsys.readouterr().out)
    assert (found["prompts"], found["same"], found["near_ties"]) == (3, 1, 1)
    assert found["largest_gap"] == 0.2


@pytest.mark.timeout(600)
def test_the_ring_runs_on_two_processes(tmp_path):
    if not has_loopback():
        pytest.skip("gloo talks over loopback, which is down here")
    path = write_shaped(tmp_path / "tiny.gguf", SHAPES["tiny"])
    out = tmp_path / "ring.jsonl"
    command = [sys.executable, "-m", "docqa.bench.ring", path, "--dry", "--out", out]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = {row["what"]: row for row in map(json.loads, out.read_text().splitlines())}
    assert rows["2 ranks beside one, 64 tokens"]["difference"] < 1e-4
    assert rows["2 ranks beside one, 64 tokens"]["same_choices"] == "9 of 9"
    assert rows["prefill 128"]["difference"] < 1e-4
    assert rows["prefill 256 in full"]["s"] > 0
    assert "measured_s" in rows["model of 2 ranks, 128 tokens"]
    assert "model of 8 ranks, 128 tokens" in rows


def test_decode_and_prefill_are_timed_on_a_small_model(tmp_path, capsys):
    path = write_shaped(tmp_path / "tiny.gguf", SHAPES["tiny"])
    arguments = argparse.Namespace(
        model=path,
        dry=True,
        only=["decode", "prefill"],
        depths=[0, 100],
        kv=["q8_0"],
        tokens=2,
        prefill=64,
        chunk=32,
        profile=False,
        warm_up=0,
        out=None,
        llama_bench=None,
    )
    Bench(arguments).run()
    shown = capsys.readouterr().out
    for what in ("decode q8_0 at 0", "decode q8_0 at 100", "prefill 64 q8_0 at 100"):
        assert what in shown
