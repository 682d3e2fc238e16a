"""Sessions in the side list: kept by answers, resumed, renamed, deleted, exported; follow-ups."""

from __future__ import annotations

import json

from tests.tui.test_ask import QUESTION
from tests.tui.waiting import asked, until
from tui.dialogs import ConfirmScreen, NameScreen
from tui.library import LibraryAsked
from tui.question import QuestionLine
from tui.sessions import title_of
from tui.sessions_panel import SessionsPanel
from tui.transcript import TurnView


def titles(pilot) -> list[str]:
    panel = pilot.app.main.query_one(SessionsPanel)
    return [panel.get_option_at_index(i).prompt.plain for i in range(panel.option_count)]


async def listed(pilot, *expected: str) -> None:
    """Wait for these lines: the list is read in a thread, after the answer."""
    await until(pilot, lambda: titles(pilot) == list(expected), f"{expected}")


async def test_new_and_resume(filled):
    async with filled.app().run_test(size=(160, 45)) as pilot:
        await asked(pilot, QUESTION)
        await listed(pilot, f"● {title_of(QUESTION)}  1")
        await pilot.press("ctrl+n")
        assert pilot.app.main.turns == [] and pilot.app.main.query_one("#welcome").display
        seal = "Which seal is replaced after how many hours?"
        await asked(pilot, seal)
        await listed(pilot, f"● {title_of(seal)}  1", f"  {title_of(QUESTION)}  1")
        panel = pilot.app.main.query_one(SessionsPanel)
        panel.focus()
        panel.highlighted = 1
        await pilot.press("enter")
        await until(pilot, lambda: [t.question for t in pilot.app.main.turns] == [QUESTION])
        await until(pilot, lambda: len(pilot.app.main.query(TurnView)) == 1)
        line = pilot.app.main.query_one(QuestionLine)
        line.focus()
        await pilot.press("up")
        assert line.text == QUESTION  # the history is that of the session
        line.text = ""
        await pilot.press("escape", "1")
        await until(pilot, lambda: pilot.app.main.query_one("#evidence").view is not None)


async def test_rename_and_delete(filled):
    async with filled.app().run_test(size=(160, 45)) as pilot:
        await asked(pilot, QUESTION)
        await listed(pilot, f"● {title_of(QUESTION)}  1")
        pilot.app.main.query_one(SessionsPanel).focus()
        await pilot.press("e")
        await until(pilot, lambda: isinstance(pilot.app.screen, NameScreen))
        pilot.app.screen.query_one("#name").value = "bolts [/]"
        await pilot.press("enter")
        await until(pilot, lambda: titles(pilot) == ["● bolts [/]  1"])
        await pilot.press("d")
        await until(pilot, lambda: isinstance(pilot.app.screen, ConfirmScreen))
        await pilot.press("y")
        await until(pilot, lambda: titles(pilot) == ["none yet"])
        assert pilot.app.main.turns == []


async def test_export(filled, tmp_path):
    async with filled.app().run_test(size=(160, 45)) as pilot:
        await asked(pilot, QUESTION)
        answer = pilot.app.main.turns[0].answer
        await listed(pilot, f"● {title_of(QUESTION)}  1")
        for name in ("kept.md", "kept.json"):
            pilot.app.main.query_one(SessionsPanel).focus()
            await pilot.press("x")
            await until(pilot, lambda: isinstance(pilot.app.screen, NameScreen))
            pilot.app.screen.query_one("#name").value = str(tmp_path / name)
            await pilot.press("enter")
            await until(pilot, (tmp_path / name).exists)
    text = (tmp_path / "kept.md").read_text()
    assert f"## {QUESTION}" in text and "line 5" in text and "38 Nm" in text
    kept = json.loads((tmp_path / "kept.json").read_text())
    assert kept["turns"][0]["citations"][0]["quote"] == answer.citations[0].quote


async def test_a_session_survives_the_app(filled):
    async with filled.app().run_test(size=(160, 45)) as pilot:
        await asked(pilot, QUESTION)
        answer = pilot.app.main.turns[0].answer
    filled.workspace.close()
    filled.workspace = filled.opened()
    async with filled.app().run_test(size=(160, 45)) as pilot:
        await until(pilot, lambda: titles(pilot) == [f"  {title_of(QUESTION)}  1"])
        pilot.app.main.query_one(SessionsPanel).focus()
        await pilot.press("enter")
        await until(pilot, lambda: len(pilot.app.main.turns) == 1)
        found = pilot.app.main.turns[0].answer
        assert (found.text, found.citations) == (answer.text, answer.citations)
        assert found.evidence[0].chunk.text == answer.evidence[0].chunk.text
        await asked(pilot, "And why?")
        assert "casing" in pilot.app.main.turns[1].answer.query
        await listed(pilot, f"● {title_of(QUESTION)}  2")
        usage = pilot.app.main.turns[1].answer.usage
        assert usage.layer_tokens["history"] > 0 and usage.reused_tokens > 0


async def test_a_removed_document_is_gone_from_the_session(filled):
    async with filled.app().run_test(size=(160, 45)) as pilot:
        await asked(pilot, QUESTION)
        manual = filled.folder / "docs" / "manual.md"
        pilot.app.conversation.toggle_pin(manual)
        pilot.app.post_message(LibraryAsked("remove", (manual,)))
        await until(pilot, lambda: pilot.app.conversation.pins == ())
        await until(pilot, lambda: pilot.app.main.turns[0].answer.evidence == ())
        answer = pilot.app.main.turns[0].answer
        assert "38 Nm" not in answer.text and "removed" in answer.text
        note = pilot.app.main.query(".note").first().content.plain
        assert "manual.md" in note


async def test_pinning_reads_the_whole_document(filled):
    async with filled.app().run_test(size=(160, 45)) as pilot:
        app = pilot.app
        await until(pilot, lambda: len(app.documents) == 2)
        panel = app.main.query_one("#documents")
        panel.focus()
        panel.highlighted = [d.path.endswith("manual.md") for d in app.documents].index(True)
        await pilot.press("p")
        await until(pilot, lambda: len(app.conversation.pins) == 1)
        assert "⊤" in panel.get_option_at_index(panel.highlighted).prompt.plain
        await asked(pilot, QUESTION)
        answer = app.main.turns[0].answer
        assert answer.usage.layer_tokens["pinned"] > 0
        assert "Store the pump dry" in "".join(
            s.text for s in app.main.turns[0].prompt.segments if s.layer == "pinned"
        )
        await listed(pilot, f"● {title_of(QUESTION)}  1")
        await pilot.press("ctrl+n")
        assert app.conversation.pins == ()
        await listed(pilot, f"  {title_of(QUESTION)}  1")
        app.main.query_one(SessionsPanel).focus()
        await pilot.press("enter")
        await until(pilot, lambda: len(app.conversation.pins) == 1)  # the session remembers


async def test_a_follow_up_shows_what_was_searched(filled):
    async with filled.app().run_test(size=(160, 45)) as pilot:
        await asked(pilot, QUESTION)
        await asked(pilot, "And why?")
        turn = pilot.app.main.turns[1]
        assert turn.answer.question == "And why?"
        assert "casing" in turn.answer.query and "bolts" in turn.answer.query
        searched = list(pilot.app.main.query(".searched"))[1]
        assert searched.display and "casing" in searched.content.plain
