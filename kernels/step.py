"""Triton: between the matrices of a step – norm and turn Q and K, and keep K and V.

One program a head. The query is written turned; K and V go, as float16, to the token's slot among
the sinks or the newest, where the attention kernel of the same step reads them, and to `kept`, from
which the cache takes them.
"""

# ruff: noqa: ANN001, ANN201, ANN202 (what a kernel takes are pointers and tensors of Triton)
from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def _normed(x, x_other, norm_ptr, at, at_other, eps, dim: tl.constexpr):
    """Return both halves of a head over its root mean square, times the norm's weights."""
    mean = (tl.sum(x * x, axis=0) + tl.sum(x_other * x_other, axis=0)) / dim
    factor = tl.rsqrt(mean + eps)
    return x * factor * tl.load(norm_ptr + at), x_other * factor * tl.load(norm_ptr + at_other)


@triton.jit
def turn_kernel(
    qkv_ptr,
    q_norm_ptr,
    k_norm_ptr,
    frequency_ptr,
    token_ptr,
    state_ptr,
    q_ptr,
    kept_k_ptr,
    kept_v_ptr,
    sink_k_ptr,
    sink_v_ptr,
    newest_k_ptr,
    newest_v_ptr,
    eps,
    rope_scale,
    n_heads: tl.constexpr,
    n_kv_heads: tl.constexpr,
    dim: tl.constexpr,
    rope_dim: tl.constexpr,
    is_interleaved: tl.constexpr,
    has_norm: tl.constexpr,
    n_newest_slots: tl.constexpr,
    n_sink_slots: tl.constexpr,
):
    """Take `qkv` ((H + 2 H_kv) D) float32; `token_ptr`: (id, position)."""
    head = tl.program_id(0)
    pair = tl.arange(0, dim // 2)
    n_turned: tl.constexpr = rope_dim // 2
    if is_interleaved:
        at, other = 2 * pair, 2 * pair + 1
    else:
        # Pairs of the turned dimensions first, then what stays, two by two.
        stays = pair >= n_turned
        at = tl.where(stays, rope_dim + 2 * (pair - n_turned), pair)
        other = tl.where(stays, at + 1, pair + n_turned)
    a = tl.load(qkv_ptr + head * dim + at)
    b = tl.load(qkv_ptr + head * dim + other)
    is_v = head >= n_heads + n_kv_heads
    if not is_v:
        if has_norm:
            if head < n_heads:
                a, b = _normed(a, b, q_norm_ptr, at, other, eps, dim)
            else:
                a, b = _normed(a, b, k_norm_ptr, at, other, eps, dim)
        position = tl.load(token_ptr + 1).to(tl.float32)
        turns = pair < n_turned
        angle = position * tl.load(frequency_ptr + pair, mask=turns, other=0.0)
        cos = tl.where(turns, tl.cos(angle) * rope_scale, 1.0)
        sin = tl.where(turns, tl.sin(angle) * rope_scale, 0.0)
        a, b = a * cos - b * sin, a * sin + b * cos
    if head < n_heads:
        tl.store(q_ptr + head * dim + at, a)
        tl.store(q_ptr + head * dim + other, b)
    else:
        n_sinks = tl.load(state_ptr)
        n_newest = tl.load(state_ptr + 1)
        # The state counts this token already: it is the last sink, or the last of the newest.
        kv_head = (head - n_heads) % n_kv_heads
        slot = tl.where(
            n_newest > 0, kv_head * n_newest_slots + n_newest - 1, kv_head * n_sink_slots
        )
        slot = slot + tl.where(n_newest > 0, 0, n_sinks - 1)
        narrow_a, narrow_b = a.to(tl.float16), b.to(tl.float16)
        into_newest = pair < tl.where(n_newest > 0, dim, 0)
        into_sinks = pair < tl.where(n_newest > 0, 0, dim)
        if is_v:
            tl.store(kept_v_ptr + kv_head * dim + at, narrow_a)
            tl.store(kept_v_ptr + kv_head * dim + other, narrow_b)
            tl.store(newest_v_ptr + slot * dim + at, narrow_a, mask=into_newest)
            tl.store(newest_v_ptr + slot * dim + other, narrow_b, mask=into_newest)
            tl.store(sink_v_ptr + slot * dim + at, narrow_a, mask=into_sinks)
            tl.store(sink_v_ptr + slot * dim + other, narrow_b, mask=into_sinks)
        else:
            tl.store(kept_k_ptr + kv_head * dim + at, narrow_a)
            tl.store(kept_k_ptr + kv_head * dim + other, narrow_b)
            tl.store(newest_k_ptr + slot * dim + at, narrow_a, mask=into_newest)
            tl.store(newest_k_ptr + slot * dim + other, narrow_b, mask=into_newest)
            tl.store(sink_k_ptr + slot * dim + at, narrow_a, mask=into_sinks)
            tl.store(sink_k_ptr + slot * dim + other, narrow_b, mask=into_sinks)


def turn_and_keep(
    qkv: Tensor,
    norms: tuple[Tensor, Tensor] | None,
    frequencies: Tensor,
    rope_scale: float,
    token: Tensor,
    state: Tensor,
    q: Tensor,
    kept: tuple[Tensor, Tensor],
    sinks: tuple[Tensor, Tensor],
    newest: tuple[Tensor, Tensor],
    *,
    eps: float,
    is_interleaved: bool,
) -> None:
    """Write Q (H, D) float32 and keep K and V of the token that `state` counts last.

    Args:
        qkv: (H + 2 H_kv) * D float32, biases added.
        norms: weights (D,) for Q and K; None: none.
        frequencies: (rope_dim / 2,) radians a position.
        rope_scale: factor of cos and sin.
        token: (id, position) int32.
        state: as `decode_attention.LayerKv.state`, this token counted.
        q: (H, D) float32, written.
        kept: K and V (H_kv, D) float16, written.
        sinks: (H_kv, slots, D) float16, written where the token is one.
        newest: (H_kv, slots, D) float16, written otherwise.
        eps: of the norms.
        is_interleaved: rotary pairs are neighbours.
    """
    n_heads, dim = q.shape
    n_kv = kept[0].shape[0]
    q_norm, k_norm = norms or (qkv, qkv)
    turn_kernel[(n_heads + 2 * n_kv,)](
        qkv,
        q_norm,
        k_norm,
        frequencies,
        token,
        state,
        q,
        *kept,
        *sinks,
        *newest,
        eps,
        rope_scale,
        n_heads=n_heads,
        n_kv_heads=n_kv,
        dim=dim,
        rope_dim=2 * frequencies.shape[0],
        is_interleaved=is_interleaved,
        has_norm=norms is not None,
        n_newest_slots=newest[0].shape[1],
        n_sink_slots=sinks[0].shape[1],
        num_warps=1,
    )
