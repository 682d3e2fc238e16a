"""The child's side of the parse worker: caps itself, parses, chunks, sends. See worker.py."""

from __future__ import annotations

import dataclasses
import functools
import gc
import os
import signal
import struct
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from docqa.errors import FileError
from docqa.offline import go_offline
from docqa.parse.wire import (
    RUNS,
    Batch,
    Blocks,
    Chunks,
    Done,
    Failed,
    Infos,
    Message,
    Pages,
    Request,
)
from docqa.seccomp import deny_all_but_reading
from docqa.types import (
    Block,
    Chunk,
    ChunkItem,
    DocumentInfo,
    DocumentTitle,
    Kind,
    ParseItem,
)

if TYPE_CHECKING:
    from docqa.chunk import CountTokens

_BATCH_CHARS = 128 * 1024
_BATCH_S = 0.2


def main(memory_bytes: int, page_timeout_s: float) -> None:
    """Serve requests from standard input until it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    incoming = sys.stdin.buffer
    outgoing = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # a library that prints must not break a frame
    confine(memory_bytes)
    gc.set_threshold(50_000, 20, 20)  # pages come as thousands of dicts that hold no cycles
    sender = _Sender(outgoing, alarm_s=2 * page_timeout_s + 2)
    decoder = msgspec.msgpack.Decoder(Request)
    while len(header := incoming.read(4)) == 4:
        body = incoming.read(struct.unpack("<I", header)[0])
        try:
            _serve(decoder.decode(body), sender)
        except BrokenPipeError:
            return


def _serve(request: Request, sender: _Sender) -> None:
    try:
        sender.arm()
        for item in _items(request):
            sender.add(item)
        sender.flush()
        sender.send(Done(_rss_bytes()))
    except FileError as error:
        sender.fail(type(error).__name__, error.reason)
    except MemoryError:
        sender.fail("UnreadableFile", "needs more memory than the parser may use")
    except BrokenPipeError:
        raise
    except Exception as error:  # the worker's edge: one bad file is a sentence, not the end
        sender.fail("UnreadableFile", f"could not be parsed: {type(error).__name__}: {error}")


def _items(request: Request) -> Iterator[ParseItem | ChunkItem]:
    from docqa.parse import kind_of, parse

    path = Path(os.fsdecode(request.path))
    if not request.chunking:
        return _untitled(parse(path, request.options))
    if request.tail is not None or kind_of(path) is Kind.LOG:
        from docqa.chunk_log import chunk_log_records

        return chunk_log_records(path, request.options, tail=request.tail)
    from docqa.chunk import ChunkOptions, chunk_blocks

    chunking = msgspec.msgpack.decode(request.chunking, type=ChunkOptions)
    counter = _counter(chunking.tokenizer)
    return chunk_blocks(parse(path, request.options), chunking, count_tokens=counter)


def _untitled(items: Iterable[ParseItem]) -> Iterator[ParseItem]:
    """Leave out the title ahead: it is for the chunker, and the DocumentInfo has it too."""
    return (item for item in items if not isinstance(item, DocumentTitle))


@functools.lru_cache(maxsize=1)
def _counter(tokenizer: str) -> CountTokens:
    """Return the token counter; loading a tokenizer takes longer than reading a short file."""
    from docqa.token_count import TokenCounter

    return TokenCounter.open(Path(tokenizer))


class _Sender:
    """Batches items into frames.

    While the parser is at work an alarm runs, which ends the process without Python's help: MuPDF
    holds the interpreter's lock, and the parent may be gone.
    """

    def __init__(self, pipe: int, alarm_s: float) -> None:
        self._pipe = pipe
        self._alarm_s = alarm_s
        self._encoder = msgspec.msgpack.Encoder()
        self._runs: list[Blocks | Chunks | Pages | Infos] = []
        self._n_chars = 0
        self._flushed_at = time.monotonic()

    def arm(self) -> None:
        """Start the alarm anew."""
        signal.setitimer(signal.ITIMER_REAL, self._alarm_s)

    def add(self, item: ParseItem | ChunkItem) -> None:
        """Queue an item; send the batch when it is large or old."""
        if isinstance(item, DocumentInfo):  # its title may be a file name of any bytes
            title = item.title.encode("utf-8", "replace").decode()
            item = dataclasses.replace(item, title=title)
        kind = type(item)
        if not self._runs or type(self._runs[-1]) is not RUNS[kind]:
            self._runs.append(RUNS[kind]([]))
        self._runs[-1].items.append(item)  # type: ignore[arg-type]
        if isinstance(item, Block | Chunk):
            self._n_chars += len(item.text) + 64
        if self._n_chars > _BATCH_CHARS or time.monotonic() - self._flushed_at > _BATCH_S:
            self.flush()

    def flush(self) -> None:
        """Send what is queued."""
        if self._runs:
            runs, self._runs, self._n_chars = self._runs, [], 0
            self.send(Batch(runs))
        self._flushed_at = time.monotonic()

    def fail(self, error: str, reason: str) -> None:
        """Send the good items, then the error."""
        self.flush()
        self.send(Failed(error, reason.encode("utf-8", "replace").decode()[:2000]))

    def send(self, message: Message) -> None:
        """Write one frame; the alarm rests while the parent is slow to read."""
        signal.setitimer(signal.ITIMER_REAL, 0)
        body = self._encoder.encode(message)
        view = memoryview(struct.pack("<I", len(body)) + body)
        while view:
            view = view[os.write(self._pipe, view) :]
        if isinstance(message, Batch):
            self.arm()


def confine(memory_bytes: int) -> str:
    """Take from this process what reading a file does not need: memory, network, writing, programs.

    Returns: why there is no system-call filter here; empty where there is one.
    """
    go_offline()
    limit_resources(memory_bytes)
    return deny_all_but_reading()


def limit_resources(memory_bytes: int) -> None:
    """Cap the memory of this process; no core, no files written, few opened."""
    try:
        import resource
    except ImportError:  # Windows has none of these
        return
    for name, limit in (
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 128),
        (resource.RLIMIT_FSIZE, 0),
    ):
        _, hard = resource.getrlimit(name)
        bounded = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(name, (bounded, bounded))


def _rss_bytes() -> int:
    try:
        fields = Path("/proc/self/statm").read_text().split()
        return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        import psutil

        return int(psutil.Process().memory_info().rss)
