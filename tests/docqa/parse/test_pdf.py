"""The PDF parser against files made here, whose text and pages are known."""

import io
import itertools
from pathlib import Path

import pymupdf
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import getSampleStyleSheet
from reportlab.pdfgen import canvas
from reportlab.platypus import Paragraph, SimpleDocTemplate, Table, TableStyle

from docqa.errors import PasswordNeeded, UnreadableFile
from docqa.parse.pdf import parse_pdf
from docqa.parse.pdf_ocr import find_tessdata
from docqa.protocols import ParseOptions
from docqa.types import Block, BlockKind, DocumentInfo, DocumentTitle, PageInfo, PageState

WIDTH, HEIGHT = A4
OPTIONS = ParseOptions(ocr="never")
LOREM = [
    "The",
    "pump",
    "draws",
    "water",
    "from",
    "the",
    "lower",
    "basin",
    "and",
    "lifts",
    "it",
    "to",
    "the",
    "tank",
    "on",
    "the",
    "roof",
    "where",
    "a",
    "float",
    "switch",
    "tells",
    "the",
    "controller",
    "when",
    "to",
    "stop",
    "and",
    "a",
    "second",
    "switch",
    "warns",
    "of",
    "an",
    "overflow",
    "that",
    "could",
    "damage",
    "the",
    "ceiling",
    "below",
    "if",
    "nobody",
    "acts",
    "within",
    "the",
    "hour",
    "that",
    "the",
    "alarm",
    "allows",
    "for",
]


def read(path, options=OPTIONS):
    items = list(parse_pdf(path, options))
    blocks = [i for i in items if isinstance(i, Block)]
    pages = [i for i in items if isinstance(i, PageInfo)]
    assert isinstance(items[-1], DocumentInfo)
    return blocks, pages, items[-1]


def text_of(blocks):
    return "\n".join(b.text for b in blocks)


class Sheet:
    """A PDF written line by line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.canvas = canvas.Canvas(str(path), pagesize=A4)

    def at(self, x, y, text, size=10, font="Helvetica"):
        """Write `text`; y is from the top."""
        self.canvas.setFont(font, size)
        self.canvas.drawString(x, HEIGHT - y, text)

    def lines(self, x, y, texts, size=10, leading=13, font="Helvetica"):
        for i, text in enumerate(texts):
            self.at(x, y + i * leading, text, size, font)

    def page(self):
        self.canvas.showPage()

    def save(self):
        self.canvas.save()
        return self.path


def wrapped(words, width, size=10):
    lines, line = [], ""
    for word in words:
        longer = f"{line} {word}".strip()
        if pymupdf.get_text_length(longer, "helv", size) > width and line:
            lines.append(line)
            line = word
        else:
            line = longer
    return [*lines, line]


def test_one_column_headings_and_paragraphs(tmp_path):
    sheet = Sheet(tmp_path / "manual.pdf")
    sheet.at(72, 90, "Pump Manual", 24, "Helvetica-Bold")
    sheet.at(72, 140, "1 Installation", 16, "Helvetica-Bold")
    first = wrapped([*LOREM, "end."], 440)
    sheet.lines(72, 170, first)
    sheet.lines(72, 170 + 13 * len(first) + 14, wrapped(["Second", *LOREM, "done."], 440))
    blocks, pages, info = read(sheet.save())
    assert [(b.kind, b.text[:14], b.heading_level) for b in blocks] == [
        (BlockKind.HEADING, "Pump Manual", 1),
        (BlockKind.HEADING, "1 Installation", 1),
        (BlockKind.PARAGRAPH, "The pump draws", 0),
        (BlockKind.PARAGRAPH, "Second The pum", 0),
    ]
    assert blocks[2].text == " ".join([*LOREM, "end."])
    assert info.title == "Pump Manual" and info.n_pages == 1
    assert pages[0].state is PageState.TEXT and pages[0].n_chars == len(
        "".join(b.text for b in blocks)
    )


def two_columns(path, *, by_rows):
    sheet = Sheet(path)
    sheet.at(120, 80, "A title that stretches over both of the columns", 16, "Helvetica-Bold")
    left = wrapped(["Left", *LOREM, *LOREM, "leftend."], 220)
    right = wrapped(["Right", *LOREM, *LOREM, "rightend."], 220)
    if by_rows:  # the order in the file must not matter
        for i, (a, b) in enumerate(zip(left, right, strict=False)):
            sheet.at(50, 120 + 13 * i, a)
            sheet.at(310, 120 + 13 * i, b)
        for i in range(min(len(left), len(right)), max(len(left), len(right))):
            for x, side in ((50, left), (310, right)):
                if i < len(side):
                    sheet.at(x, 120 + 13 * i, side[i])
    else:
        sheet.lines(50, 120, left)
        sheet.lines(310, 120, right)
    low = 120 + 13 * max(len(left), len(right)) + 30
    sheet.at(
        50, low, "Figure 1. A caption across both columns, wider than either of them is, surely."
    )
    sheet.lines(50, low + 30, wrapped(["Below", *LOREM, *LOREM, "belowleft."], 220))
    sheet.lines(310, low + 30, wrapped(["Beside", *LOREM, *LOREM, "belowright."], 220))
    return sheet.save()


@pytest.mark.parametrize("by_rows", [False, True])
def test_two_columns_are_read_one_after_the_other(tmp_path, by_rows):
    blocks, _, _ = read(two_columns(tmp_path / "paper.pdf", by_rows=by_rows))
    text = text_of(blocks)
    marks = ["A title", "Left The", "leftend.", "Right The", "rightend.", "Figure 1",
             "Below The", "belowleft.", "Beside The", "belowright."]  # fmt: skip
    places = [text.index(mark) for mark in marks]
    assert places == sorted(places)
    assert "Left " + " ".join([*LOREM, *LOREM]) + " leftend." in [b.text for b in blocks]


def test_a_sentence_goes_on_in_the_next_column(tmp_path):
    sheet = Sheet(tmp_path / "columns.pdf")
    words = [*LOREM, *LOREM, *LOREM, *LOREM, "end."]
    lines = wrapped(words, 220)
    half = len(lines) // 2
    sheet.lines(50, 100, lines[:half])
    sheet.lines(310, 100, lines[half:])
    blocks, _, _ = read(sheet.save())
    assert [b.text for b in blocks] == [" ".join(words)]


def test_labels_beside_values_stay_in_rows(tmp_path):
    sheet = Sheet(tmp_path / "form.pdf")
    for i, (label, value) in enumerate(
        [("Model", "X-200"), ("Serial number", "88123"), ("Voltage", "230 V"), ("Owner", "J. Doe")]
    ):
        sheet.at(72, 100 + 20 * i, label)
        sheet.at(300, 100 + 20 * i, value)
    text = text_of(read(sheet.save())[0])
    rows = text.replace(": ", " ").split("\n")
    assert rows == ["Model X-200", "Serial number 88123", "Voltage 230 V", "Owner J. Doe"]


ROWS = [
    ["Model", "Flow (m3/h)", "Head (m)"],
    ["A-10", "12", "30"],
    ["B-20", "", "45"],
    ["C-30", "36", "60"],
]


def test_ruled_table_rows_keep_their_header(tmp_path):
    path = tmp_path / "table.pdf"
    table = Table(ROWS, style=TableStyle([("GRID", (0, 0), (-1, -1), 0.5, "black")]))
    style = getSampleStyleSheet()["Normal"]
    before = Paragraph("The pumps are listed in the table below, with their flow and head.", style)
    SimpleDocTemplate(str(path), pagesize=A4).build([before, table, before])
    blocks, _, _ = read(path)
    assert [b.kind for b in blocks] == [BlockKind.PARAGRAPH, BlockKind.TABLE, BlockKind.PARAGRAPH]
    assert blocks[1].text.split("\n") == [
        "Model | Flow (m3/h) | Head (m)",
        "Model: A-10 | Flow (m3/h): 12 | Head (m): 30",
        "Model: B-20 | Head (m): 45",
        "Model: C-30 | Flow (m3/h): 36 | Head (m): 60",
    ]


def test_table_without_rules(tmp_path):
    sheet = Sheet(tmp_path / "plain.pdf")
    for r, row in enumerate(ROWS):
        for c, cell in enumerate(row):
            sheet.at(72 + 150 * c, 100 + 15 * r, cell)
    blocks, _, _ = read(sheet.save())
    assert "Model: B-20 | Head (m): 45" in text_of(blocks).split("\n")


def test_table_on_the_next_page_keeps_the_header(tmp_path):
    path = tmp_path / "long.pdf"
    rows = [ROWS[0], *([f"P-{i}", str(i), str(2 * i)] for i in range(60))]
    table = Table(rows, style=TableStyle([("GRID", (0, 0), (-1, -1), 0.5, "black")]), colWidths=120)
    SimpleDocTemplate(str(path), pagesize=A4).build([table])
    blocks, pages, _ = read(path)
    assert len(pages) == 2
    last = [b for b in blocks if b.locator.first == 2][-1]
    assert last.text.startswith("Model | Flow (m3/h) | Head (m)\nModel: P-")
    assert last.text.endswith("Model: P-59 | Flow (m3/h): 59 | Head (m): 118")


def report(path, n_pages=8):
    """Odd and even pages have different headers; numbers change."""
    sheet = Sheet(path)
    for page in range(1, n_pages + 1):
        header = "Annual Report 2023" if page % 2 else "Chapter One: Results"
        sheet.at(72, 40, header, 8)
        sheet.lines(72, 100, wrapped([f"Page{page}word", *LOREM, "stop."], 440))
        sheet.at(290, 810, f"- {page} -", 8)
        sheet.at(450, 810, "ACME Corporation", 8)
        sheet.page()
    return sheet.save()


def test_running_headers_and_numbers_are_dropped(tmp_path):
    blocks, pages, info = read(report(tmp_path / "report.pdf"))
    text = text_of(blocks)
    assert info.n_pages == len(pages) == 8
    for gone in ("Annual Report", "Chapter One", "ACME", "- 3 -"):
        assert gone not in text
    assert [b.text.split()[0] for b in blocks] == [f"Page{n}word" for n in range(1, 9)]
    assert [b.locator.first for b in blocks] == list(range(1, 9))


def test_pages_of_one_line_each_keep_it(tmp_path):
    sheet = Sheet(tmp_path / "slides.pdf")
    for n in range(1, 7):
        sheet.at(72, 60, f"Item {n} of the list")
        sheet.at(290, 810, str(n), 8)
        sheet.page()
    blocks, _, _ = read(sheet.save())
    assert [b.text for b in blocks] == [f"Item {n} of the list" for n in range(1, 7)]


def test_a_title_near_the_top_is_no_header(tmp_path):
    sheet = Sheet(tmp_path / "one.pdf")
    sheet.at(72, 60, "The only title", 20)
    sheet.lines(72, 120, wrapped([*LOREM, "end."], 440))
    assert read(sheet.save())[0][0].text == "The only title"


def test_hyphens_at_line_ends(tmp_path):
    sheet = Sheet(tmp_path / "hyphens.pdf")
    sheet.lines(
        72,
        100,
        [
            "The installation of a well-known device follows the infor-",
            "mation in the manual, which a self-",
            "contained unit does not need, being a well-",
            "known one built in the years 1999-",
            "2003 by people who knew the words that matter here.",
        ],
    )
    assert read(sheet.save())[0][0].text == (
        "The installation of a well-known device follows the information in the manual, which a "
        "self-contained unit does not need, being a well-known one built in the years 1999-2003 "
        "by people who knew the words that matter here."
    )


def crossing(path):
    sheet = Sheet(path)
    sheet.at(72, 40, "Running head", 8)
    lines = wrapped([*LOREM, "and", *LOREM, "finally", "stops."], 440)
    sheet.lines(72, 700, lines[:3])
    sheet.at(72, 770, "1 A footnote in small print stands below.", 7)
    sheet.page()
    sheet.at(72, 40, "Running head", 8)
    sheet.lines(72, 80, lines[3:])
    sheet.lines(72, 300, wrapped(["Another", *LOREM, "end."], 440))
    return sheet.save(), lines


def test_a_sentence_across_a_page_break(tmp_path):
    path, lines = crossing(tmp_path / "cross.pdf")
    blocks, pages, _ = read(path)
    joined = next(b for b in blocks if b.text.startswith("The pump"))
    assert joined.text == " ".join(lines)
    assert (joined.locator.first, joined.locator.last) == (1, 2)
    assert joined.breaks == ((len(" ".join(lines[:3])) + 1, 2),)
    assert [p.page for p in pages] == [1, 2]
    firsts = [b.locator.first for b in blocks]
    assert firsts == sorted(firsts)
    assert "footnote" in text_of(blocks)


def test_page_labels(tmp_path):
    path = tmp_path / "labels.pdf"
    document = pymupdf.open()
    for n in range(4):
        document.new_page().insert_text((72, 100), f"Body text of sheet {n}.")
    document.set_page_labels(
        [{"startpage": 0, "prefix": "", "style": "r", "firstpagenum": 1},
         {"startpage": 2, "prefix": "A-", "style": "D", "firstpagenum": 1}]
    )  # fmt: skip
    document.save(path)
    _, pages, _ = read(path)
    assert [(p.page, p.label) for p in pages] == [(1, "i"), (2, "ii"), (3, "A-1"), (4, "A-2")]


def test_outline_gives_heading_levels(tmp_path):
    path = tmp_path / "outline.pdf"
    document = pymupdf.open()
    page = document.new_page()
    page.insert_text((72, 100), "Scope of the work")
    page.insert_text((72, 140), "The work has a scope and this text says which, at some length.")
    document.set_toc([[1, "Part", 1], [2, "Scope of the Work", 1]])
    document.save(path)
    blocks, _, _ = read(path)
    assert (blocks[0].kind, blocks[0].heading_level) == (BlockKind.HEADING, 2)
    assert blocks[1].kind is BlockKind.PARAGRAPH


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_rotated_pages_read_alike(tmp_path, rotation):
    path = tmp_path / "rotated.pdf"
    document = pymupdf.open()
    page = document.new_page()
    for i, text in enumerate(["First line of the text", "second line of it", "and the third."]):
        page.insert_text((72, 100 + 14 * i), text)
    page.set_rotation(rotation)
    document.save(path)
    assert read(path)[0][0].text == "First line of the text second line of it and the third."


@pytest.mark.parametrize("rotate", [90, 180, 270])
def test_text_that_runs_sideways_on_the_sheet(tmp_path, rotate):
    path = tmp_path / "sideways.pdf"
    document = pymupdf.open()
    page = document.new_page()
    step = {90: (14, 0), 180: (0, -14), 270: (-14, 0)}[rotate]
    for i, text in enumerate(["First line of the text", "second line of it", "and the third."]):
        page.insert_text((300 + step[0] * i, 400 + step[1] * i), text, rotate=rotate)
    document.save(path)
    assert read(path)[0][0].text == "First line of the text second line of it and the third."


def test_ligatures_soft_hyphens_and_blanks(tmp_path):
    path = tmp_path / "odd.pdf"
    document = pymupdf.open()
    page = document.new_page()
    font = pymupdf.Font("helv")
    writer = pymupdf.TextWriter(page.rect)
    writer.append((72, 100), "e\ufb03cient \ufb02ow\u00a0of 5\u202fkg co\u00adoperation", font=font)
    writer.write_text(page)
    document.save(path)
    assert read(path)[0][0].text == "efficient flow of 5 kg cooperation"


def encrypted(path, user):
    document = pymupdf.open()
    document.new_page().insert_text((72, 100), "Secret words inside.")
    document.save(path, encryption=pymupdf.PDF_ENCRYPT_AES_256, owner_pw="owner", user_pw=user)
    return path


def test_encrypted(tmp_path):
    path = encrypted(tmp_path / "locked.pdf", "open sesame")
    with pytest.raises(PasswordNeeded, match="--password"):
        read(path)
    with pytest.raises(PasswordNeeded, match="wrong"):
        read(path, ParseOptions(password="nope"))
    assert read(path, ParseOptions(password="open sesame"))[0][0].text == "Secret words inside."
    assert read(encrypted(tmp_path / "empty.pdf", ""))[0][0].text == "Secret words inside."


def scanned(path):
    source = pymupdf.open()
    page = source.new_page(width=400, height=200)
    page.insert_text((40, 80), "Scanned invoice", fontsize=28)
    page.insert_text((40, 130), "Total 1234 dollars", fontsize=28)
    picture = page.get_pixmap(dpi=150)
    document = pymupdf.open()
    document.new_page().insert_text((72, 100), "A page with text before the scan comes.")
    document.new_page(width=400, height=200).insert_image((0, 0, 400, 200), pixmap=picture)
    document.new_page()
    document.save(path)
    return path


def test_scanned_and_blank_pages_are_told_apart(tmp_path):
    _, pages, _ = read(scanned(tmp_path / "scan.pdf"))
    assert [p.state for p in pages] == [PageState.TEXT, PageState.UNREAD, PageState.EMPTY]
    assert "picture" in pages[1].reason and "OCR" in pages[1].reason


@pytest.mark.skipif(find_tessdata("eng") is None, reason="no Tesseract language data here")
def test_ocr(tmp_path):
    blocks, pages, _ = read(scanned(tmp_path / "scan.pdf"), ParseOptions())
    assert [p.state for p in pages] == [PageState.TEXT, PageState.OCR, PageState.EMPTY]
    assert "1234 dollars" in text_of(b for b in blocks if b.locator.first == 2)


def test_ocr_language_without_data(tmp_path):
    _, pages, _ = read(scanned(tmp_path / "scan.pdf"), ParseOptions(ocr_language="xyz"))
    assert pages[1].state is PageState.UNREAD and "tesseract-ocr-xyz" in pages[1].reason


def test_max_pages(tmp_path):
    _, pages, info = read(report(tmp_path / "r.pdf"), ParseOptions(max_pages=3))
    assert [p.page for p in pages] == [1, 2, 3]
    assert info.n_pages == 8 and "first 3 of 8" in info.warnings[0]


def test_not_a_pdf(tmp_path):
    for name, data in {
        "empty.pdf": b"",
        "words.pdf": b"just words, no PDF at all\n" * 50,
        "stub.pdf": b"%PDF-1.7\n",
    }.items():
        path = tmp_path / name
        path.write_bytes(data)
        with pytest.raises(UnreadableFile) as caught:
            read(path)
        assert str(path) in str(caught.value)


def test_truncated_file_keeps_what_is_left(tmp_path):
    whole = report(tmp_path / "whole.pdf", 12).read_bytes()
    path = tmp_path / "cut.pdf"
    path.write_bytes(whole[: len(whole) * 2 // 3])
    try:
        blocks, pages, info = read(path)
    except UnreadableFile:
        return
    assert len(blocks) > 0 and any("repaired" in w for w in info.warnings)
    assert all(1 <= p.page <= info.n_pages for p in pages)


def test_broken_page_is_reported_and_others_kept(tmp_path, monkeypatch):
    from docqa.parse import pdf

    real = pdf.read_page

    def read_page(page, number, textpage=None):
        if number == 2:
            raise RuntimeError("code=7: cannot parse content stream")
        return real(page, number, textpage)

    monkeypatch.setattr(pdf, "read_page", read_page)
    blocks, pages, _ = read(report(tmp_path / "r.pdf", 6))
    assert [p.state for p in pages] == [PageState.TEXT, PageState.FAILED, *[PageState.TEXT] * 4]
    assert pages[1].reason == "cannot parse content stream"
    assert [b.locator.first for b in blocks] == [1, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ("Maintenance of pumps", "Maintenance of pumps"),
        ("Microsoft Word - draft.doc", "Large words"),
        ("untitled", "Large words"),
        ("", "Large words"),
    ],
)
def test_title(tmp_path, metadata, expected):
    path = tmp_path / "t.pdf"
    document = pymupdf.open()
    page = document.new_page()
    page.insert_text((72, 100), "small words come first")
    page.insert_text((72, 150), "Large words", fontsize=22)
    document.set_metadata({"title": metadata})
    document.save(path)
    assert read(path)[2].title == expected
    assert next(iter(parse_pdf(path, OPTIONS))) == DocumentTitle(expected)


def test_the_first_line_of_plain_text_is_not_put_before_every_chunk(tmp_path):
    sheet = Sheet(tmp_path / "plain.pdf")
    sheet.lines(72, 60, wrapped([*LOREM, "end."], 440))
    items = list(parse_pdf(sheet.save(), OPTIONS))
    assert items[-1].title and not any(isinstance(i, DocumentTitle) for i in items)


WORDS = st.lists(st.integers(min_value=4, max_value=220), min_size=1, max_size=14)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(lengths=WORDS)
def test_breaks_say_the_page_of_every_word(tmp_path, lengths):
    """Every word carries the number of the page it was drawn on; the blocks must agree."""
    buffer = io.BytesIO()
    sheet = Sheet(buffer)
    sheet.canvas = canvas.Canvas(buffer, pagesize=A4)
    y, page, n = 90, 1, 0
    for length in lengths:
        line: list[str] = []
        for i in range(length + 1):
            word = f"w{n}p{page}" + ("." if i == length else "")
            if len(line) == 8 or i == length:
                sheet.at(72, y, " ".join([*line, word]))
                line, y = [], y + 13
            else:
                line.append(word)
            n += 1
            if y > 760 and not line:
                sheet.page()
                y, page = 90, page + 1
        y += 20
    sheet.canvas.save()
    path = tmp_path / "property.pdf"
    path.write_bytes(buffer.getvalue())
    blocks, _, _ = read(path)
    seen = []
    for block in blocks:
        edges = [(0, block.locator.first), *block.breaks, (len(block.text) + 1, 0)]
        assert [e[0] for e in edges] == sorted(e[0] for e in edges)
        for (start, number), (end, _) in itertools.pairwise(edges):
            words = block.text[start:end].split()
            assert {w.strip(".").split("p")[1] for w in words} == {str(number)}
            seen += [int(w.strip(".")[1:].split("p")[0]) for w in words]
        assert block.locator.last == edges[-2][1]
    assert seen == list(range(n))
