"""What a file is, judged by its first bytes: PDF, text in some encoding, or binary.

Nothing here trusts a suffix. `head_of` reads at most `HEAD_BYTES`, through gzip where the file is
compressed.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from docqa.errors import UnreadableFile
from docqa.parse.encoding import SAMPLE_BYTES, detect_encoding

HEAD_BYTES = 65_536
READ_ERRORS = (OSError, EOFError, zlib.error, lzma.LZMAError)
_SEARCH_BYTES = 64 * 1024 * 1024  # how far to look for the first byte that is not ASCII
_PDF_MAGIC_WITHIN = 1024  # PDF 32000-1, annex H, note 13: readers accept it within 1024 bytes
_MAGIC = (
    (b"PK\x03\x04", "a ZIP archive or an office document"),
    (b"\xd0\xcf\x11\xe0", "an old Office document"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"II*\x00", "a TIFF image"),
    (b"MM\x00*", "a TIFF image"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a Windows program"),
    (b"\x28\xb5\x2f\xfd", "zstd data"),
    (b"7z\xbc\xaf", "a 7z archive"),
    (b"Rar!", "a RAR archive"),
    (b"SQLite format 3", "an SQLite database"),
    (b"GGUF", "a GGUF model"),
    (b"{\\rtf", "an RTF document"),
    (b"%!PS", "a PostScript document"),
)
_CONTROL = bytes(set(range(32)) - set(b"\t\n\r\f\x1b\x08\x00"))  # ESC and BS occur in terminal logs


@dataclass(frozen=True, slots=True)
class Head:
    """The first bytes of a file, unpacked."""

    data: bytes
    is_packed: bool


def open_bytes(path: Path) -> BinaryIO:
    """Open a file for reading; gzip, bzip2 and xz are recognised by content and unpacked."""
    with path.open("rb") as raw:
        magic = raw.read(6)
    if magic.startswith(b"\x1f\x8b"):
        return cast(BinaryIO, gzip.open(path, "rb"))
    if magic.startswith(b"BZh"):
        return cast(BinaryIO, bz2.open(path, "rb"))
    if magic == b"\xfd7zXZ\x00":
        return cast(BinaryIO, lzma.open(path, "rb"))
    return path.open("rb")


def head_of(path: Path) -> Head:
    """Return the first `HEAD_BYTES` bytes.

    Raises:
        UnreadableFile: not a file, missing, no permission, broken compression.
    """
    try:
        if path.exists() and not path.is_file():
            raise UnreadableFile(path, "is not a regular file; name a file or a folder")
        with open_bytes(path) as file:
            return Head(file.read(HEAD_BYTES), is_packed=not isinstance(file, io.BufferedReader))
    except FileNotFoundError:
        raise UnreadableFile(path, "does not exist; check its name") from None
    except READ_ERRORS as error:
        if isinstance(error, OSError) and not isinstance(error, gzip.BadGzipFile):
            reason = (
                f"cannot be read: {error.strerror or error}; check its permissions and its disk"
            )
        else:
            reason = f"is compressed and broken ({error}); unpack it yourself, or get it again"
        raise UnreadableFile(path, reason) from error


def is_pdf(data: bytes) -> bool:
    """Whether the PDF signature stands within the first kilobyte."""
    return b"%PDF-" in data[:_PDF_MAGIC_WITHIN]


def binary_kind(data: bytes) -> str | None:
    """Return in words what binary data this is; None where it may be text."""
    for magic, words in _MAGIC:
        if data.startswith(magic) and not (magic == b"MZ" and b"\x00" not in data):
            return words
    if not data or encoding_of(data).startswith(("utf-16", "utf-32")):
        return None
    # A crashed machine leaves runs of NUL in its logs, so some are tolerated between text.
    n_nul = data.count(0)
    n_control = len(data) - len(data.translate(None, _CONTROL))
    solid = max(1, len(data) - n_nul)
    if n_control > 0.02 * solid or (n_nul and not _is_padded_text(data, n_nul)):
        return "binary data"
    return None


def encoding_of(data: bytes) -> str:
    """Return the name of the codec of a text file that begins with `data`."""
    return detect_encoding(data[:SAMPLE_BYTES]).name


def encoding_of_file(path: Path, head: Head) -> str:
    """Return the codec of a file; an all-ASCII head says nothing, so the search goes on."""
    if not head.data.isascii() or b"\x00" in head.data or len(head.data) < HEAD_BYTES:
        return encoding_of(head.data)
    n_read = 0
    try:
        with open_bytes(path) as file:
            while n_read < _SEARCH_BYTES and (data := file.read(1 << 20)):
                n_read += len(data)
                if not data.isascii():
                    first = next(i for i, byte in enumerate(data) if byte > 127)
                    return encoding_of(data[max(0, first - 512) :])
    except READ_ERRORS:
        pass  # the reader of the whole file meets it again and keeps what came before
    return "utf-8"


def decode_head(head: Head) -> str:
    """Return the head as text; lines end with a line feed."""
    text = head.data.decode(encoding_of(head.data), "replace")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _is_padded_text(data: bytes, n_nul: int) -> bool:
    """Whether the NULs stand in long runs, as a file system leaves them after a crash."""
    longest = max(len(run) for run in data.split(b"\x00"))
    n_runs = sum(1 for run in data.split(b"\x00") if run)
    return n_nul < len(data) and longest > 16 and n_nul / max(1, n_runs) > 16
