"""`docqa plan`: what is said before loading is what is found after it; refusals have reasons."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from docqa import wiring
from docqa.cli import main
from docqa.cli.plan_options import kv_flags
from docqa.config import Config, ModelConfig
from docqa.errors import ModelRefused
from models import cpu_speed, hardware, plan_report
from models.cpu_speed import Speed, Work
from models.memory import is_repacked, needs
from models.model_file import ModelFile, read_model
from models.plan_report import check, compare_kv_types, report

KERNELS = Speed(2e10, 1e10, 1e10, 1e9)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The kernels are not timed: that is one test's matter."""
    monkeypatch.setattr(cpu_speed, "measure", lambda work: KERNELS)
    monkeypatch.setenv("DOCQA_LIBRARY", str(tmp_path / "library"))


def plan_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict, str]:
    code = main(["plan", "--json", *arguments])
    out, err = capsys.readouterr()
    return code, json.loads(out), err


def test_the_table_of_the_default_model(quick: None, capsys: pytest.CaptureFixture[str]) -> None:
    code, found, _ = plan_json(capsys)
    assert (code, found["schema"]) == (0, "docqa.plan/1")
    chosen, sizes = found["chosen"], found["bytes"]
    assert (chosen["context_length"], chosen["kv_type_k"], chosen["fits"]) == (8192, "q8_0", True)
    rows = {(r["context_length"], r["kv_type_k"]): r for r in found["rows"]}
    assert rows[8192, "f16"]["kv_bytes"] == 8192 * 30 * 2 * 3 * 64 * 2
    assert rows[8192, "q8_0"]["kv_bytes"] == sizes["kv"]
    parts = ("weights", "kv", "state", "compute", "adapter", "embedder", "reranker", "process")
    assert rows[8192, "q8_0"]["total_bytes"] == sum(sizes[part] for part in parts)
    # Restoring reads KV from a disk; computing it again is slower by far on a CPU.
    assert rows[8192, "q8_0"]["restore_s"] < rows[8192, "q8_0"]["prefill_s"] / 10


def test_the_table_as_text(quick: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--context", "40960", "--kv-type", "q8_0/q4_0"]) == 0
    out, err = capsys.readouterr()
    assert "yarn 5x the trained length" in out
    assert any("40,960*   q8_0/q4_0" in line and line.endswith("5x") for line in out.splitlines())
    assert "5.0 times the trained 8192 tokens" in err
    assert main(["plan", "--quiet", "--context", "40960"]) == 0
    assert capsys.readouterr().err == ""


def test_what_does_not_fit_is_said_and_is_exit_code_3(
    quick: None, capsys: pytest.CaptureFixture[str]
) -> None:
    code, found, _ = plan_json(capsys, "--context", "8192", "--memory", "0.3")
    assert (code, found["chosen"]["fits"]) == (3, False)
    assert "GiB" in found["chosen"]["reason"]
    assert not any(row["fits"] for row in found["rows"] if row["total_bytes"] > 0.3 * 2**30)
    # A context that was not asked for shrinks instead.
    code, found, _ = plan_json(capsys, "--memory", "0.42")
    assert (code, found["chosen"]["fits"]) == (0, True)
    assert 512 <= found["chosen"]["context_length"] < 8192


def test_too_far_beyond_the_trained_length(quick: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--context", "70000"]) == 3
    assert "--force" in capsys.readouterr().err
    code, found, err = plan_json(capsys, "--context", "70000", "--force", "--rope", "ntk")
    assert (code, found["chosen"]["rope"]) == (0, "ntk")
    assert "8.5 times" in err


@pytest.mark.parametrize("command", ["plan", "ask"])
def test_kv_types_that_do_not_exist(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "x", "--kv-type", "q8"])
    assert ended.value.code == 2
    assert "q8_0" in capsys.readouterr().err


def test_a_pair_is_set_for_keys_and_values() -> None:
    assert kv_flags("q8_0/q4_0") == {"model.kv_type_k": "q8_0", "model.kv_type_v": "q4_0"}
    assert kv_flags("f16") == {"model.kv_type_k": "f16", "model.kv_type_v": "f16"}
    assert kv_flags(None) == {}


def test_the_planner_chooses_kv_types_where_it_may(default_model: ModelFile) -> None:
    from models.load_plan import load_settings

    auto = ModelConfig(kv_type_k="auto", kv_type_v="auto")
    assert load_settings(auto, default_model, None).kv_type_v == "q8_0"


def test_loaded_it_takes_what_was_planned(quick: None) -> None:
    """Within a tenth: the process's resident memory, everything included."""
    config = Config(model=ModelConfig(context_length=2048, n_threads=1, keep_alive_s=0))
    memory, prefill, decode = check(report(config), config.model)
    assert memory.ratio == pytest.approx(1.0, abs=0.1)
    assert prefill.measured > 0
    assert decode.measured > 0


def test_warnings_of_a_stretched_context_reach_the_user(tmp_path: Path) -> None:
    heard: list[str] = []
    settings = ModelConfig(context_length=40960, keep_alive_s=0, force=True)
    config = dataclasses.replace(Config(), model=settings)
    workspace = wiring.build(
        dataclasses.replace(config, library=dataclasses.replace(config.library, dir=tmp_path)),
        warn=heard.append,
    )
    with workspace:
        workspace.warm_up()
        assert workspace.engine is not None
    assert any("5.0 times" in line for line in heard)
    assert not any("loaded" in line for line in heard)


# -- KV types on the user's own text --------------------------------------------------------------


def test_kv_types_are_compared_on_a_document(
    quick: None, tiny_models: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = tmp_path / "manual.txt"
    document.write_text("The pump seal is made of oil. What page has the valve table? " * 40)
    model = str(tiny_models["qwen3"])
    code, found, _ = plan_json(capsys, model, "--test-kv", str(document), "--tokens", "200")
    q8, q4 = found["kv_test"]["types"]
    assert (code, found["kv_test"]["n_tokens"]) == (0, 200)
    assert 0 < q8["mean_kl"] < q4["mean_kl"]
    assert found["kv_test"]["recommended"] in ("f16", "q8_0", "q4_0")
    short = tmp_path / "short.txt"
    short.write_text("too short")
    assert main(["plan", model, "--test-kv", str(short)]) == 3
    assert "64 at least" in capsys.readouterr().err
    assert main(["plan", model, "--test-kv", str(tmp_path / "none.txt")]) == 1


def test_heads_that_no_quantised_type_fits(
    default_model: ModelFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = dataclasses.replace(default_model, head_dim_k=80, head_dim_v=80)
    monkeypatch.setattr(plan_report, "read_model", lambda path: odd)
    with pytest.raises(ModelRefused, match="heads of 80 numbers work with f16 only"):
        compare_kv_types(ModelConfig(), "text", 100)


# -- what is measured -----------------------------------------------------------------------------


def test_the_kernels_are_timed(tiny_models: dict[str, Path]) -> None:
    found = cpu_speed.measure(Work(3, False, 256, 256, 8, 8, 64, 2, 1))
    assert found is not None
    assert min(found.flops_s, found.attention_flops_s, found.bytes_s, found.kv_bytes_s) > 1e6
    machine = hardware.detect()
    timed = hardware.measured(machine, read_model(tiny_models["qwen3"]), ("q8_0", "q8_0"), 1)
    assert timed.kv_bytes_s > 0
    # Latent attention is another kernel: no measurement, rather than a wrong one.
    mla = read_model(tiny_models["deepseek2"])
    assert hardware.measured(machine, mla, ("q8_0", "q8_0"), 1) == machine


def test_weights_that_are_rewritten_are_not_mapped_beside(tmp_path: Path) -> None:
    """Q4_0 is repacked for a CPU: mapped, the model would stand in memory twice."""
    from models.load_plan import load_settings
    from tests.models.test_planner import reported
    from tests.models.tiny import write_model

    path = write_model(tmp_path / "q4.gguf", "qwen3", quantised="Q4_0")
    model = read_model(path)
    assert is_repacked(model)
    settings = load_settings(ModelConfig(path=str(path)), model, None)
    assert not settings.maps_file
    weights = needs(model, 256).weights
    mapped = reported(path, context_length=256, maps_file=True)["model"]
    read = reported(path, context_length=256, maps_file=False)["model"]
    assert read == pytest.approx(weights, rel=0.1)
    assert mapped > 1.2 * read
