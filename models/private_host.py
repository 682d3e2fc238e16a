"""An engine process of our own, and what any engine process is to its caller."""

from __future__ import annotations

import os
import subprocess
import tempfile
from typing import IO, Protocol

from models import wire
from models.processes import LOG_TAIL_BYTES, command, last_lines

CLOSE_S = 2.0


class Process(Protocol):
    """A running engine process as its caller holds it."""

    channel: wire.Channel
    is_shared: bool

    def tail(self) -> str:
        """Return the last words of the process."""
        ...

    def kill(self) -> None:
        """End the process at once."""
        ...

    def end(self) -> None:
        """Let go of the process; one that is ours alone ends."""
        ...


class PrivateProcess:
    """An engine process of our own, over pipes. It ends when its input is closed, so with us."""

    is_shared = False

    def __init__(self) -> None:
        """Start the process; it loads nothing yet."""
        # A file, not a pipe: nobody has to drain it, and it is there after an abort.
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 closed in end()
        self._child = subprocess.Popen(
            command("models.engine_process"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            start_new_session=True,  # Ctrl-C in the terminal is not sent to it
        )
        assert self._child.stdin and self._child.stdout
        self.channel = wire.Channel(self._child.stdout, self._child.stdin, wire.Reply)  # type: ignore[arg-type]

    @property
    def pid(self) -> int:
        """The process id."""
        return self._child.pid

    def tail(self) -> str:
        """Return how the process ended and the last lines that it wrote."""
        try:
            code: int | None = self._child.wait(timeout=CLOSE_S)
        except subprocess.TimeoutExpired:
            code = None
        size = self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, size - LOG_TAIL_BYTES))
        return f"exit status {code}: {last_lines(self._errors.read())}"

    def kill(self) -> None:
        """End the process at once."""
        self._child.kill()

    def end(self) -> None:
        """Close its input, which ends it; kill it where it does not heed that."""
        self.channel.close()
        try:
            self._child.wait(timeout=CLOSE_S)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self._errors.close()
