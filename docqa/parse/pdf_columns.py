"""Reading order of a page: one column, several columns, and what stretches over them.

A page is cut at what crosses the white gutter between columns (titles, figures, wide tables);
between two cuts the left column is read before the right one. Text side by side is only taken for
columns if it reads like them: full lines of prose, or pieces that the file itself holds one column
after the other. Labels with values beside them stay in rows.
"""

from __future__ import annotations

from collections.abc import Sequence

from docqa.parse.pdf_page import Line, rows_by_baseline
from docqa.parse.pdf_tables import Table

Item = Line | Table
_BIN = 3.0  # points: the resolution at which gutters are looked for
_MIN_LINES = 3  # of a column
_MAX_DEPTH = 3
_MIN_GUTTER = 7.0  # points
_MAX_VALLEYS = 4  # looked into, the emptiest first


def in_reading_order(items: Sequence[Item], depth: int = 0) -> list[list[Item]]:
    """Return columns in reading order, each the items of one stretch of one column."""
    if not items:
        return []
    gutter = _gutter(items) if depth < _MAX_DEPTH and len(items) >= 2 * _MIN_LINES else None
    if gutter is None:
        return [sorted_rows(items)]
    columns: list[list[Item]] = []
    wide: list[Item] = []
    bands = _bands(items, gutter)
    for i, band in enumerate(bands):
        left = [item for item in band if item.x1 <= gutter + 2]
        right = [item for item in band if item.x0 >= gutter - 2]
        if len(left) + len(right) < len(band) or not _are_columns(left, right):
            wide += band
            continue
        columns += in_reading_order(wide, _MAX_DEPTH)
        wide = []
        if i + 1 < len(bands):
            wide = _heading_below(left, right)
            left = [item for item in left if item not in wide]
        columns += in_reading_order(left, depth + 1)
        columns += in_reading_order(right, depth + 1)
    columns += in_reading_order(wide, _MAX_DEPTH)
    return columns


def _heading_below(left: Sequence[Item], right: Sequence[Item]) -> list[Item]:
    """Return the last lines at the left if they belong to the full-width text that follows.

    They stand below both columns, after a gap.
    """
    ordered = sorted(left, key=lambda item: item.y0)
    end = max(item.y1 for item in right)
    for n_lines in (1, 2, 3):
        if len(ordered) - n_lines < _MIN_LINES:
            break
        above, first = ordered[-n_lines - 1], ordered[-n_lines]
        if first.y0 - above.y1 > 0.8 * (first.y1 - first.y0):
            return list(ordered[-n_lines:]) if first.y0 > end else []
    return []


def sorted_rows(items: Sequence[Item]) -> list[Item]:
    """Return the items from top to bottom, those on one baseline from left to right."""
    lines = [item for item in items if isinstance(item, Line)]
    rows: list[list[Item]] = [list(row) for row in rows_by_baseline(lines)]
    rows += [[item] for item in items if isinstance(item, Table)]
    rows.sort(key=lambda row: min(item.y0 for item in row))
    return [item for row in rows for item in row]


def _gutter(items: Sequence[Item]) -> float | None:
    """Return the x that divides columns best; None where nothing does."""
    x0, x1 = min(item.x0 for item in items), max(item.x1 for item in items)
    width = x1 - x0
    if width < 150:
        return None
    n_bins = int(width / _BIN) + 2
    cover = [0] * (n_bins + 1)
    for item in items:
        cover[max(0, int((item.x0 - x0) / _BIN))] += 1
        cover[min(n_bins, int((item.x1 - x0) / _BIN) + 1)] -= 1
    counts, n_open = [], 0
    for change in cover[:n_bins]:
        n_open += change
        counts.append(n_open)
    best, best_score = None, 0.0
    for i, j in _valleys(counts, int(0.15 * n_bins), int(0.85 * n_bins)):
        if counts[i] > 0.4 * len(items):
            continue
        x = x0 + (i + j) / 2 * _BIN
        score = _columns_at(items, x)
        if score > best_score:
            best, best_score = x, score
    return best if best_score >= 2 * _MIN_LINES else None


def _valleys(counts: Sequence[int], low: int, high: int) -> list[tuple[int, int]]:
    """Return the lowest stretches [i, j) of equal counts between higher ones, wide enough."""
    found: list[tuple[int, int]] = []
    i = low
    while i < high:
        j = i
        while j < len(counts) and counts[j] == counts[i]:
            j += 1
        is_low = (i == 0 or counts[i - 1] > counts[i]) and (
            j >= len(counts) or counts[j] > counts[i]
        )
        if is_low and (j - i) * _BIN >= _MIN_GUTTER:
            found.append((i, j))
        i = j
    return sorted(found, key=lambda v: (counts[v[0]], v[0] - v[1]))[:_MAX_VALLEYS]


def _columns_at(items: Sequence[Item], x: float) -> float:
    """Return how many items a gutter at `x` puts in columns."""
    n_items = 0
    for band in _bands(items, x):
        left = [item for item in band if item.x1 <= x + 2]
        right = [item for item in band if item.x0 >= x - 2]
        if len(left) + len(right) == len(band) and _are_columns(left, right):
            n_items += len(band)
    return n_items


def _bands(items: Sequence[Item], x: float) -> list[list[Item]]:
    """Cut at the items that cross `x`; each crossing item is, or belongs to, a band of its own."""
    bands: list[list[Item]] = []
    was_crossing = False
    for item in sorted(items, key=lambda i: (i.y0 + i.y1, i.x0)):
        crosses = item.x0 < x - 2 and item.x1 > x + 2
        if not bands or crosses or was_crossing:
            bands.append([])
        bands[-1].append(item)
        was_crossing = crosses
    return bands


def _are_columns(left: Sequence[Item], right: Sequence[Item]) -> bool:
    if len(left) < _MIN_LINES or len(right) < _MIN_LINES:
        return _is_side_by_side(left, right)
    by_content = max(i.order for i in left) < min(i.order for i in right)
    prose = _is_prose(left) and _is_prose(right)
    if prose:
        return True
    return by_content and (_is_prose(left) or _is_prose(right)) and not _aligned(left, right)


def _is_side_by_side(left: Sequence[Item], right: Sequence[Item]) -> bool:
    """Whether a short end of one column stands beside a longer one: last lines of a page."""
    few, many = sorted((left, right), key=len)
    if not few or len(many) < _MIN_LINES:
        return False
    return _is_prose(many) and all(isinstance(i, Line) and len(i.text) > 20 for i in few[:1])


def _is_prose(items: Sequence[Item]) -> bool:
    """Whether most lines fill the column and hold several words."""
    lines = [item for item in items if isinstance(item, Line)]
    if len(lines) < _MIN_LINES:
        return bool(items) and not lines
    width = max(line.x1 for line in lines) - min(line.x0 for line in lines)
    n_full = sum(line.x1 - line.x0 > 0.6 * width and line.text.count(" ") >= 3 for line in lines)
    return n_full >= 0.45 * len(lines)


def _aligned(left: Sequence[Item], right: Sequence[Item]) -> bool:
    """Whether nearly every item of the shorter side has a neighbour on its baseline."""
    few, many = sorted((left, right), key=len)
    n_pairs = sum(any(abs(a.y1 - b.y1) < 2 for b in many) for a in few)
    return n_pairs > 0.8 * len(few)
