"""Causal attention over packed sequences, and the choice of the fastest way that is right here.

Each way takes q (N, H, d), k and v (N, H_kv, d), the cumulative lengths `ends` (int32, first 0) and
the longest length, and returns (N, H, d). `choose` tries them in order of speed on random input,
forward and backward, against `one_by_one`, and takes the first that agrees.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from models.training.adapter_llama import Attend, Shape


def one_by_one(q: Tensor, k: Tensor, v: Tensor, ends: Tensor, longest: int) -> Tensor:
    """The specification: every sequence by itself."""
    group = q.shape[1] // k.shape[1]
    parts, edges = [], ends.tolist()
    for a, b in pairwise(edges):
        heads = [z[a:b].transpose(0, 1)[None] for z in (q, k, v)]
        keys, values = (z.repeat_interleave(group, 1) for z in heads[1:])
        y = F.scaled_dot_product_attention(heads[0], keys, values, is_causal=True)
        parts.append(y[0].transpose(0, 1))
    return torch.cat(parts)


def padded(q: Tensor, k: Tensor, v: Tensor, ends: Tensor, longest: int) -> Tensor:
    """All sequences at once, padded at the end: causal attention never looks there."""
    group = q.shape[1] // k.shape[1]
    lengths = (ends[1:] - ends[:-1]).long()
    n = len(lengths)
    owner = torch.repeat_interleave(torch.arange(n, device=q.device), lengths, output_size=len(q))
    place = torch.arange(len(q), device=q.device) - ends[:-1].long()[owner]
    slot = owner * longest + place

    def spread(x: Tensor) -> Tensor:
        wide = x.new_zeros((n * longest, *x.shape[1:])).index_copy(0, slot, x)
        return wide.view(n, longest, *x.shape[1:]).transpose(1, 2)

    keys, values = (spread(z).repeat_interleave(group, 1) for z in (k, v))
    y = F.scaled_dot_product_attention(spread(q), keys, values, is_causal=True)
    return y.transpose(1, 2).reshape(n * longest, *q.shape[1:])[slot]


class _Flash(torch.autograd.Function):  # type: ignore[misc]
    """PyTorch's FlashAttention for packed sequences, which knows grouped heads."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, ends: Tensor, longest: int) -> Tensor:
        y, lse, state, unused, _ = torch.ops.aten._flash_attention_forward(
            q, k, v, ends, ends, longest, longest, 0.0, True, False, scale=q.shape[-1] ** -0.5
        )
        ctx.save_for_backward(q, k, v, y, lse, ends, state, unused)
        ctx.longest = longest
        return y  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, y, lse, ends, state, unused = ctx.saved_tensors
        dq, dk, dv = torch.ops.aten._flash_attention_backward(
            grads[0].contiguous(), q, k, v, y, lse, ends, ends, ctx.longest, ctx.longest, 0.0, True,
            state, unused, scale=q.shape[-1] ** -0.5,
        )  # fmt: skip
        return dq, dk, dv, None, None


def flash(q: Tensor, k: Tensor, v: Tensor, ends: Tensor, longest: int) -> Tensor:
    """FlashAttention on the packed rows: no padding, grouped heads as they are."""
    return _Flash.apply(q, k, v, ends, longest)  # type: ignore[no-untyped-call, no-any-return]


def flash_ungrouped(q: Tensor, k: Tensor, v: Tensor, ends: Tensor, longest: int) -> Tensor:
    """FlashAttention with keys and values repeated, where grouped heads are not supported."""
    group = q.shape[1] // k.shape[1]
    return flash(q, k.repeat_interleave(group, 1), v.repeat_interleave(group, 1), ends, longest)


WAYS: tuple[Attend, ...] = (flash, flash_ungrouped, padded)


def agrees(way: Attend, shape: Shape, device: str, dtype: torch.dtype) -> bool:
    """Return whether `way` gives `one_by_one`'s result and gradients on random input."""
    chance = torch.Generator().manual_seed(3)
    ends = torch.tensor([0, 5, 130, 131, 320], dtype=torch.int32, device=device)

    def draw(n_heads: int) -> Any:
        x = torch.randn(320, n_heads, shape.head_dim, generator=chance)
        return x.to(device, dtype).requires_grad_()

    given = [draw(n) for n in (shape.n_heads, shape.n_kv_heads, shape.n_kv_heads)]
    goal = torch.randn(320, shape.n_heads, shape.head_dim, generator=chance).to(device, dtype)
    found = []
    ways: tuple[Attend, ...] = (one_by_one, way)
    for one in ways:
        y = one(given[0], given[1], given[2], ends, 189)
        found.append((y, *torch.autograd.grad(y, given, goal)))
    limit = 2e-2 if dtype == torch.bfloat16 else 1e-4
    return all(
        bool((a.float() - b.float()).norm() <= limit * b.float().norm())
        for b, a in zip(*found, strict=True)
    )


def choose(shape: Shape, device: str, dtype: torch.dtype) -> Attend:
    """Return the fastest way that works on this machine; `one_by_one` on a CPU."""
    if device == "cpu":
        return one_by_one
    for way in WAYS:
        try:
            if agrees(way, shape, device, dtype):
                return way
            print(f"attention: {getattr(way, '__name__', way)} disagrees", flush=True)
        except (RuntimeError, NotImplementedError, TypeError) as error:
            print(f"attention: {getattr(way, '__name__', way)}: {error}", flush=True)
    return one_by_one
