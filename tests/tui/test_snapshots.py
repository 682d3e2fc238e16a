"""A few screens as SVG, beside the tests of state: what moved on the screen is seen in a review.

    DOCQA_SNAPSHOTS=write pytest tests/tui/test_snapshots.py     # after a change that is meant

Fixed sizes, no times, no paths of this machine. Only at the version of Textual that drew them.
"""

from __future__ import annotations

import html
import os
import re
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import pytest

from docqa.config import LibraryConfig
from docqa.types import Document, EngineInfo, Kind, State
from tests.tui.test_ask import QUESTION
from tests.tui.waiting import asked, until
from tui.evidence import EvidencePane
from tui.help import HelpScreen
from tui.library import LibraryScreen
from tui.status import Status
from tui.sync_state import SyncState

FOLDER = Path(__file__).parent / "snapshots"
TEXTUAL = "8.2.8"
STATUS = Status(
    "smollm2",
    EngineInfo("llama.cpp", "smollm2", 8192, "q8_0", "q8_0"),
    (("system", 60), ("evidence", 700), ("question", 20)),
    512,
    780,
    41.5,
    94 << 20,
    watcher="watching 1",
)
pytestmark = pytest.mark.skipif(version("textual") != TEXTUAL, reason=f"drawn by {TEXTUAL}")


def words(svg: str) -> list[str]:
    """Return what the texts of an SVG say, for a failure that can be read."""
    return [html.unescape(text) for text in re.findall(r"<text[^>]*>([^<]*)</text>", svg)]


def check(app, name: str) -> None:
    """Compare the screen with its picture; write it where that is asked for."""
    svg = app.export_screenshot(title="docqa")
    file = FOLDER / f"{name}.svg"
    if os.environ.get("DOCQA_SNAPSHOTS") == "write":
        FOLDER.mkdir(exist_ok=True)
        file.write_text(svg, encoding="utf-8")
    kept = file.read_text(encoding="utf-8")
    assert words(svg) == words(kept)
    assert svg == kept, f"{name}: the same words in other colours or places"


async def at_rest(app, pilot, stage) -> None:
    """Show what is the same on every machine and at every time."""
    stage.workspace.config = replace(
        stage.workspace.config, library=LibraryConfig(Path("/srv/docs/library"))
    )
    await until(pilot, lambda: app.main.is_laid_out and app.status.engine)
    app.main.query_one("#question").cursor_blink = False
    app.main.show_documents(app.documents)
    app.show_status(STATUS)
    await pilot.pause()


async def test_welcome(stage):
    async with stage.app().run_test(size=(80, 24)) as pilot:
        await at_rest(pilot.app, pilot, stage)
        check(pilot.app, "welcome")


@pytest.mark.parametrize(("name", "size"), [("answer", (150, 40)), ("answer-narrow", (80, 24))])
async def test_an_answer_and_its_evidence(filled, name, size):
    async with filled.app().run_test(size=size) as pilot:
        app = pilot.app
        await until(pilot, lambda: app.documents)
        await asked(pilot, QUESTION)
        await at_rest(app, pilot, filled)
        await pilot.press("escape", "1")
        pane = app.main.query_one(EvidencePane)
        await until(pilot, lambda: pane.view is not None, "the passage")
        pane.query_one("#evidence-tabs").active = "tab-passage"
        await pilot.pause()
        pane.query_one("#passage-scroll").focus()
        app.show_status(STATUS)
        await pilot.pause(0.5)  # the tabs' underline slides
        check(app, name)


def document(number: int, state: State, **more) -> Document:
    name = f"/srv/docs/manuals/pump {number}.pdf"
    made = Document(number, name, "", Kind.PDF, f"Pump {number}", 1, 0, state, 1)
    return replace(made, n_pages=12 * number, n_chunks=30 * number, **more)


async def test_library(stage, monkeypatch):
    monkeypatch.setattr("tui.library.changed_at", lambda document: "2026-03-11 14:22")
    documents = [
        document(1, State.INDEXED),
        document(2, State.PARTIAL, warnings=("3 pages have no text and were not read",)),
        document(3, State.FAILED, error="the file is empty"),
        document(4, State.QUARANTINED, error="it killed the parser twice"),
    ]
    async with stage.app().run_test(size=(150, 40)) as pilot:
        app = pilot.app
        await at_rest(app, pilot, stage)
        state = SyncState(is_running=True, n_files=8, n_done=4, current="/srv/docs/new.pdf")
        state.n_pages = 17
        app.push_screen(LibraryScreen(documents, {1}, state, frozenset({documents[1].path})))
        await until(pilot, lambda: isinstance(app.screen, LibraryScreen))
        await until(pilot, lambda: app.screen.query_one("#library-table").row_count == 4)
        app.screen.query_one("#library-table").move_cursor(row=1, animate=False)
        await pilot.pause(0.2)
        check(app, "library")


async def test_help(stage):
    async with stage.app().run_test(size=(100, 45)) as pilot:
        await at_rest(pilot.app, pilot, stage)
        await pilot.press("f1")
        await until(pilot, lambda: isinstance(pilot.app.screen, HelpScreen))
        await pilot.pause(0.2)
        check(pilot.app, "help")
