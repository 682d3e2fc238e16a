"""The end of a log that grows: what of it is new, and whether it is still the same log.

A log is known by the digest of its first kilobyte and of the last one before the place that was
read up to: a name says nothing (rotation renames), an inode little (it is used again), a size only
that a shorter file was cut. Both kilobytes lie before that place, so appending changes neither.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from docqa.parse.stream import TextStream, Window, extracted_text
from docqa.types import Chunk, LogTail

FINGERPRINT_BYTES = 1_024
DIGEST_BYTES = 16
MAX_STEP_BYTES = 32 << 20  # of one reading on: what is committed at once
MAX_LAST_BYTES = 4 << 20  # of a last chunk's lines; beyond that the log is read anew when it grows
_SCAN_BYTES = 65_536
_NEWLINE = re.compile(rb"\r\n|\r|\n")


class Growth(Enum):
    """What a file is to a log that was read."""

    SAME = "same"
    GROWN = "grown"
    OTHER = "other"  # another file, or the same one cut or written anew


def compare(path: str | Path, tail: LogTail) -> Growth:
    """Return what the file at `path` is to the log that `tail` is of; raise OSError."""
    # Not blocking: the path may have become a named pipe.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    with open(os.open(path, flags | getattr(os, "O_CLOEXEC", 0)), "rb", buffering=0) as file:  # noqa: PTH123
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_size < tail.n_bytes:
            return Growth.OTHER
        n = min(FINGERPRINT_BYTES, tail.n_bytes)
        if digest(file.read(n)) != tail.head:
            return Growth.OTHER
        file.seek(tail.n_bytes - n)
        if digest(file.read(n)) != tail.last:
            return Growth.OTHER
        return Growth.SAME if status.st_size == tail.n_bytes else Growth.GROWN


def digest(data: bytes) -> bytes:
    """Return the identity of a few bytes."""
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).digest()


def window_of(path: Path, tail: LogTail | None, *, whole_lines: bool) -> Window:
    """Return what to read: all of it, or from the last chunk's beginning on.

    At most `MAX_STEP_BYTES` beyond a tail. With `whole_lines` it ends with the last newline, unless
    there is none at all.
    """
    n_bytes = path.stat().st_size
    start, encoding = (tail.start_byte, tail.encoding) if tail else (0, None)
    end = n_bytes
    is_cut = tail is not None and end > tail.n_bytes + MAX_STEP_BYTES
    if tail is not None and is_cut:
        end = tail.n_bytes + MAX_STEP_BYTES
    if whole_lines or is_cut:
        low = tail.n_bytes if tail else 0
        end = _last_line_end(path, low, end) or (n_bytes if tail is None or is_cut else low)
    return Window(start, end, encoding)


def _last_line_end(path: Path, low: int, high: int) -> int | None:
    """Return the offset behind the last newline in [low, high), None where there is none."""
    with path.open("rb") as file:
        while high > low:
            start = max(low, high - _SCAN_BYTES)
            file.seek(start)
            data = file.read(high - start)
            found = max(data.rfind(b"\n"), data.rfind(b"\r"))
            if found >= 0:
                return start + found + 1
            high = start
    return None


@dataclass(slots=True)
class LastChunk:
    """Follows the chunks of one reading and knows where the last one began."""

    time: float | None = None  # of the record before it
    chunk: Chunk | None = None
    _text: str = ""  # since its beginning: a long line is cut into several chunks
    _last_line: int = 0
    _time_before: float | None = None

    def note(self, chunk: Chunk) -> None:
        """Take the next chunk."""
        if self.chunk is None or chunk.span.locator.first > self._last_line:
            self.chunk, self._text = chunk, chunk.text
            self.time = self.time if self._last_line == 0 else self._time_before
        elif len(self._text) <= MAX_LAST_BYTES:
            self._text += chunk.text
        self._last_line = chunk.span.locator.last
        self._time_before = chunk.time_last if chunk.time_last is not None else self._time_before

    def tail(self, stream: TextStream, window: Window, n_lines: int) -> LogTail | None:
        """Return where to go on; None where that cannot be said with certainty.

        `n_lines` are those of the file up to the window's end.
        """
        chunk = self.chunk
        if chunk is None or stream.packed or stream.encoding.startswith(("utf-16", "utf-32")):
            return None
        line = chunk.span.locator.first
        found = _lines_before(stream.path, window, n_lines - line + 1)
        if found is None or extracted_text(found, stream.encoding).strip("\n") != self._text:
            return None
        head, last = _fingerprint(stream.path, window.end)
        return LogTail(
            n_bytes=window.end,
            start_byte=window.end - len(found),
            start_char=chunk.span.start,
            line=line,
            ordinal=chunk.ordinal,
            encoding=stream.encoding,
            head=head,
            last=last,
            time=self.time,
            columns=chunk.headings[0] if chunk.headings else "",
        )


def _fingerprint(path: Path, n_bytes: int) -> tuple[bytes, bytes]:
    """Return the digests of the first kilobyte, and of the last one before `n_bytes`."""
    n = min(FINGERPRINT_BYTES, n_bytes)
    with path.open("rb") as file:
        head = digest(file.read(n))
        file.seek(n_bytes - n)
        return head, digest(file.read(n))


def _lines_before(path: Path, window: Window, n: int) -> bytes | None:
    """Return the last `n` lines before the window's end as bytes; None where they are too long."""
    with path.open("rb") as file:
        n_bytes = _SCAN_BYTES
        while True:
            start = max(window.start, window.end - n_bytes)
            file.seek(start)
            data = file.read(window.end - start)
            ends = [match.end() for match in _NEWLINE.finditer(data)]
            if ends and ends[-1] == len(data):
                ends.pop()
            if len(ends) > n or (start == window.start and len(ends) >= n - 1):
                return data[ends[-n] if len(ends) >= n else 0 :]
            if start == window.start or n_bytes >= MAX_LAST_BYTES:
                return None
            n_bytes *= 2
