"""The template of a log line: what stays when numbers, identifiers and quoted values are masked.

    `2016-12-19 20:39:48,918 WARN [Fetcher-0-2], Error in fetch Request@26408511 after 30 ms`
    -> `WARN [Fetcher-*-*], Error in fetch Request@* after * ms`

Lines of one log statement get one template, so that they are embedded once. The time in front is
the caller's to cut off.
"""

from __future__ import annotations

import json
import re

MAX_TEMPLATE_CHARS = 240
MASK = "*"

_MAX_LINE_CHARS = 1_000
_QUOTED = re.compile(r'"[^"\n]*"|\'[^\'\n]{2,}\'')
_UUID_OR_HEX = re.compile(r"\b(?:0x)?[0-9a-fA-F]{8,}(?:-[0-9a-fA-F]{4,})*\b")
_TOKEN = re.compile(r"[^\s\"'=,;()\[\]{}<>|]+")
_DIGIT = re.compile(r"\d")
_NUMBERED_WORD = re.compile(r"([A-Za-z]{2,}[-_.#@/]?)\d{1,4}(?![0-9A-Za-z])")
_RUN = re.compile(r"\*(?:[\s,:.*/_-]{0,3}\*)+")
_SPACE = re.compile(r"\s+")
_MESSAGE_KEYS = (
    *("level", "severity", "lvl", "severityText", "log.level", "logger", "name", "component"),
    *("app", "service", "target", "msg", "message", "event", "error", "err", "exception", "body"),
)


def mask(line: str) -> str:
    """Return the template of `line` (its time already cut off), at most `MAX_TEMPLATE_CHARS`."""
    text = line[:_MAX_LINE_CHARS].strip()
    if text.startswith("{"):
        text = _json_words(text, line)
    text = _QUOTED.sub(_mask_quoted, text)
    text = _UUID_OR_HEX.sub(_mask_hex, text)
    text = _TOKEN.sub(_mask_token, text)
    return _SPACE.sub(" ", _RUN.sub(MASK, text))[:MAX_TEMPLATE_CHARS]


def _mask_quoted(match: re.Match[str]) -> str:
    text = match.group()
    if len(text) > 60 or text.count("/") > 1:
        words = text[1:-1].split(None, 1)
        method = words[0] + " " if words and words[0].isupper() else ""  # "GET /path HTTP/1.1"
        return f'"{method}{MASK}"'
    return text


def _mask_hex(match: re.Match[str]) -> str:
    text = match.group()
    return MASK if _DIGIT.search(text) or "-" in text else text


def _mask_token(match: re.Match[str]) -> str:
    text = match.group()
    if text.count("/") > 1:
        head = "/".join(text.split("/")[:2])
        return MASK if _DIGIT.search(head) else head + "/" + MASK
    if text.isalpha() or not _DIGIT.search(text):
        return text
    masked = _NUMBERED_WORD.sub(rf"\1{MASK}", text)
    return MASK if _DIGIT.search(masked) else masked


def _json_words(text: str, line: str) -> str:
    """Return level, logger and message of a JSON record; without those, its keys."""
    try:
        record = json.loads(line)
    except ValueError:
        return text
    if not isinstance(record, dict):
        return text
    flat = _flat(record)
    words = [str(flat[key]) for key in _MESSAGE_KEYS if isinstance(flat.get(key), str | int)]
    if any(key in flat for key in _MESSAGE_KEYS[10:]):
        return " ".join(words)[:_MAX_LINE_CHARS]
    plain = [f"{k} {v}" for k, v in flat.items() if isinstance(v, str) and v.isalpha()]
    return " ".join([*words, *(plain or list(flat))])[:_MAX_LINE_CHARS]


def _flat(record: dict[str, object]) -> dict[str, object]:
    """Return the record with the keys of nested objects beside its own, outer keys first."""
    flat: dict[str, object] = dict(record)
    for value in record.values():
        if isinstance(value, dict):
            for key, inner in value.items():
                flat.setdefault(str(key), inner)
    return flat
