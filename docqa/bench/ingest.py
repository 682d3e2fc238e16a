"""How well ingest overlaps: the whole against its slower part, side by side in one run.

    python -m docqa.bench.ingest [PATH…] [--words-only]

Three runs over the same files, each in a library of its own: parsing, storing and the lexical index
without vectors; embedding alone, of what the first run left pending; and everything together. The
bar is whole ≥ 0.85 × the slower of the two. Rates are of this machine and its load; the ratio is
what counts. Processor seconds are those of this process and of the parse worker: where embedding
alone keeps every core busy, nothing can run beside it for free, and they tell how much is left.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from docqa.config import Config, LibraryConfig
from docqa.library import Library
from docqa.wiring import build

BAR = 0.85
SAMPLES = Path(__file__).parents[2] / "sample_docs"


@dataclass(frozen=True, slots=True)
class _Cost:
    wall_s: float
    cpu_s: float


def main() -> None:
    """Run the comparison and print it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("paths", nargs="*", type=Path, default=[SAMPLES])
    parser.add_argument("--words-only", action="store_true", help="parse, store and index only")
    arguments = parser.parse_args()
    print(f"{'run':<28}{'seconds':>9}{'cpu s':>8}{'chunks/s':>10}{'passages/s':>12}{'MB/s':>8}")
    with _library() as library:
        library.embedder.embed_documents(["warm up"])
        alone = _cost(lambda: _sync(library, arguments.paths, with_vectors=False))
        n_chunks, n_passages = library.store.count_chunks(), library.store.vectors.n_pending()
        n_bytes = sum(document.n_bytes for document in library.store.documents())
        _row("parse, store, words", alone, n_chunks, None, n_bytes)
        if arguments.words_only:
            print(f"peak memory of this process: {_peak_mb():.0f} MB")
            return
        embed = _cost(lambda: _drain(library))
        _row("embed alone", embed, None, n_passages, None)
    with _library() as library:
        library.embedder.embed_documents(["warm up"])
        whole = _cost(lambda: _sync(library, arguments.paths, with_vectors=True))
        _row("everything together", whole, n_chunks, n_passages, n_bytes)
    slower_s = max(alone.wall_s, embed.wall_s)
    print(f"whole = {slower_s / whole.wall_s:.2f} x the slower of the two (bar {BAR})")
    print(f"one after the other it would be {slower_s / (alone.wall_s + embed.wall_s):.2f}")
    n_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    least_s = max(slower_s, (alone.cpu_s + embed.cpu_s) / (n_cores or 1))
    print(f"with all {n_cores} cores busy all the time it would be {slower_s / least_s:.2f}")
    print(f"peak memory of this process: {_peak_mb():.0f} MB")


def _cost(do: Callable[[], None]) -> _Cost:
    began, before = time.perf_counter(), _cpu_s()
    do()
    return _Cost(time.perf_counter() - began, _cpu_s() - before)


def _cpu_s() -> float:
    """Return the processor seconds of this process and of those that it has waited for."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


@contextmanager
def _library() -> Iterator[Library]:
    folder = Path(tempfile.mkdtemp(prefix="docqa-bench-"))
    try:
        with build(Config(library=LibraryConfig(folder))) as workspace:
            yield workspace.library
    finally:
        shutil.rmtree(folder)


def _sync(library: Library, paths: list[Path], *, with_vectors: bool) -> None:
    for _ in library.sync(paths, with_vectors=with_vectors):
        pass


def _drain(library: Library) -> None:
    """Embed all that is pending, with nothing beside it."""
    for _ in library.sync([]):
        pass


def _row(
    name: str, cost: _Cost, n_chunks: int | None, n_passages: int | None, n_bytes: int | None
) -> None:
    cells = [
        f"{n_chunks / cost.wall_s:.1f}" if n_chunks else "",
        f"{n_passages / cost.wall_s:.1f}" if n_passages else "",
        f"{n_bytes / cost.wall_s / 1e6:.2f}" if n_bytes else "",
    ]
    print(
        f"{name:<28}{cost.wall_s:>9.2f}{cost.cpu_s:>8.2f}{cells[0]:>10}{cells[1]:>12}{cells[2]:>8}"
    )


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
