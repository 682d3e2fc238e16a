"""How long retrieval takes before reranking, and how it grows from 1,000 chunks to 1,000,000.

    python -m docqa.bench.retrieval                       # 1,000, 10,000 and 100,000 chunks
    python -m docqa.bench.retrieval --million             # and 1,000,000 (about 4 GB of disk)
    python -m docqa.bench.retrieval --plot retrieval.svg  # and a plot

The chunks are made up: 100 to 180 words by Zipf's law from a vocabulary of 200,000, log lines with
identifiers among them, vectors in clusters. The indexes, the embedder of the question (MiniLM) and
the fusion are the real ones. Each question is timed once, after a warm-up, in one thread:

- lexical: BM25, top 100, of 3 to 8 words and at times an identifier
- scoped: the same within 3 documents of a hundred
- embed: the question to its vector
- dense: exact search, top 100, with the mapping to chunks (in memory here; the store's takes about
  1 ms for 100 vectors)
- all: lexical + embed + dense + reciprocal rank fusion
- rerank: what comes after it, the default reranker over 24 passages of a real manual (words that
  are made up have three times the tokens)

Memory is what the process grew by while the index was filled and searched (`rss`) and the size of
its files (`disk`). The last line is the same as JSON.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil

from docqa.bench.line_plot import line_plot
from docqa.config import EmbedConfig, RetrieveConfig
from docqa.index.dense import DenseIndex, VectorIndex
from docqa.index.lexical import LexicalIndex
from docqa.protocols import Passage
from docqa.retrieve import reciprocal_rank_fusion
from docqa.types import BlockKind, Chunk, Locator, Scope, Span
from models.embedder import open_embedder
from models.reranker import open_reranker

SIZES = (1_000, 10_000, 100_000)
N_DOCUMENTS = 100
N_VOCABULARY = 200_000
N_CLUSTERS = 500
DIM = 384
K = 100
PASSAGE_CHARS = 800
SAMPLES = Path(__file__).parents[2] / "sample_docs"
N_RERANK = RetrieveConfig().n_rerank
BATCH = 10_000

Ids = npt.NDArray[np.int64]
Vectors = npt.NDArray[np.float32]


class Corpus:
    """Made-up chunks and questions, the same for a seed."""

    def __init__(self, seed: int = 0) -> None:
        """Make the vocabulary: rank r occurs in proportion to 1 / (r + 2.7)."""
        self._rng = random.Random(seed)
        weights = 1 / (np.arange(N_VOCABULARY) + 2.7)
        self._cumulative = (weights.cumsum() / weights.sum()).tolist()
        letters = "aeioulnrst"
        self._words = [
            "".join(letters[int(d)] for d in str(rank + 10)) + "bcdfgm"[rank % 6]
            for rank in range(N_VOCABULARY)
        ]

    def words(self, n: int) -> list[str]:
        """Return `n` words by Zipf's law."""
        return self._rng.choices(self._words, cum_weights=self._cumulative, k=n)

    def chunk(self, chunk_id: int) -> Chunk:
        """Return one chunk; every fourth holds log lines with identifiers."""
        rng = self._rng
        text = " ".join(self.words(rng.randint(100, 180)))
        if chunk_id % 4 == 0:
            text += f"\n10.0.{rng.randrange(256)}.{rng.randrange(256)} ERR-{rng.randrange(9999)}"
        doc_id = 1 + chunk_id % N_DOCUMENTS
        span = Span(doc_id, 0, len(text), Locator("page", 1, 1))
        kind = BlockKind.PARAGRAPH
        return Chunk(chunk_id, span, chunk_id, text, text, kind, (f"Section {chunk_id % 977}",))

    def question(self) -> str:
        """Return 3 to 8 words with stop words between, sometimes with an identifier."""
        words = self.words(self._rng.randint(3, 8))
        if self._rng.random() < 0.2:
            words.append(f"ERR-{self._rng.randrange(9999)}")
        return "what is the " + " of the ".join(words) + "?"


@dataclass(slots=True)
class Batch:
    """Vectors as the store hands them out."""

    ids: Ids
    vectors: Vectors
    last_seq: int


class Source:
    """A vector table of `n` made-up vectors in clusters; a docqa.index.dense.VectorSource."""

    def __init__(self, n: int, seed: int = 0) -> None:
        """Make nothing yet."""
        self._n = n
        self._seed = seed

    def embedder(self) -> tuple[str, int]:
        """Return the name and D of the made-up embedder."""
        return "made-up", DIM

    def last_seq(self) -> int:
        """Return the number of vectors."""
        return self._n

    def last_removal(self) -> int:
        """Return 0: nothing is ever removed."""
        return 0

    def batches(self, after_seq: int = 0) -> Iterator[Batch]:
        """Yield the vectors in batches."""
        rng = np.random.default_rng(self._seed)
        centres = rng.standard_normal((N_CLUSTERS, DIM), dtype=np.float32)
        for begin in range(after_seq, self._n, BATCH):
            ids = np.arange(begin + 1, min(begin + BATCH, self._n) + 1, dtype=np.int64)
            vectors = centres[rng.integers(N_CLUSTERS, size=len(ids))]
            vectors = vectors + rng.standard_normal((len(ids), DIM), dtype=np.float32)
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            yield Batch(ids, vectors, int(ids[-1]))

    def removals(self, after_seq: int) -> tuple[list[int], int]:
        """Return none."""
        return [], after_seq

    def allowed(self, scope: Scope) -> Ids | None:
        """Return the ids of the documents of `scope`."""
        if scope.doc_ids is None:
            return None
        ids = np.arange(1, self._n + 1, dtype=np.int64)
        return ids[np.isin(1 + ids % N_DOCUMENTS, sorted(scope.doc_ids))]

    def resolve(
        self, passage_ids: Sequence[int], scope: Scope, per_vector: int = 4
    ) -> Mapping[int, Sequence[int]]:
        """Return each vector's one chunk."""
        return {passage_id: [passage_id] for passage_id in passage_ids}


@dataclass(slots=True)
class Row:
    """The figures of one size."""

    n_chunks: int
    build_s: dict[str, float] = field(default_factory=dict)
    rss_mb: dict[str, float] = field(default_factory=dict)
    disk_mb: dict[str, float] = field(default_factory=dict)
    p50_ms: dict[str, float] = field(default_factory=dict)
    p99_ms: dict[str, float] = field(default_factory=dict)


def measure(n_chunks: int, n_questions: int, folder: Path) -> Row:
    """Build both indexes of `n_chunks` in `folder` and time `n_questions`."""
    row = Row(n_chunks)
    corpus = Corpus()
    before, begin = _rss_mb(), time.perf_counter()
    lexical = _lexical(corpus, n_chunks, folder / "lexical")
    lexical.search(corpus.question(), K)
    row.build_s["lexical"] = time.perf_counter() - begin
    row.rss_mb["lexical"] = _rss_mb() - before
    before, begin = _rss_mb(), time.perf_counter()
    embedder = open_embedder(EmbedConfig(device="cpu"))
    dense = DenseIndex(folder / "dense", "bench", Source(n_chunks), lambda: embedder)
    dense.publish()
    dense.refresh()
    row.build_s["dense"] = time.perf_counter() - begin
    embedder.embed_query("warm-up")
    row.rss_mb["dense"] = _rss_mb() - before
    _time(row, corpus, lexical, dense, n_questions)
    dense.close()
    for name in ("lexical", "dense"):
        sizes = (file.stat().st_size for file in (folder / name).iterdir())
        row.disk_mb[name] = sum(sizes) / 1e6
    begin = time.perf_counter()
    VectorIndex.read(folder / "dense" / "vectors.bin")
    row.build_s["dense from file"] = time.perf_counter() - begin
    return row


def _time(
    row: Row, corpus: Corpus, lexical: LexicalIndex, dense: DenseIndex, n_questions: int
) -> None:
    embedder = open_embedder(EmbedConfig(device="cpu"))
    reranker, real = open_reranker(RetrieveConfig(), embedder), _real_passages()
    times: dict[str, list[float]] = {}
    scope = Scope(doc_ids=frozenset({3, 44, 71}))
    for i in range(n_questions + 20):
        question = corpus.question()
        marks = [time.perf_counter()]
        words = lexical.search(question, K)
        marks.append(time.perf_counter())
        vector = embedder.embed_query(question)
        marks.append(time.perf_counter())
        near = dense.search_vector(vector, K)
        marks.append(time.perf_counter())
        reciprocal_rank_fusion([words, near], 60)
        marks.append(time.perf_counter())
        lexical.search(question, K, scope)
        marks.append(time.perf_counter())
        dense.search_vector(vector, K, scope)
        marks.append(time.perf_counter())
        if i < 20:  # warm-up
            continue
        steps = [1000 * (b - a) for a, b in pairwise(marks)]
        names = ("lexical", "embed", "dense", "fuse", "lexical scoped", "dense scoped")
        for name, step in zip(names, steps, strict=True):
            times.setdefault(name, []).append(step)
        times.setdefault("all", []).append(sum(steps[:4]))
        if i % 10 == 0:
            begin = time.perf_counter()
            reranker.score("Which torque do the casing cover bolts of the TWX 40 need?", real)
            times.setdefault("rerank", []).append(1000 * (time.perf_counter() - begin))
    for name, values in times.items():
        row.p50_ms[name] = statistics.median(values)
        row.p99_ms[name] = float(np.percentile(values, 99))


def _real_passages() -> list[Passage]:
    """Return as many passages of the sample manual as are reranked, of about 200 tokens each."""
    import pymupdf

    with pymupdf.open(SAMPLES / "pump_manual.pdf") as document:
        text = "\n".join(page.get_text() for page in document)
    begins = range(0, len(text), PASSAGE_CHARS)
    return [Passage("Manual", text[i : i + PASSAGE_CHARS]) for i in begins][:N_RERANK]


def _lexical(corpus: Corpus, n_chunks: int, folder: Path) -> LexicalIndex:
    index = LexicalIndex.create(folder, "bench")
    for begin in range(0, n_chunks, BATCH):
        ids = range(begin + 1, min(begin + BATCH, n_chunks) + 1)
        index.add([corpus.chunk(i) for i in ids], f"Report {begin // BATCH}")
        index.commit(begin)
    index.release()
    return index


def _rss_mb() -> float:
    return float(psutil.Process().memory_info().rss) / 1e6


def show(rows: Sequence[Row]) -> None:
    """Print the table and the JSON line."""
    names = list(rows[0].p50_ms)
    print("p50 / p99 in ms")
    print(f"{'chunks':>10}" + "".join(f"{name:>17}" for name in names))
    for row in rows:
        figures = (f"{row.p50_ms[name]:8.1f} /{row.p99_ms[name]:7.1f}" for name in names)
        print(f"{row.n_chunks:10,}" + "".join(f"{figure:>17}" for figure in figures))
    print(f"\n{'chunks':>10}{'build s: lexical':>18}{'dense':>8}{'(file)':>8}", end="")
    print(f"{'disk MB: lexical':>18}{'dense':>8}{'rss MB: lexical':>18}{'dense':>8}")
    for row in rows:
        print(
            f"{row.n_chunks:10,}{row.build_s['lexical']:18.1f}{row.build_s['dense']:8.1f}"
            f"{row.build_s['dense from file']:8.2f}{row.disk_mb['lexical']:18.1f}"
            f"{row.disk_mb['dense']:8.1f}{row.rss_mb['lexical']:18.1f}{row.rss_mb['dense']:8.1f}"
        )
    print(json.dumps([_as_dict(row) for row in rows]))


def _as_dict(row: Row) -> dict[str, Any]:
    return {name: getattr(row, name) for name in Row.__slots__}


def plot(rows: Sequence[Row], file: Path) -> None:
    """Draw p50 and p99 over the number of chunks, both axes logarithmic, as an SVG."""
    lines: dict[str, list[float]] = {}
    for name in ("lexical", "embed", "dense", "all"):
        lines[name] = [row.p50_ms[name] for row in rows]
    lines["all, p99"] = [row.p99_ms["all"] for row in rows]
    lines["rerank"] = [row.p50_ms["rerank"] for row in rows]
    drawn = line_plot(
        [math.log10(row.n_chunks) for row in rows],
        lines,
        title="Retrieval before reranking, p50",
        x_label="chunks, as a power of ten",
        y_label="ms",
    )
    file.write_text(drawn, encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="docqa.bench.retrieval", description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES), help="chunks")
    parser.add_argument("--million", action="store_true", help="also 1,000,000 chunks")
    parser.add_argument("--questions", type=int, default=500)
    parser.add_argument("--plot", type=Path, help="write a plot (SVG) to this file")
    options = parser.parse_args(arguments)
    rows = []
    for size in [*options.sizes, *([1_000_000] if options.million else [])]:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(measure(size, options.questions, Path(folder)))
    show(rows)
    if options.plot is not None:
        plot(rows, options.plot)


if __name__ == "__main__":
    main()
