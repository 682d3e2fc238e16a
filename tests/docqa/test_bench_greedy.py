"""The greedy bench: the engine's decoder on llama.cpp's arithmetic equals it to the last bit."""

from __future__ import annotations

import argparse
import json

import pytest
import torch

from docqa.bench.llama_arithmetic import LlamaArithmetic
from docqa.bench.llama_greedy import LlamaGreedy
from docqa.bench.torch_greedy import ARITHMETIC, AS_IT_IS, ITSELF, OPERATIONS, report
from docqa.bench.torch_model import load_model
from models.kv_cache import KvCache, KvFormat, PagePool
from models.torch_context import pool_pages
from tests.models.torch_models import Small, write_small

N_PROMPT, N_ANSWER = 100, 80  # more than one tile of attention, more than one piece of an answer
PROMPTS = [[(a * i * i + 3) % 384 for i in range(N_PROMPT)] for a in (7, 11, 13)]
# llama.cpp rearranges Q4_0 and the K formats when it loads them, and sums in another order then.
AS_IN_THE_FILE = ("Q4_1", "Q5_0", "Q5_1", "Q8_0")
ROUNDED = (*AS_IN_THE_FILE, "Q4_0", "Q4_K", "Q5_K", "Q6_K")


@pytest.fixture
def theirs(tmp_path):
    opened = []

    def open_(small, at_once=1):
        path = write_small(tmp_path / f"{small.kind}.gguf", small)
        opened.append(LlamaGreedy(path, N_PROMPT, N_ANSWER, at_once))
        return path, opened[-1]

    yield open_
    for each in opened:
        each.close()


def arithmetic_of(path):
    """The decoder on ggml's operations, and a cache for it."""
    model = load_model(path, torch.device("cpu"))
    length = N_PROMPT + N_ANSWER
    pool = PagePool(pool_pages(model.shape, length, 1), model.shape.head_dim, KvFormat(16, 16))
    return LlamaArithmetic(model, length), KvCache(pool, model.shape)


@pytest.mark.parametrize("kind", AS_IN_THE_FILE)
def test_on_llama_cpps_arithmetic_every_logit_is_llama_cpps(kind, theirs):
    path, llama = theirs(Small(kind=kind))
    tokens, logits = llama.answers(PROMPTS[:1])[0]
    decoder, cache = arithmetic_of(path)
    found = decoder.read(PROMPTS[0], tokens, cache)
    assert found.shape == (N_ANSWER, 384)
    assert torch.equal(found, logits)
    assert found.argmax(-1).tolist() == tokens


def test_other_families_too(theirs):
    qwen = Small(architecture="qwen2", kind="Q4_1", has_bias=True, is_tied=True)
    path, llama = theirs(qwen)
    tokens, logits = llama.answers(PROMPTS[:1])[0]
    decoder, cache = arithmetic_of(path)
    assert torch.equal(decoder.read(PROMPTS[0], tokens, cache), logits)


def test_a_decoder_that_is_slightly_wrong_is_seen(theirs):
    path, llama = theirs(Small(kind="Q4_1"))
    tokens, logits = llama.answers(PROMPTS[:1])[0]
    decoder, cache = arithmetic_of(path)
    decoder.weights.layers[1].ffn_norm.mul_(1 + 1e-4)
    assert not torch.equal(decoder.read(PROMPTS[0], tokens, cache), logits)


@pytest.mark.parametrize("kind", ROUNDED)
def test_the_rounding_of_activations_is_what_products_differ_by(kind, theirs):
    path, llama = theirs(Small(kind=kind))
    tokens, _ = llama.answers(PROMPTS[:1])[0]
    decoder, cache = arithmetic_of(path)
    decoder.watch.n_pieces = 2
    decoder.read(PROMPTS[0], tokens, cache)
    apart = {name: (a / b) ** 0.5 for name, (a, b) in decoder.watch.sums.items()}
    assert apart["product"] > 1e-3
    assert apart["product, rounded"] < 1e-6
    assert apart["attention, of an answer"] > 3e-4
    assert apart["attention, of an answer, rounded"] < 1e-4
    assert apart["attention, of a prompt"] < 1e-5
    assert max(apart[name] for name in ("norm", "rope", "swiglu")) < 1e-5


def test_prompts_answered_side_by_side_get_their_own_answers(theirs):
    _, llama = theirs(Small(kind="Q4_1"), at_once=3)
    together = llama.answers(PROMPTS)
    alone = [llama.answers([ids])[0] for ids in PROMPTS]
    assert [tokens for tokens, _ in together] == [tokens for tokens, _ in alone]
    assert len({tuple(tokens) for tokens, _ in alone}) == 3
    assert all((a - b).abs().max() < 0.5 for (_, a), (_, b) in zip(together, alone, strict=True))


def test_llama_cpp_is_not_equal_to_itself_in_other_batches(theirs):
    _, llama = theirs(Small(kind="Q4_1"))
    tokens, logits = llama.answers(PROMPTS[:1])[0]
    again = llama.otherwise(PROMPTS[0], tokens)
    assert not torch.equal(again, logits)
    assert (again - logits).abs().mean() < 0.1


def test_scaled_positions_are_refused(theirs):
    path, _ = theirs(Small(kind="Q4_1", rope_freqs=True))
    with pytest.raises(ValueError, match="positions are scaled"):
        arithmetic_of(path)


def test_the_report_has_a_line_for_each_way_and_one_of_operations(tmp_path, capsys):
    row = {"weights": AS_IT_IS, "kl": 0.0, "kl_most": 0.0, "moved": 0.0}
    rows = [row | {"by": by} for by in (ITSELF, ARITHMETIC, ARITHMETIC)]
    for different in (1.0, 3.0):
        sums = {"product": [different, 50.0], "norm": [0.0, 1.0]}
        rows.append({"weights": AS_IT_IS, "by": OPERATIONS, "sums": sums})
    lines = "\n".join(json.dumps(each) for each in rows)
    (tmp_path / "0.jsonl").write_text(lines, encoding="utf-8")
    report(argparse.Namespace(answer=8, out=tmp_path / "out.jsonl"), tmp_path)
    shown = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [each["what"] for each in shown] == [
        f"greedy {AS_IT_IS} {ARITHMETIC}",
        f"greedy {AS_IT_IS} {ITSELF}",
        OPERATIONS,
    ]
    assert (shown[0]["prompts"], shown[0]["same"]) == (2, 2)
    assert shown[2]["prompts"] == 2
    assert shown[2]["product"] == pytest.approx(0.2)
    assert shown[2]["norm"] == 0.0
