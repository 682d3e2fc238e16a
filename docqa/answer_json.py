"""An answer as the `docqa.answer/1` object. Fields may be added, never changed or dropped."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from docqa.types import Answer, Evidence, Usage


def answer_json(answer: Answer) -> dict[str, Any]:
    """Return the `docqa.answer/1` object."""
    engine = asdict(answer.engine) if answer.engine else None
    return {
        "schema": "docqa.answer/1",
        "question": answer.question,
        "query": answer.query,
        "found": answer.found,
        "answer": answer.text,
        "kind": answer.kind.value,
        "citations": [asdict(citation) for citation in answer.citations],
        "evidence": [evidence_json(e) for e in answer.evidence],
        "usage": usage_json(answer.usage),
        "engine": engine,
        "notes": list(answer.notes),
    }


def usage_json(usage: Usage) -> dict[str, Any]:
    """Return what a question cost, with its rates; null where nothing was computed."""
    return {
        **asdict(usage),
        "prefilled_tokens": usage.prefilled_tokens,
        "prefill_tokens_s": rate(usage.prefilled_tokens, usage.prefill_s),
        "decode_tokens_s": rate(usage.generated_tokens, usage.decode_s),
    }


def rate(n_tokens: int, seconds: float) -> float | None:
    """Return tokens a second; None where there were none or no time was taken."""
    return round(n_tokens / seconds, 2) if n_tokens and seconds > 0 else None


def evidence_json(evidence: Evidence) -> dict[str, Any]:
    """Return a source of the prompt: where it is and what it weighs."""
    where = evidence.chunk.span.locator
    is_page = where.unit == "page"
    return {
        "marker": evidence.marker,
        "path": evidence.path,
        "page": where.first if is_page else None,
        "page_last": where.last if is_page else None,
        "line": None if is_page else where.first,
        "line_last": None if is_page else where.last,
        "score": round(evidence.score, 6),
        "n_tokens": evidence.n_tokens,
    }
