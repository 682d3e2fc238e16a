"""A long session is not mounted whole; an answer asks for a layout only when it is higher."""

from __future__ import annotations

from tests.tui.test_ask import QUESTION
from tests.tui.waiting import asked, until
from tui.evidence import EvidencePane
from tui.sessions import turns_of
from tui.transcript import MAX_VIEWS, N_VIEWS, Earlier, Transcript, TurnView
from tui.turns import Phase, Turn


def shown(pilot) -> list[str]:
    return [view.turn.question for view in pilot.app.main.query(TurnView)]


async def many_turns(pilot, n: int) -> Transcript:
    """Resume a session of `n` turns whose questions are their numbers."""
    await asked(pilot, QUESTION)
    turns = turns_of([pilot.app.main.turns[0].answer] * n)
    for number, turn in enumerate(turns):
        turn.question = str(number)
    pilot.app.main.show_turns(turns)
    await until(pilot, lambda: shown(pilot) == [str(i) for i in range(n - N_VIEWS, n)])
    return pilot.app.main.query_one(Transcript)


async def test_earlier_turns_are_shown_when_they_are_scrolled_to(filled):
    async with filled.app().run_test(size=(160, 45)) as pilot:
        transcript = await many_turns(pilot, 100)
        earlier = transcript.query_one(Earlier)
        assert earlier.display and f"{100 - N_VIEWS} earlier turns" in earlier.content.plain
        await until(pilot, lambda: transcript.scroll_y == transcript.max_scroll_y)
        transcript.focus()
        await pilot.press("home")
        await until(pilot, lambda: len(shown(pilot)) == 2 * N_VIEWS, "the turns before")
        assert shown(pilot)[0] == str(100 - 2 * N_VIEWS)
        assert f"{100 - 2 * N_VIEWS} earlier turns" in earlier.content.plain
        await until(pilot, lambda: transcript.scroll_y > 0, "what was in sight stays in sight")
        first_before = next(v for v in transcript.views if v.turn.question == str(100 - N_VIEWS))
        assert abs(first_before.region.y - transcript.region.y) <= 2
        earlier.focus()
        await pilot.press("enter")
        await until(pilot, lambda: len(shown(pilot)) >= 3 * N_VIEWS, "some more")


async def test_only_the_last_turns_stay_when_more_are_asked(filled):
    async with filled.app().run_test(size=(160, 45)) as pilot:
        transcript = await many_turns(pilot, N_VIEWS)
        assert not transcript.query_one(Earlier).display
        for number in range(N_VIEWS, MAX_VIEWS + 1):
            pilot.app.main.begin_turn(Turn(str(number), phase=Phase.DONE))
        last = [str(i) for i in range(MAX_VIEWS + 1 - N_VIEWS, MAX_VIEWS + 1)]
        await until(pilot, lambda: shown(pilot) == last, "the last turns")
        assert len(pilot.app.main.turns) == MAX_VIEWS + 1
        await pilot.press("escape", "1")  # the citation of a turn that is not mounted any more
        pane = pilot.app.main.query_one(EvidencePane)
        await until(pilot, lambda: pane.view is not None, "the passage")
        assert pane.place.marker == 1


async def test_words_that_need_no_more_room_ask_for_no_layout(filled):
    async with filled.app().run_test(size=(160, 45)) as pilot:
        main = pilot.app.main
        await until(pilot, lambda: main.is_laid_out)
        turn = Turn("What now?", phase=Phase.WRITING, text="One word")
        main.begin_turn(turn)
        view = main.query_one(TurnView)
        await until(pilot, lambda: view.query(".answer"))
        answer = view.query_one(".answer")
        await until(pilot, lambda: answer.size.height == 1, "the answer")
        layouts: list[object] = []
        main.screen_layout_refresh_signal.subscribe(main, layouts.append)
        turn.text += " and two"
        view.show()
        await pilot.pause()
        await until(pilot, lambda: "and two" in str(answer.render_line(0).text), "the words")
        assert not layouts
        turn.text += " and many more" * 40
        view.show()
        await until(pilot, lambda: answer.size.height > 3, "the lines")
        assert layouts
        assert answer.content.plain == turn.text


async def test_the_end_is_followed_until_the_user_scrolls_up(filled):
    async with filled.app().run_test(size=(100, 30)) as pilot:
        transcript = await many_turns(pilot, N_VIEWS)
        main = pilot.app.main
        turn = Turn("What now?", phase=Phase.WRITING)
        main.begin_turn(turn)
        for _ in range(3):
            turn.text += "a line\n" * 10
            height = transcript.virtual_size.height
            main.refresh_turn(turn)
            await until(pilot, lambda: transcript.virtual_size.height >= height + 9, "the lines")  # noqa: B023
            await until(pilot, lambda: transcript.scroll_y == transcript.max_scroll_y, "the end")
        transcript.focus()
        await pilot.press("pageup")
        await until(pilot, lambda: transcript.scroll_y < transcript.max_scroll_y - 10, "above")
        await until(pilot, lambda: not transcript.is_scrolling, "where the user wants it")
        at, height = transcript.scroll_y, transcript.virtual_size.height
        turn.text += "a line\n" * 10
        main.refresh_turn(turn)
        await until(pilot, lambda: transcript.virtual_size.height > height, "the lines")
        assert transcript.scroll_y == at
        main.begin_turn(Turn("And now?", phase=Phase.DONE))
        await until(pilot, lambda: transcript.scroll_y == transcript.max_scroll_y, "the end")


async def test_a_short_conversation_begins_at_the_top(filled):
    async with filled.app().run_test(size=(100, 30)) as pilot:
        await asked(pilot, QUESTION)
        transcript = pilot.app.main.query_one(Transcript)
        view = pilot.app.main.query_one(TurnView)
        assert transcript.scroll_y == 0
        assert view.region.y == transcript.region.y


async def test_a_row_more_of_an_answer_is_one_layout(filled):
    async with filled.app().run_test(size=(100, 30)) as pilot:
        main = pilot.app.main
        await until(pilot, lambda: main.is_laid_out)
        turn = Turn("How?", phase=Phase.WRITING)
        main.begin_turn(turn)
        answer = "#conversation .answer"
        await until(pilot, lambda: main.query(answer), "the turn")
        layouts: list[object] = []
        main.screen_layout_refresh_signal.subscribe(main, layouts.append)
        for n_rows in (2, 3):
            turn.text = "\n".join("abc"[:n_rows])
            await pilot.pause(0.3)
            layouts.clear()
            main.refresh_turn(turn)
            await until(pilot, lambda: main.query_one(answer).size.height == n_rows)  # noqa: B023
            await pilot.pause(0.3)
            assert len(layouts) == 1
