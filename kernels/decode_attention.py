"""Triton: one query against a paged, quantised cache; split over the sequence, merged in float32.

The query heads of one KV head are one tile (grouped-query attention on tensor cores), so a page is
read once for all of them. Tokens are the tile's rows: four heads then take half the arithmetic that
they take as rows. Codes are never turned into values, nor into floats: K's scales go into the
query, V's into the weights, zeros are added as sums, and what results is multiplied as 16-bit
integers with the codes as bytes (`kernels.codes`).

    q . k = (q * scale) . code + q . zero,     sum p v = (p * scale) . code + sum p * zero

A program takes a run of pages of one head; the last ones of a head take the stretches in float16
(sinks and newest). Each leaves its output and the log of its sum; `merge_kernel` joins them.
"""

# ruff: noqa: ANN001, ANN201, ANN202 (what a kernel takes are pointers and tensors of Triton)
from __future__ import annotations

from dataclasses import dataclass

import triton
import triton.language as tl
from torch import Tensor

from kernels.codes import (
    byte_of,
    columns_of_bytes,
    dot_k,
    dot_v,
    load_k,
    load_v,
    of_both_bytes,
)
from kernels.integers import Activations, is_native, store_integers
from kernels.kv_pages import PAGE
from kernels.tuned import AttendBlocks, attend_blocks

N_STATE = 3  # counts on the device: sinks, newest, first token that may be seen
ROWS = 16  # of the query tile, at most
LOG2E = 1.4426950408889634


@triton.jit
def _largest_and_sum(a, b, c, d):
    return tl.maximum(a, c), b + d


@triton.jit
def _weights(scores, m, total, low, high):
    """Bring running maximum and sums down to new scores (tokens, rows); return the weights, too."""
    new_m = tl.maximum(m, tl.max(scores, axis=0))
    safe = tl.where(new_m == float("-inf"), 0.0, new_m)
    p = tl.exp2(scores - safe[None, :])
    alpha = tl.exp2(m - safe)
    total = total * alpha + tl.sum(p, axis=0)
    return p, alpha, new_m, total, low * alpha[None, :], high * alpha[None, :]


@triton.jit
def attend_kernel(
    q_ptr,
    table_ptr,
    counts_ptr,
    k_codes_ptr,
    k_scale_ptr,
    k_zero_ptr,
    v_codes_ptr,
    v_scale_ptr,
    v_zero_ptr,
    sink_k_ptr,
    sink_v_ptr,
    newest_k_ptr,
    newest_v_ptr,
    state_ptr,
    out_ptr,
    lse_ptr,
    max_pages,
    scale_log2,
    n_heads,
    group: tl.constexpr,
    dim: tl.constexpr,
    k_bits: tl.constexpr,
    v_bits: tl.constexpr,
    n_sink_slots: tl.constexpr,
    n_newest_slots: tl.constexpr,
    has_window: tl.constexpr,
    page: tl.constexpr,
    rows: tl.constexpr,
    dense_parts: tl.constexpr,  # programs of a head that take the stretches in float16
    block: tl.constexpr,  # tokens at a time of the stretches in float16
    is_native: tl.constexpr,  # four bits are cut out by inline assembly
):
    """Write the output (split, H, D) and LSE (split, H) of one KV head's part of the sequence."""
    head = tl.program_id(0)
    split = tl.program_id(1)
    n_splits = tl.num_programs(1) - dense_parts
    half: tl.constexpr = dim // 2
    most: tl.constexpr = 32512.0  # of the integers whose bytes fit, the low one signed
    row = tl.arange(0, rows)
    channel = tl.arange(0, half)
    real = row < group
    n_sinks = tl.load(state_ptr)
    first = tl.load(state_ptr + 2)
    n_pages = tl.load(counts_ptr + head)
    # As bytes, a head of q is two columns of a tile: its high bytes and its low ones. Computed for
    # each, the tile lies as a product reads it; put together from both it would be turned around.
    column = tl.arange(0, 2 * rows if k_bits < 16 else rows)
    of_row = column // 2 if k_bits < 16 else column
    is_high = column % 2 == 0
    q_at = (head * group + of_row)[None, :] * dim + channel[:, None]
    q_low = tl.load(q_ptr + q_at, mask=(of_row < group)[None, :], other=0.0)
    q_high = tl.load(q_ptr + q_at + half, mask=(of_row < group)[None, :], other=0.0)
    m = tl.full((rows,), float("-inf"), tl.float32)
    total = tl.zeros((rows,), tl.float32)
    low = tl.zeros((half, rows), tl.float32)
    high = tl.zeros((half, rows), tl.float32)
    zeros_low = tl.zeros((rows,), tl.float32)
    zeros_high = tl.zeros((rows,), tl.float32)
    token = tl.arange(0, page)
    if split < n_splits:
        per_split = (n_pages + n_splits - 1) // n_splits
        start = split * per_split
        if has_window:
            start = tl.maximum(start, (first - n_sinks) // page)
        end = tl.minimum(split * per_split + per_split, n_pages)
        # What is added to a code before its scale counts; four bits are multiplied as they are.
        k_middle: tl.constexpr = 128 if k_bits == 8 else 0
        v_middle: tl.constexpr = 128 if v_bits == 8 else 0
        for index in range(start, end):
            place = tl.load(table_ptr + head * max_pages + index).to(tl.int64)
            k_low, k_high = load_k(k_codes_ptr, place, token, channel, k_bits, dim)
            v_low, v_high = load_v(v_codes_ptr, place, token, channel, v_bits, dim)
            if k_bits == 16:
                scores = tl.dot(k_low, q_low.to(tl.float16))
                scores = tl.dot(k_high, q_high.to(tl.float16), scores)
            else:
                s_at = place * dim + channel
                s_low = tl.load(k_scale_ptr + s_at).to(tl.float32)[:, None]
                s_high = tl.load(k_scale_ptr + s_at + half).to(tl.float32)[:, None]
                z_low = tl.load(k_zero_ptr + s_at).to(tl.float32)[:, None] + k_middle * s_low
                z_high = tl.load(k_zero_ptr + s_at + half).to(tl.float32)[:, None]
                z_high += k_middle * s_high
                by_low, by_high = q_low * s_low, q_high * s_high
                largest = tl.maximum(tl.abs(by_low), tl.abs(by_high))
                zeros = q_low * z_low + q_high * z_high
                largest, zeros = tl.reduce((largest, zeros), 0, _largest_and_sum)
                inverse = (most / tl.maximum(largest, 1e-30))[None, :]
                by_low = byte_of(by_low * inverse, is_high[None, :])
                by_high = byte_of(by_high * inverse, is_high[None, :])
                scores = of_both_bytes(dot_k(k_low, k_high, by_low, by_high, k_bits, is_native))
                # Both columns of a head have the same factor and the same zeros.
                factor = tl.max(tl.reshape(largest / most, (rows, 2)), axis=1)
                zeros = tl.max(tl.reshape(zeros, (rows, 2)), axis=1)
                scores = scores * factor[None, :] + zeros[None, :]
            scores *= scale_log2
            if has_window:
                at = n_sinks + index * page + token
                scores = tl.where((at >= first)[:, None], scores, float("-inf"))
            p, alpha, m, total, low, high = _weights(scores, m, total, low, high)
            if v_bits == 16:
                weights = (p * 256.0).to(tl.float16)
                low = tl.dot(v_low, weights, low)
                high = tl.dot(v_high, weights, high)
            else:
                s_at = place * (2 * page) + token * 2
                s_low = tl.load(v_scale_ptr + s_at).to(tl.float32)
                s_high = tl.load(v_scale_ptr + s_at + 1).to(tl.float32)
                z_low = tl.load(v_zero_ptr + s_at).to(tl.float32) + v_middle * s_low
                z_high = tl.load(v_zero_ptr + s_at + 1).to(tl.float32) + v_middle * s_high
                zeros_low = zeros_low * alpha + tl.sum(p * z_low[:, None], axis=0)
                zeros_high = zeros_high * alpha + tl.sum(p * z_high[:, None], axis=0)
                # Integers of a page's own largest weight: many small ones beside a large one of
                # another page would all round to nothing.
                by_low, by_high = p * s_low[:, None], p * s_high[:, None]
                most_low = tl.maximum(tl.max(by_low, axis=0), 1e-30)
                most_high = tl.maximum(tl.max(by_high, axis=0), 1e-30)
                by_low = columns_of_bytes(by_low * (most / most_low)[None, :])
                by_high = columns_of_bytes(by_high * (most / most_high)[None, :])
                sums = of_both_bytes(dot_v(v_low, by_low, v_bits, is_native))
                low += sums * (most_low * (256.0 / most))[None, :]
                sums = of_both_bytes(dot_v(v_high, by_high, v_bits, is_native))
                high += sums * (most_high * (256.0 / most))[None, :]
    else:
        dense_at = (head * group + row)[None, :] * dim + channel[:, None]
        dense_low = tl.load(q_ptr + dense_at, mask=real[None, :], other=0.0).to(tl.float16)
        dense_high = tl.load(q_ptr + dense_at + half, mask=real[None, :], other=0.0).to(tl.float16)
        n_newest = tl.load(state_ptr + 1)
        before = n_sinks + n_pages * page
        wide = tl.arange(0, block)
        share: tl.constexpr = (n_sink_slots + n_newest_slots) // dense_parts
        start = (split - n_splits) * share
        for at_once in range(start, tl.minimum(start + share, n_sinks + n_newest), block):
            at = at_once + wide
            is_sink = at < n_sinks
            here = at < n_sinks + n_newest
            sink_at = (head * n_sink_slots + at)[:, None] * dim + channel[None, :]
            new_at = (head * n_newest_slots + at - n_sinks)[:, None] * dim + channel[None, :]
            in_sink = is_sink[:, None]
            in_new = (here & (at >= n_sinks))[:, None]
            k_low = tl.load(sink_k_ptr + sink_at, mask=in_sink, other=0.0)
            k_low += tl.load(newest_k_ptr + new_at, mask=in_new, other=0.0)
            k_high = tl.load(sink_k_ptr + sink_at + half, mask=in_sink, other=0.0)
            k_high += tl.load(newest_k_ptr + new_at + half, mask=in_new, other=0.0)
            scores = tl.dot(k_low, dense_low)
            scores = tl.dot(k_high, dense_high, scores) * scale_log2
            seen = here
            if has_window:
                index = tl.where(is_sink, at, before + at - n_sinks)
                seen = seen & (index >= first)
            scores = tl.where(seen[:, None], scores, float("-inf"))
            p, alpha, m, total, low, high = _weights(scores, m, total, low, high)
            v_low = tl.load(sink_v_ptr + sink_at, mask=in_sink, other=0.0)
            v_low += tl.load(newest_v_ptr + new_at, mask=in_new, other=0.0)
            v_high = tl.load(sink_v_ptr + sink_at + half, mask=in_sink, other=0.0)
            v_high += tl.load(newest_v_ptr + new_at + half, mask=in_new, other=0.0)
            weights = (p * 256.0).to(tl.float16)
            low = tl.dot(tl.trans(v_low), weights, low)
            high = tl.dot(tl.trans(v_high), weights, high)
    divisor = tl.where(total > 0, total, 1.0)
    out_at = (split * n_heads + head * group + row)[None, :] * dim + channel[:, None]
    low = (low / 256.0 + zeros_low[None, :]) / divisor[None, :]
    high = (high / 256.0 + zeros_high[None, :]) / divisor[None, :]
    tl.store(out_ptr + out_at, low, mask=real[None, :])
    tl.store(out_ptr + out_at + half, high, mask=real[None, :])
    lse = tl.where(total > 0, m * 0.6931471805599453 + tl.log(divisor), float("-inf"))
    tl.store(lse_ptr + split * n_heads + head * group + row, lse, mask=real)


@triton.jit
def merge_kernel(
    out_ptr,
    lse_ptr,
    merged_ptr,
    codes_ptr,
    x_factors_ptr,
    n_parts,
    n_heads,
    dim: tl.constexpr,
    parts: tl.constexpr,
    has_integers: tl.constexpr,
):
    """Join the parts of one head: weights exp(LSE - max), all in float32."""
    head = tl.program_id(0)
    part = tl.arange(0, parts)
    channel = tl.arange(0, dim)
    here = part < n_parts
    lse = tl.load(lse_ptr + part * n_heads + head, mask=here, other=float("-inf"))
    largest = tl.max(lse, axis=0)
    weight = tl.exp(lse - tl.where(largest == float("-inf"), 0.0, largest))
    weight = tl.where(here, weight, 0.0)
    at = (part * n_heads + head)[:, None] * dim + channel[None, :]
    out = tl.load(out_ptr + at, mask=here[:, None], other=0.0)
    total = tl.sum(weight, axis=0)
    merged = tl.sum(out * weight[:, None], axis=0) / tl.where(total > 0, total, 1.0)
    tl.store(merged_ptr + head * dim + channel, merged)
    if has_integers:
        n_runs: tl.constexpr = dim // 32
        run = head * n_runs + tl.arange(0, n_runs)
        laid_out = tl.permute(tl.reshape(merged, (n_runs, 4, 8)), (0, 2, 1))
        store_integers(laid_out, run, n_heads * n_runs, codes_ptr, x_factors_ptr)


@dataclass(frozen=True, slots=True)
class LayerKv:
    """One layer's cache as the kernel reads it; all on one device.

    `table` (H_kv, max_pages) int32 and `counts` (H_kv,) int32 name the pages of each head. The six
    planes are the pool's, sinks and newest (H_kv, slots, D) float16, `state` (3,) int32: how many
    sinks and newest there are, and the first token that may be seen (0 without a window).
    """

    table: Tensor
    counts: Tensor
    planes: tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]
    sinks: tuple[Tensor, Tensor]
    newest: tuple[Tensor, Tensor]
    state: Tensor
    k_bits: int
    v_bits: int


@dataclass(frozen=True, slots=True)
class Partials:
    """Room for the parts: `out` (n_splits + 1, H, D), `lse` (n_splits + 1, H), float32."""

    out: Tensor
    lse: Tensor


def attend(
    q: Tensor,
    kv: LayerKv,
    partials: Partials,
    merged: Tensor,
    *,
    has_window: bool = False,
    integers: Activations | None = None,
    blocks: AttendBlocks | None = None,
) -> None:
    """Write the attention of `q` (H, D) float32 over the cache into `merged` (H, D) float32.

    Args:
        q: turned.
        kv: the cache of one layer.
        partials: room; as many parts are made as fit there.
        merged: written.
        has_window: tokens before the state's first are hidden.
        integers: where the output also goes as integers, for the product that reads it; heads of a
            multiple of 32.
        blocks: how the cache is read; None: as measured (`kernels.tuned`).
    """
    blocks = blocks or attend_blocks(kv.k_bits)
    n_heads, dim = q.shape
    n_kv = kv.table.shape[0]
    n_parts = partials.out.shape[0]
    group = n_heads // n_kv
    assert group <= ROWS, "the query tile has 16 rows"
    is_ptx = is_native(q)
    rows = max(4 if kv.k_bits < 16 else 8, triton.next_power_of_2(group))
    attend_kernel[(n_kv, n_parts)](
        q,
        kv.table,
        kv.counts,
        *kv.planes,
        *kv.sinks,
        *kv.newest,
        kv.state,
        partials.out,
        partials.lse,
        kv.table.shape[1],
        dim**-0.5 * LOG2E,
        n_heads,
        group=group,
        dim=dim,
        k_bits=kv.k_bits,
        v_bits=kv.v_bits,
        n_sink_slots=kv.sinks[0].shape[1],
        n_newest_slots=kv.newest[0].shape[1],
        has_window=has_window,
        page=PAGE,
        rows=rows,
        dense_parts=blocks.dense_parts if n_parts > 2 * blocks.dense_parts else 1,
        block=16,
        is_native=is_ptx,
        num_warps=blocks.num_warps,
        num_stages=blocks.num_stages,
        **({"maxnreg": blocks.most_registers} if blocks.most_registers and is_ptx else {}),
    )
    merge_kernel[(n_heads,)](
        partials.out,
        partials.lse,
        merged,
        *((merged, merged) if integers is None else (integers.codes, integers.factors)),
        n_parts,
        n_heads,
        dim=dim,
        has_integers=integers is not None,
        parts=triton.next_power_of_2(n_parts),
    )
