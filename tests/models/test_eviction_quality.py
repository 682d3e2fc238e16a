"""The bench of evicted tokens asks the same of a cache that kept everything as of a whole one."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest

from docqa.bench import eviction_tasks, torch_quality
from docqa.bench.eviction_tasks import N_ANSWERS, make_task, sentences
from models.compression.evict import METHODS
from tests.docqa.test_eviction_tasks import book

KINDS = ("how it went on", "one of four")


def quality_of(model: Path, folder: Path, **more: object) -> torch_quality.Quality:
    text, out = folder / "book.txt", folder / "rows.jsonl"
    text.write_text(book(200), "utf-8")
    options: dict[str, object] = {
        "text": text,
        "model": str(model),
        "length": 700,
        "n": 1,
        "tasks": list(KINDS),
        "keeps": [1.0, 0.125],
        "methods": None,
        "threads": 1,
        "out": out,
    }
    return torch_quality.Quality(Namespace(**options | more))


def noted(quality: torch_quality.Quality, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the likelihoods that are computed from now on, as they come."""
    found: list[float] = []
    likelihood = quality._likelihood

    def note(*given: Any) -> float:
        found.append(likelihood(*given))
        return found[-1]

    monkeypatch.setattr(quality, "_likelihood", note)
    return found


@pytest.fixture
def asks_two(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a text asked of twice only: it is short, because the tiny model's tokens are letters."""
    monkeypatch.setattr(eviction_tasks, "N_ASKED", 2)


def test_keeping_everything_answers_like_the_whole_text(
    tiny_models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asks_two: None
) -> None:
    monkeypatch.setattr(torch_quality, "SOLVED", 0.0)
    quality = quality_of(tiny_models["qwen3"], tmp_path)
    quality.eviction()
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    for kind in KINDS:
        mine = [row for row in rows if row["what"] == kind]
        assert [row["method"] for row in mine[:2]] == ["without the text", "f16, all"]
        assert [(row["method"], row["times"]) for row in mine[2:]] == [
            (method, times) for method in METHODS for times in (1.0, 8.0)
        ]
        kept = [row for row in mine[2:] if row["times"] == 1.0]
        assert all(row["hidden"] == row["shown"] == mine[1]["score"] for row in kept)


@pytest.mark.parametrize("method", METHODS)
def test_answers_are_as_likely_as_by_the_whole_text_only_where_all_of_it_is_kept(
    method: str,
    tiny_models: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    asks_two: None,
) -> None:
    """Scores of random weights are mostly wrong answers; likelihoods show what was computed."""
    quality = quality_of(tiny_models["qwen3"], tmp_path)
    found = noted(quality, monkeypatch)
    task = make_task(KINDS[0], sentences(quality.text), 700, 0, lambda t: len(quality.ids(t)))
    quality._uncompressed(task, reads=True)
    whole = list(found)
    assert len(whole) == 2 * N_ANSWERS
    for keep in (1.0, 0.125):
        found.clear()
        quality.arguments.keeps = [keep]
        quality._compressed(task, method)
        assert len(found) == 2 * len(whole)  # the question hidden, then shown
        # Streaming takes turns by the question, the others by the share: the same questions.
        moved = max(abs(a - b) for a, b in zip(sorted(found), sorted(whole * 2), strict=True))
        assert moved < 2e-3 if keep == 1.0 else moved > 1e-2


def test_what_f16_does_not_solve_is_left_out(
    tiny_models: dict[str, Path], tmp_path: Path, asks_two: None
) -> None:
    quality_of(tiny_models["qwen3"], tmp_path, tasks=["one of four"]).eviction()
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert [row["method"] for row in rows] == [
        "without the text",
        "f16, all",
        "not solved with f16: left out",
    ]


def test_each_kv_type_is_asked_and_few_bits_are_not_many(
    tiny_models: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    asks_two: None,
) -> None:
    quality = quality_of(tiny_models["qwen3"], tmp_path, forms=["f16", "int8", "int4"])
    found = noted(quality, monkeypatch)
    quality.by_form()
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert [(row["what"], row["kv"], row["questions"]) for row in rows] == [
        (kind, form, n)
        for kind, n in zip(KINDS, (2, 1), strict=True)
        for form in ("f16", "int8", "int4")
    ]
    f16, int8, int4 = (found[i * 2 * N_ANSWERS :][: 2 * N_ANSWERS] for i in range(3))
    far = [max(abs(a - b) for a, b in zip(f16, few, strict=True)) for few in (int8, int4)]
    assert 0 < far[0] < far[1]
