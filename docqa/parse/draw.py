"""The child's side of render.py: caps itself, draws one page a request, finds the quote on it."""

from __future__ import annotations

import os
import signal
import struct
import sys
from pathlib import Path

import msgspec

from docqa.parse.quote_boxes import PageWord, boxes_of_quote
from docqa.parse.render import (
    MAX_HEIGHT_PX,
    PageImage,
    RenderFailed,
    RenderReply,
    RenderRequest,
)
from docqa.parse.serve import confine


def main(memory_bytes: int, timeout_s: float) -> None:
    """Serve requests from standard input until it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    incoming = sys.stdin.buffer
    outgoing = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    confine(memory_bytes)
    decoder = msgspec.msgpack.Decoder(RenderRequest)
    while len(header := incoming.read(4)) == 4:
        request = decoder.decode(incoming.read(struct.unpack("<I", header)[0]))
        signal.setitimer(signal.ITIMER_REAL, 2 * timeout_s)  # the parent may be gone
        body = msgspec.msgpack.encode(_answer(request))
        signal.setitimer(signal.ITIMER_REAL, 0)
        view = memoryview(struct.pack("<I", len(body)) + body)
        try:
            while view:
                view = view[os.write(outgoing, view) :]
        except BrokenPipeError:
            return


def _answer(request: RenderRequest) -> RenderReply:
    try:
        return draw(request)
    except MemoryError:
        return RenderFailed("it needs more memory than drawing may use")
    except Exception as error:  # the worker's edge: one bad page is a sentence, not the end
        return RenderFailed(f"{type(error).__name__}: {error}"[:500])


def draw(request: RenderRequest) -> PageImage:
    """Return the page as an image. Pixels are 1 / zoom points; y counts down from the top."""
    import pymupdf

    with pymupdf.open(Path(os.fsdecode(request.path))) as document:
        if document.needs_pass and not document.authenticate(request.password or ""):
            raise ValueError("the PDF is encrypted")
        n_pages = document.page_count
        if not 1 <= request.page <= n_pages:
            raise ValueError(f"the document has {n_pages} pages")
        page = document[request.page - 1]
        zoom = request.width_px / max(1.0, page.rect.width)
        zoom = min(zoom, MAX_HEIGHT_PX / max(1.0, page.rect.height))
        pixmap = page.get_pixmap(matrix=pymupdf.Matrix(zoom, zoom), alpha=False)
        boxes = _boxes(page, request.quote, zoom) if request.quote else []
        return PageImage(pixmap.width, pixmap.height, bytes(pixmap.samples), boxes, n_pages)


def _boxes(page: object, quote: str, zoom: float) -> list[tuple[float, float, float, float]]:
    import pymupdf

    assert isinstance(page, pymupdf.Page)
    words = []
    for x0, y0, x1, y1, text, *_ in page.get_text("words"):
        box = pymupdf.Rect(x0, y0, x1, y1) * page.rotation_matrix
        words.append(PageWord(box.x0 * zoom, box.y0 * zoom, box.x1 * zoom, box.y1 * zoom, text))
    return boxes_of_quote(words, quote)
