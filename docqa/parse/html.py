"""HTML to blocks, with the line of the source at which each piece of text stands.

The standard library's tokenizer is used because it says the line of every token (selectolax does
not); block structure needs no repaired tree, only the elements that begin and end blocks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser

from docqa.parse.rows import labelled, rows_of
from docqa.parse.text import MAX_BLOCK_CHARS, Line, Source, tidy, verbatim
from docqa.types import Block, BlockKind, Locator

_SKIPPED = frozenset(
    ["script", "style", "noscript", "template", "svg", "iframe", "object", "head", "select"]
)
_ENDS_BLOCK = frozenset(
    [
        "address",
        "article",
        "aside",
        "blockquote",
        "body",
        "br",
        "center",
        "dd",
        "details",
        "dialog",
        "div",
        "dl",
        "dt",
        "fieldset",
        "figcaption",
        "figure",
        "footer",
        "form",
        "header",
        "hr",
        "html",
        "legend",
        "main",
        "nav",
        "ol",
        "p",
        "pre",
        "section",
        "summary",
        "table",
        "tbody",
        "tfoot",
        "thead",
        "ul",
        "li",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "tr",
        "td",
        "th",
        "caption",
        "title",
    ]
)
_HEADING = re.compile(r"h([1-6])$")
_VOID = frozenset(
    [
        "area",
        "base",
        "br",
        "col",
        "embed",
        "hr",
        "img",
        "input",
        "link",
        "meta",
        "source",
        "track",
        "wbr",
    ]
)
_MAX_TABLE_ROWS = 50_000


def looks_like_html(head: str) -> bool:
    """Whether a text begins like an HTML page."""
    return bool(re.match(r"\s*(?:<!--.*?-->\s*)*<(?:!doctype\s+html|html[\s>])", head, re.I | re.S))


def read_html(source: Source) -> Iterator[Block]:
    """Yield the blocks of an HTML page; scripts, styles and menus of options are dropped."""
    reader = _Reader(source)
    expected = 1
    for number, text in source.lines():
        # A line cut in pieces comes with the same number several times.
        reader.feed(("\n" if number == expected and number > 1 else "") + text)
        expected = number + 1
        yield from reader.take()
    reader.close()
    reader.end()
    yield from reader.take()


class _Reader(HTMLParser):
    def __init__(self, source: Source) -> None:
        super().__init__(convert_charrefs=True)
        self._source = source
        self._done: list[Block] = []
        self._pieces: list[Line] = []  # text of the block, with the lines it came from
        self._n_chars = 0
        self._skipping: list[str] = []
        self._tables: list[_Table] = []
        self._heading = 0
        self._n_pre = 0
        self._items: list[str] = []  # open lists: ul, ol
        self._in_title = False
        self._is_item = False

    def take(self) -> list[Block]:
        done, self._done = self._done, []
        return done

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "body":
            self._skipping.clear()  # a head that was never closed
        if tag == "title" and self._skipping in ([], ["head"]):
            self._in_title = True
        if self._skipping:
            if tag in _SKIPPED and tag not in _VOID:
                self._skipping.append(tag)
            return
        if tag in _SKIPPED:
            self._skipping.append(tag)
        elif tag in _ENDS_BLOCK:
            self._begin(tag)

    def _begin(self, tag: str) -> None:
        if self._tables and tag in ("td", "th", "tr"):
            self._tables[-1].begin(tag)
            return
        if self._tables and tag not in ("table",):
            self._tables[-1].add(self.getpos()[0], " ")
            return
        if tag == "br" and not self._n_pre:
            self._pieces.append((self.getpos()[0], " "))
            return
        self.end_block()
        if tag == "table":
            self._tables.append(_Table())
        elif heading := _HEADING.match(tag):
            self._heading = int(heading[1])
        elif tag == "pre":
            self._n_pre += 1
        elif tag == "li":
            self._is_item = True
        elif tag in ("ul", "ol"):
            self._items.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag == "title":
            self._in_title = False
        if self._skipping:
            if tag in self._skipping:
                while self._skipping.pop() != tag:
                    pass
            return
        if tag == "table" and self._tables:
            self._end_table()
        elif self._tables:
            return
        elif tag in _ENDS_BLOCK and tag != "br":
            self.end_block()
            if tag == "pre":
                self._n_pre = max(0, self._n_pre - 1)
            if tag in ("ul", "ol") and self._items:
                self._items.pop()

    def handle_data(self, data: str) -> None:
        line = self.getpos()[0]
        if self._in_title:
            self._source.title = tidy((self._source.title or "") + " " + data) or None
            return
        if self._skipping:
            return
        for i, text in enumerate(data.split("\n")):
            if self._tables:
                self._tables[-1].add(line + i, text + " ")
            else:
                self._pieces.append((line + i, text))
                self._n_chars += len(text)
        if self._n_chars > MAX_BLOCK_CHARS and not self._tables:
            self.end_block(is_cut=True)

    def end(self) -> None:
        """Emit what was never closed."""
        while self._tables:
            self._end_table()
        self.end_block()

    def end_block(self, is_cut: bool = False) -> None:
        """Emit what was gathered."""
        pieces, self._pieces, self._n_chars = self._pieces, [], 0
        level, is_item = self._heading, self._is_item
        if not is_cut:
            self._heading, self._is_item = 0, False
        if self._n_pre:
            lines = _whole_lines(pieces)
            if lines:
                self._done.append(verbatim(lines, BlockKind.CODE))
            return
        text, breaks = _flowed(pieces)
        if not text:
            return
        if is_item:
            text, breaks = "- " + text, [(0 if o == 0 else o + 2, n) for o, n in breaks]
        kind = BlockKind.LIST if is_item else BlockKind.PARAGRAPH
        place = Locator("line", breaks[0][1], breaks[-1][1])
        self._done.append(
            Block(
                text, BlockKind.HEADING if level else kind, place, level, breaks=tuple(breaks[1:])
            )
        )
        if level == 1 and self._source.title is None:
            self._source.title = text

    def _end_table(self) -> None:
        table = self._tables.pop()
        lines = table.lines()
        if self._tables:  # a table for layout holds tables: rows of the inner one are text of it
            for number, text in lines:
                self._tables[-1].add(number, text + " ")
        elif lines:
            self._done.append(verbatim(lines, table.kind))


class _Table:
    """The cells of an open table."""

    def __init__(self) -> None:
        self._rows: list[tuple[int, list[str]]] = []
        self._heads: list[bool] = []
        self.kind = BlockKind.TABLE

    def begin(self, tag: str) -> None:
        if (tag == "tr" or not self._rows) and len(self._rows) < _MAX_TABLE_ROWS:
            self._rows.append((0, []))
            self._heads.append(True)
        if tag != "tr":
            self._rows[-1][1].append("")
            self._heads[-1] = self._heads[-1] and tag == "th"

    def add(self, number: int, text: str) -> None:
        if not self._rows or not self._rows[-1][1]:
            if not text.strip():
                return
            self.begin("td")  # text outside of any cell: a caption
        first, cells = self._rows[-1]
        cells[-1] += text
        if not first and text.strip():
            self._rows[-1] = (number, cells)

    def lines(self) -> list[Line]:
        rows = [
            (number, [tidy(cell) for cell in cells], is_head)
            for (number, cells), is_head in zip(self._rows, self._heads, strict=True)
            if number
        ]
        width = max((len(cells) for _, cells, _ in rows), default=0)
        if width <= 1:
            self.kind = BlockKind.PARAGRAPH
            return [(number, cells[0]) for number, cells, _ in rows]
        captions = [(n, cells[0]) for n, cells, _ in rows[:1] if len(cells) == 1]
        rows = rows[len(captions) :]
        if len(rows) > 1 and rows[0][2]:
            names, body = rows[0][1], rows[1:]
        else:
            names, _ = rows_of([cells for _, cells, _ in rows])
            body = rows[1:] if names else rows
        head = [(rows[0][0], " | ".join(filter(None, names)))] if names else []
        if not head and not captions:
            self.kind = BlockKind.LIST
        texts = [(number, labelled(names, cells)) for number, cells, _ in body]
        return captions + head + [line for line in texts if line[1]]


def _flowed(pieces: list[Line]) -> tuple[str, list[tuple[int, int]]]:
    """Return the words of the pieces with single blanks, and where each line begins."""
    text, breaks = "", []
    parts: list[str] = []
    n_chars, needs_blank, last = 0, False, 0
    for number, raw in pieces:
        words = tidy(raw)
        if not words:
            needs_blank = needs_blank or bool(parts)
            continue
        is_new = number != last
        if parts and (needs_blank or is_new or raw[:1].isspace()):
            parts.append(" ")
            n_chars += 1
        if is_new:
            breaks.append((n_chars, number))
            last = number
        parts.append(words)
        n_chars += len(words)
        needs_blank = raw[-1:].isspace()
    text = "".join(parts)
    return text, breaks


def _whole_lines(pieces: list[Line]) -> list[Line]:
    """Join the pieces of each line; blank lines at both ends are dropped."""
    lines: list[Line] = []
    for number, text in pieces:
        if lines and lines[-1][0] == number:
            lines[-1] = (number, lines[-1][1] + text)
        else:
            lines.append((number, text))
    while lines and not lines[0][1].strip():
        lines.pop(0)
    while lines and not lines[-1][1].strip():
        lines.pop()
    return [(number, text.rstrip()) for number, text in lines]
