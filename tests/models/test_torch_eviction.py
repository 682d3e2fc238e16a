"""Eviction as the engine does it: the prompt's KV shrinks, and what was chosen for one question
answers no other."""

from __future__ import annotations

import pytest

from docqa.config import ModelConfig
from docqa.errors import ModelRefused
from docqa.protocols import Piece, Sampling, Stop
from kernels.kv_pages import PAGE
from models.kv_cache import N_SINK
from models.llama_context import LogTail
from models.llama_engine import LlamaEngine
from models.load_plan import load_settings
from models.model_file import read_model
from models.settings import LoadSettings
from models.torch_context import TorchContext
from tests.models.torch_models import Small, write_small

N = N_SINK + 8 * PAGE + 64
GREEDY = Sampling()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    small = Small(n_embd=64, n_heads=4, head_dim=32, n_ff=64)
    return write_small(tmp_path_factory.mktemp("e") / "m.gguf", small)


def engine_of(model, method="", keep=1.0, n_batch=96):
    settings = LoadSettings(
        path=str(model), context_length=2048, engine="torch", kv_type_k="f16", kv_type_v="f16",
        n_batch=n_batch, n_gpu_layers=0, n_sequences=2, guesses=False,
        eviction=method, eviction_keep=keep,
    )  # fmt: skip
    return LlamaEngine(TorchContext(settings, LogTail()))


def prompt(n=N, salt=7):
    return [259 + (salt * i * i + 3 * i) % 120 for i in range(n)]


def ask(engine, tokens, n=8):
    events = list(engine.generate(tokens, max_tokens=n, sampling=GREEDY))
    assert isinstance(events[-1], Stop)
    return [e.token for e in events if isinstance(e, Piece) and e.token >= 0], events[-1]


def n_pages(engine):
    pool = engine.context.pool
    return pool.n_pages - pool.n_free


@pytest.mark.parametrize("method", ["streaming", "kvzip"])
def test_what_any_question_may_use_stays_smaller_and_goes_on(model, method):
    whole, small = engine_of(model), engine_of(model, method, 0.25)
    said, _ = ask(whole, prompt())
    answer, _ = ask(small, prompt())
    assert len(answer) == len(said) == 8
    assert n_pages(small) <= 0.4 * n_pages(whole)
    held = small.last.tokens.tolist()
    _, stop = ask(small, held + prompt(40, 5))
    assert stop.n_reused == len(held)  # the same conversation, longer
    _, stop = ask(small, held[: len(held) // 2] + prompt(40, 11))
    assert stop.n_reused == 0  # a part of it cannot be told apart any more


@pytest.mark.parametrize("method", ["h2o", "snapkv"])
def test_what_was_chosen_for_a_question_is_gone_after_its_answer(model, method):
    engine = engine_of(model, method, 0.25)
    seen = []
    for event in engine.generate(prompt(), max_tokens=8, sampling=GREEDY):
        if isinstance(event, Piece):
            seen.append(n_pages(engine))
    assert 0 < max(seen) <= 0.4 * n_pages_of_whole(model)
    assert n_pages(engine) == 0 and engine.n_cached == 0 and engine.n_parked_bytes == 0
    _, stop = ask(engine, prompt() + prompt(8, 5))
    assert stop.n_reused == 0


def n_pages_of_whole(model):
    whole = engine_of(model)
    ask(whole, prompt())
    return n_pages(whole)


@pytest.mark.parametrize("method", ["streaming", "h2o", "snapkv", "kvzip"])
def test_the_answer_does_not_depend_on_how_the_prompt_was_cut_or_looked_at(model, method):
    """The probability of a refusal is asked first, as docqa does it; batches end anywhere."""
    expected, _ = ask(engine_of(model, method, 0.5, n_batch=2048), prompt())
    engine = engine_of(model, method, 0.5, n_batch=100)
    engine.log_probs(prompt(), [[300]])
    assert ask(engine, prompt())[0] == expected


def test_a_short_prompt_keeps_everything(model):
    engine = engine_of(model, "kvzip", 0.25)
    expected, _ = ask(engine_of(model), prompt(90))
    assert ask(engine, prompt(90))[0] == expected
    _, stop = ask(engine, [*prompt(80), 300, 301])
    assert stop.n_reused == 80


def test_the_setting_is_read_and_refused_with_the_reason(model):
    file = read_model(model)

    def settings(evict, engine="torch"):
        config = ModelConfig(
            path=str(model), engine=engine, evict=evict, kv_type_k="f16", kv_type_v="f16"
        )
        return load_settings(config, file, None)

    assert settings("none").eviction == ""
    found = settings("kvzip:4")
    assert (found.eviction, found.eviction_keep) == ("kvzip", 0.25)
    with pytest.raises(ModelRefused, match="such as kvzip:4"):
        settings("kvzap:4")
    with pytest.raises(ModelRefused, match="such as kvzip:4"):
        settings("kvzip:0.5")
    with pytest.raises(ModelRefused, match="--engine torch"):
        settings("kvzip:4", engine="llama")


def test_the_methods_are_those_that_there_are():
    from models.compression.evict import METHODS
    from models.load_plan import EVICTIONS

    assert EVICTIONS == METHODS
