"""Rotary tables are transformers', to 1e-6; turning keeps lengths and relative positions."""

from __future__ import annotations

import pytest
import torch

from models.torch_rope import Rope, angles, inverse_frequencies, rotate

SHORT = tuple(1.0 + 0.01 * i for i in range(32))
LONG = tuple(1.0 + 0.5 * i for i in range(32))

CASES = {
    "none": (Rope("none", 10_000.0, 64), "default", {}),
    "linear": (Rope("linear", 10_000.0, 64, 4.0), "linear", {"factor": 4.0}),
    "dynamic": (
        Rope("dynamic", 10_000.0, 64, 4.0, 2048),
        "dynamic",
        {"factor": 4.0},
    ),
    "yarn": (
        Rope("yarn", 100_000.0, 64, 8.0, 2048),
        "yarn",
        {"factor": 8.0, "original_max_position_embeddings": 2048},
    ),
    "yarn-betas": (
        Rope("yarn", 1e6, 64, 4.0, 4096, beta_fast=16.0, beta_slow=2.0, attention_scale=1.25),
        "yarn",
        {
            "factor": 4.0,
            "original_max_position_embeddings": 4096,
            "beta_fast": 16.0,
            "beta_slow": 2.0,
            "attention_factor": 1.25,
        },
    ),
    "longrope": (
        Rope("longrope", 10_000.0, 64, 32.0, 2048, short_factors=SHORT, long_factors=LONG),
        "longrope",
        {
            "factor": 32.0,
            "short_factor": list(SHORT),
            "long_factor": list(LONG),
            "original_max_position_embeddings": 2048,
        },
    ),
}


def theirs(kind, extra, base, length, trained=2048):
    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    config = LlamaConfig(
        hidden_size=256,
        num_attention_heads=4,
        max_position_embeddings=trained,
        rope_parameters={"rope_type": kind, "rope_theta": base, **extra},
    )
    if kind == "default":
        from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

        return LlamaRotaryEmbedding(config).inv_freq, 1.0
    return ROPE_INIT_FUNCTIONS[kind](config, torch.device("cpu"), seq_len=length)


@pytest.mark.parametrize("length", [512, 2048, 16_384])
@pytest.mark.parametrize("name", CASES)
def test_tables_are_those_of_transformers(name, length):
    rope, kind, extra = CASES[name]
    trained = rope.original_length or 2048
    expected, expected_scale = theirs(kind, extra, rope.base, length, trained)
    found, scale = inverse_frequencies(rope, length)
    assert torch.allclose(found, expected.float(), rtol=1e-6, atol=1e-9)
    assert scale == pytest.approx(expected_scale, rel=1e-6)


def test_llama31_factors_are_transformers():
    """The divisors that the GGUF converter writes are what transformers' llama3 scaling does."""
    extra = {
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    expected, _ = theirs("llama3", extra, 500_000.0, 4096, 131_072)
    plain, _ = inverse_frequencies(Rope("none", 500_000.0, 64), 0)
    divisors = tuple((plain / expected).tolist())
    found, scale = inverse_frequencies(Rope("factors", 500_000.0, 64, long_factors=divisors), 0)
    assert torch.allclose(found, expected, rtol=1e-6)
    assert scale == 1.0


def test_ntk_stretches_the_base():
    found, _ = inverse_frequencies(Rope("ntk", 10_000.0, 64, 4.0), 0)
    assert float(found[0]) == 1.0
    plain, _ = inverse_frequencies(Rope("none", 10_000.0, 64), 0)
    assert float(plain[-1] / found[-1]) == pytest.approx(4.0, rel=1e-5)  # by construction of NTK


@pytest.mark.parametrize("is_interleaved", [True, False])
@pytest.mark.parametrize("dim", [64, 32])
def test_scores_depend_on_the_distance_alone(is_interleaved, dim):
    frequencies, _ = inverse_frequencies(Rope("none", 10_000.0, dim), 0)
    q, k = torch.randn(1, 1, 64), torch.randn(1, 1, 64)

    def score(at, other):
        turned = [
            rotate(x, *angles(frequencies, 1.0, torch.tensor([p])), is_interleaved)
            for x, p in ((q, at), (k, other))
        ]
        return float((turned[0] * turned[1]).sum())

    assert score(105, 100) == pytest.approx(score(17, 12), abs=1e-3)
    assert abs(score(105, 100) - score(105, 60)) > 1e-2
    turned = rotate(q, *angles(frequencies, 1.0, torch.tensor([77])), is_interleaved)
    assert float(turned.norm()) == pytest.approx(float(q.norm()), rel=1e-5)
    assert torch.equal(turned[..., dim:], q[..., dim:])


def test_unknown_methods_and_wrong_factors_are_errors():
    with pytest.raises(ValueError, match="longnet"):
        inverse_frequencies(Rope("longnet", 1e4, 64), 0)
    with pytest.raises(ValueError, match="3 rope factors for 32"):
        inverse_frequencies(Rope("factors", 1e4, 64, long_factors=(1.0, 2.0, 3.0)), 0)
