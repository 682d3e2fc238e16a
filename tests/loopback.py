"""Whether this machine can reach itself: not where there is no network interface at all."""

from __future__ import annotations

import functools
import subprocess
import sys

_CODE = """
import socket
with socket.create_server(("127.0.0.1", 0)) as server:
    socket.create_connection(server.getsockname(), 5).close()
"""


@functools.cache
def has_loopback() -> bool:
    """Tried in a process of its own: this one may already refuse sockets (docqa/offline.py)."""
    done = subprocess.run([sys.executable, "-c", _CODE], stderr=subprocess.DEVNULL, timeout=60)
    return done.returncode == 0
