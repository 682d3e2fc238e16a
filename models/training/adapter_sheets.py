"""Things and what is said of them, drawn at random, and the forms in which it is written down.

A sheet is a few things of one domain with the same attributes. `write_sheet` gives it one of many
forms: prose, key-value lines, tables of several kinds, configuration, JSON.
"""

# ruff: noqa: E501 (tables of wordings are wider than code)
from __future__ import annotations

import json
import random
import string
from collections.abc import Callable
from dataclasses import dataclass

from models.training import adapter_words as words


class Words:
    """Draws from the word lists: the last fifth of each list belongs to development."""

    def __init__(self, rng: random.Random, dev: bool) -> None:
        self.rng, self.dev = rng, dev

    def pick(self, items: list[str] | tuple[str, ...] | str) -> str:
        """Return one item of the part of the list that this set may use."""
        pool = words.phrases(items) if isinstance(items, str) else list(items)
        cut = max(1, len(pool) - max(1, len(pool) // 5))
        return self.rng.choice(pool[cut:] if self.dev else pool[:cut])

    def any(self, items: list[str] | tuple[str, ...] | str) -> str:
        """Return one item of the whole list (closed classes: months, units, wordings)."""
        return self.rng.choice(words.phrases(items) if isinstance(items, str) else list(items))

    def person(self) -> str:
        """Return a name."""
        return f"{self.pick(words.FIRST)} {self.pick(words.LAST)}"

    def company(self) -> str:
        """Return a firm."""
        return f"{self.pick(words.COMPANIES)} {self.any(tuple(words.SUFFIXES))}"

    def code(self) -> str:
        """Return an identifier such as PX-204."""
        letters = "".join(self.rng.choices(string.ascii_uppercase, k=self.rng.randint(1, 3)))
        number = self.rng.randint(10, 9999)
        return self.any((f"{letters}-{number}", f"{letters}{number}", f"{letters}/{number}"))

    def date(self) -> str:
        """Return a date in one of the usual forms."""
        year, month, day = self.rng.randint(1985, 2026), self.rng.randint(1, 12), self.day()
        name = words.MONTHS[month - 1]
        return self.any(
            (
                f"{day} {name} {year}",
                f"{name} {day}, {year}",
                f"{year}-{month:02}-{day:02}",
                f"{day:02}.{month:02}.{year}",
                f"{month:02}/{day:02}/{year}",
                f"{name} {year}",
            )
        )

    def day(self) -> int:
        """Return a day of the month that every month has."""
        return self.rng.randint(1, 28)

    def amount(self) -> str:
        """Return a sum of money."""
        value = self.rng.randint(2, 9999) * self.rng.choice((1, 10, 100, 1000))
        return self.any((f"${value:,}", f"EUR {value:,}", f"£{value:,}", f"{value:,} dollars"))

    def quantity(self, unit: str, low: float, high: float) -> str:
        """Return a number with its unit."""
        value = self.rng.uniform(low, high)
        number = f"{value:.0f}" if high > 60 or self.rng.random() < 0.5 else f"{value:.1f}"
        return f"{number}{'' if unit in '%' else ' '}{unit}"


Value = Callable[[Words], str]


def _unit(unit: str, low: float, high: float) -> Value:
    return lambda w: w.quantity(unit, low, high)


@dataclass(frozen=True, slots=True)
class Domain:
    """A kind of thing and what is said of it."""

    name: str
    thing: Value
    facts: tuple[tuple[str, Value], ...]
    files: tuple[str, ...]


DOMAINS = (
    Domain(
        "machine",
        lambda w: f"{w.pick(words.MACHINES)} {w.code()}",
        (
            ("maximum pressure", _unit("bar", 2, 400)),
            ("operating temperature", _unit("°C", 15, 180)),
            ("rated power", _unit("kW", 0.5, 90)),
            ("supply voltage", _unit("V", 12, 690)),
            ("weight", _unit("kg", 4, 2400)),
            ("flow rate", _unit("l/min", 3, 900)),
            ("noise level", _unit("dB(A)", 40, 105)),
            ("oil capacity", _unit("litres", 0.5, 45)),
            ("tightening torque", _unit("Nm", 4, 220)),
            ("service interval", _unit("hours", 100, 8000)),
            ("protection class", lambda w: f"IP{w.rng.randint(20, 69)}"),
            ("serial number", lambda w: f"SN{w.rng.randint(10000, 9999999)}"),
            ("manufacturer", lambda w: w.company()),
            ("year of construction", lambda w: str(w.rng.randint(1978, 2026))),
        ),
        ("manual.pdf", "datasheet.pdf", "operating-instructions.pdf", "specs.md", "README.txt"),
    ),
    Domain(
        "staff",
        lambda w: w.person(),
        (
            ("department", lambda w: w.pick(words.TOPICS)),
            ("phone extension", lambda w: str(w.rng.randint(1000, 9999))),
            ("start date", lambda w: w.date()),
            ("office", lambda w: f"{w.any('AB|C|D|E')}{w.rng.randint(1, 5)}.{w.rng.randint(10, 60)}"),
            ("manager", lambda w: w.person()),
            ("e-mail address", lambda w: f"{w.pick(words.LAST).lower()}@{w.any('acme|corp|mail')}.example"),
            ("employee number", lambda w: str(w.rng.randint(10000, 99999))),
            ("location", lambda w: w.pick(words.PLACES)),
            ("salary", lambda w: w.amount()),
        ),
        ("staff.csv", "phone-list.pdf", "contacts.md", "hr-records.txt"),
    ),
    Domain(
        "project",
        lambda w: f"Project {w.pick(words.COMPANIES)} {w.rng.choice(['', w.code()])}".strip(),
        (
            ("budget", lambda w: w.amount()),
            ("deadline", lambda w: w.date()),
            ("project lead", lambda w: w.person()),
            ("client", lambda w: w.company()),
            ("status", lambda w: w.any("on hold|in progress|completed|delayed|cancelled|under review")),
            ("kick-off date", lambda w: w.date()),
            ("number of staff", lambda w: str(w.rng.randint(2, 140))),
            ("site", lambda w: w.pick(words.PLACES)),
        ),
        ("projects.md", "portfolio.pdf", "status-report.pdf", "minutes.txt"),
    ),
    Domain(
        "setting",
        lambda w: f"{w.pick(tuple(words.SERVICES))}",
        (
            ("port", lambda w: str(w.rng.randint(1024, 65535))),
            ("timeout", _unit("s", 1, 600)),
            ("max connections", lambda w: str(w.rng.randint(5, 5000))),
            ("memory limit", _unit("MB", 64, 65536)),
            ("log level", lambda w: w.any("debug|info|warn|error|trace")),
            ("database host", lambda w: f"{w.any(tuple(words.HOSTS))}-{w.rng.randint(1, 40)}.internal"),
            ("retry count", lambda w: str(w.rng.randint(1, 12))),
            ("version", lambda w: f"{w.rng.randint(0, 9)}.{w.rng.randint(0, 30)}.{w.rng.randint(0, 9)}"),
            ("owner", lambda w: w.person()),
            ("cache size", _unit("GB", 1, 128)),
        ),
        ("config.yaml", "settings.ini", "deploy.md", "app.toml", "runbook.txt"),
    ),
    Domain(
        "order",
        lambda w: f"order {w.code()}",
        (
            ("total", lambda w: w.amount()),
            ("customer", lambda w: w.company()),
            ("delivery date", lambda w: w.date()),
            ("invoice number", lambda w: f"INV-{w.rng.randint(1000, 999999)}"),
            ("quantity", lambda w: f"{w.rng.randint(2, 900)} {w.any('units|boxes|pallets|pieces')}"),
            ("destination", lambda w: w.pick(words.PLACES)),
            ("payment terms", lambda w: f"{w.any('14|30|45|60|90')} days"),
            ("contact person", lambda w: w.person()),
            ("discount", _unit("%", 1, 40)),
        ),
        ("orders.csv", "invoice.pdf", "shipments.txt", "ledger-2024.md"),
    ),
    Domain(
        "compound",
        lambda w: f"{w.any('sample|batch|compound|specimen')} {w.code()}",
        (
            ("melting point", _unit("°C", 20, 1500)),
            ("density", _unit("g/cm3", 0.5, 20)),
            ("pH", lambda w: f"{w.rng.uniform(1, 13):.1f}"),
            ("concentration", _unit("mg/l", 0.1, 500)),
            ("moisture content", _unit("%", 0.5, 40)),
            ("storage temperature", _unit("°C", -80, 30)),
            ("colour", lambda w: w.any(tuple(words.COLOURS))),
            ("expiry date", lambda w: w.date()),
            ("supplier", lambda w: w.company()),
            ("purity", _unit("%", 70, 99)),
        ),
        ("lab-report.pdf", "results.csv", "certificate.pdf", "analysis.txt"),
    ),
    Domain(
        "town",
        lambda w: w.pick(words.PLACES),
        (
            ("population", lambda w: f"{w.rng.randint(2, 4000) * 1000 + w.rng.randint(0, 999):,}"),
            ("mayor", lambda w: w.person()),
            ("area", _unit("km2", 10, 900)),
            ("average rainfall", _unit("mm", 200, 2200)),
            ("founding year", lambda w: str(w.rng.randint(900, 1950))),
            ("elevation", _unit("m", 1, 2600)),
            ("unemployment rate", _unit("%", 2, 19)),
            ("number of schools", lambda w: str(w.rng.randint(3, 240))),
        ),
        ("survey.pdf", "statistics.csv", "regional-report.pdf", "atlas.md"),
    ),
)  # fmt: skip

SENTENCES = (
    "The {a} of {t} is {v}.",
    "{t} has a {a} of {v}.",
    "For {t}, the {a} is {v}.",
    "The {a} for {t} was set to {v}.",
    "According to the latest record, the {a} of {t} is {v}.",
    "{v} is the {a} of {t}.",
    "As of this revision, {t} is listed with a {a} of {v}.",
    "Note that the {a} of {t} amounts to {v}.",
)

Sheet = dict[str, dict[str, str]]  # thing -> attribute -> value


def draw_sheet(w: Words, domain: Domain, n_things: int, n_facts: int) -> Sheet:
    """Return up to `n_things` things, each with the same `n_facts` attributes, in a drawn order."""
    chosen = w.rng.sample(domain.facts, min(n_facts, len(domain.facts)))
    sheet: Sheet = {}
    for _ in range(3 * n_things):  # the development names may be fewer than `n_things`
        if len(sheet) < n_things:
            sheet[domain.thing(w)] = {name: value(w) for name, value in chosen}
    return sheet


def _rows(sheet: Sheet, domain: Domain) -> list[list[str]]:
    names = list(next(iter(sheet.values())))
    return [[domain.name, *names], *([t, *(facts[n] for n in names)] for t, facts in sheet.items())]


def _snake(name: str) -> str:
    return name.replace(" ", "_").replace("-", "_").lower()


def write_sheet(w: Words, sheet: Sheet, domain: Domain) -> str:
    """Return the sheet as text, in one of twelve forms."""
    rows = _rows(sheet, domain)
    blocks = {
        "colon": lambda t, f: "\n".join([t, *(f"{k.capitalize()}: {v}" for k, v in f.items())]),
        "dots": lambda t, f: "\n".join([t, *(f"{k} {'.' * (28 - len(k))} {v}" for k, v in f.items())]),
        "bullet": lambda t, f: "\n".join([f"{t}:", *(f"- {k}: {v}" for k, v in f.items())]),
        "ini": lambda t, f: "\n".join([f"[{t}]", *(f"{_snake(k)} = {v}" for k, v in f.items())]),
        "yaml": lambda t, f: "\n".join([f"{t}:", *(f"  {_snake(k)}: {v}" for k, v in f.items())]),
        "json": lambda t, f: json.dumps({"name": t, **{_snake(k): v for k, v in f.items()}}, ensure_ascii=False),
        "line": lambda t, f: f"{t} - " + "; ".join(f"{k} {v}" for k, v in f.items()),
        "prose": lambda t, f: " ".join(sentence(w, t, k, v) for k, v in f.items()),
    }  # fmt: skip
    tables = {
        "pipe": lambda: "\n".join(
            ["| " + " | ".join(rows[0]) + " |", "|" + "---|" * len(rows[0])]
            + ["| " + " | ".join(r) + " |" for r in rows[1:]]
        ),
        "bar": lambda: "\n".join(" | ".join(r) for r in rows),
        "csv": lambda: "\n".join(";".join(r) for r in rows),
        "aligned": lambda: _aligned(rows),
    }
    forms = list(blocks) + list(tables) * (2 if len(sheet) > 2 else 1)
    form = w.rng.choice(forms)
    if form in tables:
        return tables[form]()
    gap = " " if form == "prose" else "\n" if form in ("json", "line") else "\n\n"
    return gap.join(blocks[form](t, facts) for t, facts in sheet.items())


def _aligned(rows: list[list[str]]) -> str:
    widths = [max(len(r[i]) for r in rows) + 2 for i in range(len(rows[0]))]
    return "\n".join(
        "".join(c.ljust(n) for c, n in zip(r, widths, strict=True)).rstrip() for r in rows
    )


def sentence(w: Words, thing: str, name: str, value: str) -> str:
    """Return one fact as a sentence."""
    text = w.any(SENTENCES).format(a=name, t=thing, v=value)
    return text[0].upper() + text[1:]
