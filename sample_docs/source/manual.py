"""Draws `pump_manual.pdf`: front matter, contents, outline, page labels, headers, tables."""

from __future__ import annotations

from pathlib import Path

from reportlab.lib import colors
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import (
    BaseDocTemplate,
    CondPageBreak,
    Flowable,
    Frame,
    KeepTogether,
    NextPageTemplate,
    PageBreak,
    PageTemplate,
    Paragraph,
    Spacer,
    Table,
    TableStyle,
)
from reportlab.platypus.tableofcontents import TableOfContents

from source import manual_planning, manual_running
from source.markup import Block, Reader, hyphenated

TITLE = "TWX 40 and TWX 65 Centrifugal Pumps: Operating Manual"
N_FRONT_PAGES = 4  # title, revisions, two pages of contents: i to iv
WIDTH, HEIGHT = A4

BODY = ParagraphStyle(
    "body",
    fontName="Helvetica",
    fontSize=9.6,
    leading=13.2,
    spaceAfter=6,
    alignment=4,
    embeddedHyphenation=1,
    allowWidows=1,
    allowOrphans=1,
)
CELL = ParagraphStyle("cell", parent=BODY, fontSize=8.6, leading=11, spaceAfter=0, alignment=0)
CELL_HEAD = ParagraphStyle("cellhead", parent=CELL, fontName="Helvetica-Bold")
LIST = ParagraphStyle("list", parent=BODY, leftIndent=16, bulletIndent=3, spaceAfter=3)
CAPTION = ParagraphStyle(
    "caption",
    parent=BODY,
    fontName="Helvetica-Oblique",
    fontSize=8.6,
    spaceBefore=4,
    keepWithNext=1,
)
HEADINGS = [
    ParagraphStyle(
        f"h{level}",
        fontName="Helvetica-Bold",
        fontSize=size,
        leading=size * 1.25,
        spaceBefore=before,
        spaceAfter=6,
        keepWithNext=1,
    )
    for level, size, before in ((1, 18, 0), (2, 12.5, 10), (3, 10.5, 7))
]
BOX_COLOURS = {"DANGER": "#f6c9c4", "WARNING": "#fbe0b8", "CAUTION": "#fdf3b5", "NOTICE": "#d5e5f5"}


class Heading(Paragraph):
    """A heading that enters itself in the contents and the outline when it is drawn."""

    def __init__(self, block: Block) -> None:
        self.block = block
        super().__init__(f"{block.number} {block.text}", HEADINGS[block.level - 1])


class Room(Flowable):
    """Takes all of the page but `left` points: the next paragraph is split at a known line."""

    def __init__(self, left: float) -> None:
        super().__init__()
        self.left = left

    def wrap(self, available_width: float, available_height: float) -> tuple[float, float]:
        """Return the size; nothing where less than `left` is free."""
        self.width, self.height = available_width, max(0.0, available_height - self.left)
        return self.width, self.height

    def draw(self) -> None:
        """Draw a timing diagram of the changeover, as tall as the space that is to be filled."""
        canvas, height = self.canv, min(self.height - 8, 190.0)
        if height < 60:
            return
        base = self.height - height
        canvas.setFont("Helvetica", 8)
        for i, name in enumerate(("Pump A", "Bypass A", "Pump B")):
            y = base + height * (0.78 - 0.3 * i)
            canvas.drawString(4, y, name)
            canvas.line(60, y - 4, 400, y - 4)
            start, stop = ((60, 250), (210, 250), (190, 400))[i]
            canvas.rect(start, y - 4, stop - start, 14)
        canvas.drawString(60, base + 2, "Changeover of two pumps, time from left to right")


class Drawing(Flowable):
    """A line drawing with numbered parts."""

    def __init__(self, name: str, height: float) -> None:
        super().__init__()
        self.name, self.height, self.width = name, height, 160 * mm

    def draw(self) -> None:
        """Draw a section through the pump, or the four measuring points of a ring."""
        canvas, h = self.canv, self.height
        canvas.setFont("Helvetica", 8)
        if self.name == "ring":
            canvas.circle(200, h / 2, h * 0.42)
            canvas.circle(200, h / 2, h * 0.33)
            for i, (x, y) in enumerate(((0, 0.45), (0.45, 0), (0, -0.45), (-0.45, 0))):
                canvas.drawCentredString(200 + x * h * 1.1, h / 2 + y * h - 3, f"m{i + 1}")
            return
        canvas.circle(110, h / 2, h * 0.4)
        canvas.circle(110, h / 2, h * 0.2)
        canvas.rect(110, h / 2 - 8, 250, 16)
        canvas.rect(180, h / 2 - 30, 120, 60)
        canvas.rect(312, h / 2 - 20, 34, 40)
        for i, x in enumerate((62, 110, 165, 240, 372, 328)):
            canvas.drawString(x, h / 2 + (34 if i != 4 else 0), str(i + 1))


class ManualTemplate(BaseDocTemplate):
    """Collects headings for contents, outline and running header while it lays out."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            str(path),
            pagesize=A4,
            title=TITLE,
            author="Tarnwick Pumps (fictitious)",
            subject="TW-OM-2207 Rev. D",
            invariant=1,
            pageCompression=1,
        )
        frame = Frame(24 * mm, 22 * mm, WIDTH - 46 * mm, HEIGHT - 46 * mm, 0, 0, 0, 0, id="body")
        self.chapter = ""
        self.addPageTemplates(
            [
                PageTemplate("title", [frame], onPage=self._title_page),
                PageTemplate("front", [frame], onPage=self._front_page),
                PageTemplate("main", [frame], onPageEnd=self._main_page),
            ]
        )

    def afterFlowable(self, flowable: Flowable) -> None:
        """Enter a heading that was just drawn."""
        if not isinstance(flowable, Heading):
            return
        block = flowable.block
        key = f"h{block.number}"
        text = f"{block.number} {block.text}"
        self.canv.bookmarkPage(key)
        self.canv.addOutlineEntry(text, key, block.level - 1, closed=block.level > 1)
        page = self.page - N_FRONT_PAGES
        if block.level < 3:
            self.notify("TOCEntry", (block.level - 1, text, page, key))
        if block.level == 1:
            self.chapter = text

    def _title_page(self, canvas: Canvas, _document: BaseDocTemplate) -> None:
        canvas.addPageLabel(0, style="ROMAN_LOWER", start=1)
        canvas.addPageLabel(N_FRONT_PAGES, style="ARABIC", start=1)
        canvas.showOutline()

    def _front_page(self, canvas: Canvas, _document: BaseDocTemplate) -> None:
        roman = ("i", "ii", "iii", "iv")[min(self.page, N_FRONT_PAGES) - 1]
        canvas.setFont("Helvetica", 8)
        canvas.drawCentredString(WIDTH / 2, 12 * mm, roman)

    def _main_page(self, canvas: Canvas, _document: BaseDocTemplate) -> None:
        canvas.setFont("Helvetica", 8)
        canvas.drawString(24 * mm, HEIGHT - 15 * mm, "TWX 40 / TWX 65 Operating Manual")
        canvas.drawRightString(WIDTH - 22 * mm, HEIGHT - 15 * mm, self.chapter)
        canvas.line(24 * mm, HEIGHT - 17 * mm, WIDTH - 22 * mm, HEIGHT - 17 * mm)
        canvas.drawString(24 * mm, 12 * mm, "TW-OM-2207 Rev. D")
        canvas.drawRightString(WIDTH - 22 * mm, 12 * mm, f"Page {self.page - N_FRONT_PAGES}")


def table(block: Block) -> list[Flowable]:
    """Return caption and table; the header row is repeated where the table crosses a page."""
    head, *rows = block.rows
    cells = [[Paragraph(c, CELL_HEAD) for c in head]]
    cells += [[Paragraph(hyphenated(c), CELL) for c in row] for row in rows]
    drawn = Table(cells, [w * mm * 0.93 for w in block.widths_mm], repeatRows=1, hAlign="LEFT")
    drawn.setStyle(
        TableStyle(
            [
                ("GRID", (0, 0), (-1, -1), 0.4, colors.grey),
                ("BACKGROUND", (0, 0), (-1, 0), colors.HexColor("#e4e4e4")),
                ("VALIGN", (0, 0), (-1, -1), "TOP"),
                ("TOPPADDING", (0, 0), (-1, -1), 2),
                ("BOTTOMPADDING", (0, 0), (-1, -1), 2.5),
            ]
        )
    )
    caption = Paragraph(f"Table {block.number}: {block.text}", CAPTION)
    if len(rows) > 14:
        loose = Paragraph(caption.text, ParagraphStyle("loose", parent=CAPTION, keepWithNext=0))
        return [CondPageBreak(40 * mm), loose, drawn, Spacer(1, 8)]
    return [KeepTogether([caption, drawn]), Spacer(1, 8)]


def box(block: Block) -> list[Flowable]:
    """Return a warning: the signal word in bold in a coloured box."""
    word, text = block.text.split(": ", 1)
    drawn = Table([[Paragraph(f"<b>{word}</b><br/>{text}", CELL)]], [160 * mm], hAlign="LEFT")
    drawn.setStyle(
        TableStyle(
            [
                ("BACKGROUND", (0, 0), (-1, -1), colors.HexColor(BOX_COLOURS[word])),
                ("BOX", (0, 0), (-1, -1), 0.8, colors.black),
                ("BOTTOMPADDING", (0, 0), (-1, -1), 6),
            ]
        )
    )
    return [Spacer(1, 2), drawn, Spacer(1, 7)]


def flowables(block: Block) -> list[Flowable]:
    """Return what a block becomes on the page."""
    if block.kind == "heading":
        before: list[Flowable] = []
        if block.level == 1 and block.number != "1":
            before = [PageBreak()]
        elif block.level == 2:
            before = [CondPageBreak(55 * mm)]
        return [*before, Heading(block)]
    if block.kind == "table":
        return table(block)
    if block.kind == "box":
        return box(block)
    if block.kind == "room":
        return [Room(float(block.text))]
    if block.kind == "figure":
        drawing = Drawing(block.extra[0], float(block.extra[1]))
        caption = Paragraph(f"Figure {block.number}: {block.text}", CAPTION)
        return [KeepTogether([drawing, caption]), Spacer(1, 6)]
    if block.kind == "bullet":
        return [Paragraph(hyphenated(block.text), LIST, bulletText="•")]
    if block.kind == "step":
        return [Paragraph(hyphenated(block.text), LIST, bulletText=f"{block.number}.")]
    return [Paragraph(hyphenated(block.text), BODY)]


def front_matter() -> list[Flowable]:
    """Return title page, revisions and contents."""
    big = ParagraphStyle("big", fontName="Helvetica-Bold", fontSize=30, leading=38)
    mid = ParagraphStyle("mid", fontName="Helvetica", fontSize=15, leading=21)
    entry = [
        ParagraphStyle("t1", fontName="Helvetica-Bold", fontSize=10, leading=14, spaceBefore=3),
        ParagraphStyle("t2", fontName="Helvetica", fontSize=9, leading=12.2, leftIndent=14),
    ]
    contents = TableOfContents(levelStyles=entry, dotsMinLevel=0)
    revisions = Block(
        "table",
        "Revisions of this manual",
        number="0",
        rows=(
            ("Revision", "Date", "Change", "Sections"),
            ("A", "2022-07-18", "First issue", "all"),
            ("B", "2023-02-06", "Bearing temperature limits of the TWX 65 raised by 5 K", "7.5"),
            ("C", "2024-09-30", "Resonance range of base frame F2 added", "8.5"),
            ("D", "2025-11-12", "Fault codes E18 to E20 added, event memory enlarged", "3.4, 10.1"),
        ),
        widths_mm=(22, 28, 90, 30),
    )
    start: list[Flowable] = [
        Spacer(1, 60 * mm),
        Paragraph("TWX 40<br/>TWX 65", big),
        Spacer(1, 6 * mm),
        Paragraph("Centrifugal pumps with monitoring unit TWM 2", mid),
        Paragraph("Operating manual", mid),
        Spacer(1, 60 * mm),
        Paragraph("TW-OM-2207 Rev. D &nbsp; 2025-11-12", mid),
        Paragraph("Tarnwick Pumps, Works 2 (a fictitious manufacturer)", BODY),
        NextPageTemplate("front"),
        PageBreak(),
        Paragraph("Revisions", HEADINGS[0]),
        *table(revisions),
        Paragraph(
            "This is a translation of the original manual. The printed copy is not subject to the "
            "change service; the file with the highest revision letter is valid.",
            BODY,
        ),
        PageBreak(),
        Paragraph("Contents", HEADINGS[0]),
        contents,
        NextPageTemplate("main"),
        PageBreak(),
    ]
    return start


def make(path: Path) -> None:
    """Write the manual to `path`."""
    blocks = Reader().read(manual_planning.CHAPTERS + manual_running.CHAPTERS)
    story = front_matter()
    for block in blocks:
        story += flowables(block)
    ManualTemplate(path).multiBuild(story)
