"""Files with a few bytes changed: blind mutations and those that know where numbers stand."""

from __future__ import annotations

import random
import re
import struct

EDGES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
WIDE_EDGES = (0, 1, 1 << 31, 1 << 32, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)
TOKENS = (
    *(b"obj", b"endobj", b"stream", b"endstream", b"xref", b"trailer", b"/Kids", b"/Count"),
    *(b"/Length", b"/Filter", b"/FlateDecode", b"/Type", b"/Page", b"<<", b">>", b"[", b"]", b"R"),
    *(b"/Font", b"/Parent", b"/Contents", b"/Resources", b"/MediaBox", b"(", b")", b"null"),
)


def flip(data: bytearray, rng: random.Random, end: int) -> None:
    """Change one byte of the first `end`."""
    data[rng.randrange(end)] = rng.randrange(256)


def overwrite(data: bytearray, rng: random.Random, end: int) -> None:
    """Put an edge of some integer type somewhere."""
    at = rng.randrange(end)
    value = rng.choice(
        (struct.pack("<I", rng.choice(EDGES)), struct.pack("<Q", rng.choice(WIDE_EDGES)))
    )
    data[at : at + len(value)] = value


def cut(data: bytearray, rng: random.Random, end: int) -> None:
    """Take some bytes out."""
    at = rng.randrange(end)
    del data[at : at + rng.randrange(1, 64)]


def double(data: bytearray, rng: random.Random, end: int) -> None:
    """Repeat some bytes."""
    at = rng.randrange(end)
    data[at:at] = data[at : at + rng.randrange(1, 64)]


def end_early(data: bytearray, rng: random.Random, end: int) -> None:
    """Cut the file off."""
    del data[rng.randrange(1, len(data)) :]


def pdf_number(data: bytearray, rng: random.Random, end: int) -> None:
    """Replace a number of the file by another one."""
    numbers = [m.span() for m in re.finditer(rb"(?<![\w.])\d+(?![\w.])", bytes(data[:end]))]
    if numbers:
        start, stop = rng.choice(numbers)
        new = rng.choice(
            (0, 1, 2, 3, -1, 65535, 2**31 - 1, 2**31, 2**32, 10**12, rng.randrange(50))
        )
        data[start:stop] = str(new).encode()


def pdf_token(data: bytearray, rng: random.Random, end: int) -> None:
    """Replace a word of PDF's grammar by another one."""
    token = rng.choice(TOKENS)
    places = [m.start() for m in re.finditer(re.escape(token), bytes(data))]
    if places:
        at = rng.choice(places)
        data[at : at + len(token)] = rng.choice(TOKENS)


BLIND = (flip, overwrite, cut, double, end_early)
PDF = (flip, flip, overwrite, cut, double, pdf_number, pdf_number, pdf_token, pdf_token, end_early)
GGUF = (*(flip,) * 5, *(overwrite,) * 4, cut, double, end_early)


def mutated(original: bytes, rng: random.Random, kinds: tuple, end: int | None = None) -> bytes:
    """Return `original` with one to three changes within its first `end` bytes."""
    data = bytearray(original)
    for _ in range(rng.choice((1, 1, 2, 3))):
        last = min(len(data), end or len(data))
        if last < 2:
            break
        rng.choice(kinds)(data, rng, last)
    return bytes(data)
