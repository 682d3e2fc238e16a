"""Threads follow the idle cores."""

from __future__ import annotations

import pytest

from models import threads
from models.threads import IdleCores


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    now = {"time": 100.0, "available": 0.0}
    monkeypatch.setattr(threads.time, "monotonic", lambda: now["time"])
    monkeypatch.setattr(threads, "_available_s", lambda: now["available"])
    return now


@pytest.mark.parametrize(
    ("idle_cores", "expected"), [(0.0, 1), (0.4, 1), (1.33, 1), (1.6, 2), (3.9, 4), (7.9, 4)]
)
def test_as_many_threads_as_cores_are_idle(clock, idle_cores: float, expected: int) -> None:
    cores = IdleCores(4)
    assert cores.count() == 1
    clock["time"] += 2.0
    clock["available"] += 2.0 * idle_cores
    assert cores.count() == expected


def test_it_is_not_looked_at_at_every_token(clock) -> None:
    cores = IdleCores(4)
    clock["time"] += 0.1
    clock["available"] += 0.4
    assert cores.count() == 1
    clock["time"] += 0.5
    clock["available"] += 2.0
    assert cores.count() == 4


def test_what_this_process_uses_counts_as_available() -> None:
    import time

    before, own = threads._available_s(), time.process_time()
    while time.process_time() - own < 0.2:
        pass
    assert threads._available_s() - before >= 0.15
