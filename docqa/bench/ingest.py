"""How well ingest overlaps: the whole against its slower part, side by side in one run.

    python -m docqa.bench.ingest [PATH…] [--words-only]

Three runs over the same files, each in a library of its own: parsing, storing and the lexical index
without vectors; embedding alone, of what the first run left pending; and everything together. The
bar is whole ≥ 0.85 × the slower of the two. Rates are of this machine and its load; the ratio is
what counts.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from docqa.config import Config, LibraryConfig
from docqa.library import Library
from docqa.wiring import build

BAR = 0.85
SAMPLES = Path(__file__).parents[2] / "sample_docs"


def main() -> None:
    """Run the comparison and print it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("paths", nargs="*", type=Path, default=[SAMPLES])
    parser.add_argument("--words-only", action="store_true", help="parse, store and index only")
    arguments = parser.parse_args()
    print(f"{'run':<28}{'seconds':>9}{'chunks/s':>10}{'passages/s':>12}{'MB/s':>8}")
    with _library() as library:
        library.embedder.embed_documents(["warm up"])
        parse_s = _sync(library, arguments.paths, with_vectors=False)
        n_chunks, n_passages = library.store.count_chunks(), library.store.vectors.n_pending()
        n_bytes = sum(document.n_bytes for document in library.store.documents())
        _row("parse, store, words", parse_s, n_chunks, None, n_bytes)
        if arguments.words_only:
            print(f"peak memory of this process: {_peak_mb():.0f} MB")
            return
        started = time.perf_counter()
        _drain(library)
        embed_s = time.perf_counter() - started
        _row("embed alone", embed_s, None, n_passages, None)
    with _library() as library:
        library.embedder.embed_documents(["warm up"])
        whole_s = _sync(library, arguments.paths, with_vectors=True)
        _row("everything together", whole_s, n_chunks, n_passages, n_bytes)
    ratio = max(parse_s, embed_s) / whole_s
    print(f"whole = {ratio:.2f} x the slower of the two (bar {BAR})")
    print(f"one after the other it would be {max(parse_s, embed_s) / (parse_s + embed_s):.2f}")
    print(f"peak memory of this process: {_peak_mb():.0f} MB")


@contextmanager
def _library() -> Iterator[Library]:
    folder = Path(tempfile.mkdtemp(prefix="docqa-bench-"))
    try:
        with build(Config(library=LibraryConfig(folder))) as workspace:
            yield workspace.library
    finally:
        shutil.rmtree(folder)


def _sync(library: Library, paths: list[Path], *, with_vectors: bool) -> float:
    started = time.perf_counter()
    for _ in library.sync(paths, with_vectors=with_vectors):
        pass
    return time.perf_counter() - started


def _drain(library: Library) -> None:
    """Embed all that is pending, with nothing beside it."""
    for _ in library.sync([]):
        pass


def _row(
    name: str, took_s: float, n_chunks: int | None, n_passages: int | None, n_bytes: int | None
) -> None:
    cells = [
        f"{n_chunks / took_s:.1f}" if n_chunks else "",
        f"{n_passages / took_s:.1f}" if n_passages else "",
        f"{n_bytes / took_s / 1e6:.2f}" if n_bytes else "",
    ]
    print(f"{name:<28}{took_s:>9.2f}{cells[0]:>10}{cells[1]:>12}{cells[2]:>8}")


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
