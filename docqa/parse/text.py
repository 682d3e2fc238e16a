"""Text files of all kinds to blocks whose places are lines.

`parse_text` decodes the file as a stream of lines and hands it to the reader of its format:
Markdown and reStructuredText (markup.py), HTML (html.py), CSV and JSON records (rows.py), or plain
text and code (here). Plain text keeps its lines: newlines in a block count the lines on.
"""

from __future__ import annotations

import io
import itertools
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from docqa.errors import UnreadableFile
from docqa.parse import sniff
from docqa.protocols import ParseOptions
from docqa.types import Block, BlockKind, DocumentInfo, DocumentTitle, Kind, Locator, ParseItem

MAX_LINE_CHARS = 65_536  # a longer line is cut in pieces that carry the same number
MAX_BLOCK_CHARS = 8_192
_CODE = frozenset(
    [
        ".py",
        ".c",
        ".h",
        ".cpp",
        ".rs",
        ".go",
        ".java",
        ".js",
        ".ts",
        ".sh",
        ".sql",
        ".xml",
        ".yaml",
        ".yml",
        ".toml",
        ".ini",
        ".cfg",
        ".conf",
        ".tex",
    ]
)
_DROPPED = {i: None for i in range(32) if chr(i) not in "\t\n\x0b\x0c\x1c\x1d\x1e\x1f"}
_DROPPED |= dict.fromkeys([0x7F, 0xFEFF, 0x200B, 0x00AD])
_SPACED = dict.fromkeys([0x0B, 0x0C, 0x1C, 0x1D, 0x1E, 0x1F, 0x85, 0x2028, 0x2029], " ")
_CLEAN = {**_DROPPED, **_SPACED}

Line = tuple[int, str]  # number (1-based), text without its line end


@dataclass(slots=True)
class Source:
    """An opened text file: its lines, and what readers learn of it."""

    path: Path
    encoding: str
    suffix: str
    n_lines: int = 0
    title: str | None = None
    warnings: list[str] = field(default_factory=list)

    def lines(self) -> Iterator[Line]:
        """Yield (number, text). Line ends are LF, CRLF or CR; control characters are dropped."""
        with sniff.open_bytes(self.path) as raw:
            stream = io.TextIOWrapper(raw, encoding=self.encoding, errors="replace", newline=None)
            number, is_start, n_replaced = 0, True, 0
            while piece := stream.readline(MAX_LINE_CHARS):
                number += is_start
                is_start = piece.endswith("\n")
                self.n_lines = number
                if not piece.isascii() or not piece.isprintable():
                    n_replaced += piece.count("�")
                    piece = piece.translate(_CLEAN)
                yield number, piece.rstrip()
            if n_replaced:
                self.warnings.append(
                    f"{n_replaced} characters could not be decoded as {self.encoding}"
                )


def parse_text(path: Path, options: ParseOptions) -> Iterator[ParseItem]:
    """Yield the blocks of a text file and a DocumentInfo.

    Raises:
        UnreadableFile: the file cannot be read or holds no text.
    """
    from docqa.parse import html, markup, rows, suffix_of

    head = sniff.head_of(path)
    source = Source(path, sniff.encoding_of_file(path, head), suffix_of(path))
    readers = {
        ".md": markup.read_markdown,
        ".markdown": markup.read_markdown,
        ".rst": markup.read_rst,
        ".html": html.read_html,
        ".htm": html.read_html,
        ".xhtml": html.read_html,
        ".csv": rows.read_csv,
        ".tsv": rows.read_csv,
        ".json": rows.read_json,
        ".jsonl": rows.read_jsonl,
        ".ndjson": rows.read_jsonl,
    }
    reader = readers.get(source.suffix)
    if reader is None and html.looks_like_html(sniff.decode_head(head)):
        reader = html.read_html
    blocks = reader(source) if reader else read_plain(source)
    n_blocks = 0
    try:
        for block in blocks:
            if not n_blocks and source.title:
                yield DocumentTitle(source.title)
            n_blocks += 1
            yield block
    except sniff.READ_ERRORS as error:  # a gzip stream that ends early, a disk that fails
        if not n_blocks:
            raise UnreadableFile(path, f"cannot be read: {error}") from error
        source.warnings.append(f"reading stopped at line {source.n_lines}: {error}")
    if not n_blocks:
        raise UnreadableFile(path, "holds no text, only blank space")
    yield DocumentInfo(
        kind=Kind.TEXT,
        title=source.title or path.stem,
        n_lines=source.n_lines,
        encoding=source.encoding,
        warnings=tuple(source.warnings),
    )


def read_plain(source: Source) -> Iterator[Block]:
    """Yield paragraphs of plain text, or of code, as they stand between blank lines."""
    is_code = source.suffix in _CODE
    for lines in paragraphs(source.lines()):
        if is_code:
            yield verbatim(lines, BlockKind.CODE)
            continue
        level, lines_of_title = plain_heading(lines)
        if level:
            text = lines[0][1].strip()
            if source.title is None and level == 1:
                source.title = text
            last = lines[lines_of_title - 1][0]
            yield Block(text, BlockKind.HEADING, Locator("line", lines[0][0], last), level)
            lines = lines[lines_of_title:]
        if lines:
            yield verbatim(lines, BlockKind.LIST if is_list(lines) else BlockKind.PARAGRAPH)


def paragraphs(lines: Iterable[Line]) -> Iterator[list[Line]]:
    """Group lines between blank ones; at most `MAX_BLOCK_CHARS` characters in a group."""
    held: list[Line] = []
    n_chars = 0
    for number, text in lines:
        if held and (not text or n_chars + len(text) > MAX_BLOCK_CHARS):
            yield held
            held, n_chars = [], 0
        if text:
            held.append((number, text))
            n_chars += len(text) + 1
    if held:
        yield held


def verbatim(lines: list[Line], kind: BlockKind) -> Block:
    """Return the lines as one block. Where numbers do not count on by one, breaks say so."""
    text, breaks = joined(lines)
    return Block(text, kind, Locator("line", lines[0][0], lines[-1][0]), breaks=breaks)


def joined(lines: list[Line]) -> tuple[str, tuple[tuple[int, int], ...]]:
    """Join lines by newlines; the breaks are where counting newlines would give a wrong number."""
    breaks: list[tuple[int, int]] = []
    offset, expected = 0, lines[0][0]
    for number, text in lines:
        if number != expected:
            breaks.append((offset, number))
        offset += len(text) + 1
        expected = number + 1
    return "\n".join(text for _, text in lines), tuple(breaks)


_BULLET = re.compile(r"\s*(?:[-*+•‣▪●○–]|\(?(?:\d{1,3}|[a-zA-Z]|[ivxIVX]{1,5})[.)])\s+\S")


def is_list(lines: list[Line]) -> bool:
    """Whether the lines are list items, with or without continuation lines."""
    n_items = sum(bool(_BULLET.match(text)) for _, text in lines)
    return bool(_BULLET.match(lines[0][1])) and (len(lines) == 1 or n_items >= 2)


_UNDERLINE = re.compile(r"([=\-~^*#+])\1{2,}$")
_NUMBERED = re.compile(r"(?:(\d{1,2}(?:\.\d{1,2}){0,4})\.?|[A-Z]\.)\s+[A-Z]")
_NAMED = re.compile(
    r"(?i:(chapter|part|article|section|appendix|annex|exhibit|schedule))\s+[\dIVXLCA-Z]+\b"
)


def plain_heading(lines: list[Line]) -> tuple[int, int]:
    """Return (heading level, lines it takes), (0, 0) where a paragraph does not begin with one."""
    first = lines[0][1].strip()
    if len(first) > 80 or not any(c.isalpha() for c in first):
        return 0, 0
    if len(lines) > 1 and (mark := _UNDERLINE.match(lines[1][1].strip())):
        return (1 if mark[1] in "=#*" else 2), 2
    if len(lines) > 1 or first.endswith((".", ",", ";")):
        return 0, 0
    if _NAMED.match(first):
        return 1, 1
    numbered = _NUMBERED.match(first)
    if numbered and len(first) <= 60:
        return (numbered[1].count(".") + 1 if numbered[1] else 2), 1
    letters = [c for c in first if c.isalpha()]
    if len(letters) > 3 and all(c.isupper() for c in letters) and len(first) <= 70:
        return 2, 1
    return 0, 0


def tidy(text: str) -> str:
    """Return `text` with runs of white space as one blank, compatibility ligatures spelled out."""
    text = " ".join(text.split())
    if text.isascii():
        return text
    return "".join(
        unicodedata.normalize("NFKC", c) if "ﬀ" <= c <= "ﬆ" else c for c in text.translate(_CLEAN)
    )


def batched_rows(rows: Iterable[Line], kind: BlockKind = BlockKind.LIST) -> Iterator[Block]:
    """Yield blocks of up to `MAX_BLOCK_CHARS` characters, one row a line, numbers kept.

    `kind` is that of the first block; rows carry their names, so the others are lists of them.
    """
    held: list[Line] = []
    n_chars = 0
    for number, text in itertools.chain(rows, [(0, "")]):
        if held and (number == 0 or n_chars + len(text) > MAX_BLOCK_CHARS):
            yield verbatim(held, kind)
            held, n_chars, kind = [], 0, BlockKind.LIST
        if text:
            held.append((number, text))
            n_chars += len(text) + 1
