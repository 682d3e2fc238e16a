"""Markdown and reStructuredText to blocks: headings, code, tables, lists, paragraphs.

Lines are kept as they stand, so that a quote is found in the file; only the marks of headings are
taken off, and table rows carry their column names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

from docqa.parse.rows import labelled
from docqa.parse.text import Line, Source, is_list, verbatim
from docqa.types import Block, BlockKind, Locator

_MAX_LINES = 400  # of one block; a fence that is never closed must not hold the whole file
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_ATX = re.compile(r" {0,3}(#{1,6})(?:\s+(.*?))?(?:\s+#+)?\s*$")
_SETEXT = re.compile(r" {0,3}(=+|-+)\s*$")
_RULE = re.compile(r"\s*\|?\s*:?-{1,}:?\s*(\|\s*:?-{1,}:?\s*)*\|?\s*$")
_ADORNMENT = re.compile(r"([!-/:-@\[-`{-~])\1{1,}\s*$")


def read_markdown(source: Source) -> Iterator[Block]:
    """Yield the blocks of a Markdown file."""
    held: list[Line] = []
    fence = ""
    for number, text in _without_front_matter(source):
        if fence:
            held.append((number, text))
            is_end = text.strip().startswith(fence) and not text.strip().strip(fence[0])
            if is_end or len(held) >= _MAX_LINES:
                yield verbatim(held, BlockKind.CODE)
                held, fence = [], "" if is_end else fence
            continue
        opening, atx = _FENCE.match(text), _ATX.match(text)
        is_setext = bool(_SETEXT.match(text)) and len(held) == 1 and not is_list(held)
        if opening or atx or not text or is_setext or len(held) >= _MAX_LINES:
            if is_setext and "|" not in held[0][1]:
                yield _titled(source, held[0][1], held[0][0], number, 1 if "=" in text else 2)
                held = []
                continue
            yield from _markdown_block(held)
            held = []
        if opening:
            fence = opening[1]
        if atx:
            if atx[2]:
                yield _titled(source, atx[2], number, number, len(atx[1]))
        elif text:
            held.append((number, text))
    if held:
        yield from [verbatim(held, BlockKind.CODE)] if fence else _markdown_block(held)


def _without_front_matter(source: Source) -> Iterator[Line]:
    """Yield the lines after a YAML header, of which the title is kept."""
    lines = source.lines()
    header: list[Line] = []
    for number, text in lines:
        if (number == 1 and text != "---") or number > 100:
            yield from header
            yield number, text
            break
        header.append((number, text))
        if number > 1 and text in ("---", "..."):
            titles = [t for _, t in header if t.startswith("title:")]
            if titles:
                source.title = titles[0].removeprefix("title:").strip().strip("\"'") or None
            yield from ((n, t) for n, t in header if t not in ("---", "..."))
            yield number, ""
            break
    else:
        yield from header
    yield from lines


def _markdown_block(held: list[Line]) -> Iterator[Block]:
    if not held:
        return
    rule = next((i for i, (_, t) in enumerate(held) if i and "|" in t and _RULE.match(t)), 0)
    if rule and "|" in held[rule - 1][1]:
        yield from _markdown_block(held[: rule - 1])
        names = _cells(held[rule - 1][1])
        rows = [(n, labelled(names, _cells(t))) for n, t in held[rule + 1 :] if "|" in t]
        rest = [line for line in held[rule + 1 :] if "|" not in line[1]]
        head = (held[rule - 1][0], " | ".join(filter(None, names)))
        yield verbatim([head, *(row for row in rows if row[1])], BlockKind.TABLE)
        yield from _markdown_block(rest)
        return
    yield verbatim(held, BlockKind.LIST if is_list(held) else BlockKind.PARAGRAPH)


def _cells(row: str) -> list[str]:
    inner = row.strip().removeprefix("|").removesuffix("|")
    return [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", inner)]


def _titled(source: Source, text: str, first: int, last: int, level: int) -> Block:
    text = text.strip()
    if source.title is None and level == 1:
        source.title = text
    return Block(text, BlockKind.HEADING, Locator("line", first, last), level)


def read_rst(source: Source) -> Iterator[Block]:
    """Yield the blocks of a reStructuredText file; levels are by order of the adornments."""
    styles: list[str] = []
    held: list[Line] = []
    is_literal = False
    for number, text in source.lines():
        if text and not is_literal:
            held.append((number, text))
            if len(held) < _MAX_LINES:
                continue
        if is_literal and (not text or text[0].isspace()):
            if text:
                held.append((number, text))
            if len(held) < _MAX_LINES:
                continue
            yield verbatim(held, BlockKind.CODE)
            held = []
            continue
        if is_literal:
            if held:
                yield verbatim(held, BlockKind.CODE)
            held, is_literal = [(number, text)], False
            continue
        if held:
            is_literal = held[-1][1].endswith("::") or held[-1][1].startswith(".. code")
            yield from _rst_block(source, held, styles)
        held = []
    if held and is_literal:
        yield verbatim(held, BlockKind.CODE)
    elif held:
        yield from _rst_block(source, held, styles)


def _rst_block(source: Source, held: list[Line], styles: list[str]) -> Iterator[Block]:
    if not held:
        return
    over = bool(_ADORNMENT.match(held[0][1])) and len(held) >= 3
    title = 1 if over else 0
    if len(held) >= title + 2 and (mark := _ADORNMENT.match(held[title + 1][1])):
        adornment, text = held[title + 1][1].strip(), held[title][1].strip()
        is_table = " " in adornment or (over and " " in held[0][1].strip())
        if not is_table and len(adornment) >= min(len(text), 4) and not _ADORNMENT.match(text):
            style = mark[1] + ("^" if over else "_")
            if style not in styles:
                styles.append(style)
            level = min(6, styles.index(style) + 1)
            yield _titled(source, text, held[0][0], held[title + 1][0], level)
            yield from _rst_block(source, held[title + 2 :], styles)
            return
    ruled = sum(set(t.strip()) <= set("=-+| ") for _, t in held)
    kind = BlockKind.LIST if is_list(held) else BlockKind.PARAGRAPH
    if ruled >= 2 and any(a[0] + 1 == b[0] for a, b in pairwise(held)):
        kind = BlockKind.TABLE
    yield verbatim(held, kind)
