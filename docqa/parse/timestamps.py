"""The time formats of log lines: a regular expression and a reader for each.

Every pattern has exactly the groups of its reader, none finer than a second, so that a caller may
remember `match.groups()` -> time: the records of one second are parsed once. Fractions stand right
behind group 1 and are read by `fraction_after` when somebody wants them.

Times are UTC seconds since 1970-01-01. A time without a zone is taken as UTC. A format without a
year takes it from a `YearClock`. Formats without a date (`10:31:02`, `[ 12.345678]`) have no
absolute time: their reader returns None, but the line is still known to begin a record.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import lru_cache

DAY_S = 86_400
_HALF_YEAR_S = 182 * DAY_S
Groups = tuple[str | None, ...]

_MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec"
_MONTH = {name: n for n, name in enumerate(_MONTHS.split(), 1)}
MON = "(?:" + "|".join(_MONTH) + ")"
_ZONE_HOURS = {
    **dict.fromkeys(("Z", "UTC", "GMT", "WET"), 0.0),
    **dict.fromkeys(("CET", "BST", "WEST"), 1.0),
    **dict.fromkeys(("CEST", "EET"), 2.0),
    **dict.fromkeys(("EEST", "MSK"), 3.0),
    **dict.fromkeys(("EDT", "CLT"), -4.0),
    **dict.fromkeys(("EST", "CDT"), -5.0),
    **dict.fromkeys(("CST", "MDT"), -6.0),
    **dict.fromkeys(("MST", "PDT"), -7.0),
    "PST": -8.0,
    "JST": 9.0,
    "AEST": 10.0,
    "AEDT": 11.0,
}
_ZONE_NAMES = "|".join(sorted((z for z in _ZONE_HOURS if z != "Z"), key=len, reverse=True))
ZONE = rf"(?:\s?(Z|[+-]\d\d:?\d\d|(?:{_ZONE_NAMES})(?![A-Za-z])))?"
_FRACTION = r"(?:[.,:]\d{1,9})?"
_CLOCK = r"\d\d:\d\d:\d\d"
_EPOCH_MIN, _EPOCH_MAX = 631_152_000, 4_102_444_800  # 1990 to 2100
_TAI_MINUS_UTC_S = 10  # tai64n's label epoch; leap seconds since 1972 are ignored as loggers do


class YearClock:
    """Gives dates without a year one: the year of the last date, rolling over at new year.

    A date more than half a year before the one before it belongs to the next year, one more than
    half a year after it to the year before (a late line of December among those of January).
    """

    def __init__(self, year: int) -> None:
        self.year = year
        self._last: float | None = None

    @classmethod
    def ending(cls, last: float, month: int, day: int, n_rollovers: int = 0) -> YearClock:
        """Return the clock of a file last changed at `last` whose first date is `month` `day`.

        The year is the latest that does not lie after the change (a day is allowed for zones),
        less the new years counted between the first date and the last.
        """
        year = datetime.fromtimestamp(last, UTC).year
        if seconds_of(year, month, day) > last + DAY_S:
            year -= 1
        return cls(year - n_rollovers)

    def resume(self, time: float) -> bool:
        """Go on at `time`; return whether that is in another year."""
        self._last = time
        year = datetime.fromtimestamp(time, UTC).year
        is_other = year != self.year
        self.year = year
        return is_other

    def seconds(self, month: int, day: int, second_of_day: int) -> float:
        """Return the time of that date in the right year."""
        found = seconds_of(self.year, month, day) + second_of_day
        if self._last is not None:
            if found < self._last - _HALF_YEAR_S:
                self.year += 1
            elif found > self._last + _HALF_YEAR_S:
                self.year -= 1
            found = seconds_of(self.year, month, day) + second_of_day
        self._last = found
        return found


Reader = Callable[[Groups, YearClock], float | None]


@dataclass(frozen=True, slots=True)
class TimeFormat:
    """`pattern` matches the time itself, without what stands before it on the line."""

    name: str
    pattern: str
    read: Reader
    has_year: bool = True
    is_absolute: bool = True


@lru_cache(maxsize=4096)
def seconds_of(year: int, month: int, day: int) -> float:
    """Return midnight of that day. 29 February of another year's leap day is 1 March.

    Raises:
        ValueError: there is no such day.
    """
    if month == 2 and day == 29 and not _is_leap(year):
        month, day = 3, 1
    return float((date(year, month, day).toordinal() - 719_163) * DAY_S)


def fraction_after(line: str, end: int) -> float:
    """Return the fraction of a second that stands at `end`, 0.0 if none."""
    found = FRACTION_AT.match(line, end)
    return float("0." + (found.group(1) or found.group(2))) if found else 0.0


# Behind a separator; or, of an epoch in milli-, micro- or nanoseconds, without one.
FRACTION_AT = re.compile(r"[.,:](\d{1,9})(?!\d)|(\d{3}|\d{6}|\d{9})(?!\d)")


def zone_seconds(zone: str | None) -> float:
    """Return the offset of a zone from UTC; 0 for none or an unknown name."""
    if not zone:
        return 0.0
    if zone[0] in "+-":
        digits = zone[1:].replace(":", "")
        offset = int(digits[:2]) * 3600 + int(digits[2:4]) * 60
        return float(-offset if zone[0] == "-" else offset)
    return _ZONE_HOURS.get(zone, 0.0) * 3600


@lru_cache(maxsize=1024)
def _day(text: str) -> float:
    """Midnight of `YYYY?MM?DD`."""
    return seconds_of(int(text[:4]), int(text[5:7]), int(text[8:10]))


def _clock(text: str) -> int:
    """Second of the day of `HH:MM:SS`; a leap second is the next minute."""
    hour, minute, second = int(text[:2]), int(text[3:5]), int(text[6:8])
    if hour > 23 or minute > 59 or second > 60:
        raise ValueError(text)
    return hour * 3600 + minute * 60 + second


def _read_iso(g: Groups, clock: YearClock) -> float:
    text = g[0] or ""
    return _day(text[:10]) + _clock(text[-8:]) - zone_seconds(g[1])


def _read_loose(g: Groups, clock: YearClock) -> float:
    year, month, day, hour, minute, second = (int(v or 0) for v in g[:6])
    return seconds_of(year, month, day) + hour * 3600 + minute * 60 + second - zone_seconds(g[6])


def _read_compact(g: Groups, clock: YearClock) -> float:
    d = re.sub(r"\D", "", g[0] or "")
    if len(d) == 12:  # MySQL 5: yymmdd
        d = "20" + d
    when = seconds_of(int(d[:4]), int(d[4:6]), int(d[6:8]))
    return when + _clock(f"{d[8:10]}:{d[10:12]}:{d[12:14]}") - zone_seconds(g[1])


def _read_year_day(g: Groups, clock: YearClock) -> float:
    text = g[0] or ""
    return seconds_of(int(text[:4]), 1, 1) + (int(text[5:8]) - 1) * DAY_S + _clock(text[-8:])


def _read_apache(g: Groups, clock: YearClock) -> float:
    text = g[0] or ""
    day = seconds_of(int(text[7:11]), _MONTH[text[3:6]], int(text[:2]))
    return day + _clock(text[-8:]) - zone_seconds(g[1])


def _read_day_month(g: Groups, clock: YearClock) -> float:
    """`02 Jan 2006 15:04:05`, RFC 1123, `2-Jan-06`."""
    day, month, year = int(g[0] or 0), _MONTH[g[1] or ""], int(g[2] or 0)
    year += 2000 if year < 100 else 0
    return seconds_of(year, month, day) + _clock(g[3] or "") - zone_seconds(g[4])


def _read_ctime(g: Groups, clock: YearClock) -> float:
    month, day, rest, zone, year = g
    when = seconds_of(int(year or 0), _MONTH[month or ""], int(day or 0))
    return when + _clock(rest or "") - zone_seconds(zone)


def _read_syslog(g: Groups, clock: YearClock) -> float:
    text = g[0] or ""
    return clock.seconds(_MONTH[text[:3]], int(text[4:6]), _clock(text[-8:]))


def _read_month_day(g: Groups, clock: YearClock) -> float:
    """`0517 15:04:22` (glog) and `05-17 15:04:22` (logcat)."""
    text = g[0] or ""
    return clock.seconds(int(text[:2]), int(text[-11:-9]), _clock(text[-8:]))


def _read_short_year(g: Groups, clock: YearClock) -> float:
    """`17/06/09 20:10:40` as Spark writes it, unless only day or month first makes sense."""
    a, b, c = int(g[0] or 0), int(g[1] or 0), int(g[2] or 0)
    if a <= 31 and c > 31:
        raise ValueError("two-digit year of the last century")
    order = (2000 + a, b, c) if b <= 12 else (2000 + c, a, b)
    return seconds_of(*order) + _clock(g[3] or "")


def _read_us(g: Groups, clock: YearClock) -> float:
    """`1/31/2020, 4:05:06 PM`: month first unless it cannot be; with dots the day is first."""
    first, sep, second, year = int(g[0] or 0), g[1], int(g[2] or 0), int(g[3] or 0)
    month, day = (second, first) if sep == "." or first > 12 else (first, second)
    hour, minute, last = int(g[4] or 0), int(g[5] or 0), int(g[6] or 0)
    if g[7]:
        hour = hour % 12 + (12 if g[7] in "PMpm" else 0)
    return seconds_of(year, month, day) + hour * 3600 + minute * 60 + last


def _read_epoch(g: Groups, clock: YearClock) -> float:
    found = float(g[0] or 0)
    if not _EPOCH_MIN <= found <= _EPOCH_MAX:
        raise ValueError(g[0])
    return found


def _read_tai(g: Groups, clock: YearClock) -> float:
    return float(int(g[0] or "", 16) - (1 << 62) - _TAI_MINUS_UTC_S)


def _read_nothing(g: Groups, clock: YearClock) -> None:
    return None


def _is_leap(year: int) -> bool:
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)


_WEEKDAY = "(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)"
FORMATS: tuple[TimeFormat, ...] = (
    TimeFormat("iso", rf"(\d{{4}}[-/.]\d\d[-/.]\d\d[T _:\t]{_CLOCK}){_FRACTION}{ZONE}", _read_iso),
    TimeFormat(
        "ctime",
        rf"{_WEEKDAY},? ({MON}) {{1,2}}(\d{{1,2}}),? ({_CLOCK})(?:\.\d+)?"
        r"(?: ([A-Z]{3,4}))? (\d{4})",
        _read_ctime,
    ),
    TimeFormat("syslog", rf"({MON} [ \d]\d {_CLOCK})(?! \d{{4}}\b)", _read_syslog, has_year=False),
    TimeFormat("apache", rf"(\d\d/{MON}/\d{{4}}[: ]{_CLOCK}){_FRACTION}{ZONE}", _read_apache),
    TimeFormat("glog", rf"(?<=[IWEFC])(\d{{4}} {_CLOCK})", _read_month_day, has_year=False),
    TimeFormat("epoch", r"(\d{10})(?:(?!\d)|(?=(?:\d{3}|\d{6}|\d{9})\b))", _read_epoch),
    TimeFormat(
        "month-first",
        rf"({MON}) {{1,2}}(\d{{1,2}}),? (?=\d{{4}}|{_CLOCK} \d{{4}})"
        rf"(?:(?=\d{{4}},? ({_CLOCK}))|(?=({_CLOCK}) \d{{4}}))(?:{_CLOCK} )?(\d{{4}})"
        rf"(?:,? {_CLOCK})?",
        lambda g, clock: _read_ctime((g[0], g[1], g[2] or g[3], None, g[4]), clock),
    ),
    TimeFormat(
        "day-first",
        rf"(?:{_WEEKDAY},? )?(\d{{1,2}})[ -]({MON})[ -](\d{{4}}|\d\d)[ :,]{{1,2}}({_CLOCK})"
        rf"{_FRACTION}{ZONE}",
        _read_day_month,
    ),
    TimeFormat(
        "us",
        r"(\d{1,2})([./-])(\d{1,2})\2(\d{4}),? (\d{1,2}):(\d\d)(?::(\d\d))?(?:[.,]\d+)?"
        r"(?: ?([AaPp])\.?[Mm])?",
        _read_us,
    ),
    TimeFormat("short-year", rf"(\d\d)/(\d\d)/(\d\d) ({_CLOCK})", _read_short_year),
    TimeFormat("logcat", rf"(\d\d-\d\d {_CLOCK})", _read_month_day, has_year=False),
    TimeFormat(
        "compact",
        rf"(\d{{8}}[T._ -]?\d{{6}}(?!\d)|\d{{6}}  ?{_CLOCK}){_FRACTION}{ZONE}",
        _read_compact,
    ),
    TimeFormat(
        "compact-clock", rf"(\d{{8}}[T._ :-]{{1,2}}{_CLOCK}){_FRACTION}{ZONE}", _read_compact
    ),
    TimeFormat("year-day", rf"(\d{{4}}-\d{{3}}T{_CLOCK})", _read_year_day),
    TimeFormat(
        "iso-loose",
        r"(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})[T _\"\t]{1,4}(\d{1,2}):(\d\d)(?::(\d\d))?"
        rf"(?:[.,]\d+)?{ZONE}",
        _read_loose,
    ),
    TimeFormat("tai64n", r"@(4[0-9a-f]{15})[0-9a-f]{8}", _read_tai),
    TimeFormat("dmesg", r"(?<=\[)( *\d+\.\d{6})(?=\])", _read_nothing, is_absolute=False),
    TimeFormat("clock", rf"({_CLOCK})(?!\d)", _read_nothing, is_absolute=False),
    TimeFormat("minutes", r"(\d\d:\d\d)\.\d{3}", _read_nothing, is_absolute=False),
)
"""Tried in this order where several fit a line equally well."""


def read_groups(found: TimeFormat, groups: Groups, clock: YearClock) -> float | None:
    """Return the time of `groups`, None where it is not absolute or no such time exists."""
    try:
        return found.read(groups, clock)
    except (ValueError, OverflowError):
        return None
