"""Ten turns over two pinned documents: how much of the prompt that did not change is read again.

    python -m docqa.bench.turns --text book.txt --context 8192 --turns 10

The prompt's layout and the engine as they are in a session, without a library: the two documents
are two stretches of the text, the evidence of a turn is a passage of it, and each answer is kept as
a turn. `unchanged` is what every next prompt begins with; `reused` is what the engine measured. The
bar: 90 %. `docqa.bench.session` does the same with a library and its search. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from docqa import prompts
from docqa.config import ModelConfig
from docqa.history import prefix_tokens
from docqa.prompts import Frame, PastTurn
from docqa.protocols import Piece, Stop
from docqa.types import BlockKind, Chunk, Evidence, Locator, Span
from models.host import HostEngine, open_engine

PASSAGES = 4  # of each pinned document
QUESTION = "What is said there of {word}?"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what the command line asks for."""
    options = _parser().parse_args(arguments)
    text = options.text.read_text("utf-8", "replace")
    config = replace(
        ModelConfig(),
        path=options.model,
        context_length=options.context,
        adapter="none",
        n_threads=options.threads,
        keep_alive_s=0.0,
    )
    with open_engine(config) as engine:
        turns = _turns(engine, text, options)
    changed = turns[1:]
    reused = sum(min(turn["unchanged"], turn["reused"]) for turn in changed)
    share = reused / max(1, sum(turn["unchanged"] for turn in changed))
    print(json.dumps({"turns": turns, "reused_share": round(share, 4)}))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="docqa.bench.turns", description=__doc__)
    parser.add_argument("--model", default=ModelConfig().path)
    parser.add_argument("--text", type=Path, required=True, help="a long text file")
    parser.add_argument("--context", type=int, default=8192)
    parser.add_argument("--turns", type=int, default=10)
    parser.add_argument("--tokens", type=int, default=16, help="of an answer")
    parser.add_argument("--passage-chars", type=int, default=1200)
    parser.add_argument("--threads", type=int, default=0)
    return parser


def _turns(engine: HostEngine, text: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    n_pinned = 2 * PASSAGES
    sources = [
        _source(text, options.passage_chars, n, "abc"[min(n // PASSAGES, 2)] + ".txt")
        for n in range(n_pinned + options.turns)
    ]
    frame = Frame(tuple(sources[:n_pinned]), first_marker=n_pinned + 1)
    rows: list[dict[str, Any]] = []
    for n, source in enumerate(sources[n_pinned:]):
        unchanged = len(prefix_tokens(engine, frame)) if n else 0  # nothing is unchanged at first
        question = QUESTION.format(word=source.chunk.text.split()[n])
        messages = prompts.messages(question, [source], frame.history(), pinned=frame.pinned)
        prompt = [t for ids in engine.tokenize(engine.chat(messages)) for t in ids]
        *pieces, stop = engine.generate(prompt, max_tokens=options.tokens)
        assert isinstance(stop, Stop)
        said = "".join(piece.text for piece in pieces if isinstance(piece, Piece))
        rows.append({"prompt": len(prompt), "unchanged": unchanged, "reused": stop.n_reused})
        print(rows[-1], flush=True)
        past = (*frame.past, PastTurn(question, (source,), said))
        frame = Frame(frame.pinned, past, first_marker=source.marker + 1)
    return rows


def _source(text: str, n_chars: int, n: int, path: str) -> Evidence:
    """Return the n-th passage of the text as a source."""
    start = n * n_chars % max(1, len(text) - n_chars)
    span = Span(0, start, start + n_chars, Locator("line", n + 1, n + 1))
    passage = text[span.start : span.end]
    chunk = Chunk(n, span, n, passage, "", BlockKind.PARAGRAPH, ())
    return Evidence(n + 1, chunk, path, path, 0.0, 0)


if __name__ == "__main__":
    main()
