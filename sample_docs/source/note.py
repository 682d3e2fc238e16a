"""Draws `scanned_note.pdf`: one page that is an image only, a little skewed and specked."""

from __future__ import annotations

import io
from pathlib import Path
from random import Random

import pymupdf
from PIL import Image
from reportlab.lib.pagesizes import A4
from reportlab.lib.units import mm
from reportlab.lib.utils import ImageReader
from reportlab.pdfgen.canvas import Canvas

DPI = 200
SKEW_DEGREES = 0.9
N_SPECKS = 220

FIELDS = (
    ("Delivery note no.", "DN-58213"),
    ("Date", "17 February 2026"),
    ("Order no.", "PO-4406-B"),
    ("Consignee", "Waterworks Ellersdale, Gate 4"),
    ("Carrier", "Grey Heron Freight, truck 12"),
    ("Gross weight", "486 kg on 3 pallets"),
)
ITEMS = (
    ("Pos", "Article", "Description", "Ordered", "Delivered"),
    ("1", "TW-65-210", "Pump TWX 65-210 S2 F2", "2", "2"),
    ("2", "TW-33233", "Mechanical seal S2, spare", "4", "3"),
    ("3", "TW-35024", "Coupling element", "6", "6"),
    ("4", "TW-80114", "Grease cartridge 400 g", "12", "12"),
    ("5", "TW-90210", "Sensor set TWM 2", "2", "0"),
)
REMARKS = (
    "Inspection on arrival",
    "Pallet 2: shrink film torn, crate dry, shock indicator red.",
    "Pump serial numbers 2207-1187 and 2207-1192.",
    "One mechanical seal missing, to follow in week 9.",
    "Sensor sets on back order, expected 20 March 2026.",
    "Storage place: hall C, rack 14. Inspected by: clerk 27.",
)


def _clean_page() -> bytes:
    buffer = io.BytesIO()
    canvas = Canvas(buffer, pagesize=A4, invariant=1)
    x, y = 24 * mm, A4[1] - 32 * mm
    canvas.setFont("Helvetica-Bold", 20)
    canvas.drawString(x, y, "DELIVERY NOTE AND INSPECTION RECORD")
    y -= 14 * mm
    for name, value in FIELDS:
        canvas.setFont("Helvetica", 13)
        canvas.drawString(x, y, name + ":")
        canvas.setFont("Helvetica-Bold", 13)
        canvas.drawString(x + 52 * mm, y, value)
        y -= 8.5 * mm
    y -= 8 * mm
    columns = (0, 14, 46, 112, 138)
    for i, row in enumerate(ITEMS):
        canvas.setFont("Helvetica-Bold" if i == 0 else "Helvetica", 12.5)
        for offset, cell in zip(columns, row, strict=True):
            canvas.drawString(x + offset * mm, y, cell)
        canvas.line(x, y - 2.5 * mm, x + 160 * mm, y - 2.5 * mm)
        y -= 9 * mm
    y -= 8 * mm
    for i, line in enumerate(REMARKS):
        canvas.setFont("Helvetica-Bold" if i == 0 else "Helvetica", 13)
        canvas.drawString(x, y, line)
        y -= 8.5 * mm
    canvas.showPage()
    canvas.save()
    return buffer.getvalue()


def _scan(page: bytes) -> Image.Image:
    with pymupdf.open(stream=page, filetype="pdf") as document:
        pixels = document[0].get_pixmap(dpi=DPI, colorspace=pymupdf.csGRAY)
    image = Image.frombytes("L", (pixels.width, pixels.height), pixels.samples)
    image = image.rotate(SKEW_DEGREES, Image.Resampling.BICUBIC, fillcolor=255)
    rng = Random(58213)
    for _ in range(N_SPECKS):
        x, y, size = rng.randrange(image.width), rng.randrange(image.height), rng.randrange(1, 4)
        image.paste(rng.randrange(60, 190), (x, y, x + size, y + size))
    return image.point(lambda value: 255 if value > 150 else 0).convert("1")


def make(path: Path) -> None:
    """Write the note to `path`: a page without any text."""
    image = _scan(_clean_page())
    canvas = Canvas(str(path), pagesize=A4, invariant=1, pageCompression=1)
    canvas.setTitle("Scan 2026-02-17")
    canvas.drawImage(ImageReader(image), 0, 0, *A4)
    canvas.showPage()
    canvas.save()
