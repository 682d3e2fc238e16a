"""The app in the plainest terminals, and in a locale without UTF-8, in a real pseudo-terminal."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from tests.tui.pretend import Terminal
from tui.locale_signs import sign_of

LATIN_1 = "en_US.ISO-8859-1"
# The plainest terminals: what each is, and what it answers.
PLAIN_TERMINALS = {
    "xterm": ({"TERM": "xterm"}, b"\x1b[?64;1;2;6;9;15;18;21;22c"),
    "screen": ({"TERM": "screen-256color"}, b"\x1b[?1;2c"),
    "linux": ({"TERM": "linux"}, b"\x1b[?6c"),
    "posix": ({"TERM": "xterm", "LC_ALL": "POSIX"}, b"\x1b[?1;2c"),
    "no size": ({"TERM": "vt100"}, None),
}


def looked_at(folder, environment, attributes, size=(24, 80), typed: bytes = b"") -> bytes:
    """Start on an empty library, show it, leave; return what was sent."""
    folders = {
        "DOCQA_LIBRARY": str(folder / "library"),
        "XDG_CONFIG_HOME": str(folder),
        "COLORTERM": "",
    }
    terminal = Terminal(attributes=attributes, environment=environment | folders, size=size)
    try:
        terminal.start("docqa", "tui")
        terminal.wait(b"Your library is empty")
        if typed:
            terminal.press(typed)
            terminal.wait(typed)
        terminal.press(b"\x1bOQ")  # F2
        terminal.wait(b"Filter")
        assert terminal.quit() == 0
    finally:
        terminal.close()
    sent = bytes(terminal.sent)
    assert b"Traceback" not in sent and b"\x1b[?1049l" in sent  # the screen is given back
    return sent


@pytest.mark.timeout(200)
@pytest.mark.parametrize("name", PLAIN_TERMINALS)
def test_the_library_is_shown_in_the_plainest_terminals(name, tmp_path):
    environment, attributes = PLAIN_TERMINALS[name]
    size = (0, 0) if name == "no size" else (24, 80)
    sent = looked_at(tmp_path, environment, attributes, size).decode("utf-8")  # every sign whole
    assert "\ufffd" not in sent and "\\u" not in sent


@pytest.mark.timeout(200)
@pytest.mark.skipif(shutil.which("localedef") is None, reason="no localedef to make a locale with")
def test_a_latin_1_locale_gets_its_own_letters_and_signs_of_ascii(tmp_path):
    command = ["localedef", "-i", "en_US", "-f", "ISO-8859-1", str(tmp_path / LATIN_1)]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"the locale cannot be made: {made.stderr}")
    environment = {"TERM": "xterm", "LC_ALL": LATIN_1, "LOCPATH": str(tmp_path)}
    known = {**os.environ, **environment}
    said = subprocess.run(["locale", "charmap"], capture_output=True, text=True, env=known)
    assert said.stdout.strip() == "ISO-8859-1"
    sent = looked_at(tmp_path, environment, b"\x1b[?1;2c", typed=b"caf\xe9")
    assert b"\\u" not in sent and b"\xe2\x94" not in sent
    assert b"----" in sent and b"|" in sent


def test_signs_are_as_wide_as_what_they_stand_for():
    assert [sign_of(c) for c in "─│╭✗…漢ж\u0301"] == ["-", "|", "+", "x", ".", "??", "?", ""]
