"""Asking: messages and state of a turn, streaming, stopping, errors, citations."""

from __future__ import annotations

import pytest

from docqa.errors import EngineDied
from docqa.types import AnswerKind
from tests.fakes import ScriptedEngine
from tests.tui.conftest import GatedEngine
from tests.tui.waiting import asked, until
from tui.evidence import EvidencePane
from tui.line_view import LineView
from tui.question import QuestionLine
from tui.transcript import CitationRow, Transcript, TurnView
from tui.turns import Phase

QUESTION = "To which torque are the casing bolts tightened?"


def text_of(pilot, selector: str) -> str:
    return pilot.app.main.query_one(selector).content.plain


async def test_an_answer_with_its_citation(filled):
    async with filled.app().run_test(size=(160, 45)) as pilot:
        await asked(pilot, QUESTION)
        turn = pilot.app.main.turns[0]
        assert (turn.phase, turn.error) == (Phase.DONE, None)
        assert turn.answer.kind is AnswerKind.MODEL
        assert turn.text == "The casing bolts are tightened to 38 Nm. [1]"
        assert [c.chunk.chunk_id for c in turn.candidates]
        view = pilot.app.main.query_one(TurnView)
        assert view.query_one(".answer").content.plain == turn.text
        assert "bolts are tightened to 38 Nm" in view.query_one(CitationRow).content.plain
        assert pilot.app.status.engine.name == "scripted"
        assert pilot.app.status.n_used == sum(turn.prompt.layer_tokens.values())


async def test_enter_on_a_citation_shows_the_passage_with_the_sentence_marked(filled):
    async with filled.app().run_test(size=(160, 45)) as pilot:
        await asked(pilot, QUESTION)
        pilot.app.main.query_one(CitationRow).focus()
        await pilot.press("enter")
        pane = pilot.app.main.query_one(EvidencePane)
        await until(pilot, lambda: pane.view is not None, "the passage")
        assert pane.view.quote == "The casing bolts are tightened to 38 Nm."
        shown = text_of(pilot, "#passage")
        assert "▶The casing bolts are tightened to 38 Nm.◀" in shown
        assert "manual.md" in text_of(pilot, "#evidence-where")
        assert "Pump manual" in text_of(pilot, "#evidence-where")
        lines = pane.query_one(LineView)
        await until(pilot, lambda: lines.marked, "the lines")
        assert lines.marked == range(4, 5)  # line 5 of the file


async def test_a_digit_and_a_click_on_the_marker_open_the_citation(filled):
    async with filled.app().run_test(size=(160, 45)) as pilot:
        await asked(pilot, QUESTION)
        pane = pilot.app.main.query_one(EvidencePane)
        await pilot.press("escape", "1")
        await until(pilot, lambda: pane.place is not None)
        pane.place = None
        answer = pilot.app.main.query_one(".answer")
        at = answer.content.plain.index("[1]")
        padding = answer.styles.padding.left
        await pilot.click(answer, offset=(padding + at + 1, 0))
        await until(pilot, lambda: pane.place is not None, "the click")
        assert pane.place.marker == 1


async def test_neighbours_are_shown_on_demand(stage):
    pages = "\n\n".join(f"# Part {i}\n\n" + f"Words of part {i}. " * 40 for i in range(8))
    stage.index(stage.write("parts.md", pages + "\n\n# Bolts\n\nThe casing bolts: 38 Nm."))
    stage.engine.replies = ["The casing bolts: 38 Nm. [1]"]
    async with stage.app().run_test(size=(160, 45)) as pilot:
        await asked(pilot, "casing bolts Nm?")
        await pilot.press("escape", "1")
        pane = pilot.app.main.query_one(EvidencePane)
        await until(pilot, lambda: pane.view is not None)
        few = len(pane.view.before)
        pane.action_more()
        await until(pilot, lambda: len(pane.view.before) > few, "more text before")
        assert pane.view.quote == "The casing bolts: 38 Nm."


async def test_escape_stops_during_prefill_and_the_next_question_works(filled):
    engine = GatedEngine("The casing bolts are tightened to 38 Nm [1].")
    filled.open_engine = lambda: engine
    async with filled.app().run_test(size=(160, 45)) as pilot:
        pilot.app.main.query_one(QuestionLine).text = QUESTION
        await pilot.press("enter")
        await until(pilot, engine.has_begun.is_set, "the engine")
        await pilot.press("escape")
        turn = pilot.app.main.turns[0]
        assert turn.phase is Phase.STOPPED  # at once, whatever the engine does
        assert "stopped" in pilot.app.main.query_one(".note").content.plain
        await until(pilot, engine.was_cancelled.is_set, "the engine was told")
        engine.gate.set()
        await asked(pilot, QUESTION)
        assert pilot.app.main.turns[1].phase is Phase.DONE
        assert turn.phase is Phase.STOPPED and turn.answer is None


async def test_a_new_question_stops_the_one_before(filled):
    engine = GatedEngine("The seal is replaced every 4000 hours [1].")
    filled.open_engine = lambda: engine
    async with filled.app().run_test(size=(160, 45)) as pilot:
        pilot.app.main.query_one(QuestionLine).text = QUESTION
        await pilot.press("enter")
        await until(pilot, engine.has_begun.is_set)
        pilot.app.main.query_one(QuestionLine).text = "When is the seal replaced?"
        await pilot.press("enter")
        engine.gate.set()
        await until(pilot, lambda: not pilot.app.answering.is_running)
        assert [t.phase for t in pilot.app.main.turns] == [Phase.STOPPED, Phase.DONE]


async def test_a_dead_engine_is_an_error_and_a_banner_and_ctrl_r_reloads(filled):
    class DeadEngine(ScriptedEngine):
        def generate(self, *args, **kwargs):
            raise EngineDied("the engine ended: [/] out of memory")
            yield

    engines = [DeadEngine(["x"]), filled.engine]
    filled.open_engine = lambda: engines.pop(0)
    async with filled.app().run_test(size=(160, 45)) as pilot:
        await asked(pilot, QUESTION)
        turn = pilot.app.main.turns[0]
        assert turn.phase is Phase.FAILED and turn.text == "" and turn.answer is None
        assert "✗ error: the engine ended: [/]" in pilot.app.main.query_one(".note").content.plain
        banner = pilot.app.main.query_one("#banner")
        await until(pilot, lambda: banner.display, "the banner")
        assert "Ctrl+R" in banner.content.plain
        # What Ctrl+R does once the model's process can be started again:
        filled.workspace.change_engine(filled.open_engine, filled.workspace.config)
        pilot.app.load_model()
        await until(pilot, lambda: not banner.display, "the banner goes")
        await asked(pilot, QUESTION)
        assert pilot.app.main.turns[1].phase is Phase.DONE


async def test_a_model_that_cannot_be_loaded_leaves_the_app_alive(filled):
    def refuse():
        raise EngineDied("no such model")

    filled.open_engine = refuse
    async with filled.app().run_test(size=(160, 45)) as pilot:
        await until(pilot, lambda: pilot.app.main.query_one("#banner").display, "the banner")
        await asked(pilot, QUESTION)
        assert pilot.app.main.turns[0].phase is Phase.FAILED
        assert pilot.app.main.turns[0].candidates  # retrieval still worked


async def test_an_unexpected_exception_is_an_error_with_its_text(filled):
    class OddEngine(ScriptedEngine):
        def generate(self, *args, **kwargs):
            raise ZeroDivisionError("seventeen")
            yield

    filled.open_engine = lambda: OddEngine(["x"])
    async with filled.app().run_test(size=(160, 45)) as pilot:
        await asked(pilot, QUESTION)
        turn = pilot.app.main.turns[0]
        assert turn.error == "ZeroDivisionError: seventeen" and "generate" in turn.detail


async def test_no_evidence_is_said_as_such(filled):
    async with filled.app().run_test(size=(160, 45)) as pilot:
        await asked(pilot, "Who won the football championship?")
        turn = pilot.app.main.turns[0]
        assert turn.answer is not None and not turn.answer.found
        assert "no evidence" in pilot.app.main.query_one(".note").content.plain


async def test_a_scan_of_the_log_opens_at_its_line(filled):
    async with filled.app().run_test(size=(160, 45)) as pilot:
        await asked(pilot, "When did the first ERROR happen?")
        turn = pilot.app.main.turns[0]
        assert turn.answer.kind is AnswerKind.SCAN
        await pilot.press("escape", "1")
        lines = pilot.app.main.query_one(LineView)
        await until(pilot, lambda: lines.marked, "the lines")
        assert lines.marked == range(50, 51)
        assert pilot.app.main.query_one("#evidence-tabs").active == "tab-lines"


async def test_questions_are_limited_to_marked_documents(filled):
    async with filled.app().run_test(size=(160, 45)) as pilot:
        await until(pilot, lambda: pilot.app.documents, "the documents")
        panel = pilot.app.main.query_one("#documents")
        panel.focus()
        await pilot.press("down", "space")
        assert [d.path.endswith("service.log") for d in pilot.app.main.marked_documents()] == [True]
        assert "service.log" in str(pilot.app.main.query_one(QuestionLine).border_subtitle)
        await asked(pilot, QUESTION)
        assert not pilot.app.main.turns[0].answer.found  # the manual was not looked at
        assert pilot.app.main.turns[0].scope == ("service.log",)


async def test_history_multi_line_and_draft(filled):
    async with filled.app().run_test(size=(160, 45)) as pilot:
        line = pilot.app.main.query_one(QuestionLine)
        await asked(pilot, "first question about bolts")
        line.focus()
        await pilot.press("a", "ctrl+j", "b")
        assert line.text == "a\nb"
        await pilot.press("up", "up")
        assert line.text == "first question about bolts"
        await pilot.press("down")
        assert line.text == "a\nb"


@pytest.mark.parametrize("size", [(80, 24), (250, 70), (40, 12)])
async def test_every_size_answers_and_shows_the_citation(filled, size):
    async with filled.app().run_test(size=size) as pilot:
        await asked(pilot, QUESTION)
        await pilot.press("escape", "1")
        pane = pilot.app.main.query_one(EvidencePane)
        await until(pilot, lambda: pane.view is not None)
        assert pane.display and pane.region.width > 30
        if size[0] < 110:  # one pane at a time: the keys are the evidence's
            await until(pilot, lambda: pane.has_focus_within)
        await pilot.press("escape")
        assert pilot.app.main.query_one(Transcript).region.width > 30
