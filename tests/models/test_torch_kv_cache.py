"""The paged cache: values, sharing, cutting at any place, memory that is really free again."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels import kv_pages
from kernels.kv_pages import PAGE
from models.kv_cache import N_SINK, WINDOW, KvCache, KvFormat, NoRoom, PagePool
from models.kv_state import from_bytes, to_bytes
from models.torch_shape import Shape

torch.set_num_threads(1)  # on a busy machine threads that wait for each other take ten times


def shape(n_layers=2, n_kv_heads=3, head_dim=64):
    return Shape(
        "llama", n_layers, 96, 6, n_kv_heads, head_dim, 128, 100, 1e-5, head_dim, True, False,
        True, 0,
    )  # fmt: skip


def kv(n, seed=0, s=None):
    s = s or shape()
    generator = torch.Generator().manual_seed(seed)
    size = (s.n_layers, s.n_kv_heads, n, s.head_dim)
    return tuple(torch.randn(size, generator=generator).half() for _ in range(2))


def make(bits=16, n_pages=400):
    s = shape()
    return KvCache(PagePool(n_pages, s.head_dim, KvFormat(bits, bits)), s)


def content(cache):
    layers = [cache.layer(i) for i in range(cache.shape.n_layers)]
    assert all(there is None for _, _, there in layers)
    return torch.stack([k for k, _, _ in layers]), torch.stack([v for _, v, _ in layers])


@pytest.mark.parametrize("steps", [(1,), (300,), (5, 11, 1, 200, 1, 1, 64), (1,) * 150, (145, 400)])
def test_what_was_appended_is_there_in_order(steps):
    cache, (k, v) = make(), kv(sum(steps))
    at = 0
    for n in steps:
        cache.append(k[:, :, at : at + n], v[:, :, at : at + n])
        at += n
    assert cache.n_tokens == at
    found_k, found_v = content(cache)
    assert torch.equal(found_k, k.float())
    assert torch.equal(found_v, v.float())
    if at >= N_SINK + WINDOW:
        assert cache.n_newest >= WINDOW


@pytest.mark.parametrize(("bits", "error"), [(8, 0.01), (4, 0.13)])
def test_quantised_pages_are_near_and_sinks_and_newest_exact(bits, error):
    cache, (k, v) = make(bits), kv(500)
    cache.append(k, v)
    for found, given_ in zip(content(cache), (k, v), strict=True):
        difference = found - given_.float()
        assert difference.norm() / given_.float().norm() < error
        assert torch.equal(found[:, :, :N_SINK], given_[:, :, :N_SINK].float())
        n = cache.n_newest
        assert torch.equal(found[:, :, -n:], given_[:, :, -n:].float())


def test_bytes_are_those_of_the_layout():
    s = shape(head_dim=128)
    eight_b = Shape(
        "llama", 32, 4096, 32, 8, 128, 14336, 32000, 1e-5, 128, True, False, False, 0
    )  # fmt: skip
    assert KvFormat(16, 16).token_bytes(s) == 2 * 2 * 128 * s.n_layers * s.n_kv_heads
    # 128k tokens of an 8B model in four bits, scales and zeros included.
    assert KvFormat(4, 4).token_bytes(eight_b) * 131072 <= 5.5 * 2**30
    cache, (k, v) = make(4), kv(16 + 64 * 5 + 64)
    cache.append(k, v)
    pool = cache.pool
    real = sum(p[0].numel() * p.element_size() for p in pool.planes())
    assert real == pool.page_bytes
    assert pool.n_pages - pool.n_free == 5 * 2 * 3


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.booleans(), st.integers(1, 300)), min_size=1, max_size=8),
    st.sampled_from([16, 8, 4]),
)
def test_any_order_of_appending_and_cutting_leaves_the_right_tokens(steps, bits):
    cache, (k, v) = make(bits), kv(2600)
    n = 0
    for is_cut, amount in steps:
        if is_cut:
            n = max(0, n - amount)
            assert cache.truncate(n)
        else:
            cache.append(k[:, :, n : n + amount], v[:, :, n : n + amount])
            n += amount
        assert cache.n_tokens == n
    if n:
        found_k, found_v = content(cache)
        tolerance = {16: 0, 8: 0.05, 4: 0.6}[bits]
        assert (found_k - k[:, :, :n].float()).abs().max() <= tolerance
        assert (found_v - v[:, :, :n].float()).abs().max() <= tolerance
    cache.clear()
    assert cache.pool.n_free == cache.pool.n_pages


def test_a_fork_shares_pages_and_neither_disturbs_the_other():
    cache, (k, v) = make(), kv(700)
    cache.append(k[:, :, :500], v[:, :, :500])
    used = cache.pool.n_pages - cache.pool.n_free
    fork = cache.fork(300)
    assert cache.pool.n_pages - cache.pool.n_free == used  # shared, not copied
    fork.append(k[:, :, 500:], v[:, :, 500:])
    cache.append(k[:, :, 500:600], v[:, :, 500:600])
    assert torch.equal(content(cache)[0], k[:, :, :600].float())
    both = torch.cat((k[:, :, :300], k[:, :, 500:]), dim=2).float()
    assert torch.equal(content(fork)[0], both)
    cache.clear()
    assert torch.equal(content(fork)[0], both)
    fork.clear()
    assert fork.pool.n_free == fork.pool.n_pages


def test_a_full_pool_changes_nothing():
    cache, (k, v) = make(n_pages=12), kv(1000)
    cache.append(k[:, :, :200], v[:, :, :200])
    before = content(cache)
    with pytest.raises(NoRoom):
        cache.append(k[:, :, 200:], v[:, :, 200:])
    assert cache.n_tokens == 200
    assert torch.equal(content(cache)[0], before[0])
    assert cache.pool.n_free == 12 - 6


def test_heads_may_keep_different_numbers_of_pages():
    cache, (k, v) = make(), kv(16 + 64 * 4 + 64)
    cache.append(k, v)
    free = cache.pool.n_free
    kept = [1, 2, 4]
    paged_k = [k[0, h, 16 : 16 + 64 * kept[h]].float() for h in range(3)]
    paged_v = [v[0, h, 16 : 16 + 64 * kept[h]].float() for h in range(3)]
    cache.replace_layer(0, paged_k, paged_v)
    cache.note_eviction(64 * 3, 0)
    assert cache.pool.n_free == free + 5
    found_k, _, there = cache.layer(0)
    for h in range(3):
        expected = torch.cat((k[0, h, : 16 + 64 * kept[h]], k[0, h, -64:])).float()
        assert torch.equal(found_k[h][there[h]], expected)
    assert cache.layer(1)[2] is None
    assert not cache.truncate(100)  # the tokens before cannot be told apart any more
    assert cache.n_tokens == 16 + 64 * 5
    assert cache.truncate(16 + 64 * 4 + 10)
    assert cache.n_newest == 10


@pytest.mark.parametrize("bits", [16, 8, 4])
@pytest.mark.parametrize("n", [0, 9, 100, 500])
def test_bytes_and_back_are_the_same_numbers(bits, n):
    cache, (k, v) = make(bits), kv(600)
    cache.append(k[:, :, :n], v[:, :, :n])
    data = to_bytes(cache)
    assert len(data) <= cache.n_bytes + 500
    again = from_bytes(data, cache.pool, cache.shape)
    assert (again.n_tokens, again.n_newest) == (cache.n_tokens, cache.n_newest)
    if n:
        assert torch.equal(content(again)[0], content(cache)[0])
        assert torch.equal(content(again)[1], content(cache)[1])
    again.append(k[:, :, n:], v[:, :, n:])
    cache.append(k[:, :, n:], v[:, :, n:])
    assert torch.equal(content(again)[0], content(cache)[0])


def test_bytes_of_another_shape_or_not_whole_are_refused_and_take_no_pages():
    cache, (k, v) = make(8), kv(300)
    cache.append(k, v)
    data = to_bytes(cache)
    free = cache.pool.n_free
    for broken in (data[:-1], data[:40], data[:5], np.concatenate((data, data[:1])), data[8:]):
        with pytest.raises(ValueError, match="is "):
            from_bytes(broken, cache.pool, cache.shape)
    with pytest.raises(ValueError, match="another shape"):
        from_bytes(data, PagePool(400, 64, KvFormat(4, 4)), cache.shape)
    with pytest.raises(ValueError, match="another shape"):
        from_bytes(data, cache.pool, shape(n_kv_heads=2))
    assert cache.pool.n_free == free


def test_hadamard_is_its_own_inverse_and_refuses_other_sizes():
    h = kv_pages.hadamard(128)
    assert torch.allclose(h @ h, torch.eye(128), atol=1e-5)
    assert torch.equal(h, h.T)
    with pytest.raises(ValueError, match="power of two"):
        kv_pages.hadamard(96)


def test_four_bit_codes_pack_low_channels_in_low_nibbles():
    codes = torch.arange(PAGE * 8, dtype=torch.int64).view(PAGE, 8).remainder(16).to(torch.uint8)
    packed = kv_pages.pack(codes, 4)
    assert packed.shape == (PAGE, 4)
    assert int(packed[0, 0]) == int(codes[0, 0]) | int(codes[0, 4]) << 4
    assert torch.equal(kv_pages.unpack(packed, 4), codes)
