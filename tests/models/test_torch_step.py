"""The fused step against the plain decoder: the same logits, token by token, in any family."""

from __future__ import annotations

import pytest
import torch

from docqa.errors import ModelRefused
from models.kv_cache import KvCache, KvFormat, PagePool
from models.model_file import read_model
from models.settings import RopeSettings
from models.torch_decoder import Decoder
from models.torch_rope import rope_of
from models.torch_shape import shape_of
from models.torch_weights import Linear, load
from tests.kernels.triton_here import DEVICE, needs_triton
from tests.models.torch_models import Small, write_small

pytestmark = needs_triton

SMALL = {"n_layers": 1, "n_embd": 64, "n_ff": 64, "head_dim": 32}
FAMILIES = {
    "llama": Small(kind="Q4_K", n_ff=256),
    "qwen2": Small("qwen2", "Q8_0", n_heads=2, n_kv_heads=1, has_bias=True, **SMALL),
    "qwen3": Small("qwen3", "Q4_1", has_qk_norm=True, is_tied=True, **SMALL),
}


@pytest.fixture(autouse=True)
def _large_blocks(monkeypatch):
    """In the interpreter a program costs the same however many rows it has."""
    if DEVICE == "cpu":
        monkeypatch.setattr("kernels.matvec.matvec_blocks", lambda bits, n, k: (64, 32, 1, 1))


def decoder_of(path, device=DEVICE):
    """The decoder with its weights packed, as on a GPU, wherever it is."""
    from kernels.packed import pack
    from models.torch_weights import MappedTensors

    model = read_model(path)
    shape = shape_of(model)
    weights = load(model, shape, torch.device(device))
    tensors = MappedTensors(model)
    for name, linear in weights.linears.items():
        if linear.packed is None and name in tensors:
            linear.packed = pack(tensors.raw(name), tensors.info(name).type_name).to(device)
            linear.dense = None
    rope = rope_of(model, shape, RopeSettings(), weights.rope_factors)
    return Decoder(shape, weights, rope, 512, torch.device(device))


def cache_for(decoder, bits):
    shape = decoder.shape
    return KvCache(PagePool(64, shape.head_dim, KvFormat(bits, bits), decoder.device), shape)


@pytest.mark.parametrize(("name", "bits"), [("llama", 8), ("qwen2", 16), ("qwen3", 4)])
def test_the_step_is_the_decoder(tmp_path, name, bits):
    from models.torch_step import GraphStep

    decoder = decoder_of(write_small(tmp_path / "m.gguf", FAMILIES[name]))
    cache = cache_for(decoder, bits)
    step = GraphStep(decoder, cache, 512)
    plain = cache_for(decoder, bits)
    prompt = 260 + torch.arange(141) % 120
    if name != "qwen2":
        chunk = decoder.compute(prompt, plain)
        for target in (cache, plain):
            target.append(chunk.k, chunk.v)
    # Over the border where 64 tokens go into a page (141 + 3), and, for qwen2, from nothing on.
    for token in range(300, 304):
        found = step.run(token, cache).clone()
        chunk = decoder.compute(torch.tensor([token]), plain)
        expected = decoder.logits(chunk.hidden)[0]
        plain.append(chunk.k, chunk.v)
        assert (found - expected).norm() / expected.norm() < 5e-3
    assert cache.n_tokens == plain.n_tokens
    assert (cache.n_sinks, cache.n_paged, cache.n_newest) == (
        plain.n_sinks,
        plain.n_paged,
        plain.n_newest,
    )


def test_a_short_sequence_in_fewer_parts_is_the_same(tmp_path):
    from models.torch_step import GraphStep

    decoder = decoder_of(write_small(tmp_path / "m.gguf", FAMILIES["qwen2"]))
    logits = []
    for short in ((), ((1, 2),)):
        cache = cache_for(decoder, 8)
        step = GraphStep(decoder, cache, 512, short)
        logits.append(torch.stack([step.run(300 + i, cache).clone() for i in range(3)]))
    assert (logits[0] - logits[1]).norm() / logits[0].norm() < 1e-3


def test_a_cut_and_another_conversation_are_noticed(tmp_path):
    from models.torch_step import GraphStep

    decoder = decoder_of(write_small(tmp_path / "m.gguf", FAMILIES["qwen2"]))
    cache = cache_for(decoder, 8)
    other = KvCache(cache.pool, decoder.shape)
    step = GraphStep(decoder, cache, 512)
    step.run(300, cache)
    first = step.run(301, cache).clone()
    step.run(310, other)
    assert cache.truncate(1)
    again = step.run(301, cache).clone()
    assert torch.allclose(first, again, atol=1e-5)
    elsewhere = step.run(301, other).clone()
    assert not torch.allclose(first, elsewhere, atol=1e-3)


def test_what_the_step_cannot_do_is_left_to_the_decoder(tmp_path):
    from models.torch_step import GraphStep

    decoder = decoder_of(write_small(tmp_path / "m.gguf", FAMILIES["qwen2"]))
    adapted: Linear = decoder.weights.layers[0].q
    adapted.adapters.append((torch.zeros(1, 64), torch.zeros(64, 1), 1.0))
    with pytest.raises(ModelRefused, match="an adapter"):
        GraphStep(decoder, cache_for(decoder, 8), 512)
