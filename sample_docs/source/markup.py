"""A small markup and what it becomes. One block a paragraph of the source, blank lines between.

# ## ###   heading, numbered; `{#key}` at its end names it, `{ref:key}` gives its number
- text     bullet          1. text   step          ! WORD: text   box with a signal word
| a | b    table row, the first one the header; the line `T caption | widths in mm` before it
F caption | drawing | height in points
@room n    fill the page so that n points are left: the next paragraph crosses the page break
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

SOFT_HYPHEN = "\xad"

# Words that may be broken at the end of a line; a printed hyphen appears there.
BREAKABLE = {
    word.replace("|", ""): word.replace("|", SOFT_HYPHEN)
    for word in [
        "mainte|nance",
        "commis|sioning",
        "instal|lation",
        "monitor|ing",
        "tempera|ture",
        "mechan|ical",
        "contin|uous",
        "pres|sure",
        "vibra|tion",
        "opera|tion",
        "opera|tor",
        "manu|fac|turer",
        "protec|tion",
        "electri|cian",
        "con|verter",
        "replace|ment",
        "clear|ance",
        "align|ment",
        "cir|cum|stances",
        "threshold",
        "thermis|tors",
        "discharge",
        "exclu|sively",
        "imme|diately",
        "lubri|cation",
        "foun|da|tion",
        "mea|sure|ment",
        "measure|ments",
        "esti|mated",
        "accel|er|a|tion",
        "obser|va|tion",
        "fre|quency",
        "spec|trum",
        "amp|li|tude",
        "classi|fier",
        "detec|tion",
        "predic|tion",
        "thres|holds",
        "labelled",
        "inde|pen|dent",
        "approx|imately",
        "param|eter",
        "param|eters",
        "cartridge",
        "hazar|dous",
        "anti|corro|sion",
        "decon|tami|na|tion",
        "resis|tance",
        "capac|itors",
        "per|mitted",
        "indi|cator",
        "indi|cators",
        "variabil|ity",
        "compar|ison",
        "evalu|ation",
        "intro|duction",
        "degrad|ation",
    ]
}


@dataclass(frozen=True, slots=True)
class Block:
    """One block of the markup. `number` is `3.2` of a heading, `7` of a table or figure."""

    kind: str  # heading paragraph bullet step box table figure room
    text: str
    level: int = 0
    number: str = ""
    rows: tuple[tuple[str, ...], ...] = ()
    widths_mm: tuple[float, ...] = ()
    extra: tuple[str, ...] = ()


def hyphenated(text: str) -> str:
    """Return `text` with soft hyphens in the words that may be broken."""
    return re.sub(r"[a-z]{7,}", lambda m: BREAKABLE.get(m[0], m[0]), text)


@dataclass(slots=True)
class Reader:
    """Turns the markup into blocks, numbers them and resolves references."""

    counts: list[int] = field(default_factory=lambda: [0, 0, 0])
    n_tables: int = 0
    n_figures: int = 0
    numbers: dict[str, str] = field(default_factory=dict)

    def read(self, source: str) -> list[Block]:
        """Return the blocks of `source`, in order, with every reference resolved."""
        blocks = [b for part in re.split(r"\n\s*\n", source) for b in self._blocks(part.strip())]
        return [self._resolved(block) for block in blocks]

    def _blocks(self, part: str) -> list[Block]:
        found: list[Block] = []
        lines = [line for line in part.splitlines() if line.strip()]
        while lines:
            line = lines.pop(0)
            if line.startswith("#"):
                found.append(self._heading(line))
            elif line.startswith("T "):
                rows = tuple(tuple(c.strip() for c in row[1:].split("|")) for row in lines)
                found.append(self._table(line[2:], rows))
                lines = []
            elif line.startswith("F "):
                self.n_figures += 1
                caption, *extra = (p.strip() for p in line[2:].split("|"))
                found.append(Block("figure", caption, 0, str(self.n_figures), extra=tuple(extra)))
            elif line.startswith("@room "):
                found.append(Block("room", line[6:]))
            else:
                found.append(self._text(line))
        return found

    def _heading(self, line: str) -> Block:
        marks, text = line.split(" ", 1)
        level = len(marks)
        self.counts[level - 1] += 1
        self.counts[level:] = [0] * (3 - level)
        number = ".".join(str(n) for n in self.counts[:level])
        key = re.search(r"\s*\{#(\w+)\}$", text)
        if key:
            self.numbers[key[1]] = number
            text = text[: key.start()]
        return Block("heading", text, level, number)

    def _table(self, head: str, rows: tuple[tuple[str, ...], ...]) -> Block:
        self.n_tables += 1
        caption, widths = (p.strip() for p in head.rsplit("|", 1))
        sizes = tuple(float(w) for w in widths.split(","))
        assert all(len(row) == len(sizes) for row in rows), f"ragged table: {caption}"
        return Block("table", caption, 0, str(self.n_tables), rows, sizes)

    @staticmethod
    def _text(line: str) -> Block:
        step = re.match(r"(\d+)\. (.*)", line)
        if step:
            return Block("step", step[2], 0, step[1])
        if line.startswith("- "):
            return Block("bullet", line[2:])
        if line.startswith("! "):
            return Block("box", line[2:])
        return Block("paragraph", line)

    def _resolved(self, block: Block) -> Block:
        text = re.sub(r"\{ref:(\w+)\}", lambda m: self.numbers[m[1]], block.text)
        return Block(
            block.kind, text, block.level, block.number, block.rows, block.widths_mm, block.extra
        )
