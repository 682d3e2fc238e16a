"""How fast chunks are embedded on this CPU, beside sentence-transformers with the same weights.

    python -m docqa.bench.embed                 # 64 chunks of 60 to 240 tokens, 3 rounds each
    python -m docqa.bench.embed --n 256 --rounds 5

The two take turns, so that other work on the machine slows both; the ratio is the median of the
rounds' ratios. Also printed: the lowest cosine between their vectors, the time from nothing to the
first vector (in a fresh process each), and the time of one query. The last line is JSON.

Measured on 2 shared cores with AVX-512 (ratios hold, absolutes do not):

- batches of about 1,000 tokens are as fast as larger ones or faster, so that is the batch;
- 8-bit integers do not pay: ONNX Runtime's MatMulNBits with 8-bit weights and activations in blocks
  of 32 (128) keeps the lowest cosine at 0.999 (0.9965) but runs at 0.6 (0.7) of the speed of fp32
  with fused attention; whole-tensor dynamic quantisation is 1.4 x as fast at a cosine of 0.92,
  which is too low. So fp32 it is;
- on an H100, `TorchMiniLM`: 8,400 chunks/s, lowest cosine to fp32 on the CPU 0.999998.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from docqa.config import EmbedConfig
from docqa.protocols import Embedder
from models.embedder import (
    BertFiles,
    OnnxMiniLM,
    n_physical_cores,
    packaged_folder,
)
from models.sentence_embedder import SentenceTransformerEmbedder

_FIRST_VECTOR = """
import time; begin = time.perf_counter()
from docqa.config import EmbedConfig
from models import embedder, sentence_embedder
config = EmbedConfig(device="cpu")
made = {make}
made.embed_query("which valve?")
print(time.perf_counter() - begin)
"""
_MAKE = {
    "docqa": "embedder.open_embedder(config)",
    "sentence-transformers": (
        "sentence_embedder.SentenceTransformerEmbedder(embedder.packaged_folder(), config)"
    ),
}


def chunks(n: int, seed: int = 0) -> list[str]:
    """Return `n` texts of 60 to 240 words that are one token each, the same for a seed."""
    vocabulary = (packaged_folder() / "vocab.txt").read_text(encoding="utf-8").split()
    words = [word for word in vocabulary if word.isascii() and word.isalpha() and len(word) > 2]
    rng = random.Random(seed)
    return [" ".join(rng.choices(words, k=rng.randint(60, 240))) for _ in range(n)]


def seconds(work: Callable[[], object]) -> float:
    """Return the wall time of `work`."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def measure(n: int, rounds: int) -> dict[str, Any]:
    """Return the figures of both embedders over `n` chunks."""
    texts = chunks(n)
    files = BertFiles.read(packaged_folder())
    assert files is not None
    embedders: dict[str, Embedder] = {
        "docqa": OnnxMiniLM(files),
        "sentence-transformers": SentenceTransformerEmbedder(
            packaged_folder(), EmbedConfig(device="cpu")
        ),
    }
    times: dict[str, list[float]] = {name: [] for name in embedders}
    vectors = {name: e.embed_documents(texts[:8]) for name, e in embedders.items()}
    for _ in range(rounds):
        for name, embedder in embedders.items():
            times[name].append(seconds(lambda e=embedder: e.embed_documents(texts)))  # type: ignore[misc]
    n_tokens = sum(embedders["docqa"].count_tokens(texts))
    ratios = [b / a for a, b in zip(*times.values(), strict=True)]
    cosines = (vectors["docqa"] * vectors["sentence-transformers"]).sum(1)
    return {
        "n_chunks": n,
        "n_tokens": n_tokens,
        "n_threads": n_physical_cores(),
        "chunks_per_s": {k: n / statistics.median(v) for k, v in times.items()},
        "tokens_per_s": {k: n_tokens / statistics.median(v) for k, v in times.items()},
        "query_ms": {k: query_ms(e) for k, e in embedders.items()},
        "first_vector_s": {k: first_vector_s(make) for k, make in _MAKE.items()},
        "ratio": statistics.median(ratios),
        "lowest_cosine": float(np.min(cosines)),
    }


def query_ms(embedder: Embedder) -> float:
    """Return the median time of one short query, in milliseconds."""
    question = "How often must the seal of the pump be replaced?"
    return 1000 * statistics.median(
        seconds(lambda: embedder.embed_query(question)) for _ in "x" * 9
    )


def first_vector_s(make: str) -> float:
    """Return the seconds from a started Python to the first vector, imports included."""
    code = _FIRST_VECTOR.format(make=make)
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def show(found: dict[str, Any]) -> None:
    """Print the table and the JSON line."""
    print(f"{found['n_chunks']} chunks, {found['n_tokens']} tokens, {found['n_threads']} threads")
    print(f"{'':24}{'chunks/s':>10}{'tokens/s':>10}{'query ms':>10}{'first s':>10}")
    for name in _MAKE:
        figures = [
            found[key][name]
            for key in ("chunks_per_s", "tokens_per_s", "query_ms", "first_vector_s")
        ]
        print(f"{name:24}{figures[0]:10.1f}{figures[1]:10.0f}{figures[2]:10.1f}{figures[3]:10.2f}")
    print(f"ratio {found['ratio']:.2f} x, lowest cosine {found['lowest_cosine']:.7f}")
    print(json.dumps(found))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="docqa.bench.embed", description=__doc__)
    parser.add_argument("--n", type=int, default=64, help="chunks")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(arguments)
    show(measure(options.n, options.rounds))


if __name__ == "__main__":
    main()
