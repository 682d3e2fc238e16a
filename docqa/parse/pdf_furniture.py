"""Running headers, footers and page numbers: what repeats in the margins from page to page.

A row of text near the upper or lower edge is furniture if rows that read the same (numbers aside)
stand at the same height on other pages, or if it is nothing but the number of the page.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from statistics import median

from docqa.parse.pdf_page import Line, PageText, rows_by_baseline

_ZONE = 0.11  # of the page height, at each edge
_LARGE = 1.25  # times the size of the page's text
_MAX_ROWS = 5  # looked at from each edge
_ROMAN = re.compile(r"\b[ivxlc]+\b")
_NUMBERS = re.compile(r"\b\d+\b")
_PAGE_NUMBER = re.compile(
    r"(?:page|p\.|seite|pg\.?)?\s*[-–—|\[(]?\s*"
    r"(?:[A-Z]{1,2}[-.])?(\d{1,5}|[ivxlc]{1,7})\s*[-–—|\])]?\s*(?:(?:of|/|von)\s*\d{1,5})?\.?$",
    re.IGNORECASE,
)


class Furniture:
    """Counts the rows in the margins of the pages seen so far and tells which repeat."""

    def __init__(self) -> None:
        self._pages: dict[str, dict[int, float]] = defaultdict(dict)  # text -> page -> height
        self._body = 10.0  # size of most lines of the page at hand

    def note(self, page: PageText) -> None:
        """Take a page into account; each page once."""
        if len(self._pages) > 50_000:
            self._pages.clear()
        for rows, n_rows in _margins(page):
            for row in rows[:n_rows]:
                for piece in _pieces(row):
                    self._pages[_shape(piece)][page.number] = row[0].y0

    def remove(self, page: PageText, label: str | None) -> list[Line]:
        """Return the lines of a page that are not furniture."""
        dropped: set[int] = set()
        self._body = median(line.size for line in page.lines) if page.lines else 10.0
        for rows, n_rows in _margins(page):
            drop = [
                self._repeats(row, page.number) or _is_number(row, page, label)
                for row in rows[:n_rows]
            ]
            while drop and not drop[-1]:
                drop.pop()
            if drop.count(False) > 1:  # one row in between may change: the title of a chapter
                drop = drop[: drop.index(False)]
            while drop and not _is_apart(rows, len(drop) - 1):
                drop.pop()
            for row, is_furniture in zip(rows, drop, strict=False):
                dropped.update(id(line) for line in row if is_furniture)
        kept = [line for line in page.lines if id(line) not in dropped]
        if kept:
            return kept
        # Nothing but furniture: the only words of the page are worth more than tidiness.
        return [line for line in page.lines if not _is_number([line], page, label)]

    def _repeats(self, row: list[Line], number: int) -> bool:
        return any(self._piece_repeats(piece, number) for piece in _pieces(row))

    def _piece_repeats(self, row: list[Line], number: int) -> bool:
        heights = self._pages.get(_shape(row), {})
        height = heights.get(number, row[0].y0)
        near = [
            p
            for p, y in heights.items()
            if p != number and abs(y - height) < 8 and abs(p - number) <= 24
        ]
        if row[0].size > _LARGE * self._body:
            return len(near) >= 4  # the same title over several slides is a title
        return len(near) >= 2 or any(abs(p - number) <= 2 for p in near)


def _pieces(row: list[Line]) -> list[list[Line]]:
    """Return the row and its parts: a title at the left repeats, the chapter at the right not."""
    if len(row) == 1 or row[0].x0 + 150 > row[-1].x0:
        return [row]
    return [row, *([line] for line in row if sum(map(str.isalpha, line.text)) >= 6)]


def _margins(page: PageText) -> list[tuple[list[list[Line]], int]]:
    """Return rows from the upper edge inwards, then from the lower one.

    The number with them says how many of the rows are in the margin; the rest is what follows.
    """
    zone = _ZONE * page.height
    top = rows_by_baseline([line for line in page.lines if line.y1 < 2 * zone])
    bottom = rows_by_baseline([line for line in page.lines if line.y0 > page.height - 2 * zone])
    bottom.reverse()
    n_top = sum(max(line.y1 for line in row) < zone for row in top[:_MAX_ROWS])
    n_bottom = sum(min(line.y0 for line in row) > page.height - zone for row in bottom[:_MAX_ROWS])
    return [(top, n_top), (bottom, n_bottom)]


def _is_apart(rows: list[list[Line]], i: int) -> bool:
    """Whether a row in the margin stands off from the text that follows inwards."""
    if i + 1 >= len(rows) or _has_page_number(rows[i]):
        return True
    row, text = rows[i][0], rows[i + 1][0]
    gap = max(text.y0 - row.y1, row.y0 - text.y1)
    return gap > 0.7 * (row.y1 - row.y0) or abs(row.size - text.size) > 0.6


def _shape(row: Sequence[Line]) -> str:
    text = " ".join(line.text for line in row)
    shape = _NUMBERS.sub("#", text)
    if len(shape) <= 12:
        shape = _ROMAN.sub("#", shape)
    return " ".join(shape.split()).lower()


def _has_page_number(row: Sequence[Line]) -> bool:
    return any(_PAGE_NUMBER.match(line.text.strip()) for line in row)


def _is_number(row: Sequence[Line], page: PageText, label: str | None) -> bool:
    """Whether the row is only the number of this page."""
    text = " ".join(line.text for line in row).strip()
    match = _PAGE_NUMBER.match(text)
    if not match:
        return False
    if label and match[1].lower() == label.lower():
        return True
    return match[1] == str(page.number) or text.lower().startswith("page")
