"""`--engine torch` end to end: the default model in its own process, beside llama.cpp."""

from __future__ import annotations

import threading

import pytest

from docqa.config import ModelConfig
from docqa.errors import ModelRefused
from docqa.protocols import Piece, Prefill, Sampling, Stop
from docqa.types import Segment
from models.host import open_engine
from models.kv_file import KvRefused, read_header, user_key

PROMPTS = (
    "Name the three primary colours.",
    "The pump has a valve and a seal. What does the pump have?",
    "Write one sentence about the sea.",
    "What is the capital of France?",
    "Count from one to five.",
)


@pytest.fixture(scope="module")
def engine(own_folders):
    config = ModelConfig(
        engine="torch", n_threads=1, context_length=1024, adapter="none", keep_alive_s=0
    )
    with open_engine(config) as opened:
        yield opened


def ids_of(engine, text):
    segments = engine.chat([("user", [Segment(text, False)])])
    return [token for ids in engine.tokenize(segments) for token in ids]


def run(engine, ids, n=16, **more):
    events = list(engine.generate(ids, max_tokens=n, **more))
    return [e.token for e in events if isinstance(e, Piece) and e.token >= 0], events[-1]


def test_it_says_what_it_is(engine):
    info = engine.info
    assert (info.name, info.context_length, info.kv_type_k) == ("torch", 1024, "q8_0")


def test_token_ids_are_llama_cpps(engine, default_engine):
    for text in (*PROMPTS, "naïve 🙂 日本語\n\n\ttabs  and 3.14", "<|im_end|> is text here"):
        assert ids_of(engine, text) == ids_of(default_engine, text)


def test_greedy_text_is_mostly_llama_cpps(engine, default_engine):
    """Three of five at least: beside quantised weights llama.cpp differs from itself, too.

    The slow test (test_torch_greedy) counts 200 and looks at the gaps.
    """
    n_equal = 0
    for text in PROMPTS:
        ids = ids_of(engine, text)
        ours, theirs = run(engine, ids, 8)[0], run(default_engine, ids, 8)[0]
        same = next((i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), None)
        n_equal += same is None and len(ours) == len(theirs)
    assert n_equal >= 3


def test_a_prompt_that_goes_on_reuses_what_is_there(engine):
    ids = ids_of(engine, "Tell me of the valve. " + "It is closed. " * 15)
    first = run(engine, ids, 4)[1]
    again = run(engine, [*ids, *ids[-5:]], 4)[1]
    assert first.n_prompt == len(ids)
    assert again.n_reused >= len(ids) - 1


def test_saved_kv_is_restored_and_continues_the_same(engine, tmp_path):
    ids = ids_of(engine, "Describe the seal. " + "The seal is worn. " * 12)
    expected, _ = run(engine, ids, 6)
    list(engine.generate(ids, max_tokens=0))
    assert engine.save_kv(tmp_path / "s.kv") >= len(ids)
    run(engine, ids_of(engine, "Something else entirely."), 2)
    assert engine.load_kv(tmp_path / "s.kv") >= len(ids)
    found, stop = run(engine, ids, 6)
    assert found == expected
    assert stop.n_reused >= len(ids) - 1


def test_kv_of_the_other_engine_is_refused_with_its_reason(engine, default_engine, tmp_path):
    ids = ids_of(engine, "A short question.")
    run(engine, ids, 2)
    assert engine.save_kv(tmp_path / "torch.kv")
    assert default_engine.load_kv(tmp_path / "torch.kv") == 0
    assert "saved with" in default_engine.kv_reason
    header = read_header(tmp_path / "torch.kv", user_key())
    assert header.identity.library.startswith("torch-kv")
    (tmp_path / "torch.kv").write_bytes(b"x" * 5000)
    (tmp_path / "torch.kv").chmod(0o600)
    assert engine.load_kv(tmp_path / "torch.kv") == 0
    with pytest.raises(KvRefused):
        read_header(tmp_path / "torch.kv", user_key())


def test_sampling_is_by_the_seed_and_a_grammar_holds(engine):
    ids = ids_of(engine, "Is the sea salty?")
    warm = Sampling(temperature=1.0, top_p=0.9, seed=7)
    assert run(engine, ids, 8, sampling=warm)[0] == run(engine, ids, 8, sampling=warm)[0]
    events = list(
        engine.generate(ids, max_tokens=8, sampling=Sampling(grammar='root ::= "yes" | "no"'))
    )
    assert "".join(e.text for e in events if isinstance(e, Piece)) in ("yes", "no")


def test_a_cancel_ends_it_and_the_next_question_is_answered(engine):
    ids = ids_of(engine, "Tell me everything. " * 40)
    cancel = threading.Event()
    cancel.set()
    events = list(engine.generate(ids, max_tokens=4, cancel=cancel))
    assert isinstance(events[-1], Stop)
    assert events[-1].reason == "cancelled"
    assert run(engine, ids_of(engine, "Hello."), 2)[1].n_generated > 0
    assert isinstance(next(engine.generate(ids, max_tokens=1)), Prefill)


def test_an_unknown_engine_and_a_model_it_cannot_run_are_refused_before_a_process(tiny_models):
    with pytest.raises(ModelRefused, match="choose one of llama, torch"):
        open_engine(ModelConfig(engine="tinygrad", keep_alive_s=0))
    with pytest.raises(ModelRefused, match="architecture 'gemma2'"):
        open_engine(ModelConfig(path=str(tiny_models["gemma2"]), engine="torch", keep_alive_s=0))
