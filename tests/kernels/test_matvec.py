"""The matrix-vector kernel against the plain product, in Triton's interpreter (or on a GPU)."""

from __future__ import annotations

import pytest
import torch

from kernels.dequantise import BLOCKS, PLAIN, dequantise
from kernels.packed import pack
from tests.kernels.test_dequantise import random_rows
from tests.kernels.triton_here import DEVICE, needs_triton

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


@needs_triton
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("n", "k", "block_n", "block_g"), [(7, 256, 4, 4), (4, 768, 2, 16)])
def test_the_kernel_is_the_plain_product(kind, n, k, block_n, block_g):
    from kernels.matvec import matvec

    raw = tame(kind, n, k, seed=n)
    expected = dequantise(raw, kind).double()
    x = torch.randn(k)
    out = torch.full((n,), float("nan"), device=DEVICE)
    matvec(pack(raw, kind).to(DEVICE), x.to(DEVICE), out, block_n=block_n, block_g=block_g)
    truth = expected @ x.double()
    assert (out.cpu() - truth).norm() / truth.norm() < 2e-6


@needs_triton
def test_norm_bias_and_residual_are_fused():
    from kernels.matvec import matvec
    from kernels.reference import rms_norm

    raw = tame("Q4_K", 6, 512)
    weights = dequantise(raw, "Q4_K")
    x, norm, bias, residual = torch.randn(512), torch.rand(512), torch.randn(6), torch.randn(6)
    out = torch.full((6,), float("nan"), device=DEVICE)
    matvec(
        pack(raw, "Q4_K").to(DEVICE),
        x.to(DEVICE),
        out,
        norm=norm.to(DEVICE),
        eps=1e-5,
        bias=bias.to(DEVICE),
        residual=residual.to(DEVICE),
    )
    truth = weights @ rms_norm(x, norm, 1e-5) + bias + residual
    assert torch.allclose(out.cpu(), truth, rtol=1e-4, atol=1e-4 * float(truth.abs().max()))


@needs_triton
def test_swiglu_is_fused():
    from kernels.matvec import matvec

    raw = tame("Q6_K", 5, 256)
    x = torch.randn(512)
    out = torch.full((5,), float("nan"), device=DEVICE)
    matvec(pack(raw, "Q6_K").to(DEVICE), x.to(DEVICE), out, is_gated=True)
    gated = torch.nn.functional.silu(x[:256]) * x[256:]
    truth = dequantise(raw, "Q6_K") @ gated
    assert torch.allclose(out.cpu(), truth, rtol=1e-4, atol=1e-4 * float(truth.abs().max()))
