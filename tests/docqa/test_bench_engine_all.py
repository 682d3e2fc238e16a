"""`make gpu-bench`: its parts accept what they are given, and what failed is not left out."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest

from docqa.bench import engine, engine_all, kills, long_context, needle, turns
from docqa.bench.engine_all import DRY, FULL, Job, Sizes, jobs, table_lines
from docqa.bench.line_plot import line_plot
from docqa.bench.shaped_model import SHAPES, write_shaped
from docqa.cli.parser import build_parser
from models.llama_context import LlamaContext, LogTail
from models.memory import kv_bytes_per_token
from models.model_file import read_model
from models.settings import LoadSettings

PARSERS = {
    "docqa": build_parser,
    "docqa.bench.engine": engine._parser,
    "docqa.bench.long_context": long_context._parser,
    "docqa.bench.needle": needle._parser,
    "docqa.bench.kills": kills._parser,
    "docqa.bench.turns": turns._parser,
}


@pytest.mark.parametrize("sizes", [FULL, DRY])
def test_every_part_accepts_its_arguments(sizes: Sizes, tmp_path: Path) -> None:
    options = engine._parser().parse_args(["--all", "--llama-bench", "bench", "--threads", "1"])
    found = list(jobs(options, sizes, tmp_path / "m.gguf", tmp_path / "t.txt", tmp_path))
    assert len({job.name for job in found}) == len(found)
    parsed = {job.name: PARSERS[job.module]().parse_args([*job.arguments]) for job in found}
    assert {job.name.split()[0] for job in found} == set(engine_all._ROWS)
    speed = [parsed[job.name] for job in found if job.name.startswith("speed")]
    wished = {(kv, depth) for kv in ("q8_0", "f16") for depth in sizes.depths}
    assert {(p.kv_types[0], p.depths[0]) for p in speed} == wished
    assert [p.depths for p in speed if not p.no_restore] == [[sizes.restored]]
    resume = [parsed[job.name] for job in found if job.name.startswith("resume")]
    wished = {(kv, rope) for kv in engine.KV_TYPES for rope in ("plain", "yarn")}
    assert {(p.kv_types[0], p.ropes[0]) for p in resume} == wished
    assert {(p.resume, p.tokens) for p in resume} == {(sizes.prompts, sizes.resumed_tokens)}


def test_what_is_timed_runs_alone_and_first(tmp_path: Path) -> None:
    options = engine._parser().parse_args(["--all"])
    found = list(jobs(options, FULL, tmp_path / "m.gguf", tmp_path / "t.txt", tmp_path))
    alone = [job.is_alone for job in found]
    assert alone == sorted(alone, reverse=True)
    timed = {job.name.split()[0] for job in found if job.is_alone}
    assert timed == {"speed", "plan", "lookup"}


def test_the_sizes_are_those_that_are_promised() -> None:
    assert (FULL.shape, FULL.depths, FULL.context) == ("8b", (0, 32_768, 122_880), 32_768)
    assert (FULL.prompts, FULL.resumed_tokens, FULL.streamed) == (100, 256, 100_000)
    assert (FULL.kills, FULL.turns, FULL.restored) == (200, 10, 32_768)
    assert FULL.needles == (4096, 8192, 16_384, 32_768)


def test_the_table_names_what_failed() -> None:
    row = {"kv": "q8_0", "depth": 32768, "fill_s": 4.0, "prefill_tokens_s": 6000.0}
    row |= {"decode_tokens_s": 130.0, "prefill_ratio": 0.99, "decode_ratio": 0.98}
    row |= {
        "kv_mib": 2448.0,
        "cold_disk_s": 0.9,
        "warm_disk_s": 0.3,
        "ram_first_s": 0.4,
        "ram_s": 0.1,
    }
    resume = {"kv": "q4_0", "yarn": True, "n_equal": 99, "of": 100, "tokens": 256}
    rope = {"trained": 8, "context": 16, "perplexity": {"none": [20.0, 40.0], "yarn": [21.0, 22.0]}}
    kills_row = {"kills": 90, "broken": 0, "old": 60, "new": 30, "changed": 0, "while_saving": 70}
    found = list(
        table_lines(
            {
                "speed q8_0": {"speed": [row]},
                "resume": {"resume": [resume]},
                "rope": rope,
                "kills": {"kills": kills_row, "stopped": True},
                "turns": {"turns": [{}] * 10, "reused_share": 0.987},
                "sinks": None,
            }
        )
    )
    assert "6,000 tokens/s, 0.990 of alone" in found[2]
    assert (
        "disk 0.90 s cold, 0.30 s warm, RAM 0.10 s (0.40 s the first time); prefill 4.00 s"
        in found[4]
    )
    assert "q4_0, YaRN" in found[5]
    assert "99 of 100" in found[5]
    assert "20.0 within the trained length, 40.0 beyond" in found[6]
    assert found[-3].endswith("70 while saving (stopped before its end) |")
    assert found[-2] == "| turns: unchanged prefix reused in 10 turns | 98.7% |"
    assert found[-1] == "| sinks: no figures | see its output |"


def test_a_part_that_fails_costs_only_its_own_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "part.py"
    script.write_text(
        "import sys\nprint('noise'); print(sys.argv[1])\nsys.exit(int(sys.argv[2]))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert engine_all._run(Job("one", "part", ('{"a": 1}', "0")), tmp_path, 60) == {"a": 1}
    assert engine_all._run(Job("no json", "part", ("Traceback", "1")), tmp_path, 60) is None
    assert b"noise" in (tmp_path / "no-json.out").read_bytes()


def test_a_part_that_hangs_is_ended_and_keeps_what_it_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "part.py"
    pid = tmp_path / "pid"
    script.write_text(
        "import json, os, pathlib, time\n"
        f"pathlib.Path({str(pid)!r}).write_text(str(os.getpid()))\n"
        "print(json.dumps({'n': 1})); print(json.dumps({'n': 2}), flush=True)\n"
        "print('{\"n\": 3', flush=True)\n"
        "time.sleep(600)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found = engine_all._run(Job("hangs", "part", ()), tmp_path, 3)
    assert found == {"n": 2, "stopped": True}
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


def test_figures_are_written_after_every_job_and_the_time_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def run(job: Job, out: Path, limit_s: float) -> dict[str, object]:
        written = out / "results.json"
        seen.append((job.name, limit_s, json.loads(written.read_text()) if seen else None))
        return {"turns": [], "reused_share": 1.0}

    chosen = [Job("turns a", "m", (), 5.0), Job("turns b", "m", (), is_alone=False)]
    monkeypatch.setattr(engine_all, "jobs", lambda *_: iter(chosen))
    monkeypatch.setattr(engine_all, "_run", run)
    arguments = ["--all", "--dry", "--minutes", "1", "--out", str(tmp_path)]
    assert engine_all.run_all(engine._parser().parse_args(arguments)) == 0
    assert [(name, 0 < limit <= most) for (name, limit, _), most in zip(seen, (5, 60), strict=True)]
    assert seen[1][2]["jobs"]["turns a"] == {"turns": [], "reused_share": 1.0}
    assert "turns b" in (tmp_path / "table.md").read_text()
    seen.clear()
    arguments[3] = "0"  # no time at all: nothing is started, and every job is said to have failed
    assert engine_all.run_all(engine._parser().parse_args(arguments)) == 2
    assert seen == []


def test_a_shaped_model_is_what_it_says(tmp_path: Path) -> None:
    model = read_model(write_shaped(tmp_path / "tiny.gguf", SHAPES["tiny"], 4096))
    assert (model.n_layers, model.n_embd, model.context_length) == (2, 256, 4096)
    assert kv_bytes_per_token(model, "f16", "f16") == 2 * 2 * 2 * 64 * 2
    assert model.quantisation == "Q4_K_M"


def test_activations_of_a_shaped_model_stay_small(tmp_path: Path) -> None:
    """Or float16 overflows in attention on a GPU, and there is nothing to measure."""
    shape = replace(SHAPES["tiny"], n_embd=1024, n_layers=4)
    path = write_shaped(tmp_path / "wide.gguf", shape, 4096)
    for tensor in gguf.GGUFReader(path).tensors:
        if tensor.tensor_type != gguf.GGMLQuantizationType.Q4_K:
            continue
        weights = gguf.dequantize(tensor.data[:64], tensor.tensor_type)
        fan_in = 1 if tensor.name == "token_embd.weight" else tensor.shape[0]
        is_added = tensor.name.endswith(("attn_output.weight", "ffn_down.weight"))
        expected = fan_in**-0.5 * (8**-0.5 if is_added else 1)
        assert weights.std() == pytest.approx(expected, rel=0.1)
        assert abs(weights.mean()) < 0.1 * expected
    settings = LoadSettings(
        path=str(path), context_length=256, kv_type_k="f16", kv_type_v="f16", n_threads=1
    )
    context = LlamaContext(settings, LogTail())
    tokens = np.random.default_rng(0).integers(259, 32_000, 200)
    assert context.decode(tokens.tolist(), 0, 0) == 0
    assert 0.5 < context.logits().std() < 3
    context.close()


def test_a_plot_shows_every_line_and_leaves_out_what_is_no_number() -> None:
    lines = {"a": [10.0, 100.0, float("nan")], "b<": [20.0, 20.0, 0.0]}
    svg = line_plot([0, 50, 100], lines, title="t", x_label="x", y_label="y", mark=50)
    assert svg.count("<polyline") == 2
    assert "nan" not in svg
    assert "b&lt;" in svg
    first = svg.split('points="')[1].split('"')[0].split()
    (_, low), (_, high) = (tuple(map(float, point.split(","))) for point in first)
    assert high < low  # larger is higher up


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_everything_runs_dry(tmp_path: Path) -> None:
    options = engine._parser().parse_args(
        ["--all", "--dry", "--threads", "1", "--out", str(tmp_path)]
    )
    assert engine_all.run_all(options) == 0
    results = json.loads((tmp_path / "results.json").read_text())
    assert all(results["jobs"].values())
    assert (tmp_path / "rope.svg").exists()
