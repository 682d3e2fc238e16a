"""Logs as records: a line that begins with a time, and the lines that continue it.

`parse_log` yields one block a record and is the readable specification; ingest reads logs with
`docqa.chunk_log.chunk_log_records`, which makes chunks of the same records without building a
block for each. Both take their records from `RecordReader`.

What counts as a record: a line with a header of one of the file's formats (log_format.py). Lines
without one (stack traces, SQL, dumps) belong to the record before them. In a file without any
times each line is a record, but for indented lines and the frames of stack traces. Records longer
than `MAX_RECORD_CHARS` are cut, at a line's end where there is one.

Times are UTC seconds. Without a zone in the line, the time is taken as UTC. Without a year, the
last date of the file lies in the last year in which it is not after the file's modification time;
earlier dates follow from the order, rolling over at new year.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from docqa.parse.encoding import decode, detect_encoding
from docqa.parse.levels import find_level
from docqa.parse.log_format import MISS, SAMPLE_LINES, HeaderReader, Miss, continues
from docqa.parse.stream import TextStream
from docqa.parse.timestamps import YearClock, fraction_after
from docqa.protocols import ParseOptions
from docqa.types import Block, BlockKind, DocumentInfo, Kind, Locator, ParseItem

MAX_RECORD_CHARS = 16_384

_DIGITS = b"0123456789"
_MAX_SHAPES = 20_000
_SAMPLE_SPOTS = 64
_SPOT_BYTES = 65_536
_NUMERIC_LEVEL = re.compile(r'<\d|\{.*"(?:level|lvl|severity|priority)"\s*:\s*"?\d', re.I)
_LOOKS_SHARE = 0.4


@dataclass(slots=True)
class Shape:
    """What lines that differ only in their digits have in common."""

    level: str | None
    has_numeric_level: bool = False
    template: str | None = None  # filled in by whoever needs it


@dataclass(frozen=True, slots=True)
class Lines:
    """Lines with what is known of each: `times[i]` is MISS where line i continues a record."""

    lines: list[str]
    times: list[float | Miss | None]
    levels: list[str | None]
    shapes: list[Shape]

    @property
    def columns(self) -> tuple[list[Any], ...]:
        """The four lists, in the order of the fields."""
        return self.lines, self.times, self.levels, self.shapes


class RecordReader:
    """Finds the records among the lines of one file, in order."""

    def __init__(self, sample: Sequence[str], clock: YearClock) -> None:
        self.headers = HeaderReader(sample, clock)
        self._heads: dict[bytes, Shape] = {}
        self._rest: dict[bytes, Shape] = {}
        self._is_first = True

    def read(self, lines: list[str]) -> Lines:
        """Return time, level and shape of each line; lines have to come in the file's order."""
        times: list[float | Miss | None] = []
        levels: list[str | None] = []
        shapes: list[Shape] = []
        if not lines:
            return Lines(lines, times, levels, shapes)
        joined = "\n".join(lines).encode("utf-8", "replace")
        keys = joined.translate(None, _DIGITS).split(b"\n")
        if not self.headers.formats:
            for line, key in zip(lines, keys, strict=True):
                self._read_slowly(line, key, times, levels, shapes)
            return Lines(lines, times, levels, shapes)
        heads, headers = self._heads, self.headers
        chosen = headers.formats[0]
        find, memo = chosen.finder, headers.memo(chosen)
        for line, key in zip(lines, keys, strict=True):
            match = find(line)
            if match is None:
                self._read_slowly(line, key, times, levels, shapes)
                if headers.formats[0] is not chosen:
                    chosen = headers.formats[0]
                    find, memo = chosen.finder, headers.memo(chosen)
                continue
            groups = match.groups()
            time = memo.get(groups, MISS)
            if time is MISS:
                time = headers.time_of(chosen, groups)
                memo = headers.memo(chosen)
            shape = heads.get(key)
            if shape is None:
                shape = self._new_head(line, key, match.end(1))
            times.append(time)
            levels.append(
                find_level(line, match.end(1)) if shape.has_numeric_level else shape.level
            )
            shapes.append(shape)
        self._is_first = False
        return Lines(lines, times, levels, shapes)

    def exact_time(self, line: str) -> float | None:
        """Return the time of a header line with its fraction of a second."""
        head = self.headers.read(line)
        if head is MISS or head[0] is None:
            return None
        return head[0] + fraction_after(line, head[1])

    def without_time(self, line: str) -> str:
        """Return a line without its time, for its template."""
        for found in self.headers.formats:
            match = found.finder(line)
            if match is not None:
                if found.name == "json":
                    return line
                return line[: match.start(1)] + line[match.end() :].lstrip(".,:0123456789])\"' \t")
        return line

    def _read_slowly(
        self,
        line: str,
        key: bytes,
        times: list[float | Miss | None],
        levels: list[str | None],
        shapes: list[Shape],
    ) -> None:
        """Append what is known of a line that is not of the format seen last."""
        headers = self.headers
        head: tuple[float | None, int] | Miss = MISS
        shape = self._rest.get(key)
        if shape is None:
            n_formats = len(headers.formats)
            head = headers.read(line)
            if len(headers.formats) != n_formats:
                self._rest.clear()
            if head is MISS and not headers.formats and not continues(line):
                head = (None, 0)
        if self._is_first and head is MISS:
            head = (None, 0)
        self._is_first = False
        if head is MISS:
            if shape is None:
                shape = _remember(self._rest, key, Shape(None))
            times.append(MISS)
            levels.append(None)
        else:
            shape = self._heads.get(key) or self._new_head(line, key, head[1])
            times.append(head[0])
            levels.append(find_level(line, head[1]) if shape.has_numeric_level else shape.level)
        shapes.append(shape)

    def _new_head(self, line: str, key: bytes, end: int) -> Shape:
        is_numeric = _NUMERIC_LEVEL.match(line) is not None
        return _remember(self._heads, key, Shape(find_level(line, end), is_numeric))


def _remember(shapes: dict[bytes, Shape], key: bytes, shape: Shape) -> Shape:
    if len(shapes) >= _MAX_SHAPES:
        shapes.clear()
    shapes[key] = shape
    return shape


@dataclass(frozen=True, slots=True)
class LogSample:
    """Lines from places all over a file, in order; `clock` is set to the file's first year."""

    pieces: tuple[tuple[str, ...], ...]
    clock_year: int

    @property
    def first_lines(self) -> list[str]:
        """The lines that formats are recognised by: the beginning, then some of the rest."""
        lines = list(self.pieces[0][:SAMPLE_LINES]) if self.pieces else []
        if len(lines) < SAMPLE_LINES:
            lines += [line for piece in self.pieces[1:] for line in piece[:16]]
        return lines[:SAMPLE_LINES]


def sample_log(path: Path) -> LogSample:
    """Return lines from up to 64 places of the file; of a packed or UTF-16 file from its head.

    Raises what TextStream raises.
    """
    stream = TextStream(path)
    try:
        head = next(stream.blocks(), "")
        is_narrow = stream.packed is None and not stream.encoding.startswith("utf-")
        is_narrow = is_narrow or (stream.packed is None and stream.encoding == "utf-8")
    finally:
        stream.close()
    stat = path.stat()
    pieces = [tuple(head[: _SPOT_BYTES * 16].split("\n")[:-1] or [head[:_SPOT_BYTES]])]
    if is_narrow and stat.st_size > len(head) * 2:
        pieces += _spots(path, stat.st_size)
    return LogSample(tuple(pieces), _first_year(pieces, stat.st_mtime))


def _spots(path: Path, n_bytes: int) -> list[tuple[str, ...]]:
    """Return the whole lines at evenly spread places, the last at the file's end."""
    pieces = []
    step = max(_SPOT_BYTES, n_bytes // _SAMPLE_SPOTS)
    starts = [*range(step, n_bytes - _SPOT_BYTES, step), max(0, n_bytes - _SPOT_BYTES)]
    with path.open("rb") as file:
        for start in starts:
            file.seek(start)
            data = file.read(_SPOT_BYTES).replace(b"\0", b"")
            text, _ = decode(data, detect_encoding(data).name if data else "utf-8")
            lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
            if len(lines) > 2:
                pieces.append(tuple(lines[1:-1]))
    return pieces


def _first_year(pieces: Sequence[Sequence[str]], mtime: float) -> int:
    """Return the year of the file's first date without a year; of no use with other formats."""
    from datetime import UTC, datetime

    clock = YearClock(2000)
    reader = HeaderReader(pieces[0][:SAMPLE_LINES] if pieces else (), clock)
    last: float | None = None
    if any(not f.time.has_year for f in reader.formats):
        for piece in pieces:
            step = max(1, len(piece) // 64)
            for line in (*piece[::step], *piece[-1:]):
                head = reader.read(line)
                if head is not MISS and head[0] is not None:
                    last = head[0]
    if last is None:
        return datetime.fromtimestamp(mtime, UTC).year
    date = datetime.fromtimestamp(last, UTC)
    return YearClock.ending(mtime, date.month, date.day, date.year - 2000).year


def looks_like_log(head: str) -> bool:
    """Return whether text that begins with `head` is a log: many lines begin with a time."""
    lines = [line for line in head.split("\n")[:-1] or [head] if line.strip()][:400]
    if not lines:
        return False
    reader = HeaderReader(lines, YearClock(2000))
    n_heads = n_open = 0
    for line in lines:
        if reader.read(line) is not MISS:
            n_heads += 1
        elif not continues(line):
            n_open += 1
    return n_heads >= 2 and n_heads >= _LOOKS_SHARE * (n_heads + n_open)


def parse_log(path: Path, options: ParseOptions) -> Iterator[ParseItem]:
    """Yield one RECORD block a record, with time and level, then a DocumentInfo.

    Blocks joined by newlines are the extracted text, but for blank lines between records, which
    are left out, and lines longer than `MAX_RECORD_CHARS`, whose pieces are blocks of one line.

    Raises:
        UnsupportedFile: binary data.
        UnreadableFile: empty, not permitted, or a decompression bomb.
    """
    sample = sample_log(path)
    reader = RecordReader(sample.first_lines, YearClock(sample.clock_year))
    stream = TextStream(path)
    record = _Record(1)
    n_lines = n_cut = 0
    try:
        for batch in line_batches(stream):
            found = reader.read(batch.lines)
            for i, (line, time, level) in enumerate(
                zip(found.lines, found.times, found.levels, strict=True)
            ):
                is_same_line = i == 0 and batch.is_continued
                n_lines += not is_same_line
                is_full = bool(record.n_chars) and record.n_chars + len(line) >= MAX_RECORD_CHARS
                if (time is not MISS or is_full) and not is_same_line:
                    yield from record.blocks()
                    record = _Record(n_lines, time=record.time, level=record.level)
                if time is not MISS and not is_same_line:
                    record.level = level
                    record.time = None if time is None else reader.exact_time(line)
                n_cut += len(line) >= MAX_RECORD_CHARS and not is_same_line
                if is_same_line:
                    yield from record.blocks()
                    record = _Record(n_lines, time=record.time, level=record.level)
                record.lines.append(line)
                record.n_chars += len(line) + 1
        yield from record.blocks()
    finally:
        stream.close()
    warnings = (*stream.warnings, *cut_warning(n_cut))
    yield DocumentInfo(Kind.LOG, path.name, None, stream.n_lines, stream.encoding, warnings)


@dataclass(slots=True)
class _Record:
    """The lines of the record being read."""

    first_line: int
    lines: list[str] = field(default_factory=list)
    n_chars: int = 0
    time: float | None = None
    level: str | None = None

    def blocks(self) -> Iterator[Block]:
        """Yield the record as a block; as several where one line is longer than a block."""
        text = "\n".join(self.lines)
        line = self.first_line + len(text) - len(text.lstrip("\n"))
        text = text.strip("\n")
        for start in range(0, len(text), MAX_RECORD_CHARS):
            piece = text[start : start + MAX_RECORD_CHARS]
            place = Locator("line", line, line + piece.count("\n"))
            line = place.last
            yield Block(piece, BlockKind.RECORD, place, time=self.time, level=self.level)


def cut_warning(n_cut: int) -> tuple[str, ...]:
    """Say how many lines were too long to be kept whole."""
    if not n_cut:
        return ()
    return (f"{n_cut:,} lines are longer than {MAX_RECORD_CHARS:,} characters and were cut",)


@dataclass(frozen=True, slots=True)
class Batch:
    """Lines without their newlines. A line too long for memory runs on from batch to batch.

    `is_open`: the last line goes on in the next batch. `is_continued`: the first line is the rest
    of the last line of the batch before.
    """

    lines: list[str]
    is_open: bool = False
    is_continued: bool = False


def line_batches(stream: TextStream) -> Iterator[Batch]:
    """Yield the lines of a stream in batches of about its block size, none empty."""
    carry, is_continued = "", False
    for text in stream.blocks():
        lines = (carry + text).split("\n")
        carry = lines.pop()
        if len(carry) >= MAX_RECORD_CHARS:
            yield Batch([*lines, carry], True, is_continued)
            carry, is_continued = "", True
        elif lines:
            yield Batch(lines, False, is_continued)
            is_continued = False
    if carry:
        yield Batch([carry], False, is_continued)
