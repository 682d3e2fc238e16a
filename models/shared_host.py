"""One warm engine per user and model, shared by several callers over `models.local_socket`.

The first caller starts it, later ones find it by its socket (mode 0600, in a folder of mode 0700
that belongs to the user), and it ends by itself after `keep_alive_s` without a question. Where a
socket cannot be had (a path that is too long, a folder of somebody else's) or the engine serves
others with other settings, `start` returns None and the caller runs one of its own.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import socket
import stat
import struct
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from docqa import paths
from docqa.lock import locked
from models import local_socket, wire
from models.file_hash import identity
from models.processes import LOG_TAIL_BYTES, command, last_lines
from models.settings import LoadSettings, settings_digest

START_S = 20.0  # for the process to listen, not to load
REPLY_S = 5.0
NO_LINK = getattr(os, "O_NOFOLLOW", 0)


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """A shared engine that runs. Times in seconds."""

    pid: int
    model: str
    state: str  # loading | ready | busy
    n_clients: int
    context_length: int
    n_cached_tokens: int
    n_parked_bytes: int
    uptime_s: float
    idle_s: float


class SharedProcess:
    """A connection to a shared engine; `models.host.Process`."""

    is_shared = True

    def __init__(self, connection: socket.socket, log: Path) -> None:
        self._socket, self._log = connection, log
        connection.settimeout(None)
        self.channel = wire.Channel(
            cast(BinaryIO, connection.makefile("rb")),
            cast(BinaryIO, connection.makefile("wb")),
            wire.Reply,
        )

    def tail(self) -> str:
        """Return the last lines that the process wrote."""
        try:
            with self._log.open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - LOG_TAIL_BYTES))
                return last_lines(file.read())
        except OSError as error:
            return f"its log is gone: {error.strerror}"

    def kill(self) -> None:
        """End the process, which hangs: it is of no use to the others either."""
        if hasattr(socket, "SO_PEERCRED"):
            raw = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
            with contextlib.suppress(ProcessLookupError):
                os.kill(struct.unpack("3i", raw)[0], signal.SIGKILL)

    def end(self) -> None:
        """Let go of it; it stays for the others."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self.channel.close()
        self._socket.close()


def start(settings: LoadSettings, keep_alive_s: float) -> SharedProcess | None:
    """Return a connection to the engine for these settings, started where there is none."""
    folder = _own_folder(paths.runtime_dir())
    if folder is None:
        return None
    name = folder / f"engine-{_key(settings)}"
    address = name.with_suffix(local_socket.SUFFIX)
    if not local_socket.fits(address):
        return None
    with locked(name.with_suffix(".lock")):
        connection = _connect(address)
        if connection is not None and not _suits(connection, settings):
            status = _ask_status(connection)
            connection.close()
            # Busy with nobody there but us: its last answer has just ended, or its caller has left.
            if status is None or status.n_clients > 1:
                return None
            _shut_down(address)
            connection = None
        if connection is None:
            connection = _launch(address, keep_alive_s)
    return None if connection is None else SharedProcess(connection, address.with_suffix(".log"))


def status() -> list[EngineStatus]:
    """Return the shared engines of this user that run."""
    found = []
    for address in _sockets():
        connection = _connect(address)
        if connection is None:
            continue
        reply = _ask_status(connection)
        connection.close()
        if reply is not None:
            found.append(_status_of(reply))
    return found


def stop() -> int:
    """End the shared engines of this user; return how many there were. A busy one is killed."""
    n = 0
    for address in _sockets():
        n += _shut_down(address)
    return n


def forget() -> int:
    """Have the shared engines of this user drop all KV; return how many were told.

    One that is busy does so after its answer; nobody waits for it.
    """
    n = 0
    for address in _sockets():
        connection = _connect(address)
        if connection is None:
            continue
        found = _ask_status(connection)
        if found is not None and found.state == "ready":
            n += _request(connection, wire.ForgetKv(0)) is not None
        elif found is not None:
            n += _tell(connection, wire.ForgetKv(0))
        connection.close()
    return n


# -- the folder and its files ---------------------------------------------------------------------


def _own_folder(folder: Path) -> Path | None:
    """Return the folder of sockets, made where missing; None where it is not ours alone."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        found = folder.lstat()
    except OSError:
        return None
    if not stat.S_ISDIR(found.st_mode):
        return None
    if not hasattr(os, "getuid"):  # Windows: a folder in the user's profile is the user's
        return folder
    if found.st_uid != os.getuid():
        return None
    if found.st_mode & 0o077:
        folder.chmod(0o700)
    return folder


def _key(settings: LoadSettings) -> str:
    """Return what one engine is for: a model file with its adapters, whatever the settings."""
    files = [settings.path, *(adapter.path for adapter in settings.adapters)]
    text = "\0".join(f"{name}\0{identity(Path(name))}" for name in files)
    return hashlib.sha256(f"{wire.VERSION}\0{text}".encode()).hexdigest()[:16]


def _sockets() -> list[Path]:
    folder = paths.runtime_dir()
    pattern = f"engine-*{local_socket.SUFFIX}"
    return sorted(folder.glob(pattern)) if folder.is_dir() else []


# -- talking to it --------------------------------------------------------------------------------


def _connect(address: Path) -> socket.socket | None:
    return local_socket.connect(address, REPLY_S)


def _launch(address: Path, keep_alive_s: float) -> socket.socket | None:
    """Start the process and connect; None where it does not come up."""
    address.unlink(missing_ok=True)  # of a process that was killed
    log = os.open(
        address.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | NO_LINK, 0o600
    )
    try:
        child = subprocess.Popen(
            command("models.engine_daemon", str(address), str(keep_alive_s)),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd="/",
        )
    finally:
        os.close(log)
    _reap(child)
    until = time.monotonic() + START_S
    while time.monotonic() < until and child.poll() is None:
        connection = _connect(address)
        if connection is not None:
            return connection
        time.sleep(0.02)
    return None


def _reap(child: subprocess.Popen[bytes]) -> None:
    """Wait for the child in a thread, so that it is no zombie when it ends before we do."""
    import threading

    threading.Thread(target=child.wait, daemon=True).start()


def _request(connection: socket.socket, message: wire.Message) -> wire.Message | None:
    """Send one request on a fresh connection and return its reply; the connection stays open."""
    reader, writer = connection.makefile("rb"), connection.makefile("wb")
    channel = wire.Channel(cast(BinaryIO, reader), cast(BinaryIO, writer), wire.Reply)
    try:
        channel.send(message)
        return next(channel.messages(), None)
    except (OSError, ValueError):
        return None
    finally:
        channel.close()


def _tell(connection: socket.socket, message: wire.Message) -> bool:
    """Send a request whose reply nobody waits for."""
    writer = cast(BinaryIO, connection.makefile("wb"))
    channel = wire.Channel(cast(BinaryIO, connection.makefile("rb")), writer, wire.Reply)
    try:
        channel.send(message)
    except (OSError, ValueError):
        return False
    finally:
        channel.close()
    return True


def _ask_status(connection: socket.socket) -> wire.Status | None:
    reply = _request(connection, wire.AskStatus(0))
    return reply if isinstance(reply, wire.Status) else None


def _suits(connection: socket.socket, settings: LoadSettings) -> bool:
    reply = _ask_status(connection)
    return reply is not None and reply.settings in ("", settings_digest(settings))


def _shut_down(address: Path) -> bool:
    """Ask one engine to end, and kill it where it does not; return whether there was one."""
    connection = _connect(address)
    if connection is None:
        address.unlink(missing_ok=True)
        return False
    found = _ask_status(connection)
    if found is not None and found.state != "busy":
        _request(connection, wire.Shutdown(0))
    elif found is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(found.pid, signal.SIGTERM)
    connection.close()
    until = time.monotonic() + REPLY_S
    while time.monotonic() < until:
        again = _connect(address)
        if again is None:
            break
        again.close()
        time.sleep(0.02)
    address.unlink(missing_ok=True)
    return True


def _status_of(reply: wire.Status) -> EngineStatus:
    return EngineStatus(
        reply.pid,
        reply.model,
        reply.state,
        reply.n_clients - 1,  # the one that asks
        reply.context_length,
        reply.n_cached_tokens,
        reply.n_parked_bytes,
        reply.uptime_s,
        reply.idle_s,
    )
