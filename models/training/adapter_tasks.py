"""Generated tasks: what docqa meets and the real data lacks.

Facts are drawn, written down in one of many forms (prose, key-value lines, tables of several kinds,
configuration, JSON), and asked for in one of many wordings. Distractors are written by the same
hand about another thing, so that only the right name leads to the right value. Everything follows
from one `random.Random`; development examples use names that training does not see.
"""

# ruff: noqa: E501 (tables of wordings are wider than code)
from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace

from models.training import adapter_words as words
from models.training.adapter_records import Example, Passage
from models.training.adapter_sheets import DOMAINS, Domain, Words, draw_sheet, sentence, write_sheet

ASK = (
    "What is the {a} of {t}?",
    "What is the {a} for {t}?",
    "{t}: {a}?",
    "Which {a} does {t} have?",
    "Tell me the {a} of {t}.",
    "What {a} is given for {t}?",
    "What's {t}'s {a}?",
    "Please look up the {a} of {t}.",
    "{a} of {t}",
    "What does the document say is the {a} of {t}?",
    "Can you find the {a} of {t}?",
    "I need the {a} of {t}.",
    "According to the file, what is the {a} of {t}?",
)
ASK_DEV = ("What {a} does {t} have?", "Find {t}'s {a}.", "Give me the {a} listed for {t}.")
ASK_REVERSE = (
    "Which {d} has a {a} of {v}?",
    "What has the {a} {v}?",
    "For which {d} is the {a} {v}?",
    "Whose {a} is {v}?",
)
CHECK = (
    "Is the {a} of {t} {v}?",
    "Does {t} have a {a} of {v}?",
    "Is it true that the {a} of {t} is {v}?",
)


def _place(w: Words, domain: Domain, text: str) -> Passage:
    stem = w.any(("", f"{w.code().lower().replace('/', '-')}-", f"{w.pick(words.PLACES).lower()}-"))
    path = stem + w.any(domain.files)
    headings = ((w.pick(words.TOPICS).capitalize(), "General", "Appendix A", f"{w.rng.randint(1, 9)}.{w.rng.randint(1, 9)} Data")[: w.rng.randint(0, 2)])  # fmt: skip
    first = w.rng.randint(1, 300)
    if path.endswith(".pdf"):
        return Passage(text, path, "page", first, first + (w.rng.random() < 0.2), headings)
    return Passage(text, path, "line", first, first + text.count("\n"), headings)


def _at(w: Words, domain: Domain, text: str, like: Passage) -> Passage:
    """Return `text` at another place of the same file."""
    place = _place(w, domain, text)
    return replace(place, path=like.path, unit=like.unit, headings=like.headings, last=place.first)


def lookups(w: Words) -> Iterator[Example]:
    """Yield questions about one cell of a sheet: forwards, backwards, checked, and without answer."""
    domain = w.rng.choice(DOMAINS)
    sheet = draw_sheet(w, domain, w.rng.choice((1, 2, 3, 4, 5, 6, 8)), w.rng.randint(2, 6))
    gold = _place(w, domain, write_sheet(w, sheet, domain))
    others = []
    for _ in range(w.rng.randint(2, 6)):
        names = [f for f in domain.facts if f[0] in next(iter(sheet.values()))]
        same = replace(domain, facts=tuple(names) if w.rng.random() < 0.7 else domain.facts)
        near = draw_sheet(w, same, w.rng.choice((1, 2, 3, 5)), w.rng.randint(2, 6))
        near = {t: f for t, f in near.items() if t not in sheet}
        if near:
            text = write_sheet(w, near, domain)
            others.append(
                _at(w, domain, text, gold) if w.rng.random() < 0.5 else _place(w, domain, text)
            )
    thing = w.rng.choice(list(sheet))
    name = w.rng.choice(list(sheet[thing]))
    value = sheet[thing][name]
    ask = ASK_DEV if w.dev else ASK
    made = dict(gold=(gold,), other=tuple(others), dev=w.dev)
    question = w.any(ask).format(a=name, t=thing)
    yield Example("table", question[0].upper() + question[1:], (value, 0), **made)  # type: ignore[arg-type]
    if sum(f[name] == value for f in sheet.values()) == 1 and w.rng.random() < 0.4:
        back = w.any(ASK_REVERSE).format(d=domain.name, a=name, v=value)
        yield Example("table", back, (thing, 0), **made)  # type: ignore[arg-type]
    missing = [f for f, _ in domain.facts if f not in sheet[thing]]
    if missing and w.rng.random() < 0.45:
        absent = w.any(ask).format(a=w.rng.choice(missing), t=thing)
        calm = tuple(p for p in others if thing not in p.text)
        yield Example("table-twin", absent, (), (gold,), calm, dev=w.dev)
    if w.rng.random() < 0.2:
        absent = w.any(ask).format(a=name, t=domain.thing(w))
        yield Example("table-twin", absent, (), (gold,), tuple(others), dev=w.dev)


def checks(w: Words) -> Iterator[Example]:
    """Yield a yes/no question; the answer is the sentence that settles it."""
    domain = w.rng.choice(DOMAINS)
    sheet = draw_sheet(w, domain, w.rng.randint(1, 3), w.rng.randint(2, 3))
    thing = w.rng.choice(list(sheet))
    name, value = w.rng.choice(list(sheet[thing].items()))
    said = [(t, k, sentence(w, t, k, v)) for t, f in sheet.items() for k, v in f.items()]
    w.rng.shuffle(said)
    gold = _place(w, domain, " ".join(s for _, _, s in said))
    asked = value if w.rng.random() < 0.6 else dict(domain.facts)[name](w)
    settles = next(s for t, k, s in said if (t, k) == (thing, name))
    question = w.any(CHECK).format(a=name, t=thing, v=asked)
    near = draw_sheet(w, domain, 2, 3)
    near.pop(thing, None)
    other = (_place(w, domain, write_sheet(w, near, domain)),) if near else ()
    yield Example("check", question, (settles, 0), (gold,), other, dev=w.dev)


def pairs(w: Words) -> Iterator[Example]:
    """Yield a question that needs two sources: both values, each with its own marker."""
    domain = w.rng.choice(DOMAINS)
    sheet = draw_sheet(w, domain, 2, w.rng.randint(2, 5))
    if len(sheet) < 2:
        return
    one, two = sheet
    name = w.rng.choice(list(sheet[one]))
    first = _place(w, domain, write_sheet(w, {one: sheet[one]}, domain))
    text = write_sheet(w, {two: sheet[two]}, domain)
    second = _at(w, domain, text, first) if w.rng.random() < 0.5 else _place(w, domain, text)
    near = draw_sheet(w, domain, 3, 4)
    other = tuple(
        _place(w, domain, write_sheet(w, {t: f}, domain)) for t, f in near.items() if t not in sheet
    )
    question = w.any(
        (
            "What is the {a} of {t} and of {u}?",
            "Compare the {a} of {t} with that of {u}.",
            "What are the {a} of {t} and the {a} of {u}?",
            "{a} of {t} and {u}?",
            "Give the {a} for both {t} and {u}.",
        )
    ).format(a=name, t=one, u=two)
    answer = (sheet[one][name], 0, f" and {sheet[two][name]}", 1)
    yield Example("two", question, answer, (first, second), other, dev=w.dev, droppable=False)


def definitions(w: Words) -> Iterator[Example]:
    """Yield what a term means, from a glossary or from prose."""
    form = w.any(("A {t} is a {g} that {c} {o}.", "{T}: a {g} that {c} {o}.", "The {t} is the {g} that {c} {o}.",
                  "{T} - {g} that {c} {o}.", "By {t} we mean a {g} that {c} {o}."))  # fmt: skip
    terms: dict[str, str] = {}
    n_terms = w.rng.randint(2, 7)
    for _ in range(n_terms * 3):
        term = w.pick(words.DEVICES)
        terms[term] = form.format(
            t=term,
            T=term.capitalize(),
            g=w.any(words.GENUS),
            c=w.pick(words.ACTIONS),
            o=w.any(words.OCCASIONS),
        )
    names = list(terms)[: max(2, n_terms)]
    cut = max(1, len(names) - 2)
    gap = "\n" if w.rng.random() < 0.5 else " "
    domain = DOMAINS[0]
    gold = _place(w, domain, gap.join(terms[n] for n in names[:cut]))
    other = tuple(_at(w, domain, terms[n], gold) for n in names[cut:])
    term = w.rng.choice(names[:cut])
    ask = w.any(("What is a {t}?", "What does {t} mean?", "Define {t}.", "What is meant by {t}?",
                 "How is {t} defined?", "What is the purpose of the {t}?", "What does a {t} do?"))  # fmt: skip
    yield Example("manual", ask.format(t=term), (terms[term], 0), (gold,), other, dev=w.dev)
    absent = w.pick(words.DEVICES)
    if absent not in terms and w.rng.random() < 0.5:
        yield Example("manual-twin", ask.format(t=absent), (), (gold,), other, dev=w.dev)


def acronyms(w: Words) -> Iterator[Example]:
    """Yield what an abbreviation stands for."""
    chosen = {w.pick(words.ACRONYMS) for _ in range(4)}
    lines = {p: "".join(part[0] for part in p.split()).upper() for p in chosen}
    form = w.any(("{a}: {p}", "{a} = {p}", "{a} stands for {p}.", "The {p} ({a}) is described below.",
                  "| {a} | {p} |", "{p} ({a})"))  # fmt: skip
    phrase = w.rng.choice(list(lines))
    text = "\n".join(form.format(a=a, p=p) for p, a in lines.items())
    gold = _place(w, DOMAINS[0], text)
    ask = w.any(
        ("What does {a} stand for?", "What is {a}?", "Meaning of {a}?", "{a} is short for what?")
    )
    yield Example("manual", ask.format(a=lines[phrase]), (phrase, 0), (gold,), dev=w.dev)


def procedures(w: Words) -> Iterator[Example]:
    """Yield which step comes first, next or before another in an instruction."""
    n_steps = w.rng.randint(3, 8)
    steps = list(
        dict.fromkeys(w.any(words.STEPS).format(p=w.pick(words.PARTS)) for _ in range(n_steps))
    )
    steps = [s[0].upper() + s[1:] for s in steps]
    if len(steps) < 3:
        return
    task = (
        f"{w.any('replace|inspect|clean|calibrate|restart|service')} the {w.pick(words.MACHINES)}"
    )
    mark = w.any(("{i}. {s}.", "Step {i}: {s}.", "({i}) {s}.", "- {s}."))
    body = [mark.format(i=i + 1, s=s) for i, s in enumerate(steps)]
    gold = _place(w, DOMAINS[0], "\n".join([f"To {task}:", *body]))
    at = w.rng.randrange(len(steps) - 1)
    asked, answer = w.rng.choice(
        [
            (f"What comes after '{steps[at].lower()}'?", steps[at + 1]),
            (f"What do I have to do right after I {steps[at].lower()}?", steps[at + 1]),
            (f"What must be done before '{steps[at + 1].lower()}'?", steps[at]),
            (f"What is the first step to {task}?", steps[0]),
            (f"What is the last step when you {task}?", steps[-1]),
        ]
        + ([(f"What is step {at + 1} to {task}?", steps[at])] if "{i}" in mark else [])
    )
    near = [w.any(words.STEPS).format(p=w.pick(words.PARTS)) for _ in range(4)]
    other = (
        _at(
            w,
            DOMAINS[0],
            "\n".join(f"{i + 1}. {s.capitalize()}." for i, s in enumerate(near)),
            gold,
        ),
    )
    yield Example("manual", asked, (answer, 0), (gold,), other, dev=w.dev)


def follow_ups(w: Words) -> Iterator[Example]:
    """Yield a second turn that refers to the first, such as: And its weight?."""
    domain = w.rng.choice(DOMAINS)
    sheet = draw_sheet(w, domain, w.rng.randint(1, 3), w.rng.randint(3, 5))
    thing = w.rng.choice(list(sheet))
    one, two = w.rng.sample(list(sheet[thing]), 2)
    kept = {t: {k: v for k, v in f.items() if k != two} for t, f in sheet.items()}
    first = _place(w, domain, write_sheet(w, kept, domain))
    second = _at(w, domain, write_sheet(w, sheet, domain), first)
    near = draw_sheet(w, domain, 3, 4)
    other = tuple(
        _place(w, domain, write_sheet(w, {t: f}, domain)) for t, f in near.items() if t not in sheet
    )
    before = Example(
        "table",
        w.any(ASK).format(a=one, t=thing),
        (sheet[thing][one], 0),
        (first,),
        other[:1],
        dev=w.dev,
    )
    asked = w.any(
        (f"And the {two}?", f"What about the {two}?", f"And its {two}?", f"What is its {two}?", f"{two}?",
         f"Now the {two}, please.", f"And what is the {two} of {thing}?")
    )  # fmt: skip
    yield Example(
        "follow", asked, (sheet[thing][two], 0), (second,), other, dev=w.dev, before=before
    )


GENERATORS: tuple[tuple[Callable[[Words], Iterator[Example]], float], ...] = (
    (lookups, 0.46),
    (checks, 0.08),
    (pairs, 0.12),
    (definitions, 0.1),
    (acronyms, 0.04),
    (procedures, 0.1),
    (follow_ups, 0.1),
)


def generate(n_examples: int, seed: int, dev: bool) -> list[Example]:
    """Return `n_examples` generated examples of all kinds but logs."""
    w = Words(random.Random(seed), dev)
    makers, weights = zip(*GENERATORS, strict=True)
    made: list[Example] = []
    while len(made) < n_examples:
        made += w.rng.choices(makers, weights)[0](w)
    return made[:n_examples]


def inject(example: Example, w: Words) -> Example:
    """Return `example` with an instruction hidden in one of its sources; the answer stays."""
    order = w.any(words.INJECTIONS_DEV if w.dev else words.INJECTIONS)
    payload = w.any(words.PAYLOADS_DEV if w.dev else words.PAYLOADS)
    line = order.format(x=w.any((payload, f'"{payload}"')))
    in_gold = bool(example.gold) and (not example.other or w.rng.random() < 0.6)
    chosen = list(example.gold if in_gold else example.other[:1])
    host = chosen[0]
    gap = w.any((" ", "\n", "\n\n"))
    parts = host.text.split(". ")
    at = w.rng.randint(0, len(parts))
    text = w.any((
        host.text + gap + line, line + gap + host.text,
        ". ".join(parts[:at]) + ". " + line + gap + ". ".join(parts[at:]) if 0 < at < len(parts) else host.text + gap + line,
    ))  # fmt: skip
    chosen[0] = replace(host, text=text)
    swap = (
        {"gold": (*chosen, *example.gold[1:])}
        if in_gold
        else {"other": (*chosen, *example.other[1:])}
    )
    return replace(example, kind="inject", forbidden=payload, **swap)  # type: ignore[arg-type]
