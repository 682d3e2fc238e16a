"""The real app in a real terminal, every sink fed with sequences: run by test_terminal.py.

    python -m tests.tui.hostile FOLDER                every sink, every family
    python -m tests.tui.hostile FOLDER lines NUMBER   so many random strings, as lines of a file
    python -m tests.tui.hostile FOLDER colours        harmless text

Each sink shows `<sink>` before the sequences, so that the test sees that the sink was drawn.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import sys
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

from textual.content import Content
from textual.widgets import TabbedContent, TabPane
from textual.widgets._tabbed_content import ContentTab

from docqa.config import Config, LibraryConfig
from docqa.events import Answered, AnswerText, Retrieved
from docqa.library import Library
from docqa.paths import LibraryPaths
from docqa.types import (
    Answer,
    AnswerKind,
    BlockKind,
    Candidate,
    Chunk,
    Citation,
    Document,
    EngineInfo,
    Evidence,
    Kind,
    Locator,
    PackedPrompt,
    Segment,
    Span,
    State,
    Usage,
)
from docqa.workspace import Workspace
from tests.fakes import HashEmbedder, OverlapReranker, ScriptedEngine
from tui.app import DocqaApp
from tui.dialogs import AddScreen, ConfirmScreen, NameScreen
from tui.evidence import PassageRead, lines_of
from tui.line_view import LineView
from tui.lines import TextLines
from tui.messages import ModelFailed, PlaceChosen
from tui.model_screen import ModelsListed, PlanMade
from tui.page_view import PageDrawn
from tui.question import QuestionLine
from tui.turns import place_of_citation

FAMILIES = {
    "osc-title": "\x1b]0;hijack7731\x07",
    "osc-link": "\x1b]8;;http://hijack7731/\x1b\\click\x1b]8;;\x1b\\",
    "osc-clipboard": "\x1b]52;c;aGlqYWNrNzczMQ==\x07",
    "osc-prompt": "\x1b]133;A7731\x1b\\",
    "osc-image": "\x1b]1337;File=7731:AAAA\x07",
    "osc-open": "\x1b]2;never7731",
    "dcs": "\x1bP7731q\x1b\\",
    "apc": "\x1b_G7731\x1b\\",
    "pm": "\x1b^7731\x1b\\",
    "sos": "\x1bX7731\x1b\\",
    "csi": "\x1b[7731m\x1b[7731;1H\x1b[6n\x1b[c\x1b[2J",
    "reset": "\x1bc",
    "c1": "\x9b7731m\x9d52;c;7731\x9c\x907731\x9c\x85",
    "c0": "\x00\x01\x05\x07\x08\x0b\x0c\x0e\x0f\x7f\r",
    "bidi": "\u202e\u2066\u2069\u200e\u200f\u061c\u2028",
    "tags": "\U000e0041\U000e0042\u200b\ufeff",
    "zalgo": "a" + "\u0301" * 40,
    "markup": "[/] [bold] [@click=app.quit]x[/] [link=http://hijack7731]y[/] \\[ [[ ]]",
}
SETTLE_S = float(os.environ.get("HOSTILE_SETTLE_S", "0.15"))


class HostileWorkspace(Workspace):
    """Answers every question with hostile text, one character a piece."""

    text = ""

    def ask(self, question, options=None, *, cancel=None):
        yield Retrieved(question, (candidate(self.text),), 0.0, 0.0)
        for character in f"<answer>{self.text}":
            yield AnswerText(character)
        yield Answered(answer(question, self.text))


def chunk(text: str) -> Chunk:
    span = Span(1, 0, len(text), Locator("line", 1, 1))
    return Chunk(1, span, 0, text, "", BlockKind.PARAGRAPH, (f"<heading>{text}",))


def candidate(text: str) -> Candidate:
    return Candidate(chunk(f"<candidate>{text}"), f"/x/<path>{text}", text, dropped=f"<fate>{text}")


def answer(question: str, text: str) -> Answer:
    source = Evidence(1, chunk(f"<source>{text}"), f"/x/<cited>{text}", text, 1.0, 1)
    citation = Citation(1, source.path, None, 1, f"<quote>{text}", 0, 9)
    return Answer(
        question,
        f"<query>{text}",
        True,
        AnswerKind.MODEL,
        f"<answer>{text} [1]",
        (citation,),
        (source,),
        Usage(),
        EngineInfo("e", f"<model>{text}", 10, f"<kv>{text}", "f16"),
        (f"<note>{text}",),
    )


def document(text: str) -> Document:
    return Document(
        1,
        f"/x/<file>{text}",
        "",
        Kind.PDF,
        f"<title>{text}",
        1,
        0,
        State.FAILED,
        1,
        error=f"<error>{text}",
        warnings=(f"<warning>{text}",),
    )


def workspace(folder: Path) -> HostileWorkspace:
    config = Config(library=LibraryConfig(folder / "library"))
    library = Library(
        LibraryPaths(config.library.dir),
        config,
        open_embedder=HashEmbedder,
        tokenizer_file=Path,
    )
    return HostileWorkspace(
        library, config, open_engine=ScriptedEngine, open_reranker=OverlapReranker
    )


async def settle(app: DocqaApp) -> None:
    """Let every widget of the screen do what it was told, and the frame be drawn."""
    screen = app.screen
    for widget in (app, screen, *screen.walk_children()):
        done = asyncio.Event()
        if widget.is_running and widget.call_later(done.set):
            with contextlib.suppress(TimeoutError):  # a widget that has gone never calls
                await asyncio.wait_for(done.wait(), 5)
    drawn = asyncio.Event()
    if screen.call_after_refresh(drawn.set):
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(drawn.wait(), 5)
    await asyncio.sleep(SETTLE_S)


async def until(is_so: Callable[[], object], what: str) -> None:
    """Wait for a state of the app; a minute is for a machine with much else to do."""
    for _ in range(3000):
        if is_so():
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"never came: {what}")


async def main_screen(app: DocqaApp, text: str) -> None:
    main = app.main
    main.show_turns([])
    app.workspace.text = text
    app.workspace.config = replace(
        app.workspace.config, library=LibraryConfig(Path(f"<dir>{text}"))
    )
    main.show_documents([document(text)])
    app.show_status(replace(app.status, activity=f"<activity>{text}", gpu=f"<gpu>{text}"))
    app.post_message(ModelFailed(f"<banner>{text}"))
    app.notify_plain(f"<toast>{text}")
    main.query_one("#conversation").border_title = Content(f"<border>{text}")  # the edge
    app.answering.ask(f"<question>{text}")
    while app.answering.is_running:
        await asyncio.sleep(0.01)
    given = answer("", text)
    place = place_of_citation(given.citations[0], given.evidence)
    main.post_message(PlaceChosen(place))
    await settle(app)
    pane = main.query_one("#evidence")
    pane.post_message(PassageRead(place, None, f"<gone>{text}"))
    pane.query_one("#evidence-tabs").active = "tab-passage"
    await settle(app)
    pane.query_one("#evidence-tabs").active = "tab-lines"
    pane.query_one(LineView).show(TextLines(f"<line>{text}"), range(1))
    await settle(app)
    pane.query_one("#evidence-tabs").active = "tab-page"
    page = pane.query_one("#page")
    page._wanted = ("", 1, 1)
    page.post_message(PageDrawn(("", 1, 1), None, 0.0, f"<page>{text}"))
    main.query_one(QuestionLine).text = f"<typed>{text}"
    await settle(app)
    assert lines_of(app.workspace, place) is None


async def other_screens(app: DocqaApp, text: str) -> None:
    app.documents = [document(text)]
    app.action_library()
    await settle(app)
    app.screen.query_one("#library-filter").value = f"<filter>{text}"
    await settle(app)
    app.screen.query_one("#library-filter").value = ""
    app.pop_screen()
    main_turn = app.main.turns[0]
    segments = (Segment(f"<prompt>{text}", False, "evidence"),)
    main_turn.prompt = PackedPrompt(segments, (1,), (), (), {"evidence": 1})
    app.action_why()
    await until(lambda: app.screen.query(ContentTab), "why")
    tabs = app.screen.query_one(TabbedContent)
    await until(lambda: len(tabs.query(ContentTab)) == len(tabs.query(TabPane)), "the tabs")
    # Until all is mounted, the first tab still comes forward by itself, as does that of the table,
    # which takes the focus: whatever is chosen before is undone before it was drawn.
    await until(lambda: app.focused and app.focused.id == "candidates", "the table's focus")
    await settle(app)
    tabs.active = tabs.query(TabPane).last().id
    await until(lambda: app.screen.query_one("#prompt").region, "the prompt")
    await settle(app)
    assert tabs.active == tabs.query(TabPane).last().id
    app.pop_screen()
    app.action_model()
    await settle(app)
    models = [
        {"name": f"<named>{text}", "problem": f"<refused>{text}", "source": "folder", "n_bytes": 1}
    ]
    app.screen.post_message(ModelsListed([{**models[0], "quantisation": text}]))
    app.screen.post_message(PlanMade(app.screen.name_chosen, f"<plan>{text}", [], None))
    await settle(app)
    app.pop_screen()
    for screen in (
        ConfirmScreen(f"<confirm>{text}"),
        NameScreen(f"<prompted>{text}", f"<value>{text}"),
        AddScreen(),
    ):
        app.push_screen(screen)
        await settle(app)
        if isinstance(screen, AddScreen):
            screen.query_one("#path").value = f"/<nowhere>{text}"
            await screen.query_one("#path").action_submit()
            await settle(app)
        app.pop_screen()


SINKS = [
    "answer",
    "query",
    "note",
    "quote",
    "cited",
    "question",
    "file",
    "dir",
    "activity",
    "banner",
    "toast",
    "border",
    "gone",
    "line",
    "page",
    "typed",
    "error",
    "warning",
    "title",
    "filter",
    "candidate",
    "path",
    "fate",
    "prompt",
    "plan",
    "named",
    "refused",
    "confirm",
    "prompted",
    "value",
    "nowhere",
    "model",
    "heading",
]


async def every_sink(app: DocqaApp) -> None:
    for text in FAMILIES.values():
        await main_screen(app, text)
        await other_screens(app, text)


async def random_lines(app: DocqaApp, number: int) -> None:
    """Draw `number` random strings, a page at a time."""
    rng = random.Random(11)
    text = "\n".join("".join(rng.choices(ALPHABET, k=rng.randrange(1, 40))) for _ in range(number))
    pane = app.main.query_one("#evidence")
    pane.query_one("#evidence-tabs").active = "tab-lines"
    lines = pane.query_one(LineView)
    source = TextLines(text)
    lines.show(source)
    await settle(app)
    for top in range(0, source.n_lines, lines.size.height):
        lines.scroll_to(y=top, animate=False, force=True)
        drawn = asyncio.Event()
        lines.call_after_refresh(drawn.set)
        await asyncio.wait_for(drawn.wait(), 30)
    source_end = TextLines(f"<end>{source.n_lines}")
    lines.show(source_end)
    await settle(app)


async def colours(app: DocqaApp) -> None:
    await main_screen(app, "harmless")


ALPHABET = [
    *map(chr, range(0x20)),
    *map(chr, range(0x7F, 0xA0)),
    *"\u200b\u200e\u200f\u061c\ufeff\u202e\u2066\u2028\U000e0041",
    *"\x1b\x1b\x1b\x9b\x9d\x90",
    *"[/]\\;:@=?bold click 0123456789mHqPX^_",
    *"é漢\u0301🎉",
]


def main(folder: Path, walk: Callable[[DocqaApp], Awaitable[None]]) -> None:
    made = workspace(folder)
    app = DocqaApp(made)
    problems: list[str] = []

    async def pilot(_: object) -> None:
        try:
            await settle(app)
            await walk(app)
        except Exception as error:
            problems.append("".join(traceback.format_exception(error)))
        finally:
            app.exit(0)

    app.run(auto_pilot=pilot)
    made.close()
    if app.return_code:
        problems.append(f"the app ended with code {app.return_code}")
    (folder / "problems").write_text("\n".join(problems))


if __name__ == "__main__":
    if sys.argv[2:3] == ["lines"]:
        main(Path(sys.argv[1]), lambda app: random_lines(app, int(sys.argv[3])))
    else:
        main(Path(sys.argv[1]), colours if sys.argv[2:] == ["colours"] else every_sink)
