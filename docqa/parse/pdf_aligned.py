"""Tables without ruling lines: rows of short pieces that share white gaps."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from statistics import median

from docqa.parse.pdf_page import Line, rows_by_baseline
from docqa.parse.pdf_tables import NUMERIC, Table, checked

_PROSE_CHARS = 45  # a row of longer pieces is text in columns


def find_aligned(lines: Sequence[Line]) -> list[Table]:
    """Return tables without a grid: consecutive rows of short pieces in shared columns.

    The lines are those of one column of the page.
    """
    tables = []
    run: list[list[Line]] = []
    for row in [*rows_by_baseline(lines), []]:
        if row and _continues(run, row):
            run.append(row)
            continue
        table = _from_run(run)
        if table:
            tables.append(table)
        run = [row] if _is_tabular(row) else []
    return tables


def _is_tabular(row: list[Line]) -> bool:
    if len(row) < 2:
        return False
    gaps = [b.x0 - a.x1 for a, b in itertools.pairwise(row)]
    return max(gaps) > 0.8 * row[0].size and median(len(line.text) for line in row) <= _PROSE_CHARS


def _continues(run: list[list[Line]], row: list[Line]) -> bool:
    if not run:
        return False
    above = run[-1]
    size = max(line.size for line in above)
    if row[0].y0 - max(line.y1 for line in above) > 2.2 * size:
        return False
    if _is_tabular(row):
        return True
    # A wrapped cell: a short piece that begins where a piece of the rows above does.
    line = row[0]
    starts = [item.x0 for r in run[-3:] for item in r]
    return (
        len(row) == 1
        and len(line.text) <= _PROSE_CHARS
        and abs(line.size - size) < 1
        and any(abs(line.x0 - x) < 4 for x in starts)
        and line.y0 - max(item.y1 for item in above) < 0.6 * size
    )


def _from_run(run: list[list[Line]]) -> Table | None:
    while run and len(run[-1]) < 2:
        run.pop()
    wide = [row for row in run if len(row) >= 2]
    if len(wide) < 3:
        return None
    used = [line for row in run for line in row]
    columns = _gaps(used, len(run))
    if len(columns) < 2:
        return None
    texts: list[list[str]] = []
    for row in run:
        cells = [""] * len(columns)
        for line in row:
            i = max(0, sum(line.x0 >= x - 2 for x in columns) - 1)
            cells[i] = f"{cells[i]} {line.text}".strip()
        if len(row) == 1 and texts and not cells[0]:
            texts[-1] = [f"{a} {b}".strip() for a, b in zip(texts[-1], cells, strict=True)]
        else:
            texts.append(cells)
    body = [cell for row in texts[1:] for cell in row[1:] if cell]
    n_numeric = sum(bool(NUMERIC.match(cell)) for cell in body)
    if len(columns) == 2 and n_numeric < 0.5 * len(body):
        return None  # labels and values, or two columns of prose: reading order serves them
    if n_numeric < 0.25 * len(body):
        return None
    box = (
        min(line.x0 for line in used),
        min(line.y0 for line in used),
        max(line.x1 for line in used),
        max(line.y1 for line in used),
    )
    return checked(texts, used, columns, box)


def _gaps(lines: list[Line], n_rows: int) -> list[float]:
    """Return the left edges of the columns: what white gaps leave that few lines cross."""
    x0 = min(line.x0 for line in lines)
    n_bins = int((max(line.x1 for line in lines) - x0) / 2) + 1
    cover = [0] * (n_bins + 1)
    for line in lines:
        cover[int((line.x0 - x0) / 2)] += 1
        cover[min(n_bins, int((line.x1 - x0) / 2) + 1)] -= 1
    columns, n_open, was_white = [], 0, True
    for i in range(n_bins):
        n_open += cover[i]
        is_white = n_open <= 0.04 * n_rows
        if was_white and not is_white:
            columns.append(x0 + 2 * i)
        was_white = is_white
    return columns
