"""kill -9 while an engine saves its KV: the old file or the new one, never a broken one.

    python -m docqa.bench.kills --text book.txt --kills 200

An engine process restores the file, which must be one of the two conversations that were ever
saved, and goes on from it as it did when nothing was killed; then it is made to save the other
conversation, and killed at a random moment of that. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from docqa.config import ModelConfig
from docqa.errors import EngineDied, ModelError
from docqa.protocols import Piece
from docqa.types import Segment
from models.host import HostEngine, open_engine
from models.private_host import PrivateProcess

SIZES = (300, 400)  # tokens of the two conversations
SAID_TOKENS = 4


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what the command line asks for."""
    options = _parser().parse_args(arguments)
    config = replace(
        ModelConfig(),
        path=options.model,
        context_length=512,
        adapter="none",
        n_threads=options.threads,
        keep_alive_s=0.0,
    )
    with tempfile.TemporaryDirectory() as folder, open_engine(config) as engine:
        text = options.text.read_text("utf-8", "replace")[:8000]
        tokens = engine.tokenize([Segment(text, False)])[0]
        talks = {n: tokens[i : i + n] for i, n in enumerate(SIZES)}
        _kill_many(engine, talks, Path(folder) / "kills.kv", options.kills)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="docqa.bench.kills", description=__doc__)
    parser.add_argument("--model", default=ModelConfig().path)
    parser.add_argument("--text", type=Path, required=True, help="a text file")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--threads", type=int, default=0)
    return parser


def _kill_many(engine: HostEngine, talks: dict[int, list[int]], path: Path, n_kills: int) -> None:
    expected, save_s = {}, 0.0
    for n, tokens in talks.items():
        list(engine.generate(tokens[:-1], max_tokens=0))
        began = time.perf_counter()
        engine.save_kv(path)
        save_s = time.perf_counter() - began  # of the second: the first hashes the model, too
        expected[n] = _said(engine, tokens)
    saved = SIZES[-1]  # what the file holds, as far as is known
    found: Counter[str] = Counter()
    rng = random.Random(0)
    for i in range(n_kills):
        other = SIZES[saved == SIZES[0]]
        # A little longer than a save takes, so that some are killed just after it.
        found["killed"] += _kill_while_saving(
            engine, talks[other][:-1], path, 1.2 * save_s * rng.random()
        )
        restored = _restored(engine, path)
        n = restored + 1
        if n not in expected:
            found["broken"] += 1
            n = saved
            list(engine.generate(talks[n][:-1], max_tokens=0))
            engine.save_kv(path)
        else:
            found["new" if n == other else "old"] += 1
            found["changed"] += _said(engine, talks[n]) != expected[n]
        saved = n
        if i % 10 == 9 or i == n_kills - 1:
            counts = {name: found[name] for name in ("old", "new", "broken", "changed")}
            row = {"kills": i + 1, "while_saving": found["killed"], **counts}
            print(json.dumps({"kills": row | {"save_s": round(save_s, 4)}}), flush=True)


def _kill_while_saving(engine: HostEngine, tokens: list[int], path: Path, delay_s: float) -> bool:
    """Kill the process so long after it was told to save; whether the save had not answered."""
    list(engine.generate(tokens, max_tokens=0))
    process = engine.process
    assert isinstance(process, PrivateProcess)
    answered = threading.Event()

    def save() -> None:
        with suppress(ModelError):  # that it died is what is wanted
            engine.save_kv(path)
            answered.set()

    thread = threading.Thread(target=save)
    thread.start()
    time.sleep(delay_s)
    was_saving = not answered.is_set()
    process.kill()
    thread.join()
    return was_saving


def _restored(engine: HostEngine, path: Path) -> int:
    """Return the tokens that a new process restores from the file."""
    try:
        return engine.load_kv(path)
    except EngineDied:  # that of the old one is told once, to whoever asks next
        return engine.load_kv(path)


def _said(engine: HostEngine, tokens: list[int]) -> list[int]:
    events = engine.generate(tokens, max_tokens=SAID_TOKENS)
    return [event.token for event in events if isinstance(event, Piece)]


if __name__ == "__main__":
    main()
