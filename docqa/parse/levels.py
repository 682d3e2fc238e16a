"""The level of a log record: TRACE, DEBUG, INFO, WARN, ERROR, FATAL, or None.

A level is read only where it is a field: a delimited capital word near the beginning, a bracketed
word, `level=`, a JSON key, the letter of glog and logcat, syslog's number. A status of 500 or the
word "error" in the middle of a sentence is none.
"""

from __future__ import annotations

import re

LEVELS = ("TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL")
SEVERE = frozenset(("WARN", "ERROR", "FATAL"))
_NAMES = {
    "TRACE": "trace verbose finest finer v t",
    "DEBUG": "debug debug1 debug2 debug3 debug4 debug5 fine config d",
    "INFO": "info information informational notice note log i n",
    "WARN": "warn warning w",
    "ERROR": "error err severe failure e",
    "FATAL": "fatal critical crit alert emerg emergency panic f c",
}
_LEVEL = {word: level for level, words in _NAMES.items() for word in words.split()}
_SYSLOG = ("FATAL", "FATAL", "FATAL", "ERROR", "WARN", "INFO", "INFO", "DEBUG")
_NEAR_CHARS = 160  # a level stands in the header; beyond it is prose

_UPPER = re.compile(
    r"(TRACE|DEBUG|VERBOSE|FINEST|FINER|FINE|INFO(?:RMATION)?|NOTICE|NOTE|WARN(?:ING)?|ERR(?:OR)?|"
    r"SEVERE|FATAL|CRIT(?:ICAL)?|ALERT|EMERG(?:ENCY)?|PANIC|LOG(?=:))(?![\w=./-])"
)
_BEFORE = frozenset(" \t[]|:<(\"'=.>-,*")
_WORDS = "|".join(sorted((w for w in _LEVEL if len(w) > 2), key=len, reverse=True))
_PLAIN = "trace|debug\\d?|info|notice|warn|warning|err|error|fatal|crit|critical"
_KEYED = re.compile(
    r"(?:(?<=[\s{,\"'\[(])|^)(?:log\.?level|level|lvl|severity(?:text)?|levelname|priority)"
    r"[\"']?\s*[=:]\s*[\"']?([a-z]+\d?|\d+)(?![\w.])",
    re.I,
)
_JSON_LETTER = re.compile(r'"s":\s*"([DIWEF]\d?)"')  # MongoDB
_BRACKETED = re.compile(rf"[\[(<](?:[\w.-]+:)?({_WORDS})[\])>]", re.I)  # [error], [core:error]
_FIRST = re.compile(  # `info vpxd[1]`, `\terror\tqueue`, `host prog[12]: error: text`
    rf"[\s\]|,:-]{{0,4}}({_WORDS})(?=[:|,\]])|[\s\]|,:-]{{0,4}}({_PLAIN})(?=\s)|[^:\n]{{0,80}}:\s({_WORDS}):\s",
    re.I,
)
_COLUMN = re.compile(r"[\t,;|]\"?(Information|Warning|Error|Critical|Verbose)\"?[\t,;|]")
_LETTER = re.compile(r"\s+(?:[0-9A-Fa-f]+\s+){0,2}([VTDIWEFC])(?:\s\S*[.:/\[]|[/|])")
_GLOG = re.compile(r"([IWEFC])\d{4} \d\d:")
_LOGCAT_BRIEF = re.compile(r"([VDIWEF])/[\w.$-]+\s*(?:\(|:)")
_PRI = re.compile(r"<(\d{1,3})>")
_JOURNAL = re.compile(r'"PRIORITY"\s*:\s*"?([0-7])"?')


def normalise(word: str) -> str | None:
    """Return the level that `word` names, in any case; numbers as Bunyan and Pino count."""
    if word.isdigit():
        n = int(word)
        if n >= 10:
            return LEVELS[min(n // 10, 6) - 1]
        return ("DEBUG", "INFO", "WARN", "ERROR", "FATAL")[n] if n < 5 else None
    return _LEVEL.get(word.lower())


def find_level(line: str, start: int = 0) -> str | None:
    """Return the level of a record's first line; `start` is where its time ends."""
    first = line[:1]
    if first == "{":
        return _json_level(line)
    if first == "<":
        found = _PRI.match(line)
        if found and int(found.group(1)) < 192:
            return _word_level(line, start) or _SYSLOG[int(found.group(1)) % 8]
    if first in "VDIWEFC" and first:
        letter = _GLOG.match(line) or _LOGCAT_BRIEF.match(line)
        if letter:
            return normalise(letter.group(1))
    return _word_level(line, start)


def _word_level(line: str, start: int) -> str | None:
    end = start + _NEAR_CHARS
    for word in _UPPER.finditer(line, 0, end):
        at = word.start()
        if at == 0 or line[at - 1] in _BEFORE:
            return _LEVEL[word.group(1).lower()]
    for pattern in (_KEYED, _BRACKETED, _COLUMN):
        found = pattern.search(line, 0, end)
        if found:
            return normalise(found.group(1))
    if start == 0:
        return None
    after = _after_time(line, start)
    found = _FIRST.match(line, after, end)
    if found:
        return normalise(found.group(1) or found.group(2) or found.group(3))
    found = _LETTER.match(line, after, end)
    return normalise(found.group(1)) if found else None


_AFTER = re.compile(r"(?:[.,:]\d+)?(?:\s?(?:Z|[+-]\d\d:?\d\d|[A-Z]{3,4}(?=\s)))?")


def _after_time(line: str, start: int) -> int:
    """Skip what belongs to the time behind its seconds: fraction and zone."""
    found = _AFTER.match(line, start)
    return found.end() if found else start


def _json_level(line: str) -> str | None:
    found = _KEYED.search(line)
    if found:
        level = normalise(found.group(1))
        if level:
            return level
    for pattern in (_JOURNAL, _JSON_LETTER):
        found = pattern.search(line)
        if found:
            word = found.group(1)
            return _SYSLOG[int(word)] if word.isdigit() else normalise(word[0])
    return None
