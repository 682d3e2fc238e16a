"""PDF bombs: a bounded time, a bounded memory, a sentence, and the other files done."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from docqa.config import ParseConfig
from docqa.errors import FileError, UnreadableFile
from docqa.parse.render import PageRenderer
from docqa.parse.worker import ParseWorker
from docqa.protocols import ParseOptions
from docqa.types import DocumentInfo, PageInfo, State
from tests.hostile.conftest import Open, found, synced
from tests.hostile.make_pdfs import BOMBS, FONT, one_page, stream

OPTIONS = ParseOptions(ocr="never")
PARENT_GROWTH_BYTES = 200_000_000
# Those that are made and read in a moment; the others are large, or end by the clock.
QUICK = (
    *("form_in_itself", "glyph_in_itself", "pattern_in_itself", "huge_image", "predictor"),
    *("function_table", "huge_box", "count_lies", "same_page", "huge_size", "pages_in_themselves"),
    *("parent_of_itself", "outline_of_itself", "labels_of_themselves", "table_before_itself"),
    *("reference_of_itself", "object_stream_in_itself", "deep_array", "deep_dictionary"),
    *("deep_states",),
)
# What a person could read in these is read.
READABLE = frozenset(
    {"form_in_itself", "huge_box", "huge_size", "parent_of_itself", "outline_of_itself"}
    | {"labels_of_themselves", "table_before_itself", "reference_of_itself"}
    | {"object_stream_in_itself"}
)


def good(path: Path) -> Path:
    path.write_bytes(one_page(stream(b"BT /F 9 Tf 9 50 Td (A needle is here) Tj ET"), FONT))
    return path


def read(worker: ParseWorker, path: Path) -> tuple[str, str]:
    """Return the text that was read, and the error; the items must be whole in either case."""
    items, reason = [], ""
    try:
        for item in worker.parse(path, OPTIONS):
            items.append(item)
    except FileError as error:
        assert error.path == str(path)
        reason = error.reason
        assert 5 < len(reason) < 400 and "Traceback" not in reason
    else:
        assert isinstance(items[-1], DocumentInfo)
        pages = [item.page for item in items if isinstance(item, PageInfo)]
        assert pages == list(range(1, (items[-1].n_pages or 0) + 1))
    return " ".join(getattr(item, "text", "") for item in items), reason


def test_quick_bombs_are_read_or_refused_by_one_process(tmp_path: Path) -> None:
    before = psutil.Process().memory_info().rss
    read_well = set()
    with ParseWorker() as worker:
        for name in QUICK:
            path = tmp_path / f"{name}.pdf"
            path.write_bytes(BOMBS[name]())
            text, _ = read(worker, path)
            if "Some text" in text:
                read_well.add(name)
        assert worker.n_started == 1  # none of these even costs the process
        assert "needle" in read(worker, good(tmp_path / "good.pdf"))[0]
    assert read_well >= READABLE
    assert psutil.Process().memory_info().rss - before < PARENT_GROWTH_BYTES


def test_a_folder_of_bombs_is_done_with_and_the_good_files_answer(
    tmp_path: Path, open_workspace: Open
) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    for name in ("predictor", "pages_in_themselves", "same_page", "form_in_itself"):
        (docs / f"{name}.pdf").write_bytes(BOMBS[name]())
    good(docs / "a.pdf")
    good(docs / "z.pdf")
    workspace = open_workspace()
    reports = synced(workspace, docs)
    for name in ("predictor.pdf", "pages_in_themselves.pdf", "same_page.pdf"):
        assert reports[name].state is State.FAILED and reports[name].error
    for name in ("a.pdf", "z.pdf", "form_in_itself.pdf"):
        assert reports[name].state is State.INDEXED
    assert found(workspace, "needle") == {"a.pdf", "z.pdf"}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_bomb_that_never_ends_is_quarantined_and_left_alone(
    tmp_path: Path, open_workspace: Open
) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "nested_forms.pdf").write_bytes(BOMBS["nested_forms"]())
    good(docs / "z.pdf")
    workspace = open_workspace(page_timeout_s=10.0)
    for _ in range(2):  # the second time costs nothing
        reports = synced(workspace, docs)
        assert reports["nested_forms.pdf"].state is State.QUARANTINED
        assert "made no progress" in (reports["nested_forms.pdf"].error or "")
    assert found(workspace, "needle") == {"z.pdf"}


@pytest.mark.parametrize("name", ["huge_box", "nested_forms", "huge_image"])
def test_a_bomb_cannot_be_drawn_for_ever(tmp_path: Path, name: str) -> None:
    """The page view: an image of a bounded size, or a sentence."""
    path = tmp_path / f"{name}.pdf"
    path.write_bytes(BOMBS[name]())
    renderer = PageRenderer(ParseConfig(), timeout_s=2.0)
    try:
        image = renderer.draw(path, 1, 200)
        assert image.width * image.height < 50_000_000
    except UnreadableFile as error:
        assert "could not be drawn" in error.reason
    finally:
        renderer.close()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", BOMBS)
def test_every_bomb(tmp_path: Path, name: str) -> None:
    before = psutil.Process().memory_info().rss
    path = tmp_path / f"{name}.pdf"
    path.write_bytes(BOMBS[name]())
    made = psutil.Process().memory_info().rss - before
    with ParseWorker(ParseConfig(page_timeout_s=10.0, file_timeout_s=20.0)) as worker:
        read(worker, path)
        assert "needle" in read(worker, good(tmp_path / "good.pdf"))[0]
    assert psutil.Process().memory_info().rss - before < made + PARENT_GROWTH_BYTES


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_bomb_with_ocr(tmp_path: Path) -> None:
    for name in ("huge_scan", "huge_image", "flate_text"):
        (tmp_path / f"{name}.pdf").write_bytes(BOMBS[name]())
    with ParseWorker(ParseConfig(page_timeout_s=20.0)) as worker:
        for path in sorted(tmp_path.glob("*.pdf")):
            try:
                assert list(worker.parse(path, ParseOptions()))
            except FileError as error:
                assert error.reason
