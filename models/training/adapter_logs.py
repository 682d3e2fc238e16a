"""Generated questions about logs, on synthetic incidents and on windows of real log files.

A synthetic log is a timeline of (time, level, host, service, message) written in one of twelve
formats, with a planted incident: a cause line, then the errors that follow from it. Real logs are
asked only what can be read off their lines safely: the time stamp of a phrase, the line before or
after one, how often a phrase occurs in the excerpt.
"""

# ruff: noqa: E501 (tables of wordings are wider than code)
from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from models.training import adapter_words as words
from models.training.adapter_records import Example, Passage
from models.training.adapter_sheets import Words


@dataclass(frozen=True, slots=True)
class Line:
    """One event of a timeline, its time already written in the log's form."""

    time: str
    level: str
    host: str
    service: str
    message: str
    text: str


FORMATS: tuple[tuple[str, str], ...] = (
    ("%Y-%m-%d %H:%M:%S", "{t} {l} [{s}] {m}"),
    ("%Y-%m-%dT%H:%M:%S.{ms}Z", "{t} {l:<5} {s} - {m}"),
    ("%b %d %H:%M:%S", "{t} {h} {s}[{p}]: {m}"),
    ("%Y-%m-%d %H:%M:%S,{ms}", "[{t}] {l} {m} ({s})"),
    ("%H:%M:%S.{ms}", "{t} [{s}-{p}] {l} {m}"),
    ("%d/%b/%Y:%H:%M:%S +0000", '{h} - [{t}] {s} {l}: "{m}"'),
    ("%Y-%m-%dT%H:%M:%SZ", 'time="{t}" level={k} host={h} service={s} msg="{m}"'),
    ("%Y-%m-%dT%H:%M:%S.{ms}+02:00", '{{"ts":"{t}","level":"{k}","host":"{h}","service":"{s}","msg":"{m}"}}'),
    ("%m/%d/%Y %I:%M:%S %p", "{t} | {l} | {h} | {s} | {m}"),
    ("%Y%m%d-%H%M%S", "{l} {t} {p} {s}: {m}"),
    ("%d.%m.%Y %H:%M:%S", "{t} {h}/{s} <{l}> {m}"),
    ("%Y-%m-%d %H:%M:%S", "{t}\t{h}\t{s}\t{l}\t{m}"),
)  # fmt: skip

ROUTINE = (
    "health check passed", "request {u} completed in {n} ms", "connected to database {d}",
    "cache refreshed, {n} entries", "user {w} logged in from {ip}", "user {w} logged out",
    "job {u} started", "job {u} finished in {n} s", "configuration reloaded",
    "listening on port {n}", "GET /api/{d}/{n} 200", "POST /api/{d} 201", "session {u} opened",
    "session {u} closed", "queue length is {n}", "snapshot of {d} written ({n} MB)",
    "certificate valid for {n} days", "message {u} delivered to {w}", "retrying request {u}",
    "worker {n} idle", "garbage collection took {n} ms", "uploaded report-{n}.csv",
    "index {d} rebuilt, {n} documents", "heartbeat from {h}", "token renewed for {w}",
)  # fmt: skip
INCIDENTS: tuple[tuple[str, str, str], ...] = (
    ("disk usage on /var reached {c}%", "write to {d} failed: no space left on device", "snapshot aborted"),
    ("connection pool exhausted ({c} of {c} in use)", "query on {d} timed out after {n} ms", "request {u} failed with status 503"),
    ("certificate of {h} expired", "TLS handshake with {h} failed", "could not reach {h}: connection refused"),
    ("out of memory: killed process {n}", "worker {c} exited unexpectedly", "request {u} failed with status 500"),
    ("DNS lookup for {h}.internal failed", "cannot connect to {h}.internal:5432", "health check failed"),
    ("lock on table {d} held for {n} s by {w}", "deadlock detected on {d}", "transaction {u} rolled back"),
    ("password of account {w} expired", "authentication failed for {w}", "account {w} locked after {c} attempts"),
    ("replica {h} is {n} s behind", "stale read from {h}", "failover to {h} started"),
    ("deployment of version {c}.{n} started", "unknown configuration key '{d}_url'", "startup aborted with exit code {c}"),
    ("fan 2 of {h} stopped", "temperature of {h} is {c} °C, above the limit", "{h} shut down to prevent damage"),
    ("rate limit of {n} requests per minute reached for {ip}", "request from {ip} rejected with status 429", "client {ip} blocked"),
    ("network link eth1 on {h} is down", "lost contact with {h}", "node {h} removed from the cluster"),
    ("schema migration {n} changed column {d}_id", "column '{d}_id' does not exist", "batch {u} aborted"),
    ("clock of {h} is off by {n} s", "token rejected: not yet valid", "login of {w} refused"),
)  # fmt: skip


def _fill(w: Words, text: str, known: dict[str, str] | None = None) -> str:
    """Return `text` with its slots filled; `known` makes the lines of one incident agree."""
    slots = known if known is not None else {}

    def value(match: re.Match[str]) -> str:
        if known is None or match[1] not in slots:
            slots[match[1]] = draw(match[1])
        return slots[match[1]]

    def draw(name: str) -> str:
        match name:
            case "n":
                return str(w.rng.randint(2, 9000))
            case "c":
                return str(w.rng.randint(3, 99))
            case "u":
                return f"{w.rng.randrange(16**6):06x}"
            case "d":
                return w.any(tuple(words.DATABASES))
            case "w":
                return w.pick(words.LAST).lower()
            case "h":
                return host(w)
            case _:
                return ".".join(str(w.rng.randint(1, 254)) for _ in range(4))

    return re.sub(r"\{(\w+)\}", value, text)


def host(w: Words) -> str:
    """Return a host name."""
    number = w.rng.randint(1, 60)
    return w.any(
        (f"{w.any(tuple(words.HOSTS))}-{number:02}", f"{w.any(tuple(words.HOSTS))}{number}")
    )


def timeline(w: Words, events: list[tuple[str, str]]) -> list[Line]:
    """Return the (level, message) events as lines of one drawn format, time rising."""
    stamp, form = w.rng.choice(FORMATS)
    now = datetime(w.rng.randint(2015, 2026), w.rng.randint(1, 12), w.day(), w.rng.randint(0, 23))
    services = [w.pick(tuple(words.SERVICES)) for _ in range(w.rng.randint(1, 4))]
    hosts = [host(w) for _ in range(w.rng.randint(1, 3))]
    lines = []
    for level, message in events:
        now += timedelta(seconds=w.rng.randint(1, 200), milliseconds=w.rng.randint(0, 999))
        time = now.strftime(stamp).replace("{ms}", f"{now.microsecond // 1000:03}")
        at, by = w.rng.choice(hosts), w.rng.choice(services)
        pid = w.rng.randint(100, 32000)
        text = form.format(t=time, l=level, k=level.lower(), s=by, h=at, p=pid, m=message)
        shown = at if "{h}" in form else ""
        lines.append(
            Line(time, level if "{l" in form or "{k" in form else "", shown, by, message, text)
        )
    return lines


def routine(w: Words, n_lines: int) -> list[tuple[str, str]]:
    """Return events of normal operation."""
    return [(w.any(words.LEVELS), _fill(w, w.any(ROUTINE))) for _ in range(n_lines)]


def excerpt(w: Words, lines: Sequence[str], path: str, first: int | None = None) -> Passage:
    """Return `lines` as a source, somewhere in the file or from line `first` on."""
    start = first or w.rng.randint(1, 90_000)
    return Passage("\n".join(lines), path, "line", start, start + len(lines) - 1)


def _path(w: Words) -> str:
    name = w.any((w.pick(tuple(words.SERVICES)), host(w), "app", "server", "system", "syslog"))
    end = w.any(
        (".log", ".log", ".log.1", f"-2024{w.rng.randint(1, 12):02}{w.day():02}.log", ".txt")
    )
    return name + end


def _noise(w: Words, path: str) -> tuple[Passage, ...]:
    found = []
    for _ in range(w.rng.randint(1, 6)):
        events = routine(w, w.rng.randint(3, 12))
        if w.rng.random() < 0.4:
            events[1:1] = [("ERROR", _fill(w, w.rng.choice(INCIDENTS)[1]))]
        where = path if w.rng.random() < 0.6 else _path(w)
        found.append(excerpt(w, [x.text for x in timeline(w, events)], where))
    return tuple(found)


def _quoted(w: Words, message: str) -> str:
    return w.any((f"'{message}'", f'"{message}"', message))


def synthetic(w: Words) -> Iterator[Example]:
    """Yield a few questions about one synthetic log with a planted incident."""
    known: dict[str, str] = {}
    cause, error, after = (_fill(w, m, known) for m in w.rng.choice(INCIDENTS))
    events = routine(w, w.rng.randint(2, 9))
    chain = [(w.any(("WARN", "WARNING", "INFO")), cause), ("ERROR", error)]
    if w.rng.random() < 0.5:
        chain += [("ERROR", error)] * w.rng.randint(0, 2) + [(w.any(("ERROR", "FATAL")), after)]
    at = w.rng.randint(0, len(events))
    lines = timeline(w, events[:at] + chain + events[at:])
    path = _path(w)
    gold = excerpt(w, [x.text for x in lines], path)
    other = tuple(p for p in _noise(w, path) if error not in p.text and cause not in p.text)
    # "The first error" is asked of a file, so no other part of it may have one.
    calm = tuple(p for p in other if p.path != path or "error" not in p.text.lower())
    asked = _asked(w, lines, cause, error, path)
    for question, answer in w.rng.sample(asked, min(2, len(asked))):
        near = calm if path in question else other
        yield Example("log", question, (answer, 0), (gold,), near, dev=w.dev)
    if w.rng.random() < 0.5:
        drawn = (_fill(w, w.rng.choice(INCIDENTS)[1]) for _ in range(50))
        missing = next((m for m in drawn if m not in gold.text), "the core was dumped")
        question = w.any(("When did {m} occur?", "When was {m} logged first?", "What caused {m}?",
                          "Which service reported {m}?")).format(m=_quoted(w, missing))  # fmt: skip
        calm = tuple(p for p in other if missing not in p.text)
        yield Example("log-twin", question, (), (gold,), calm, dev=w.dev)


def _asked(w: Words, lines: list[Line], cause: str, error: str, path: str) -> list[tuple[str, str]]:
    """Return (question, answer) pairs that the lines settle."""
    hits = [x for x in lines if x.message == error]
    at = lines.index(hits[0])
    said = _quoted(w, error)
    asked = [
        (w.any(("When did {m} first occur?", "When was {m} logged first?", "What is the time of the first {m}?",
                "At what time does {m} appear for the first time?", "First occurrence of {m}?")).format(m=said), hits[0].time),
        (w.any(("What caused {m}?", "What happened right before {m}?", "Which event led to {m}?",
                "Why did this happen: {m}?", "What is the cause of {m}?")).format(m=said), cause),
        (w.any(("Which service reported {m}?", "Which service logged {m}?", "Who logged {m}?",
                "What component reported {m}?")).format(m=said), hits[0].service),
    ]  # fmt: skip
    n = len(hits)
    asked.append((w.any(("How many times does {m} occur?", "How often was {m} logged?",
                         "Count the lines with {m}.")).format(m=said), str(n)))  # fmt: skip
    if hits[0].host:
        asked.append((w.any(("On which host did {m} occur?", "Which host logged {m}?",
                             "Which machine had the error {m}?")).format(m=said), hits[0].host))  # fmt: skip
    if hits[0].level:
        first = next(x for x in lines if x.level == "ERROR")
        ask = w.any(("What is the first error in {f}?", "Which error came first in {f}?", "First error of {f}?",
                     "What went wrong first in {f}?", "What does the first error line of {f} say?"))  # fmt: skip
        asked += [
            (ask.format(f=path), first.message),
            (w.any(("When was the first error in {f}?", "At what time does {f} show its first error?")).format(f=path), first.time),
            (f"What is the level of {said}?", hits[0].level),
        ]  # fmt: skip
    if n > 1:
        asked.append((f"When did {said} occur last?", hits[-1].time))
    if at + n < len(lines):
        last = max(i for i, x in enumerate(lines) if x.message == error)
        if last + 1 < len(lines):
            asked.append((f"What was logged right after {said}?", lines[last + 1].message))
    calm = w.rng.choice(lines)
    if sum(x.message == calm.message for x in lines) == 1:
        asked.append((f"When was {_quoted(w, calm.message)} logged?", calm.time))
        asked.append((f"What happened at {calm.time} in {path}?", calm.message))
    return asked


STAMP = re.compile(
    r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?"
    r"|\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d(?: [+-]\d{4})?"
    r"|[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d"
    r"|\d\d:\d\d:\d\d(?:[.,]\d+)?"
)


def real(w: Words, logs: list[tuple[str, list[str]]]) -> Iterator[Example]:
    """Yield questions about a window of a real log; `logs` are (file name, lines)."""
    name, lines = w.rng.choice(logs)
    n_lines = min(len(lines), w.rng.randint(4, 16))
    start = w.rng.randint(0, len(lines) - n_lines)
    window = lines[start : start + n_lines]
    at = w.rng.randrange(n_lines)
    stamp = STAMP.search(window[at])
    rest = window[at][stamp.end() :].strip(" ]|:-\t") if stamp else ""
    tokens = rest.split()
    if not stamp or len(tokens) < 4:
        return
    cut = w.rng.randint(0, max(0, len(tokens) - 5))
    phrase = " ".join(tokens[cut : cut + w.rng.randint(4, 9)])
    hits = [i for i, text in enumerate(window) if phrase in " ".join(text.split())]
    gold = Passage("\n".join(window), name, "line", start + 1, start + n_lines)
    other = tuple(
        p
        for p in _windows(w, name, lines, start, n_lines)
        if phrase not in " ".join(p.text.split())
    )
    said = _quoted(w, phrase)
    if len(hits) == 1:
        question = w.any(("When was {m} logged?", "At what time does {m} appear?", "When did {m} happen?",
                          "What is the timestamp of {m}?")).format(m=said)  # fmt: skip
        yield Example("log", question, (stamp[0], 0), (gold,), other, dev=w.dev)
        if at and len(window[at - 1]) < 260:
            question = w.any(
                ("Which line comes right before {m}?", "What was logged just before {m}?")
            )
            yield Example(
                "log", question.format(m=said), (window[at - 1], 0), (gold,), other, dev=w.dev
            )
    elif 1 < len(hits) < 8:
        question = w.any(("How many lines contain {m}?", "How often does {m} occur?"))
        yield Example(
            "log", question.format(m=said), (str(len(hits)), 0), (gold,), other, dev=w.dev
        )
        first = STAMP.search(window[hits[0]])
        if first:
            question = f"When did {said} occur first?"
            yield Example("log", question, (first[0], 0), (gold,), other, dev=w.dev)


def _windows(w: Words, name: str, lines: list[str], start: int, n_lines: int) -> list[Passage]:
    found = []
    for _ in range(5):
        first = w.rng.randint(0, max(0, len(lines) - n_lines))
        if first + n_lines <= start or first >= start + n_lines:
            text = "\n".join(lines[first : first + n_lines])
            found.append(Passage(text, name, "line", first + 1, first + n_lines))
    return found


def read_logs(folder: Path, dev: bool) -> list[tuple[str, list[str]]]:
    """Return (short name, lines ≤ 400 characters) of the real logs of one of the two sets."""
    found = []
    for i, file in enumerate(sorted(p for p in folder.rglob("*") if p.is_file())):
        if "LICENSE" in file.name or (i % 10 == 0) != dev:
            continue
        text = file.read_bytes()[:2_000_000].decode("utf-8", "replace")
        lines = [x.rstrip()[:400] for x in text.splitlines() if x.strip()]
        if len(lines) >= 4:
            found.append((file.name.split("__")[-1], lines))
    return found


def generate(n_examples: int, seed: int, dev: bool, folder: Path | None = None) -> list[Example]:
    """Return `n_examples` log questions, a third of them on the real logs in `folder`."""
    w = Words(random.Random(seed), dev)
    logs = read_logs(folder, dev) if folder else []
    made: list[Example] = []
    makers: list[Callable[[], Iterator[Example]]] = [lambda: synthetic(w), lambda: synthetic(w)]
    if logs:
        makers.append(lambda: real(w, logs))
    while len(made) < n_examples:
        made += w.rng.choice(makers)()
    return made[:n_examples]
