"""The other end of a real pseudo-terminal: it answers what a terminal answers, and keeps all."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]
ASKED_KITTY = re.compile(rb"\x1b_Gi=(\d+),[^;]*a=q[^;]*;[^\x1b]*\x1b\\")


class Terminal:
    """The other end: `attributes` and the rest is what it answers, None for silence."""

    def __init__(
        self,
        *,
        has_kitty: bool = False,
        attributes: bytes | None = None,
        cell: bytes | None = None,
        size: tuple[int, int] = (45, 160),
        delay_s: float = 0.0,
        typed: bytes = b"",
        environment: dict[str, str] | None = None,
    ) -> None:
        self.has_kitty, self.attributes, self.cell = has_kitty, attributes, cell
        self.delay_s = delay_s
        self.sent = bytearray()
        self._n_answered = 0
        self._master, self._slave = pty.openpty()
        fcntl.ioctl(self._slave, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
        kept = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "COLUMNS", "LINES")}
        kept |= {"TERM": "xterm-256color", "COLORTERM": "truecolor"}
        self._environment = kept | (environment or {})
        os.write(self._master, typed)

    def start(self, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            stdin=self._slave,
            stdout=self._slave,
            stderr=self._slave,
            cwd=ROOT,
            env=self._environment,
            start_new_session=True,
        )
        os.close(self._slave)

    def press(self, keys: bytes) -> None:
        os.write(self._master, keys)

    def wait(self, *patterns: bytes, timeout_s: float = 25, after: int = 0) -> bytes:
        """Return what was sent from `after` on, once all patterns stand in it."""

        def is_sent(sent: bytes) -> bool:
            return all(re.search(pattern, sent) for pattern in patterns)

        return self.until(is_sent, timeout_s=timeout_s, after=after)

    def until(
        self, is_sent: Callable[[bytes], bool], *, timeout_s: float = 25, after: int = 0
    ) -> bytes:
        """Return what was sent from `after` on, once it is what was waited for."""
        deadline = time.monotonic() + timeout_s
        while not is_sent(bytes(self.sent[after:])):
            assert time.monotonic() < deadline, bytes(self.sent[after:])[-2000:]
            assert self._read(), bytes(self.sent[after:])[-2000:]
        return bytes(self.sent[after:])

    def quit(self) -> int:
        """Press Ctrl+Q; return the exit code."""
        self.press(b"\x11")
        deadline = time.monotonic() + 30
        while self._read() and time.monotonic() < deadline:
            pass
        return self._process.wait(20)

    def close(self) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        os.close(self._master)

    def _read(self) -> bool:
        """Take what was sent within a moment and answer it; False when the program has ended."""
        if not select.select([self._master], [], [], 0.1)[0]:
            return self._process.poll() is None
        try:
            piece = os.read(self._master, 65_536)
        except OSError:
            return False
        self.sent += piece
        self._answer()
        return bool(piece)

    def _answer(self) -> None:
        asked = bytes(self.sent[self._n_answered :])
        answer = b""
        if self.has_kitty and (kitty := ASKED_KITTY.search(asked)):
            answer += b"\x1b_Gi=%s;OK\x1b\\" % kitty[1]
        if self.cell and b"\x1b[16t" in asked:
            answer += self.cell
        if self.attributes and b"\x1b[c" in asked:
            answer += self.attributes
            self._n_answered = len(self.sent)
        if answer:
            time.sleep(self.delay_s)
            self.press(answer)
