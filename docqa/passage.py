"""A passage for reading: the quoted words, and as much of what stands around them as is asked for.

Offsets count in the extracted text (docqa/types.py), so a quote found at answering time is the same
characters here, whatever the chunks are.
"""

from __future__ import annotations

from dataclasses import dataclass

from docqa.store import Store
from docqa.types import Chunk, Document, Locator

_SCAN_CHUNKS = 64  # a page or line rarely spans more


@dataclass(frozen=True, slots=True)
class PassageView:
    """`before + quote + after` is one stretch of the extracted text.

    `locator` is that of the whole stretch; `is_first` and `is_last`: nothing stands before or after
    it in the document.
    """

    document: Document
    before: str
    quote: str
    after: str
    headings: tuple[str, ...]
    locator: Locator
    is_first: bool
    is_last: bool


def read_passage(
    store: Store, path: str, locator: Locator, start: int, end: int, n_neighbours: int = 0
) -> PassageView | None:
    """Return the chunks that hold characters [start, end), with `n_neighbours` on each side.

    None where the document is gone, or was changed so that nothing stands there any more.
    """
    document = store.document(path)
    if document is None:
        return None
    found = _chunk_holding(store, document.doc_id, locator, start)
    if found is None:
        return None
    chunks = store.neighbours(document.doc_id, found.ordinal, n_neighbours, n_neighbours)
    while chunks[-1].span.end < end:
        further = store.neighbours(document.doc_id, chunks[-1].ordinal + 1, 0, 0)
        if not further:
            break
        chunks += further
    first, last = chunks[0], chunks[-1]
    text = store.text(document.doc_id, first.span.start, last.span.end)
    base = first.span.start
    return PassageView(
        document=document,
        before=text[: start - base],
        quote=text[start - base : end - base],
        after=text[end - base :],
        headings=found.headings,
        locator=Locator(locator.unit, first.span.locator.first, last.span.locator.last),
        is_first=first.ordinal == 0,
        is_last=last.ordinal >= document.n_chunks - 1,
    )


def _chunk_holding(store: Store, doc_id: int, locator: Locator, offset: int) -> Chunk | None:
    chunk = store.chunk_at(doc_id, locator.first)
    while chunk is not None:
        near = store.neighbours(doc_id, chunk.ordinal, 0, _SCAN_CHUNKS)
        for candidate in near:
            if candidate.span.start <= offset < candidate.span.end:
                return candidate
            if candidate.span.start > offset:
                return None
        chunk = near[-1] if len(near) > 1 else None
    return None
