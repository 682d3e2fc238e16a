"""Virtual lists, page images, the status line, why, the model screen, plain mode."""

from __future__ import annotations

import asyncio
import gzip
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest
from textual.command import CommandPalette

from docqa.config import TuiConfig
from docqa.types import EngineInfo, Locator
from tests.tui.conftest import MANUAL
from tests.tui.test_ask import QUESTION
from tests.tui.waiting import asked, until
from tui.evidence import EvidencePane
from tui.feed import EventRun
from tui.half_blocks import HalfBlockView
from tui.help import KEYS, HelpScreen
from tui.key_hints import KeyHints
from tui.line_view import LineView
from tui.lines import MAX_LINE_CHARS, FileLines, TextLines
from tui.messages import DocumentsRead, PlaceChosen
from tui.model_screen import ModelScreen
from tui.outside import outside_command
from tui.page_view import PageView, boxed
from tui.question import QuestionLine
from tui.status import Status, layer_bar, status_content
from tui.turns import Phase, Place
from tui.why import WhyScreen, fates

SAMPLES = Path(__file__).parents[2] / "sample_docs"


def test_lines_of_a_file_without_reading_it_whole(tmp_path):
    path = tmp_path / "a.log"
    path.write_bytes(b"one\r\ntwo \xff\n\nlast without end" + b"x" * 9000)
    lines = FileLines(path)
    assert lines.n_lines == 4
    assert [lines.line(i) for i in range(3)] == ["one", "two \ufffd", ""]
    assert len(lines.line(3)) == MAX_LINE_CHARS
    lines.close()
    packed = tmp_path / "a.log.gz"
    packed.write_bytes(gzip.compress(b"one\ntwo\n"))
    assert [FileLines(packed).line(i) for i in range(2)] == ["one", "two"]
    empty = tmp_path / "empty"
    empty.touch()
    assert (FileLines(empty).n_lines, FileLines(empty).line(0)) == (1, "")
    assert TextLines("a\nb").line(1) == "b"


async def test_a_log_of_200_000_lines_draws_only_what_is_in_sight(filled, tmp_path):
    path = tmp_path / "big.log"
    with path.open("w") as file:
        file.writelines(f"2026-03-11T14:22:51Z ERROR step {n}\n" for n in range(200_000))

    class Counting(FileLines):
        drawn: ClassVar[set[int]] = set()

        def line(self, index: int) -> str:
            self.drawn.add(index)
            return super().line(index)

    async with filled.app().run_test(size=(160, 45)) as pilot:
        await pilot.pause()
        pane = pilot.app.main.query_one(EvidencePane)
        pane.query_one("#evidence-tabs").active = "tab-lines"
        lines = pane.query_one(LineView)
        await pilot.pause()
        lines.show(Counting(path), range(123_456, 123_457))
        await until(pilot, lambda: 123_456 in Counting.drawn, "the marked line")
        assert lines.virtual_size.height == 200_000
        assert len(Counting.drawn) < 300
        y = 123_456 - lines.scroll_offset.y
        strip = lines.render_line(y)
        assert "▌123457 ✗ 2026-03-11T14:22:51Z ERROR step 123456" in strip.text


async def test_the_page_is_drawn_with_the_words_boxed_and_turned(filled):
    place = Place(
        1,
        str(SAMPLES / "pump_manual.pdf"),
        _page(20),
        "Tightening torques, threads lightly oiled",
        0,
        1,
    )
    async with filled.app().run_test(size=(160, 45)) as pilot:
        await pilot.pause()
        pane = pilot.app.main.query_one(EvidencePane)
        pilot.app.main.post_message(PlaceChosen(place))
        pane.query_one("#evidence-tabs").active = "tab-page"
        await until(pilot, lambda: pane.place is place)
        pane.query_one("#evidence-tabs").active = "tab-page"
        page = pane.query_one(PageView)
        image = page.query_one(HalfBlockView)
        await until(pilot, lambda: image._pixels is not None, "the page")
        assert (page.page, page.n_pages) == (20, 26)
        pixels = image._pixels
        is_orange = (pixels[..., 0] > 200) & (pixels[..., 2] < 140)
        assert is_orange.any()  # the box
        page.action_turn(1)
        await until(pilot, lambda: page.page == 21 and image._pixels is not pixels)
        now = image._pixels
        assert not ((now[..., 0] > 200) & (now[..., 2] < 140)).any()  # the quote is on page 20
        width = image.virtual_size.width
        page.action_zoom()
        await until(pilot, lambda: image.virtual_size.width > width, "the zoom")


def _page(number: int):
    return Locator("page", number, number)


async def test_v_goes_through_the_views(filled):
    async with filled.app().run_test(size=(160, 45)) as pilot:
        await asked(pilot, QUESTION)
        await pilot.press("escape", "1")
        pane = pilot.app.main.query_one(EvidencePane)
        tabs = pane.query_one("#evidence-tabs")
        await until(pilot, lambda: pane.view is not None)
        seen = [tabs.active]
        for _ in range(2):
            await pilot.press("v")
            seen.append(tabs.active)
        assert seen == ["tab-lines", "tab-passage", "tab-lines"]  # a text has no pages
        pilot.app.main.post_message(
            PlaceChosen(Place(1, str(SAMPLES / "pump_manual.pdf"), _page(20), "", 0, 1))
        )
        await until(pilot, lambda: tabs.active == "tab-passage")
        await pilot.press("v")
        assert tabs.active == "tab-page"


async def test_a_page_that_cannot_be_drawn_is_a_sentence(filled, tmp_path):
    gone = Place(1, str(tmp_path / "gone.pdf"), _page(1), "", 0, 1)
    async with filled.app().run_test(size=(160, 45)) as pilot:
        await pilot.pause()
        pilot.app.main.post_message(PlaceChosen(gone))
        pane = pilot.app.main.query_one(EvidencePane)
        await until(pilot, lambda: pane.place is gone)
        pane.query_one("#evidence-tabs").active = "tab-page"
        note = pane.query_one("#page-note")
        await until(pilot, lambda: "could not be drawn" in str(note.content), "the note")
        assert "no longer in the library" in pane.query_one("#passage").content.plain


def test_boxes_are_painted():
    image = boxed(20, 20, bytes([255] * 1200), [(5.0, 5.0, 15.0, 15.0)])
    red, _, blue = image.getpixel((10, 10))
    assert red > 200 and blue < 200
    assert image.getpixel((0, 0)) == (255, 255, 255)


def test_the_bar_says_the_layers_without_colour():
    layers = (("system", 100), ("evidence", 400), ("history", 0), ("question", 1))
    assert layer_bar(layers, 1000, 20).plain == "ss" + "e" * 8 + "q" + "·" * 9
    assert layer_bar((("evidence", 5000),), 1000, 10).plain == "e" * 10


@pytest.mark.parametrize("width", [40, 80, 250])
def test_the_status_fits_its_width_and_always_says_offline(width):
    info = EngineInfo("llama", "/models/m.gguf", 8192, "q8_0", "q8_0")
    status = Status(
        "m", info, (("evidence", 900),), 512, 1475, 16.9, 94 << 20, "GPU 1/2 GB", "watching 1", ""
    )
    line = status_content(status, width)
    assert line.cell_length <= width and line.plain.endswith("offline")
    if width == 250:
        for text in ("m.gguf", "900/8,192 tokens", "512 of 1,475 reused", "16.9 tok/s"):
            assert text in line.plain
        assert "KV q8_0/q8_0 94 MB" in line.plain and "GPU 1/2 GB" in line.plain


async def test_why_shows_every_candidate_and_its_fate(filled):
    async with filled.app().run_test(size=(160, 45)) as pilot:
        await asked(pilot, QUESTION)
        await pilot.press("escape", "w")
        await until(pilot, lambda: isinstance(pilot.app.screen, WhyScreen))
        turn = pilot.app.main.turns[0]
        table = pilot.app.screen.query_one("#candidates")
        assert table.row_count == len(turn.candidates)
        assert set(fates(turn).values()) >= {"[1]"}
        assert "tightened to 38 Nm" in pilot.app.screen.query_one("#prompt").content.plain
        assert "evidence" in pilot.app.screen.query_one("#tokens").content.plain
        await pilot.press("escape")
        assert pilot.app.screen is pilot.app.main


async def test_the_model_screen_plans_before_it_loads(filled):
    async with filled.app().run_test(size=(160, 45)) as pilot:
        await pilot.press("f4")
        await until(pilot, lambda: isinstance(pilot.app.screen, ModelScreen))
        screen = pilot.app.screen
        table = screen.query_one("#plan")
        await until(pilot, lambda: table.row_count > 0, "the plan")
        assert "135 M parameters" in screen.query_one("#plan-summary").content.plain
        table.focus()
        await pilot.press("down", "enter")
        assert screen.query_one("#context").value == str(screen._rows[1].context_length)
        screen._plan_for("/nowhere/none.gguf")
        await until(pilot, lambda: "none.gguf" in str(screen.query_one("#plan-summary").content))
        await until(pilot, lambda: table.row_count == 0)


async def test_ctrl_l_loads_the_model_with_the_kv_type_that_was_chosen(filled):
    model = replace(filled.workspace.config.model, keep_alive_s=0)  # a process of its own
    filled.workspace.config = replace(filled.workspace.config, model=model)
    async with filled.app().run_test(size=(160, 45)) as pilot:
        app = pilot.app
        await until(pilot, lambda: app.status.engine is not None, "the first model")
        assert app.status.engine.model == "script"
        await pilot.press("f4")
        await until(pilot, lambda: isinstance(app.screen, ModelScreen))
        screen = app.screen
        await until(pilot, lambda: screen.query_one("#plan").row_count > 0, "the plan")
        screen.query_one("#context").value = "1024"
        for name in ("#kv-k", "#kv-v"):
            choice = screen.query_one(name)
            choice.focus()
            await pilot.press("enter")
            await until(pilot, lambda: choice.expanded, "the choice")  # noqa: B023
            await pilot.press("home", "down", "down", "enter")
            assert choice.value == "q4_0"
        await pilot.press("ctrl+l")
        await until(pilot, lambda: app.screen is app.main)
        await until(pilot, lambda: app.status.engine is not None, "the model")
        loaded = app.status.engine
        assert (loaded.kv_type_k, loaded.kv_type_v) == ("q4_0", "q4_0")
        assert loaded.context_length == 1024 and loaded.model != "script"
        q4_bytes = app.status.kv_bytes
        assert q4_bytes and "KV q4_0/q4_0" in status_content(app.status, 300).plain
        await asked(pilot, QUESTION)
        assert app.main.turns[-1].phase is Phase.DONE
        await pilot.press("f4")
        await until(pilot, lambda: isinstance(app.screen, ModelScreen) and app.screen is not screen)
        assert app.screen.query_one("#kv-k").value == "q4_0"
        app.screen.query_one("#kv-k").value = "f16"
        app.screen.query_one("#kv-v").value = "f16"
        await pilot.press("ctrl+l")
        await until(pilot, lambda: app.status.engine and app.status.engine.kv_type_k == "f16")
        assert app.status.kv_bytes == round(q4_bytes * 2 / (18 / 32))


async def test_a_model_that_does_not_load_is_a_banner_and_the_app_goes_on(filled):
    async with filled.app().run_test(size=(160, 45)) as pilot:
        app = pilot.app
        await until(pilot, lambda: app.status.engine is not None, "the first model")
        await pilot.press("f4")
        await until(pilot, lambda: isinstance(app.screen, ModelScreen))
        await until(pilot, lambda: app.screen.query_one("#plan").row_count > 0, "the plan")
        box = app.screen.query_one("#gguf")
        box.value = "/nowhere/none.gguf"
        box.focus()
        await pilot.press("enter", "ctrl+l")
        banner = app.main.query_one("#banner")
        await until(pilot, lambda: banner.display, "the banner")
        assert "none.gguf" in banner.content.plain and "Ctrl+R" in banner.content.plain
        assert app.status.engine is None and app.status.model_state == "not loaded"
        await asked(pilot, QUESTION)
        assert app.main.turns


async def test_help_lists_the_keys_and_the_palette_everything(filled):
    async with filled.app().run_test(size=(80, 24)) as pilot:
        await pilot.press("f1")
        await until(pilot, lambda: isinstance(pilot.app.screen, HelpScreen))
        await pilot.press("escape")
        names = {c.title for c in pilot.app.get_system_commands(pilot.app.screen)}
        assert names >= {"Add", "Library", "Why", "Model", "Sync", "Help", "New session", "Theme"}
        assert sum(len(keys) for keys in KEYS.values()) > 20


async def test_plain_mode_has_no_boxes_and_no_lists(filled):
    config = replace(filled.workspace.config, tui=TuiConfig(mode="plain"))
    filled.workspace.config = config
    async with filled.app().run_test(size=(160, 45)) as pilot:
        await asked(pilot, QUESTION)
        main = pilot.app.main
        assert not main.query_one("#side").display
        assert main.query_one(QuestionLine).styles.border_top[0] in ("", "none")
        assert main.turns[0].text


async def test_light_and_dark(filled):
    async with filled.app().run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: pilot.app.theme == "docqa-dark")
        pilot.app.action_toggle_dark()
        assert pilot.app.theme == "docqa-light"


async def test_a_watched_folder_brings_its_new_file(stage):
    path = stage.write("first.md", MANUAL)
    stage.index(path)
    stage.workspace.set_watched(path.parent)
    async with stage.app().run_test(size=(160, 45)) as pilot:
        await until(pilot, lambda: pilot.app.status.watcher.startswith("watching 1"))
        stage.write("second.md", MANUAL.replace("38", "39"))
        await until(pilot, lambda: len(pilot.app.documents) == 2, "the new file")


def test_files_open_at_their_line_or_page(monkeypatch):
    monkeypatch.setenv("VISUAL", "my-editor --wait")
    found = outside_command(Path("/x/a.log"), Locator("line", 12, 14))
    assert found == (["my-editor", "--wait", "+12", "/x/a.log"], True)
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(
        "shutil.which", lambda name: f"/usr/bin/{name}" if name == "evince" else None
    )
    found = outside_command(Path("/x/a.pdf"), Locator("page", 3, 3))
    assert found == (["evince", "--page-index=3", "/x/a.pdf"], False)


async def test_a_flood_of_events_is_one_message_a_batch(filled):
    class Owner:
        def __init__(self):
            self.messages = []

        def post_message(self, message):
            self.messages.append(type(message).__name__)

    owner = Owner()
    run = EventRun(owner, lambda cancel: iter(range(10_000)))
    run.run()
    assert owner.messages == ["RunProgressed", "RunEnded"]
    assert run.drain() == list(range(10_000)) and run.drain() == []


async def test_screens_that_are_left_at_once(filled):
    async with filled.app().run_test(size=(160, 45)) as pilot:
        await asked(pilot, QUESTION)
        app = pilot.app
        for number in range(3):
            for opened in (app.action_why, app.action_library, app.action_model, app.action_help):
                opened()
                if number:
                    await asyncio.sleep(0)
                app.post_message(DocumentsRead(app.documents))
                app.pop_screen()
        await pilot.pause()
        assert app.screen is app.main and app.return_code in (None, 0)
        await asked(pilot, QUESTION)


async def test_the_key_hints_follow_the_focus_without_a_layout(filled):
    async with filled.app().run_test(size=(160, 40)) as pilot:
        app = pilot.app
        await until(pilot, lambda: app.main.is_laid_out and app.status.engine)
        await pilot.pause(0.3)
        hints, layouts = app.main.query_one(KeyHints), []
        app.main.screen_layout_refresh_signal.subscribe(app.main, layouts.append)
        assert hints.render().plain.startswith(" ⏎ Ask ")
        await pilot.press("escape")  # to the transcript
        await until(pilot, lambda: " a Add " in hints.render().plain, "the single keys")
        await pilot.pause(0.2)
        assert not layouts
        assert hints.render().plain.endswith("▏^p palette ")
        assert hints.render().cell_length == 160


async def test_a_click_on_a_key_hint_presses_the_key(filled):
    async with filled.app().run_test(size=(160, 40)) as pilot:
        app = pilot.app
        await until(pilot, lambda: app.main.is_laid_out)
        hints = app.main.query_one(KeyHints)
        await until(pilot, lambda: "Help" in hints.render().plain)
        await pilot.click(hints, offset=(hints.render().plain.index("Help"), 0))
        await until(pilot, lambda: isinstance(app.screen, HelpScreen), "the help")
        await pilot.press("escape")
        await until(pilot, lambda: app.screen is app.main)
        await pilot.click(hints, offset=(hints.size.width - 1, 0))
        await until(pilot, lambda: isinstance(app.screen, CommandPalette), "the palette")
