"""What the terminal can show, asked once, before Textual reads the keys.

All questions go out at once and the library is opened while the answers are on their way, so that
neither a slow line nor a terminal that never answers keeps the user waiting. The last question,
device attributes, is one that practically every terminal answers, and answers come in order: once
it is there, none is missing. What was typed meanwhile is kept and given to the app.
"""

from __future__ import annotations

import os
import re
import select
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

WAIT_S = 0.3
REMOTE_WAIT_S = 1.0  # a late answer would be read as keys
DEFAULT_CELL_PX = (10, 20)  # width and height, of a VT340

_ASK_KITTY = b"\x1b_Gi=7731,s=1,v=1,a=q,t=d,f=24;AAAA\x1b\\"
_ASK_CELL = b"\x1b[16t"
_ASK_ATTRIBUTES = b"\x1b[c"
_KITTY = re.compile(rb"\x1b_Gi=7731[^;\x1b]*;([^\x1b]*)\x1b\\")
_CELL = re.compile(rb"\x1b\[6;(\d{1,4});(\d{1,4})t")
_ATTRIBUTES = re.compile(rb"\x1b\[\?([\d;]*)c")
_SIXEL = b"4"


@dataclass(frozen=True, slots=True)
class Answers:
    """What a terminal said; `typed` is what the user typed before Textual listened."""

    has_kitty: bool = False
    has_sixel: bool = False
    cell_px: tuple[int, int] = DEFAULT_CELL_PX
    typed: str = ""


@dataclass(slots=True)
class Asked:
    """A terminal that was asked."""

    n_in: int  # file descriptor
    until_s: float  # on the monotonic clock
    cell_px: tuple[int, int] | None
    received: bytearray = field(default_factory=bytearray)

    def answers(self) -> Answers:
        """Return what was answered; wait for it no longer than was said when it was asked."""
        while not _ATTRIBUTES.search(self.received):
            left_s = max(0.0, self.until_s - time.monotonic())
            if not select.select([self.n_in], [], [], left_s)[0]:
                break
            piece = os.read(self.n_in, 4096)
            if not piece:
                break
            self.received += piece
        return read_answers(bytes(self.received), self.cell_px)


def read_answers(received: bytes, cell_px: tuple[int, int] | None = None) -> Answers:
    """Return what stands in the bytes that a terminal sent; `cell_px` where it is known already."""
    kitty, cell = _KITTY.search(received), _CELL.search(received)
    attributes = _ATTRIBUTES.search(received)
    if cell_px is None and cell is not None and int(cell[1]) and int(cell[2]):
        cell_px = int(cell[2]), int(cell[1])
    rest = received
    for answer in (_KITTY, _CELL, _ATTRIBUTES):
        rest = answer.sub(b"", rest)
    typed = rest.partition(b"\x1b")[0]  # from there on half an answer, or a key without a letter
    return Answers(
        kitty is not None and kitty[1] == b"OK",
        attributes is not None and _SIXEL in attributes[1].split(b";"),
        cell_px or DEFAULT_CELL_PX,
        typed.decode("utf-8", "ignore"),
    )


@contextmanager
def asked_terminal(environment: Mapping[str, str] = os.environ) -> Iterator[Asked | None]:
    """Ask the terminal; None where there is none, and on Windows. Its modes are restored."""
    if os.name != "posix" or not (sys.stdin.isatty() and sys.stdout.isatty()):
        yield None
        return
    import termios  # not there on Windows
    import tty

    n_in, n_out = sys.stdin.fileno(), sys.stdout.fileno()
    before = termios.tcgetattr(n_in)
    tty.setcbreak(n_in, termios.TCSANOW)  # answers are neither echoed nor kept for a whole line
    try:
        is_remote = "SSH_CONNECTION" in environment or "SSH_TTY" in environment
        cell_px = _cell_of_window(n_out)
        # A multiplexer takes the first question for a title, and shows no Kitty graphics.
        is_multiplexed = environment.get("TERM", "").startswith(("screen", "tmux"))
        os.write(
            n_out,
            (b"" if is_multiplexed else _ASK_KITTY)
            + (b"" if cell_px else _ASK_CELL)
            + _ASK_ATTRIBUTES,
        )
        yield Asked(n_in, time.monotonic() + (REMOTE_WAIT_S if is_remote else WAIT_S), cell_px)
    finally:
        termios.tcsetattr(n_in, termios.TCSANOW, before)


def _cell_of_window(n_out: int) -> tuple[int, int] | None:
    """Return the width and height of a cell where the kernel knows them."""
    import fcntl
    import struct
    import termios

    size = fcntl.ioctl(n_out, termios.TIOCGWINSZ, bytes(8))
    rows, columns, width_px, height_px = struct.unpack("HHHH", size)
    if not (rows and columns and width_px >= columns and height_px >= rows):
        return None
    return width_px // columns, height_px // rows
