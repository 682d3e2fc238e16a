"""The parse worker: a process of its own, in which every file is parsed.

A hostile or broken file may hang, exhaust memory or crash the library that reads it; it must not
take the user's screen along. `ParseWorker` (in the parent) starts the process, holds its wall
clock, and yields what it sends; serve.py (in the child) caps its memory, parses, chunks and sends.

Wire: frames of a 4-byte little-endian length and msgpack, both ways; the parent decodes into typed
records and never unpickles. The pipe is the only queue, so a 2 GB log waits in its file and not in
memory: the child blocks until the parent asks for more.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import struct
import subprocess
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, overload

import msgspec

from docqa.child import python_command, signal_name
from docqa.config import ParseConfig
from docqa.errors import FileError, PasswordNeeded, UnreadableFile, UnsupportedFile
from docqa.parse.wire import (
    MAX_FRAME_BYTES,
    Blocks,
    Chunks,
    Done,
    Failed,
    Infos,
    Message,
    Pages,
    Request,
)
from docqa.protocols import ParseOptions
from docqa.types import ChunkItem, LogTail, ParseItem

if TYPE_CHECKING:
    from docqa.chunk import ChunkOptions

MAX_FILES = 200  # then a fresh process: MuPDF and Tesseract leak a little
MAX_GROWTH_BYTES = 300_000_000
_PAGE_S = 0.2  # of the total time of a file, for each page
_PIPE_BYTES = 1 << 20
_ERRORS: dict[str, type[FileError]] = {
    kind.__name__: kind for kind in (FileError, UnsupportedFile, UnreadableFile, PasswordNeeded)
}


class ParseWorker:
    """A parse process that is used for many files and replaced when it dies, hangs or grows.

    Not thread-safe: one file at a time. `n_started` counts processes, for tests and `doctor`.
    """

    def __init__(self, limits: ParseConfig | None = None) -> None:
        self._limits = limits or ParseConfig()
        self._process: subprocess.Popen[bytes] | None = None
        self._decoder = msgspec.msgpack.Decoder(Message)
        self._n_files = 0
        self._rss_first = 0
        self.n_started = 0

    def __enter__(self) -> ParseWorker:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def pid(self) -> int | None:
        """The process that is running, if one is."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start the process now, so that the first file does not wait for it."""
        self._ready()

    def close(self) -> None:
        """End the process. The next `parse` starts a new one."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe:
                with contextlib.suppress(OSError):
                    pipe.close()

    @overload
    def parse(
        self,
        path: Path,
        options: ParseOptions,
        *,
        chunking: ChunkOptions,
        tail: LogTail | None = None,
    ) -> Iterator[ChunkItem]: ...

    @overload
    def parse(self, path: Path, options: ParseOptions) -> Iterator[ParseItem]: ...

    def parse(
        self,
        path: Path,
        options: ParseOptions,
        *,
        chunking: ChunkOptions | None = None,
        tail: LogTail | None = None,
    ) -> Iterator[ChunkItem] | Iterator[ParseItem]:
        """Yield the items of a file: chunks where `chunking` is given, else blocks.

        With `tail`, of a log: only what follows what was read before (docqa/chunk_log.py).

        An iterator that is left half-way ends the process.

        Raises:
            FileError: what the parser said; UnreadableFile where the process died, ran out of
                memory or of time. Items yielded before stay valid.
        """
        request = Request(
            os.fsencode(path),
            options,
            msgspec.msgpack.encode(chunking) if chunking is not None else b"",
            tail,
        )
        return self._run(path, msgspec.msgpack.encode(request))  # type: ignore[return-value]

    def _run(self, path: Path, request: bytes) -> Generator[ParseItem | ChunkItem, None, None]:
        process = self._ready()
        is_over = False
        try:
            yield from self._receive(process, path, request)
            is_over = True
        except _Reported as report:
            is_over = True
            raise report.error from None
        except _Died as death:
            raise UnreadableFile(path, death.reason) from None
        finally:
            if not is_over:
                self.close()

    def _receive(
        self, process: subprocess.Popen[bytes], path: Path, request: bytes
    ) -> Iterator[ParseItem | ChunkItem]:
        assert process.stdin and process.stdout
        clock = _Clock(self._limits)
        try:
            process.stdin.write(struct.pack("<I", len(request)) + request)
            process.stdin.flush()
        except OSError:
            raise _Died(_how_it_died(process)) from None
        while True:
            message = self._decoder.decode(_read_frame(process, clock))
            if isinstance(message, Failed):
                self._n_files += 1
                kind = _ERRORS.get(message.error, UnreadableFile)
                raise _Reported(kind(path, message.reason))
            if isinstance(message, Done):
                self._n_files += 1
                self._rss_first = self._rss_first or message.rss_bytes
                if message.rss_bytes - self._rss_first > MAX_GROWTH_BYTES:
                    self._n_files = MAX_FILES
                return
            for run in message.runs:
                clock.note(run)
                yield from run.items

    def _ready(self) -> subprocess.Popen[bytes]:
        """Return a live process."""
        if self._process and (self._process.poll() is not None or self._n_files >= MAX_FILES):
            self.close()
        if self._process is None:
            self._process = _start(self._limits)
            self._n_files, self._rss_first = 0, 0
            self.n_started += 1
        return self._process


class _Reported(Exception):
    """The child is well and says that the file is not."""

    def __init__(self, error: FileError) -> None:
        self.error = error


class _Died(Exception):
    """The child is dead or must be ended."""

    def __init__(self, reason: str) -> None:
        self.reason = reason


class _Clock:
    """Time spent waiting for the child: while the caller is at work the clock stands."""

    def __init__(self, limits: ParseConfig) -> None:
        self._limits = limits
        self._waited_s = 0.0
        self._n_pages = 0
        self._is_bounded = True

    def note(self, run: Blocks | Chunks | Pages | Infos) -> None:
        if isinstance(run, Pages):
            self._n_pages += len(run.items)
        elif isinstance(run, Chunks) and run.items[0].span.locator.unit == "line":
            self._is_bounded = False  # a log or text may be of any length: progress is enough
        elif isinstance(run, Blocks) and run.items[0].locator.unit == "line":
            self._is_bounded = False

    def wait(self, pipe: IO[bytes], since: float) -> None:
        """Return when the pipe can be read; `since` is when the frame was first waited for."""
        page_s = self._limits.page_timeout_s
        total_s = self._limits.file_timeout_s + _PAGE_S * self._n_pages
        left_s = page_s - (time.monotonic() - since)
        if self._is_bounded:
            left_s = min(left_s, total_s - self._waited_s)
        before = time.monotonic()
        ready, _, _ = select.select([pipe], [], [], max(0.0, left_s))
        self._waited_s += time.monotonic() - before
        if ready:
            return
        if self._is_bounded and self._waited_s >= total_s:
            raise _Died(f"took longer than {total_s:.0f} s to read and was given up")
        after = f" after page {self._n_pages}" if self._n_pages else ""
        raise _Died(f"made no progress for {page_s:g} s{after} and was given up")


def _read_frame(process: subprocess.Popen[bytes], clock: _Clock) -> bytes:
    since = time.monotonic()
    (length,) = struct.unpack("<I", _read_exactly(process, 4, clock, since))
    if length > MAX_FRAME_BYTES:
        raise _Died("made the parser send more than it may and was given up")
    return _read_exactly(process, length, clock, since)


def _read_exactly(
    process: subprocess.Popen[bytes], n_bytes: int, clock: _Clock, since: float
) -> bytes:
    assert process.stdout
    parts = []
    while n_bytes:
        clock.wait(process.stdout, since)
        part = os.read(process.stdout.fileno(), min(n_bytes, _PIPE_BYTES))
        if not part:
            raise _Died(_how_it_died(process))
        parts.append(part)
        n_bytes -= len(part)
    return b"".join(parts)


def _how_it_died(process: subprocess.Popen[bytes]) -> str:
    try:
        code = process.wait(5)
    except subprocess.TimeoutExpired:
        return "made the parser close its connection"
    if code == -signal.SIGKILL:
        return "made the parser be killed (SIGKILL: probably out of memory)"
    if code < 0:
        return f"crashed the parser ({signal_name(code)})"
    return f"ended the parser (exit code {code})"


def _start(limits: ParseConfig) -> subprocess.Popen[bytes]:
    """Start the child."""
    process = subprocess.Popen(
        python_command(
            "from docqa.parse.serve import main; main(int(sys.argv[2]), float(sys.argv[3]))",
            str(limits.memory_bytes),
            str(limits.page_timeout_s),
        ),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        bufsize=0,
        env=worker_environment(),
        start_new_session=True,  # Ctrl-C in the terminal is the parent's to handle
    )
    with contextlib.suppress(ImportError, AttributeError, OSError):
        import fcntl

        assert process.stdout
        fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    return process


_KEPT = ("LANG", "TZ", "HOME", "TMPDIR", "TESSDATA_PREFIX", "LD_LIBRARY_PATH", "SYSTEMROOT")


def worker_environment() -> dict[str, str]:
    """Return the variables that the child may see: none of the user's secrets."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in _KEPT or name.startswith(("LC_", "COV_CORE_", "COVERAGE_"))
    }
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OMP_THREAD_LIMIT", "RAYON_NUM_THREADS"), "1")
    return {**kept, **threads, "PATH": os.defpath, "TOKENIZERS_PARALLELISM": "false"}
