"""Generated questions about the fields of structured logs: JSON, logfmt, W3C, access logs, dumps.

    Kind of event -> events with values -> lines in one layout -> a question about one field

The question tells the event by one or two other fields of it, in words that are not the keys', and
the layout is drawn anew: how a key is spelled is nothing to learn. Twins ask for what the same
lines do not say.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from docqa.narrow import MAX_CHARS
from models.training import adapter_words as words
from models.training.adapter_events import KINDS, MESSAGES, SETTINGS, Field, Kind, file_path, host
from models.training.adapter_logs import excerpt
from models.training.adapter_records import Example, Passage
from models.training.adapter_sheets import Words

STAMPS = (
    "%Y-%m-%dT%H:%M:%S.%fZ",
    "%Y-%m-%d %H:%M:%S",
    "%b %d %H:%M:%S",
    "%d/%b/%Y:%H:%M:%S +0000",
    "%Y-%m-%d %H:%M:%S,000",
)


@dataclass(frozen=True, slots=True)
class Event:
    """The values of one line by field, its time, and what it says besides."""

    time: datetime
    values: Mapping[Field, str]
    message: str


Layout = Callable[[Event], str]


def fields(w: Words) -> Iterator[Example]:
    """Yield one or two questions about an excerpt of a structured log."""
    kind = w.rng.choice(KINDS)
    logged = w.rng.sample(kind.fields, min(len(kind.fields), w.rng.randint(4, 9)))
    service = w.pick(tuple(words.SERVICES))
    layout, header = _layout(w, kind, logged, service)
    events = [_event(w, kind, logged) for _ in range(w.rng.randint(2, 12))]
    events.sort(key=lambda e: e.time)
    lines = _fitting([layout(e) for e in events], header)
    events = events[: len(lines) - len(header)]
    path = service + w.any((".log", ".json", ".log.1", "-access.log", ".jsonl", ""))
    gold = excerpt(w, lines, path)
    other = tuple(
        excerpt(w, _fitting([layout(_event(w, kind, logged)) for _ in range(6)], header), path)
        for _ in range(w.rng.randint(1, 4))
    )
    for event in w.rng.sample(events, min(len(events), 2)):
        example = _asked(w, kind, service, events, event, gold, other)
        if example is not None:
            yield example
    if w.rng.random() < 0.3:
        missing = [f for f in kind.fields if f not in logged]
        absent = (
            _question(w, kind, service, events, events[0], w.rng.choice(missing)) if missing else ""
        )
        if absent:
            yield Example("field-twin", absent, (), (gold,), other, dev=w.dev, droppable=False)


def _event(w: Words, kind: Kind, logged: Sequence[Field]) -> Event:
    time = datetime(w.rng.randint(2012, 2026), w.rng.randint(1, 12), w.day(), w.rng.randint(0, 23))
    time += timedelta(seconds=w.rng.randint(0, 3599), microseconds=w.rng.randint(0, 999_999))
    return Event(time, {f: f.value(w) for f in logged}, w.any(kind.messages))


def _fitting(lines: Sequence[str], header: Sequence[str]) -> list[str]:
    """Return the header and as many lines as a source holds; one at least."""
    kept = list(header)
    for line in lines:
        if len(kept) > len(header) and sum(map(len, kept)) + len(kept) + len(line) > MAX_CHARS:
            break
        kept.append(line)
    return kept


# -- layouts --------------------------------------------------------------------------------------


def _spelled(key: str, style: str) -> str:
    parts = key.split()
    match style:
        case "camel":
            return parts[0] + "".join(p.title() for p in parts[1:])
        case "pascal":
            return "".join(p.title() for p in parts)
        case "dotted" | "kebab":
            return (".", "-")[style == "kebab"].join(parts)
        case _:
            return "_".join(parts)


def _layout(
    w: Words, kind: Kind, logged: Sequence[Field], service: str
) -> tuple[Layout, list[str]]:
    """Return how a line is written, and the lines before the first."""
    style = w.any(("snake", "snake", "camel", "pascal", "dotted", "kebab"))
    keys = {f: _spelled(w.any((f.keys[0], *f.keys)), style) for f in logged}
    if len(set(keys.values())) < len(keys):
        keys = {f: _spelled(f.asked[0], style) for f in logged}
    stamp, level, at = w.any(STAMPS), w.any(("level", "severity", "lvl")), host(w)
    said = w.any(("msg", "message", "event"))
    when = w.any(("time", "ts", "timestamp", "@timestamp", "t"))

    def time(event: Event) -> str:
        return event.time.strftime(stamp)

    def flat(event: Event) -> dict[str, object]:
        return {keys[f]: _typed(v) for f, v in event.values.items()}

    def as_json(event: Event) -> str:
        return json.dumps({when: time(event), level: "info", said: event.message, **flat(event)})

    def nested(event: Event) -> str:
        body = {when: {"$date": time(event)}, "s": "I", said: event.message, "attr": flat(event)}
        return json.dumps(body, separators=(",", ":"))

    def attributes(event: Event) -> str:
        pairs = [{"key": k, "value": {"stringValue": str(v)}} for k, v in flat(event).items()]
        record = {"timeUnixNano": str(int(event.time.timestamp())), "body": event.message}
        return json.dumps({"service.name": service, "logRecords": [record], "attributes": pairs})

    def logfmt(event: Event) -> str:
        pairs = " ".join(f"{k}={_quoted(str(v))}" for k, v in flat(event).items())
        return f'{when}={time(event)} {level}=info {said}="{event.message}" {pairs}'

    def prose(event: Event) -> str:
        pairs = ", ".join(f"{k}: {v}" for k, v in flat(event).items())
        return f"{time(event)} {at} {service}[{len(at) * 217}]: {event.message}: {pairs}"

    def bars(event: Event) -> str:
        return " | ".join(
            (time(event), event.message, *(f"{k}={v}" for k, v in flat(event).items()))
        )

    def columns(event: Event) -> str:
        shown = (str(v).replace(" ", "+") for v in event.values.values())
        return gap.join((event.time.strftime("%Y-%m-%d %H:%M:%S"), *shown))

    def dump(event: Event) -> str:
        rows = (f"\t{k}{w.any((' = ', ': '))}{v}" for k, v in flat(event).items())
        return "\n".join((f"[{time(event)}] INFO {event.message}:", *rows))

    gap = w.any((" ", "\t"))
    layout: Layout = w.rng.choice(
        (as_json, as_json, nested, attributes, logfmt, logfmt, prose, bars, columns, dump)
    )
    names = ["date", "time", *keys.values()]
    return layout, ["#Fields: " + gap.join(names)] if layout is columns else []


def _typed(value: str) -> object:
    return int(value) if value.isdigit() and len(value) < 15 else value


def _quoted(value: str) -> str:
    return f'"{value}"' if " " in value else value


# -- questions ------------------------------------------------------------------------------------


def _asked(
    w: Words,
    kind: Kind,
    service: str,
    events: Sequence[Event],
    event: Event,
    gold: Passage,
    other: tuple[Passage, ...],
) -> Example | None:
    field = w.rng.choice(tuple(event.values))
    answer = event.values[field]
    shown = answer if answer in gold.text else answer.replace(" ", "+")
    question = _question(w, kind, service, events, event, field)
    if not question or shown not in gold.text:
        return None
    return Example("field", question, (shown, 0), (gold,), other, dev=w.dev, droppable=False)


def _question(
    w: Words, kind: Kind, service: str, events: Sequence[Event], event: Event, field: Field
) -> str:
    """Return a question for `field` of the one event that its anchors tell; empty if none do."""
    usable = [f for f in event.values if f.anchor and f is not field]
    w.rng.shuffle(usable)
    for n in (1, 2, 3):
        chosen = usable[:n]
        same = [e for e in events if all(e.values[f] == event.values[f] for f in chosen)]
        if chosen and len(same) == 1:
            break
    else:
        return ""
    told = " ".join(w.any(f.anchor).format(v=event.values[f]) for f in chosen)
    thing = f"{w.any(kind.things)} {told}"
    noun = w.any(field.asked)
    where = w.any((f" in the {service} log", f" ({service})", f" of {service}", "", "", ""))
    if field.wh and w.rng.random() < 0.5:
        question = w.any(field.wh).format(e=f"the {thing}")
        return question if not where else f"{question.rstrip('?')}{where}?"
    forms = (
        f"What is the {noun} of the {thing}{where}?",
        f"Which {noun} does the {thing} have{where}?",
        f"{noun} of the {thing}{where}",
        f"{service} {thing}: {noun}",
        f"{service}: what {noun} had the {thing}?",
        f"For the {thing}, what was the {noun}{where}?",
        f"{' '.join(event.values[f] for f in chosen)} {noun}",
        f"{service} {' '.join(event.values[f] for f in chosen)} {noun}",
    )
    return w.rng.choice(forms)


# -- messages and settings ------------------------------------------------------------------------


def messages(w: Words) -> Iterator[Example]:
    """Yield a question about a value inside a message, among messages of other kinds."""
    chosen = w.rng.sample(MESSAGES, w.rng.randint(3, 8))
    drawn = [(t, {k: v(w) for k, v in slots.items()}, asks) for t, slots, asks in chosen]
    stamp, service, at = w.any(STAMPS), w.pick(tuple(words.SERVICES)), host(w)
    now = datetime(w.rng.randint(2012, 2026), w.rng.randint(1, 12), w.day(), w.rng.randint(0, 23))
    lines = []
    for text, values, _ in drawn:
        now += timedelta(seconds=w.rng.randint(1, 90))
        lines.append(f"{now.strftime(stamp)} {at} {service}: {text.format(**values)}")
    lines = _fitting(lines, ())
    gold = excerpt(w, lines, service + ".log")
    other = (excerpt(w, [_elsewhere(w, stamp, at, service) for _ in range(5)], service + ".log"),)
    text, values, asks = w.rng.choice(drawn[: len(lines)])
    slot, asked = w.rng.choice(asks)
    question = asked.format(**values)
    if values[slot] in question or gold.text.count(values[slot]) != 1:
        return
    if w.rng.random() < 0.3:
        question = f"{w.any((service, at))}: {question[0].lower()}{question[1:]}"
    yield Example("field", question, (values[slot], 0), (gold,), other, dev=w.dev, droppable=False)
    if w.rng.random() < 0.25:
        rest = [line for line in lines if text.format(**values) not in line]
        calm = excerpt(w, rest, service + ".log")
        if rest:
            yield Example("field-twin", question, (), (calm,), other, dev=w.dev, droppable=False)


def _elsewhere(w: Words, stamp: str, at: str, service: str) -> str:
    text, slots, _ = w.rng.choice(MESSAGES)
    time = datetime(2010, w.rng.randint(1, 12), w.day(), w.rng.randint(0, 23))
    return f"{time.strftime(stamp)} {at} {service}: " + text.format(
        **{k: v(w) for k, v in slots.items()}
    )


def settings(w: Words) -> Iterator[Example]:
    """Yield a question about a setting in a dump of a configuration."""
    service = w.pick(tuple(words.SERVICES))
    keys = w.rng.sample(SETTINGS, w.rng.randint(5, 14))
    values = {key: _setting(w) for key in keys}
    sign, indent = w.any((" = ", "=", ": ", " ")), w.any(("\t", "  ", ""))
    lines = [f"{service} {w.any(('config values:', 'configuration', 'effective settings'))}"]
    lines += [f"{indent}{key}{sign}{value}" for key, value in values.items()]
    gold = excerpt(w, _fitting(lines, ()), service + ".log")
    key = w.rng.choice(keys)
    plain = key.replace(".", " ").replace("_", " ")
    forms = (
        f"What is {key} set to?",
        f"value of {key}",
        f"{service} {key}",
        f"{service} startup config value of {key}",
        f"What is the {plain} of {service}?",
        f"{service}: {plain}",
        f"How is {key} configured in {service}?",
    )
    other = excerpt(w, [f"{indent}{k}{sign}{_setting(w)}" for k in SETTINGS[:9] if k != key], "x")
    if gold.text.count(values[key]) == 1:
        answer = (values[key], 0)
        yield Example("field", w.any(forms), answer, (gold,), (other,), dev=w.dev, droppable=False)


def _setting(w: Words) -> str:
    draws: tuple[Callable[[], str], ...] = (
        lambda: str(w.rng.randint(1, 999_999)),
        lambda: f"{host(w)}:{w.rng.randint(80, 9999)}",
        lambda: file_path(w),
        lambda: w.any(("true", "false", "null", "producer", "snappy", "delete")),
    )
    return w.rng.choice(draws)()


def generate(n_examples: int, seed: int, dev: bool) -> list[Example]:
    """Return `n_examples` questions, half of them about fields of events."""
    w = Words(random.Random(seed), dev)
    makers = (fields, fields, fields, messages, messages, settings)
    made: list[Example] = []
    while len(made) < n_examples:
        made += w.rng.choice(makers)(w)
    return made[:n_examples]
