"""Waits for a state of the app, not for a time."""

from __future__ import annotations

from collections.abc import Callable

PAUSE_S = 0.02
TRIES = 3000


async def until(pilot, is_so: Callable[[], object], what: str = "") -> None:
    """Let the app run until `is_so()`; fail after a minute."""
    for _ in range(TRIES):
        if is_so():
            await pilot.pause()
            return
        await pilot.pause(PAUSE_S)
    raise AssertionError(f"never came: {what or is_so}")


async def asked(pilot, question: str) -> None:
    """Type a question and send it; return when it is answered."""
    app = pilot.app
    n = len(app.main.turns)
    app.main.query_one("#question").focus()
    app.main.query_one("#question").text = question
    await pilot.press("enter")
    await until(pilot, lambda: len(app.main.turns) > n, "the turn")
    await until(pilot, lambda: not app.answering.is_running, "the answer")
