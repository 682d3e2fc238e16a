"""A page of the manual in the evidence view, in a real terminal: run by test_graphics.py.

    python -m tests.tui.paged FOLDER

The graphics are what the terminal says that it can, as when a user starts docqa.
"""

from __future__ import annotations

import sys
from pathlib import Path

from docqa.types import Locator
from tests.tui.hostile import settle, until, workspace
from tui.app import DocqaApp
from tui.messages import PlaceChosen
from tui.page_view import PageView, graphics_of
from tui.terminal import Answers, asked_terminal
from tui.turns import Place

ROOT = Path(__file__).parents[2]
PLACE = Place(
    1,
    str(ROOT / "sample_docs" / "pump_manual.pdf"),
    Locator("page", 20, 20),
    "Tightening torques, threads lightly oiled",
    0,
    1,
)


async def open_page(app: DocqaApp) -> None:
    await settle(app)
    pane = app.main.query_one("#evidence")
    app.main.post_message(PlaceChosen(PLACE))
    await until(lambda: pane.place is PLACE, "the place")
    pane.query_one("#evidence-tabs").active = "tab-page"
    await until(lambda: app.main.query_one(PageView).n_pages, "the page")
    pane.focus_content()


def main(folder: Path) -> None:
    made = workspace(folder)
    with asked_terminal() as asked:
        answers = asked.answers() if asked else Answers()
    app = DocqaApp(made, (), graphics_of(answers), typed=answers.typed)
    code = app.run(auto_pilot=lambda pilot: open_page(app))
    made.close()
    sys.exit(code)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
