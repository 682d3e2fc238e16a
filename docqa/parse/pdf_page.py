"""One PDF page as lines of text, ruling lines and pictures, upright whatever its rotation.

`read_page` asks MuPDF once and turns the answer so that most of the text reads from left to right.
Coordinates are points, y grows downwards, the origin is the upper left corner of the upright page.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import pymupdf

MAX_PAGE_CHARS = 2_000_000
_MAX_VECTORS = 4_000  # more is a drawing, not the rules of a table
_FLAGS = (
    pymupdf.TEXT_PRESERVE_WHITESPACE
    | pymupdf.TEXT_MEDIABOX_CLIP
    | pymupdf.TEXT_COLLECT_VECTORS
    | pymupdf.TEXT_ACCURATE_BBOXES
)
_BOLD = re.compile(r"bold|black|heavy|demi(?!lig)", re.IGNORECASE)
_WIDE = re.compile(r" {3,}")
_LEADER = re.compile(r"(?:\s{0,3}[.·_…]){5,}\s*")
_DROPPED = dict.fromkeys([*range(0x00, 0x09), *range(0x0E, 0x20), 0x7F, 0xFEFF, 0x200B, 0x2060])
_SPACED = dict.fromkeys([0x09, 0x0A, 0x0B, 0x0C, 0x0D, 0x85, 0xA0, *range(0x2000, 0x200B)], " ")
_SPACED |= dict.fromkeys([0x2028, 0x2029, 0x202F, 0x205F, 0x3000], " ")
_BULLETS = dict.fromkeys([0xF0B7, 0xF0A7, 0xF0A8, 0xF076, 0xF0D8, 0xF0FC, 0xF02D, 0xF06E], "•")
_BULLETS |= dict.fromkeys([0x25CF, 0x25AA, 0x25A0, 0x2023, 0x2043, 0x25E6, 0x2219], "•")
_CLEAN: dict[int, str | None] = {
    **_DROPPED,
    **_SPACED,
    **_BULLETS,
    **dict.fromkeys(range(0xD800, 0xE000), "�"),  # lone surrogates cannot be stored
    0x2010: "-",
    0x2011: "-",
    **{0xFB00 + i: word for i, word in enumerate(["ff", "fi", "fl", "ffi", "ffl", "st", "st"])},
}


@dataclass(slots=True)
class Line:
    """Text on one baseline without a wide gap. `bold` and `mono` hold for all of it."""

    x0: float
    y0: float
    x1: float
    y1: float
    text: str
    size: float
    bold: bool
    mono: bool
    order: int  # position in the content of the page


@dataclass(slots=True)
class PageText:
    """What a page shows. `sideways` runs in another direction than most of the text."""

    number: int
    width: float
    height: float
    lines: list[Line] = field(default_factory=list)
    sideways: list[Line] = field(default_factory=list)
    h_rules: list[tuple[float, float, float]] = field(default_factory=list)  # y, x0, x1
    v_rules: list[tuple[float, float, float]] = field(default_factory=list)  # x, y0, y1
    n_vectors: int = 0
    n_chars: int = 0
    n_unknown: int = 0  # characters of which the font does not say what they are
    is_cut: bool = False


def read_page(
    page: pymupdf.Page, number: int, textpage: pymupdf.TextPage | None = None
) -> PageText:
    """Return the text of a page; `textpage` is given where it comes from OCR.

    Raises whatever MuPDF raises for a broken page.
    """
    content = (textpage or page.get_textpage(flags=_FLAGS)).extractDICT()
    blocks = content["blocks"]
    found = PageText(number, float(content["width"]), float(content["height"]))
    turned = _direction(blocks)
    turn = _Turn(turned, found.width, found.height)
    if turned in ((0, 1), (0, -1)):
        found.width, found.height = found.height, found.width
    seen: set[tuple[str, int, int]] = set()
    for block in blocks:
        if block["type"] == 0:
            for line in block["lines"]:
                if found.n_chars > MAX_PAGE_CHARS:
                    found.is_cut = True
                    return found
                _add_line(found, line, turned, turn, seen)
        elif block["type"] == 3:
            found.n_vectors += 1
            if found.n_vectors <= _MAX_VECTORS:
                _add_vector(found, turn.box(block["bbox"]))
    if found.n_vectors > _MAX_VECTORS:
        found.h_rules.clear()
        found.v_rules.clear()
    return found


class _Turn:
    """Maps boxes so that text running in `direction` runs to the right."""

    def __init__(self, direction: tuple[int, int], width: float, height: float) -> None:
        self._direction, self._width, self._height = direction, width, height

    def box(self, box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
        x0, y0, x1, y1 = box
        if self._direction == (0, -1):  # upwards
            return self._height - y1, x0, self._height - y0, x1
        if self._direction == (0, 1):  # downwards
            return y0, self._width - x1, y1, self._width - x0
        if self._direction == (-1, 0):
            return self._width - x1, self._height - y1, self._width - x0, self._height - y0
        return box


def _quadrant(direction: tuple[float, float]) -> tuple[int, int]:
    """Return the axis along which text runs; (0, 0): slanted."""
    x, y = direction
    if abs(y) < 0.2:
        return (1, 0) if x > 0 else (-1, 0)
    if abs(x) < 0.2:
        return (0, 1) if y > 0 else (0, -1)
    return 0, 0


def _direction(blocks: list[dict]) -> tuple[int, int]:  # type: ignore[type-arg]
    """Return the axis along which most lines run."""
    exact: Counter[tuple[float, float]] = Counter(
        line["dir"] for block in blocks if block["type"] == 0 for line in block["lines"]
    )
    counts: Counter[tuple[int, int]] = Counter()
    for direction, n_lines in exact.items():
        counts[_quadrant(direction)] += n_lines
    counts.pop((0, 0), None)
    return counts.most_common(1)[0][0] if counts else (1, 0)


@functools.lru_cache(maxsize=1024)
def _is_bold(font: str) -> bool:
    return bool(_BOLD.search(font))


def _add_line(
    found: PageText,
    line: dict,  # type: ignore[type-arg]
    turned: tuple[int, int],
    turn: _Turn,
    seen: set[tuple[str, int, int]],
) -> None:
    text, size, bold, mono = _spans(line["spans"])
    if not text.strip():
        return
    found.n_unknown += text.count("�")
    x0, y0, x1, y1 = turn.box(line["bbox"])
    # Bold is often faked by printing the same twice, a hair apart.
    key = (text, round(x0 / 3), round(y0 / 3))
    if key in seen:
        return
    seen.add(key)
    found.n_chars += len(text)
    quadrant = _quadrant(line["dir"])
    order = len(seen)
    if quadrant != turned:
        if quadrant != (0, 0) or size < 30:  # large and slanted: a watermark
            found.sideways.append(Line(x0, y0, x1, y1, text.strip(), size, bold, mono, order))
        return
    stripped = text.strip()
    if "   " not in stripped:
        if "." in stripped or "_" in stripped:
            stripped = _LEADER.sub(" … ", stripped).strip()
        found.lines.append(Line(x0, y0, x1, y1, stripped, size, bold, mono, order))
        return
    # Columns made of blanks: cut there, places in proportion.
    per_char = (x1 - x0) / max(1, len(text))
    start = 0
    for match in [*_WIDE.finditer(text), None]:
        end = match.start() if match else len(text)
        piece = _LEADER.sub(" … ", text[start:end]).strip()
        if piece:
            left, right = x0 + start * per_char, x0 + end * per_char
            found.lines.append(Line(left, y0, right, y1, piece, size, bold, mono, order))
        start = match.end() if match else end


def _spans(spans: list[dict]) -> tuple[str, float, bool, bool]:  # type: ignore[type-arg]
    """Return text, size, and whether all of it is bold, monospaced."""
    if len(spans) == 1:
        span = spans[0]
        flags = span["flags"]
        return (
            _clean(span["text"]),
            span["size"],
            bool(flags & 16) or _is_bold(span["font"]),
            bool(flags & 8),
        )
    text, sizes, bold, mono = "", {}, True, True  # type: ignore[var-annotated]
    for span in spans:
        piece, flags = _clean(span["text"]), span["flags"]
        if not piece:
            continue
        if flags & 1 and text and piece.strip().isalnum():
            piece = _raised(text, piece)
        text += piece
        if piece.strip():
            sizes[span["size"]] = sizes.get(span["size"], 0) + len(piece)
            bold = bold and (bool(flags & 16) or _is_bold(span["font"]))
            mono = mono and bool(flags & 8)
    size = max(sizes, key=sizes.__getitem__) if sizes else 0.0
    return text, size, bold, mono


def _raised(before: str, piece: str) -> str:
    """Return superscript text so that it changes neither the number nor the word before it."""
    if before[-1].isdigit():
        return ("^" if not piece[0].isalpha() else "") + piece
    letters = len(before) - len(before.rstrip("abcdefghijklmnopqrstuvwxyz"))
    if letters >= 3 or before[-1] in '.,;:)"”’':
        return " " + piece
    return piece


def _clean(text: str) -> str:
    if text.isascii() and text.isprintable():
        return text
    return text.translate(_CLEAN)


def _add_vector(found: PageText, box: tuple[float, float, float, float]) -> None:
    x0, y0, x1, y1 = box
    width, height = x1 - x0, y1 - y0
    if width > 0.97 * found.width and height > 0.97 * found.height:
        return
    if height <= 3 and width > 8:
        found.h_rules.append(((y0 + y1) / 2, x0, x1))
    elif width <= 3 and height > 6:
        found.v_rules.append(((x0 + x1) / 2, y0, y1))
    elif width > 8 and height > 6:
        found.h_rules += [(y0, x0, x1), (y1, x0, x1)]
        found.v_rules += [(x0, y0, y1), (x1, y0, y1)]


def rows_by_baseline(lines: Sequence[Line]) -> list[list[Line]]:
    """Group lines that stand beside one another; rows from top to bottom, lines left to right."""
    rows: list[list[Line]] = []
    y0 = y1 = 0.0
    for line in sorted(lines, key=lambda item: (item.y0 + item.y1, item.x0)):
        middle = (line.y0 + line.y1) / 2
        if (
            rows
            and y0 <= middle <= y1
            and min(y1, line.y1) - max(y0, line.y0) > 0.5 * min(y1 - y0, line.y1 - line.y0)
        ):
            rows[-1].append(line)
        else:
            rows.append([line])
            y0, y1 = line.y0, line.y1
    for row in rows:
        row.sort(key=lambda item: item.x0)
    return rows
