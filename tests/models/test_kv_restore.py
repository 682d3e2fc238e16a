"""Resume: the answer after a restore is the answer that would have come without."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from docqa.config import ModelConfig
from docqa.protocols import Piece, Sampling, Stop
from models.host import HostEngine, open_engine
from models.llama_context import LogTail
from tests.models.test_host import config, prompt_of, say
from tests.models.test_llama_engine import load, logits_after, prompt, run
from tests.models.tiny import NAMES


def continued(engine: HostEngine, tokens: list[int], n: int) -> list[int]:
    events = list(engine.generate(tokens, max_tokens=n))
    return [e.token for e in events if isinstance(e, Piece) and e.token >= 0]


CASES = [(name, "q8_0", 512) for name in NAMES]
CASES += [("qwen3", kind, length) for kind in ("f16", "q4_0") for length in (512, 2048)]
CASES += [("qwen3", "q8_0", 2048), ("gemma2", "f16", 512), ("lfm2", "f16", 512)]


@pytest.mark.parametrize(("name", "kv_type", "context_length"), CASES)
def test_every_family_resumes(
    tmp_path: Path, tiny_models: dict[str, Path], name: str, kv_type: str, context_length: int
) -> None:
    """The tiny models are trained for 512 tokens: 2048 is YaRN with a factor of 4."""
    settings = config(
        tiny_models[name], kv_type_k=kv_type, kv_type_v=kv_type, context_length=context_length
    )
    path = tmp_path / "session.kv"
    document, question = prompt(20, 200), prompt(21, 30)
    with open_engine(settings) as engine:
        said = continued(engine, document, 4)
        assert engine.save_kv(path, ["e" * 64]) == 203
        expected = continued(engine, document + said + question, 64)
    with open_engine(settings) as engine:
        assert engine.load_kv(path) == 203
        events = list(engine.generate(document + said + question, max_tokens=64))
        assert [e.token for e in events if isinstance(e, Piece) and e.token >= 0] == expected
        assert isinstance(events[-1], Stop)
        assert events[-1].n_reused == 203
        assert events[-1].kv_bytes > 0


def test_other_settings_are_refused_and_computed_again(
    tmp_path: Path, tiny_models: dict[str, Path]
) -> None:
    path, tokens = tmp_path / "session.kv", prompt(22, 120)
    with open_engine(config(tiny_models["qwen3"])) as engine:
        assert engine.save_kv(path) == 0
        assert engine.kv_reason == "nothing is cached"
        expected = continued(engine, tokens, 8)
        engine.save_kv(path)
    others = {
        "model sha256": config(tiny_models["llama3"]),
        "kv type k": config(tiny_models["qwen3"], kv_type_k="f16", kv_type_v="f16"),
        "context length": config(tiny_models["qwen3"], context_length=256),
        "rope": config(tiny_models["qwen3"], context_length=1024),
    }
    for reason, settings in others.items():
        with open_engine(settings) as engine:
            assert engine.load_kv(path) == 0
            assert reason in engine.kv_reason
    with open_engine(config(tiny_models["qwen3"])) as engine:
        path.write_bytes(path.read_bytes()[:-1])
        assert engine.load_kv(path) == 0
        assert "damaged" in engine.kv_reason
        assert say(engine, tokens, 8)[1].n_reused == 0
        assert continued(engine, tokens, 8) == expected


def test_a_folder_that_cannot_be_written_costs_the_cache_only(
    tmp_path: Path, tiny_models: dict[str, Path]
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    with open_engine(config(tiny_models["qwen3"])) as engine:
        said = continued(engine, prompt(23, 40), 8)
        assert engine.save_kv(blocked / "session.kv") == 0
        assert engine.kv_reason
        assert continued(engine, prompt(23, 40), 8) == said


def test_the_default_model_resumes(tmp_path: Path, default_engine: HostEngine) -> None:
    settings = dataclasses.replace(
        ModelConfig(), n_threads=1, context_length=4096, adapter="none", keep_alive_s=0
    )
    path = tmp_path / "session.kv"
    first = prompt_of(default_engine, "What is the capital of France?")
    answer = continued(default_engine, first, 24)
    n = default_engine.save_kv(path)
    assert n == len(first) + len(answer)
    follow = first + answer + default_engine.tokenize([])
    follow += prompt_of(default_engine, "And of Germany?")
    expected = continued(default_engine, follow, 24)
    with open_engine(settings) as engine:
        assert engine.load_kv(path) == n
        events = list(engine.generate(follow, max_tokens=24))
        assert events[-1].n_reused == n
        assert [e.token for e in events if isinstance(e, Piece) and e.token >= 0] == expected


def test_what_leaves_the_context_comes_back_from_ram(tiny_models, log: LogTail) -> None:
    engine = load(tiny_models["qwen3"], log, n_sequences=2)
    first, second = prompt(24, 400), prompt(25, 400)
    expected, _ = run(engine, first, 8)
    run(engine, second, 8)
    assert engine.n_parked_bytes > 0
    said, stop = run(engine, first, 8)
    assert (said, stop.n_reused) == (expected, 399)
    none = load(tiny_models["qwen3"], log, n_sequences=2, kv_ram_bytes=0)
    run(none, first, 8)
    run(none, second, 8)
    assert none.n_parked_bytes == 0
    assert run(none, first, 8)[1].n_reused <= 1
    engine.context.close()
    none.context.close()


def test_ram_is_bounded(tiny_models, log: LogTail) -> None:
    limit = 100_000
    engine = load(tiny_models["qwen3"], log, kv_ram_bytes=limit, kv_type_k="q8_0", kv_type_v="q8_0")
    for seed in range(6):
        run(engine, prompt(30 + seed, 300), 2, sampling=Sampling())
        assert engine.n_parked_bytes <= limit
    assert engine.n_parked_bytes > 0
    engine.context.close()


@pytest.fixture(scope="module")
def log() -> LogTail:
    return LogTail()


@pytest.mark.parametrize("kv_type", ["f16", "q8_0", "q4_0"])
def test_logits_after_a_restore_are_the_same_numbers(tiny_models, log: LogTail, kv_type) -> None:
    settings = {"kv_type_k": kv_type, "kv_type_v": kv_type}
    one = load(tiny_models["llama3"], log, **settings)
    other = load(tiny_models["llama3"], log, **settings)
    tokens = prompt(26, 100)
    run(one, tokens, 1)
    assert one.last is not None
    state = one.context.state(one.last.sequence)
    assert other.restore(one.last.tokens, state) is not None
    expected = logits_after(one, [*tokens, 5])
    assert np.array_equal(logits_after(other, [*tokens, 5]), expected)
    one.context.close()
    other.context.close()
