"""The page of a citation in terminals that show pixels, and in those that do not.

The app runs in a real pseudo-terminal whose other end plays the terminal: it answers what such a
terminal answers, and keeps all that it is sent.
"""

from __future__ import annotations

import base64
import io
import re

import pytest
from PIL import Image

from tests.tui.pretend import Terminal
from tui.page_images import MAX_KITTY_CELLS, widest_columns
from tui.terminal import DEFAULT_CELL_PX, read_answers

GRAPHICS = re.compile(rb"\x1b_G([^;\x1b]*);?([^\x1b]*)\x1b\\")
SIXEL = re.compile(rb"\x1bP[\d;]*q[^\x1b]*\x1b\\")
PLACEHOLDER = "\U0010eeee".encode()
BLOCK = "▀".encode()


@pytest.fixture
def opened(tmp_path):
    """Start the app with the page open; what it is to be asked of the terminal it is given."""
    terminals = []

    def open_page(note: bytes, **answers) -> Terminal:
        terminal = Terminal(**answers)
        terminals.append(terminal)
        terminal.start("tests.tui.paged", str(tmp_path))
        terminal.wait(b"page 20 of 26, " + note)
        return terminal

    yield open_page
    for terminal in terminals:
        terminal.close()


def images(sent: bytes) -> dict[bytes, bytes]:
    """Return the image files that were sent with the Kitty protocol, by their ids."""
    found: dict[bytes, bytes] = {}
    for keys, payload in GRAPHICS.findall(sent):
        named = dict(part.split(b"=", 1) for part in keys.split(b","))
        if named.get(b"f") == b"100":
            found[named[b"i"]] = found.get(named[b"i"], b"") + payload
    return {number: base64.b64decode(data) for number, data in found.items()}


def freed(sent: bytes) -> set[bytes]:
    """Return the ids of the images whose data the terminal was told to let go."""
    orders = (
        dict(p.split(b"=", 1) for p in keys.split(b",")) for keys, _ in GRAPHICS.findall(sent)
    )
    return {o[b"i"] for o in orders if o.get(b"a") == b"d" and o.get(b"d") == b"I"}


def has_orange(image: Image.Image) -> bool:
    """Whether the box around the cited words is on the page."""
    colours = image.convert("RGB").getcolors(1 << 24) or []
    return any(r > 200 and b < 140 for _, (r, _, b) in colours)


@pytest.mark.timeout(200)
def test_a_kitty_terminal_gets_the_page_and_lets_it_go(opened):
    terminal = opened(b"kitty", has_kitty=True, attributes=b"\x1b[?62;c", cell=b"\x1b[6;18;9t")
    first = terminal.wait(PLACEHOLDER)
    shown = list(images(first).items())
    number, data = shown[-1]
    image = Image.open(io.BytesIO(data))
    assert image.width % 9 == 0 and image.width > 300  # as wide as its cells
    assert has_orange(image)
    red, green, blue = (int(number) >> shift & 255 for shift in (16, 8, 0))
    assert b"38;2;%d;%d;%d" % (red, green, blue) in first  # its cells name it by their colour
    assert BLOCK not in first
    before = len(terminal.sent)
    terminal.press(b".")
    second = terminal.wait(b"page 21 of 26", PLACEHOLDER, after=before)
    (*_, (other, turned)) = images(second).items()
    assert other != number and not has_orange(Image.open(io.BytesIO(turned)))
    assert number in freed(second) and other not in freed(second)
    assert terminal.quit() == 0
    sent = bytes(terminal.sent)
    assert freed(sent) == set(images(sent))  # nothing is left behind


@pytest.mark.timeout(200)
def test_a_sixel_terminal_gets_the_page(opened):
    terminal = opened(b"sixel", attributes=b"\x1b[?62;1;4;22c", cell=b"\x1b[6;20;10t")
    first = terminal.wait(SIXEL.pattern)
    (*_, drawn) = SIXEL.findall(first)
    assert len(drawn) > 5_000 and b'"1;1;' in drawn
    # The cursor goes to the page first; as a sign, it would be drawn as text.
    assert re.search(rb"\x1b\[\d+;\d+H(?:\x1b\[\d*m)*\x1bP", first)
    assert "␛".encode() not in first
    before = len(terminal.sent)
    terminal.press(b".")
    terminal.wait(b"page 21 of 26", after=before)
    terminal.until(lambda sent: SIXEL.findall(sent)[-1:] not in ([], [drawn]), after=before)
    assert terminal.quit() == 0


@pytest.mark.timeout(200)
def test_iterm_is_a_sixel_terminal(opened):
    iterm = {"TERM_PROGRAM": "iTerm.app", "LC_TERMINAL": "iTerm2"}
    attributes = b"\x1b[?64;1;2;4;6;17;18;21;22c"
    terminal = opened(b"sixel", attributes=attributes, environment=iterm)
    terminal.wait(SIXEL.pattern)
    assert terminal.quit() == 0


@pytest.mark.timeout(200)
def test_a_terminal_that_answers_nothing_gets_half_blocks_and_no_key_is_lost(opened):
    terminal = opened(b"half blocks", typed="wie groß?".encode())
    sent = terminal.wait(BLOCK, "wie groß".encode())
    assert not SIXEL.search(sent) and not images(sent)
    assert terminal.quit() == 0


@pytest.mark.timeout(200)
def test_a_slow_line_is_waited_for_and_its_answers_are_no_keys(opened):
    remote = {"SSH_CONNECTION": "192.0.2.1 5 192.0.2.2 22"}
    attributes = b"\x1b[?62;4c"
    terminal = opened(b"sixel", attributes=attributes, delay_s=0.6, environment=remote)
    terminal.wait(SIXEL.pattern)
    assert terminal.quit() == 0
    assert b"62;4c" not in terminal.sent


@pytest.mark.timeout(200)
def test_in_tmux_the_kitty_question_is_not_asked(opened):
    terminal = opened(
        b"half blocks", attributes=b"\x1b[?1;2c", environment={"TERM": "tmux-256color"}
    )
    assert terminal.quit() == 0
    assert b"\x1b_G" not in terminal.sent  # tmux would make it the title of its pane


def test_answers_are_read_whatever_stands_between_them():
    read = read_answers(b"a\x1b_Gi=7731;OK\x1b\\b\x1b[6;18;9tc\x1b[?62;22cd\xff")
    assert (read.has_kitty, read.has_sixel, read.cell_px, read.typed) == (
        True,
        False,
        (9, 18),
        "abcd",
    )
    refused = read_answers(b"\x1b_Gi=7731;EINVAL:no\x1b\\\x1b[6;0;0t\x1b[?1;2;4c")
    assert (refused.has_kitty, refused.has_sixel) == (False, True)
    assert refused.cell_px == DEFAULT_CELL_PX
    cut = read_answers(b"x\x1b[?62;", (8, 16))
    assert (cut.has_sixel, cut.cell_px, cut.typed) == (False, (8, 16), "x")


@pytest.mark.parametrize("shape", [(600, 850), (600, 20_000), (20_000, 600), (1, 90_000)])
def test_no_page_has_more_cells_than_the_protocol_can_number(shape):
    columns = widest_columns(*shape, (9, 18))
    rows = columns * 9 * shape[1] / shape[0] / 18
    assert 1 <= columns <= MAX_KITTY_CELLS
    assert rows <= MAX_KITTY_CELLS or columns == 1
