"""Packed matrices: the matrix-vector kernel and the unpacking for a prefill, against the plain."""

from __future__ import annotations

import pytest
import torch

from kernels.dequantise import BLOCKS, PLAIN, dequantise
from kernels.packed import pack
from kernels.reference import rms_norm
from tests.kernels.test_dequantise import random_rows
from tests.kernels.triton_here import DEVICE, needs_triton

SIXTEEN_BITS = 2e-4  # beside codes that cancel; 1e-5 beside none that do
KINDS = sorted(set(BLOCKS) - set(PLAIN))


def tame(kind, n, k, seed=0):
    """Rows whose weights are of the size of real ones."""
    rows = random_rows(kind, n, k // BLOCKS[kind][0], seed)
    return torch.from_numpy(rows)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [1, 5])
def test_planes_hold_the_same_weights(kind, n):
    raw = tame(kind, n, 512)
    matrix = pack(raw, kind)
    assert (matrix.n, matrix.k) == (n, 512)
    assert torch.equal(matrix.dense(), dequantise(raw, kind))
    assert torch.equal(matrix.rows(slice(n - 1, n)).dense(), dequantise(raw, kind)[-1:])


@pytest.mark.parametrize("kind", KINDS)
def test_planes_are_not_much_larger_than_the_file(kind):
    raw = tame(kind, 4, 512)
    assert pack(raw, kind).n_bytes <= raw.numel() * 17 / 16


def product(raw, kind, x, block_n, block_g, **more):
    from kernels.integers import Activations
    from kernels.matvec import matvec, prepare

    matrix = pack(raw, kind).to(DEVICE)
    ends = {name: more.pop(name).to(DEVICE) for name in ("bias", "residual") if name in more}
    if "norm" in more:
        more["norm"] = more["norm"].to(DEVICE)
    room = Activations.room(matrix.k, DEVICE)
    room.codes.fill_(-1)
    room.factors.fill_(float("nan"))
    prepare(x.to(DEVICE), room, **more)
    out = torch.full((matrix.n,), float("nan"), device=DEVICE)
    matvec(matrix, room, out, blocks=(block_n, block_g, 1, 2), **ends)
    return out.cpu()


@needs_triton
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("n", "k", "block_n", "block_g"), [(7, 256, 4, 4), (4, 768, 2, 16), (8, 512, 4, 8)]
)
def test_the_kernel_is_the_plain_product(kind, n, k, block_n, block_g):
    raw = tame(kind, n, k, seed=n)
    x = torch.randn(k)
    truth = dequantise(raw, kind).double() @ x.double()
    found = product(raw, kind, x, block_n, block_g)
    assert (found - truth).norm() / truth.norm() < SIXTEEN_BITS


@needs_triton
def test_norm_bias_and_residual():
    raw = tame("Q4_K", 6, 512)
    x, norm, bias, residual = torch.randn(512), torch.rand(512), torch.randn(6), torch.randn(6)
    found = product(raw, "Q4_K", x, 4, 16, norm=norm, eps=1e-5, bias=bias, residual=residual)
    truth = dequantise(raw, "Q4_K") @ rms_norm(x, norm, 1e-5) + bias + residual
    assert (found - truth).norm() / truth.norm() < SIXTEEN_BITS


@needs_triton
def test_gate_and_a_run_of_zeros():
    raw = tame("Q6_K", 5, 512)
    gate, up = torch.randn(512), torch.randn(512)
    up[:32] = 0
    found = product(raw, "Q6_K", torch.cat((gate, up)), 8, 16, is_gated=True)
    truth = dequantise(raw, "Q6_K") @ (torch.nn.functional.silu(gate) * up)
    assert (found - truth).norm() / truth.norm() < SIXTEEN_BITS


@needs_triton
@pytest.mark.parametrize("kind", KINDS)
def test_unpacked_weights_are_the_files(kind):
    from kernels.unpack import unpack

    raw = tame(kind, 5, 768)
    found = unpack(pack(raw, kind).to(DEVICE), torch.float32, block=16)
    expected = dequantise(raw, kind)
    assert torch.allclose(found.cpu(), expected, rtol=1e-6, atol=1e-6 * float(expected.abs().max()))
