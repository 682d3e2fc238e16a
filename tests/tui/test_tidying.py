"""Full collections of garbage wait until nobody types."""

from __future__ import annotations

import gc

from tests.tui.waiting import until
from tui import tidying


async def test_a_full_collection_waits_until_the_keys_rest(filled, monkeypatch):
    before, full = gc.get_threshold(), []

    def note(phase: str, info: dict[str, int]) -> None:
        if phase == "start" and info["generation"] == 2:
            full.append(info)

    monkeypatch.setattr(tidying, "PERIOD_S", 0.01)
    monkeypatch.setattr(tidying, "REST_S", 3600.0)
    monkeypatch.setattr(tidying, "N_SOON", 0)
    gc.callbacks.append(note)
    try:
        async with filled.app().run_test(size=(100, 30)) as pilot:
            await until(pilot, lambda: pilot.app.main.is_laid_out)
            await pilot.press("a")
            full.clear()
            await pilot.pause(0.2)
            assert not full
            monkeypatch.setattr(tidying, "REST_S", 0.0)
            await until(pilot, lambda: full, "a full collection")
            monkeypatch.setattr(tidying, "REST_S", 3600.0)
            monkeypatch.setattr(tidying, "N_AT_LAST", 0)
            full.clear()
            await until(pilot, lambda: full, "one while somebody types, at last")
    finally:
        gc.callbacks.remove(note)
    assert gc.get_threshold() == before
