"""Rotary position tables: none, linear, NTK, dynamic NTK, YaRN, LongRoPE and Llama-3.1's factors.

`inverse_frequencies(rope, length)` gives what transformers' `ROPE_INIT_FUNCTIONS` give, to 1e-6;
`rotate` turns Q and K. Sources: linear Chen et al. 2023 (arXiv:2306.15595), YaRN Peng et al. 2023
(arXiv:2309.00071), LongRoPE Ding et al. 2024 (arXiv:2402.13753); NTK-aware: base * s^(d / (d - 2)).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from docqa.errors import ModelRefused
from models.model_file import ModelFile
from models.settings import RopeSettings
from models.torch_shape import Shape

METHODS = ("none", "linear", "ntk", "dynamic", "yarn", "longrope", "factors")
_BY_NUMBER = {0: "none", 1: "linear", 2: "yarn", 3: "longrope"}


@dataclass(frozen=True, slots=True)
class Rope:
    """How positions are turned into angles. `dim`: rotated dimensions of a head."""

    method: str  # of METHODS
    base: float
    dim: int
    factor: float = 1.0
    original_length: int = 0  # tokens the model was trained for before any stretch
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_scale: float = 0.0  # of YaRN and LongRoPE; 0: by their formula
    short_factors: tuple[float, ...] = ()  # dim / 2; of LongRoPE
    long_factors: tuple[float, ...] = ()  # dim / 2; of LongRoPE, or the divisors of "factors"


def inverse_frequencies(rope: Rope, length: int) -> tuple[Tensor, float]:
    """Return (dim / 2,) float32 radians a position, and the factor of cos and sin.

    `length`: tokens of the context. Dynamic NTK and LongRoPE depend on it.

    Raises:
        ValueError: a method that there is not, or factors of a wrong number.
    """
    if rope.method == "linear":
        return _plain(rope.base, rope.dim) / rope.factor, 1.0
    if rope.method == "ntk":
        return _plain(_stretched(rope, rope.factor), rope.dim), 1.0
    if rope.method == "dynamic":
        return _plain(_dynamic_base(rope, length), rope.dim), 1.0
    if rope.method == "yarn":
        return _yarn(rope)
    if rope.method == "longrope":
        return _longrope(rope, length)
    if rope.method == "factors":
        return _plain(rope.base, rope.dim) / _vector(rope.long_factors, rope.dim), 1.0
    if rope.method == "none":
        return _plain(rope.base, rope.dim), 1.0
    raise ValueError(f"no rope method {rope.method!r}: one of {', '.join(METHODS)}")


def _plain(base: float, dim: int) -> Tensor:
    exponents = torch.arange(0, dim, 2, dtype=torch.int64).to(torch.float32) / dim
    return 1.0 / (base**exponents)


def _stretched(rope: Rope, stretch: float) -> float:
    return float(rope.base * stretch ** (rope.dim / (rope.dim - 2)))


def _dynamic_base(rope: Rope, length: int) -> float:
    longest = max(length, rope.original_length)
    return _stretched(rope, rope.factor * longest / rope.original_length - (rope.factor - 1))


def _yarn(rope: Rope) -> tuple[Tensor, float]:
    """Frequencies that turn often stay, those that turn rarely are interpolated, a ramp between."""

    def dimension(turns: float) -> float:
        ratio = rope.original_length / (turns * 2 * math.pi)
        return rope.dim * math.log(ratio) / (2 * math.log(rope.base))

    low = max(math.floor(dimension(rope.beta_fast)), 0)
    high = min(math.ceil(dimension(rope.beta_slow)), rope.dim - 1)
    width = (high - low) or 0.001
    ramp = ((torch.arange(rope.dim // 2, dtype=torch.float32) - low) / width).clamp(0, 1)
    plain = _plain(rope.base, rope.dim)
    scale = rope.attention_scale or (0.1 * math.log(rope.factor) + 1 if rope.factor > 1 else 1.0)
    return plain / rope.factor * ramp + plain * (1 - ramp), scale


def _longrope(rope: Rope, length: int) -> tuple[Tensor, float]:
    factors = rope.long_factors if length > rope.original_length else rope.short_factors
    scale = rope.attention_scale
    if not scale:
        stretch, trained = rope.factor, rope.original_length
        scale = math.sqrt(1 + math.log(stretch) / math.log(trained)) if stretch > 1 else 1.0
    return 1.0 / (_vector(factors, rope.dim) * (1.0 / _plain(rope.base, rope.dim))), scale


def _vector(factors: tuple[float, ...], dim: int) -> Tensor:
    if len(factors) != dim // 2:
        raise ValueError(f"{len(factors)} rope factors for {dim // 2} frequencies")
    return torch.tensor(factors, dtype=torch.float32)


# -- from a file and settings ---------------------------------------------------------------------


def rope_of(
    model: ModelFile,
    shape: Shape,
    settings: RopeSettings,
    factors: dict[str, tuple[float, ...]],
) -> Rope:
    """Return the positions that `settings` ask for, what they leave open as the file says.

    `factors`: the file's rope tensors by name.

    Raises:
        ModelRefused: a scaling that the file does not carry the numbers for.
    """
    stated = model.rope
    method = _BY_NUMBER.get(settings.scaling, stated.scaling or "none")
    factor = 1 / settings.freq_scale if settings.freq_scale else stated.factor
    short = factors.get("rope_factors_short.weight", ())
    long = factors.get("rope_factors_long.weight", ())
    original = settings.original_context or stated.original_context_length or model.context_length
    if settings.scaling < 0 and "rope_freqs.weight" in factors:
        method, long = "factors", factors["rope_freqs.weight"]
    elif settings.scaling < 0 and long:
        method = "longrope"
        factor = model.context_length / original
    if method not in METHODS:
        raise ModelRefused(f"{model.path.name}: rope scaling {method!r} is unknown")
    for name, values in (("long", long), ("short", short)):
        if method == "longrope" and len(values) != shape.rope_dim // 2:
            raise ModelRefused(f"{model.path.name}: no {name} factors for LongRoPE")
    scale = stated.attn_factor if method == "longrope" and stated.attn_factor != 1.0 else 0.0
    return Rope(
        method=method,
        base=settings.freq_base or stated.freq_base,
        dim=shape.rope_dim,
        factor=factor,
        original_length=original,
        beta_fast=settings.beta_fast if settings.beta_fast > 0 else 32.0,
        beta_slow=settings.beta_slow if settings.beta_slow > 0 else 1.0,
        attention_scale=scale,
        short_factors=short,
        long_factors=long,
    )


# -- turning --------------------------------------------------------------------------------------


def angles(frequencies: Tensor, scale: float, positions: Tensor) -> tuple[Tensor, Tensor]:
    """Return cos and sin (T, dim / 2) float32 of `positions` (T,), times `scale`."""
    turned = positions.to(torch.float32)[:, None] * frequencies[None, :]
    return turned.cos() * scale, turned.sin() * scale


def rotate(x: Tensor, cos: Tensor, sin: Tensor, is_interleaved: bool) -> Tensor:
    """Return `x` (T, H, D) turned by angles (T, dim / 2); dimensions beyond `dim` stay."""
    dim = 2 * cos.shape[1]
    turned, rest = x[..., :dim], x[..., dim:]
    cos, sin = cos[:, None, :], sin[:, None, :]
    if is_interleaved:
        a, b = turned[..., 0::2], turned[..., 1::2]
        found = torch.stack((a * cos - b * sin, a * sin + b * cos), dim=-1).flatten(-2)
    else:
        a, b = turned[..., : dim // 2], turned[..., dim // 2 :]
        found = torch.cat((a * cos - b * sin, a * sin + b * cos), dim=-1)
    return torch.cat((found, rest), dim=-1) if rest.shape[-1] else found
