"""Tables and records in text files: each row says the names of its values.

`Name: Pump A | Flow: 12 m3/h` stands alone: a passage cut anywhere between rows still says what
its numbers are, and a word of the header finds every row.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

from docqa.parse.text import MAX_BLOCK_CHARS, Line, Source, batched_rows, read_plain
from docqa.types import Block, BlockKind

MAX_NAME_CHARS = 60
_MAX_JSON_CHARS = 32 * 1024 * 1024
_NUMBER = re.compile(r"[-+(]?[$€£]?\s*\d[\d.,\s]*\s*%?\)?$")


def labelled(names: Sequence[str], cells: Sequence[str]) -> str:
    """Return `name: value | …`; empty cells are left out, cells beyond the names stand bare."""
    parts = []
    for i, raw in enumerate(cells):
        cell = " ".join(raw.split())
        if not cell:
            continue
        name = names[i][:MAX_NAME_CHARS].strip().rstrip(":") if i < len(names) else ""
        parts.append(f"{name}: {cell}" if name else cell)
    return " | ".join(parts)


def is_header(first: Sequence[str], second: Sequence[str] | None) -> bool:
    """Whether a row names columns: distinct, short, no numbers, and different from the next."""
    cells = [cell.strip() for cell in first]
    filled = [cell for cell in cells if cell]
    if not filled or len(filled) < 0.5 * len(cells) or len(set(filled)) < len(filled):
        return False
    if any(_NUMBER.match(cell) or len(cell) > MAX_NAME_CHARS for cell in filled):
        return False
    return second is None or list(first) != list(second)


def read_csv(source: Source) -> Iterator[Block]:
    """Yield the rows of a CSV or TSV file, each with its column names and its own line."""
    csv.field_size_limit(MAX_BLOCK_CHARS * 16)
    lines = source.lines()
    head: list[Line] = []
    for line in lines:
        head.append(line)
        if len(head) >= 20:
            break
    if not head:
        return
    dialect = _delimiter(source, [text for _, text in head])
    rows = _csv_rows(chain(head, lines), dialect)
    first = next(rows, None)
    if first is not None:
        number, text, is_names = first
        kind = BlockKind.TABLE if is_names else BlockKind.LIST
        rest = ((n, t) for n, t, _ in rows)
        yield from batched_rows(chain([(number, text)], rest), kind)


def _csv_rows(lines: Iterator[Line], delimiter: str) -> Iterator[tuple[int, str, bool]]:
    """Yield line number, text, and whether it is the row of names."""
    numbers = _Numbers(lines)
    reader = csv.reader(numbers, delimiter=delimiter, skipinitialspace=True)
    names: list[str] = []
    first: tuple[int, list[str]] | None = None
    while True:
        numbers.is_start = True
        try:
            cells = next(reader)
        except StopIteration:
            break
        except csv.Error:  # a field beyond the limit: the line as it stands
            cells = [numbers.text[:MAX_BLOCK_CHARS]]
        if not any(cell.strip() for cell in cells):
            continue
        if first is None:
            first = (numbers.first, cells)
            continue
        if first[1]:
            names = _names(first, cells)
            yield first[0], labelled((), first[1]), bool(names)
            first = (0, [])
        yield numbers.first, labelled(names, cells), False
    if first and first[1]:
        yield first[0], labelled((), first[1]), False


def _names(first: tuple[int, list[str]], second: list[str]) -> list[str]:
    return [cell.strip() for cell in first[1]] if is_header(first[1], second) else []


class _Numbers:
    """Feeds lines to csv.reader and remembers the line at which the row began."""

    def __init__(self, lines: Iterator[Line]) -> None:
        self._lines = lines
        self.is_start = True
        self.first = 0
        self.text = ""

    def __iter__(self) -> _Numbers:
        return self

    def __next__(self) -> str:
        number, self.text = next(self._lines)
        if self.is_start:
            self.first, self.is_start = number, False
        return self.text + "\n"


def _delimiter(source: Source, head: list[str]) -> str:
    """Return the delimiter that splits the first lines most evenly."""
    if source.suffix == ".tsv":
        return "\t"
    best, best_score = ",", 0.0
    for delimiter in ",;\t|":
        counts = [len(row) for row in csv.reader(head, delimiter=delimiter) if row]
        width = max(set(counts), key=counts.count) if counts else 1
        score = counts.count(width) / len(counts) * min(width, 50) if width > 1 else 0.0
        if score > best_score:
            best, best_score = delimiter, score
    return best


def read_jsonl(source: Source) -> Iterator[Block]:
    """Yield one row for each record; what is no JSON stays as it stands."""

    def rows() -> Iterator[Line]:
        for number, text in source.lines():
            if text:
                yield number, flattened(text)

    yield from batched_rows(rows())


def read_json(source: Source) -> Iterator[Block]:
    """Yield a JSON file: pretty-printed as it stands, one long line as `path: value` lines."""
    lines: list[Line] = []
    n_chars = 0
    for line in source.lines():
        lines.append(line)
        n_chars += len(line[1])
        if len(lines) > 3 or n_chars > _MAX_JSON_CHARS:
            break
    if len(lines) > 3 or n_chars > _MAX_JSON_CHARS:
        yield from read_plain(source)
        return
    try:
        value = json.loads("".join(text for _, text in lines))
    except (ValueError, RecursionError):
        # Cut lines (see MAX_LINE_CHARS) and several values in a file are no error to report.
        yield from read_plain(source)
        return
    yield from batched_rows((1, row) for row in _leaves("", value))


def flattened(text: str) -> str:
    """Return one JSON object as `a.b: value | …`; anything else as it stands."""
    if not text.startswith("{"):
        return text
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return " | ".join(_leaves("", value)) or text


def _leaves(path: str, value: object) -> Iterator[str]:
    """Yield `path: value` for each leaf; a list of plain values is one leaf."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(f"{path}.{key}" if path else str(key), inner)
        return
    if isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        for i, item in enumerate(value):
            yield from _leaves(f"{path}[{i}]", item)
        return
    words = ", ".join(_word(item) for item in value) if isinstance(value, list) else _word(value)
    if words:
        yield f"{path}: {words}" if path else words


def _word(value: object) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = " ".join(str(value).split())
    return text.encode("utf-8", "replace").decode()  # JSON may spell lone surrogates


def rows_of(table: Iterable[Sequence[str]]) -> tuple[list[str], list[list[str]]]:
    """Split a table into its header (empty where it has none) and its rows."""
    rows = [list(row) for row in table]
    if len(rows) > 1 and is_header(rows[0], rows[1]):
        return rows[0], rows[1:]
    return [], rows
