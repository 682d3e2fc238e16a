"""Makes the pictures of the README: `python -m tui.make_screens [FOLDER]`.

Runs the real app with the real default models over the sample documents, without a terminal, and
writes one SVG a screen. Takes a minute or two. In an SVG a page image is made of half blocks.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from textual.pilot import Pilot
from textual.widgets import TabbedContent

from docqa.config import Config, LibraryConfig
from docqa.wiring import build
from tui.app import DocqaApp
from tui.question import QuestionLine
from tui.welcome import sample_paths

QUESTIONS = (
    "Which torque do the casing cover bolts of the TWX 40 need?",
    "When did the first FATAL happen?",
)
WAIT_S = 600


async def _until(pilot: Pilot[Any], is_so: Callable[[], object]) -> None:
    for _ in range(WAIT_S * 5):
        if is_so():
            await pilot.pause(0.3)
            return
        await pilot.pause(0.2)
    raise TimeoutError("the app did not come to rest")


async def _ask(pilot: Pilot[Any], app: DocqaApp, question: str) -> None:
    line = app.main.query_one(QuestionLine)
    line.focus()
    line.text = question
    await pilot.press("enter")
    await _until(pilot, lambda: not app.answering.is_running)


async def _walk(app: DocqaApp, folder: Path) -> None:
    def shot(name: str) -> None:
        # The library's folder is of this machine; the picture is not.
        svg = app.export_screenshot(title="docqa")
        for place in (app.workspace.config.library.dir, Path(__file__).parents[1]):
            svg = svg.replace(str(place), "~/docs")
        (folder / f"{name}.svg").write_text(svg, encoding="utf-8")

    async with app.run_test(size=(150, 42)) as pilot:
        await _until(pilot, lambda: app.status.engine)
        shot("welcome")
        app.indexing.add(sample_paths())
        await _until(pilot, lambda: len(app.documents) > 1)
        await _until(pilot, lambda: not app.indexing.state.is_running)
        await _ask(pilot, app, QUESTIONS[0])
        await pilot.press("escape", "1")
        await pilot.pause(2)
        shot("answer")
        app.main.query_one(TabbedContent).active = "tab-page"
        await pilot.pause(3)
        shot("page")
        await pilot.press("f3")
        await pilot.pause(1)
        shot("why")
        await pilot.press("escape", "f2")
        await pilot.pause(1)
        shot("library")
        await pilot.press("escape", "f4")
        await pilot.pause(5)
        shot("model")
        await pilot.press("escape")
        await _ask(pilot, app, QUESTIONS[1])
        await pilot.press("escape", "1")
        await pilot.pause(2)
        app.theme = "docqa-light"
        await pilot.pause(1)
        shot("log")


def main(folder: Path) -> None:
    """Write the pictures into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    with (
        TemporaryDirectory(prefix="docqa-screens-") as library,
        build(Config(library=LibraryConfig(Path(library))), reads_elsewhere=True) as workspace,
    ):
        asyncio.run(_walk(DocqaApp(workspace), folder))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "screens")
