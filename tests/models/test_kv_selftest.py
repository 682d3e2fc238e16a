"""The self-test of KV types: exact where nothing differs, and telling where something does."""

from __future__ import annotations

from pathlib import Path

import pytest

from docqa.types import Segment
from models.host import HostEngine
from models.kv_quality import KvComparison, recommend
from models.kv_selftest import compare
from models.llama_context import LogTail
from tests.models.test_llama_engine import load, logits_after, prompt, run

TEXT = Path(__file__).parents[2] / "docqa" / "types.py"


@pytest.fixture(scope="module")
def log() -> LogTail:
    return LogTail()


def test_more_bits_cost_less(tiny_models, log: LogTail) -> None:
    engine = load(tiny_models["qwen3"], log)
    q8, q4 = compare(engine.context, prompt(50, 400), ["q8_0", "q4_0"])
    assert (q8.kv_type, q4.kv_type) == ("q8_0", "q4_0")
    assert q8.n_tokens == 384
    assert 0 < q8.mean_kl < q4.mean_kl
    assert q8.mean_kl <= q8.p99_kl
    assert q8.top1_agreement >= q4.top1_agreement
    assert (q8.bytes_ratio, q4.bytes_ratio) == (34 / 64, 18 / 64)
    engine.context.close()


def test_bf16_is_nearly_f16_and_the_engine_is_left_as_it_was(tiny_models, log: LogTail) -> None:
    engine = load(tiny_models["llama3"], log)
    tokens = prompt(51, 100)
    run(engine, tokens, 4)
    expected = logits_after(engine, tokens)
    (bf16,) = compare(engine.context, tokens, ["bf16", "f16"])
    assert bf16.mean_kl < 5e-3
    assert bf16.top1_agreement > 0.95
    assert run(engine, tokens, 4)[1].n_reused == 99
    assert (logits_after(engine, tokens) == expected).all()
    engine.context.close()


def test_the_default_model_on_real_text(default_engine: HostEngine) -> None:
    text = TEXT.read_text("utf-8")
    tokens = default_engine.tokenize([Segment(text, False)])[0][:320]
    q8, q4 = default_engine.compare_kv(tokens)
    assert q8.is_good
    assert q8.mean_kl < 0.005
    assert q4.mean_kl > 4 * q8.mean_kl
    assert recommend([q8, q4]) in ("q8_0", "q4_0")


def test_the_smallest_good_type_is_recommended() -> None:
    q8 = KvComparison("q8_0", 100, 0.001, 0.01, 0.99, 0.53)
    q4 = KvComparison("q4_0", 100, 0.008, 0.05, 0.97, 0.28)
    assert recommend([q8, q4]) == "q4_0"
    bad = KvComparison("q4_0", 100, 0.02, 0.05, 0.97, 0.28)
    assert recommend([q8, bad]) == "q8_0"
    wrong = KvComparison("q8_0", 100, 0.001, 0.05, 0.90, 0.53)
    assert recommend([wrong, bad]) == "f16"
