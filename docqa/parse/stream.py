"""Text files of any size as a stream of decoded blocks with one kind of newline.

`TextStream(path).blocks()` yields the *extracted text* of the file in order: decoded, CRLF and a
lone CR turned into LF, zero bytes and terminal colour sequences dropped. Joined, the blocks are
the whole text. A block ends with a newline, except at the end of the file and inside a line longer
than `MAX_LINE_BYTES`, which is passed on in pieces. Memory stays at a few blocks whatever the file
is: one line of a gigabyte, five gigabytes of zeros, a compressed file.

.gz, .bz2 and .xz are recognised by content and unpacked on the way. More than `MAX_UNPACKED_BYTES`,
or more than `FREE_UNPACKED_BYTES` and `MAX_RATIO` times the packed size, is no log but a bomb.
"""

from __future__ import annotations

import bz2
import codecs
import gzip
import lzma
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

from docqa.errors import UnreadableFile, UnsupportedFile
from docqa.parse.encoding import SAMPLE_BYTES, decode, detect_encoding, is_binary

BLOCK_BYTES = 1 << 20
MAX_LINE_BYTES = 1 << 20
FREE_UNPACKED_BYTES = 1 << 30
MAX_RATIO = 250  # logs pack 10 to 60 times; gzip's limit is 1,032
MAX_UNPACKED_BYTES = 1 << 36  # 64 GiB

_PACKED = ((b"\x1f\x8b", "gzip"), (b"BZh", "bzip2"), (b"\xfd7zXZ\x00", "xz"))
_ANSI = re.compile(
    "\x1b(?:\\[[0-9;?]*[ -/]*[@-~]|\\][^\x07\x1b\n]{0,200}(?:\x07|\x1b\\\\)|[@-Z\\\\^_])"
)


_Readable = BufferedReader | gzip.GzipFile | bz2.BZ2File | lzma.LZMAFile


@dataclass(frozen=True, slots=True)
class Window:
    """The bytes to read of a file that is not packed. `encoding` None: found at its beginning."""

    start: int
    end: int
    encoding: str | None = None


class TextStream:
    """One reading of one file, or of a window of it.

    `warnings`, `encoding` and `n_bad_lines` are complete at the end.

    Raises:
        UnsupportedFile: binary content.
        UnreadableFile: empty, nothing but zero bytes, no permission, or a decompression bomb.
    """

    def __init__(self, path: Path, window: Window | None = None) -> None:
        self.path = path
        self._window = window
        self._n_left = window.end - window.start if window else None
        self.packed: str | None = None
        self.n_bad_lines = 0
        self.n_lines = 0  # of the blocks yielded so far, an unfinished last one included
        self._n_nul = 0
        self._damage: str | None = None
        self._raw: BufferedReader
        self._file = self._open()
        if window is not None and window.encoding is not None:
            self._head = b""
            self.encoding = window.encoding
            return
        try:
            self._head = self._first_bytes()
        except BaseException:
            self.close()
            raise
        found = detect_encoding(self._head[:SAMPLE_BYTES])
        self.encoding = found.name
        self._head = self._head[found.bom_bytes :]

    def close(self) -> None:
        """Close the file; reading on is an error."""
        self._file.close()
        self._raw.close()  # the unpackers leave it open

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader of this document should know, as sentences."""
        found = []
        if self._damage:
            found.append(self._damage)
        if self._n_nul:
            found.append(f"{self._n_nul:,} zero bytes were left out")
        if self.n_bad_lines:
            found.append(f"{self.n_bad_lines:,} lines are not valid {self.encoding}")
        return tuple(found)

    def blocks(self) -> Iterator[str]:
        """Yield the extracted text. Can be called once."""
        n_newlines = 0
        for data in self._line_blocks():
            text, n_bad = decode(data, self._line_encoding)
            self.n_bad_lines += n_bad
            text = _plain(text)
            if text:
                n_newlines += text.count("\n")
                self.n_lines = n_newlines + (text[-1] != "\n")
                yield text

    @property
    def _line_encoding(self) -> str:
        return "utf-8" if self.encoding.startswith(("utf-16", "utf-32")) else self.encoding

    def _line_blocks(self) -> Iterator[bytes]:
        """Yield the bytes, newline-terminated but for the last block and pieces of long lines."""
        carry = b""
        for raw in self._narrow_blocks():
            data = carry + raw if carry else raw
            cut = _last_line_end(data, len(carry))
            if cut == 0 and len(data) > MAX_LINE_BYTES:
                cut = _character_end(data)
            if cut:
                yield data[:cut]
            carry = data[cut:]
        if carry:
            yield carry

    def _narrow_blocks(self) -> Iterator[bytes]:
        """Yield bytes in which a newline is one byte, without zeros."""
        if not self.encoding.startswith(("utf-16", "utf-32")):
            for raw in self._raw_blocks():
                data = raw.translate(None, b"\0")
                self._n_nul += len(raw) - len(data)
                if data:
                    yield data
            return
        decoder = codecs.getincrementaldecoder(self.encoding)("replace")
        for raw in self._raw_blocks():
            yield decoder.decode(raw).replace("\0", "").encode("utf-8", "replace")
        yield decoder.decode(b"", True).encode("utf-8", "replace")

    def _raw_blocks(self) -> Iterator[bytes]:
        head, self._head = self._head, b""
        if head:
            yield head
        n_packed = max(self.path.stat().st_size, 1) if self.packed else 0
        n_read = len(head)
        while data := self._read(BLOCK_BYTES):
            n_read += len(data)
            if self.packed:
                self._check_bomb(n_read, n_packed)
            yield data

    def _check_bomb(self, n_read: int, n_packed: int) -> None:
        limit = min(max(FREE_UNPACKED_BYTES, MAX_RATIO * n_packed), MAX_UNPACKED_BYTES)
        if n_read > limit:
            raise UnreadableFile(
                self.path,
                f"unpacks to more than {limit:,} bytes ({MAX_RATIO} times its size); "
                "unpack it yourself if it is really a log",
            )

    def _open(self) -> _Readable:
        try:
            raw = self._raw = self.path.open("rb")
            head = raw.read(6)
            raw.seek(0)
        except OSError as error:
            raise UnreadableFile(self.path, error.strerror or str(error)) from error
        if not head:
            raw.close()
            raise UnreadableFile(self.path, "the file is empty")
        for magic, name in _PACKED:
            if head.startswith(magic):
                self.packed = name
        if self.packed == "gzip":
            return gzip.GzipFile(fileobj=raw)
        if self.packed == "bzip2":
            return bz2.BZ2File(raw)
        if self.packed == "xz":
            return lzma.LZMAFile(raw)
        if self._window is not None:
            raw.seek(self._window.start)
        return raw

    def _read(self, n_bytes: int) -> bytes:
        """Read; of damaged packed data what is left of it: logs are cut off while they rotate."""
        parts: list[bytes] = []
        n_left = n_bytes if self._n_left is None else min(n_bytes, self._n_left)
        try:
            while n_left > 0 and not self._damage:
                part = self._file.read1(n_left)  # little at a time: an error loses what was asked
                if not part:
                    break
                parts.append(part)
                n_left -= len(part)
        except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile):
            self._damage = f"the {self.packed} data is damaged or ends early; the rest was read"
        except OSError as error:
            if self.packed != "bzip2" or error.errno is not None:
                raise UnreadableFile(self.path, error.strerror or str(error)) from error
            self._damage = "the bzip2 data is damaged; what could be was read"
        data = b"".join(parts)
        if self._n_left is not None:
            self._n_left -= len(data)
        return data

    def _first_bytes(self) -> bytes:
        """Return the first bytes that say anything, at least a sample's worth if there are."""
        head = b""
        while data := self._read(BLOCK_BYTES):
            if not head and not data.strip(b"\0"):
                self._n_nul += len(data)
                continue
            head += data
            if len(head) >= SAMPLE_BYTES:
                break
        if not head:
            reason = self._damage or "the file holds nothing but zero bytes"
            raise UnreadableFile(self.path, reason)
        sample = head.lstrip(b"\0") if self._n_nul else head
        if is_binary(sample[:SAMPLE_BYTES]):
            raise UnsupportedFile(self.path, "binary data, not text")
        return head


def extracted_text(data: bytes, encoding: str) -> str:
    """Return the extracted text of whole lines of a file in this encoding (not UTF-16 or -32)."""
    return _plain(decode(data.translate(None, b"\0"), encoding)[0])


def _plain(text: str) -> str:
    """Return decoded text with one kind of newline and without terminal colours."""
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return _ANSI.sub("", text) if "\x1b" in text else text


def read_text(path: Path) -> str:
    """Return the whole extracted text; for tests and small files."""
    stream = TextStream(path)
    try:
        return "".join(stream.blocks())
    finally:
        stream.close()


def _last_line_end(data: bytes, start: int) -> int:
    """Return the offset behind the last newline at or after `start`, 0 if there is none.

    A carriage return in the last place does not count: a line feed may follow.
    """
    feed = data.rfind(b"\n", start)
    back = data.rfind(b"\r", max(0, start - 1), len(data) - 1)
    return max(feed, back) + 1


def _character_end(data: bytes) -> int:
    """Return where to cut a long line without cutting a UTF-8 character or a CRLF."""
    end = len(data)
    if data[-1:] == b"\r":
        end -= 1
    back = end
    while back > end - 4 and back > 1 and data[back - 1] & 0xC0 == 0x80:
        back -= 1
    if data[back - 1] >= 0xC0:
        return back - 1
    return end
