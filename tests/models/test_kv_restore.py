"""Resume: the answer after a restore is the answer that would have come without."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

from docqa.config import ModelConfig
from docqa.protocols import Piece, Sampling, Stop
from models.host import HostEngine, open_engine
from models.kv_file import read_header
from models.llama_context import LogTail
from models.model_file import ModelFile
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


def test_conversations_that_take_turns_use_the_same_memory(tiny_models, log: LogTail) -> None:
    engine = load(tiny_models["qwen3"], log, n_sequences=1)
    first, second = prompt(26, 400), prompt(27, 400)
    expected = [run(engine, p, 8)[0] for p in (first, second)]
    run(engine, first, 8)
    parked = engine._conversations._parked
    (held,), spare = parked._entries, parked._spare
    assert spare is not None
    said, stop = run(engine, second, 8)
    assert (said, stop.n_reused) == (expected[1], 399)
    assert np.shares_memory(parked._entries[0].state, spare)
    assert np.shares_memory(parked._spare, held.state)
    assert run(engine, first, 8)[0] == expected[0]
    engine.forget()
    assert parked._spare is None and engine.n_parked_bytes == 0
    engine.context.close()


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


# -- what must never be accepted ------------------------------------------------------------------


@pytest.fixture(scope="module")
def saved_here(
    tmp_path_factory: pytest.TempPathFactory, tiny_models: dict[str, Path], own_folders: None
) -> tuple[Path, list[int], list[int]]:
    """A file that an engine wrote, the prompt of it, and what follows the prompt."""
    path, tokens = tmp_path_factory.mktemp("kv") / "session.kv", prompt(27, 120)
    with open_engine(config(tiny_models["qwen3"])) as engine:
        expected = continued(engine, tokens, 8)
        assert engine.save_kv(path, ["e" * 64]) > 0
    return path, tokens, expected


@pytest.fixture
def fresh(tiny_models: dict[str, Path]) -> Iterator[HostEngine]:
    """An engine that has read nothing: what it restores comes from a file."""
    with open_engine(config(tiny_models["qwen3"])) as engine:
        yield engine


def test_each_field_of_the_identity_is_refused_by_the_engine(
    saved_here, fresh: HostEngine, tmp_path: Path
) -> None:
    """Files as this user's docqa would write them, right but for one field of what they state."""
    from models.kv_file import first_difference, read_kv, user_key, write_kv
    from tests.models.test_kv_file import CHANGES

    path, tokens, expected = saved_here
    header, state = read_kv(path, read_header(path, user_key()).identity, user_key())
    other = tmp_path / "other.kv"
    cached = np.frombuffer(header.tokens, "<i4").tolist()
    for field, value in CHANGES.items():
        identity = msgspec.structs.replace(header.identity, **{field: value})
        if identity == header.identity:  # what the test changes it to is what it is here
            identity = msgspec.structs.replace(header.identity, **{field: _another(value)})
        assert first_difference(identity, header.identity)
        write_kv(other, identity, cached, state, user_key())
        assert fresh.load_kv(other) == 0, field
        assert field.replace("_", " ") in fresh.kv_reason
    write_kv(other, header.identity, cached, state, user_key())
    assert fresh.load_kv(other) == len(cached)
    assert continued(fresh, tokens, 8) == expected


def _another(value: object) -> object:
    if isinstance(value, bool):
        return not value
    return f"{value} changed" if isinstance(value, str) else 7


@pytest.mark.parametrize("n_files", [200, pytest.param(10_000, marks=pytest.mark.slow)])
def test_mutated_files_harm_neither_engine_nor_caller(
    saved_here, fresh: HostEngine, tmp_path: Path, n_files: int
) -> None:
    path, tokens, expected = saved_here
    whole, mutated = path.read_bytes(), tmp_path / "mutated.kv"
    rng = random.Random(n_files)
    pid = fresh.process.pid
    for n in range(n_files):
        content = bytearray(whole)
        if n % 4 == 0:
            del content[rng.randrange(len(content)) :]
        else:
            for _ in range(rng.randint(1, 3)):
                # Half of them in the header, where lengths and counts are.
                at = rng.randrange(len(content) if n % 2 else 1500)
                content[at] ^= 1 << rng.randrange(8)
        if bytes(content) == whole:
            continue
        mutated.write_bytes(content)
        mutated.chmod(0o600)
        assert fresh.load_kv(mutated) == 0
        assert fresh.kv_reason
    assert fresh.process.pid == pid
    assert continued(fresh, tokens, 8) == expected


# -- the default model ----------------------------------------------------------------------------

SLOW = pytest.mark.slow
RESUMED = [
    pytest.param("q8_0", True),
    *(
        pytest.param(kind, stretched, marks=[SLOW, pytest.mark.timeout(1800)])
        for kind in ("f16", "q8_0", "q4_0")
        for stretched in (False, True)
        if (kind, stretched) != ("q8_0", True)
    ),
]


@pytest.mark.parametrize(("kv_type", "stretched"), RESUMED)
def test_sixty_four_tokens_after_a_restore_are_the_uninterrupted_ones(
    default_model: ModelFile, kv_type: str, stretched: bool
) -> None:
    """Five prompts, with and without YaRN; `docqa.bench.engine --resume` does a hundred."""
    from docqa.bench import engine

    options = engine._parser().parse_args(
        ["--resume", "5", "--tokens", "64", "--prompt", "48", "--threads", "1"]
    )
    row = engine._resumed(options, default_model, kv_type, stretched)
    assert (row["n_equal"], row["of"], row["yarn"]) == (5, 5, stretched)
