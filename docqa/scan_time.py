"""The time range of a question about logs: `on 3 March`, `between 10:00 and 11:00`, `after 14:30`.

Dates without a year match every year, times without a date every day: the range is a predicate on
a record's time, not a pair of instants. Bounds are half-open. People type the clock that they see:
a line with `+0330` is compared by that clock, one without a zone as UTC, as it was read; where the
question says UTC, so are all.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

_MONTH_NAMES = "jan feb mar apr may jun jul aug sep oct nov dec"
_MONTHS = {name: n for n, name in enumerate(_MONTH_NAMES.split(), 1)}
_FARTHEST_ZONE_S = 14 * 3600  # Kiribati's clock
_ZONE = re.compile(r"\b\d\d:\d\d:\d\d(?:[.,]\d+)?\s?([+-]\d\d:?\d\d)\b")
_SAYS_UTC = re.compile(r"\s*\(?(?:UTC|GMT)\b\)?", re.I)
_MON = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?"
_DATE = (
    r"(?P<iso>\d{4}-\d\d-\d\d)"
    r"|(?P<dot>\d{1,2}\.\d{1,2}\.\d{4})"
    rf"|(?P<dm>\d{{1,2}}(?:st|nd|rd|th)?(?: of)? {_MON}(?:,? \d{{4}})?)"
    rf"|(?P<md>{_MON} \d{{1,2}}(?:st|nd|rd|th)?(?!\d|:)(?:,? \d{{4}})?)"
    rf"|(?P<my>{_MON},? \d{{4}}(?!\d))"
)
_CLOCK = r"\d{1,2}(?::\d\d(?::\d\d)?)(?:\s?[ap]m)?|\d{1,2}\s?[ap]m|\d{1,2}h(?= on )"
_POINT = (
    rf"(?:(?:{_DATE})(?:,? (?:at )?|T)?(?P<clock>{_CLOCK})?"
    rf"|(?P<only>{_CLOCK})(?: on (?P<day>DATE))?)"
)


def _point(prefix: str) -> str:
    day = re.sub(r"\?P<\w+>", "?:", _DATE)
    named = _POINT.replace("DATE", day)
    return re.sub(r"\?P<(\w+)>", rf"?P<{prefix}\1>", named)


_BETWEEN = re.compile(
    rf"\b(?:between|from)\s+{_point('a_')}\s+(?:and|to|until|till)\s+{_point('b_')}", re.I
)
_BOUND = re.compile(
    rf"\b(?P<word>after|since|from|before|until|till|up to)\s+(?:the\s+)?{_point('a_')}", re.I
)
_AT = re.compile(rf"\b(?:on|at|around|during|in|of|for)\s+(?:the\s+)?{_point('a_')}", re.I)
_BARE = re.compile(rf"(?<![\w.:-]){_point('a_')}(?![\w:])", re.I)


@dataclass(frozen=True, slots=True)
class Moment:
    """A month, a date, a clock time, as far as the question states them."""

    year: int | None = None
    month: int | None = None
    day: int | None = None
    second: int | None = None  # of the day
    width_s: int = 1  # what the clock time covers: a second, a minute, an hour

    def key(self, at: datetime) -> tuple[int, ...]:
        """Return the parts of `at` that this moment states, comparable with `parts`."""
        parts: list[int] = []
        if self.year is not None:
            parts.append(at.year)
        if self.month is not None:
            parts.append(at.month)
        if self.day is not None:
            parts.append(at.day)
        if self.second is not None:
            parts.append(at.hour * 3600 + at.minute * 60 + at.second)
        return tuple(parts)

    @property
    def parts(self) -> tuple[int, ...]:
        """The stated numbers, year first."""
        stated = (self.year, self.month, self.day, self.second)
        return tuple(part for part in stated if part is not None)


@dataclass(frozen=True, slots=True)
class TimeRange:
    """`start` and `end` (exclusive); clock times without a date hold on every day, or on `day`."""

    text: str
    start: Moment | None = None
    end: Moment | None = None
    day: Moment | None = None
    is_utc: bool = False  # the question says so

    def holds(self, time: float | None, zone_s: float = 0.0) -> bool:
        """Whether a record of this time is inside; one without a time never is.

        Args:
            time: UTC seconds.
            zone_s: how far the log's own clock is ahead of UTC.
        """
        if time is None:
            return False
        at = datetime.fromtimestamp(time if self.is_utc else time + zone_s, UTC)
        if self.day is not None and self.day.key(at) != self.day.parts:
            return False
        if self.start is not None and self.start.key(at) < self.start.parts:
            return False
        return self.end is None or self.end.key(at) < self.end.parts

    def may_hold(self, first: float | None, last: float | None) -> bool:
        """Whether a chunk with these times can have a record inside."""
        if first is None or last is None:
            return False
        if self.day is None or last - first > 2 * 86_400:
            return True
        low = datetime.fromtimestamp(first - _FARTHEST_ZONE_S, UTC)
        high = datetime.fromtimestamp(last + _FARTHEST_ZONE_S, UTC)
        days = {self.day.key(low + timedelta(days=n)) for n in range((high - low).days + 1)}
        return self.day.parts in days | {self.day.key(high)}


def zone_in(line: str) -> str:
    """Return the zone behind a line's clock, as it is written; empty for none and for UTC."""
    found = _ZONE.search(line)
    return found[1] if found and found[1].strip("+-0:") else ""


def find_time_range(question: str) -> tuple[TimeRange | None, str]:
    """Return the time range of a question, and the question without the words that state it."""
    match = _BETWEEN.search(question)
    if match:
        start, end = _moment(match, "a_"), _moment(match, "b_")
        if start and end:
            return _without(question, match, _between(match.group(), start, end))
    match = _BOUND.search(question)
    if match:
        found = _moment(match, "a_")
        if found:
            return _without(question, match, _bound(match, found))
    for pattern in (_AT, _BARE):
        match = pattern.search(question)
        found = _moment(match, "a_") if match else None
        if match and found:
            return _without(question, match, _at(match.group(), found))
    return None, question


def _without(question: str, match: re.Match[str], found: TimeRange) -> tuple[TimeRange | None, str]:
    said = _SAYS_UTC.match(question, match.end())
    rest = question[: match.start()] + " " + question[said.end() if said else match.end() :]
    found = replace(found, is_utc=said is not None)
    if found.day is None:  # `between 10:00 and 11:00 … on 12 March`
        other = _AT.search(rest) or _BARE.search(rest)
        day = _moment(other, "a_") if other else None
        if other and day and day.month is not None and day.second is None:
            text = f"{found.text.strip()} {other.group().strip()}"
            found = replace(found, text=text, day=day)
            rest = rest[: other.start()] + " " + rest[other.end() :]
    return found, rest


def _between(text: str, start: Moment, end: Moment) -> TimeRange:
    if start.second is None and end.second is None:
        return TimeRange(text, start, _after(end))
    day = start if start.month is not None else end
    only = Moment(day.year, day.month, day.day) if day.month is not None else None
    if start.month is not None and end.month is not None:
        return TimeRange(text, start, end)
    return TimeRange(text, Moment(second=start.second), Moment(second=end.second), only)


def _bound(match: re.Match[str], found: Moment) -> TimeRange:
    text, word = match.group(), match.group("word").lower()
    is_day = found.second is None
    if word in ("before", "until", "till", "up to"):
        return TimeRange(text, None, _after(found) if is_day and word != "before" else found)
    return TimeRange(text, _after(found) if is_day and word == "after" else found)


def _at(text: str, found: Moment) -> TimeRange:
    day = Moment(found.year, found.month, found.day) if found.month is not None else None
    if found.second is None:
        return TimeRange(text, day=day)
    start = Moment(second=found.second)
    return TimeRange(text, start, Moment(second=found.second + found.width_s), day)


def _after(found: Moment) -> Moment | None:
    """What comes first behind a date; None where that is a new year and no year is stated."""
    if found.month is None:
        return None
    if found.day is None:  # a month, with its year
        n_months = (found.year or 0) * 12 + found.month
        return Moment(n_months // 12, n_months % 12 + 1)
    nextday = datetime(found.year or 2000, found.month, found.day) + timedelta(days=1)
    if found.year is None and nextday.year != 2000:
        return None
    year = nextday.year if found.year is not None else None
    return Moment(year, nextday.month, nextday.day)


def _moment(match: re.Match[str], prefix: str) -> Moment | None:
    parts = {name: match.group(prefix + name) for name in ("iso", "dot", "dm", "md", "my", "day")}
    clock = match.group(prefix + "clock") or match.group(prefix + "only")
    date = next((text for text in parts.values() if text), None)
    year = month = day = None
    if date:
        try:
            year, month, day = _date(date)
            datetime(year or 2000, month, 1 if day is None else day)
        except (ValueError, KeyError):
            return None
    if not clock:
        return Moment(year, month, day) if date else None
    second, width_s = _clock(clock)
    return Moment(year, month, day, second, width_s) if second < 86_401 else None


def _date(text: str) -> tuple[int | None, int, int | None]:
    if re.match(r"\d{4}-", text):
        return int(text[:4]), int(text[5:7]), int(text[8:10])
    if re.match(r"\d+\.\d+\.\d{4}", text):
        first, second, third = text.split(".")
        return int(third), int(second), int(first)
    name = re.search(r"[a-z]{3,}", re.sub(r"(?<=\d)(?:st|nd|rd|th)|\bof\b", "", text.lower()))
    numbers = [int(n) for n in re.findall(r"\d+", text)]
    if len(numbers) == 1 and numbers[0] > 31:
        return numbers[0], _MONTHS[name.group()[:3] if name else ""], None
    year = numbers[1] if len(numbers) > 1 else None
    return year, _MONTHS[name.group()[:3] if name else ""], numbers[0]


def _clock(text: str) -> tuple[int, int]:
    """Return the second of the day, and how many seconds the text covers."""
    numbers = [int(n) for n in re.findall(r"\d+", text)]
    hour = numbers[0]
    if text.lower().endswith("m"):
        hour = hour % 12 + (12 if text.lower().endswith("pm") else 0)
    minute = numbers[1] if len(numbers) > 1 else 0
    second = numbers[2] if len(numbers) > 2 else 0
    return hour * 3600 + minute * 60 + second, (3600, 60, 1)[len(numbers) - 1]
