"""The durations and sizes that a line of a log states: `0.387 secs`, `"durationMillis":120`.

    durations(line) -> each in seconds, with the words that state it
    sizes(line, of) -> each in bytes

A number is a duration where its unit follows it, or where the name before it is that of one. A name
without a unit (`Query_time: 0.01`) counts as seconds: it is compared with others of its kind, and
shown as it stands. What has neither (the last column of an access log) is not guessed at.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_SECONDS = {  # by how the unit's name begins
    "ns": 1e-9, "nano": 1e-9, "us": 1e-6, "µs": 1e-6, "micro": 1e-6, "ms": 1e-3, "mill": 1e-3,
    "s": 1.0, "sec": 1.0, "min": 60.0, "h": 3600.0,
}  # fmt: skip
_UNIT = (
    r"(?:ns|nanos(?:econds?)?|us|µs|micros(?:econds?)?|msecs?|ms|millis(?:econds?)?|secs?|seconds?|"
    r"s|mins?|minutes?|hrs?|hours?|h)"
)
_NUMBER = r"(?P<n>\d{1,3}(?:,\d{3})+|\d+(?:\.\d+)?)"
_STATED = re.compile(rf"(?<![\w.,:/-]){_NUMBER} ?(?P<unit>{_UNIT})(?![\w/])", re.I)
_NAMED = re.compile(
    rf"(?:duration|elapsed|took|taken|latency|time|delay|wait|pause)(?:_?in)?_?(?P<unit>{_UNIT})"
    rf"[\"']?\s*[:=]\s*[\"']?{_NUMBER}(?![\w.])",
    re.I,
)
_UNITLESS = re.compile(
    r"(?P<unit>)\b(?:duration|elapsed|latency|"
    r"(?:query|lock|request|response|upstream_response|processing|execution|elapsed)_?time)"
    rf"[\"']?\s*[:=]\s*[\"']?{_NUMBER}(?! ?{_UNIT}\b)(?![\w.:-])",
    re.I,
)

_BYTES = {"b": 0, "k": 1, "m": 2, "g": 3, "t": 4}  # powers, by how the unit begins
_BYTE_UNIT = r"(?:bytes?|[kmgt]i?b|[kmg]bytes?)"
_STATED_SIZE = re.compile(
    rf"(?P<name>)(?<![\w.,:/-]){_NUMBER} ?(?P<unit>{_BYTE_UNIT})(?![\w/])", re.I
)
_NAMED_SIZE = re.compile(
    rf"(?P<name>[\w.-]*(?:bytes|size|length))[\"']?\s*[:=]\s*[\"']?{_NUMBER}"
    rf" ?(?P<unit>{_BYTE_UNIT})?(?![\w.])",
    re.I,
)
_RESPONSE = re.compile(  # of an access log
    r"HTTP/[\d.]+\" \d{3} (?P<name>)(?P<n>\d+)(?P<unit>)(?= |$)"
)


@dataclass(frozen=True, slots=True, order=True)
class Measure:
    """`value` in seconds or bytes, and the words that state it."""

    value: float
    text: str


def durations(line: str) -> list[Measure]:
    """Return the durations of a line, in no order."""
    return [
        Measure(_number(found) * _seconds(found["unit"].lower()), _shown(found[0]))
        for pattern in (_STATED, _NAMED, _UNITLESS)
        for found in pattern.finditer(line)
    ]


def sizes(line: str, of: str = "") -> list[Measure]:
    """Return the sizes in a line; those of `of` (`response`, `request`) where it names any."""
    found = [
        (match["name"].lower(), _number(match) * _bytes((match["unit"] or "").lower()), match[0])
        for pattern in (_STATED_SIZE, _NAMED_SIZE)
        for match in pattern.finditer(line)
    ]
    found += [
        ("response", _number(match), f"{match['n']} bytes") for match in _RESPONSE.finditer(line)
    ]
    wanted = [one for one in found if of and one[0].startswith(of[:3])]
    return [Measure(value, _shown(text)) for _, value, text in wanted or found]


def _number(found: re.Match[str]) -> float:
    return float(found["n"].replace(",", ""))


def _seconds(unit: str) -> float:
    known = [unit[:n] for n in range(len(unit), 0, -1) if unit[:n] in _SECONDS]
    return _SECONDS[known[0]] if known else 1.0


def _bytes(unit: str) -> float:
    return float((1024 if "i" in unit else 1000) ** _BYTES[unit[:1] or "b"])


def _shown(text: str) -> str:
    return text.replace('"', "").replace("'", "")
