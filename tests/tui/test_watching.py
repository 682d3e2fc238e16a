"""The switch of each folder: watched from now on, remembered, and not any more."""

from __future__ import annotations

from pathlib import Path

from tests.tui.conftest import MANUAL
from tests.tui.waiting import until
from tui.library import LibraryScreen


async def test_a_folder_is_switched_on_and_off(stage):
    path = stage.write("first.md", MANUAL)
    stage.index(path)
    async with stage.app().run_test(size=(160, 45)) as pilot:
        app = pilot.app
        await until(pilot, lambda: app.documents)
        await pilot.press("f2")
        await until(pilot, lambda: isinstance(app.screen, LibraryScreen))
        assert not app.workspace.watched()
        await pilot.press("f")
        await until(pilot, lambda: app.status.watcher.startswith("watching 1"), "the watcher")
        assert [Path(folder.path) for folder in app.workspace.watched()] == [path.parent]
        stage.write("second.md", MANUAL.replace("38", "39"))
        await until(pilot, lambda: len(app.documents) == 2, "the new file")
        await pilot.press("f")
        await until(pilot, lambda: not app.workspace.watched(), "the switch")
        await until(pilot, lambda: app.status.watcher == "not watching", "the status")
        assert len(app.documents) == 2  # what was indexed stays
