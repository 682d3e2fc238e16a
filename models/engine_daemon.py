"""The shared engine's process: `models.engine_process` behind a socket of this user's.

The socket is there before anything slow is imported: the caller that started us can connect and go
on with its own work while we load.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from models.local_socket import Listener

if TYPE_CHECKING:
    from models.engine_process import EngineProcess


def main() -> None:
    """Serve at the socket given as first argument until idle for the seconds given as second."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    address, idle_s = Path(sys.argv[1]), float(sys.argv[2])
    os.umask(0o077)
    listener = Listener(address)
    from models.engine_process import EngineProcess

    process = EngineProcess(ends_with_caller=False)
    threading.Thread(target=_accept, args=(listener, process), daemon=True).start()
    process.serve(idle_s)
    listener.close()
    # Destructors of llama.cpp have nothing to save, and threads of callers may be in a read.
    os._exit(0)


def _accept(listener: Listener, process: EngineProcess) -> None:
    while True:
        try:
            caller = listener.accept()
        except OSError:
            return
        # Each in a thread of its own: one that does not say who it is keeps nobody waiting.
        threading.Thread(target=_listen, args=(listener, process, caller), daemon=True).start()


def _listen(listener: Listener, process: EngineProcess, caller: socket.socket) -> None:
    if listener.admits(caller):
        from models import wire
        from models.engine_process import Connection

        reader = cast(BinaryIO, caller.makefile("rb"))
        writer = cast(BinaryIO, caller.makefile("wb"))
        channel = wire.Channel(reader, writer, wire.Request)
        connection = Connection(channel, lambda: _has_gone(caller))
        process.listen(connection)
        connection.channel.close()
    caller.close()


def _has_gone(caller: socket.socket) -> bool:
    """Whether the other end has closed and all that it said was read; takes nothing away."""
    if not hasattr(socket, "MSG_DONTWAIT"):  # Windows: the thread that reads will see it
        return False
    try:
        return not caller.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True
