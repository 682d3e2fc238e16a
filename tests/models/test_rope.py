"""Contexts beyond the trained length: which settings, which warnings, which refusals."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest

from docqa.errors import ModelRefused
from models.llama_context import LogTail
from models.model_file import ModelFile, read_model
from models.rope import plan_rope
from models.settings import RopeSettings
from tests.models.test_llama_engine import load, logits_after, prompt


def extended(model: ModelFile, **changes: object) -> ModelFile:
    return dataclasses.replace(model, rope=dataclasses.replace(model.rope, **changes))


def test_within_the_trained_length_the_file_decides(default_model: ModelFile) -> None:
    for wished, expected in ((0, 8192), (4096, 4096), (8192, 8192)):
        plan = plan_rope(default_model, wished)
        assert (plan.context_length, plan.method, plan.stretch) == (expected, "file", 1.0)
        assert plan.settings == RopeSettings()
        assert plan.warnings == ()
    short = dataclasses.replace(default_model, context_length=2048)
    assert plan_rope(short, 0).context_length == 2048
    assert "changes nothing" in plan_rope(default_model, 4096, "ntk").warnings[0]


def test_beyond_it_yarn_with_factor_context_by_trained(default_model: ModelFile) -> None:
    plan = plan_rope(default_model, 32768)
    assert (plan.method, plan.stretch, plan.is_yarn) == ("yarn", 4.0, True)
    assert plan.settings == RopeSettings(scaling=2, freq_scale=0.25, original_context=8192)
    assert plan.warnings == ()


def test_the_other_methods(default_model: ModelFile) -> None:
    linear = plan_rope(default_model, 16384, "linear").settings
    assert linear == RopeSettings(scaling=1, freq_scale=0.5)
    ntk = plan_rope(default_model, 16384, "ntk").settings
    assert ntk.scaling == 0
    assert ntk.freq_base == pytest.approx(100_000 * 2 ** (64 / 62))
    none = plan_rope(default_model, 16384, "none")
    assert none.settings == RopeSettings(scaling=0)
    assert "as good as unread" in none.warnings[0]


def test_warned_beyond_four_times_and_refused_beyond_eight(default_model: ModelFile) -> None:
    assert "5.0 times" in plan_rope(default_model, 40960).warnings[0]
    assert plan_rope(default_model, 65536).stretch == 8.0
    with pytest.raises(ModelRefused, match="--force"):
        plan_rope(default_model, 65537)
    assert plan_rope(default_model, 100_000, force=True).is_yarn
    with pytest.raises(ModelRefused, match="choose one of"):
        plan_rope(default_model, 100, "dynamic")


def test_an_extended_file_is_not_extended_twice(default_model: ModelFile) -> None:
    yarn = dataclasses.replace(
        extended(default_model, scaling="yarn", factor=4.0, original_context_length=8192),
        context_length=32768,
    )
    assert plan_rope(yarn, 32768).settings == RopeSettings()
    with pytest.raises(ModelRefused, match="twice"):
        plan_rope(yarn, 32768, "yarn")
    # Beyond its own length: one factor from the original length, in place of the file's.
    longer = plan_rope(yarn, 65536)
    assert longer.settings == RopeSettings(scaling=2, freq_scale=1 / 8, original_context=8192)
    assert longer.stretch == 2.0
    with pytest.raises(ModelRefused, match="factors of its own"):
        plan_rope(extended(default_model, has_factors=True), 16384)


@pytest.mark.parametrize("method", ["linear", "ntk", "yarn"])
def test_llama_cpp_takes_the_settings(tiny_models, method: str) -> None:
    """The positions are really scaled: the same tokens, other numbers, and finite ones."""
    log = LogTail()
    model = read_model(tiny_models["qwen3"])
    plan = plan_rope(model, 2048, method)
    tokens = prompt(40, 300)
    plain, scaled = load(model.path, log), load(model.path, log, rope=plan.settings)
    before, after = logits_after(plain, tokens), logits_after(scaled, tokens)
    assert np.isfinite(after).all()
    assert np.abs(after - before).max() > 0.05 * before.std()
    expected = {"linear": "freq_scale            = 0.25", "yarn": "freq_scale            = 0.25"}
    base = 10_000 * 4 ** (64 / 62)
    expected["ntk"] = f"freq_base             = {base:.1f}"
    assert any(expected[method] in line for line in log.lines), list(log.lines)[-30:]
    assert math.isclose(plan.stretch, 4.0)
    plain.context.close()
    scaled.context.close()


def test_the_whole_stretched_context_is_used(tiny_models: dict[str, Path]) -> None:
    from models.host import open_engine
    from tests.models.test_host import config, say

    said: list[str] = []
    settings = config(tiny_models["qwen3"], context_length=2560)
    with open_engine(settings, log=said.append) as engine:
        assert engine.info.context_length == 2560
        assert say(engine, prompt(41, 2500), 60)[1].n_generated == 60
    assert any("5.0 times" in line for line in said)
