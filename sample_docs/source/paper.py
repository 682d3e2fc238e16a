"""Draws `paper.pdf`: title and abstract over the full width, then two columns."""

from __future__ import annotations

import itertools
from pathlib import Path

from reportlab.lib import colors
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import (
    BaseDocTemplate,
    Flowable,
    Frame,
    FrameBreak,
    KeepTogether,
    NextPageTemplate,
    PageTemplate,
    Paragraph,
    Spacer,
    Table,
    TableStyle,
)

from source import paper_text
from source.markup import Block, Reader, hyphenated

WIDTH, HEIGHT = A4
SIDE, GAP, TOP, BOTTOM = 20 * mm, 8 * mm, 22 * mm, 24 * mm
COLUMN = (WIDTH - 2 * SIDE - GAP) / 2
HEAD_HEIGHT = 86 * mm

BODY = ParagraphStyle(
    "body",
    fontName="Times-Roman",
    fontSize=10.6,
    leading=14.2,
    spaceAfter=5,
    alignment=4,
    embeddedHyphenation=1,
)
SMALL = ParagraphStyle("small", parent=BODY, fontSize=8.8, leading=11, spaceAfter=3, alignment=0)
CAPTION = ParagraphStyle("caption", parent=SMALL, fontName="Times-Italic", spaceBefore=4)
EQUATION = ParagraphStyle("equation", parent=BODY, alignment=1, spaceBefore=3, spaceAfter=8)
HEADINGS = [
    ParagraphStyle(
        f"h{level}",
        fontName=font,
        fontSize=size,
        leading=size + 3,
        spaceBefore=8,
        spaceAfter=4,
        keepWithNext=1,
    )
    for level, font, size in ((1, "Times-Bold", 13), (2, "Times-BoldItalic", 11))
]


class Plot(Flowable):
    """A small diagram: `score` over days, `bars` of lead times, or a `line` of savings."""

    def __init__(self, name: str, height: float) -> None:
        super().__init__()
        self.name, self.width, self.height = name, COLUMN, height

    def draw(self) -> None:
        """Draw axes with their labels and the data."""
        canvas, w, h = self.canv, self.width, self.height
        canvas.setFont("Times-Roman", 7.5)
        canvas.line(28, 20, 28, h - 4)
        canvas.line(28, 20, w - 4, 20)
        labels = {
            "score": ("days before failure", "score"),
            "bars": ("days", "cases"),
            "line": ("running hours per year", "euro"),
        }[self.name]
        canvas.drawCentredString(w / 2, 6, labels[0])
        canvas.drawString(2, h - 10, labels[1])
        span, top = w - 44, h - 34
        if self.name == "bars":
            for i, n in enumerate((3, 6, 4, 9, 8, 5, 4, 2)):
                canvas.rect(34 + i * span / 8, 20, span / 11, n / 9 * top, fill=i % 2)
            return
        if self.name == "score":
            ys = [0.08 + 0.03 * (i * 7 % 5) + (0.055 * max(0, i - 27)) for i in range(40)]
            canvas.setDash(3, 2)
            canvas.line(28, 20 + 0.45 * top, w - 4, 20 + 0.45 * top)
            canvas.setDash()
        else:
            ys = [0.1 + 0.021 * i for i in range(40)]
        points = [(30 + i * span / 40, 20 + y * top) for i, y in enumerate(ys)]
        for (x0, y0), (x1, y1) in itertools.pairwise(points):
            canvas.line(x0, y0, x1, y1)


def _header(canvas: Canvas, document: BaseDocTemplate) -> None:
    canvas.setFont("Times-Italic", 8.5)
    if document.page > 1:
        even = document.page % 2 == 0
        text = "Working Group on Rotating Equipment" if even else "Early Detection of Seal Wear"
        canvas.drawCentredString(WIDTH / 2, HEIGHT - 14 * mm, text)
    canvas.setFont("Times-Roman", 9)
    canvas.drawCentredString(WIDTH / 2, 12 * mm, str(211 + document.page))


def _table(block: Block) -> list[Flowable]:
    bold = ParagraphStyle("bold", parent=SMALL, fontName="Times-Bold")
    cells = [
        [Paragraph(cell, bold if i == 0 else SMALL) for cell in row]
        for i, row in enumerate(block.rows)
    ]
    scale = COLUMN / sum(block.widths_mm)
    drawn = Table(cells, [w * scale for w in block.widths_mm])
    drawn.setStyle(
        TableStyle(
            [
                ("LINEABOVE", (0, 0), (-1, 0), 0.8, colors.black),
                ("LINEBELOW", (0, 0), (-1, 0), 0.4, colors.black),
                ("LINEBELOW", (0, -1), (-1, -1), 0.8, colors.black),
                ("TOPPADDING", (0, 0), (-1, -1), 1),
                ("BOTTOMPADDING", (0, 0), (-1, -1), 1),
                ("LEFTPADDING", (0, 0), (-1, -1), 2),
                ("RIGHTPADDING", (0, 0), (-1, -1), 2),
            ]
        )
    )
    return [
        KeepTogether([Paragraph(f"Table {block.number}: {block.text}", CAPTION), drawn]),
        Spacer(1, 8),
    ]


def _flowables(block: Block, n_equations: int) -> list[Flowable]:
    if block.kind == "heading":
        return [Paragraph(f"{block.number} {block.text}", HEADINGS[block.level - 1])]
    if block.kind == "table":
        return _table(block)
    if block.kind == "figure":
        plot = Plot(block.extra[0], float(block.extra[1]))
        caption = Paragraph(f"Figure {block.number}: {block.text}", CAPTION)
        return [KeepTogether([plot, caption]), Spacer(1, 8)]
    if block.text.startswith("E "):
        return [Paragraph(f"<i>{block.text[2:]}</i> &nbsp;&nbsp;&nbsp; ({n_equations})", EQUATION)]
    if block.text.startswith("> "):
        return [Paragraph(block.text[2:], SMALL)]
    return [Paragraph(hyphenated(block.text), BODY)]


def make(path: Path) -> None:
    """Write the paper to `path`."""
    height = HEIGHT - TOP - BOTTOM
    first = height - HEAD_HEIGHT

    def column(i: int, tall: float) -> Frame:
        return Frame(SIDE + i * (COLUMN + GAP), BOTTOM, COLUMN, tall, 0, 0, 0, 0, id=f"c{i}")

    head = Frame(SIDE, BOTTOM + first, WIDTH - 2 * SIDE, HEAD_HEIGHT, 0, 0, 0, 0, id="head")
    document = BaseDocTemplate(
        str(path),
        pagesize=A4,
        title=paper_text.TITLE,
        author="Working Group on Rotating Equipment (fictitious)",
        invariant=1,
        pageCompression=1,
    )
    document.addPageTemplates(
        [
            PageTemplate("first", [head, column(0, first), column(1, first)], onPage=_header),
            PageTemplate("rest", [column(0, height), column(1, height)], onPage=_header),
        ]
    )
    title = ParagraphStyle("title", fontName="Times-Bold", fontSize=19, leading=23, alignment=1)
    author = ParagraphStyle("author", parent=BODY, alignment=1, spaceBefore=6, spaceAfter=10)
    story: list[Flowable] = [
        NextPageTemplate("rest"),
        Paragraph(paper_text.TITLE, title),
        Paragraph(paper_text.AUTHORS, author),
        Paragraph(f"<b>Abstract.</b> {paper_text.ABSTRACT}", BODY),
        FrameBreak(),
    ]
    n_equations = 0
    for block in Reader().read(paper_text.BODY):
        n_equations += block.text.startswith("E ")
        story += _flowables(block, n_equations)
    document.build(story)
