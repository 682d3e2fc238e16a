"""The library screen, indexing in the background, and what is left after closing in the middle."""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from pathlib import Path

from rich.cells import cell_len

from docqa.events import FileDone
from docqa.types import State
from tests.tui.conftest import LOG, MANUAL
from tests.tui.waiting import until
from tui.dialogs import AddScreen, ConfirmScreen, path_completions
from tui.documents_panel import MAX_SHOWN, DocumentsPanel
from tui.library import MAX_ROWS, LibraryScreen, folders_of, matches
from tui.messages import PathsDropped
from tui.plain import middle_cut
from tui.question import QuestionLine, dropped_paths


def shown_rows(app) -> list[str]:
    """Return the names in the table; none before it is laid out."""
    if not app.screen.query("#library-table"):
        return []
    table = app.screen.query_one("#library-table")
    return [table.get_row_at(i)[2].plain for i in range(table.row_count)]


async def test_documents_with_state_size_and_filter(filled):
    async with filled.app().run_test(size=(160, 45)) as pilot:
        await until(pilot, lambda: pilot.app.documents)
        await pilot.press("f2")
        await until(pilot, lambda: isinstance(pilot.app.screen, LibraryScreen))
        await until(pilot, lambda: shown_rows(pilot.app) == ["manual.md", "service.log"])
        row = pilot.app.screen.query_one("#library-table").get_row_at(1)
        assert [c.plain for c in row[1:5]] == [
            "✓ indexed",
            "service.log",
            "600 lines",
            row[4].plain,
        ]
        assert int(row[4].plain) > 0
        await pilot.press("slash", *"serv")
        await until(pilot, lambda: shown_rows(pilot.app) == ["service.log"])
        await pilot.press("escape")
        assert pilot.app.screen.query_one("#library-table").has_focus


async def test_a_broken_file_has_its_reason_and_what_to_do(stage):
    bad = stage.folder / "broken.pdf"
    bad.write_bytes(b"%PDF-1.7\nnothing")
    async with stage.app(bad).run_test(size=(160, 45)) as pilot:
        await until(pilot, lambda: pilot.app.documents, "the failed document")
        await until(pilot, lambda: not pilot.app.indexing.state.is_running)
        assert pilot.app.documents[0].state is State.FAILED
        await pilot.press("f2")
        await until(pilot, lambda: isinstance(pilot.app.screen, LibraryScreen))
        await until(pilot, lambda: pilot.app.screen.query("#library-details"))
        shown = pilot.app.screen.query_one("#library-details")
        await until(pilot, lambda: "✗ failed" in str(shown.content), "the details")
        details = shown.content.plain
        assert pilot.app.documents[0].error in details
        assert "→ Repair or replace the file" in details


async def test_add_by_path_with_completion(stage):
    path = stage.write("handbook.md", MANUAL)
    async with stage.app().run_test(size=(160, 45)) as pilot:
        await pilot.press("escape", "a")
        await until(pilot, lambda: isinstance(pilot.app.screen, AddScreen))
        box = pilot.app.screen.query_one("#path")
        box.value = str(path.parent) + "/han"
        box.cursor_position = len(box.value)
        await pilot.press("tab")
        assert box.value == str(path)
        await pilot.press("enter")
        await until(pilot, lambda: [d.path for d in pilot.app.documents] == [str(path)])
        assert pilot.app.documents[0].state is State.INDEXED


async def test_a_path_that_is_not_there_is_said(stage):
    async with stage.app().run_test(size=(160, 45)) as pilot:
        await pilot.press("escape", "a", *"/nowhere/x", "enter")
        assert isinstance(pilot.app.screen, AddScreen)
        assert "no such file" in pilot.app.screen.query_one("#completions").content.plain


async def test_dropped_paths_are_added_and_other_text_is_pasted(stage):
    path = stage.write("a b.md", MANUAL)
    async with stage.app().run_test(size=(160, 45)) as pilot:
        line = pilot.app.main.query_one(QuestionLine)
        from textual import events

        line.post_message(events.Paste(f"'{path}'"))
        await until(pilot, lambda: [d.path for d in pilot.app.documents] == [str(path)])
        line.post_message(events.Paste("why\x1b[31m so?\r\nreally"))
        await until(pilot, lambda: line.text)
        assert line.text == "why␛[31m so?\nreally"


def test_paths_as_terminals_paste_them(tmp_path):
    first, second = tmp_path / "one two.pdf", tmp_path / "three.log"
    first.touch()
    second.touch()
    escaped = str(first).replace(" ", "\\ ")
    assert dropped_paths(f"{escaped} {second}") == (first, second)
    assert dropped_paths(f"'{first}'") == (first,)
    assert dropped_paths(f"{first}\n{second}\n") == (first, second)
    assert dropped_paths(f"file://{str(first).replace(' ', '%20')}") == (first,)
    assert dropped_paths("/why is this slow?") == ()
    assert dropped_paths(f"{second} and what else?") == ()
    assert PathsDropped((first,)).paths == (first,)


def test_completions_list_folders_with_a_slash(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "some.txt").touch()
    (tmp_path / ".hidden").touch()
    assert path_completions(f"{tmp_path}/s") == [f"{tmp_path}/some.txt", f"{tmp_path}/sub/"]
    assert path_completions(f"{tmp_path}/") == [f"{tmp_path}/some.txt", f"{tmp_path}/sub/"]
    assert path_completions(f"{tmp_path}/.h") == [f"{tmp_path}/.hidden"]
    assert path_completions("/no/such/folder/x") == []


async def test_remove_asks_first_and_leaves_the_file(filled):
    async with filled.app().run_test(size=(160, 45)) as pilot:
        await until(pilot, lambda: len(pilot.app.documents) == 2)
        path = Path(pilot.app.documents[0].path)
        await pilot.press("f2")
        await until(pilot, lambda: isinstance(pilot.app.screen, LibraryScreen))
        await pilot.press("d")
        await until(pilot, lambda: isinstance(pilot.app.screen, ConfirmScreen))
        await pilot.press("n")
        await until(pilot, lambda: isinstance(pilot.app.screen, LibraryScreen))
        assert len(filled.workspace.documents()) == 2
        await pilot.press("d")
        await until(pilot, lambda: isinstance(pilot.app.screen, ConfirmScreen))
        await pilot.press("y")
        await until(pilot, lambda: len(pilot.app.documents) == 1, "one document left")
        assert path.exists()


async def read_again(pilot, key: str) -> list[tuple[str, State]]:
    """Press a key of the library screen; return what became of the files that were looked at."""
    app = pilot.app
    await until(pilot, lambda: not app.indexing.state.is_running)
    before = app.indexing.state
    await pilot.press(key)
    await until(pilot, lambda: app.indexing.state is not before, "an indexing")
    await until(pilot, lambda: not app.indexing.state.is_running, "its end")
    return sorted((Path(r.path).name, r.state) for r in app.indexing.state.reports)


async def test_r_reads_the_document_under_the_cursor_again(filled):
    async with filled.app().run_test(size=(160, 45)) as pilot:
        await until(pilot, lambda: len(pilot.app.documents) == 2)
        await pilot.press("f2")
        await until(pilot, lambda: isinstance(pilot.app.screen, LibraryScreen))
        await until(pilot, lambda: shown_rows(pilot.app) == ["manual.md", "service.log"])
        await pilot.press("space")  # the question is limited to it, and stays so
        assert await read_again(pilot, "r") == [("manual.md", State.INDEXED)]
        progress = pilot.app.screen.query_one("#library-progress")
        await until(pilot, lambda: progress.content.plain == "1 file looked at")
        panel = pilot.app.main.query_one(DocumentsPanel)
        now = filled.workspace.documents()
        await until(pilot, lambda: panel.documents == now, "the list")
        assert panel.marked == {now[0].doc_id}
        await pilot.press("down")
        assert await read_again(pilot, "r") == [("service.log", State.INDEXED)]
        assert all(d.state is State.INDEXED and d.n_chunks for d in filled.workspace.documents())
        line = pilot.app.main.query_one(QuestionLine)
        assert str(line.border_subtitle) == "only in manual.md"
        await pilot.press("up", "d")
        await until(pilot, lambda: isinstance(pilot.app.screen, ConfirmScreen))
        await pilot.press("y")
        await until(pilot, lambda: str(line.border_subtitle) == "", "no mark any more")


async def test_capital_r_looks_at_every_path_that_was_added(filled):
    async with filled.app().run_test(size=(160, 45)) as pilot:
        await until(pilot, lambda: len(pilot.app.documents) == 2)
        await pilot.press("f2")
        await until(pilot, lambda: isinstance(pilot.app.screen, LibraryScreen))
        same = [("manual.md", State.UNCHANGED), ("service.log", State.UNCHANGED)]
        assert await read_again(pilot, "R") == same
        filled.write("manual.md", MANUAL.replace("38 Nm", "39 Nm"))
        assert await read_again(pilot, "R") == [("manual.md", State.INDEXED), same[1]]
        assert "39 Nm" in filled.workspace.text(Path(pilot.app.documents[0].path))


async def test_what_is_to_be_read_again_waits_behind_what_is_indexed(filled, monkeypatch):
    calls, gate = [], threading.Event()

    def sync(paths, *, cancel, again):
        calls.append(([path.name for path in paths], again))
        assert gate.wait(60)
        return iter(())

    async with filled.app().run_test(size=(160, 45)) as pilot:
        await until(pilot, lambda: len(pilot.app.documents) == 2)
        monkeypatch.setattr(filled.workspace, "sync", sync)
        indexing = pilot.app.indexing
        indexing.add([Path("/a")])
        indexing.add([Path("/b")], again=True)
        indexing.add([Path("/c"), Path("/b")])
        indexing.add([Path("/d")], again=True)
        assert indexing.state.n_waiting == 4
        gate.set()
        await until(pilot, lambda: len(calls) == 3 and not indexing.state.is_running)
    assert calls == [(["a"], False), (["b", "d"], True), (["c", "b"], False)]


async def test_closing_while_indexing_keeps_what_was_committed(stage):
    paths = [stage.write(f"part{i:02}.md", MANUAL.replace("38", str(i))) for i in range(12)]
    app = stage.app(*paths)
    async with app.run_test(size=(160, 45)) as pilot:
        await until(pilot, lambda: app.indexing.state.n_done >= 2, "two files")
        await pilot.press("ctrl+q")
    stage.workspace.close()
    stage.workspace = stage.opened()
    documents = stage.workspace.documents()
    assert 2 <= len(documents) <= 12
    assert all(d.state is State.INDEXED and d.n_chunks for d in documents), documents
    async with stage.app().run_test(size=(160, 45)) as pilot:
        await until(pilot, lambda: len(pilot.app.documents) == len(documents))


async def test_stop_keeps_what_was_committed_and_says_so(stage, monkeypatch):
    paths = [stage.write(f"log{i:02}.log", LOG.replace("step", f"step {i}")) for i in range(12)]
    sync = stage.workspace.sync

    def waits_after_a_file(paths, *, cancel, again):
        """Whatever this machine's speed: it is still indexing when it is told to stop."""
        for event in sync(paths, cancel=cancel, again=again):
            yield event
            if isinstance(event, FileDone):
                assert cancel.wait(60)

    monkeypatch.setattr(stage.workspace, "sync", waits_after_a_file)
    async with stage.app(*paths).run_test(size=(160, 45)) as pilot:
        app = pilot.app
        await until(pilot, lambda: app.indexing.state.n_done >= 1)
        app.indexing.stop()
        assert app.status.activity == "stopping …"
        await until(pilot, lambda: not app.indexing.state.is_running)
        assert app.status.activity == ""
        assert all(d.state is State.INDEXED for d in stage.workspace.documents())


async def test_the_empty_library_greets_and_offers_the_samples(stage):
    async with stage.app().run_test(size=(80, 24)) as pilot:
        welcome = pilot.app.main.query_one("#welcome")
        await until(pilot, lambda: welcome.content)
        assert "Your library is empty" in welcome.content.plain
        assert "sample documents" in welcome.content.plain


async def test_a_large_library_shows_its_first_and_says_how_many_more(filled):
    one = filled.workspace.documents()[0]
    many = [
        replace(one, doc_id=i, path=f"/archive/part{i // 500}/report{i:05}.md") for i in range(3000)
    ]
    async with filled.app().run_test(size=(160, 45)) as pilot:
        await until(pilot, lambda: pilot.app.main.is_laid_out)
        filled.workspace.documents = lambda: many
        pilot.app.refresh_documents()
        await until(pilot, lambda: len(pilot.app.documents) == 3000)
        panel = pilot.app.main.query_one(DocumentsPanel)
        last = panel.get_option_at_index(panel.option_count - 1).prompt.plain
        assert panel.option_count == MAX_SHOWN + 1 and f"{3000 - MAX_SHOWN:,} more" in last
        await pilot.press("f2")
        await until(pilot, lambda: isinstance(pilot.app.screen, LibraryScreen))
        table = pilot.app.screen.query_one("#library-table")
        await until(pilot, lambda: table.row_count == MAX_ROWS)
        assert f"{3000 - MAX_ROWS:,} more" in str(table.border_subtitle)
        table.move_cursor(row=700)
        assert one.n_chunks < 10
        many[700] = replace(many[700], n_chunks=7)
        pilot.app.refresh_documents()
        await until(pilot, lambda: table.get_row_at(700)[4].plain == "7", "the cell")
        assert table.cursor_row == 700
        await pilot.press("slash", *"report02999")
        await until(pilot, lambda: shown_rows(pilot.app) == ["report02999.md"])


async def test_a_flood_of_changes_is_not_a_flood_of_readings(filled):
    async with filled.app().run_test(size=(160, 45)) as pilot:
        await until(pilot, lambda: len(pilot.app.documents) == 2)
        read = []
        found = filled.workspace.documents()
        filled.workspace.documents = lambda: (read.append(1), list(found))[1]
        for _ in range(100):
            pilot.app.refresh_documents()
            await pilot.pause(0)
        found.pop()
        pilot.app.refresh_documents()
        await until(pilot, lambda: len(pilot.app.documents) == 1, "the last change is not lost")
        assert len(read) < 50


def test_long_names_are_cut_in_the_middle():
    name = "docugami-kg-rag__nih-clinical-trial-protocols__NCT06149832_Prot_000.pdf"
    cut = middle_cut(name, 30)
    assert len(cut) == 30 and cut.startswith("docugami") and cut.endswith("149832_Prot_000.pdf")
    assert middle_cut("short.pdf", 30) == "short.pdf"
    assert cell_len(middle_cut("漢字" * 30 + ".pdf", 20)) <= 20


def test_filter_words_and_folders(filled):
    manual, log = filled.workspace.documents()
    assert matches(manual, "MANUAL text") and not matches(log, "manual")
    assert matches(log, "indexed log")
    assert folders_of([manual, log]) == {os.path.dirname(manual.path): 2}  # noqa: PTH120
