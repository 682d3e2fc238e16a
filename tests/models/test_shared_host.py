"""One warm engine for several callers: found, shared, idle, stopped, refused to others."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from docqa import paths
from docqa.errors import EngineDied
from docqa.protocols import Prefill, Stop
from models import shared_host
from models.host import HostEngine, PrivateProcess, open_engine
from models.shared_host import SharedProcess
from tests.models.test_host import config, say
from tests.models.tiny import write_model


@pytest.fixture(autouse=True)
def folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch) -> Iterator[Path]:
    """A folder of sockets for each test; whatever still runs in it is stopped."""
    root = tmp_path_factory.mktemp("r")
    monkeypatch.setattr(paths, "runtime_dir", lambda: root / "docqa")
    yield root / "docqa"
    shared_host.stop()


def shared(path: Path, **changes: object) -> HostEngine:
    return open_engine(config(path, **{"keep_alive_s": 60.0, **changes}))


@pytest.fixture
def model(tiny_models: dict[str, Path]) -> Path:
    return tiny_models["qwen3"]


def test_what_was_removed_is_dropped_by_every_engine(model: Path, folder: Path) -> None:
    assert shared_host.forget() == 0
    tokens = list(range(60, 160))
    with shared(model) as one, shared(model) as other:
        text, _ = say(one, tokens, 8)
        _wait(lambda: shared_host.status()[0].state == "ready")
        assert shared_host.forget() == 1
        assert shared_host.status()[0].n_cached_tokens == 0
        assert one.save_kv(folder / "none.kv") == 0
        again, stop = say(other, tokens, 8)
        assert (again, stop.n_reused) == (text, 0)
        other.forget_kv()
        _wait(lambda: shared_host.status()[0].n_cached_tokens == 0)


def test_two_callers_share_one_process_and_its_cache(model: Path, folder: Path) -> None:
    tokens = list(range(60, 160))
    with shared(model) as one, shared(model) as other:
        text, _ = say(one, tokens, 8)
        again, stop = say(other, tokens, 8)
        assert (again, stop.n_reused) == (text, 99)
        _wait(lambda: shared_host.status()[0].state == "ready")
        (status,) = shared_host.status()
        assert status.n_clients == 2
        assert status.state == "ready"
        assert status.n_cached_tokens >= 100
        assert status.model == str(model)
        assert folder.stat().st_mode & 0o777 == 0o700
        (address,) = folder.glob("*.sock")
        assert address.stat().st_mode & 0o077 == 0
    # The engine learns that they have gone when it next looks.
    _wait(lambda: shared_host.status()[0].n_clients == 0)


def test_a_later_caller_finds_the_warm_cache(model: Path) -> None:
    tokens = list(range(60, 160))
    with shared(model) as engine:
        say(engine, tokens, 4)
    with shared(model) as engine:
        assert say(engine, tokens, 4)[1].n_reused == 99


def test_stop_ends_it(model: Path, folder: Path) -> None:
    assert shared_host.stop() == 0
    with shared(model) as engine:
        say(engine, [1, 2, 3], 2)
        (status,) = shared_host.status()
        assert shared_host.stop() == 1
        assert shared_host.status() == []
        _wait(lambda: not psutil.pid_exists(status.pid))
        # The caller that still holds the connection gets a fresh one.
        assert say(engine, [1, 2, 3], 2)[1].n_generated == 2
        assert shared_host.status()[0].pid != status.pid


def test_it_ends_when_idle(model: Path, folder: Path) -> None:
    with shared(model, keep_alive_s=0.3) as engine:
        text, _ = say(engine, [1, 2, 3], 4)
        (status,) = shared_host.status()
        _wait(lambda: not psutil.pid_exists(status.pid))
        assert list(folder.glob("*.sock")) == []
        assert say(engine, [1, 2, 3], 4)[0] == text


def test_other_settings_take_its_place_when_nobody_uses_it(model: Path) -> None:
    with shared(model) as engine:
        say(engine, [1], 1)
        (first,) = shared_host.status()
    with shared(model, context_length=256) as engine:
        assert engine.info.context_length == 256
        (second,) = shared_host.status()
        assert second.pid != first.pid


def test_other_settings_get_a_process_of_their_own_while_it_is_used(model: Path) -> None:
    with shared(model) as one:
        say(one, [1], 1)
        (first,) = shared_host.status()
        with shared(model, context_length=256) as other:
            assert other.info.context_length == 256
            assert isinstance(other.process, PrivateProcess)
        assert shared_host.status()[0].pid == first.pid


def test_a_crash_is_an_error_for_the_caller_whose_question_it_was(model: Path) -> None:
    with shared(model) as engine:
        engine.wait_until_ready()
        (status,) = shared_host.status()
        events = engine.generate(list(range(100)), max_tokens=400)
        next(events)
        os.kill(status.pid, signal.SIGKILL)
        with pytest.raises(EngineDied, match="sched_reserve"):
            list(events)
        assert say(engine, [1, 2, 3], 2)[1].n_generated == 2


def test_a_caller_that_leaves_stops_its_generation(tmp_path: Path) -> None:
    model = write_model(tmp_path / "m.gguf", "qwen3")
    with shared(model, context_length=4096) as one, shared(model, context_length=4096) as other:
        events = one.generate(list(range(200)) * 5, max_tokens=3000)
        for event in events:
            if not isinstance(event, Prefill):
                break
        one.close()
        assert say(other, [1, 2, 3], 2)[1].n_generated == 2
        assert shared_host.status()[0].n_clients == 1


def test_callers_take_turns(model: Path) -> None:
    results: dict[int, Stop] = {}

    def ask(n: int) -> None:
        with shared(model) as engine:
            results[n] = say(engine, [n] * 50, 16)[1]

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {n: stop.n_generated for n, stop in results.items()} == dict.fromkeys(range(5), 16)
    assert len(shared_host.status()) == 1


def test_a_dead_socket_is_replaced(model: Path, folder: Path) -> None:
    with shared(model) as engine:
        engine.wait_until_ready()
        (status,) = shared_host.status()
    os.kill(status.pid, signal.SIGKILL)
    _wait(lambda: not psutil.pid_exists(status.pid))
    assert len(list(folder.glob("*.sock"))) == 1
    with shared(model) as engine:
        assert isinstance(engine.process, SharedProcess)
        assert say(engine, [1], 1)[1].n_generated == 1


def test_where_no_socket_can_be_had_the_process_is_private(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "runtime_dir", lambda: tmp_path / ("d" * 120))
    with shared(model) as engine:
        assert isinstance(engine.process, PrivateProcess)
    file = tmp_path / "file"
    file.write_text("")
    monkeypatch.setattr(paths, "runtime_dir", lambda: file)
    with shared(model) as engine:
        assert isinstance(engine.process, PrivateProcess)


def test_noise_on_the_socket_harms_nobody(model: Path, folder: Path) -> None:
    with shared(model) as engine:
        engine.wait_until_ready()
        (address,) = folder.glob("*.sock")
        for noise in (
            b"",
            b"\xff" * 64,
            b"\x04\x00\x00\x00\xc1\xc1\xc1\xc1",
            b"\x10\x00\x00\x00ab",
        ):
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(str(address))
                connection.sendall(noise)
        assert say(engine, [1, 2, 3], 2)[1].n_generated == 2


def _wait(condition) -> None:
    for _ in range(200):
        if condition():
            return
        time.sleep(0.05)
    pytest.fail("it did not come about")
