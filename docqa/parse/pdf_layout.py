"""Lines of a page to paragraphs, headings, lists and tables."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from docqa.parse.pdf_aligned import find_aligned
from docqa.parse.pdf_columns import Item, in_reading_order, sorted_rows
from docqa.parse.pdf_page import Line, PageText, rows_by_baseline
from docqa.parse.pdf_tables import Table, find_ruled
from docqa.parse.pdf_words import Vocabulary, is_finished, may_continue
from docqa.types import BlockKind

_BULLET = re.compile(
    r"(?:[•·*▶►➢➤✓✔○o–—-]\s+\S|[•▶►➢➤✓✔○]|\(?(?:\d{1,3}|[a-zA-Z]|[ivx]{1,5})[.)]\s+\S|\[\d{1,3}\]\s)"
)
_ONLY_BULLET = re.compile(r"(?:[•·*▶►➢➤✓✔○o–-]|\(?(?:\d{1,3}|[a-zA-Z]|[ivx]{1,5})[.)])$")
_SECTION = re.compile(r"(\d{1,2}(?:\.\d{1,3}){0,5})\.?\s+\S|([A-Z])\.(\d{1,2}(?:\.\d{1,2})*)?\s+\S")
_NAMED = re.compile(
    r"(?:chapter|part|article|appendix|annex|section|exhibit|schedule)\s+[\dIVXLCA-Z]+\b", re.I
)
_CAPTION = re.compile(r"(?:figure|fig\.|table|chart|exhibit|source|note)s?\b[\s:]*\d*", re.I)
_NOT_ALNUM = re.compile(r"[\W_]+")
_DOTS = re.compile(r"(?:\s*\.){4,}\s*")
_TOC_END = re.compile(r"…\s?[\w.-]{1,8}$")
_INITIAL = re.compile(r"(?:^|[\s(])(?:[A-Z]\.)+$")


@dataclass(slots=True)
class Paragraph:
    """A block of one page. `is_open`: its sentence may go on in the next column or page."""

    text: str
    kind: BlockKind
    size: float
    level: int = 0
    is_open: bool = False
    table: Table | None = None
    is_aside: bool = False  # a footnote or caption: the text goes on around it


class Styles:
    """The sizes of the document's text; the most frequent one is the body's."""

    def __init__(self) -> None:
        self._sizes: Counter[float] = Counter()
        self.body = 10.0
        self.large = 10.0  # the largest size that is too frequent for headings

    def note(self, page: PageText) -> None:
        """Take a page into account."""
        for line in page.lines:
            self._sizes[round(line.size * 2) / 2] += len(line.text)
        if self._sizes:
            self.body = self._sizes.most_common(1)[0][0] or 10.0
            enough = 0.15 * self._sizes.total()
            self.large = max(
                size for size, n in self._sizes.items() if n >= enough or size == self.body
            )


def layout(
    page: PageText,
    lines: list[Line],
    styles: Styles,
    outline: Mapping[str, int],
    vocabulary: Vocabulary,
) -> list[Paragraph]:
    """Return the paragraphs of a page in reading order.

    Args:
        page: where rules and sideways text are taken from.
        lines: the lines of the page without headers and footers.
        styles: sizes of the document's text.
        outline: normalised titles of the bookmarks that lead to this page -> level.
        vocabulary: words of the document, for hyphens.
    """
    for line in lines:
        vocabulary.note(line.text)
    kept = PageText(page.number, page.width, page.height, lines)
    kept.h_rules, kept.v_rules = page.h_rules, page.v_rules
    tables = find_ruled(kept)
    used = {id(line) for table in tables for line in table.used}
    items: list[Item] = [line for line in lines if id(line) not in used]
    paragraphs: list[Paragraph] = []
    for column in in_reading_order([*items, *tables]):
        found = _column(_with_aligned(column), styles, outline, vocabulary)
        if paragraphs and found and _goes_on(paragraphs[-1], found[0]):
            paragraphs[-1] = _joined(paragraphs[-1], found.pop(0), vocabulary)
        paragraphs += found
    for row in rows_by_baseline(page.sideways):
        text = " ".join(line.text for line in row)
        paragraphs.append(Paragraph(text, BlockKind.PARAGRAPH, row[0].size, is_aside=True))
    return paragraphs


def _with_aligned(column: list[Item]) -> list[Item]:
    """Return a column in which lines that form a table without rules have become one."""
    tables = find_aligned([item for item in column if isinstance(item, Line)])
    if not tables:
        return column
    used = {id(line) for table in tables for line in table.used}
    return sorted_rows([*(item for item in column if id(item) not in used), *tables])


def _goes_on(before: Paragraph, after: Paragraph) -> bool:
    plain = (BlockKind.PARAGRAPH, BlockKind.LIST)
    return (
        before.is_open
        and before.kind in plain
        and after.kind is BlockKind.PARAGRAPH
        and abs(before.size - after.size) < 0.6
        and may_continue(before.text, after.text)
    )


def _joined(before: Paragraph, after: Paragraph, vocabulary: Vocabulary) -> Paragraph:
    text = vocabulary.join(before.text, after.text)
    return Paragraph(text, before.kind, before.size, is_open=after.is_open)


@dataclass(slots=True)
class _Row:
    """What stands on one baseline of a column."""

    x0: float
    y0: float
    x1: float
    y1: float
    text: str
    size: float
    bold: bool
    mono: bool
    is_split: bool  # several pieces with wide gaps: a label and its value


def _row_text(row: Sequence[Line]) -> str:
    text = " ".join(line.text for line in row)
    return _DOTS.sub(" … ", text) if ". ." in text else text


def _rows(lines: Sequence[Line]) -> list[_Row]:
    rows = []
    for row in rows_by_baseline(lines):
        last = row[-1]
        longest = max(row, key=lambda line: len(line.text))
        gaps = [b.x0 - a.x1 for a, b in itertools.pairwise(row)]
        is_split = len(row) > 1 and max(gaps) > 1.5 * longest.size
        if is_split and _ONLY_BULLET.match(row[0].text):
            is_split = len(row) > 2
        rows.append(
            _Row(
                row[0].x0,
                min(line.y0 for line in row),
                max(line.x1 for line in row) if len(row) > 1 else last.x1,
                max(line.y1 for line in row),
                _row_text(row),
                longest.size,
                all(line.bold or not any(map(str.isalnum, line.text)) for line in row),
                all(line.mono for line in row),
                is_split,
            )
        )
    return rows


def _column(
    items: Sequence[Item], styles: Styles, outline: Mapping[str, int], vocabulary: Vocabulary
) -> list[Paragraph]:
    """Return the paragraphs of one stretch of one column."""
    paragraphs: list[Paragraph] = []
    lines: list[Line] = []
    for item in [*items, None]:
        if isinstance(item, Line):
            lines.append(item)
            continue
        paragraphs += _stretch(_rows(lines), styles, outline, vocabulary)
        lines = []
        if item is not None:
            paragraphs.append(Paragraph("", BlockKind.TABLE, 0.0, table=item))
    return paragraphs


def _stretch(
    rows: list[_Row], styles: Styles, outline: Mapping[str, int], vocabulary: Vocabulary
) -> list[Paragraph]:
    if not rows:
        return []
    left, right = min(row.x0 for row in rows), max(row.x1 for row in rows)
    steps = [
        (b.y1 - a.y1) / b.size
        for a, b in itertools.pairwise(rows)
        if abs(a.size - b.size) < 0.6 and 0 < b.y1 - a.y1 < 3.2 * b.size
    ]
    step = min(median(steps), 2.6) if steps else 1.2
    groups: list[list[_Row]] = []
    for row in rows:
        if groups and not _breaks(groups[-1], row, left, right, step):
            groups[-1].append(row)
        else:
            groups.append([row])
    return [_paragraph(group, right, styles, outline, vocabulary) for group in groups]


def _breaks(group: list[_Row], row: _Row, left: float, right: float, step: float) -> bool:
    """Whether `row` begins a paragraph after the rows of `group`."""
    above = group[-1]
    size = max(above.size, row.size, 1.0)
    if (row.y1 - above.y1) > 1.28 * step * size + 0.5:
        return True
    if abs(row.size - above.size) > 0.08 * above.size + 0.4 or row.mono != above.mono:
        return True
    if above.is_split or row.is_split:
        return True
    if row.bold != above.bold and _ends_short(above, right):
        return True
    if above.bold and row.bold and _SECTION.match(row.text):
        return True
    return _begins_anew(group, row, left, right)


def _begins_anew(group: list[_Row], row: _Row, left: float, right: float) -> bool:
    """Whether the words and the margins say that a paragraph or an item begins at `row`."""
    above, first = group[-1], group[0]
    if _TOC_END.search(above.text):
        return True
    if _INITIAL.search(above.text):
        return False  # "U." and "S. Government" on two lines
    is_item = bool(_BULLET.match(first.text))
    if _BULLET.match(row.text) and (is_finished(above.text) or is_item or row.x0 > left + 4):
        return True
    if is_item:
        return row.x0 <= first.x0 + 1 and is_finished(above.text) and _ends_short(above, right)
    if is_finished(above.text):
        is_indented = 0.8 * above.size < row.x0 - above.x0 and row.x0 - left < 6 * above.size
        return is_indented or _ends_short(above, right)
    return row.text.rstrip().endswith(":") and _ends_short(above, right) and len(row.text) < 40


def _ends_short(row: _Row, right: float) -> bool:
    """Whether there was room for the next word on the line."""
    return right - row.x1 > 5 * row.size


def _paragraph(
    rows: list[_Row],
    right: float,
    styles: Styles,
    outline: Mapping[str, int],
    vocabulary: Vocabulary,
) -> Paragraph:
    is_code = len(rows) > 1 and all(row.mono for row in rows) and _looks_like_code(rows)
    if is_code:
        left = min(row.x0 for row in rows)
        per_char = max(1.0, 0.6 * rows[0].size)
        text = "\n".join(" " * int((row.x0 - left) / per_char + 0.3) + row.text for row in rows)
        return Paragraph(text, BlockKind.CODE, rows[0].size)
    text = rows[0].text
    for row in rows[1:]:
        text = vocabulary.join(text, row.text)
    text = text.replace("\u00ad", "")
    text = " ".join(text.split())
    size = rows[0].size
    level = _heading_level(rows, text, styles, outline)
    if level:
        return Paragraph(text, BlockKind.HEADING, size, level)
    kind = BlockKind.LIST if _BULLET.match(text) else BlockKind.PARAGRAPH
    is_aside = size < 0.92 * styles.body or bool(_CAPTION.match(text) and len(text) < 300)
    is_open = not is_finished(text) and not _ends_short(rows[-1], right)
    return Paragraph(text, kind, size, is_open=is_open, is_aside=is_aside)


def _looks_like_code(rows: list[_Row]) -> bool:
    marks = sum(
        row.text.endswith((";", "{", "}", ")", "\\", ":")) or "=" in row.text for row in rows
    )
    return marks >= 0.4 * len(rows)


def normal_title(text: str) -> str:
    """Return letters and digits only, to compare a heading with a bookmark."""
    return _NOT_ALNUM.sub("", text.lower())


def _heading_level(rows: list[_Row], text: str, styles: Styles, outline: Mapping[str, int]) -> int:
    """Return 1..6, or 0 for text that is no heading."""
    if len(rows) > 4 or len(text) > 250 or "…" in text:  # "…": an entry of a table of contents
        return 0
    n_letters = sum(map(str.isalpha, text))
    if n_letters < 2:
        return 0
    named = outline.get(normal_title(text))
    if named:
        return named
    ratio = rows[0].size / max(styles.body, styles.large)
    if ratio >= 1.13 and not (text.count(" ") > 9 and is_finished(text)):
        by_size = 1 if ratio >= 1.6 else 2 if ratio >= 1.3 else 3
        return _depth(text) or by_size
    if len(rows) > 2 or len(text) > 150 or rows[0].is_split or rows[0].size < 0.9 * styles.body:
        return 0
    if _CAPTION.match(text) or (text.endswith((".", ",", ";")) and not _SECTION.match(text)):
        return 0
    caps = n_letters >= 4 and text == text.upper() and len(text) <= 100
    if not (caps or all(row.bold for row in rows)):
        return 0
    if _BULLET.match(text) and not _SECTION.match(text) and not caps:
        return 0
    return _depth(text) or (1 if _NAMED.match(text) and ratio > 1.05 else 4 if not caps else 3)


def _depth(text: str) -> int:
    """Return how deep a numbered heading is: `2.1.3 Title` gives 3."""
    match = _SECTION.match(text)
    if not match:
        return 0
    if match[2]:
        return 1 + (match[3].count(".") + 1 if match[3] else 0)
    return min(6, match[1].count(".") + 1)
