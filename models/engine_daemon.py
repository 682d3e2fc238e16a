"""The shared engine's process: `models.engine_process` behind a Unix socket.

The socket is there before anything slow is imported: the caller that started us can connect and go
on with its own work while we load.
"""

from __future__ import annotations

import os
import signal
import socket
import struct
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

if TYPE_CHECKING:
    from models.engine_process import Connection, EngineProcess


def main() -> None:
    """Serve at the socket given as first argument until idle for the seconds given as second."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    address, idle_s = Path(sys.argv[1]), float(sys.argv[2])
    os.umask(0o077)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(address))
    made = address.stat()
    listener.listen(16)
    from models.engine_process import EngineProcess

    process = EngineProcess(ends_with_caller=False)
    threading.Thread(target=_accept, args=(listener, process), daemon=True).start()
    process.serve(idle_s)
    try:
        found = address.stat()
        if (found.st_dev, found.st_ino) == (made.st_dev, made.st_ino):
            address.unlink()
    except OSError:
        pass  # somebody else has taken it away
    listener.close()
    # Destructors of llama.cpp have nothing to save, and threads of callers may be in a read.
    os._exit(0)


def _accept(listener: socket.socket, process: EngineProcess) -> None:
    while True:
        try:
            caller, _ = listener.accept()
        except OSError:
            return
        if not _is_own(caller):
            caller.close()
            continue
        from models import wire
        from models.engine_process import Connection

        reader = cast(BinaryIO, caller.makefile("rb"))
        writer = cast(BinaryIO, caller.makefile("wb"))
        connection = Connection(wire.Channel(reader, writer, wire.Request))
        threading.Thread(target=_listen, args=(process, connection, caller), daemon=True).start()


def _listen(process: EngineProcess, connection: Connection, caller: socket.socket) -> None:
    process.listen(connection)
    connection.channel.close()
    caller.close()


def _is_own(caller: socket.socket) -> bool:
    """Whether the caller is a process of this user; elsewhere the mode of the socket decides."""
    if not hasattr(socket, "SO_PEERCRED"):
        return True
    raw = caller.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, uid, _ = struct.unpack("3i", raw)
    return bool(uid == os.getuid())
