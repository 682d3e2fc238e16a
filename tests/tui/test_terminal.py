"""Nothing that a terminal obeys comes from a document, a name, a model: in a real terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import random
import re
import select
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest
from rich.segment import Segment
from rich.style import Style
from textual.color import Color

from tests.tui.hostile import FAMILIES, SINKS
from tui.plain import EdgeFilter, assembled, cell, plain, plain_line, shortened

ROOT = Path(__file__).parents[2]
# What Textual itself sends: colours, cursor, modes, queries of modes, the keyboard protocol, the
# shape of the pointer.
OWN = re.compile(
    rb"\x1b\[[0-9;:]*[mHABCDJK]|\x1b\[[?<>=][0-9;:]*\$?[hlupmc]|\x1b\[[<>]?u|\x1b\[\?1u|\x1b\]22;[a-z-]+\x07"
)
BAD = {
    *map(chr, range(0x20)),
    "\x7f",
    *map(chr, range(0x80, 0xA0)),
    *"\u200b\u200e\u200f\u061c\ufeff",
    *map(chr, range(0x2028, 0x202F)),
    *map(chr, range(0x2060, 0x2070)),
    *map(chr, range(0xE0000, 0xE0080)),
}


def run_in_terminal(
    arguments: list[str], rows: int, columns: int, timeout_s: float, *, no_color: bool = False
) -> bytes:
    """Return everything that a program sends to its terminal."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor"}
    environment.pop("NO_COLOR", None)
    if no_color:
        environment["NO_COLOR"] = "1"
    process = subprocess.Popen(
        arguments,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        cwd=ROOT,
        env=environment,
        start_new_session=True,
    )
    os.close(slave)
    sent = bytearray()
    deadline = time.monotonic() + timeout_s
    try:
        while time.monotonic() < deadline:
            if not select.select([master], [], [], 0.2)[0]:
                if process.poll() is not None:
                    break
                continue
            try:
                piece = os.read(master, 65_536)
            except OSError:  # the other end is closed
                break
            if not piece:
                break
            sent += piece
        process.wait(20)
    finally:
        process.kill()
        os.close(master)
    return bytes(sent)


@pytest.fixture(scope="module")
def sent(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("hostile")
    raw = run_in_terminal([sys.executable, "-m", "tests.tui.hostile", str(folder)], 70, 400, 280)
    problems = folder / "problems"
    assert problems.exists(), OWN.sub(b"", raw)[-3000:].decode("utf-8", "replace")
    assert problems.read_text() == ""
    return OWN.sub(b"", raw).decode("utf-8", "replace")


@pytest.mark.timeout(400)
def test_no_sequence_of_any_family_reaches_the_terminal_from_any_sink(sent):
    left = {repr(c) for c in sent if c in BAD - {"\r", "\n"}}
    around = [
        sent[max(0, m.start() - 40) : m.end() + 20] for m in re.finditer("[\x1b\x9b\x9d]", sent)
    ]
    assert not left, (left, around[:3])


@pytest.mark.timeout(400)
def test_every_sink_was_drawn(sent):
    assert [name for name in SINKS if f"<{name}>" not in sent] == []
    assert "␛]52;c;" in sent and "hijack7731" in sent  # as signs, for all to see


def drawn(folder: Path, *arguments: str, timeout_s: float, no_color: bool = False) -> bytes:
    """Return what the app of tests/tui/hostile.py sent; it must have ended well."""
    command = [sys.executable, "-m", "tests.tui.hostile", str(folder), *arguments]
    raw = run_in_terminal(command, 50, 160, timeout_s, no_color=no_color)
    problems = folder / "problems"
    assert problems.exists(), OWN.sub(b"", raw)[-3000:].decode("utf-8", "replace")
    assert problems.read_text() == ""
    return raw


@pytest.mark.slow
@pytest.mark.timeout(1000)
def test_a_hundred_thousand_random_strings_in_a_real_terminal(tmp_path):
    raw = drawn(tmp_path, "lines", "100000", timeout_s=900)
    sent = OWN.sub(b"", raw).decode("utf-8", "replace")
    assert "<end>" in sent and "100000 " in sent  # the last line was drawn, with its number
    assert not {repr(c) for c in sent if c in BAD - {"\r", "\n"}}


@pytest.mark.timeout(200)
@pytest.mark.parametrize("no_color", [False, True])
def test_with_no_color_everything_is_grey(tmp_path, no_color):
    raw = drawn(tmp_path, "colours", timeout_s=150, no_color=no_color)
    rgb = re.findall(rb"[34]8;2;(\d+);(\d+);(\d+)", raw)
    coloured = {colour for colour in rgb if len(set(colour)) > 1}
    others = re.sub(rb"[34]8;2;\d+;\d+;\d+", b"", raw)
    named = re.findall(
        rb"\x1b\[(?:[0-9]*;)*(?:3[1-6]|4[1-6]|9[1-6]|10[1-6]|[34]8;5)(?:;[0-9]*)*m", others
    )
    assert len(rgb) > 50 and b"harmless" in raw
    assert bool(coloured) is not no_color, coloured
    assert not named
    # What colours say is said by signs too: the state of a document, a warning, the quote.
    for sign in ("✗", "!", "●"):
        assert sign.encode() in raw


def test_a_hundred_thousand_random_strings_leave_nothing():
    rng = random.Random(7)
    alphabet = [*BAD, *"[]/\\;:@=bold click 0123456789mHq", "é", "漢", "\u0301", "\ud800", "🎉"]
    edge, background = EdgeFilter(), Color(0, 0, 0)
    ways = (
        lambda s: plain(s).plain,
        lambda s: plain_line(s, "bold").plain,
        lambda s: assembled(s, (s, "italic")).plain,
        lambda s: cell(s).plain,
        lambda s: shortened(s, 50),
        lambda s: "".join(t.text for t in edge.apply([Segment(s)], background)),
    )
    forbidden = BAD - {"\n", "\t"} | {"\ud800"}
    for number in range(100_000):
        text = "".join(rng.choices(alphabet, k=rng.randrange(1, 24)))
        shown = ways[number % len(ways)](text)
        assert forbidden.isdisjoint(shown), (text, shown)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_sequence_split_at_any_character_is_as_harmless(family):
    text = FAMILIES[family]
    for at in range(len(text) + 1):
        shown = assembled(text[:at], (text[at:], "bold")).plain
        assert (BAD - {"\n", "\t"}).isdisjoint(shown)


def test_the_edge_drops_links_and_keeps_images():
    edge = EdgeFilter()
    linked = Segment("x", Style(link="http://somewhere"))
    image = Segment("\x1b_Gdata\x1b\\", None, [(1,)])
    first, second = edge.apply([linked, image], Color(0, 0, 0))
    assert first.style is not None and first.style.link is None
    assert second.text == "\x1b_Gdata\x1b\\"
