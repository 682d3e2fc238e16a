"""Answers, hits and reports as JSON and as text for a terminal.

The JSON forms are an interface that others script against: fields may be added, never changed or
dropped. It is pure ASCII, so no terminal can be attacked through it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from docqa.prompts import place
from docqa.sanitize import sanitize, sanitize_line
from docqa.types import (
    Answer,
    AnswerKind,
    Candidate,
    Citation,
    FileReport,
    Locator,
    PackedPrompt,
)

MAX_EXPLAINED = 30  # rows of --explain, unless a source stands lower


def print_json(value: dict[str, Any]) -> None:
    """Print one object on one line."""
    print(json.dumps(value, ensure_ascii=True))


def search_json(query: str, candidates: Sequence[Candidate]) -> dict[str, Any]:
    """Return the `docqa.search/1` object."""
    return {
        "schema": "docqa.search/1",
        "query": query,
        "hits": [_hit_json(rank, c) for rank, c in enumerate(candidates, start=1)],
    }


def _hit_json(rank: int, candidate: Candidate) -> dict[str, Any]:
    where = candidate.chunk.span.locator
    is_page = where.unit == "page"
    score = candidate.rrf_score if candidate.rerank_score is None else candidate.rerank_score
    return {
        "rank": rank,
        "path": candidate.path,
        "page": where.first if is_page else None,
        "page_last": where.last if is_page else None,
        "line_first": None if is_page else where.first,
        "line_last": None if is_page else where.last,
        "score": round(score, 6),
        "text": candidate.chunk.text,
    }


def report_json(report: FileReport) -> dict[str, Any]:
    """Return the object of one file of `add`, `sync` and `list`."""
    return {
        "path": report.path,
        "state": report.state.value,
        "n_pages": report.n_pages,
        "n_lines": report.n_lines,
        "n_chunks": report.n_chunks,
        "error": report.error,
        "warnings": list(report.warnings),
    }


def candidate_json(candidate: Candidate) -> dict[str, Any]:
    """Return one row of `--explain --json`."""
    row = asdict(candidate)
    chunk = row.pop("chunk")
    row["chunk_id"], row["headings"] = chunk["chunk_id"], chunk["headings"]
    row["where"] = place(candidate.chunk.span.locator)
    return row


class Style:
    """Bold and dim where the terminal shows them; nothing where it does not."""

    def __init__(self, is_on: bool) -> None:
        self._is_on = is_on

    def bold(self, text: str) -> str:
        """Return `text` in bold."""
        return f"\x1b[1m{text}\x1b[0m" if self._is_on else text

    def dim(self, text: str) -> str:
        """Return `text` in dim."""
        return f"\x1b[2m{text}\x1b[0m" if self._is_on else text


def citation_text(citation: Citation, style: Style, said: str = "") -> str:
    """Return a citation for reading: marker, file, place, and the quote unless it was `said`."""
    where = sanitize_line(f"{citation.path}, {place(_locator(citation))}")
    if citation.quote in said:
        return f"{style.bold(f'[{citation.marker}]')} {where}"
    quote = sanitize(citation.quote).replace("\n", "\n    ")
    return f"{style.bold(f'[{citation.marker}]')} {where}\n    {style.dim(quote)}"


def _locator(citation: Citation) -> Locator:
    if citation.page is not None:
        return Locator("page", citation.page, citation.page_last or citation.page)
    first = citation.line or 1
    return Locator("line", first, citation.line_last or first)


def answer_tail(answer: Answer, style: Style) -> str:
    """Return what follows the answer's text: its citations, or the nearest passages."""
    if answer.kind is not AnswerKind.NOT_FOUND:
        return "\n".join(citation_text(c, style, answer.text) for c in answer.citations)
    if not answer.evidence:
        return ""
    rows = [
        f"  {sanitize_line(e.path)}, {place(e.chunk.span.locator)}: "
        + style.dim(_short(e.chunk.text, 100))
        for e in answer.evidence
    ]
    return "The nearest passages:\n" + "\n".join(rows)


def hit_text(rank: int, candidate: Candidate, style: Style) -> str:
    """Return one hit of `search` for reading."""
    where = sanitize_line(f"{candidate.path}, {place(candidate.chunk.span.locator)}")
    headings = sanitize_line(" > ".join(candidate.chunk.headings))
    first = f"{style.bold(f'{rank:>3}.')} {where}" + (f"  {headings}" if headings else "")
    return f"{first}\n     {style.dim(_short(candidate.chunk.text, 300))}"


def report_text(report: FileReport) -> str:
    """Return one line of `add`, `sync` and `list` for reading."""
    size = f"{report.n_pages} pages" if report.n_pages else f"{report.n_lines or 0} lines"
    detail = f"{size}, {report.n_chunks} chunks" if report.n_chunks else ""
    reason = report.error or "; ".join(report.warnings[:3])
    parts = [part for part in (detail, reason) if part]
    tail = f"  ({sanitize_line('; '.join(parts))})" if parts else ""
    return f"{report.state.value:<11} {sanitize_line(report.path)}{tail}"


def explain_text(candidates: Sequence[Candidate], prompt: PackedPrompt | None) -> str:
    """Return the table of `--explain`: ranks, scores, packed as which source, dropped and why."""
    packed: dict[int, int] = {}
    why: dict[int, str] = {}
    if prompt is not None:
        why = {c.chunk.chunk_id: c.dropped or "" for c in prompt.dropped}
        for e in prompt.evidence:
            for c in candidates:
                span = c.chunk.span
                if span.doc_id == e.chunk.span.doc_id and (
                    e.chunk.span.start <= span.start and span.end <= e.chunk.span.end
                ):
                    packed[c.chunk.chunk_id] = e.marker
    lines = [f"{'lex':>4} {'dense':>5} {'rrf':>7} {'rerank':>7}  {'packed':<6} where"]
    shown = max((i for i, c in enumerate(candidates) if c.chunk.chunk_id in packed), default=0)
    shown = max(shown + 1, MAX_EXPLAINED)
    for c in candidates[:shown]:
        fate = f"[{packed[c.chunk.chunk_id]}]" if c.chunk.chunk_id in packed else "-"
        reason = "" if fate != "-" else (c.dropped or why.get(c.chunk.chunk_id) or "")
        rerank = "-" if c.rerank_score is None else f"{c.rerank_score:.3f}"
        name = sanitize_line(Path(c.path).name)
        lines.append(
            f"{c.lexical_rank or '-':>4} {c.dense_rank or '-':>5} {c.rrf_score:>7.4f} {rerank:>7}  "
            f"{fate:<6} {name}, {place(c.chunk.span.locator)}  {reason}"
        )
    if len(candidates) > shown:
        lines.append(f"… and {len(candidates) - shown} more, ranked lower (all with --json)")
    if prompt is not None:
        layers = ", ".join(f"{name} {count}" for name, count in prompt.layer_tokens.items())
        lines.append(f"prompt: {len(prompt.tokens)} tokens ({layers})")
    return "\n".join(lines)


def _short(text: str, limit: int) -> str:
    line = " ".join(sanitize(text).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
