"""Usable at size: many real pages and a log of gigabytes, from adding to an answer's first word.

    python -m docqa.bench.size DIR [--pages 1000] [--log-gb 2]

Takes PDFs of DIR until there are so many pages (0: the log alone), and a synthetic service log of
so many bytes. They are added to a new library in a process of its own, as `docqa add` does it; then
questions are asked from the command line, each in a new process. Reported:

- words: when the last file is committed, so that its words are found; PDFs and the log apart
- vectors: when every passage has its vector; passages that are embedded once a log template
- memory: the most that the process, and the parse worker beside it, held at a time
- first word: from the start of `docqa ask` to the first byte of the answer, with the model to load
  (where no engine was running) and with the engine warm; the same for `docqa search`, and for a
  count in the log
"""

from __future__ import annotations

import argparse
import multiprocessing
import multiprocessing.connection
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

from docqa.bench.log import write_log
from docqa.config import Config, LibraryConfig
from docqa.events import EmbedProgress, FileDone
from docqa.process_memory import own_bytes

SAMPLE_S = 0.2
MB = 1024 * 1024

Row = tuple[str, str]


def main() -> None:
    """Run and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("pdfs", type=Path, help="folder of PDFs")
    parser.add_argument("--pages", type=int, default=1000)
    parser.add_argument("--log-gb", type=float, default=2.0)
    parser.add_argument("--ask", default="Why did the request fail?", help="a question")
    parser.add_argument("--count", default="How many ERROR lines are there?")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="docqa-size-") as folder:
        log = Path(folder) / "service.log"
        write_log(log, "service", int(arguments.log_gb * 1e9))
        pdfs, n_pages = _pdfs(arguments.pdfs, arguments.pages)
        library = Path(folder) / "library"
        print(f"{len(pdfs)} PDFs of {n_pages} pages; a log of {log.stat().st_size / 1e9:.2f} GB")
        _table(_added(library, [*pdfs, log]))
        _table(_asked(library, arguments.ask, arguments.count))


def _pdfs(folder: Path, n_wanted: int) -> tuple[list[Path], int]:
    """Return PDFs with at least `n_wanted` pages together, where the folder has them."""
    import pymupdf

    found, n_pages = [], 0
    for path in sorted(folder.rglob("*.pdf")):
        if n_pages >= n_wanted:
            break
        with pymupdf.open(path) as document:
            n_pages += document.page_count
        found.append(path)
    return found, n_pages


def _added(library: Path, paths: Sequence[Path]) -> list[Row]:
    """Add `paths` in a process of its own and return what that cost."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_add, args=(theirs, library, list(paths)))
    process.start()
    with _watched(process.pid or 0) as peak:
        rows: list[Row] = ours.recv()
        process.join()
    rows += [
        ("most memory, the process", f"{peak['process'] / MB:,.0f} MB"),
        ("the same, mapped files left out", f"{peak['own'] / MB:,.0f} MB"),
        ("most memory, its parse worker", f"{peak['worker'] / MB:,.0f} MB"),
    ]
    return rows


def _add(pipe: multiprocessing.connection.Connection, library: Path, paths: list[Path]) -> None:
    from docqa.wiring import build

    began = time.perf_counter()
    last: dict[str, float] = {}
    n_vectors = 0
    with build(Config(library=LibraryConfig(library))) as workspace:
        for event in workspace.sync(paths):
            if isinstance(event, FileDone):
                last[Path(event.report.path).suffix] = time.perf_counter() - began
            elif isinstance(event, EmbedProgress):
                n_vectors = max(n_vectors, event.n_total)
        whole_s = time.perf_counter() - began
        n_chunks = workspace.library.store.count_chunks()
    n_bytes = sum(file.stat().st_size for file in library.rglob("*") if file.is_file())
    what = {".pdf": "every PDF", ".log": "the log"}
    pipe.send(
        [
            *((f"words of {what[kind]} found after", f"{s:,.0f} s") for kind, s in last.items()),
            ("everything with vectors after", f"{whole_s:,.0f} s"),
            ("chunks", f"{n_chunks:,}"),
            ("passages embedded", f"{n_vectors:,}"),
            ("library on disk", f"{n_bytes / 1e9:.2f} GB"),
        ]
    )


@contextmanager
def _watched(pid: int) -> Iterator[dict[str, int]]:
    """Yield the most memory (RSS, bytes) of a process and of all its children together.

    `own`: what no file backs.
    """
    peak = {"process": 0, "own": 0, "worker": 0}
    is_over = threading.Event()

    def sample() -> None:
        while not is_over.wait(SAMPLE_S):
            try:
                process = psutil.Process(pid)
                peak["process"] = max(peak["process"], process.memory_info().rss)
                peak["own"] = max(peak["own"], own_bytes(process))
                children = sum(c.memory_info().rss for c in process.children(recursive=True))
                peak["worker"] = max(peak["worker"], children)
            except psutil.Error:
                continue  # it ended between two looks

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        is_over.set()
        thread.join()


def _asked(library: Path, question: str, count: str) -> list[Row]:
    commands = {
        "search, new process": ["search", question],
        "ask, model to load: first word": ["ask", question],
        "ask, engine warm: first word": ["ask", question + " Say where."],
        "ask, no model: first word": ["ask", question, "--model", "none"],
        "exact count over the log": ["ask", count],
    }
    rows = []
    for name, command in commands.items():
        rows.append((name, f"{_first_byte_s([*command, '--library', str(library)]):.1f} s"))
    return rows


def _first_byte_s(command: Sequence[str]) -> float:
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "docqa", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout is not None
    process.stdout.read(1)
    took_s = time.perf_counter() - began
    process.stdout.read()
    process.wait()
    return took_s


def _table(rows: Sequence[Row]) -> None:
    for name, value in rows:
        print(f"{name:<34}{value:>14}", flush=True)


if __name__ == "__main__":
    main()
