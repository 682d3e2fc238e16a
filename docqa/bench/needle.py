"""Whether a model finds one fact in a long text: a needle at several depths of several lengths.

    python -m docqa.bench.needle --text book.txt --lengths 4096 8192 16384 32768 --methods yarn none

A sentence with a made-up code stands at 5 depths of a book; the model, in its own chat format, is
asked for the code. Recall is the share of answers that contain it. Every length of a method runs in
the same context, of the longest length, so with the same stretch. One fact by its wording is the
least that a long context must do: it says nothing of reasoning over one. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from docqa.config import ModelConfig
from docqa.protocols import Piece
from docqa.types import Segment
from models.host import HostEngine, open_engine

METHODS = ("auto", "none", "linear", "ntk", "yarn")
DEPTHS = [0.0, 0.25, 0.5, 0.75, 1.0]
PLACES = ("locker", "archive", "boat", "garden gate", "workshop", "bicycle", "safe", "cellar")
COLOURS = ("blue", "green", "yellow", "grey", "violet", "orange", "white", "brown")
ROOM = 160  # tokens for question, format and answer
ANSWER_TOKENS = 24


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what the command line asks for."""
    options = _parser().parse_args(arguments)
    text = options.text.read_text("utf-8", "replace")
    rows = []
    for method in options.methods:
        config = replace(
            ModelConfig(),
            path=options.model,
            context_length=options.context or max(options.lengths),
            rope=method,
            kv_type_k=options.kv_type,
            kv_type_v=options.kv_type,
            n_threads=options.threads,
            adapter="none",
            keep_alive_s=0.0,
            force=True,
        )
        with open_engine(config) as engine:
            for length in options.lengths:
                rows.append(_row(engine, options, method, length, text))
                print(_shown(rows[-1]), flush=True)
                found = {"model": options.model, "depths": options.depths, "needle": rows}
                print(json.dumps(found), flush=True)  # so far: the last line is all of them


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="docqa.bench.needle", description=__doc__)
    parser.add_argument("--model", default=ModelConfig().path)
    parser.add_argument("--text", type=Path, required=True, help="a long text file: the haystack")
    parser.add_argument("--lengths", type=int, nargs="+", default=[4096, 8192, 16384, 32768])
    parser.add_argument("--context", type=int, default=0, help="0: the longest length")
    parser.add_argument("--methods", nargs="+", default=["yarn", "none"], choices=METHODS)
    parser.add_argument(
        "--depths", type=float, nargs="+", default=DEPTHS, help="shares of the text"
    )
    parser.add_argument("--repeats", type=int, default=3, help="needles a depth")
    parser.add_argument("--kv-type", default="f16")
    parser.add_argument("--threads", type=int, default=0)
    return parser


def _row(
    engine: HostEngine, options: argparse.Namespace, method: str, length: int, text: str
) -> dict[str, object]:
    """Return the recall of one length: how many of the needles of each depth were found."""
    found = []
    n_chars = int(6 * length)
    for depth in options.depths:
        hits = 0
        for n in range(options.repeats):
            place, code = _needle(n)
            prompt, n_chars = _prompt(engine, text[:n_chars], length, depth, place, code)
            hits += code in _said(engine, prompt)
        found.append(hits)
    n_asked = len(options.depths) * options.repeats
    return {
        "method": method,
        "length": length,
        "context": engine.info.context_length,
        "found": found,
        "of_each": options.repeats,
        "recall": sum(found) / n_asked,
    }


def _needle(n: int) -> tuple[str, str]:
    """Return (place, code) of the n-th needle."""
    place = f"{COLOURS[n % len(COLOURS)]} {PLACES[n % len(PLACES)]}"
    return place, str(random.Random(n).randrange(10_000, 100_000))


def _prompt(
    engine: HostEngine, text: str, length: int, depth: float, place: str, code: str
) -> tuple[list[int], int]:
    """Return (tokens of a prompt of `length` at most, the characters of the text in it).

    The needle stands at `depth` of the text. The haystack begins with the book's first words
    whatever the depth, so that what stands before the needle is computed once.
    """
    n_chars = len(text)
    while n_chars > 0:
        hay = text[:n_chars]
        at = hay.rfind("\n", 0, int(depth * len(hay)) + 1) + 1 if depth else 0
        needle = f"The code of the {place} is {code}.\n"
        source = hay[:at] + needle + hay[at:]
        question = f"What is the code of the {place}? Answer with the number."
        messages = [
            ("system", [Segment("Answer from the text that is given.", False, "system")]),
            ("user", [Segment(f"{source}\n\n{question}", False, "question")]),
        ]
        tokens = [t for ids in engine.tokenize(engine.chat(messages)) for t in ids]
        if len(tokens) <= length - ROOM:
            return tokens, n_chars
        n_chars = min(int(n_chars * (length - ROOM) / len(tokens)), n_chars - 64)
    sys.exit(f"{length} tokens have no room for a question and a text around it")


def _said(engine: HostEngine, tokens: list[int]) -> str:
    events = engine.generate(tokens, max_tokens=ANSWER_TOKENS)
    return "".join(_texts(events))


def _texts(events: Iterator[object]) -> Iterator[str]:
    for event in events:
        if isinstance(event, Piece):
            yield event.text


def _shown(row: dict[str, object]) -> str:
    return (
        f"{row['method']:7} {row['length']:>6} tokens  found at each depth {row['found']} of "
        f"{row['of_each']}  recall {row['recall']:.0%}"
    )


if __name__ == "__main__":
    main()
