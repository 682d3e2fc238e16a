"""The decode kernel against plain attention over the decoded cache, at odd shapes."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from kernels import reference
from models.kv_cache import KvCache, KvFormat, PagePool
from models.torch_shape import Shape
from tests.kernels.triton_here import DEVICE, needs_triton

pytestmark = needs_triton


def cache_of(n, bits, n_kv=2, head_dim=64, group=3, seed=0):
    shape = Shape(
        "llama", 2, 64, n_kv * group, n_kv, head_dim, 64, 64, 1e-5, head_dim, True, False, True, 0
    )  # fmt: skip
    torch.manual_seed(seed)
    cache = KvCache(PagePool(200, head_dim, KvFormat(*bits), DEVICE), shape)
    # Channels of very different size and a shared offset, as real K have.
    size = torch.logspace(-1, 1, head_dim)
    k = torch.randn(2, n_kv, n, head_dim) * size + 2 * size
    v = torch.randn(2, n_kv, n, head_dim) + 0.5
    cache.append(k.half().to(DEVICE), v.half().to(DEVICE))
    return cache, torch.randn(n_kv * group, head_dim).to(DEVICE) / 4


def run(cache, q, n_splits=3, first=0, **how):
    from kernels.decode_attention import Partials, attend
    from models.torch_step import DeviceTables

    tables = DeviceTables(cache, max_pages=64)
    tables.refresh(cache)
    tables.state[2] = first
    out = torch.full((n_splits + 1, *q.shape), float("nan"), device=DEVICE)
    lse = torch.full((n_splits + 1, q.shape[0]), float("nan"), device=DEVICE)
    merged = torch.full_like(q, float("nan"))
    attend(q, tables.layer(1), Partials(out, lse), merged, has_window=first > 0, **how)
    return merged


def expected(cache, q, first=0):
    k, v, there = cache.layer(1)
    allowed = None if there is None else there[:, None, :]
    if first:
        allowed = (torch.arange(k.shape[1], device=k.device) >= first)[None, None, :]
    return reference.attend(q[:, None], k, v, scale=q.shape[1] ** -0.5, allowed=allowed)[0][:, 0]


@pytest.mark.parametrize("bits", [(16, 16), (8, 8), (4, 4), (8, 4)])
@pytest.mark.parametrize("n", [1, 17, 80, 144, 145, 700])
def test_it_is_plain_attention_over_what_the_cache_holds(bits, n):
    cache, q = cache_of(n, bits)
    truth = expected(cache, q)
    for n_splits in (3, 8):  # with one program for what is in float16, and with several
        found = run(cache, q, n_splits)
        assert (found - truth).norm() / truth.norm() < 2e-3


@pytest.mark.parametrize("bits", [(8, 8), (4, 4), (8, 4)])
@pytest.mark.parametrize(("group", "head_dim"), [(1, 64), (3, 64), (4, 128), (16, 32)])
def test_any_grouping_and_head_of_few_bits(bits, group, head_dim):
    cache, q = cache_of(400, bits, group=group, head_dim=head_dim)
    truth = expected(cache, q)
    for n_splits in (3, 30):
        found = run(cache, q, n_splits)
        assert (found - truth).norm() / truth.norm() < 2e-3


@pytest.mark.parametrize("bits", [(8, 8), (4, 4)])
def test_many_small_weights_beside_a_large_one_count(bits):
    """Each of 2,560 tokens weighs less than half a step of 16 bits beside the one that leads."""
    n, head_dim = 16 + 64 * 40 + 64, 64
    shape = Shape("llama", 2, 64, 1, 1, head_dim, 64, 64, 1e-5, head_dim, True, False, True, 0)
    cache = KvCache(PagePool(200, head_dim, KvFormat(*bits), DEVICE), shape)
    k = torch.zeros(2, 1, n, head_dim)
    v = (torch.arange(head_dim) % 32 / 31).repeat(2, 1, n, 1)
    k[:, :, 100], v[:, :, 100] = 11.2 / 8, 0.0
    k[:, :, :16], k[:, :, -64:] = -10, -10  # what is in float16 is not what this is about
    cache.append(k.half().to(DEVICE), v.half().to(DEVICE))
    q = torch.ones(1, head_dim).to(DEVICE)
    truth = expected(cache, q)
    assert 0.01 < float(truth.mean()) < 0.05
    found = run(cache, q, n_splits=2)
    assert (found - truth).norm() / truth.norm() < 5e-3


@pytest.mark.parametrize("first", [5, 16, 100, 330, 399])
def test_a_sliding_window_hides_what_is_before(first):
    cache, q = cache_of(400, (8, 8))
    found, truth = run(cache, q, first=first), expected(cache, q, first)
    assert (found - truth).norm() / truth.norm() < 2e-3


def test_more_splits_than_pages_and_heads_of_different_lengths():
    cache, q = cache_of(16 + 64 * 3 + 64, (8, 8))
    k, v, _ = cache.layer(1)
    kept = [k[0, 16:80], k[1, 16 : 16 + 192]], [v[0, 16:80], v[1, 16 : 16 + 192]]
    cache.replace_layer(1, *kept)
    cache.note_eviction(128, 0)
    found, truth = run(cache, q, n_splits=7), expected(cache, q)
    assert (found - truth).norm() / truth.norm() < 2e-3


@pytest.mark.parametrize(
    ("is_cuda", "hip", "expected"), [(True, None, True), (True, "6.2", False), (False, None, False)]
)
def test_ptx_is_for_nvidias_gpus(monkeypatch, is_cuda, hip, expected):
    from kernels.integers import is_native

    monkeypatch.setattr(torch.version, "hip", hip)
    assert is_native(SimpleNamespace(is_cuda=is_cuda)) is expected
