"""Running headers, footers and page numbers: what repeats in the margins from page to page.

A row of text near the upper or lower edge is furniture if rows that read the same (numbers aside)
stand at the same height on other pages, or if it is nothing but the number of the page.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence

from docqa.parse.pdf_page import Line, PageText
from docqa.parse.pdf_tables import rows_by_baseline

_ZONE = 0.13  # of the page height, at each edge
_MAX_ROWS = 5  # looked at from each edge
_ROMAN = re.compile(r"\b[ivxlc]+\b")
_NUMBERS = re.compile(r"\d+")
_PAGE_NUMBER = re.compile(
    r"(?:page|p\.|seite|pg\.?)?\s*[-–—|\[(]?\s*"
    r"(?:[A-Z]{1,2}[-.])?(\d{1,5}|[ivxlc]{1,7})\s*[-–—|\])]?\s*(?:(?:of|/|von)\s*\d{1,5})?\.?$",
    re.IGNORECASE,
)


class Furniture:
    """Counts the rows in the margins of the pages seen so far and tells which repeat."""

    def __init__(self) -> None:
        self._pages: dict[str, dict[int, float]] = defaultdict(dict)  # text -> page -> height
        self._n_pages = 0

    def note(self, page: PageText) -> None:
        """Take a page into account; each page once."""
        self._n_pages += 1
        if len(self._pages) > 50_000:
            self._pages.clear()
        for rows, _ in _margins(page):
            for row in rows:
                self._pages[_shape(row)][page.number] = row[0].y0

    def remove(self, page: PageText, label: str | None) -> list[Line]:
        """Return the lines of a page that are not furniture."""
        dropped: set[int] = set()
        for rows, is_top in _margins(page):
            for row in rows:
                if not (self._repeats(row, page.number) or _is_number(row, page, label)):
                    if is_top and not _is_small(row):
                        break
                    # Between furniture and text there may be a single row that changes.
                    continue
                dropped.update(id(line) for line in row)
        return [line for line in page.lines if id(line) not in dropped]

    def _repeats(self, row: list[Line], number: int) -> bool:
        heights = self._pages.get(_shape(row), {})
        height = heights.get(number, row[0].y0)
        near = [
            p
            for p, y in heights.items()
            if p != number and abs(y - height) < 8 and abs(p - number) <= 24
        ]
        if self._n_pages <= 3:
            return len(near) >= 1
        return len(near) >= 2 or (len(near) == 1 and _has_page_number(row))


def _margins(page: PageText) -> list[tuple[list[list[Line]], bool]]:
    """Return the rows at the top, from the edge inwards, and those at the bottom."""
    zone = _ZONE * page.height
    top = rows_by_baseline([line for line in page.lines if line.y1 < zone])[:_MAX_ROWS]
    bottom = rows_by_baseline([line for line in page.lines if line.y0 > page.height - zone])
    return [(top, True), (bottom[::-1][:_MAX_ROWS], False)]


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


def _is_small(row: Sequence[Line]) -> bool:
    return sum(len(line.text) for line in row) < 60
