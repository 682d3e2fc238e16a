"""Which encoding a text file is in, and decoding that never stops.

`detect_encoding` looks at a sample from the file's beginning; `decode` turns whole lines of bytes
into text. Real logs mix encodings line by line (a UTF-8 daemon that copies a latin-1 user name), so
a block that is not valid in its encoding is decoded again line by line: first as UTF-8, then as
what the sample suggests, and a line that is neither keeps its valid parts with U+FFFD for the rest.
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass

SAMPLE_BYTES = 65_536
"""How much of a file `detect_encoding` and `is_binary` want to see."""

_BOMS = (  # UTF-32 LE begins like UTF-16 LE: the longer first
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)

# Whole-file legacy encodings worth telling apart, and no others: guesses among all of Python's
# codecs turn short samples into EBCDIC.
_LEGACY = ["cp1252", "gb18030", "big5", "shift_jis", "euc_jp", "euc_kr", "cp1251", "koi8_r"]
_MIN_LEGACY_BYTES = 64  # of high bytes in the sample: with fewer the guess is noise
_MAX_GUESS_BYTES = 8_192

_MULTIBYTE = re.compile(
    rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}"
)
_HIGH_LINES = re.compile(rb"[^\n]*[\x80-\xff][^\n]*")
_CONTROL = bytes(set(range(32)) - {0, 7, 8, 9, 10, 11, 12, 13, 27}) + b"\x7f"
_NUL_RUN = re.compile(rb"\x00{64,}")
_MAGIC = (
    b"\x7fELF",
    b"\x89PNG",
    b"GIF8",
    b"\xff\xd8\xff",
    b"PK\x03\x04",
    b"%PDF-",
    b"SQLite format 3\x00",
    b"\xca\xfe\xba\xbe",
    b"\xfe\xed\xfa",
    b"\xcf\xfa\xed\xfe",
    b"MZ\x90\x00",
    b"Rar!\x1a",
    b"7z\xbc\xaf",
    b"\x28\xb5\x2f\xfd",
    b"ElfFile\x00",  # Windows event log
    b"LPKSHHRH",  # systemd journal
)


@dataclass(frozen=True, slots=True)
class Encoding:
    """`name` is Python's codec name; `bom_bytes` are to be skipped at the beginning."""

    name: str
    bom_bytes: int = 0

    @property
    def is_wide(self) -> bool:
        """Whether a newline is not the single byte 0x0A."""
        return self.name.startswith(("utf-16", "utf-32"))


def detect_encoding(sample: bytes) -> Encoding:
    """Return the encoding of the text that begins with `sample` (64 KB are enough).

    A byte order mark decides; then the positions of zero bytes (UTF-16 without a mark); then
    UTF-8 if the sample is valid or mostly valid; then a guess among a few legacy encodings;
    cp1252 if nothing fits. Never raises.
    """
    for bom, name in _BOMS:
        if sample.startswith(bom):
            return Encoding(name, len(bom))
    wide = _wide_without_bom(sample)
    if wide is not None:
        return Encoding(wide)
    n_valid = len(_MULTIBYTE.findall(sample))
    n_high = len(sample) - len(sample.translate(None, bytes(range(128, 256))))
    if n_high == 0 or _is_utf8(sample) or n_valid * 4 > n_high:
        return Encoding("utf-8")
    return Encoding(_guess_legacy(sample, n_high))


def decode(data: bytes, encoding: str) -> tuple[str, int]:
    """Return the text of whole lines of bytes, and how many lines were not valid in `encoding`.

    Each line that fails is decoded by itself with `decode_line`. Lines end with LF or CR.
    """
    try:
        return data.decode(encoding), 0
    except UnicodeDecodeError:
        pass
    n_bad = 0
    lines = []
    for line in data.split(b"\n"):
        try:
            lines.append(line.decode(encoding))
        except UnicodeDecodeError:
            lines.append(decode_line(line, encoding))
            n_bad += 1
    return "\n".join(lines), n_bad


def decode_line(data: bytes, encoding: str = "cp1252") -> str:
    """Return the text of one line of unknown encoding; never raises.

    UTF-8 if it is valid. With some valid multi-byte characters in it, it is damaged UTF-8: U+FFFD
    for the damage. Otherwise `encoding` if that decodes it, then cp1252, then U+FFFD.
    """
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        pass
    if not _MULTIBYTE.search(data) or encoding not in ("utf-8", "cp1252"):
        for name in (encoding, "cp1252"):
            try:
                return data.decode(name)
            except UnicodeDecodeError:
                continue
    return data.decode("utf-8", "replace")


def is_binary(sample: bytes) -> bool:
    """Return whether a file that begins with `sample` is no text at all.

    Runs of zero bytes do not count: a log that was truncated under its writer begins with them.
    """
    if sample.startswith(_MAGIC):
        return True
    if detect_encoding(sample).is_wide:
        return False
    dense = _NUL_RUN.sub(b"", sample)
    if not dense:
        return False
    n_control = len(dense) - len(dense.translate(None, _CONTROL))
    return n_control > 0.05 * len(dense) or dense.count(0) > 0.1 * len(dense)


def _is_utf8(sample: bytes) -> bool:
    try:
        codecs.getincrementaldecoder("utf-8")().decode(sample)  # the last character may be cut
    except UnicodeDecodeError:
        return False
    return True


def _wide_without_bom(sample: bytes) -> str | None:
    head = sample[: len(sample) & ~1][:4096]
    if len(head) < 4:
        return None
    n_even, n_odd, n_pairs = head[::2].count(0), head[1::2].count(0), len(head) // 2
    if n_odd > 0.4 * n_pairs and n_even < 0.05 * n_pairs:
        return "utf-16-le"
    if n_even > 0.4 * n_pairs and n_odd < 0.05 * n_pairs:
        return "utf-16-be"
    return None


def _guess_legacy(sample: bytes, n_high: int) -> str:
    if n_high < _MIN_LEGACY_BYTES:
        return "cp1252"
    from charset_normalizer import from_bytes  # 50 ms to import, and rarely needed

    text = b"\n".join(_HIGH_LINES.findall(sample))[:_MAX_GUESS_BYTES]
    best = from_bytes(text, cp_isolation=_LEGACY).best()
    return best.encoding if best is not None else "cp1252"
