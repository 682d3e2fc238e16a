"""A socket that only processes of this user can use, named by a file in a folder of theirs.

A Unix socket (`.sock`, mode 0600) wherever Python has them. Windows' has none: there it is a port
of 127.0.0.1, and the file (`.port`) holds its number and a secret. Any user may connect to a port,
so both sides prove that they have read the file before a word is said: each answers the other's
random challenge with a keyed hash. Who connects without the secret learns nothing, and who took the
port of an engine that has ended is not believed. `docqa.offline` lets this module's loopback pass
and no other.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import secrets
import socket
import struct
from pathlib import Path

UNIX, PORT = ".sock", ".port"
MAX_SOCKET_PATH = 100  # bytes; the system's limit is 108, 104 on macOS
LOOPBACK = "127.0.0.1"
SECRET_BYTES = PROOF_BYTES = 32
PROOF_S = 2.0  # for the other side to prove itself

SUFFIX = UNIX if hasattr(socket, "AF_UNIX") else PORT


def fits(address: Path) -> bool:
    """Whether the system takes a socket of this name."""
    return address.suffix == PORT or len(os.fsencode(address)) <= MAX_SOCKET_PATH


class Listener:
    """The end that is called. It is there, and its file too, before the constructor returns."""

    def __init__(self, address: Path) -> None:
        """Listen at `address`; its suffix says how."""
        self._address, self._secret = address, b""
        if address.suffix == UNIX:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._socket.bind(str(address))
        else:
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            self._socket.bind((LOOPBACK, 0))
        self._socket.listen(16)
        if address.suffix == PORT:
            self._secret = secrets.token_bytes(SECRET_BYTES)
            _write_port(address, self._socket.getsockname()[1], self._secret)
        self._made = address.stat()

    def accept(self) -> socket.socket:
        """Return the next caller, whoever it is: ask `admits` before a word is exchanged.

        Raises:
            OSError: the listener was closed.
        """
        return self._socket.accept()[0]

    def admits(self, caller: socket.socket) -> bool:
        """Whether the caller is a process of this user; may take `PROOF_S` to find out."""
        if self._address.suffix == UNIX:
            return _has_our_uid(caller)
        return _proves_itself(caller, self._secret, b"engine", b"caller")

    def close(self) -> None:
        """Stop listening, and take the file away if it is still ours."""
        with contextlib.suppress(OSError):
            found = self._address.stat()
            if (found.st_dev, found.st_ino) == (self._made.st_dev, self._made.st_ino):
                self._address.unlink()
        self._socket.close()


def connect(address: Path, timeout_s: float) -> socket.socket | None:
    """Return a connection to the process that listens at `address`; None: none of ours."""
    try:
        if address.suffix == UNIX:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            where: str | tuple[str, int] = str(address)
            secret = b""
        else:
            port, secret = _read_port(address)
            connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            where = (LOOPBACK, port)
    except (OSError, ValueError):
        return None
    connection.settimeout(timeout_s)
    try:
        connection.connect(where)
    except OSError:
        connection.close()
        return None
    if secret and not _proves_itself(connection, secret, b"caller", b"engine"):
        connection.close()
        return None
    connection.settimeout(timeout_s)
    return connection


def _has_our_uid(caller: socket.socket) -> bool:
    """Whether the caller is a process of this user; elsewhere the mode of the socket decides."""
    if not hasattr(socket, "SO_PEERCRED"):
        return True
    raw = caller.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, uid, _ = struct.unpack("3i", raw)
    return bool(uid == os.getuid())


# -- a port and its secret ------------------------------------------------------------------------


def _write_port(address: Path, port: int, secret: bytes) -> None:
    """Write the file at one go: a caller sees the whole of it or nothing."""
    partial = address.with_suffix(".part")
    partial.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    descriptor = os.open(partial, flags, 0o600)
    try:
        os.write(descriptor, f"{port} {secret.hex()}".encode())
    finally:
        os.close(descriptor)
    partial.replace(address)


def _read_port(address: Path) -> tuple[int, bytes]:
    port, secret = address.read_text("ascii").split()
    key = bytes.fromhex(secret)
    if len(key) != SECRET_BYTES or not 0 < int(port) < 1 << 16:
        raise ValueError("not a port and a secret")
    return int(port), key


def _proves_itself(other: socket.socket, secret: bytes, own: bytes, others: bytes) -> bool:
    """Exchange challenges and answers; return whether the other side knows the secret.

    An answer names the side that gives it and holds both challenges: one that was heard before, or
    is sent back to its sender, is worth nothing.
    """
    challenge = secrets.token_bytes(PROOF_BYTES)
    other.settimeout(PROOF_S)
    try:
        other.sendall(challenge)
        theirs = _receive(other)
        other.sendall(hmac.digest(secret, own + theirs + challenge, hashlib.sha256))
        answer = _receive(other)
    except (OSError, EOFError):
        return False
    other.settimeout(None)
    expected = hmac.digest(secret, others + challenge + theirs, hashlib.sha256)
    return hmac.compare_digest(answer, expected)


def _receive(other: socket.socket) -> bytes:
    received = b""
    while len(received) < PROOF_BYTES:
        piece = other.recv(PROOF_BYTES - len(received))
        if not piece:
            raise EOFError
        received += piece
    return received
