"""Text from pictures of text: Tesseract through PyMuPDF, where its language data is installed."""

from __future__ import annotations

import os
from pathlib import Path

import pymupdf

from docqa.parse.pdf_page import PageText, read_page
from docqa.protocols import ParseOptions

_DPI = 300  # what Tesseract's documentation asks for
_MAX_PIXELS = 40_000_000
_FOLDERS = (
    "/usr/share/tesseract-ocr",
    "/usr/share/tessdata",
    "/usr/local/share/tessdata",
    "/opt/homebrew/share/tessdata",
    "/opt/local/share/tessdata",
)


def find_tessdata(language: str) -> Path | None:
    """Return the folder that holds `<language>.traineddata`; for `a+b` both must be there."""
    named = os.environ.get("TESSDATA_PREFIX")
    roots = [Path(named), Path(named) / "tessdata"] if named else []
    for folder in map(Path, _FOLDERS):
        roots += [folder, folder / "tessdata"]
        if folder.is_dir():
            roots += sorted(folder.glob("*/tessdata"), reverse=True)  # the newest version first
    wanted = language.split("+")
    for root in roots:
        if all((root / f"{name}.traineddata").is_file() for name in wanted):
            return root
    return None


class Ocr:
    """Reads pages as pictures; looks for the language data once, when it is first needed."""

    def __init__(self, options: ParseOptions) -> None:
        self._options = options
        self._tessdata: Path | None = None
        self._has_looked = False

    def read(self, page: pymupdf.Page, number: int) -> tuple[PageText | None, str]:
        """Return the recognised page, or None and the reason."""
        if self._options.ocr == "never":
            return None, "OCR is switched off"
        language = self._options.ocr_language
        if not self._has_looked:
            self._tessdata = find_tessdata(language)
            self._has_looked = True
        if self._tessdata is None:
            return None, (
                f"no OCR data for '{language}' on this machine "
                f"(Debian: apt install tesseract-ocr-{language})"
            )
        area = max(1.0, page.rect.width * page.rect.height) / 72**2
        dpi = int(min(_DPI, (_MAX_PIXELS / area) ** 0.5))
        try:
            textpage = page.get_textpage_ocr(
                flags=0, language=language, dpi=dpi, full=True, tessdata=str(self._tessdata)
            )
            return read_page(page, number, textpage), ""
        except MemoryError:
            raise
        except Exception as error:  # Tesseract's errors come as RuntimeError of MuPDF
            return None, f"OCR failed: {' '.join(str(error).split())[:150]}"
