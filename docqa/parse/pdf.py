"""PDF files to blocks, page by page (PyMuPDF; imported in the parse worker only).

Pages are read a few ahead of those that are given out, so that running headers, the size of the
body text and a sentence that goes on overleaf are known in time; nothing is read twice. A page
that cannot be read is reported and the others are kept.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pymupdf

from docqa.errors import PasswordNeeded, UnreadableFile
from docqa.parse.pdf_furniture import Furniture
from docqa.parse.pdf_join import Joiner
from docqa.parse.pdf_layout import Styles, layout, normal_title
from docqa.parse.pdf_ocr import Ocr
from docqa.parse.pdf_page import PageText, read_page
from docqa.parse.pdf_words import Vocabulary
from docqa.protocols import ParseOptions
from docqa.types import (
    DocumentInfo,
    DocumentTitle,
    Kind,
    PageInfo,
    PageState,
    ParseItem,
)

AGAIN = "open it in a viewer and save it anew, or get it again"
MAX_DOCUMENT_CHARS = 200_000_000
TITLE_RATIO = 1.15  # of a title's letters to those of the body
_AHEAD = 6  # pages
_MIN_CHARS = 20  # less text than this on a page with a picture: a scan with a stamp
_MAX_WARNINGS = 5


@dataclass(slots=True)
class _Read:
    """A page that was read, or why it was not."""

    number: int
    text: PageText | None
    error: str | None = None


def parse_pdf(path: Path, options: ParseOptions) -> Iterator[ParseItem]:
    """Yield the blocks of a PDF, a PageInfo after those of each page, a DocumentInfo last.

    A block whose sentence crosses a page break stands before the PageInfo of its first page.

    Raises:
        UnreadableFile: not a PDF, broken beyond repair, without pages.
        PasswordNeeded: encrypted, and `options.password` does not open it.
    """
    pymupdf.TOOLS.mupdf_display_errors(False)
    pymupdf.TOOLS.mupdf_display_warnings(False)
    pymupdf.TOOLS.reset_mupdf_warnings()
    document = _open(path, options)
    try:
        yield from _Reader(path, document, options).items()
    finally:
        document.close()


def _open(path: Path, options: ParseOptions) -> pymupdf.Document:
    try:
        document = pymupdf.open(path, filetype="pdf")
    except pymupdf.EmptyFileError:
        raise UnreadableFile(path, "is empty; nothing to index") from None
    except Exception as error:  # MuPDF raises many types, and RuntimeError for most
        _reraise_memory(error)
        raise UnreadableFile(
            path, f"cannot be opened: it is damaged or not a PDF; {AGAIN}"
        ) from error
    if document.needs_pass and not document.authenticate(options.password or ""):
        document.close()
        wrong = "the password is wrong" if options.password else "it is encrypted"
        raise PasswordNeeded(path, f"cannot be opened: {wrong}; give the right one with --password")
    try:
        n_pages = document.page_count
    except Exception as error:
        _reraise_memory(error)
        document.close()
        raise UnreadableFile(path, f"has a broken page tree ({_words(error)}); {AGAIN}") from error
    if n_pages < 1:
        document.close()
        raise UnreadableFile(path, f"has no pages; {AGAIN}")
    return document


def _reraise_memory(error: Exception) -> None:
    if isinstance(error, MemoryError) or "malloc" in str(error):
        raise MemoryError(str(error)) from error


def _words(error: Exception) -> str:
    text = re.sub(r"^code=\d+:\s*", "", " ".join(str(error).split()))
    return (text or type(error).__name__)[:200]


class _Reader:
    """The state of one pass over one document."""

    def __init__(self, path: Path, document: pymupdf.Document, options: ParseOptions) -> None:
        self._path = path
        self._document = document
        self._n_pages = min(document.page_count, options.max_pages)
        self._warnings: list[str] = []
        self._styles = Styles()
        self._furniture = Furniture()
        self._vocabulary = Vocabulary()
        self._ocr = Ocr(options)
        self._outline = _outline(document)
        self._label_rules = _label_rules(document)
        self._title = ""
        self._is_title_large = False
        self._n_chars = 0
        self._stamps: dict[str, int] = {}
        self._joiner = Joiner(self._vocabulary)
        if document.page_count > options.max_pages:
            self._warnings.append(
                f"only the first {options.max_pages} of {document.page_count} pages were read"
            )

    def items(self) -> Iterator[ParseItem]:
        ahead: deque[_Read] = deque()
        n_read = n_failed = 0
        error = ""
        is_titled = False
        for number in range(1, self._n_pages + 1):
            while n_read < min(self._n_pages, number + _AHEAD):
                n_read += 1
                ahead.append(self._read(n_read))
            if self._n_chars > MAX_DOCUMENT_CHARS:
                self._warnings.append(f"reading stopped at page {number}: too much text")
                break
            read = ahead.popleft()
            if read.text is None:
                n_failed += 1
                error = read.error or ""
            page = list(self._page(read))
            if not is_titled:  # the first page is read: its largest line may be the title
                is_titled = True
                yield from self._title_ahead()
            yield from page
        yield from self._joiner.close()
        if n_failed == self._n_pages:
            raise UnreadableFile(self._path, f"none of its pages can be read: {error}")
        self._collect_warnings()
        yield DocumentInfo(
            kind=Kind.PDF,
            title=self._title_of_document(),
            n_pages=self._document.page_count,
            warnings=tuple(self._warnings),
        )

    def _read(self, number: int) -> _Read:
        try:
            text = read_page(self._document[number - 1], number)
        except Exception as error:
            _reraise_memory(error)
            return _Read(number, None, _words(error))
        self._styles.note(text)
        self._furniture.note(text)
        return _Read(number, text)

    def _page(self, read: _Read) -> Iterator[ParseItem]:
        label = _label(read.number, self._label_rules)
        if read.text is None:
            info = PageInfo(read.number, PageState.FAILED, 0, label, read.error)
            yield from self._joiner.add([], info)
            return
        page, state, reason = self._with_ocr(read.text)
        lines = self._furniture.remove(page, label)
        if page.is_cut:
            self._warnings.append(f"page {page.number} holds too much text; its end was left out")
        if read.number == 1:
            self._title, size = _largest(lines)
            self._is_title_large = size >= TITLE_RATIO * self._styles.body
        self._drop_stamps(page)
        paragraphs = layout(
            page, lines, self._styles, self._outline.get(read.number, {}), self._vocabulary
        )
        n_chars = sum(len(p.text) for p in paragraphs) + sum(
            len(cell) for p in paragraphs if p.table for row in p.table.rows for cell in row
        )
        self._n_chars += n_chars
        yield from self._joiner.add(
            paragraphs, PageInfo(read.number, state, n_chars, label, reason)
        )

    def _with_ocr(self, page: PageText) -> tuple[PageText, PageState, str | None]:
        """Return the page, from OCR where it shows text that it does not hold."""
        is_garbled = page.n_chars > 0 and page.n_unknown > 0.3 * page.n_chars
        if page.n_chars >= _MIN_CHARS and not is_garbled:
            return page, PageState.TEXT, None
        sheet = self._document[page.number - 1]
        try:
            pictures = _picture_share(sheet)
        except Exception as error:
            _reraise_memory(error)
            pictures = 0.0
        if page.n_chars and not is_garbled and pictures < 0.3:
            return page, PageState.TEXT, None
        if not page.n_chars and not pictures and not page.n_vectors:
            return page, PageState.EMPTY, None
        shown = (
            "its fonts do not say what their characters are" if is_garbled else "it is a picture"
        )
        if not page.n_chars and not pictures:
            shown = "it holds drawings and no text"
        recognised, reason = self._ocr.read(sheet, page.number)
        if recognised is None:
            return page, PageState.UNREAD, f"{shown}; {reason}"
        if not recognised.lines:
            return page, PageState.EMPTY, "OCR found no text"
        self._styles.note(recognised)
        return recognised, PageState.OCR, None

    def _drop_stamps(self, page: PageText) -> None:
        """Keep sideways text (axis labels, margin notes) the first time it is seen."""
        for line in list(page.sideways):
            key = line.text.lower()
            self._stamps[key] = self._stamps.get(key, 0) + 1
            if self._stamps[key] > 1 and len(self._stamps) < 10_000:
                page.sideways.remove(line)

    def _title_of_document(self) -> str:
        return self._stated_title() or self._title or self._path.stem

    def _stated_title(self) -> str:
        return _sensible((self._document.metadata or {}).get("title") or "", self._path)

    def _title_ahead(self) -> Iterator[DocumentTitle]:
        """Yield the title for every chunk: the first line of plain text would mislead there."""
        title = self._stated_title() or (self._title if self._is_title_large else "")
        if title:
            yield DocumentTitle(title)

    def _collect_warnings(self) -> None:
        """Keep what MuPDF had to repair: the user should know that text may be missing."""
        if self._document.is_repaired:
            self._warnings.append("the file is damaged and was repaired; text may be missing")
        said = pymupdf.TOOLS.mupdf_warnings(reset=True)
        lines = dict.fromkeys(line.strip() for line in said.splitlines() if _matters(line))
        self._warnings += [line[:200] for line in list(lines)[:_MAX_WARNINGS]]


def _outline(document: pymupdf.Document) -> dict[int, dict[str, int]]:
    """Return page -> normalised title -> level of the bookmarks; broken ones are left out."""
    try:
        entries = document.get_toc(simple=True)
    except Exception as error:
        _reraise_memory(error)
        return {}
    outline: dict[int, dict[str, int]] = {}
    for level, title, page, *_ in entries[:50_000]:
        key = normal_title(title)
        if key:
            outline.setdefault(page, {}).setdefault(key, min(6, level))
    return outline


_LabelRule = tuple[int, str, str, int]  # first page (1-based), prefix, style, first number


def _label_rules(document: pymupdf.Document) -> list[_LabelRule]:
    try:
        rules = document.get_page_labels()
        return sorted(
            (r["startpage"] + 1, r.get("prefix", ""), r.get("style", ""), r.get("firstpagenum", 1))
            for r in rules
        )
    except Exception as error:
        _reraise_memory(error)
        return []


def _label(number: int, rules: list[_LabelRule]) -> str | None:
    """Return the printed number of a page (PDF 32000-1, 12.4.2); None where none is stated."""
    rule = next((rule for rule in reversed(rules) if rule[0] <= number), None)
    if rule is None:
        return None
    first, prefix, style, start = rule
    n = number - first + max(1, start)
    shown = ""
    if style == "D":
        shown = str(n)
    elif style in ("r", "R"):
        shown = _roman(n) if style == "R" else _roman(n).lower()
    elif style in ("a", "A"):  # a … z, aa, bb, …
        shown = chr(ord(style) + (n - 1) % 26) * min((n - 1) // 26 + 1, 9)
    return prefix + shown or None


def _roman(number: int) -> str:
    values = (1000, 900, 500, 400, 100, 90, 50, 40, 10, 9, 5, 4, 1)
    letters = ("M", "CM", "D", "CD", "C", "XC", "L", "XL", "X", "IX", "V", "IV", "I")
    shown = ""
    for value, letter in zip(values, letters, strict=True):
        shown += letter * min(number // value, 20)
        number %= value
    return shown


def _picture_share(page: pymupdf.Page) -> float:
    """Return how much of the page its largest picture covers, 0..1."""
    area = abs(page.rect.width * page.rect.height) or 1.0
    shares = []
    for image in page.get_image_info():
        box = pymupdf.Rect(image["bbox"]) & page.rect
        if not box.is_empty:
            shares.append(box.width * box.height / area)
    return min(1.0, max(shares, default=0.0))


def _largest(lines: list) -> tuple[str, float]:  # type: ignore[type-arg]
    """Return the text in the largest letters, of several lines at most three, and their size."""
    worded = [line for line in lines if sum(map(str.isalpha, line.text)) >= 3]
    if not worded:
        return "", 0.0
    size = max(line.size for line in worded)
    n_large = sum(abs(line.size - size) < 0.6 for line in worded)
    if n_large > max(4, 0.4 * len(worded)):  # all text is of one size
        worded = [line for line in worded if line.text[0] not in "[("][:1]
    title: list[str] = []
    for line in worded:
        if abs(line.size - size) < 0.6:
            title.append(line.text)
        elif title:
            break
    text = " ".join(" ".join(title[:3]).split())
    return text if 3 <= len(text) <= 200 else text[:200].rsplit(" ", 1)[0], size


def _sensible(title: str, path: Path) -> str:
    """Return a title from the metadata, empty where a program put something else there."""
    title = " ".join("".join(c for c in title if c.isprintable()).split())
    title = re.sub(r"^Microsoft (?:Word|PowerPoint|Excel)\s*-\s*", "", title)
    is_file_name = re.search(
        r"\.(?:docx?|pdf|indd|pptx?|xlsx?|tex|dvi|qxd|rtf|odt|wpd|txt)$", title, re.I
    )
    is_empty = re.match(
        r"(?:untitled|document|title|slide|powerpoint presentation|no title|none)\d*\b", title, re.I
    )
    if is_file_name or len(title) < 3 or (is_empty and len(title) < 30) or "�" in title:
        return ""
    return title[:300]


def _matters(warning: str) -> bool:
    return bool(
        re.search(r"cannot|error|missing|broken|corrupt|ignor|repair|invalid", warning, re.I)
    )
