"""What watching costs, and how soon a change is found. Times are of this machine and its load.

    python -m docqa.bench.watch burst [--files 200000]    many files at once: memory, files missed
    python -m docqa.bench.watch latency [--files 10000]   a file closed → its words searchable
    python -m docqa.bench.watch idle [--files 100000]     share of a core while nothing happens
    python -m docqa.bench.watch search [--files 10000]    p99 of searches, idle and while indexing

Words only: vectors follow in their own time and cost what `docqa.bench.embed` says. In `search`,
`docqa watch` runs as a process of its own, vectors and all, and this one asks until every file is
indexed: minutes on a CPU.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psutil

from docqa.config import Config, LibraryConfig
from docqa.discover import stamp
from docqa.ingest import PARSER_VERSION
from docqa.intake import Intake
from docqa.library import Library
from docqa.store import Store
from docqa.sweep import Retry, make_plan
from docqa.types import BlockKind, Chunk, DocumentInfo, Kind, Locator, Span, State
from docqa.watch import Pace
from docqa.wiring import build

FILES = {"burst": 200_000, "latency": 10_000, "idle": 100_000, "search": 10_000}
PER_FOLDER = 1_000
WORDS = ("pump", "valve", "motor", "seal", "bearing", "filter", "tank", "pressure", "oil", "belt")
IDLE_S = 60.0
N_CHANGES = 30
N_SEARCHES = 400
N_BETWEEN = 50  # searches between looks at whether all is indexed, which are not timed
ROW_S = 60.0  # between lines of a long wait


def main() -> None:
    """Run one measurement and print it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("what", choices=sorted(FILES))
    parser.add_argument("--files", type=int)
    arguments = parser.parse_args()
    n = arguments.files or FILES[arguments.what]
    folder = Path(tempfile.mkdtemp(prefix="docqa-bench-"))
    try:
        with build(Config(library=LibraryConfig(folder / "library"))) as workspace:
            (folder / "docs").mkdir()
            _MEASUREMENTS[arguments.what](workspace.library, folder / "docs", n)
    finally:
        shutil.rmtree(folder)


def burst(library: Library, docs: Path, n: int) -> None:
    """Write `n` files from four threads into a watched folder."""
    with _watching(library, docs):
        began = time.perf_counter()
        threads = [
            threading.Thread(target=_write_files, args=(docs, range(k, n, 4))) for k in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        wrote_s = time.perf_counter() - began
        peak = _until(lambda: _has(library, n), n)
        took_s = time.perf_counter() - began
    found = {document.path for document in library.store.documents()}
    missed = sum(str(path) not in found for path in docs.rglob("*.txt"))
    print(f"{n} files written in {wrote_s:.0f} s, indexed {took_s:.0f} s after the first")
    print(f"{n / took_s:.0f} files/s, {missed} missed, peak memory {peak / 1e6:.0f} MB")


def _has(library: Library, n: int) -> bool:
    """Whether `n` files are indexed; counting chunks is dear, and asked only near the end."""
    return library.store.last_seq() >= n and library.store.count_chunks() >= n


def latency(library: Library, docs: Path, n: int) -> None:
    """Change files of a folder that holds `n`, and wait until the words are found."""
    _fill(library, docs, n, per_folder=n)
    waits = []
    with _watching(library, docs):
        _until(lambda: library.lexical.count() >= n, n)
        time.sleep(3)
        for i in range(N_CHANGES):
            path = docs / "d0" / f"{i * (n // N_CHANGES)}.txt"
            word = f"novelty{i}x"
            path.write_text(f"Something of interest: {word}.\n")
            began = time.perf_counter()
            while not library.lexical.search(word, 1):
                time.sleep(0.02)
            waits.append(time.perf_counter() - began)
            time.sleep(0.5)
    print(f"{n} files in one folder, {N_CHANGES} changes: searchable after the file is closed")
    print(f"p50 {statistics.median(waits):.2f} s, worst {max(waits):.2f} s (bar 2 s)")


def idle(library: Library, docs: Path, n: int) -> None:
    """Watch `n` unchanged files and do nothing."""
    fill_rows(library.store, docs, n)
    before, wall = time.process_time(), time.perf_counter()
    plan = make_plan(library.store, [docs], Retry(PARSER_VERSION), changes_only=True)
    sweep_s = time.process_time() - before
    every_s = max(Pace().sweep_s, (time.perf_counter() - wall) / Pace().sweep_share)
    assert not plan.to_read
    with _watching(library, docs):
        time.sleep(10 + 5 * sweep_s)
        before, wall = time.process_time(), time.perf_counter()
        time.sleep(IDLE_S)
        share = (time.process_time() - before) / (time.perf_counter() - wall)
        memory = psutil.Process().memory_info().rss
    print(f"{n} files, nothing changes: {100 * share:.2f} % of a core between sweeps")
    swept = 100 * sweep_s / every_s
    print(f"a sweep: {sweep_s:.1f} s of a core; every {every_s:.0f} s that is {swept:.2f} %")
    total = 100 * share + swept
    print(f"together {total:.2f} % (bar 1 %), memory {memory / 1e6:.0f} MB")


def search(library: Library, docs: Path, n: int) -> None:
    """Time searches of another process, idle and while `n` files are indexed."""
    _fill(library, docs, n)
    print(f"{library.lexical.count()} chunks to search in")
    quiet = _searches(library)
    for k in range(n):
        path = docs / f"new{k // PER_FOLDER}" / f"{k}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text(_text(n + k))
    with _watching_process(library, docs):
        _until(lambda: library.store.count_chunks() > n + 50, n)
        began = time.perf_counter()
        busy = _searches(library, lambda: _is_complete(library, 2 * n), 60 + n / 5)
        took_s = time.perf_counter() - began
        n_done, n_pending = library.store.count_chunks() - n, library.store.vectors.n_pending()
    after = _searches(library)
    print(
        f"{n_done} of {n} files indexed in {took_s:.0f} s of searches, {n_pending} without vectors"
    )
    for name, times in (("idle", quiet), ("indexing", busy), ("idle after", after)):
        p50, p99 = statistics.median(times), _p99(times)
        print(f"{name:<10} p50 {p50:.1f} ms, p99 {p99:.1f} ms, {len(times)} searches")
    print(f"p99 {_p99(busy) / _p99(quiet):.2f} x idle (bar 2)")


def _is_complete(library: Library, n: int) -> bool:
    """Whether `n` files are indexed, with vectors."""
    return library.store.count_chunks() >= n and not library.store.vectors.n_pending()


_MEASUREMENTS: dict[str, Callable[[Library, Path, int], None]] = {
    "burst": burst,
    "latency": latency,
    "idle": idle,
    "search": search,
}


@contextmanager
def _watching(library: Library, docs: Path) -> Iterator[None]:
    """Watch a folder from a thread, words only."""
    stop = threading.Event()
    library.set_watched(docs, True)

    def run() -> None:
        for _ in library.watch(stop, [docs], with_vectors=False):
            pass

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        time.sleep(1)  # for the watches to be set
        yield
    finally:
        stop.set()
        thread.join()


@contextmanager
def _watching_process(library: Library, docs: Path) -> Iterator[None]:
    """Watch a folder as `docqa watch` does: a process of its own, at low priority."""
    command = [sys.executable, "-m", "docqa", "watch", str(docs), "--quiet"]
    command += ["--library", str(library.paths.root)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def _fill(library: Library, docs: Path, n: int, per_folder: int = PER_FOLDER) -> None:
    """Write `n` old files and put them into the library without parsing them."""
    for i in range(n):
        path = docs / f"d{i // per_folder}" / f"{i}.txt"
        path.parent.mkdir(exist_ok=True)
        text = _text(i)
        path.write_text(text)
        os.utime(path, (1e9, 1e9))
        seen = replace(stamp(str(path)), sha256=hashlib.sha256(text.encode()).digest())
        span = Span(0, 0, len(text), Locator("line", 1, 1))
        with library.store.lock.held(60), Intake(library.store, seen, PARSER_VERSION) as intake:
            intake.add(Chunk(0, span, 0, text, text, BlockKind.PARAGRAPH))
            intake.publish(DocumentInfo(Kind.TEXT, path.name, n_lines=1), State.INDEXED)


def fill_rows(store: Store, docs: Path, n: int) -> None:
    """Write `n` old files and the rows that say they are known: all that a sweep compares."""
    with store.db.write() as connection:
        for i in range(n):
            path = docs / f"d{i // PER_FOLDER}" / f"{i}.txt"
            path.parent.mkdir(exist_ok=True)
            path.write_text(_text(i))
            os.utime(path, (1e9, 1e9))
            seen = stamp(str(path))
            connection.execute(
                "INSERT INTO documents (path, life, sha256, n_bytes, mtime_ns, inode, device, "
                "checked_ns, parser, kind, title, state) "
                "VALUES (?, 1, ?, ?, ?, ?, ?, ?, ?, 'text', '', 'indexed')",
                (
                    os.fsencode(path),
                    hashlib.sha256(_text(i).encode()).digest(),
                    *(seen.n_bytes, seen.mtime_ns, seen.inode, seen.device, seen.checked_ns),
                    PARSER_VERSION,
                ),
            )


def _write_files(docs: Path, numbers: range) -> None:
    for i in numbers:
        path = docs / f"d{i // PER_FOLDER}" / f"{i}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text(_text(i))


def _text(i: int) -> str:
    """Return a text of its own for each number."""
    words = [WORDS[i // len(WORDS) ** k % len(WORDS)] for k in range(4)]
    return f"Note {i}: the {' '.join(words)} was looked at after {i % 97} hours.\n"


def _until(is_so: Callable[[], bool], n: int) -> int:
    """Wait; return the greatest memory of this process in the meantime, in bytes."""
    process, peak = psutil.Process(), 0
    began = told = time.monotonic()
    while not is_so() and time.monotonic() < began + 60 + n / 5:
        resident = process.memory_info().rss
        peak = max(peak, resident)
        if time.monotonic() - told >= ROW_S:
            told = time.monotonic()
            print(f"after {told - began:.0f} s {resident / 1e6:.0f} MB", flush=True)
        time.sleep(0.2)
    return peak


def _searches(
    library: Library, is_done: Callable[[], bool] = lambda: True, most_s: float = 60.0
) -> list[float]:
    """Return the milliseconds of N_SEARCHES searches, or of more: until `is_done` or `most_s`."""
    times: list[float] = []
    until = time.monotonic() + most_s
    while len(times) < N_SEARCHES or not (is_done() or time.monotonic() > until):
        for _ in range(N_BETWEEN):
            query = _text(len(times) * 7)
            began = time.perf_counter()
            hits = library.lexical.search(query, 20)
            library.store.load([hit.chunk_id for hit in hits])
            times.append(1000 * (time.perf_counter() - began))
            time.sleep(0.02)
    return times


def _p99(times: list[float]) -> float:
    return sorted(times)[int(0.99 * len(times))]


if __name__ == "__main__":
    main()
