"""Page images, drawn in a process of their own: MuPDF never runs where the user's screen is.

`PageRenderer` (in the parent) starts the process, holds its wall clock and decodes its answers;
draw.py (in the child) caps its memory and draws. Wire: a 4-byte little-endian length and msgpack,
both ways, as between the parse worker and its parent.
"""

from __future__ import annotations

import os
import select
import struct
import subprocess
import threading
import time
from pathlib import Path

import msgspec

from docqa.child import python_command
from docqa.config import ParseConfig
from docqa.errors import UnreadableFile
from docqa.parse.wire import MAX_FRAME_BYTES
from docqa.parse.worker import worker_environment

MAX_WIDTH_PX = 2400
MAX_HEIGHT_PX = 4800


class RenderRequest(msgspec.Struct, frozen=True):
    """Parent to child: draw `page` (1-based) `width_px` wide, and find `quote` on it."""

    path: bytes
    page: int
    width_px: int
    quote: str = ""
    password: str | None = None


class PageImage(msgspec.Struct, frozen=True, tag="image"):
    """Child to parent: `rgb` is rows of `width` × `height` pixels; `boxes` are in pixels."""

    width: int
    height: int
    rgb: bytes
    boxes: list[tuple[float, float, float, float]]
    n_pages: int


class RenderFailed(msgspec.Struct, frozen=True, tag="failed"):
    """Child to parent: the page could not be drawn."""

    reason: str


RenderReply = PageImage | RenderFailed


class PageRenderer:
    """Draws pages, one at a time; safe from any thread. Close it."""

    def __init__(self, limits: ParseConfig | None = None, timeout_s: float = 20.0) -> None:
        self._limits = limits or ParseConfig()
        self._timeout_s = timeout_s
        self._process: subprocess.Popen[bytes] | None = None
        self._decoder: msgspec.msgpack.Decoder[RenderReply] = msgspec.msgpack.Decoder(RenderReply)
        self._guard = threading.Lock()

    @property
    def pid(self) -> int | None:
        """The process that is running, if one is."""
        return self._process.pid if self._process else None

    def draw(self, path: Path, page: int, width_px: int, quote: str = "") -> PageImage:
        """Return a page of a PDF as an image with the boxes of `quote`.

        Raises:
            UnreadableFile: the page cannot be drawn, or took too long; the reason says which.
        """
        width = max(16, min(width_px, MAX_WIDTH_PX))
        request = msgspec.msgpack.encode(RenderRequest(os.fsencode(path), page, width, quote))
        with self._guard:
            try:
                reply = self._decoder.decode(self._exchange(request))
            except (OSError, TimeoutError, msgspec.DecodeError) as error:
                self._kill()
                raise UnreadableFile(path, f"page {page} could not be drawn: {error}") from error
        if isinstance(reply, RenderFailed):
            raise UnreadableFile(path, f"page {page} could not be drawn: {reply.reason}")
        return reply

    def close(self) -> None:
        """End the process; the next `draw` starts a new one."""
        with self._guard:
            self._kill()

    def _kill(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe:
                pipe.close()

    def _exchange(self, request: bytes) -> bytes:
        if self._process is None or self._process.poll() is not None:
            self._kill()
            self._process = _start(self._limits, self._timeout_s)
        process = self._process
        assert process.stdin
        process.stdin.write(struct.pack("<I", len(request)) + request)
        deadline = time.monotonic() + self._timeout_s
        (length,) = struct.unpack("<I", _read(process, 4, deadline))
        if length > MAX_FRAME_BYTES:
            raise OSError("the image is too large")
        return _read(process, length, deadline)


def _read(process: subprocess.Popen[bytes], n_bytes: int, deadline: float) -> bytes:
    assert process.stdout
    parts = []
    while n_bytes:
        left_s = deadline - time.monotonic()
        if left_s <= 0 or not select.select([process.stdout], [], [], left_s)[0]:
            raise TimeoutError("it took too long and was given up")
        part = os.read(process.stdout.fileno(), min(n_bytes, 1 << 20))
        if not part:
            raise OSError("the page crashed the process that draws")
        parts.append(part)
        n_bytes -= len(part)
    return b"".join(parts)


def _start(limits: ParseConfig, timeout_s: float) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        python_command(
            "from docqa.parse.draw import main; main(int(sys.argv[2]), float(sys.argv[3]))",
            str(limits.memory_bytes),
            str(timeout_s),
        ),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        bufsize=0,
        env=worker_environment(),
        start_new_session=True,
    )
