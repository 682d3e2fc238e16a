"""Triton: a vector in 16-bit integers, as the products of `kernels.matvec` read it."""

# ruff: noqa: ANN001, ANN201 (what a kernel takes are pointers and tensors of Triton)
from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

RUN = 32  # values with one factor


@dataclass(frozen=True, slots=True)
class Activations:
    """Room for a vector (K,) in integers; written by `prepare`."""

    # (high or low bytes, even or odd nibbles, K / 32, 4) int32: byte b of word i is of the value
    # 4 (2 b + odd) + i of the run, as `kernels.packed` lays out the codes.
    codes: Tensor
    # (K / 32, 4) float32, of each run: the factor, the sum of all, of the first and the last 16.
    factors: Tensor

    @staticmethod
    def room(k: int, device: torch.device | str) -> Activations:
        """Return room for `k` values, a multiple of 32."""
        n_runs = k // RUN
        return Activations(
            torch.zeros((2, 2, n_runs, 4), dtype=torch.int32, device=device),
            torch.zeros((n_runs, 4), device=device),
        )


def is_native(tensor: Tensor) -> bool:
    """Whether kernels may take PTX: on NVIDIA's GPUs, not on AMD's or in the interpreter."""
    return tensor.is_cuda and torch.version.hip is None


@triton.jit
def places(run):
    """Return the indices (R, 8, 4) of the values of runs (R,): odd and word by byte."""
    c = tl.arange(0, 8)
    byte = tl.arange(0, 4)
    place = 4 * (2 * byte[None, :] + c[:, None] // 4) + c[:, None] % 4
    return (run * 32)[:, None, None] + place[None, :, :]


@triton.jit
def store_integers(x, run, n_runs, codes_ptr, x_factors_ptr):
    """Store values (R, 8, 4), laid out by `places`, of runs (R,) as integers."""
    c = tl.arange(0, 8)
    byte = tl.arange(0, 4)
    largest = tl.max(tl.max(tl.abs(x), axis=2), axis=1)
    factor = largest / 32767.0
    inverse = 32767.0 / tl.where(largest > 0, largest, 1.0)
    q = tl.floor(x * inverse[:, None, None] + 0.5).to(tl.int32)
    shift = (8 * byte)[None, None, :]
    high = tl.sum(((q >> 8) & 255) << shift, axis=2)
    low = tl.sum((q & 255) << shift, axis=2)
    to = (c // 4)[None, :] * (n_runs * 4) + (run * 4)[:, None] + (c % 4)[None, :]
    real = (run < n_runs)[:, None]
    tl.store(codes_ptr + to, high, mask=real)
    tl.store(codes_ptr + n_runs * 8 + to, low, mask=real)
    is_first = (byte < 2)[None, None, :]
    first = tl.sum(tl.sum(tl.where(is_first, q, 0), axis=2), axis=1).to(tl.float32) * factor
    last = tl.sum(tl.sum(tl.where(is_first, 0, q), axis=2), axis=1).to(tl.float32) * factor
    tl.store(x_factors_ptr + 4 * run, factor, mask=run < n_runs)
    tl.store(x_factors_ptr + 4 * run + 1, first + last, mask=run < n_runs)
    tl.store(x_factors_ptr + 4 * run + 2, first, mask=run < n_runs)
    tl.store(x_factors_ptr + 4 * run + 3, last, mask=run < n_runs)
