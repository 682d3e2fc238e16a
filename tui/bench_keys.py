"""Measures key to paint in a real terminal: `python -m tui.bench_keys [--pages N] [--keys N]`.

The app runs in a pseudo-terminal of its own. A key is written to it, and the clock stops when its
effect has been painted: a letter of the question line, or the line that a scroll brings into sight.

    typing          nothing else going on: the machine itself
    indexing        while it indexes a PDF of N pages
    asking          while it answers one question after another with the default model
    loaded          while it does both
    log             a page down in a log of 200,000 lines
    book            a page down in the extracted text of 2,000 pages
    pages           the next page of a PDF of 2,000, to its image

Printed: p50, p99 and the largest, in milliseconds; the longest stretch that the UI's thread
computed without a look at the keys, in milliseconds of processor time, and how many took over 20;
the memory of the app's process, and with its children (the engine's, where it is not shared, and
those that read files and draw pages); the machine's load before. On a busy machine the times to
paint are of that machine's queue: compare the rows, and the stretches.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import pty
import select
import statistics
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from tui.bench_stretches import Stretches, read_stretches

ROWS, COLUMNS = 40, 160
GAP_S = 0.12  # between keys: a fast typist
LETTERS = [chr(code) for code in range(0x16A0, 0x16EB)]  # runes: nothing else paints them
N_LOG_LINES, N_BOOK_PAGES = 200_000, 2_000
TYPING = ("typing", "indexing", "asking", "loaded")
PHASES = (*TYPING, "log", "book", "pages")
READY, STRETCHES = "ready", "stretches"
COUNT_S = 1.0  # so often the app writes down its stretches
START_S = 180
QUESTIONS = (
    "Which torque do the casing cover bolts need?",
    "How often is the oil of the bearings changed?",
    "What is to be done before the pump is started for the first time?",
    "Which spare parts are to be kept for two years?",
    "How is the pump stored for a long time?",
)


class Terminal:
    """A child in a pseudo-terminal; remembers what it painted."""

    def __init__(self, arguments: list[str]) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        environment = {**os.environ, "TERM": "xterm-256color"}
        self.process = subprocess.Popen(
            arguments, stdin=slave, stdout=slave, stderr=slave, env=environment
        )
        os.close(slave)

    def write(self, text: str) -> None:
        """Send keys."""
        os.write(self._master, text.encode())

    def wait_for(self, is_there: Callable[[bytes], bool], timeout_s: float) -> float | None:
        """Return the seconds until what was painted since now satisfies; None: never."""
        begun = time.perf_counter()
        seen = b""
        while (left := timeout_s - (time.perf_counter() - begun)) > 0:
            if select.select([self._master], [], [], left)[0]:
                seen = seen[-4096:] + self._read(seen)
                if is_there(seen):
                    return time.perf_counter() - begun
        return None

    def _read(self, seen: bytes) -> bytes:
        try:
            return os.read(self._master, 65_536)
        except OSError as error:  # the child has gone
            raise ChildProcessError(f"the app ended: {seen.decode(errors='replace')}") from error

    def drain(self, for_s: float) -> None:
        """Read away what is painted during `for_s`."""
        self.wait_for(lambda _: False, for_s)

    def close(self) -> None:
        """End the child."""
        self.process.kill()
        self.process.wait()
        os.close(self._master)


def measure(
    phase: str, n_keys: int, n_pages: int, folder: Path
) -> tuple[list[float], tuple[float, int], tuple[int, int]]:
    """Return the seconds of each key, the stretches, and the resident bytes at the end.

    Stretches: the longest in seconds, the number of long ones. Bytes: the app's, and with children.

    Raises:
        TimeoutError: the app did not start, or did not paint.
    """
    import psutil

    arguments = [sys.executable, "-m", "tui.bench_keys", "--child", phase, "--folder", str(folder)]
    terminal = Terminal([*arguments, "--pages", str(n_pages)])
    try:
        ready = folder / f"{READY}-{phase}"
        for _ in range(START_S):
            terminal.drain(1)
            if ready.exists():
                break
        else:
            raise TimeoutError(f"{phase}: the app did not start")
        terminal.drain(2)
        found = []
        for number in range(n_keys):
            taken = _one_key(terminal, phase, number)
            if taken is None:
                raise TimeoutError(f"{phase}: key {number} was never painted")
            found.append(taken)
            terminal.drain(GAP_S)
        app = psutil.Process(terminal.process.pid)
        own = app.memory_info().rss
        together = own + sum(c.memory_info().rss for c in app.children(recursive=True))
        terminal.drain(2 * COUNT_S)
        return found, read_stretches(folder / f"{STRETCHES}-{phase}"), (own, together)
    finally:
        terminal.close()


def _one_key(terminal: Terminal, phase: str, number: int) -> float | None:
    if phase in TYPING:
        letter = LETTERS[number % len(LETTERS)]
        terminal.write(letter)
        return terminal.wait_for(lambda seen: letter.encode() in seen, 20)
    if phase == "pages":
        terminal.write(".")
        note = f"page {number + 2} of".encode()
        return terminal.wait_for(lambda seen: note in seen, 20)
    terminal.write("\x1b[6~")  # page down
    return terminal.wait_for(lambda seen: b"\x1b[" in seen and len(seen) > 500, 20)


def _child(phase: str, folder: Path, n_pages: int) -> None:
    from textual.widgets import TabbedContent

    from docqa.config import Config, LibraryConfig
    from docqa.types import Kind
    from docqa.wiring import build
    from tui.app import DocqaApp
    from tui.evidence import whole_document
    from tui.line_view import LineView
    from tui.lines import FileLines, TextLines
    from tui.messages import PlaceChosen
    from tui.welcome import sample_paths

    stretches = Stretches()

    class BenchApp(DocqaApp):
        def on_ready(self) -> None:
            self.set_timer(1, self._start)

        def _start(self) -> None:
            lines = self.main.query_one(LineView)
            if phase in ("indexing", "loaded"):
                self.indexing.add([_book(folder, n_pages)])
            if phase in ("asking", "loaded"):
                self.set_interval(0.5, self._keep_asking)
            if phase == "pages":
                place = whole_document(str(_book(folder, N_BOOK_PAGES)), Kind.PDF)
                self.main.post_message(PlaceChosen(place))
                self.set_timer(1, self._show_page)
            elif phase not in TYPING:
                self.main.query_one(TabbedContent).active = "tab-lines"
                source = FileLines(_log(folder)) if phase == "log" else TextLines(_text())
                lines.show(source, range(0))
                lines.focus()
            (folder / f"{READY}-{phase}").touch()
            stretches.forget()
            self.set_interval(COUNT_S, lambda: stretches.write(folder / f"{STRETCHES}-{phase}"))

        def _show_page(self) -> None:
            self.main.query_one(TabbedContent).active = "tab-page"
            self.main.query_one("#page-image").focus()

        def _keep_asking(self) -> None:
            if not self.answering.is_running:
                self.answering.ask(QUESTIONS[len(self.main.turns) % len(QUESTIONS)])

    config = Config(library=LibraryConfig(folder / f"library-{phase}"))
    with build(config, reads_elsewhere=True) as workspace:
        if phase in ("asking", "loaded"):
            for _ in workspace.sync(sample_paths()):
                pass
        stretches.begin()
        BenchApp(workspace).run()


def _book(folder: Path, n_pages: int) -> Path:
    """Return a PDF of `n_pages`; made where it is not there."""
    path = folder / f"book{n_pages}.pdf"
    if not path.exists():  # in the process that measures: importing this holds up a UI for 50 ms
        from reportlab.pdfgen.canvas import Canvas  # type: ignore[import-untyped]

        canvas = Canvas(str(path))
        for page in range(n_pages):
            for row in range(40):
                text = f"Part {page}, sentence {row}: the pressure rises by {page * row} mbar."
                canvas.drawString(50, 800 - 18 * row, text)
            canvas.showPage()
        canvas.save()
    return path


def _log(folder: Path) -> Path:
    path = folder / "big.log"
    if not path.exists():
        with path.open("w", encoding="utf-8") as file:
            for number in range(N_LOG_LINES):
                level = "ERROR" if number % 97 == 0 else "INFO"
                file.write(f"2026-03-11T14:22:51.219Z {level} [worker] step {number} done\n")
    return path


def _text() -> str:
    page = "\n".join(f"Sentence {row} of a page with words enough." for row in range(40))
    return "\n".join([page] * N_BOOK_PAGES)


def main() -> None:
    """Print a row a phase."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pages", type=int, default=1000)
    parser.add_argument("--keys", type=int, default=200)
    parser.add_argument("--phase", action="append", choices=PHASES)
    parser.add_argument("--child", choices=PHASES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        _child(arguments.child, arguments.folder, arguments.pages)
        return
    names = f"{'p50 ms':>8} {'p99 ms':>8} {'max ms':>8} {'UI ms':>6} {'>20':>4}"
    names += f" {'MB':>6} {'all MB':>6} {'load':>5}"
    sys.stdout.write(f"{'phase':<10} {names}\n")
    with TemporaryDirectory(prefix="docqa-bench-") as folder:
        _book(Path(folder), arguments.pages)
        _book(Path(folder), N_BOOK_PAGES)
        for phase in arguments.phase or PHASES:
            load = os.getloadavg()[0]
            measured = measure(phase, arguments.keys, arguments.pages, Path(folder))
            taken, (longest_s, n_long), (own, together) = measured
            p50, p99 = statistics.median(taken), statistics.quantiles(taken, n=100)[-1]
            row = f"{p50 * 1e3:>8.1f} {p99 * 1e3:>8.1f} {max(taken) * 1e3:>8.1f}"
            row += f" {longest_s * 1e3:>6.1f} {n_long:>4}"
            memory = f"{own / 1e6:>6.0f} {together / 1e6:>6.0f}"
            sys.stdout.write(f"{phase:<10} {row} {memory} {load:>5.1f}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
