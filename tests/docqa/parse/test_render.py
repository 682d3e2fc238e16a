"""Page images from the process that draws them, and the boxes of a quote."""

from pathlib import Path

import pytest

from docqa.errors import UnreadableFile
from docqa.parse.quote_boxes import PageWord, boxes_of_quote
from docqa.parse.render import PageRenderer

MANUAL = Path(__file__).parents[3] / "sample_docs" / "pump_manual.pdf"


def words_of(*lines: str) -> list[PageWord]:
    """Ten units a letter, twenty a line."""
    found = []
    for row, line in enumerate(lines):
        x = 0.0
        for text in line.split():
            found.append(PageWord(x, 20.0 * row, x + 10 * len(text), 20.0 * row + 15, text))
            x += 10 * (len(text) + 1)
    return found


def test_a_quote_over_two_lines_is_two_boxes():
    words = words_of("the pump shall main-", "tain pressure always")
    assert boxes_of_quote(words, "shall maintain pressure") == [
        (90.0, 0.0, 200.0, 15.0),
        (0.0, 20.0, 130.0, 35.0),
    ]


def test_a_table_row_with_its_column_names_is_found_by_its_words():
    words = words_of("Joint Thread Torque", "Casing bolts M10 38 Nm", "Drain plug G3 20 Nm")
    boxes = boxes_of_quote(words, "Joint: Drain plug | Thread: G3 | Torque: 20 Nm")
    assert boxes == [(0.0, 40.0, 190.0, 55.0)]


def test_a_quote_that_is_not_there_has_no_box():
    assert boxes_of_quote(words_of("nothing of the kind"), "quarterly revenue fell") == []
    assert boxes_of_quote([], "words") == []
    assert boxes_of_quote(words_of("words"), " .,") == []


def test_a_page_is_drawn_with_the_quote_boxed():
    renderer = PageRenderer()
    try:
        image = renderer.draw(MANUAL, 20, 400, "Tightening torques, threads lightly oiled")
        assert (image.width, image.n_pages) == (400, 26)
        assert len(image.rgb) == image.width * image.height * 3
        assert len(image.boxes) == 1
        x0, y0, x1, y1 = image.boxes[0]
        assert 0 < x0 < x1 < image.width and 0 < y0 < y1 < image.height
        pid = renderer.pid
        with pytest.raises(UnreadableFile, match="has 26 pages"):
            renderer.draw(MANUAL, 99, 100)
        assert renderer.pid == pid  # a bad request is no reason for a new process
    finally:
        renderer.close()


def test_a_broken_file_is_a_sentence_and_the_next_page_is_drawn(tmp_path):
    broken = tmp_path / "broken.pdf"
    broken.write_bytes(b"%PDF-1.7\nno")
    renderer = PageRenderer()
    try:
        with pytest.raises(UnreadableFile, match="could not be drawn"):
            renderer.draw(broken, 1, 100)
        assert renderer.draw(MANUAL, 1, 64).width == 64
    finally:
        renderer.close()


def test_a_page_that_takes_too_long_is_given_up():
    renderer = PageRenderer(timeout_s=0.001)
    try:
        with pytest.raises(UnreadableFile, match="took too long"):
            renderer.draw(MANUAL, 1, 2400)
        assert renderer.pid is None
    finally:
        renderer.close()
