"""The one sanitiser: nothing untrusted reaches a terminal but through here.

Document text, file names, titles and model output may hold escape sequences that a terminal obeys
(clipboard writes, cursor reports, links), bidirectional overrides that reorder what is read, and
invisible characters. They are replaced by visible signs, one for one, so that offsets into the text
stay valid. The library keeps the text as it is; only the way to the screen passes here.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

MAX_COMBINING = 4  # marks on one base character; more is decoration that floods the lines around

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def _table() -> dict[int, str]:
    table = {code: chr(0x2400 + code) for code in range(0x20)}  # ␛ and its like
    del table[ord("\n")], table[ord("\t")]
    table[0x7F] = "\N{SYMBOL FOR DELETE}"
    hidden: list[Iterable[int]] = [
        range(0x80, 0xA0),  # C1: 0x9b is CSI, 0x9d is OSC
        (0x200B, 0x200E, 0x200F),  # zero width space, direction marks; joiners stay
        range(0x2028, 0x202F),  # line and paragraph separators, bidi embeddings and overrides
        range(0x2060, 0x2070),  # word joiner, isolates
        range(0xD800, 0xE000),  # lone surrogates
        range(0xFFF9, 0xFFFC),  # interlinear annotation
        range(0xE0000, 0xE0080),  # tags: text that nobody sees
        (0x061C, 0xFEFF),
    ]
    for codes in hidden:
        table.update(dict.fromkeys(codes, _REPLACEMENT))
    return table


_TABLE = _table()


def sanitize(text: str) -> str:
    r"""Return `text` with every character that a terminal could obey made visible.

    Newline and tab stay. A carriage return becomes `␍`. The length never grows; it shrinks only
    where more than MAX_COMBINING marks stand on one character. Idempotent.
    """
    clean = text.translate(_TABLE)
    return clean if clean.isascii() else _cap_marks(clean)


def sanitize_line(text: str) -> str:
    """Return `text` sanitised as one line: newlines and tabs become visible too (file names)."""
    return sanitize(text).replace("\n", "\N{SYMBOL FOR LINE FEED}").replace("\t", " ")


def _cap_marks(text: str) -> str:
    kept: list[str] = []
    marks = 0
    for character in text:
        marks = marks + 1 if unicodedata.combining(character) else 0
        if marks <= MAX_COMBINING:
            kept.append(character)
    return "".join(kept)
