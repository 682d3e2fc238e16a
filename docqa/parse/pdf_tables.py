"""Tables of a PDF page that are ruled off, and how a table is written: one row a line, with names.

Written instead of calling PyMuPDF's `find_tables`, which takes a hundred times as long as reading
the text of the page (measured on a report of 80 pages). Tables without rules: pdf_aligned.py.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from docqa.parse.pdf_page import Line, PageText
from docqa.parse.rows import is_header, labelled

_TOLERANCE = 3.0  # points between things that are meant to touch
_MAX_CELL_CHARS = 700  # longer cells on average: boxes around prose, not a table
_MAX_LABEL_CHARS = 60
NUMERIC = re.compile(
    r"[-+(±<>≤≥~]?\s*[$€£]?\s*[\d][\d.,:/\s%()±-]*[a-zA-Z%°]{0,4}\)?$|[-–—]$|[nN]/?[aA]$"
)


@dataclass(slots=True)
class Table:
    """A table: its place, its cells row by row, and the lines it is made of."""

    x0: float
    y0: float
    x1: float
    y1: float
    rows: list[list[str]]
    used: list[Line]
    columns: list[float] = field(default_factory=list)  # left edges, to tell a continuation
    order: int = 0
    bold_head: bool = False  # only the first row is bold: it names the columns

    def texts(self, before: Table | None = None) -> tuple[str, list[str]]:
        """Return (title or column names, one text a row); the first is empty where there is none.

        Names are taken from `before`, the table that this one continues, where it has none.
        """
        title, rows = self._titled()
        names, body = header_of(rows, self.bold_head)
        if before is not None and len(before.rows[0]) == len(self.rows[0]):
            earlier, _ = header_of(before._titled()[1], before.bold_head)
            if not names and earlier and _same_places(before.columns, self.columns):
                names = earlier
        if names:
            texts = [labelled(names, row) for row in body]
        elif len(rows[0]) == 2 and all(len(row[0]) <= _MAX_LABEL_CHARS for row in body):
            texts = [_pair(*row) for row in body]
        else:
            texts = [_form_row(row) for row in body]
        head = " – ".join([*title, *([" | ".join(filter(None, names))] if names else [])])
        return head, [text for text in texts if text]

    def _titled(self) -> tuple[list[str], list[list[str]]]:
        """Split off a first row of one cell that stretches over the others."""
        filled = [cell for cell in self.rows[0] if cell]
        if len(filled) == 1 and len(self.rows) > 2 and sum(map(bool, self.rows[1])) > 1:
            return filled, self.rows[1:]
        return [], self.rows


def _pair(label: str, value: str) -> str:
    """Return a label with its value, as in a table of two columns that have no names."""
    if not label or not value:
        return label or value
    return f"{label} {value}" if label.endswith(":") else f"{label}: {value}"


def _form_row(row: Sequence[str]) -> str:
    """Return a row without column names; a label that ends in a colon keeps its value beside it."""
    parts: list[str] = []
    for cell in row:
        text = " ".join(cell.split())
        if not text:
            continue
        if parts and parts[-1].endswith(":") and not text.endswith(":"):
            parts[-1] += f" {text}"
        else:
            parts.append(text)
    return " | ".join(parts)


def header_of(
    rows: Sequence[list[str]], bold_head: bool = False
) -> tuple[list[str], list[list[str]]]:
    """Split rows into column names (empty where there are none) and the body.

    Names in two rows ("2019" over "Actual") are joined, empty ones filled from the left.
    """
    if len(rows) < 2 or len(rows[0]) < 2:
        return [], list(rows)
    second = rows[1]
    if _is_names(rows[0], second) and (bold_head or len(rows[0]) > 2 or _is_numbers(rows)):
        return rows[0], list(rows[1:])
    if len(rows) > 2 and sum(map(bool, rows[0])) < len(rows[0]) and not rows[0][0]:
        filled, last = [], ""
        for cell in rows[0]:
            last = cell or last
            filled.append(last)
        names = [f"{a} {b}".strip() for a, b in zip(filled, second, strict=True)]
        if _is_names(names, rows[2]) and all(not NUMERIC.match(cell) for cell in second if cell):
            return names, list(rows[2:])
    return [], list(rows)


def _is_numbers(rows: Sequence[list[str]]) -> bool:
    """Whether the second column holds numbers under a name that is none."""
    values = [row[1] for row in rows[1:] if row[1]]
    n_numbers = sum(bool(NUMERIC.match(value)) for value in values)
    return n_numbers >= 0.8 * len(values) > 0 and not any(map(str.isdigit, rows[0][1]))


def _is_names(first: list[str], second: list[str]) -> bool:
    filled = [cell for cell in first if cell]
    # Years are names of columns, though they are numbers.
    plain = [
        re.sub(r"^(?:FY\s*)?(?:19|20)\d\d(?:[-–/]\d{2,4})?$", f"y{i}", c)
        for i, c in enumerate(first)
    ]
    if any(cell.endswith(":") or ": " in cell for cell in filled):
        return False  # a form: cells carry their own labels
    return len(filled) >= 2 and is_header(plain, second)


def _same_places(a: list[float], b: list[float]) -> bool:
    return len(a) == len(b) and all(abs(x - y) < 15 for x, y in zip(a, b, strict=True))


def find_ruled(page: PageText) -> list[Table]:
    """Return the tables of a page whose cells are ruled off."""
    if len(page.h_rules) < 2:
        return []
    h_rules, v_rules = _merged(page.h_rules), _merged(page.v_rules)
    tables = []
    for hs, vs in _components(h_rules, v_rules):
        table = _grid(page, hs, vs)
        if table:
            tables.append(table)
    return tables


def _merged(rules: list[tuple[float, float, float]]) -> list[tuple[float, float, float]]:
    """Join rules on one line that touch; dashes and cell borders become whole rules."""
    merged: list[tuple[float, float, float]] = []
    by_place: list[list[tuple[float, float, float]]] = []
    for rule in sorted(rules):
        if by_place and rule[0] - by_place[-1][0][0] <= 2.5:
            by_place[-1].append(rule)
        else:
            by_place.append([rule])
    for group in by_place:
        place = group[0][0]
        start, end = None, 0.0
        for _, first, last in sorted(group, key=lambda r: r[1]):
            if start is not None and first <= end + _TOLERANCE:
                end = max(end, last)
                continue
            if start is not None:
                merged.append((place, start, end))
            start, end = first, last
        if start is not None:
            merged.append((place, start, end))
    return [rule for rule in merged if rule[2] - rule[1] > 6]


_Rules = list[tuple[float, float, float]]


def _components(h_rules: _Rules, v_rules: _Rules) -> list[tuple[_Rules, _Rules]]:
    """Return groups of rules that cross or touch one another."""
    if len(h_rules) * len(v_rules) > 250_000:
        return []
    parent = list(range(len(h_rules) + len(v_rules)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for i, (y, x0, x1) in enumerate(h_rules):
        for j, (x, y0, y1) in enumerate(v_rules):
            if x0 - _TOLERANCE <= x <= x1 + _TOLERANCE and y0 - _TOLERANCE <= y <= y1 + _TOLERANCE:
                parent[root(len(h_rules) + j)] = root(i)
    groups: dict[int, tuple[_Rules, _Rules]] = {}
    for i, rule in enumerate(h_rules):
        groups.setdefault(root(i), ([], []))[0].append(rule)
    for j, rule in enumerate(v_rules):
        groups.setdefault(root(len(h_rules) + j), ([], []))[1].append(rule)
    return [(hs, vs) for hs, vs in groups.values() if len(hs) >= 2 and vs]


def _grid(page: PageText, hs: _Rules, vs: _Rules) -> Table | None:
    x0, x1 = min(h[1] for h in hs), max(h[2] for h in hs)
    y0, y1 = min(h[0] for h in hs), max(h[0] for h in hs)
    width = x1 - x0
    columns = _places([x0, *(v[0] for v in vs if v[2] - v[1] > 0.25 * min(40, y1 - y0)), x1])
    rows = _places([h[0] for h in hs if h[2] - h[1] > min(0.2 * width, 60)] or [y0, y1])
    if len(columns) < 3 or len(rows) < 2:
        return None
    used = [
        line
        for line in page.lines
        if x0 - 2 <= (line.x0 + line.x1) / 2 <= x1 + 2
        and rows[0] - 2 <= (line.y0 + line.y1) / 2 <= rows[-1] + 2
    ]
    cells: list[list[list[Line]]] = [
        [[] for _ in range(len(columns) - 1)] for _ in range(len(rows) - 1)
    ]
    for line in used:
        row = _slot(rows, (line.y0 + line.y1) / 2)
        column = _slot(columns, min((line.x0 + line.x1) / 2, line.x0 + 12))
        cells[row][column].append(line)
    texts = _merged_down([[_cell(cell) for cell in row] for row in cells], hs, rows, columns)
    return checked(texts, used, columns, (x0, rows[0], x1, rows[-1]))


def _merged_down(
    texts: list[list[str]], hs: _Rules, rows: list[float], columns: list[float]
) -> list[list[str]]:
    """Join cells between which no rule runs; a short one at the left names all of its rows."""
    for c in range(len(columns) - 1):
        middle = (columns[c] + columns[c + 1]) / 2
        top = 0
        for r in range(1, len(rows) - 1):
            if any(abs(y - rows[r]) < 4 and x0 - 3 <= middle <= x1 + 3 for y, x0, x1 in hs):
                top = r
                continue
            texts[top][c] = f"{texts[top][c]} {texts[r][c]}".strip()
            texts[r][c] = ""
        if c == 0:
            _fill_down(texts, hs, rows, middle)
    return texts


def _fill_down(texts: list[list[str]], hs: _Rules, rows: list[float], middle: float) -> None:
    for r in range(1, len(rows) - 1):
        is_ruled = any(abs(y - rows[r]) < 4 and x0 - 3 <= middle <= x1 + 3 for y, x0, x1 in hs)
        if not is_ruled and len(texts[r - 1][0]) <= _MAX_LABEL_CHARS and any(texts[r]):
            texts[r][0] = texts[r - 1][0]


def _places(values: list[float]) -> list[float]:
    """Return sorted places, those closer than 4 points taken as one."""
    places: list[float] = []
    for value in sorted(values):
        if not places or value - places[-1] > 4:
            places.append(value)
    return places


def _slot(edges: list[float], value: float) -> int:
    for i in range(1, len(edges) - 1):
        if value < edges[i]:
            return i - 1
    return len(edges) - 2


def _cell(lines: list[Line]) -> str:
    return " ".join(line.text for line in sorted(lines, key=lambda c: (round(c.y0 / 4), c.x0)))


def checked(
    texts: list[list[str]],
    used: list[Line],
    columns: list[float],
    box: tuple[float, float, float, float],
) -> Table | None:
    """Return the table without its empty rows and columns; None where it is none."""
    keep = [i for i in range(len(texts[0])) if any(row[i] for row in texts)]
    rows = [[row[i] for i in keep] for row in texts if any(row)]
    filled = [cell for row in rows for cell in row if cell]
    if len(rows) < 2 or len(keep) < 2 or len(filled) < 3:
        return None
    if sum(map(len, filled)) / len(filled) > _MAX_CELL_CHARS:
        return None
    if sum(1 for row in rows if sum(map(bool, row)) >= 2) < max(1, 0.3 * len(rows)):
        return None
    order = min(line.order for line in used)
    return Table(*box, rows, used, [columns[i] for i in keep], order, _has_bold_head(rows, used))


def _has_bold_head(rows: list[list[str]], used: list[Line]) -> bool:
    head = " ".join(rows[0])
    body = " ".join(cell for row in rows[1:] for cell in row)
    worded = [line for line in used if any(map(str.isalnum, line.text))]
    bold_chars = sum(len(line.text) for line in worded if line.bold)
    is_bold = all(line.bold for line in worded if line.text in head and line.text not in body)
    return is_bold and 0 < bold_chars < len(head) + 0.3 * len(body)
