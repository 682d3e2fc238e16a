"""An endless chat predicts as well as computing its window afresh; without sinks it does not."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from docqa.bench import long_context
from models.model_file import ModelFile


def text_file(folder: Path) -> Path:
    root = Path(__file__).parents[2]
    files = sorted(root.glob("docqa/**/*.py"))
    path = folder / "text.txt"
    path.write_text("\n".join(file.read_text("utf-8") for file in files), "utf-8")
    return path


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_sinks_and_window_are_within_two_percent(default_model: ModelFile, tmp_path: Path) -> None:
    options = long_context._parser().parse_args(
        [
            "sinks",
            "--text",
            str(text_file(tmp_path)),
            "--tokens",
            "6000",
            "--window",
            "512",
            "--threads",
            "1",
            "--every",
            "64",
        ]
    )
    row = long_context._sinks(options, default_model)
    assert row["streamed_over_computed"] < 1.02
    assert row["perplexity_window"] > 1.2 * row["perplexity_sinks"]


def test_the_benches_run(tiny_models: dict[str, Path], tmp_path: Path, capsys) -> None:
    common = ["--model", str(tiny_models["qwen3"]), "--text", str(text_file(tmp_path))]
    plot, kept = tmp_path / "rope.svg", tmp_path / "rope.json"
    sizes = ["--context", "1024", "--buckets", "2", "--threads", "1"]
    long_context.main(["rope", *common, *sizes, "--plot", str(plot)])
    found = capsys.readouterr().out
    assert plot.read_text().count("<polyline") == 4
    kept.write_text(found.splitlines()[-1])
    long_context.main(["plot", "--json", str(kept), "--plot", str(tmp_path / "again.svg")])
    assert (tmp_path / "again.svg").read_text() == plot.read_text()
    rows = [line.split()[:2] for line in found.splitlines() if line[0] != "{"]
    assert rows == [[method, "2.00x"] for method in long_context.METHODS]
    long_context.main(["sinks", *common, "--tokens", "800", "--window", "128", "--threads", "1"])
    assert '"perplexity_computed"' in capsys.readouterr().out
    assert isinstance(long_context._parser(), argparse.ArgumentParser)


def test_a_needle_is_found_where_the_model_can_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The default model finds a fact in 300 tokens at both ends, and the bench sees it."""
    import json

    from docqa.bench import needle

    common = ["--text", str(text_file(tmp_path)), "--threads", "1", "--repeats", "1"]
    sizes = ["--lengths", "300", "--context", "512", "--depths", "0.1", "0.9"]
    needle.main([*common, *sizes, "--methods", "auto"])
    (row,) = json.loads(capsys.readouterr().out.splitlines()[-1])["needle"]
    assert (row["length"], row["context"], row["found"]) == (300, 512, [1, 1])
    assert row["recall"] == 1.0


def test_the_engine_bench_restores_what_it_saved(
    tiny_models: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    import json

    from docqa.bench import engine

    common = ["--model", str(tiny_models["qwen3"]), "--threads", "1", "--tokens", "12"]
    engine.main([*common, "--depths", "0", "300"])
    rows = json.loads(capsys.readouterr().out.splitlines()[-1])["speed"]
    assert [row["depth"] for row in rows] == [0, 300]
    assert rows[1]["warm_disk_s"] > 0
    assert rows[1]["decode_ratio"] > 0
    engine.main([*common, "--resume", "2"])
    rows = json.loads(capsys.readouterr().out.splitlines()[-1])["resume"]
    assert [(row["yarn"], row["n_equal"]) for row in rows] == [(False, 2), (True, 2)]
