"""The template of a log line: what stays when numbers, identifiers and long values are masked.

    `WARN [Fetcher-0-2], Error in fetch Request@26408511 after 30 ms`
    -> `WARN [Fetcher-*], Error in fetch Request@* after * ms`

Lines of one log statement get one template, so that they are embedded once. The time in front is
the caller's to cut off. Every substitution is by a constant: a callback would cost five times more.
"""

from __future__ import annotations

import json
import re

MAX_TEMPLATE_CHARS = 240
MASK = "*"

_MAX_LINE_CHARS = 600
_NUMBER_OR_HEX = re.compile(r"\b(?:0x)?[0-9a-fA-F]{8,}\b[-0-9a-fA-F]*|\d[\w.:-]*")
_DEEP_PATH = re.compile(r"(?<=\w)/[^\s/\"']+/[^\s\"',;)\]]*")
_LONG_QUOTED = re.compile(r'"[^"\n]{60,}"')
_RUN = re.compile(r"\*(?:[\s,:.*/_-]{0,3}\*)+")
_NAMING_KEYS = (
    *("level", "severity", "lvl", "severityText", "log.level", "logger", "name", "component"),
    *("app", "service", "target"),
)
_SAYING_KEYS = ("msg", "message", "event", "error", "err", "exception", "body")


def mask(line: str) -> str:
    """Return the template of `line` (its time already cut off), at most `MAX_TEMPLATE_CHARS`.

    Masked are UUIDs and hexadecimal words of eight digits or more, everything that begins with a
    digit (numbers, addresses, versions, dates), the tail of paths from their second name on, and
    quoted strings of 60 characters or more. Of a JSON record level, logger and message remain.
    """
    text = _json_words(line) if line[:1] == "{" else line[:_MAX_LINE_CHARS]
    text = _NUMBER_OR_HEX.sub(MASK, text)
    text = _DEEP_PATH.sub("/*", text)
    text = _LONG_QUOTED.sub('"*"', text)
    return " ".join(_RUN.sub(MASK, text).split())[:MAX_TEMPLATE_CHARS]


def _json_words(line: str) -> str:
    """Return level, logger and message of a JSON record; without those, its keys and words."""
    try:
        record = json.loads(line)
    except ValueError:
        return line[:_MAX_LINE_CHARS]
    if not isinstance(record, dict):
        return line[:_MAX_LINE_CHARS]
    flat = _flat(record)
    names = [str(flat[key]) for key in _NAMING_KEYS if isinstance(flat.get(key), str | int)]
    said = [flat[key] for key in _SAYING_KEYS if isinstance(flat.get(key), str)]
    if not said:
        said = [f"{k} {v}" for k, v in flat.items() if isinstance(v, str) and v.isalpha()]
    return " ".join(map(str, [*names, *(said or flat)]))[:_MAX_LINE_CHARS]


def _flat(record: dict[str, object]) -> dict[str, object]:
    """Return the record with the keys of nested objects beside its own, outer keys first."""
    flat: dict[str, object] = dict(record)
    for value in record.values():
        if isinstance(value, dict):
            for key, inner in value.items():
                flat.setdefault(str(key), inner)
    return flat
