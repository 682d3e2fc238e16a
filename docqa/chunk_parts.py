"""Parts of blocks, and what consecutive parts are as a chunk: text, breaks, place, kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from docqa.types import Block, BlockKind, Chunk, Locator, Span

JOINT = "\n\n"  # between blocks


@dataclass(frozen=True, slots=True)
class Source:
    """A block, where it begins in the extracted text, and the rows that its later parts repeat."""

    block: Block
    base: int
    header: str = ""
    n_header_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Part:
    """`source.block.text[start:end]`: what is not cut any further."""

    source: Source
    start: int
    end: int
    n_tokens: int

    @property
    def n_chars(self) -> int:
        """Its length."""
        return self.end - self.start

    @property
    def ends_block(self) -> bool:
        """Whether nothing of the block comes after it."""
        return self.end == len(self.source.block.text)


@dataclass(frozen=True, slots=True)
class Draft:
    """A chunk without its `embed_text`."""

    text: str
    start: int
    first: int  # page or line
    breaks: tuple[tuple[int, int], ...]
    kind: BlockKind
    headings: tuple[str, ...]
    locator: Locator  # of its first block

    @classmethod
    def of(cls, parts: Sequence[Part], headings: tuple[str, ...]) -> Draft:
        """Return what consecutive parts are together."""
        text, breaks, first = _joined(parts)
        start = parts[0].source.base + parts[0].start
        locator = parts[0].source.block.locator
        return cls(text, start, first, breaks, _main_kind(parts), headings, locator)

    def chunk(self, ordinal: int, embed_text: str, n_tokens: int) -> Chunk:
        """Return the chunk; `chunk_id` and `span.doc_id` are 0."""
        end = len(self.text.rstrip()) - 1  # the page or line of trailing blanks says nothing
        marks = [(0, self.first), *(mark for mark in self.breaks if mark[0] <= end)]
        offset, last = marks[-1]
        if self.locator.unit == "line":
            last += self.text.count("\n", offset, end)
        locator = Locator(self.locator.unit, self.first, last)
        span = Span(0, self.start, self.start + len(self.text), locator)
        return Chunk(
            chunk_id=0,
            span=span,
            ordinal=ordinal,
            text=self.text,
            embed_text=embed_text,
            kind=self.kind,
            headings=self.headings,
            breaks=self.breaks,
            n_tokens=n_tokens,
        )


def _main_kind(parts: Sequence[Part]) -> BlockKind:
    """Return the kind that most characters are of, headings left out."""
    sizes: dict[BlockKind, int] = {}
    for part in parts:
        if part.source.block.kind is not BlockKind.HEADING:
            kind = part.source.block.kind
            sizes[kind] = sizes.get(kind, 0) + part.n_chars
    return max(sizes, key=lambda kind: sizes[kind]) if sizes else BlockKind.HEADING


def _joined(parts: Sequence[Part]) -> tuple[str, tuple[tuple[int, int], ...], int]:
    """Return text, breaks and first page or line of consecutive parts."""
    texts: list[str] = []
    marks: list[tuple[int, int]] = []  # (offset, number), the first at 0
    size = 0
    i = 0
    while i < len(parts):
        source, start, end = parts[i].source, parts[i].start, parts[i].end
        while i + 1 < len(parts) and parts[i + 1].source is source:
            i += 1
            end = parts[i].end
        i += 1
        if texts:
            texts.append(JOINT)
            size += len(JOINT)
        marks.append((size, _number_at(source.block, start)))
        marks += [(size + o - start, n) for o, n in source.block.breaks if start < o < end]
        texts.append(source.block.text[start:end])
        size += end - start
    text = "".join(texts)
    counts_lines = parts[0].source.block.locator.unit == "line"
    breaks: list[tuple[int, int]] = []
    offset, number = marks[0]
    for next_offset, next_number in marks[1:]:
        implied = number + (text.count("\n", offset, next_offset) if counts_lines else 0)
        if next_number != implied:
            breaks.append((next_offset, next_number))
            offset, number = next_offset, next_number
    return text, tuple(breaks), marks[0][1]


def _number_at(block: Block, offset: int) -> int:
    base, number = 0, block.locator.first
    for break_offset, break_number in block.breaks:
        if break_offset > offset:
            break
        base, number = break_offset, break_number
    if block.locator.unit == "line":
        number += block.text.count("\n", base, offset)
    return number
