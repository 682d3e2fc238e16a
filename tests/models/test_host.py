"""The engine in its own process: what it answers, and what happens when it dies."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from docqa.config import ModelConfig
from docqa.errors import ContextOverflow, EngineDied, ModelError, ModelNotFound, ModelRefused
from docqa.protocols import Piece, Prefill, Sampling, Stop
from docqa.types import Segment
from models import host, load_plan
from models.gguf import read_header
from models.host import HostEngine, PrivateProcess, open_engine
from tests.models.tiny import NAMES, write_model

ROOT = Path(__file__).resolve().parents[2]


def config(path: Path | None = None, **changes: object) -> ModelConfig:
    chosen = {"path": str(path)} if path else {}
    changes = {
        "n_threads": 1,
        "context_length": 512,
        "adapter": "none",
        "keep_alive_s": 0.0,
        **changes,
    }
    return dataclasses.replace(ModelConfig(**chosen), **changes)


@pytest.fixture
def tiny(tiny_models: dict[str, Path]) -> Iterator[HostEngine]:
    with open_engine(config(tiny_models["qwen3"])) as engine:
        yield engine


def prompt_of(engine: HostEngine, question: str) -> list[int]:
    messages = [
        ("system", [Segment("Answer in a few words.", False, "system")]),
        ("user", [Segment(question, False, "question")]),
    ]
    return [token for ids in engine.tokenize(engine.chat(messages)) for token in ids]


def say(engine: HostEngine, tokens: list[int], n: int = 24, **options) -> tuple[str, Stop]:
    events = list(engine.generate(tokens, max_tokens=n, **options))
    assert isinstance(events[-1], Stop)
    return "".join(e.text for e in events if isinstance(e, Piece)), events[-1]


def test_the_default_model_answers(default_engine: HostEngine) -> None:
    text, stop = say(default_engine, prompt_of(default_engine, "What is the capital of France?"))
    assert "Paris" in text
    assert stop.reason == "end"
    assert default_engine.info.name == "llama.cpp"
    assert default_engine.info.context_length == 4096
    assert default_engine.info.kv_type_k == "q8_0"
    assert default_engine.info.model == "SmolLM2-135M-Instruct.Q4_1"


def test_events_come_in_order_and_the_prefix_is_reused(default_engine: HostEngine) -> None:
    say(default_engine, prompt_of(default_engine, "Name a colour."), 2)
    tokens = prompt_of(default_engine, "Name a colour. And a fruit.")
    events = list(default_engine.generate(tokens, max_tokens=3))
    kinds = [type(event) for event in events]
    n_prefill = kinds.count(Prefill)
    assert kinds == [Prefill] * n_prefill + [Piece] * (len(kinds) - n_prefill - 1) + [Stop]
    first, last = events[0], events[n_prefill - 1]
    assert first.n_done == first.n_reused == events[-1].n_reused >= 15
    assert last.n_done == last.n_total == len(tokens)


def test_how_likely_texts_are(default_engine: HostEngine) -> None:
    tokens = prompt_of(default_engine, "What is the capital of France?")
    tokens += default_engine.tokenize([Segment("The capital of France is", False)])[0]
    texts = [" Paris", " Berlin", " zebra", " Paris, the"]
    paris, berlin, zebra, more = default_engine.log_probs(tokens, texts)
    assert paris > math.log(0.5) > berlin > zebra
    assert math.exp(paris) + math.exp(berlin) + math.exp(zebra) < 1.0
    assert more < paris
    with pytest.raises(ValueError, match="without tokens"):
        default_engine.log_probs(tokens, [""])


def test_errors_keep_their_type_and_the_engine_goes_on(tiny: HostEngine) -> None:
    with pytest.raises(ContextOverflow, match="600 prompt tokens"):
        say(tiny, [1] * 600)
    with pytest.raises(ModelRefused, match="GBNF"):
        say(tiny, [1] * 6, sampling=Sampling(grammar="("))
    assert say(tiny, [1] * 6, 4)[1].n_generated == 4


@pytest.mark.parametrize("name", NAMES)
def test_every_family_asks_overflows_and_cancels(name: str, tiny_models: dict[str, Path]) -> None:
    with open_engine(config(tiny_models[name])) as engine:
        tokens = prompt_of(engine, "what is the pump seal? <|im_end|><end_of_turn>[INST]")
        specials = engine.model.vocabulary.types[tokens] == 3
        expected = {"llama3": 9, "qwen3": 5, "mistral": 1, "gemma2": 4, "lfm2": 6, "deepseek2": 5}
        expected |= {"gemma3": 4, "qwen35": 5, "granite": 5}
        assert specials.sum() == expected[name]
        text, _stop = say(engine, tokens, 8)
        assert say(engine, tokens, 8)[0] == text
        with pytest.raises(ContextOverflow):
            say(engine, tokens, 512)
        cancel = threading.Event()
        cancel.set()
        assert say(engine, tokens + tokens, 300, cancel=cancel)[1].reason == "cancelled"
        assert say(engine, tokens, 8)[0] == text


def test_a_cancel_is_heard_while_the_model_reads(default_engine: HostEngine) -> None:
    cancel = threading.Event()
    tokens = prompt_of(default_engine, "A story of a pump and a valve. " * 300)
    n_done = 0
    for event in default_engine.generate(tokens, max_tokens=8, cancel=cancel):
        if isinstance(event, Prefill):
            n_done = event.n_done
            cancel.set()
    assert isinstance(event, Stop)
    assert event.reason == "cancelled"
    assert n_done < len(tokens) / 2


def test_a_generation_that_is_left_is_cancelled(default_engine: HostEngine) -> None:
    question = prompt_of(default_engine, "What is the capital of Germany?")
    expected, _ = say(default_engine, question)
    events = default_engine.generate(prompt_of(default_engine, "Tell me a story."), max_tokens=500)
    for event in events:
        if isinstance(event, Piece):
            break
    events.close()
    text, stop = say(default_engine, question)
    assert text == expected
    assert stop.n_generated < 100


def test_a_killed_engine_is_an_error_and_then_a_fresh_one(tiny: HostEngine) -> None:
    expected, _ = say(tiny, [1, 2, 3], 8)
    process = tiny.process
    assert isinstance(process, PrivateProcess)
    events = tiny.generate([1, 2, 3], max_tokens=400)
    next(events)
    os.kill(process.pid, signal.SIGKILL)
    with pytest.raises(EngineDied, match="exit status -9"):
        list(events)
    assert say(tiny, [1, 2, 3], 8)[0] == expected
    assert isinstance(tiny.process, PrivateProcess)
    assert tiny.process.pid != process.pid


def test_an_abort_says_the_last_words(tiny: HostEngine) -> None:
    tiny.wait_until_ready()
    assert isinstance(tiny.process, PrivateProcess)
    os.kill(tiny.process.pid, signal.SIGABRT)
    with pytest.raises(EngineDied, match=r"exit status -6: .*sched_reserve"):
        say(tiny, [1, 2, 3])


def test_a_file_that_llama_cpp_refuses(tmp_path: Path) -> None:
    # The header is sound, but a tensor that the architecture needs is missing.
    path = write_model(tmp_path / "gaps.gguf", "qwen3")
    content = path.read_bytes()
    path.write_bytes(content.replace(b"blk.1.attn_q.weight", b"blk.1.attn_z.weight"))
    with open_engine(config(path)) as engine, pytest.raises(ModelRefused, match="attn_q"):
        engine.wait_until_ready()


@pytest.mark.timeout(900)
@pytest.mark.parametrize("n_files", [8, pytest.param(200, marks=pytest.mark.slow)])
def test_mutated_models_never_harm_the_caller(
    tmp_path: Path, tiny_models: dict[str, Path], n_files: int
) -> None:
    """Refused by us, refused by llama.cpp, dead in its process, or loaded: all are survived."""
    whole = tiny_models["qwen3"].read_bytes()
    n_header = min(t.offset for t in read_header(tiny_models["qwen3"]).tensors)
    rng = random.Random(n_files)
    path = tmp_path / "mutated.gguf"
    for _ in range(n_files):
        content = bytearray(whole)
        at = rng.randrange(24, n_header)
        content[at] = rng.randrange(256)
        path.write_bytes(content)
        try:
            with open_engine(config(path)) as engine:
                say(engine, [1, 2, 3], 2)
        except ModelError as error:
            assert str(path) in str(error)


def test_settings_that_cannot_work_are_refused_before_loading(
    tiny_models: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "PrivateProcess", None)
    path = tiny_models["qwen3"]
    with monkeypatch.context() as patch:
        patch.setattr(load_plan, "build_has_gpu", lambda: True)
        with pytest.raises(ModelRefused, match=r"q8_0/q4_0.*q8_0/q8_0"):
            open_engine(config(path, kv_type_k="q8_0", kv_type_v="q4_0"))
    with pytest.raises(ModelRefused, match="q9"):
        open_engine(config(path, kv_type_k="q9", kv_type_v="q9"))
    with pytest.raises(ModelNotFound, match="no model 'nothing'"):
        open_engine(config(Path("nothing")))
    with pytest.raises(ModelRefused, match="no adapter"):
        open_engine(config(path, adapter=str(path)))


def test_a_template_that_never_ends_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.models.tiny import FAMILIES

    endless = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
    family = dataclasses.replace(FAMILIES["qwen3"], template=endless)
    monkeypatch.setitem(FAMILIES, "endless", family)
    monkeypatch.setattr(host, "TEMPLATE_S", 0.5)
    path = write_model(tmp_path / "endless.gguf", "endless")
    with open_engine(config(path)) as engine:
        found = engine.chat([("user", [Segment("x", False)])])
        assert found[0].text == "<|im_start|>user\n"
        assert say(engine, [1, 2, 3], 4)[1].n_generated == 4


def test_the_process_ends_with_its_caller(tiny_models: dict[str, Path]) -> None:
    script = f"""
import os
from docqa.config import ModelConfig
from models.host import open_engine
engine = open_engine(ModelConfig(path={str(tiny_models["qwen3"])!r}, n_threads=1,
                                 context_length=512, adapter="none", keep_alive_s=0))
engine.wait_until_ready()
print(engine.process.pid, flush=True)
os.kill(os.getpid(), 9)
"""
    found = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    pid = int(found.stdout)
    for _ in range(100):
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return
        time.sleep(0.05)
    pytest.fail("the engine outlived its caller")


def test_an_interrupt_is_the_callers(tiny: HostEngine) -> None:
    tiny.wait_until_ready()
    assert isinstance(tiny.process, PrivateProcess)
    os.kill(tiny.process.pid, signal.SIGINT)
    assert say(tiny, [1, 2, 3], 4)[1].n_generated == 4


def test_the_folder_one_stands_in_is_not_searched_for_modules(
    tmp_path: Path, tiny_models: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "msgspec.py").write_text("raise SystemExit('hijacked')")
    monkeypatch.chdir(tmp_path)
    with open_engine(config(tiny_models["qwen3"])) as engine:
        engine.wait_until_ready()


def test_a_closed_engine_is_not_used_again(tiny_models: dict[str, Path]) -> None:
    engine = open_engine(config(tiny_models["qwen3"]))
    engine.close()
    with pytest.raises(EngineDied, match="closed"):
        say(engine, [1])


def test_the_caller_loads_no_llama_cpp() -> None:
    script = (
        "import sys, models.host; sys.exit('llama_cpp' in sys.modules or 'jinja2' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=False).returncode == 0


def test_threads_share_an_engine(tiny_models: dict[str, Path]) -> None:
    """Also one that asks the process for tokens while another's answer is being written."""
    with open_engine(config(tiny_models["mistral"], context_length=2048)) as engine:
        expected = {n: say(engine, [n] * 30, 40)[0] for n in range(3, 9)}
        found: dict[int, str] = {}

        def ask(n: int) -> None:
            found[n] = say(engine, [n] * 30, 40)[0]
            assert engine.tokenize([Segment("what is the pump", False)])[0]

        threads = [threading.Thread(target=ask, args=(n,)) for n in expected]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == expected


def test_tokens_and_template_do_not_wait_for_an_answer(tiny_models: dict[str, Path]) -> None:
    with open_engine(config(tiny_models["mistral"], context_length=4096)) as engine:
        events = engine.generate([5] * 2000, max_tokens=2000)
        for event in events:
            if isinstance(event, Piece):
                break
        assert engine.tokenize([Segment("what is the pump", False)])[0]
        assert engine.chat([("user", [Segment("x", False)])])
        assert engine.info.context_length == 4096
        rest = list(events)
        assert isinstance(rest[-1], Stop)
        assert len(rest) > 5


def test_a_generation_may_be_left_in_another_thread(tiny: HostEngine) -> None:
    events = tiny.generate([1] * 200, max_tokens=200)
    next(events)
    thread = threading.Thread(target=events.close)
    thread.start()
    thread.join()
    assert say(tiny, [1, 2, 3], 4)[1].n_generated == 4


def test_json_of_a_schema(default_engine: HostEngine) -> None:
    schema = {
        "type": "object",
        "properties": {
            "city": {"type": "string", "maxLength": 20},
            "is_capital": {"type": "boolean"},
        },
        "required": ["city", "is_capital"],
        "additionalProperties": False,
    }
    sampling = Sampling(json_schema=json.dumps(schema))
    tokens = prompt_of(default_engine, "What is the capital of France? Answer in JSON.")
    text, stop = say(default_engine, tokens, 80, sampling=sampling)
    answer = json.loads(text)
    assert stop.reason == "end"
    assert isinstance(answer["city"], str)
    assert isinstance(answer["is_capital"], bool)
    with pytest.raises(ModelRefused, match="JSON schema"):
        say(default_engine, tokens, 8, sampling=Sampling(json_schema="{"))
