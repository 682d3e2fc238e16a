"""Guessing changes no answer; dropping the oldest turns goes on without computing them again."""

from __future__ import annotations

from array import array
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from docqa.protocols import Piece, Stop
from models import decoding
from models.decoding import Run
from models.llama_context import LlamaContext, LogTail
from models.llama_engine import LlamaEngine
from models.lookup import GuessMeter, PromptLookup
from models.model_file import read_model
from models.rope import plan_rope
from models.sampling import Sampler
from models.settings import LoadSettings
from tests.models.test_llama_engine import GREEDY, load, logits_after, prompt, run

PAYS = GuessMeter.pays.fget  # before the fixture below replaces it


@pytest.fixture(scope="module")
def log() -> LogTail:
    return LogTail()


@pytest.fixture(autouse=True)
def always_guess(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether guessing pays here and now is not what these tests are about."""
    monkeypatch.setattr(GuessMeter, "pays", property(lambda self: True))


@given(tokens=st.lists(st.integers(0, 3), max_size=60), more=st.lists(st.integers(0, 3)))
def test_a_guess_is_what_followed_the_last_occurrence(tokens: list[int], more: list[int]) -> None:
    lookup = PromptLookup(array("i", tokens))
    for token in more:
        lookup.add(token)
    said = tokens + more
    guess = lookup.guess(5)
    best: list[int] = []
    for n in (4, 3):
        places = [e for e in range(n, len(said)) if said[e - n : e] == said[len(said) - n :]]
        if len(said) >= n and places:
            best = said[places[-1] : places[-1] + 5]
            break
    assert guess == best


class Oracle:
    """Guesses that are mostly right: what the plain engine said, here and there falsified."""

    said: list[int] = []  # noqa: RUF012 set by the tests
    wrong = 0.3

    def __init__(self, tokens: array[int]) -> None:
        self._at, self._random = 0, np.random.default_rng(len(tokens))

    def add(self, token: int) -> None:
        assert token == self.said[self._at]
        self._at += 1

    def guess(self, n_most: int) -> list[int]:
        found = list(self.said[self._at : self._at + n_most])
        if found and self._random.random() < self.wrong:
            found[self._random.integers(len(found))] ^= 1
        return found


@pytest.mark.parametrize("name", ["llama3", "qwen3", "mistral", "gemma2"])
def test_guesses_confirm_the_same_text(
    tiny_models: dict[str, Path], log: LogTail, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "PromptLookup", Oracle)
    n_accepted = n_guessed = 0
    for seed in range(4):
        plain = load(tiny_models[name], log, guesses=False)
        guessing = load(tiny_models[name], log, guesses=True)
        tokens = prompt(60 + seed, 80)
        expected, _ = run(plain, tokens, 120)
        monkeypatch.setattr(Oracle, "said", expected)
        said, stop = run(guessing, tokens, 120)
        assert said == expected
        n_accepted, n_guessed = n_accepted + stop.n_accepted, n_guessed + stop.n_guessed
        # What is cached is what was said, so the next turn is computed right.
        follow = tokens + said + prompt(70, 20)
        monkeypatch.setattr(Oracle, "said", run(plain, follow, 20)[0])
        assert run(guessing, follow, 20)[0] == Oracle.said
        plain.context.close()
        guessing.context.close()
    assert 40 < n_accepted < n_guessed  # many calls of random weights are close


def test_close_calls_are_computed_alone(
    tiny_models: dict[str, Path], log: LogTail, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "PromptLookup", Oracle)
    monkeypatch.setattr(decoding, "MARGIN", 1e9)  # everything is too close
    plain = load(tiny_models["qwen3"], log, guesses=False)
    guessing = load(tiny_models["qwen3"], log, guesses=True)
    tokens = prompt(61, 80)
    expected, _ = run(plain, tokens, 60)
    monkeypatch.setattr(Oracle, "said", expected)
    said, stop = run(guessing, tokens, 60)
    assert said == expected
    assert (stop.n_accepted, stop.n_guessed > 0) == (0, True)
    plain.context.close()
    guessing.context.close()


class Rounding:
    """A context and its conversations whose kernels round differently for several tokens.

    Logits follow from the tokens before; the two highest are as close as a random number says.
    Tokens that were computed together give other ones, and so do later ones that look back at them.
    """

    is_recurrent, goes_back_exactly, n_context, n_vocab = False, True, 1 << 20, 8

    def __init__(self, seed: int, off: float, gaps: tuple[float, float]) -> None:
        self.context = self
        self.seed, self.off, self.gaps = seed, off, gaps
        self.tokens = array("i")
        self.alone: list[bool] = []  # of each token
        self.outputs: list[np.ndarray] = []
        self.n_decodes = 0
        for token in prompt(seed, 30):
            self.append(self, [token % 4])

    def append(self, _conversation: object, tokens: list[int], *, all_logits: bool = False) -> None:
        self.outputs, self.n_decodes = [], self.n_decodes + 1
        for token in tokens:
            self.tokens.append(token)
            self.alone.append(len(tokens) == 1)
            self.outputs.append(self._logits())

    def _logits(self) -> np.ndarray:
        rng = np.random.default_rng([self.seed, *self.tokens[-3:]])
        best, second = rng.permutation(4)[:2]
        logits = np.zeros(self.n_vocab, np.float32)
        logits[best], logits[second] = 5.0, 5.0 - rng.uniform(*self.gaps)
        if not all(self.alone):
            logits[[best, second]] += [-self.off, self.off]
        return logits

    def logits(self, index: int = -1) -> np.ndarray:
        return self.outputs[index]

    def cut(self, _conversation: object, n: int) -> None:
        del self.tokens[n:], self.alone[n:]

    def is_end(self, _token: int) -> bool:
        return False

    def piece(self, token: int) -> bytes:
        return b"%d" % token


def _written(fake: Rounding, meter: GuessMeter | None) -> tuple[list[int], Run]:
    sampler = Sampler(fake, GREEDY)
    answer = Run(fake, fake, sampler, 200, (), lambda: False, meter=meter)
    return [piece.token for piece in answer.pieces()], answer


@pytest.mark.parametrize("widest", [1.0, 2.0, 4.0])
def test_kernels_that_round_otherwise_change_no_text(
    monkeypatch: pytest.MonkeyPatch, widest: float
) -> None:
    off, n_accepted, texts = 0.49 * decoding.MARGIN, 0, []
    for seed in range(10):
        plain, guessing = (Rounding(seed, off, (0.0, widest)) for _ in range(2))
        said, answer = _written(guessing, GuessMeter())
        assert said == _written(plain, None)[0]
        assert guessing.tokens[: len(plain.tokens)] == plain.tokens
        n_accepted += answer.n_accepted
        texts.append(said)
    assert n_accepted > 20
    monkeypatch.setattr(decoding, "MARGIN", 0.01)  # the fake does its part
    assert texts != [
        _written(Rounding(seed, off, (0.0, widest)), GuessMeter())[0] for seed in range(10)
    ]


def test_a_clear_copy_is_computed_in_few_decodes() -> None:
    plain, guessing = (Rounding(3, 0.1, (1.0, 3.0)) for _ in range(2))
    expected, said = _written(plain, None)[0], _written(guessing, GuessMeter())[0]
    assert said == expected
    assert guessing.n_decodes < plain.n_decodes / 2


def test_one_and_several_at_once_differ_by_less_than_the_margin(default_model, log) -> None:
    context = LlamaContext(
        LoadSettings(path=str(default_model.path), context_length=512, n_sequences=2), log
    )
    tokens = prompt(62, 64)
    alone, together = [], []
    for i in range(0, 64, 16):
        assert context.decode(tokens[i : i + 16], i, 0, all_logits=True) == 0
        together += list(context.all_logits(16))
    for i, token in enumerate(tokens):
        assert context.decode([token], i, 1) == 0
        alone.append(context.logits().copy())
    assert np.abs(np.array(alone) - np.array(together)).max() < decoding.MARGIN / 2
    context.close()


def test_stops_and_limits_hold_within_a_guess(tiny_models: dict[str, Path], log: LogTail) -> None:
    plain = load(tiny_models["llama3"], log, guesses=False)
    guessing = load(tiny_models["llama3"], log, guesses=True)
    tokens = prompt(63, 40) * 2
    events = list(plain.generate(tokens, max_tokens=80, sampling=GREEDY))
    text = "".join(e.text for e in events if isinstance(e, Piece))
    for n in (1, 2, 7, 33):
        assert run(guessing, tokens, n)[1].n_generated == n
    for stop in (text[-3:], text[30:33]):
        shown = [
            "".join(
                e.text
                for e in engine.generate(tokens, max_tokens=80, sampling=GREEDY, stop=[stop])
                if isinstance(e, Piece)
            )
            for engine in (plain, guessing)
        ]
        assert shown[0] == shown[1] == text[: text.index(stop)]
    plain.context.close()
    guessing.context.close()


def test_guessing_stops_where_it_does_not_pay() -> None:
    meter = GuessMeter()
    assert PAYS(meter)
    for _ in range(GuessMeter.TRIES):
        meter.note(1.0, 2, guessed=True)
        meter.note(0.1, 1, guessed=False)
    assert not PAYS(meter)
    for _ in range(GuessMeter.PROBE_EVERY):
        meter.note(0.1, 1, guessed=False)
    assert PAYS(meter)  # tried again, once
    for _ in range(20):
        meter.note(0.1, 4, guessed=True)
    meter.note(0.1, 1, guessed=False)
    assert PAYS(meter)


# -- endless chats --------------------------------------------------------------------------------


def test_the_oldest_turns_are_dropped_without_computing_again(tiny_models, log: LogTail) -> None:
    engine = load(tiny_models["qwen3"], log)
    sinks, old, recent = prompt(80, 30), prompt(81, 150), prompt(82, 200)
    run(engine, sinks + old + recent, 1)
    question = prompt(83, 20)
    _, stop = run(engine, sinks + recent + question, 8, may_shift=True)
    assert (stop.n_reused, stop.n_shifted) == (230, 200)
    assert engine.last is not None
    assert engine.last.n_sinks == 30
    _, stop = run(engine, sinks + recent + question + prompt(84, 10), 4)
    assert stop.n_reused >= 250
    engine.context.close()


def test_nothing_is_shifted_unasked(tiny_models, log: LogTail) -> None:
    engine = load(tiny_models["qwen3"], log)
    sinks, old, recent = prompt(80, 30), prompt(81, 150), prompt(82, 200)
    run(engine, sinks + old + recent, 1)
    _, stop = run(engine, sinks + recent, 4)
    assert (stop.n_reused, stop.n_shifted) == (30, 0)
    engine.context.close()


def test_a_tail_is_moved_as_far_as_the_prompt_has_it(tiny_models, log: LogTail) -> None:
    """The last answer may be kept in other words than it was written in."""
    engine = load(tiny_models["qwen3"], log)
    sinks, old, recent = prompt(80, 30), prompt(81, 150), prompt(82, 200)
    run(engine, sinks + old + recent, 1)
    other = [*recent[:150], recent[150] ^ 1, *recent[151:]]
    _, stop = run(engine, sinks + other, 1, may_shift=True)
    assert (stop.n_reused, stop.n_shifted) == (180, 150)
    # What was moved and what was computed after it is one conversation, and goes on.
    assert run(engine, sinks + other + prompt(83, 20), 4)[1].n_reused >= 230
    engine.context.close()


def test_an_unrelated_prompt_is_not_taken_for_a_tail(tiny_models, log: LogTail) -> None:
    engine = load(tiny_models["qwen3"], log)
    sinks, old, recent = prompt(80, 30), prompt(81, 150), prompt(82, 200)
    run(engine, sinks + old + recent, 1)
    broken = [*recent[:50], recent[50] ^ 1, *recent[51:]]
    expected = logits_after(load(tiny_models["qwen3"], log), sinks + broken)
    _, stop = run(engine, sinks + broken, 1, may_shift=True)
    assert (stop.n_reused, stop.n_shifted) == (30, 0)
    found = logits_after(engine, sinks + broken)
    np.testing.assert_allclose(found, expected, atol=0.02 * expected.std())
    engine.context.close()


def test_a_fork_is_not_moved_with_the_trunk(tiny_models, log: LogTail) -> None:
    engine = load(tiny_models["qwen3"], log, context_length=1024)
    sinks, old, recent = prompt(80, 30), prompt(81, 150), prompt(82, 200)
    trunk = sinks + old + recent
    run(engine, trunk, 1)
    branch = trunk[:300] + prompt(85, 80)
    expected, _ = run(engine, branch, 16)
    run(engine, sinks + recent + prompt(83, 20), 4, may_shift=True)
    said, stop = run(engine, branch, 16)
    assert said == expected
    assert stop.n_reused in (30, len(branch) - 1)
    engine.context.close()


def _round_trip(context: LlamaContext, tokens: list[int], by: int) -> float:
    """Move all positions up and down again; return max|Δlogit| / std(logit) of the next token."""
    for i in range(0, len(tokens) - 1, 32):
        assert context.decode(tokens[i : min(i + 32, len(tokens) - 1)], i, 0) == 0
    last = len(tokens) - 1
    assert context.decode(tokens[last:], last, 0) == 0
    before = context.logits().copy()
    context.remove(0, last)
    for step in (by, -by):
        context.shift(0, 0, -1, step)
        # A shift is applied at the next decode.
        at = last + max(step, 0)
        assert context.decode(tokens[last:], at, 0) == 0
        after = context.logits().copy()
        context.remove(0, at)
    return float(np.abs(after - before).max() / before.std())


def test_a_shift_is_exact_without_yarn_and_wrong_with_it(tiny_models, log: LogTail) -> None:
    """Why the engine never shifts under YaRN; if this fails, llama.cpp has mended it."""
    model = read_model(tiny_models["qwen3"])
    tokens = prompt(86, 120)
    plain = load(model.path, log).context
    assert _round_trip(plain, tokens, 64) < 0.02
    yarn = load(model.path, log, rope=plan_rope(model, 2048).settings).context
    assert _round_trip(yarn, tokens, 64) > 0.1
    plain.close()
    yarn.close()


@pytest.mark.parametrize("name", ["qwen3", "lfm2"])
def test_where_a_shift_would_be_wrong_the_prompt_is_computed(
    tiny_models, log: LogTail, name: str
) -> None:
    model = read_model(tiny_models[name])
    rope = plan_rope(model, 2048).settings
    engine, fresh = load(model.path, log, rope=rope), load(model.path, log, rope=rope)
    assert not engine.context.can_shift
    sinks, old, recent = prompt(80, 30), prompt(81, 150), prompt(82, 200)
    run(engine, sinks + old + recent, 1)
    said, stop = run(engine, sinks + recent, 8, may_shift=True)
    assert stop.n_shifted == 0
    assert stop.n_reused in (0, 30)
    assert said == run(fresh, sinks + recent, 8)[0]
    engine.context.close()
    fresh.context.close()


def test_an_endless_chat(tiny_models, log: LogTail) -> None:
    """Forty turns through a context for six: each is read once, and nothing else again."""
    engine = load(tiny_models["qwen3"], log)
    system, turns, n_read = prompt(90, 40), [], 0
    for n in range(40):
        turns.append(prompt(100 + n, 70))
        while len(system) + sum(map(len, turns)) > 480:
            del turns[:3]
        tokens = system + [token for turn in turns for token in turn]
        _, stop = run(engine, tokens, 1, may_shift=True)
        n_read += stop.n_prompt - stop.n_reused
    assert n_read < 40 + 40 * 72


def test_two_pinned_documents_and_ten_turns_reuse_nine_tenths(tiny_models, log: LogTail) -> None:
    engine = load(tiny_models["llama3"], log, context_length=2048)
    pinned = prompt(1, 40) + prompt(2, 400) + prompt(3, 350)
    tokens, unchanged, reused = pinned, 0, 0
    for n in range(10):
        asked = tokens + prompt(200 + n, 40)
        said, stop = run(engine, asked, 12)
        if n:
            unchanged += len(tokens)
            reused += min(stop.n_reused, len(tokens))
        tokens = asked + said
    assert reused >= 0.9 * unchanged
    # Another question about the same documents, in a session of its own.
    _, stop = run(engine, pinned + prompt(300, 60), 4)
    assert stop.n_reused == len(pinned)


def test_prefill_only(tiny_models, log: LogTail) -> None:
    engine = LlamaEngine(load(tiny_models["lfm2"], log).context)
    said, stop = run(engine, prompt(4, 90), 0)
    assert isinstance(stop, Stop)
    assert (said, stop.n_generated, engine.n_cached) == ([], 0, 90)
    # A recurrent model goes on from exactly there.
    assert run(engine, prompt(4, 90) + prompt(5, 10), 2)[1].n_reused == 90
    engine.context.close()
