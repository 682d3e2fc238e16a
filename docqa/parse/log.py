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
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

from docqa.parse.encoding import decode, detect_encoding
from docqa.parse.levels import SEVERE, find_level
from docqa.parse.log_format import (
    LOST_LINES,
    MISS,
    SAMPLE_LINES,
    HeaderReader,
    LineFormat,
    Miss,
    continues,
    find_formats,
    header_end,
)
from docqa.parse.stream import TextStream
from docqa.parse.timestamps import YearClock, fraction_after
from docqa.protocols import ParseOptions
from docqa.types import Block, BlockKind, DocumentInfo, Kind, Locator, ParseItem

MAX_RECORD_CHARS = 16_384

_VARYING = b"0123456789abcdefABCDEF"
_MAX_SHAPES = 20_000
_SHAPE_CHARS = 700
TIME_GAP_S = 600.0
_HEAD_BYTES = 262_144
_SAMPLE_SPOTS = 64
_SPOT_BYTES = 8_192
_OWN_LEVEL = re.compile(
    r'<\d|[A-Z]\d{4} |[A-Z]/|\{.*"(?:level|lvl|severity|priority|s)"\s*:\s*"?(?:\d|.")', re.I
)
_LETTER_LEVEL = re.compile(r"\s+(?:[0-9A-Fa-f]+\s+){0,2}[VTDIWEFC][\s/|]")
_LOOKS_SHARE = 0.4


@dataclass(frozen=True, slots=True)
class LogSample:
    """What a look at some places of a file told: `pieces` are whole lines, in the file's order."""

    pieces: tuple[tuple[str, ...], ...]
    formats: tuple[LineFormat, ...]
    first_year: int  # of the first date, where dates have none


@dataclass(slots=True, eq=False)
class Shape:
    """What lines that differ only in hexadecimal digits have in common.

    Level words stay apart without those letters; level numbers and letters do not, so lines whose
    level may be one of those have a shape for each level (`variants`).
    """

    level: str | None
    is_head: bool  # of a record
    is_severe: bool  # the level of the record, also for the lines that continue it
    line: str | None  # one such line without its time, until somebody has made its template
    template: str = ""
    variants: dict[str | None, Shape] | None = None


@dataclass(frozen=True, slots=True)
class Lines:
    """Lines with what is known of each: `times[i]` is MISS where line i continues a record.

    `gaps` are the indices of heads that come `TIME_GAP_S` or more after the head before.
    """

    lines: list[str]
    times: list[float | Miss | None]
    shapes: list[Shape]
    gaps: list[int]


class RecordReader:
    """Finds the records among the lines of one file, in order."""

    def __init__(self, sample: LogSample) -> None:
        self.headers = HeaderReader(sample.formats, YearClock(sample.first_year))
        self._shapes: dict[bytes, Shape] = {}
        self._last_shape: Shape | None = None
        self._last_time: float | None = None

    def resume(self, time: float | None) -> None:
        """Begin in the middle of a file, behind a record of this time."""
        self._last_shape = Shape(None, False, False, None)
        self._last_time = time
        if time is not None:
            self.headers.resume(time)

    def read(self, lines: list[str]) -> Lines:
        """Return time and shape of each line; lines have to come in the file's order.

        Where many lines begin no record, they are looked at for a format not seen so far.
        """
        found = self._read(lines)
        if len(lines) >= LOST_LINES:
            pairs = zip(reversed(found.times), reversed(lines), strict=True)
            lost = (line for time, line in pairs if time is MISS and not continues(line))
            missed = list(islice(lost, LOST_LINES))
            if not self.headers.formats:
                missed = lines[-LOST_LINES:]
            if len(missed) >= LOST_LINES and self.headers.reconsider(missed[::-1]):
                self._shapes.clear()
                return self._read(lines)
        return found

    def _read(self, lines: list[str]) -> Lines:
        """Read lines with the formats known so far: the loop that every line of a log passes.

        What has been seen before is looked up; `_read_line` reads the rest.
        """
        found = Lines(lines, [], [], [])
        if not lines:
            return found
        joined = "\n".join(lines).encode("utf-8", "replace")
        keys = joined.translate(None, _VARYING).split(b"\n")
        add_time, add_shape = found.times.append, found.shapes.append
        headers, last, version = self.headers, self._last_shape, -1
        for line, key in zip(lines, keys, strict=True):
            if headers.version != version:
                version = headers.version
                shape_of, time_of = self._shapes.get, headers.by_column.get
                end, zone, zone_end = headers.columns
            time: float | Miss | None = time_of(line[:end] + line[zone:zone_end])
            shape = shape_of(key)
            if shape is None or shape.variants is not None or (time is None) == shape.is_head:
                time, shape = self._read_line(line, key, last, found)
            elif time is None:
                time = MISS
            add_time(time)
            add_shape(shape)
            last = shape
        self._last_shape = last
        return found

    def _read_line(
        self, line: str, key: bytes, last: Shape | None, found: Lines
    ) -> tuple[float | Miss | None, Shape]:
        """Read a line of a new shape or time. `last` is the shape of the line before, if any."""
        headers = self.headers
        head = headers.find(line)
        shape = self._shapes.get(key)
        if head is None and last is not None and (headers.formats or continues(line)):
            if shape is None or shape.is_head:
                tells = line[:1] not in ("", " ", "\t", "#") and not line.startswith("at ")
                shape = Shape(None, False, last.is_severe, line[:_SHAPE_CHARS] if tells else None)
                self._remember(key, shape)
            return MISS, shape
        time, match = head if head is not None else (None, None)
        self._note_gap(time, found)
        if shape is None or not shape.is_head:
            shape = self._new_head(line, key, match)
        if shape.variants is not None:
            shape = _variant(shape, line, header_end(match) if match else 0)
        return time, shape

    def _note_gap(self, time: float | None, found: Lines) -> None:
        """Note a long silence. It ends with a time not seen before, so others need no look."""
        if time is not None:
            if self._last_time is not None and time - self._last_time >= TIME_GAP_S:
                found.gaps.append(len(found.times))
            self._last_time = time

    def exact_time(self, line: str, time: float) -> float:
        """Return the time of a header line, known to the second, with its fraction."""
        for found in self.headers.formats:
            match = found.finder(line)
            if match is not None:
                return time + fraction_after(line, header_end(match))
        return time

    def _new_head(self, line: str, key: bytes, match: re.Match[str] | None) -> Shape:
        end = header_end(match) if match else 0
        level = find_level(line, end)
        shape = Shape(level, True, level in SEVERE, _without_time(line, match))
        if _OWN_LEVEL.match(line) or _LETTER_LEVEL.search(line, end, end + 60):
            shape.variants = {level: Shape(level, True, level in SEVERE, shape.line)}
        self._remember(key, shape)
        return shape

    def _remember(self, key: bytes, shape: Shape) -> None:
        if len(self._shapes) >= _MAX_SHAPES:
            self._shapes.clear()
        self._shapes[key] = shape


def _variant(shape: Shape, line: str, end: int) -> Shape:
    """Return the shape of a line whose level its shape does not tell."""
    level = find_level(line, end)
    variants = shape.variants or {}
    if level not in variants:
        variants[level] = Shape(level, True, level in SEVERE, shape.line)
    return variants[level]


def _without_time(line: str, match: re.Match[str] | None) -> str:
    """Return the beginning of a line without its time, for its template."""
    if match is None or line[:1] == "{":
        return line[:_SHAPE_CHARS]
    rest = line[match.end() : match.end() + _SHAPE_CHARS].lstrip(".,:0123456789])\"' \t")
    return line[: match.start(1)] + rest


def sample_log(path: Path) -> LogSample:
    """Look at up to 64 places of the file; at a packed or UTF-16 file's beginning only.

    Raises what TextStream raises.
    """
    stream = TextStream(path)
    try:
        head = next(stream.blocks(), "")[:_HEAD_BYTES]
        can_seek = stream.packed is None and not stream.encoding.startswith(("utf-16", "utf-32"))
    finally:
        stream.close()
    stat = path.stat()
    pieces = [tuple(head.split("\n")[:-1] or [head])]
    if can_seek and stat.st_size > _HEAD_BYTES:
        pieces += _spots(path, stat.st_size)
    lines = list(pieces[0][: SAMPLE_LINES // 2])
    lines += [line for piece in pieces[1:] for line in piece[:8]]
    lines += pieces[0][SAMPLE_LINES // 2 : SAMPLE_LINES]
    formats = tuple(find_formats(lines[:SAMPLE_LINES]))
    return LogSample(tuple(pieces), formats, _first_year(pieces, formats, stat.st_mtime))


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


def _first_year(
    pieces: Sequence[Sequence[str]], formats: Sequence[LineFormat], mtime: float
) -> int:
    """Return the year of the file's first date without a year; of no use with other formats."""
    reader = HeaderReader(formats, YearClock(2000))
    last: float | None = None
    if any(not f.time.has_year for f in formats):
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
    reader = HeaderReader(find_formats(lines), YearClock(2000))
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
    reader = RecordReader(sample_log(path))
    stream = TextStream(path)
    record = _Record(1)
    n_lines = n_cut = 0
    try:
        for batch in line_batches(stream):
            found = reader.read(batch.lines)
            for i, (line, time) in enumerate(zip(found.lines, found.times, strict=True)):
                is_same_line = i == 0 and batch.is_continued
                n_lines += not is_same_line
                is_full = bool(record.n_chars) and record.n_chars + len(line) >= MAX_RECORD_CHARS
                if (time is not MISS or is_full) and not is_same_line:
                    yield from record.blocks()
                    record = _Record(n_lines, time=record.time, level=record.level)
                if time is not MISS and not is_same_line:
                    record.level = found.shapes[i].level
                    record.time = None if time is None else reader.exact_time(line, time)
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
