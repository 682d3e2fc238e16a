"""Exact scans of log records: counted, dated and listed by reading every line, never by a model.

`run_scan` reads chunks of logs in the order of their documents and matches a `ScanQuery` record by
record. What a question means is tried from the narrow to the wide, all in one pass: the words as
phrases on one line, all words on one line, all words anywhere in one record, and the level as a
word. The first reading that matches anything is the answer's, and the answer says which it is.
`describe` puts the result into words with the lines to cite. Times are UTC; clocks that a question
names, and counts by minute, hour or day, are those of each log.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import PurePath

from docqa.columns import columns_of, header_in
from docqa.parse.log import LogSample, RecordReader
from docqa.parse.log_format import MISS, find_formats
from docqa.parse.templates import mask
from docqa.parse.timestamps import zone_seconds
from docqa.scan_fields import values_of
from docqa.scan_intent import EXTREMES, SIZES, Operation, ScanQuery
from docqa.scan_measures import Measure, durations, sizes
from docqa.scan_pattern import Reading, readings
from docqa.scan_pattern import prefilter_terms as prefilter_terms
from docqa.scan_time import zone_in
from docqa.types import Chunk, Scope

MAX_KEPT = 1_000
"""Matches kept with their text, from the beginning and from the end; counts are exact beyond."""

MAX_FORMS = 12
"""The most line templates among counted records that an answer lists."""

_BUCKET_FORMAT = {"minute": "%Y-%m-%d %H:%M", "hour": "%Y-%m-%d %H:00", "day": "%Y-%m-%d"}
_MAX_BUCKETS = 100_000
_TIME_AHEAD = re.compile(
    r"^(?:[\d\[\]:.,/+\s-]|[TZ](?=\W|\d)"
    r"|\b(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)(?=\W))+",
    re.IGNORECASE,
)
"""What stands before the words of a line; an access log has its client there."""


@dataclass(frozen=True, slots=True)
class ScanMatch:
    """A record that matches. Lines are 1-based; characters count in the extracted text."""

    doc_id: int
    record_line: int  # where the record begins
    line: int  # the first line in it that matches
    text: str  # that line
    head: str  # the record's first line, which has its time
    char_start: int  # of `text`
    char_end: int
    head_start: int  # of `head`
    time: float | None = None
    level: str | None = None


@dataclass(slots=True)
class Tally:
    """What one reading has matched so far."""

    n_records: int = 0
    n_lines: int = 0
    matches: list[ScanMatch] = field(default_factory=list)
    tail: deque[ScanMatch] = field(default_factory=lambda: deque(maxlen=MAX_KEPT))
    first: ScanMatch | None = None  # in time; without times, in order
    last: ScanMatch | None = None
    extreme: tuple[Measure, ScanMatch] | None = None  # the longest, the smallest, …
    per_document: Counter[int] = field(default_factory=Counter)
    values: Counter[str] = field(default_factory=Counter)
    example: dict[str, ScanMatch] = field(default_factory=dict)  # the first match of each value


@dataclass(frozen=True, slots=True)
class ScanResult:
    """The answer of a scan: exact for the chunks that were read."""

    query: ScanQuery
    reading: Reading  # the one that was used
    tally: Tally
    n_scanned: int  # chunks read
    paths: Mapping[int, str]
    is_named: bool = False  # the question named the logs of `paths`
    has_levels: bool = False  # some record has one


@dataclass(frozen=True, slots=True)
class ScanText:
    """An answer in words. `[n]` in `text` is `cited[n - 1]`."""

    text: str
    cited: tuple[ScanMatch, ...]


def run_scan(
    query: ScanQuery,
    chunks: Iterable[Chunk],
    scope: Scope | None = None,
    *,
    paths: Mapping[int, str] | None = None,
) -> ScanResult:
    """Match every record of `chunks` and return the counts of the narrowest reading that matches.

    Args:
        query: from `scan_intent`.
        chunks: of logs, each document's in order; some may be missing (a prefilter's doing).
        scope: its times and levels are applied to each record, not only to each chunk.
        paths: doc_id -> path, to name documents, and to keep to a file that the question names.
    """
    found = readings(query)
    tallies = [Tally() for _ in found]
    paths = paths or {}
    named = named_files(query, paths)
    n_scanned, has_levels = 0, False
    reader = _DocumentReader()
    for chunk in chunks:
        if named is not None and chunk.span.doc_id not in named:
            continue
        if query.when is not None and not query.when.may_hold(chunk.time_first, chunk.time_last):
            continue
        n_scanned += 1
        has_levels |= bool(chunk.levels)
        low = chunk.text.lower()
        open_ = [
            (reading, tally)
            for reading, tally in zip(found, tallies, strict=True)
            if _may_match(reading, chunk, low)
        ]
        if not open_:
            continue
        for record in reader.records(chunk):
            if not _in_scope(record, query, scope):
                continue
            for reading, tally in open_:
                _match(reading, record, tally, query)
    chosen = _choose(found, tallies)
    held = paths if named is None else {i: paths[i] for i in named}
    is_named = named is not None
    return ScanResult(query, found[chosen], tallies[chosen], n_scanned, held, is_named, has_levels)


def _choose(found: tuple[Reading, ...], tallies: list[Tally]) -> int:
    """Return the narrowest reading that matches; a phrase must hold most of what its words hold.

    "failed logins" is a phrase of one line and the words of fourteen `login failed`.
    """
    chosen = next((i for i, tally in enumerate(tallies) if tally.n_records), 0)
    if not found[chosen].is_phrase:
        return chosen
    for i in range(chosen + 1, len(found)):
        is_wider = found[i].is_by_line and found[i].levels == found[chosen].levels
        if is_wider and tallies[i].n_records > 2 * tallies[chosen].n_records:
            return i
    return chosen


def named_files(query: ScanQuery, paths: Mapping[int, str]) -> frozenset[int] | None:
    """Return the documents whose file name the question has; None where it names none of them."""
    wanted = {name.lower() for name in query.files}
    names = {i: PurePath(path).name.lower() for i, path in paths.items()}
    ids = {i for i, name in names.items() if name in wanted}
    if wanted and query.when is not None:  # it may have been rotated since
        parts = re.compile(rf"(?:{'|'.join(map(re.escape, wanted))})[.-]\d[\d-]*(?:\.gz)?")
        ids |= {i for i, name in names.items() if parts.fullmatch(name)}
    if not ids and wanted:  # `host7_auth.log` is an auth.log
        ends = rf"(?:^|[\W_])(?:{'|'.join(map(re.escape, wanted))})"
        for end in ("$", r"[.-]\d[\d-]*(?:\.gz)?$"):
            ids = ids or {i for i, name in names.items() if re.search(ends + end, name)}
    return frozenset(ids) if ids else None


def _may_match(reading: Reading, chunk: Chunk, low: str) -> bool:
    if reading.levels and chunk.levels and reading.levels.isdisjoint(chunk.levels):
        return False
    if reading.levels and not chunk.levels:
        return False
    if chunk.headings or "#fields" in low:
        return True  # names of columns are words of each row
    return all(literal in low for literal in reading.literals)


@dataclass(slots=True)
class _Record:
    """A record as a chunk has it: of one that was cut, the part that is in this chunk."""

    doc_id: int
    lines: list[str]
    read: list[str]  # the same lines, with the names of their columns where a header tells them
    line: int
    start: int
    time: float | None
    level: str | None
    reader: RecordReader  # reads the fraction of the time, for what is shown

    @property
    def zone(self) -> str:
        """The zone that its line states: `+0330`; empty for none and for UTC."""
        return zone_in(self.lines[0])

    @property
    def low(self) -> str:
        """The whole record in lower case."""
        return "\n".join(self.read).lower()


class _DocumentReader:
    """Cuts chunks into records with the header formats of their document."""

    def __init__(self) -> None:
        self._doc_id = -1
        self._reader: RecordReader | None = None

    def records(self, chunk: Chunk) -> Iterator[_Record]:
        """Yield the records of a chunk; its first lines may be the rest of an earlier one."""
        lines = chunk.text.split("\n")
        reader = self._reader
        if reader is None or chunk.span.doc_id != self._doc_id or not reader.headers.formats:
            year = datetime.fromtimestamp(chunk.time_first or 0.0, UTC).year
            formats = tuple(find_formats(lines))
            reader = self._reader = RecordReader(LogSample((), formats, year))
            self._doc_id = chunk.span.doc_id
        if chunk.time_first is not None:
            reader.headers.resume(chunk.time_first)
        found = reader.read(lines)
        record: _Record | None = None
        start = chunk.span.start
        named = _named_rows(chunk, lines)
        for i, line in enumerate(lines):
            time = found.times[i]
            if time is not MISS or record is None:
                if record is not None:
                    yield record
                level = found.shapes[i].level
                when = chunk.time_first if time is MISS else time
                number = chunk.span.locator.first + i
                record = _Record(chunk.span.doc_id, [], [], number, start, when, level, reader)
            record.lines.append(line)
            record.read.append(named[i])
            start += len(line) + 1
        if record is not None:
            yield record


def _named_rows(chunk: Chunk, lines: list[str]) -> list[str]:
    """Return the lines of a chunk, rows below a header with the names of their columns."""
    columns = columns_of(chunk.headings[-1]) if chunk.headings else None
    if columns is None and not header_in(chunk.text):
        return lines
    found = []
    for line in lines:
        columns = columns_of(line) or columns
        named = columns.named(line) if columns else ""
        found.append(f"{line}\t{named}" if named else line)
    return found


def _in_scope(record: _Record, query: ScanQuery, scope: Scope | None) -> bool:
    if query.when is not None and not query.when.holds(record.time, zone_seconds(record.zone)):
        return False
    if scope is None:
        return True
    if scope.levels is not None and record.level not in scope.levels:
        return False
    if scope.since is None and scope.until is None:
        return True
    if record.time is None:
        return False
    return (scope.since is None or record.time >= scope.since) and (
        scope.until is None or record.time <= scope.until
    )


def _match(reading: Reading, record: _Record, tally: Tally, query: ScanQuery) -> None:
    """Count a record that matches."""
    if reading.levels and record.level not in reading.levels:
        return
    hits = _hits(reading, record)
    if query.operation in EXTREMES:
        whole = hits and not reading.is_by_line  # the words and the measure on lines of their own
        hits = _weigh(list(range(len(record.lines))) if whole else hits, record, tally, query)
    if not hits:
        return
    match = _match_of(record, hits[0])
    tally.n_records += 1
    tally.n_lines += len(hits)
    tally.per_document[record.doc_id] += 1
    if len(tally.matches) < MAX_KEPT:
        tally.matches.append(match)
    tally.tail.append(match)
    if tally.first is None or time_key(match) < time_key(tally.first):
        tally.first = match
    if tally.last is None or time_key(match) >= time_key(tally.last):
        tally.last = match
    if query.operation is Operation.COUNT and len(tally.values) > MAX_FORMS:
        return  # too many different lines to show: their templates need not be made
    for value in _values(query, record, record.lines[hits[0]]):
        if len(tally.values) < _MAX_BUCKETS or value in tally.values:
            tally.values[value] += 1
            tally.example.setdefault(value, match)


def _weigh(hits: list[int], record: _Record, tally: Tally, query: ScanQuery) -> list[int]:
    """Keep the lines that state a duration or a size, and the extreme of all."""
    stated = {i: found for i in hits if (found := _measures(query, record.read[i]))}
    is_most = query.operation in (Operation.LONGEST, Operation.LARGEST)
    for i, found in stated.items():
        own, held = (max(found) if is_most else min(found)), tally.extreme
        if held is None or (own > held[0] if is_most else own < held[0]):
            tally.extreme = own, _match_of(record, i)
    return list(stated)


def _measures(query: ScanQuery, line: str) -> list[Measure]:
    return sizes(line, query.field) if query.operation in SIZES else durations(line)


def _hits(reading: Reading, record: _Record) -> list[int]:
    """Return the indices of the record's lines that match; of a match over several, its first."""
    patterns, low = reading.patterns, record.low
    if not all(literal in low for literal in reading.literals):
        return []
    if not patterns:
        if _is_excluded(reading, record.read[0]):
            return []
        return [0] if reading.levels else list(range(len(record.read)))
    if reading.is_by_line:
        return [
            i
            for i, line in enumerate(record.read)
            if all(p.search(line) for p in patterns) and not _is_excluded(reading, line)
        ]
    text = "\n".join(record.read)
    if _is_excluded(reading, text):
        return []
    places = [place.start() for p in patterns if (place := p.search(text))]
    return [text.count("\n", 0, min(places))] if len(places) == len(patterns) else []


def _is_excluded(reading: Reading, text: str) -> bool:
    return any(pattern.search(text) for pattern in reading.without)


def time_key(match: ScanMatch) -> float:
    """Return what matches are ordered by in time; those without one come first."""
    return match.time if match.time is not None else float("-inf")


def _match_of(record: _Record, i: int) -> ScanMatch:
    start = record.start + sum(len(line) + 1 for line in record.lines[:i])
    text = record.lines[i]
    return ScanMatch(
        doc_id=record.doc_id,
        record_line=record.line,
        line=record.line + i,
        text=text,
        head=record.lines[0],
        char_start=start,
        char_end=start + len(text),
        head_start=record.start,
        time=record.time and record.reader.exact_time(record.lines[0], record.time),
        level=record.level,
    )


def _values(query: ScanQuery, record: _Record, line: str) -> list[str]:
    if query.operation is Operation.HISTOGRAM:
        if record.time is None:
            return []
        zone = record.zone
        local = datetime.fromtimestamp(record.time + zone_seconds(zone), UTC)
        return [f"{local:{_BUCKET_FORMAT[query.bucket]}} {zone}".rstrip()]
    if query.operation is Operation.COUNT:
        if not query.terms and not query.levels:
            return []
        return [mask(_without_time_ahead(line))]
    if query.operation is not Operation.TOP:
        return []
    if query.field == "level":
        return [record.level] if record.level else []
    if query.field == "message":
        return [mask(_without_time_ahead(record.lines[0]))]
    known = [term.text for term in query.terms if term.is_exact]
    return values_of(query.field, "\n".join(record.read), known)


def _without_time_ahead(line: str) -> str:
    return _TIME_AHEAD.sub("", line)
