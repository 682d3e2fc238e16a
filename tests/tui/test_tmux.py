"""The real app in tmux with the real default model: keys are sent, the screen is read."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.tui.conftest import MANUAL

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "sample_docs"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed"),
]


class Tmux:
    """One session of a tmux server of its own."""

    def __init__(self, folder: Path, size: tuple[int, int] = (160, 45)) -> None:
        self._socket = str(folder / "tmux.sock")
        self._folder = folder
        self._size = size

    def _tmux(self, *arguments: str) -> str:
        command = ["tmux", "-f", "/dev/null", "-S", self._socket, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.stdout

    def start(self, *arguments: str) -> None:
        environment = [
            f"DOCQA_LIBRARY={self._folder / 'library'}",
            f"XDG_CONFIG_HOME={self._folder / 'config'}",
            f"XDG_RUNTIME_DIR={self._folder}",
        ]
        command = [
            "env",
            "-u",
            "COLUMNS",
            "-u",
            "LINES",
            *environment,
            sys.executable,
            "-m",
            "docqa",
            "tui",
            *arguments,
        ]
        shell = f"cd {shlex.quote(str(ROOT))}; {shlex.join(command)}; echo code=$?; sleep 600"
        columns, rows = map(str, self._size)
        self._tmux("new-session", "-d", "-x", columns, "-y", rows, shell)

    def send(self, *keys: str) -> None:
        self._tmux("send-keys", *keys)
        time.sleep(0.4)  # Escape and a letter in one go would be Alt and the letter

    def type(self, text: str) -> None:
        self._tmux("send-keys", "-l", text)

    def screen(self) -> str:
        return self._tmux("capture-pane", "-p")

    def wait(self, *texts: str, timeout_s: float = 180) -> str:
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            screen = self.screen()
            if all(text in screen for text in texts):
                return screen
            time.sleep(0.1)
        raise AssertionError(f"never on the screen: {texts}\n{self.screen()}")

    def settled(self, quiet_s: float = 2, timeout_s: float = 30) -> str:
        """Return the screen once nothing has changed on it for `quiet_s`."""
        screen, since = self.screen(), time.monotonic()
        deadline = since + timeout_s
        while time.monotonic() - since < quiet_s and time.monotonic() < deadline:
            time.sleep(0.1)
            if (now := self.screen()) != screen:
                screen, since = now, time.monotonic()
        return screen

    def close(self) -> None:
        self._tmux("kill-server")
        socket = Path(self._socket)
        for _ in range(100):  # a server that is still ending would take the next command with it
            if not socket.exists() or not self._tmux("list-sessions"):
                break
            time.sleep(0.1)
        socket.unlink(missing_ok=True)


@pytest.fixture
def tmux(tmp_path):
    # A socket's path may have 107 characters; pytest's folders are longer.
    short = Path(os.environ.get("TMPDIR", "/tmp")) / f"docqa-tmux-{os.getpid()}"
    short.mkdir(mode=0o700)
    made = Tmux(short)
    yield made
    made.close()
    shutil.rmtree(short, ignore_errors=True)


def test_add_ask_open_stop_and_come_back(tmux):
    tmux.start()
    tmux.wait("Your library is empty")
    tmux.send("C-o")
    tmux.wait("Add a file or folder")
    tmux.type(str(SAMPLES / "pump_manual.pdf"))
    tmux.send("Enter")
    tmux.wait("1 document,", "Ask a question")
    tmux.type("What is the tightening torque of the casing cover bolts?")
    tmux.send("Enter")
    tmux.wait("[1] pump_manual.pdf", "38 Nm")
    tmux.send("Escape")
    tmux.send("1")
    tmux.wait("page 20", "Tightening torques", "▶")
    for number in range(1, 6):  # a machine may be so fast that an answer is there before the key
        tmux.send("i")
        tmux.type(f"How are the bearings of pump {number} lubricated and how often?")
        tmux.send("Enter")
        tmux.wait(f"❯ How are the bearings of pump {number}")
        tmux.send("Escape")
        screen = tmux.settled()
        if "■ stopped" in screen:
            break
    assert "■ stopped" in screen
    tmux.send("C-n")
    tmux.wait("Ask a question about your documents.")
    tmux.send("Escape")
    tmux.send("BTab")
    tmux.send("BTab")  # the documents, then the sessions
    tmux.send("Enter")
    tmux.wait("❯ What is the tightening torque", "38 Nm")
    tmux.send("C-q")
    tmux.wait("code=0", timeout_s=30)
    tmux.close()
    tmux.start()  # the session is the library's: it is there again
    tmux.wait("1 document,", "What is the tightening torque")
    tmux.send("Escape")
    for _ in range(8):  # the footer shows the keys of whatever has the focus
        if "e Rename" in tmux.settled():
            break
        tmux.send("BTab")
    assert "e Rename" in tmux.screen()
    tmux.send("Enter")
    tmux.wait("❯ What is the tightening torque", "38 Nm", "page 20")
    tmux.send("C-q")
    tmux.wait("code=0", timeout_s=30)


def test_it_closes_cleanly_while_it_indexes(tmux, tmp_path):
    for number in range(40):
        (tmp_path / f"part{number}.md").write_text(MANUAL * 20 + str(number))
    tmux.start(str(tmp_path))
    tmux.wait("indexing")
    tmux.send("C-q")
    screen = tmux.wait("code=0", timeout_s=60)
    assert "Traceback" not in screen
