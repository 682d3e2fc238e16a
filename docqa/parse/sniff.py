"""What a file is, judged by its first bytes: PDF, text in some encoding, or binary.

Nothing here trusts a suffix. `head_of` reads at most `HEAD_BYTES`, through gzip where the file is
compressed.
"""

from __future__ import annotations

import codecs
import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from docqa.errors import UnreadableFile

HEAD_BYTES = 65_536
_SEARCH_BYTES = 64 * 1024 * 1024  # how far to look for the first byte that is not ASCII
_PDF_MAGIC_WITHIN = 1024  # PDF 32000-1, annex H, note 13: readers accept it within 1024 bytes
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
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
    (b"BZh", "bzip2 data"),
    (b"\xfd7zXZ", "xz data"),
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
    """The first bytes of a file, decompressed."""

    data: bytes
    is_gzip: bool


def open_bytes(path: Path) -> BinaryIO:
    """Open a file for reading, through gzip where its first bytes say so."""
    raw = path.open("rb")
    magic = raw.read(2)
    raw.seek(0)
    if magic == b"\x1f\x8b":
        raw.close()
        return gzip.open(path, "rb")  # type: ignore[return-value]
    return raw


def head_of(path: Path) -> Head:
    """Return the first `HEAD_BYTES` bytes.

    Raises:
        UnreadableFile: not a file, missing, no permission, broken gzip.
    """
    if path.exists() and not path.is_file():
        raise UnreadableFile(path, "is not a regular file")
    try:
        with path.open("rb") as raw:
            data = raw.read(HEAD_BYTES)
        if data[:2] != b"\x1f\x8b":
            return Head(data, is_gzip=False)
        with gzip.open(path, "rb") as unpacked:
            return Head(unpacked.read(HEAD_BYTES), is_gzip=True)
    except FileNotFoundError:
        raise UnreadableFile(path, "does not exist") from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UnreadableFile(path, f"is a broken gzip file: {error}") from error
    except OSError as error:
        raise UnreadableFile(path, f"cannot be read: {error.strerror or error}") from error


def is_pdf(data: bytes) -> bool:
    """Whether the PDF signature stands within the first kilobyte."""
    return b"%PDF-" in data[:_PDF_MAGIC_WITHIN]


def binary_kind(data: bytes) -> str | None:
    """Return in words what binary data this is; None where it may be text."""
    for magic, words in _MAGIC:
        if data.startswith(magic) and not (magic == b"MZ" and b"\x00" not in data):
            return words
    if not data or _bom(data) or _utf16_without_bom(data):
        return None
    # A crashed machine leaves runs of NUL in its logs, so some are tolerated between text.
    n_nul = data.count(0)
    n_control = len(data) - len(data.translate(None, _CONTROL))
    solid = max(1, len(data) - n_nul)
    if n_control > 0.02 * solid or (n_nul and not _is_padded_text(data, n_nul)):
        return "binary data"
    return None


def encoding_of(data: bytes) -> str:
    """Return the name of the codec for text that begins with, or contains, `data`.

    Valid UTF-8 is UTF-8. Otherwise, few non-ASCII bytes mean Windows-1252 (of which Latin-1 text is
    a part); with many of them charset-normalizer decides.
    """
    bom = _bom(data)
    if bom:
        return bom
    wide = _utf16_without_bom(data)
    if wide:
        return wide
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        decoder.decode(data)  # not final: a character cut at the end is no error
        return "utf-8"
    except UnicodeDecodeError:
        pass
    text = data.decode("utf-8", "replace")
    n_bad, n_other = text.count("�"), sum(c > "\x7f" for c in text)
    if n_other > 4 * n_bad:
        return "utf-8"  # some stray bytes in UTF-8 text
    n_high = len(data) - len(data.translate(None, bytes(range(128, 256))))
    if n_high < 0.1 * len(data):
        return "cp1252"
    from charset_normalizer import from_bytes

    best = from_bytes(data[:HEAD_BYTES]).best()
    return best.encoding if best else "cp1252"


def encoding_of_file(path: Path, head: Head) -> str:
    """Return the codec of a file; an all-ASCII head says nothing, so the search goes on."""
    if not head.data.isascii() or b"\x00" in head.data or len(head.data) < HEAD_BYTES:
        return encoding_of(head.data)
    n_read = 0
    with open_bytes(path) as file:
        while n_read < _SEARCH_BYTES and (data := file.read(1 << 20)):
            n_read += len(data)
            if not data.isascii():
                first = next(i for i, byte in enumerate(data) if byte > 127)
                return encoding_of(data[max(0, first - 512) : first + HEAD_BYTES])
    return "utf-8"


def decode_head(head: Head) -> str:
    """Return the head as text; lines end with a line feed."""
    text = head.data.decode(encoding_of(head.data), "replace")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _bom(data: bytes) -> str | None:
    return next((name for bom, name in _BOMS if data.startswith(bom)), None)


def _utf16_without_bom(data: bytes) -> str | None:
    """Latin text in UTF-16 has a NUL in nearly every second byte, and none in the others."""
    sample = data[: min(len(data), 4096) // 2 * 2]
    if len(sample) < 8:
        return None
    even, odd = sample[::2].count(0), sample[1::2].count(0)
    half = len(sample) // 2
    if odd > 0.4 * half and even < 0.02 * half:
        return "utf-16-le"
    if even > 0.4 * half and odd < 0.02 * half:
        return "utf-16-be"
    return None


def _is_padded_text(data: bytes, n_nul: int) -> bool:
    """Whether the NULs stand in long runs, as a file system leaves them after a crash."""
    longest = max(len(run) for run in data.split(b"\x00"))
    n_runs = sum(1 for run in data.split(b"\x00") if run)
    return n_nul < len(data) and longest > 16 and n_nul / max(1, n_runs) > 16
