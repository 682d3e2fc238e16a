"""How the records of one log begin: found once from a sample, then one compiled pattern a line.

A `LineFormat` is a time format together with where it stands: at the beginning of the line
(anchored, behind brackets, a level word or a container's name), behind a key of JSON or logfmt, or
somewhere near the beginning (access logs). `HeaderReader` tries the file's formats with the one
that matched last in front, and looks again at lines that none has matched.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from docqa.parse.timestamps import (
    DAY_S,
    FORMATS,
    FRACTION_AT,
    Groups,
    TimeFormat,
    YearClock,
    read_groups,
)

SAMPLE_LINES = 400
_NEAR = r"^.{0,200}?"
_MAX_MEMO = 1 << 16
_NO_COLUMNS = (0, 0, 0)
_MAX_COLUMN = 48
_ZONE_CHARS = 7  # ` +02:00`
_DIGITS = "0123456789"
LOST_LINES = 256  # so many lines without a header in a batch: look at them afresh
_MAX_SIMPLE_GROUPS = 2  # the time to its seconds, and the zone

_LEVEL_WORD = r"(?:[A-Za-z]{4,9}|[A-Z])"
_PREFIX = (
    r"(?:[\w.-]{1,40}\s+\|\s)?"  # docker compose: the container
    r"(?:[\w-]{1,40}::[A-Z]{4,9}::)?"  # vdsm: the thread, the level
    r"(?:<\d{1,3}>(?:\d\s)?)?"  # syslog's number, RFC 5424's version
    rf"(?:[\[<]?{_LEVEL_WORD}[\]>]?[\s,:|-]{{0,3}})?"  # a level before the time
    r"(?:# Time: )?[\[(\"'#+|*]{0,4}\s?"
)
_WEAK = frozenset(("minutes", "us", "short-year"))
_JSON_KEY = re.compile(r'"([\w@$.-]+)"\s*:\s*"?(?=\d)')
_PREFERRED = (
    *("@timestamp", "timestamp", "ts", "time", "datetime", "$date", "date", "epochsecond"),
    *("__realtime_timestamp", "timeunixnano"),
)
_LOGFMT_KEYS = r"(?:^|\s)(?:time|ts|t|timestamp|datetime|date|at)=\"?"
_FRAME = re.compile(
    r"at [\w$.<]|Caused by: |Traceback \(|File \"|\.\.\. \d+ more|[)}\]]+[,;]?$|-->"
)
_MIN_JSON = 0.3
_MIN_ANCHORED = 0.05
_MIN_SEARCHED = 0.3


class Miss(Enum):
    """The answer for a line that begins no record: told from None, a record without a time."""

    MISS = 0


MISS = Miss.MISS


@dataclass(frozen=True, slots=True)
class LineFormat:
    """`pattern` has the groups of `time.read`; it is searched for or matched at the beginning."""

    name: str
    pattern: re.Pattern[str]
    time: TimeFormat
    is_searched: bool

    @property
    def finder(self) -> Callable[[str], re.Match[str] | None]:
        """Returns the match of this format's header on a line."""
        return self.pattern.search if self.is_searched else self.pattern.match


class HeaderReader:
    """The times of one file's record headers, in the order of its lines.

    `formats[0]` matched last. Where its times stand in fixed columns, those columns of a line tell
    the time without a match: they hold everything up to the second and the characters behind the
    fraction, where a zone would stand. `version` counts the changes of format or year, after which
    what was looked up ahead is to be looked up again.
    """

    def __init__(self, formats: Sequence[LineFormat], clock: YearClock) -> None:
        self.clock = clock
        self.formats = list(formats)
        self.version = 0
        self._memos: dict[LineFormat, dict[Groups, float | None]] = {}
        self.columns = _NO_COLUMNS  # `line[:columns[0]] + line[columns[1]:columns[2]]` is the key
        self.by_column: dict[str, float] = {}
        self._year = clock.year
        self._day = 0.0
        self._patience = 1
        self._n_asked = 0

    def resume(self, time: float) -> None:
        """Go on reading at a place with this time: what is between is not read."""
        if self.clock.resume(time):
            self._year = self.clock.year
            self._memos = {}
            self.by_column = {}
            self.version += 1

    def find(self, line: str) -> tuple[float | None, re.Match[str]] | None:
        """Return the time of a header line, None where it has no absolute one, and the match."""
        for place, found in enumerate(self.formats):
            match = found.finder(line)
            if match is None:
                continue
            if place:
                self.formats.insert(0, self.formats.pop(place))
                self.columns = _NO_COLUMNS
                self.version += 1
            time = self._time_of(found, match.groups())
            if time is not None:
                self._note_columns(line, match, time)
            return time, match
        return None

    def read(self, line: str) -> tuple[float | None, int] | Miss:
        """Return (time or None, offset behind the seconds) of a header line, or MISS."""
        head = self.find(line)
        return MISS if head is None else (head[0], header_end(head[1]))

    def _time_of(self, found: LineFormat, groups: Groups) -> float | None:
        """Return the time of a header's groups, remembered by second."""
        memo = self._memos.setdefault(found, {})
        if groups in memo:
            return memo[groups]
        time = read_groups(found.time, groups, self.clock)
        if self.clock.year != self._year:  # the same text now means another year
            self._year = self.clock.year
            self._memos = {found: {}}
            self.by_column = {}
            self.version += 1
            memo = self._memos[found]
        if not found.time.has_year and time is not None and time // DAY_S != self._day:
            self._day = time // DAY_S  # the same text a year later is another time
            memo.clear()
            self.by_column.clear()
        if len(memo) >= _MAX_MEMO:
            memo.clear()
        memo[groups] = time
        return time

    def _note_columns(self, line: str, match: re.Match[str], time: float) -> None:
        """Remember a time under its columns. The columns are those of the format's first match."""
        if match.start() or match.start(1) > _MAX_COLUMN or match.re.groups > _MAX_SIMPLE_GROUPS:
            return
        if self.columns is _NO_COLUMNS:
            fraction = FRACTION_AT.match(line, match.end(1))
            zone = fraction.end() if fraction else match.end(1)
            self.columns = (match.end(1) + 1, zone, zone + _ZONE_CHARS)
            self.by_column = {}
            self.version += 1
        end, zone, zone_end = self.columns
        if match.end(1) + 1 != end or len(line) < zone or line[end:zone].strip(_DIGITS):
            return
        if len(self.by_column) >= _MAX_MEMO:
            self.by_column.clear()
        self.by_column[line[:end] + line[zone:zone_end]] = time

    def reconsider(self, lost: Sequence[str]) -> bool:
        """Look at lines that no format has matched for more formats; return whether there are.

        Asked for again and again by a file without times, it looks ever more rarely.
        """
        self._n_asked += 1
        if self._n_asked < self._patience:
            return False
        self._n_asked, self._patience = 0, self._patience * 2
        known = {found.name for found in self.formats}
        added = [found for found in find_formats(lost) if found.name not in known]
        self.formats[:0] = added
        self.columns = _NO_COLUMNS if added else self.columns
        self.version += bool(added)
        return bool(added)


def header_end(match: re.Match[str]) -> int:
    """Return where the time ends: behind its seconds, or behind all of it in loose formats."""
    return match.end(1) if match.re.groups <= _MAX_SIMPLE_GROUPS else match.end()


def find_formats(sample: Sequence[str]) -> list[LineFormat]:
    """Return the formats of record headers in these lines, the most frequent first; maybe none.

    Anchored formats are preferred to those found inside the line: a message may mention any date.
    """
    lines = [line for line in sample if line.strip()][:SAMPLE_LINES]
    if not lines:
        return []
    found: list[tuple[int, LineFormat]] = []
    objects = [line for line in lines if line.startswith("{")]
    if len(objects) >= _MIN_JSON * len(lines):
        keyed = _json_format(objects)
        if keyed is not None:
            found.append((len(objects), keyed))
    rest = [line for line in lines if not line.startswith("{")] if found else lines
    found += _anchored_formats(rest)
    pairs = _counted("logfmt", rest, _LOGFMT_KEYS, True)
    found += [(n, f) for n, f in pairs[:1] if n >= _MIN_SEARCHED * len(rest)]
    if not found:
        near = _counted("near", rest, _NEAR, False)
        bracketed = _counted("bracketed", rest, r"\[", True)
        if near and bracketed and bracketed[0][0] >= near[0][0]:
            near = bracketed  # a fixed character is found many times faster than any place
        found += [(n, f) for n, f in near[:1] if n >= _MIN_SEARCHED * len(rest)]
    found.sort(key=lambda pair: -pair[0])
    return [line_format for _, line_format in found]


def continues(line: str) -> bool:
    """Whether a line without a time belongs to the line before it: indented, or a stack frame."""
    return not line or line[0] in " \t" or _FRAME.match(line) is not None


def _anchored_formats(lines: list[str]) -> list[tuple[int, LineFormat]]:
    """Formats at the beginning of lines: frequent ones, or that of the very first lines.

    Records with long stack traces have few headers, but the file begins with one. Of formats that
    match the same lines (an ISO time contains a clock) only the most precise is kept.
    """
    counted = _counted("start", lines, _PREFIX, False)
    head = lines[:3]
    n_open = sum(not continues(line) for line in lines)
    kept: list[tuple[int, LineFormat]] = []
    seen: set[int] = set()
    for n, line_format in counted:
        opens = any(line_format.finder(line) for line in head)
        if n < _MIN_ANCHORED * n_open and not opens:
            continue
        if line_format.time.name in _WEAK and n < 0.5 * n_open and not (opens and n > 1):
            continue
        covered = {i for i, line in enumerate(lines) if line_format.finder(line)}
        if len(covered - seen) >= max(1, 0.5 * len(covered)):
            kept.append((n, line_format))
            seen |= covered
    return kept


def _counted(
    name: str, lines: list[str], before: str, is_searched: bool
) -> list[tuple[int, LineFormat]]:
    """Return each time format behind `before` with the number of lines that it can date.

    Most lines first; among equals the order of FORMATS, the absolute before the others.
    """
    counted = []
    for time in FORMATS:
        line_format = LineFormat(
            time.name if name == "start" else name,
            re.compile(before + time.pattern),
            time,
            is_searched,
        )
        n = sum(_can_date(line_format, line) for line in lines)
        if n:
            counted.append((n, line_format))
    return sorted(counted, key=lambda pair: (not pair[1].time.is_absolute, -pair[0]))


def _can_date(line_format: LineFormat, line: str) -> bool:
    match = line_format.finder(line)
    if match is None:
        return False
    if not line_format.time.is_absolute:
        return True
    return read_groups(line_format.time, match.groups(), YearClock(2000)) is not None


def _json_format(lines: list[str]) -> LineFormat | None:
    """Return the format that reads the time under the right key of these JSON lines."""
    counts: Counter[tuple[str, str]] = Counter()
    times = {time.name: time for time in FORMATS if time.name in _JSON_TIMES}
    compiled = {name: re.compile(time.pattern) for name, time in times.items()}
    for line in lines[:200]:
        keys: set[tuple[str, str]] = set()
        for key in _JSON_KEY.finditer(line):
            for name, pattern in compiled.items():
                match = pattern.match(line, key.end())
                if match and read_groups(times[name], match.groups(), YearClock(2000)) is not None:
                    keys.add((key.group(1), name))
                    break
        counts.update(keys)
    if not counts:
        return None

    def rank(item: tuple[tuple[str, str], int]) -> tuple[bool, int, int]:
        (key, _), n = item
        place = _PREFERRED.index(key.lower()) if key.lower() in _PREFERRED else len(_PREFERRED)
        return n * 2 < min(len(lines), 200), place, -n

    (best, name), _ = min(counts.items(), key=rank)
    found = re.compile(rf'"{re.escape(best)}"\s*:\s*"?' + times[name].pattern)
    return LineFormat("json", found, times[name], True)


_JSON_TIMES = frozenset(("iso", "epoch", "apache", "day-first", "iso-loose"))
