"""Eviction: scores mean what they say, memory is free afterwards, what stays is what was kept."""

from __future__ import annotations

import pytest
import torch

from docqa.errors import ModelRefused
from kernels import reference
from kernels.kv_pages import PAGE
from models.compression import evict, scores, select
from models.kv_cache import N_SINK, KvCache, KvFormat, PagePool
from tests.models.ring_cases import decoder_of
from tests.models.torch_models import Small, write_small

N = N_SINK + 6 * PAGE + 64


@pytest.fixture(scope="module")
def decoder(tmp_path_factory):
    small = Small(n_embd=64, n_heads=4, head_dim=32, n_ff=64)
    return decoder_of(write_small(tmp_path_factory.mktemp("c") / "m.gguf", small))


def cache_of(decoder, bits=16, n_pages=128):
    shape = decoder.shape
    return KvCache(PagePool(n_pages, shape.head_dim, KvFormat(bits, bits)), shape)


def prompt(n=N):
    return [259 + (7 * i * i + 3 * i) % 120 for i in range(n)]


def naive_weights(q, k):
    """(H_kv, group, T, n) by the book."""
    group = q.shape[0] // k.shape[0]
    logits = (q @ k.repeat_interleave(group, 0).transpose(1, 2)) * q.shape[2] ** -0.5
    mask = reference.causal(q.shape[1], k.shape[1], 0, "cpu")
    return logits.masked_fill(~mask, float("-inf")).softmax(-1).unflatten(0, (-1, group))


@pytest.fixture
def qk():
    torch.manual_seed(0)
    return torch.randn(6, 40, 16), torch.randn(2, 100, 16)


def test_h2o_is_the_attention_received(qk, monkeypatch):
    monkeypatch.setattr(scores, "WEIGHTS_AT_ONCE", 2000)  # several blocks
    expected = naive_weights(*qk).sum(2).mean(1)
    assert torch.allclose(scores.h2o(*qk), expected, atol=1e-5)
    assert float(scores.h2o(*qk).sum()) == pytest.approx(2 * 40, rel=1e-4)


def test_snapkv_looks_from_the_last_queries_and_keeps_neighbours(qk):
    q, k = qk
    wanted = torch.randn(16)
    q[:, -8:] += 2 * wanted
    k[:, 30] = 3 * wanted
    found = scores.snapkv(q, k, n_observed=8, kernel=5)
    raw = naive_weights(q[:, -8:], k).mean(2).mean(1)
    assert found[0, 30] == pytest.approx(float(raw[0, 28:33].mean()), rel=1e-4)
    assert int(found[0].argmax()) in range(28, 33)


def test_kvzip_is_the_most_that_any_query_of_any_head_gives(qk):
    expected = naive_weights(*qk).amax((1, 2))[:, :60]
    assert torch.allclose(scores.kvzip(*qk, 60), expected, atol=1e-6)


def test_uniform_keeps_the_best_in_order():
    layer = torch.rand(3, 5 * PAGE)
    (heads,) = select.uniform([layer], 0.4)
    for head, kept in enumerate(heads):
        assert len(kept) == 2 * PAGE
        assert bool((kept.diff() > 0).all())
        dropped = torch.ones(5 * PAGE, dtype=torch.bool)
        dropped[kept] = False
        assert float(layer[head][dropped].max()) <= float(layer[head][kept].min())


def test_adaptive_gives_more_to_heads_that_matter_and_every_head_something():
    found = [torch.rand(2, 10 * PAGE) for _ in range(3)]
    found[1][0] += 10
    kept = select.adaptive(found, 0.5)
    counts = [[len(h) // PAGE for h in layer] for layer in kept]
    assert counts[1][0] == 10
    assert sum(map(sum, counts)) == 30
    assert min(map(min, counts)) >= 1
    with pytest.raises(ValueError, match="more than 0"):
        select.uniform(found, 0.0)


@pytest.mark.parametrize("method", evict.METHODS)
@pytest.mark.parametrize("bits", [16, 4])
def test_memory_is_free_afterwards_and_the_answer_goes_on(decoder, method, bits):
    cache = cache_of(decoder, bits)
    evict.read_and_compress(
        decoder, cache, prompt(), method, 0.5, n_chunk=128, repeat_prompt=[260, 261]
    )
    heads = decoder.shape.n_layers * decoder.shape.n_kv_heads
    used = cache.pool.n_pages - cache.pool.n_free
    assert used <= heads * 3
    assert used == sum(len(ids) for layer in cache.tables for ids in layer)
    assert cache.n_tokens == N  # as the conversation counts
    assert cache.next_position == N
    chunk = decoder.compute(torch.tensor([300]), cache)
    cache.append(chunk.k, chunk.v)
    assert bool(torch.isfinite(decoder.logits(chunk.hidden)).all())
    assert not cache.truncate(100)
    cache.clear()
    assert cache.pool.n_free == cache.pool.n_pages


def test_keeping_everything_changes_nothing(decoder):
    whole, same = cache_of(decoder), cache_of(decoder)
    chunk = decoder.compute(torch.tensor(prompt()), whole)
    whole.append(chunk.k, chunk.v)
    hidden = evict.read_and_compress(decoder, same, prompt(), "kvzip", 1.0)
    assert torch.allclose(hidden, chunk.hidden[-1:], atol=2e-2)
    for layer in range(decoder.shape.n_layers):
        assert torch.allclose(whole.layer(layer)[0], same.layer(layer)[0], atol=2e-2)


def test_streaming_bounds_the_peak_not_only_the_end(decoder):
    heads = decoder.shape.n_layers * decoder.shape.n_kv_heads
    cache = cache_of(decoder, n_pages=heads * 8)  # the text would take 30 pages a head
    n = 2000
    evict.read_and_compress(decoder, cache, prompt(n), "streaming", 0.15, n_chunk=128)
    assert cache.n_tokens == n
    last = torch.tensor([len(ids) for layer in cache.tables for ids in layer])
    assert int(last.max()) == int(last.min()) <= 3


@pytest.mark.parametrize("turns_again", [True, False])
def test_positions_are_kept_or_made_adjacent(decoder, turns_again):
    """Turned again, the kept K are those of a prompt that never held what was dropped.

    The first layer's K depend on token and position alone, so they can be compared.
    """
    cache = cache_of(decoder)
    ids = prompt()
    chunk = decoder.compute(torch.tensor(ids), cache)
    cache.append(chunk.k, chunk.v)
    places = torch.cat((torch.arange(0, 70), torch.arange(200, 200 + 2 * PAGE - 70)))
    shape = decoder.shape
    kept = [[places] * shape.n_kv_heads for _ in range(shape.n_layers)]
    evict.drop(decoder, cache, kept, turns_again=turns_again)
    left = [*range(N_SINK), *(N_SINK + places).tolist(), *range(N - 64, N)]
    k = cache.layer(0)[0]
    if turns_again:
        assert cache.next_position == len(left)
        fresh = cache_of(decoder)
        expected = decoder.compute(torch.tensor([ids[i] for i in left]), fresh).k[0]
    else:
        assert cache.next_position == N
        expected = chunk.k[0][:, left]
    assert torch.allclose(k, expected.float(), atol=1e-2)


def test_bad_wishes_are_refused(decoder):
    for method, keep in (("pyramid", 0.5), ("h2o", 0.0), ("snapkv", 1.5)):
        with pytest.raises(ModelRefused, match="eviction"):
            evict.read_and_compress(decoder, cache_of(decoder), prompt(10), method, keep)
    assert evict.sees_question("snapkv")
    assert not evict.sees_question("kvzip")
