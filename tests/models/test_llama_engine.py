"""Generation: reuse that equals computing afresh, cancel that leaves no trace, stops, sampling."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from docqa.errors import ContextOverflow, ModelRefused
from docqa.protocols import Piece, Prefill, Sampling, Stop
from models.decoding import HeldText
from models.llama_context import LlamaContext, LogTail
from models.llama_engine import LlamaEngine
from models.prefix import shared_prefix
from models.sampling import nucleus_draw
from models.settings import LoadSettings
from tests.models.tiny import NAMES

GREEDY = Sampling()


@pytest.fixture(scope="module")
def log() -> LogTail:
    return LogTail()


def load(path: Path, log: LogTail, **changes: object) -> LlamaEngine:
    settings = {"context_length": 512, "n_batch": 32, "n_ubatch": 32, "kv_type_k": "f16"}
    settings |= {"kv_type_v": "f16", **changes}
    return LlamaEngine(LlamaContext(LoadSettings(path=str(path), **settings), log))


@pytest.fixture(scope="module")
def engine(tiny_models: dict[str, Path], log: LogTail) -> Iterator[LlamaEngine]:
    engine = load(tiny_models["qwen3"], log)
    yield engine
    engine.context.close()


def run(engine: LlamaEngine, tokens: list[int], n: int = 16, **options) -> tuple[list[int], Stop]:
    sampling = options.pop("sampling", GREEDY)
    events = list(engine.generate(tokens, max_tokens=n, sampling=sampling, **options))
    assert isinstance(events[-1], Stop)
    return [e.token for e in events if isinstance(e, Piece) and e.token >= 0], events[-1]


def prompt(seed: int, n: int) -> list[int]:
    return np.random.default_rng(seed).integers(0, 256, n).tolist()


def logits_after(engine: LlamaEngine, tokens: list[int]) -> np.ndarray:
    engine.log_probs(tokens, [[0]])
    return engine.context.logits().copy()


def test_a_prompt_is_reused_to_its_last_token(engine: LlamaEngine) -> None:
    tokens = prompt(1, 100)
    first, stop = run(engine, tokens)
    assert (stop.n_prompt, stop.n_reused, stop.n_generated) == (100, 0, 16)
    again, stop = run(engine, tokens)
    assert (again, stop.n_reused) == (first, 99)


@pytest.mark.parametrize("name", NAMES)
def test_reuse_equals_computing_afresh(name: str, tiny_models, log: LogTail) -> None:
    one, other = load(tiny_models[name], log), load(tiny_models[name], log, n_sequences=1)
    base = prompt(2, 130)
    turns = [base, base + prompt(3, 40), base[:90] + prompt(4, 70), base + prompt(3, 20)]
    for tokens in turns:
        fresh = load(tiny_models[name], log)
        expected = logits_after(fresh, tokens)
        scale = expected.std()
        for reusing in (one, other):
            np.testing.assert_allclose(
                logits_after(reusing, tokens) / scale, expected / scale, atol=0.02
            )
        fresh.context.close()
    one.context.close()
    other.context.close()


def test_append_only_turns_reuse_all_that_was_said(engine: LlamaEngine) -> None:
    tokens = prompt(5, 60)
    for turn in range(4):
        said, stop = run(engine, tokens, 8)
        if turn:
            assert stop.n_reused == len(tokens) - 11
        # The answer's last token was never computed; the rest is in the cache.
        tokens = tokens + said + prompt(50 + turn, 10)


def test_a_branch_does_not_cost_the_trunk(engine: LlamaEngine) -> None:
    document = prompt(6, 80)
    first = document + prompt(7, 100)
    run(engine, first, 4)
    _, stop = run(engine, document + prompt(8, 50), 4)
    assert stop.n_reused == 80
    _, stop = run(engine, first, 4)
    assert stop.n_reused == len(first) - 1


def test_old_conversations_make_room(tiny_models, log: LogTail) -> None:
    engine = load(tiny_models["qwen3"], log)
    for seed in range(8):
        tokens = prompt(100 + seed, 400)
        said, stop = run(engine, tokens, 50)
        assert len(said) == 50
        assert stop.n_reused <= 1
    fresh = load(tiny_models["qwen3"], log)
    assert run(fresh, tokens, 50)[0] == said
    engine.context.close()
    fresh.context.close()


def test_the_whole_context_can_be_used_and_no_more(engine: LlamaEngine) -> None:
    said, stop = run(engine, prompt(9, 500), 12)
    assert (len(said), stop.reason) == (12, "length")
    with pytest.raises(ContextOverflow, match=r"500 prompt tokens and 13"):
        run(engine, prompt(9, 500), 13)
    with pytest.raises(ContextOverflow, match="empty"):
        run(engine, [])
    with pytest.raises(ContextOverflow, match="another vocabulary"):
        run(engine, [10_000_000])


@pytest.mark.parametrize("name", ["qwen3", "gemma3", "lfm2", "qwen35", "granite"])
@pytest.mark.parametrize("at", [0, 1, 3])
def test_a_cancel_while_reading_leaves_no_trace(name: str, at: int, tiny_models, log) -> None:
    engine, fresh = load(tiny_models[name], log), load(tiny_models[name], log)
    tokens = prompt(10, 150)
    progress: list[Prefill] = []
    for event in engine.generate(
        tokens, max_tokens=8, sampling=GREEDY, is_cancelled=lambda: len(progress) > at
    ):
        if isinstance(event, Prefill):
            progress.append(event)
    assert isinstance(event, Stop)
    assert (event.reason, event.n_generated) == ("cancelled", 0)
    assert run(engine, tokens)[0] == run(fresh, tokens)[0]
    engine.context.close()
    fresh.context.close()


def test_an_abort_within_a_chunk_leaves_no_trace(tiny_models, log: LogTail) -> None:
    engine = load(tiny_models["qwen3"], log, n_batch=256, n_ubatch=32)
    tokens = prompt(11, 250)
    calls = 0

    def is_cancelled() -> bool:
        nonlocal calls
        calls += 1
        return calls == 200

    _, stop = run(engine, tokens, is_cancelled=is_cancelled)
    assert stop.reason == "cancelled"
    assert engine.n_cached == 0
    assert engine.context.last_position(0) == -1
    said, stop = run(engine, tokens)
    fresh = load(tiny_models["qwen3"], log, n_batch=256, n_ubatch=32)
    assert run(fresh, tokens)[0] == said
    engine.context.close()
    fresh.context.close()


def test_a_cancel_while_writing_keeps_what_was_computed(engine: LlamaEngine) -> None:
    tokens = prompt(12, 50)
    expected, _ = run(engine, tokens, 20)
    said: list[int] = []
    events = engine.generate(
        tokens, max_tokens=20, sampling=GREEDY, is_cancelled=lambda: len(said) >= 5
    )
    for event in events:
        if isinstance(event, Piece):
            said.append(event.token)
    assert isinstance(event, Stop)
    assert (event.reason, said) == ("cancelled", expected[:5])
    assert run(engine, tokens, 20)[0] == expected


def test_leaving_the_iterator_keeps_the_cache_whole(engine: LlamaEngine) -> None:
    tokens = prompt(13, 120)
    expected, _ = run(engine, tokens)
    events = engine.generate(tokens + prompt(14, 90), max_tokens=8, sampling=GREEDY)
    next(events)
    next(events)
    events.close()
    assert run(engine, tokens)[0] == expected


def test_the_next_token_is_begun_before_a_reader_gets_the_last(engine: LlamaEngine) -> None:
    """A GPU computes it while the text is on its way."""
    question = prompt(31, 40)
    pieces = engine.generate(question, max_tokens=4, sampling=GREEDY)
    held = [len(engine.last.tokens) for event in pieces if isinstance(event, Piece)]
    assert held == [41, 42, 43, 43]  # nothing follows the last


def test_probabilities_sum_to_one_and_agree_with_greedy(engine: LlamaEngine) -> None:
    tokens = prompt(15, 40)
    values = engine.log_probs(tokens, [[i] for i in range(engine.context.n_vocab)])
    assert np.exp(values).sum() == pytest.approx(1.0)
    assert int(np.argmax(values)) == run(engine, tokens, 1)[0][0]


def test_a_continuation_is_as_likely_as_its_tokens_one_by_one(engine: LlamaEngine) -> None:
    """Also where it is longer than what is computed at once, and whatever was asked before it."""
    tokens, ids = prompt(15, 40), prompt(18, 39)
    one_by_one = [
        engine.log_probs([*tokens, *ids[:i]], [[token]])[0] for i, token in enumerate(ids)
    ]
    others = [prompt(19, 3), prompt(20, 30)]
    found = engine.log_probs(tokens, [others[0], ids, others[1], ids[:17]])
    assert found[1] == pytest.approx(sum(one_by_one), abs=0.05)
    assert found[3] == pytest.approx(sum(one_by_one[:17]), abs=0.05)
    assert run(engine, tokens, 8)[0] == run(engine, tokens, 8)[0]


def test_a_continuation_that_does_not_fit_is_refused(engine: LlamaEngine) -> None:
    tokens = prompt(15, engine.context.n_context - 4)
    with pytest.raises(ContextOverflow, match="do not fit"):
        engine.log_probs(tokens, [[1], [1] * 5])


def test_a_seed_decides(engine: LlamaEngine) -> None:
    tokens = prompt(16, 40)
    hot = {seed: Sampling(temperature=3.0, top_p=0.95, seed=seed) for seed in (1, 2)}
    first = run(engine, tokens, sampling=hot[1])[0]
    assert run(engine, tokens, sampling=hot[1])[0] == first
    assert run(engine, tokens, sampling=hot[2])[0] != first
    cold = Sampling(temperature=1e-4, seed=1)
    assert run(engine, tokens, sampling=cold)[0] == run(engine, tokens)[0]


def test_a_grammar_is_obeyed(engine: LlamaEngine) -> None:
    tokens = prompt(17, 30)
    for temperature in (0.0, 1.5):
        grammar = Sampling(temperature=temperature, seed=5, grammar='root ::= "7" [a-c]+ "."')
        events = list(engine.generate(tokens, max_tokens=12, sampling=grammar))
        text = "".join(e.text for e in events if isinstance(e, Piece))
        assert text[0] == "7"
        assert set(text[1:]) <= set("abc.")
    with pytest.raises(ModelRefused, match="GBNF"):
        run(engine, tokens, sampling=Sampling(grammar="root ::= ("))


def test_stop_strings_end_and_are_not_shown(engine: LlamaEngine) -> None:
    tokens = prompt(18, 40)
    events = list(engine.generate(tokens, max_tokens=24, sampling=GREEDY))
    text = "".join(e.text for e in events if isinstance(e, Piece))
    at = len(text) // 2
    stop = text[at : at + 2]
    events = list(engine.generate(tokens, max_tokens=24, sampling=GREEDY, stop=[stop]))
    shown = "".join(e.text for e in events if isinstance(e, Piece))
    assert shown == text[: text.index(stop)]
    assert events[-1].reason == "end"


@given(
    text=st.text(alphabet="ab🙂é", max_size=30),
    stop=st.lists(st.text(alphabet="ab🙂", min_size=1, max_size=4), max_size=3),
    cuts=st.lists(st.integers(1, 3), max_size=60),
)
def test_held_text_shows_everything_before_the_first_stop(text, stop, cuts) -> None:
    raw, held, shown, at = text.encode(), HeldText(stop), "", 0
    for size in [*cuts, *[1] * len(raw)]:
        if at >= len(raw) or held.is_stopped:
            break
        shown += held.add(raw[at : at + size])
        assert not any(s in shown for s in stop)
        at += size
    shown += held.rest()
    ends = [text.index(s) for s in stop if s in text]
    if cuts:  # pieces of one byte may show less of a later, longer stop; the prefix holds
        assert text.startswith(shown)
    if not ends:
        assert shown == text


@given(st.lists(st.integers(0, 3)), st.lists(st.integers(0, 3)))
def test_shared_prefix(left: list[int], right: list[int]) -> None:
    n = shared_prefix(array("i", left), array("i", right))
    assert left[:n] == right[:n]
    assert n == min(len(left), len(right)) or left[n] != right[n]


@pytest.mark.parametrize(
    ("top_p", "u", "expected"),
    [
        (1.0, 0.0, 0),
        (1.0, 0.35, 1),
        (1.0, 0.999, 3),
        (0.5, 0.0, 1),
        (0.5, 0.99, 1),
        (0.75, 0.99, 0),
        (0.85, 0.99, 2),
        (0.0, 0.7, 1),
    ],
)
def test_nucleus_draw(top_p: float, u: float, expected: int) -> None:
    weights = np.array([0.3, 0.5, 0.1, 0.1]) * 7
    assert nucleus_draw(weights, top_p, u) == expected


def test_weights_that_give_no_numbers_are_refused(tmp_path: Path, log: LogTail) -> None:
    from models.gguf import read_header
    from tests.models.tiny import write_model

    path = write_model(tmp_path / "nan.gguf", "qwen3")
    tensor = next(t for t in read_header(path).tensors if t.name == "output.weight")
    with path.open("r+b") as file:
        file.seek(tensor.offset)
        file.write(np.full(tensor.n_bytes // 4, np.nan, "<f4").tobytes())
    engine = load(path, log)
    with pytest.raises(ModelRefused, match="NaN"):
        run(engine, prompt(1, 5))
    engine.context.close()


def test_a_context_that_cannot_be_made_is_refused(tiny_models, log: LogTail) -> None:
    with pytest.raises(ModelRefused, match=r"qwen3\.gguf"):
        load(tiny_models["qwen3"], log, n_sequences=100_000)
