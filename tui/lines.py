"""Where the lines of a virtual list come from: a log file on disk, or the extracted text.

Only offsets are held (8 bytes a line); the text of a line is read when it is drawn.
"""

from __future__ import annotations

import gzip
import mmap
from array import array
from pathlib import Path
from typing import Protocol

MAX_LINE_CHARS = 4000  # what is beyond is cut on the screen: one line may be a gigabyte
MAX_UNPACKED_BYTES = 256 * 1024 * 1024


class LineSource(Protocol):
    """Lines by number, from 0. Not closed by the one who draws."""

    @property
    def n_lines(self) -> int:
        """The number of lines."""
        ...

    def line(self, index: int) -> str:
        """Return one line without its end, at most MAX_LINE_CHARS of it."""
        ...

    def close(self) -> None:
        """Free what is open."""
        ...


class TextLines:
    """The lines of a text in memory: the extracted text of a document."""

    def __init__(self, text: str) -> None:
        self._lines = text.split("\n")

    @property
    def n_lines(self) -> int:
        """The number of lines."""
        return len(self._lines)

    def line(self, index: int) -> str:
        """Return one line."""
        return self._lines[index][:MAX_LINE_CHARS]

    def close(self) -> None:
        """Nothing is open."""


class FileLines:
    """The lines of a file, found by one scan; `.gz` is unpacked up to MAX_UNPACKED_BYTES.

    Raises:
        OSError: the file cannot be read.
    """

    def __init__(self, path: Path, encoding: str = "utf-8") -> None:
        self._encoding = encoding
        self._map: mmap.mmap | None = None
        if path.suffix == ".gz":
            with gzip.open(path) as packed:
                self._data: bytes | mmap.mmap = packed.read(MAX_UNPACKED_BYTES)
        else:
            with path.open("rb") as file:
                if path.stat().st_size:
                    self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
                self._data = self._map or b""
        self._starts = _line_starts(self._data)

    @property
    def n_lines(self) -> int:
        """The number of lines."""
        return max(1, len(self._starts) - 1)

    def line(self, index: int) -> str:
        """Return one line, bytes that are no text replaced."""
        if index + 1 >= len(self._starts):
            return ""
        start = self._starts[index]
        end = min(self._starts[index + 1], start + 4 * MAX_LINE_CHARS)
        raw = bytes(self._data[start:end])
        return raw.decode(self._encoding, "replace").rstrip("\r\n")[:MAX_LINE_CHARS]

    def close(self) -> None:
        """Close the map."""
        if self._map is not None:
            self._map.close()


def _line_starts(data: bytes | mmap.mmap) -> array[int]:
    """Return the offset of each line and, last, the end of the data."""
    starts = array("q", [0])
    at = data.find(b"\n")
    while at >= 0:
        starts.append(at + 1)
        at = data.find(b"\n", at + 1)
    if starts[-1] < len(data):
        starts.append(len(data))
    return starts
