"""Answers in a form that a script asked for: JSON of a schema, or text of a grammar (GBNF).

The model can write nothing else, token by token, so the form is certain; what stands in it is not.
Sentences can be checked against their sources (`docqa.answer`), fields cannot: instead every value
that stands verbatim in no source is named, in `unsupported`.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from docqa import pack
from docqa.errors import UsageError
from docqa.protocols import Piece, Sampling, Stop
from docqa.types import Evidence
from docqa.workspace import NO_MODEL_NAME, AskOptions, Workspace

N_CANDIDATES = 24
EVERYTHING = AskOptions()
FORM = "Answer with JSON of this schema, from the sources only: "


@dataclass(frozen=True, slots=True)
class Structured:
    """An answer in a form. `value` is None where it is no JSON, or was cut off by `max_tokens`."""

    question: str
    found: bool  # whether there was evidence; without any the model is not asked
    text: str  # as written
    value: Any
    is_complete: bool
    unsupported: tuple[str, ...]  # values of `value` that stand verbatim in no source
    evidence: tuple[Evidence, ...]
    n_prompt: int = 0
    n_generated: int = 0


def ask_structured(
    workspace: Workspace,
    question: str,
    options: AskOptions = EVERYTHING,
    *,
    json_schema: str | None = None,
    grammar: str | None = None,
    cancel: threading.Event | None = None,
) -> Structured:
    """Answer `question` in the form of a JSON schema or of a grammar, from retrieved evidence.

    Raises:
        UsageError: neither or both were given, the schema is no JSON, or there is no model.
        ModelRefused: the schema says what a grammar cannot, or the grammar is not valid.
    """
    if (json_schema is None) == (grammar is None):
        raise UsageError("one of a JSON schema and a grammar is needed")
    if workspace.config.model.path == NO_MODEL_NAME:
        raise UsageError("--model none writes nothing: a form needs a language model")
    asked = question
    if json_schema is not None:
        asked = f"{question}\n{FORM}{_compact(json_schema)}"
    settings = workspace.config.answer
    candidates = workspace.search(question, N_CANDIDATES, options)
    live = [c for c in candidates if c.dropped is None]
    if not live:
        return Structured(question, False, "", None, False, (), pack.nearest(candidates))
    engine = workspace.engine
    prompt = pack.pack(asked, live, engine=engine, settings=settings)
    sampling = Sampling(
        settings.temperature,
        settings.top_p,
        settings.seed,
        grammar=grammar,
        json_schema=json_schema,
    )
    texts: list[str] = []
    stop: Stop | None = None
    for event in engine.generate(
        prompt.tokens, max_tokens=settings.max_tokens, sampling=sampling, cancel=cancel
    ):
        if isinstance(event, Piece):
            texts.append(event.text)
        elif isinstance(event, Stop):
            stop = event
    assert stop is not None
    text = "".join(texts).strip()
    value = _parsed(text) if json_schema is not None else None
    return Structured(
        question,
        True,
        text,
        value,
        stop.reason == "end",
        tuple(_unsupported(value, prompt.evidence)),
        prompt.evidence,
        stop.n_prompt,
        stop.n_generated,
    )


def _compact(schema: str) -> str:
    try:
        return json.dumps(json.loads(schema), separators=(",", ":"), ensure_ascii=False)
    except json.JSONDecodeError as error:
        raise UsageError(f"the JSON schema is no JSON: {error}") from error


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return None  # cut off at max_tokens


def _unsupported(value: Any, evidence: tuple[Evidence, ...]) -> Iterator[str]:
    """Yield the strings and numbers in `value` that stand in no source, white space aside."""
    sources = [_plain(e.chunk.text) for e in evidence]
    for leaf in _leaves(value):
        wanted = re.compile(rf"(?<!\w){re.escape(_plain(leaf))}(?!\w)")
        if not any(wanted.search(source) for source in sources):
            yield leaf


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for inner in value.values():
            yield from _leaves(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(inner)
    elif (
        isinstance(value, str | int | float) and not isinstance(value, bool) and str(value).strip()
    ):
        yield str(value)
