"""Parsing speed: bare PyMuPDF, our parser in one process, our parser in the worker.

    python -m docqa.bench.parse PATH...

The three read the same files, in turns, so that a busy machine slows all of them alike; the best of
the rounds counts. Encrypted and broken files are left out.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

from docqa.errors import FileError
from docqa.parse import parse
from docqa.parse.worker import ParseWorker
from docqa.protocols import ParseOptions

ROUNDS = 3


def main() -> None:
    """Print pages per second of each way and their ratios."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("paths", nargs="+", type=Path)
    arguments.add_argument("--rounds", type=int, default=ROUNDS)
    chosen = arguments.parse_args()
    options = ParseOptions(ocr="never")
    with ParseWorker() as worker:
        files, n_pages = _readable(chosen.paths, options, worker)
        if not files:
            sys.exit("no readable PDF under these paths")
        ways: dict[str, Callable[[Path], object]] = {
            "bare PyMuPDF page.get_text()": _bare,
            "docqa, in one process": lambda path: sum(1 for _ in parse(path, options)),
            "docqa, in the worker": lambda path: sum(1 for _ in worker.parse(path, options)),
        }
        best = dict.fromkeys(ways, float("inf"))
        for _ in range(chosen.rounds):
            totals = dict.fromkeys(ways, 0.0)
            for path in files:
                for name, way in ways.items():
                    start = time.perf_counter()
                    way(path)
                    totals[name] += time.perf_counter() - start
            best = {name: min(best[name], totals[name]) for name in ways}
    bare, single, inside = best.values()
    print(f"{len(files)} files, {n_pages} pages, best of {chosen.rounds} rounds")
    for name, seconds in best.items():
        print(f"{name:32} {seconds:7.2f} s {n_pages / seconds:8.0f} pages/s")
    print(f"worker / one process   {single / inside:5.2f}   (must hold: >= 0.90)")
    print(f"worker / bare PyMuPDF  {bare / inside:5.2f}   (must hold: >= 0.25)")


def _readable(
    paths: list[Path], options: ParseOptions, worker: ParseWorker
) -> tuple[list[Path], int]:
    """Return the PDFs that can be read, and their pages; also warms the file cache."""
    found: list[Path] = []
    for path in paths:
        found += sorted(path.rglob("*.pdf")) if path.is_dir() else [path]
    files, n_pages = [], 0
    for path in found:
        try:
            last = None
            for last in worker.parse(path, options):  # noqa: B007
                pass
        except FileError as error:
            print(f"left out: {error}", file=sys.stderr)
            continue
        files.append(path)
        n_pages += getattr(last, "n_pages", 0) or 0
    return files, n_pages


def _bare(path: Path) -> int:
    import pymupdf

    pymupdf.TOOLS.mupdf_display_errors(False)
    pymupdf.TOOLS.mupdf_display_warnings(False)
    with pymupdf.open(path) as document:
        return sum(len(page.get_text()) for page in document)


if __name__ == "__main__":
    main()
