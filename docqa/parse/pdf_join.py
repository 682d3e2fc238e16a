"""Paragraphs of pages to blocks: sentences and tables that go on overleaf."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from docqa.parse.pdf_layout import Paragraph
from docqa.parse.pdf_tables import Table
from docqa.parse.pdf_words import Vocabulary, may_continue
from docqa.types import Block, BlockKind, Locator, PageInfo, ParseItem

_TABLE_CHARS = 4_000  # of one block


class Joiner:
    """Turns paragraphs into blocks.

    The last paragraph of a page is held back until it is known whether the next page goes on with
    it.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._open: _Open | None = None
        self._infos: list[PageInfo] = []
        self._table: tuple[Table, int] | None = None  # the last table and its page

    def add(self, paragraphs: list[Paragraph], info: PageInfo) -> Iterator[ParseItem]:
        """Yield what is known to be whole after this page."""
        page = info.page
        paragraphs = list(paragraphs)
        if self._open is not None:
            goes_on = _first_of_body(paragraphs, self._open.paragraph)
            if goes_on is not None and page == self._open.last + 1:
                after = paragraphs.pop(goes_on)
                self._open.extend(after, page, self._vocabulary)
                if after.is_open and not any(not p.is_aside for p in paragraphs[goes_on:]):
                    yield from self._blocks(paragraphs, page)
                    self._infos.append(info)
                    return
        yield from self.close()
        held = _last_of_body(paragraphs)
        if held is not None:
            rest = paragraphs[:held] + paragraphs[held + 1 :]
            yield from self._blocks(rest, page)
            self._open = _Open(paragraphs[held], page)
            self._infos.append(info)
            return
        yield from self._blocks(paragraphs, page)
        yield info

    def close(self) -> Iterator[ParseItem]:
        """Yield what was held back."""
        if self._open is not None:
            yield self._open.block()
            self._open = None
        yield from self._infos
        self._infos = []

    def _blocks(self, paragraphs: list[Paragraph], page: int) -> Iterator[Block]:
        place = Locator("page", page, page)
        for paragraph in paragraphs:
            if paragraph.table is not None:
                yield from self._table_blocks(paragraph.table, page)
            elif paragraph.text:
                yield Block(paragraph.text, paragraph.kind, place, paragraph.level)

    def _table_blocks(self, table: Table, page: int) -> Iterator[Block]:
        before = self._table[0] if self._table and self._table[1] == page - 1 else None
        head, rows = table.texts(before)
        self._table = (table, page)
        top = [head] if head else []
        kind = BlockKind.TABLE if head else BlockKind.LIST  # without one: labels with values
        place = Locator("page", page, page)
        held, n_chars = list(top), 0
        for row in rows:
            if n_chars and n_chars + len(row) > _TABLE_CHARS:
                yield Block("\n".join(held), kind, place)
                held, n_chars = list(top), 0
            held.append(row)
            n_chars += len(row) + 1
        if n_chars:
            yield Block("\n".join(held), kind, place)


@dataclass(slots=True)
class _Open:
    """A paragraph whose sentence may go on overleaf."""

    paragraph: Paragraph
    first: int
    last: int = 0
    breaks: list[tuple[int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.last = self.first

    def extend(self, after: Paragraph, page: int, vocabulary: Vocabulary) -> None:
        before = self.paragraph.text
        text = vocabulary.join(before, after.text)
        self.breaks.append((len(text) - len(after.text), page))
        self.paragraph = Paragraph(
            text, self.paragraph.kind, self.paragraph.size, is_open=after.is_open
        )
        self.last = page

    def block(self) -> Block:
        place = Locator("page", self.first, self.last)
        return Block(self.paragraph.text, self.paragraph.kind, place, breaks=tuple(self.breaks))


def _last_of_body(paragraphs: list[Paragraph]) -> int | None:
    """Return the index of the paragraph that the page ends in the middle of.

    Footnotes, captions and tables below it are passed over: they are given out before it, so that
    pages never go back.
    """
    for i in range(len(paragraphs) - 1, -1, -1):
        paragraph = paragraphs[i]
        if paragraph.is_aside or paragraph.table is not None:
            continue
        return i if paragraph.is_open else None
    return None


def _first_of_body(paragraphs: list[Paragraph], before: Paragraph) -> int | None:
    """Return the index of the paragraph that goes on with `before`."""
    for i, paragraph in enumerate(paragraphs):
        if paragraph.table is not None or (
            paragraph.is_aside and abs(paragraph.size - before.size) > 0.6
        ):
            continue
        is_same = paragraph.kind is BlockKind.PARAGRAPH and abs(paragraph.size - before.size) < 0.6
        return i if is_same and may_continue(before.text, paragraph.text) else None
    return None
