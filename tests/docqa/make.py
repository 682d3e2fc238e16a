"""Records for tests, with sensible defaults."""

from __future__ import annotations

from docqa.types import BlockKind, Candidate, Chunk, Evidence, Locator, Span


def chunk(
    text="The pump delivers 45 m3 per hour.",
    *,
    chunk_id=1,
    doc_id=1,
    start=0,
    ordinal=0,
    page=3,
    line=None,
    breaks=(),
    headings=(),
    kind=BlockKind.PARAGRAPH,
    time=None,
):
    locator = (
        Locator("line", line, line + text.count("\n"))
        if line
        else Locator("page", page, breaks[-1][1] if breaks else page)
    )
    return Chunk(
        chunk_id=chunk_id,
        span=Span(doc_id, start, start + len(text), locator),
        ordinal=ordinal,
        text=text,
        embed_text=text,
        kind=kind,
        headings=headings,
        breaks=breaks,
        time_first=time,
        time_last=time,
    )


def candidate(
    text="The pump delivers 45 m3 per hour.",
    *,
    score=0.9,
    path="/docs/pump.pdf",
    rrf_score=0.01,
    **fields,
):
    return Candidate(
        chunk=chunk(text, **fields),
        path=path,
        title="Pump",
        rrf_score=rrf_score,
        rerank_score=score,
    )


def evidence(
    text="The pump delivers 45 m3 per hour.",
    *,
    marker=1,
    score=0.9,
    path="/docs/pump.pdf",
    **fields,
):
    return Evidence(
        marker=marker,
        chunk=chunk(text, **fields),
        path=path,
        title="Pump",
        score=score,
        n_tokens=10,
    )
