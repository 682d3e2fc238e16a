"""The durations that a line of a log states: `0.387 secs`, `8,412 ms`, `"durationMillis":120`.

    durations(line) -> each in seconds, with the words that state it

A number counts where its unit follows it, or where the name before it ends in a unit. What has no
unit (the last column of an access log) is not guessed at.
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


@dataclass(frozen=True, slots=True, order=True)
class Duration:
    """`seconds`, and the words that state them."""

    seconds: float
    text: str


def durations(line: str) -> list[Duration]:
    """Return the durations of a line, in no order."""
    return [
        Duration(_value(found), found[0].replace('"', "").replace("'", ""))
        for pattern in (_STATED, _NAMED)
        for found in pattern.finditer(line)
    ]


def _value(found: re.Match[str]) -> float:
    unit = found["unit"].lower()
    known = next(unit[:n] for n in range(len(unit), 0, -1) if unit[:n] in _SECONDS)
    return float(found["n"].replace(",", "")) * _SECONDS[known]
