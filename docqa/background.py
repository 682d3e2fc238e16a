"""A library whose files are read and watched in a process of its own, for programs with a screen.

`sync` and `watch` of a `BackgroundLibrary` yield what those of `Library` yield, but parsing,
splitting into words and computing vectors take neither the interpreter nor, being nice, the cores
from the thread that paints. The indexes of the caller follow the store, as after any other process.

Wire: the child's standard input brings one line of JSON, the request; that it is closed means stop.
Its standard output is one line of JSON an event. ASCII with escapes: a file name that is no UTF-8
comes through unchanged.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import select
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, get_args

import msgspec

from docqa import errors
from docqa.child import python_command, signal_name
from docqa.config import Config
from docqa.errors import DocqaError, FileError, LibraryError
from docqa.events import SyncEvent
from docqa.library import Library

if TYPE_CHECKING:
    from docqa.watch import Pace

NICENESS = 10  # of the child: the screen and the model go first
POLL_S = 0.1  # how often a cancel event is looked at
GATHER_S = 0.03  # between two looks at what came: a frame of the screen
STOP_S = 2.0  # then it is killed: the document it was at is left out, as after any crash
TAIL_BYTES = 2_000
_EVENTS: dict[str, type[SyncEvent]] = {kind.__name__: kind for kind in get_args(SyncEvent)}


class BackgroundLibrary(Library):
    """A Library that reads and watches files elsewhere; the rest is done here, as ever."""

    def sync(
        self,
        paths: Sequence[Path],
        *,
        password: str | None = None,
        cancel: threading.Event | None = None,
        with_vectors: bool = True,
        again: bool = False,
    ) -> Iterator[SyncEvent]:
        """Do what `Library.sync` does, in a child; a child that dies is a LibraryError."""
        options: dict[str, object] = {
            "password": password,
            "with_vectors": with_vectors,
            "again": again,
        }
        yield from self._elsewhere("sync", paths, options, cancel or threading.Event())

    def watch(
        self,
        stop: threading.Event,
        paths: Sequence[Path] = (),
        *,
        pace: Pace | None = None,
        with_vectors: bool = True,
    ) -> Iterator[SyncEvent]:
        """Do what `Library.watch` does, in a child. `pace` is for tests of the watcher itself."""
        assert pace is None
        yield from self._elsewhere("watch", paths, {"with_vectors": with_vectors}, stop)

    def _elsewhere(
        self, verb: str, paths: Sequence[Path], options: dict[str, object], stop: threading.Event
    ) -> Iterator[SyncEvent]:
        request = {
            "verb": verb,
            "paths": [str(path) for path in paths],
            "options": options,
            "config": _plain(self._config),
        }
        with Child(request) as child:
            for name, value in child.messages(stop):
                if name == "Failed":
                    raise _error(value)
                yield msgspec.convert(value, _EVENTS[name])


class Child:
    """The process of one sync or one watch; told to stop, then ended, when it is left."""

    def __init__(self, request: dict[str, object]) -> None:
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (closed in __exit__)
        self.process = subprocess.Popen(
            python_command("from docqa.background import main; main()"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            bufsize=0,
            start_new_session=True,  # Ctrl-C in the terminal is the parent's to handle
        )
        assert self.process.stdin
        with contextlib.suppress(OSError):  # a child that ended at once is noticed by its silence
            self.process.stdin.write(_line(request))

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self._tell_to_stop()
        try:
            self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        assert self.process.stdout
        self.process.stdout.close()
        self._errors.close()

    def _tell_to_stop(self) -> None:
        assert self.process.stdin
        with contextlib.suppress(OSError):
            self.process.stdin.close()

    def messages(self, stop: threading.Event) -> Iterator[tuple[str, object]]:
        """Yield (name, value) to the end; once `stop` is set the child is told, and ends itself.

        Raises:
            LibraryError: the child died.
        """
        assert self.process.stdout
        unread, fd, is_told = b"", self.process.stdout.fileno(), False
        while True:
            if stop.is_set() and not is_told:
                self._tell_to_stop()
                is_told = True
            if not select.select([fd], [], [], POLL_S)[0]:
                continue
            part = os.read(fd, 1 << 16)
            if not part:
                break
            *lines, unread = (unread + part).split(b"\n")
            for line in lines:
                yield tuple(json.loads(line))
            stop.wait(GATHER_S)  # many events cost one turn of the interpreter
        if self.process.wait() != 0:
            raise LibraryError(f"the process that reads files ended ({self._last_words()})")

    def _last_words(self) -> str:
        code = self.process.wait()
        if code < 0:
            return f"signal {signal_name(code)}; what is done is kept"
        self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, self._errors.tell() - TAIL_BYTES))
        written = self._errors.read().decode("utf-8", "replace").split("\n")
        return next((line for line in reversed(written) if line.strip()), f"exit status {code}")


def main() -> None:
    """Be the child: read the request, write events, end with the parent."""
    from docqa.wiring import build, seal_process

    seal_process()
    with contextlib.suppress(AttributeError, OSError):
        os.nice(NICENESS)
    request = json.loads(_first_line())
    config = msgspec.convert(request["config"], Config, dec_hook=_from_plain)
    stop = threading.Event()
    threading.Thread(target=_wait_for_end, args=(stop,), daemon=True).start()
    paths, options = [Path(path) for path in request["paths"]], request["options"]
    try:
        with build(config) as workspace:
            library = workspace.library
            found = (
                library.watch(stop, paths, **options)
                if request["verb"] == "watch"
                else library.sync(paths, cancel=stop, **options)
            )
            for event in found:
                _send(type(event).__name__, dataclasses.asdict(event))
    except DocqaError as error:
        where = {"path": error.path} if isinstance(error, FileError) else {}
        text = error.reason if isinstance(error, FileError) else str(error)
        _send("Failed", {"kind": type(error).__name__, "text": text, **where})
    except Exception as error:  # the worker's edge: the parent shows it
        _send("Failed", {"kind": "", "text": f"{type(error).__name__}: {error}"})


def _wait_for_end(stop: threading.Event) -> None:
    """Set `stop` when the parent closes our input: it wants us to stop, or it has ended."""
    while os.read(0, 1 << 16):
        pass
    stop.set()


def _first_line() -> bytes:
    """Return the request. Read without `sys.stdin`, whose lock a thread would hold at the end."""
    line = b""
    while not line.endswith(b"\n") and (part := os.read(0, 1 << 16)):
        line += part
    return line


def _send(name: str, value: object) -> None:
    try:
        sys.stdout.buffer.write(_line([name, value]))
        sys.stdout.buffer.flush()
    except BrokenPipeError:  # nobody listens any more
        os._exit(0)


def _line(value: object) -> bytes:
    return json.dumps(value).encode("ascii") + b"\n"


def _plain(config: Config) -> object:
    """Return the configuration as JSON has it."""
    return msgspec.to_builtins(dataclasses.replace(config, sources={}), enc_hook=str)


def _from_plain(kind: type, value: object) -> object:
    return kind(value)


def _error(failed: object) -> DocqaError:
    """Return the exception that the child met."""
    assert isinstance(failed, dict)
    kind = getattr(errors, failed["kind"], None)
    if not isinstance(kind, type) or not issubclass(kind, DocqaError):
        return LibraryError(failed["text"])
    return kind(failed["path"], failed["text"]) if "path" in failed else kind(failed["text"])
