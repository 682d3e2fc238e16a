"""What takes long is done in the wake of a key while somebody types, and soon in any case."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tui import pacing
from tui.pacing import MAX_WAIT_S, MIN_WAIT_S, TYPING_S, WAKE_END_S, WAKE_S, Pacing


class Clock:
    """Time that a test turns on, and an app whose timers go by it."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self._timers: list[tuple[float, Callable[[], None], Clock.Timer]] = []

    class Timer:
        is_stopped = False

        def stop(self) -> None:
            self.is_stopped = True

    def set_timer(self, wait_s: float, work: Callable[[], None]) -> Timer:
        assert wait_s >= MIN_WAIT_S  # Textual's timers fail with less
        timer = Clock.Timer()
        self._timers.append((self.now_s + wait_s, work, timer))
        return timer

    def go(self, for_s: float) -> None:
        end_s = self.now_s + for_s + 1e-9
        while due := [t for t in self._timers if t[0] <= end_s and not t[2].is_stopped]:
            first = min(due, key=lambda t: t[0])
            self._timers.remove(first)
            self.now_s = max(self.now_s, first[0])
            first[1]()
        self.now_s = end_s


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(pacing, "monotonic", lambda: made.now_s)
    return made


def test_nothing_waits_while_nobody_types(clock):
    done, paced = [], Pacing(clock)
    paced.gently(lambda: done.append("at first"))
    assert done == ["at first"]
    paced.typed()
    clock.go(TYPING_S)
    paced.gently(lambda: done.append("after a rest"))
    assert done == ["at first", "after a rest"]


def test_what_is_due_before_the_paint_of_a_key_waits_for_its_wake(clock):
    done, paced = [], Pacing(clock)
    paced.typed()
    paced.gently(lambda: done.append(clock.now_s))
    clock.go(0.1)
    assert done == [pytest.approx(100.0 + WAKE_S)]


def test_what_is_due_between_two_keys_waits_for_the_next(clock):
    done, paced = [], Pacing(clock)
    paced.typed()
    clock.go(WAKE_END_S + 0.01)
    paced.gently(lambda: done.append(clock.now_s))
    clock.go(0.05)
    assert not done
    paced.typed()
    key_s = clock.now_s
    clock.go(0.1)
    assert done == [pytest.approx(key_s + WAKE_S)]


def test_no_key_comes_and_none_keep_it_waiting_for_ever(clock):
    done, paced = [], Pacing(clock)
    paced.typed()
    clock.go(WAKE_END_S + 0.01)
    paced.gently(lambda: done.append("no key"))
    clock.go(MAX_WAIT_S)
    assert done == ["no key"]
    paced.typed()
    clock.go(WAKE_END_S + 0.01)
    paced.gently(lambda: done.append("held down"))
    for _ in range(int(MAX_WAIT_S / 0.01) + 1):
        paced.typed()
        clock.go(0.01)
    assert done == ["no key", "held down"]


def test_the_order_is_kept(clock):
    done, paced = [], Pacing(clock)
    paced.typed()
    clock.go(WAKE_S / 2)
    paced.gently(lambda: done.append(1))
    clock.go(WAKE_S)  # in the wake: yet the first had its turn at once
    paced.gently(lambda: done.append(2))
    assert done == [1, 2]
    clock.go(TYPING_S)
    paced.typed()
    paced.gently(lambda: done.append(3))
    clock.go(TYPING_S)
    paced.gently(lambda: done.append(4))
    assert done == [1, 2, 3, 4]


def test_a_key_after_the_latest_moment_still_sets_a_timer_that_runs(clock):
    done, paced = [], Pacing(clock)
    paced.typed()
    paced.gently(lambda: done.append("late"))
    clock.now_s += MAX_WAIT_S + 1  # the thread was busy: no timer ran
    paced.typed()
    clock.go(WAKE_S)
    assert done == ["late"]
