"""The integer matrix-vector kernel and the prefill's unpacking, against the plain product."""

from __future__ import annotations

import pytest
import torch

from kernels.dequantise import dequantise
from kernels.packed import pack
from kernels.reference import rms_norm
from tests.kernels.test_matvec import KINDS, tame
from tests.kernels.triton_here import DEVICE, needs_triton

pytestmark = needs_triton
SIXTEEN_BITS = 2e-4  # beside codes that cancel; 1e-5 beside none that do


def product(raw, kind, x, block_n, block_g, **more):
    from kernels.integer_matvec import integer_matvec, prepare
    from kernels.integers import Activations

    matrix = pack(raw, kind).to(DEVICE)
    ends = {name: more.pop(name).to(DEVICE) for name in ("bias", "residual") if name in more}
    if "norm" in more:
        more["norm"] = more["norm"].to(DEVICE)
    room = Activations.room(matrix.k, DEVICE)
    room.codes.fill_(-1)
    room.factor.fill_(float("nan"))
    room.sums.fill_(float("nan"))
    prepare(x.to(DEVICE), room, **more)
    out = torch.full((matrix.n,), float("nan"), device=DEVICE)
    integer_matvec(matrix, room, out, blocks=(block_n, block_g, 1, 2), **ends)
    return out.cpu()


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


def test_norm_bias_and_residual():
    raw = tame("Q4_K", 6, 512)
    x, norm, bias, residual = torch.randn(512), torch.rand(512), torch.randn(6), torch.randn(6)
    found = product(raw, "Q4_K", x, 4, 16, norm=norm, eps=1e-5, bias=bias, residual=residual)
    truth = dequantise(raw, "Q4_K") @ rms_norm(x, norm, 1e-5) + bias + residual
    assert (found - truth).norm() / truth.norm() < SIXTEEN_BITS


def test_gate_and_a_run_of_zeros():
    raw = tame("Q6_K", 5, 512)
    gate, up = torch.randn(512), torch.randn(512)
    up[:32] = 0
    found = product(raw, "Q6_K", torch.cat((gate, up)), 8, 16, is_gated=True)
    truth = dequantise(raw, "Q6_K") @ (torch.nn.functional.silu(gate) * up)
    assert (found - truth).norm() / truth.norm() < SIXTEEN_BITS


@pytest.mark.parametrize("kind", KINDS)
def test_unpacked_weights_are_the_files(kind):
    from kernels.unpack import unpack

    raw = tame(kind, 5, 768)
    found = unpack(pack(raw, kind).to(DEVICE), torch.float32, block=16)
    expected = dequantise(raw, kind)
    assert torch.allclose(found.cpu(), expected, rtol=1e-6, atol=1e-6 * float(expected.abs().max()))
