"""The offline promise, kept inside the process: nothing leaves the machine.

`go_offline()` stands at the beginning of every process of ours, before anything that could talk is
imported. It sets the switches by which libraries are told not to, and installs an audit hook
(PEP 578), which no code can take away again and which refuses every socket but these:

- Unix sockets: the engine's, to its callers;
- loopback where there are no Unix sockets (Windows): the engine's, to its callers, who prove that
  they are the same user's (`models.local_socket`), and that of Python's own `socketpair`;
- an endpoint that the user configured.

What is refused raises `NetworkRefused`, which names the caller; it is an OSError too, so that a
library that merely tries goes on as without a network. The hook sees what Python does; what C code
does is refused by `docqa.seccomp` in the processes that run models or read files.
"""

from __future__ import annotations

import functools
import os
import sys
from _thread import get_ident
from collections.abc import Sequence
from types import FrameType
from typing import Any, NamedTuple

from docqa.errors import NetworkRefused

# Read when a library is imported: set before that.
SWITCHES: dict[str, str] = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",
    "DO_NOT_TRACK": "1",
    "ANONYMIZED_TELEMETRY": "False",
    "ORT_DISABLE_TELEMETRY": "1",
    "WANDB_MODE": "disabled",
    "NO_ALBUMENTATIONS_UPDATE": "1",
}
_NETWORK = "socket."
_RESOLVES = frozenset(
    {"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr", "socket.getnameinfo"}
)
_ADDRESSES = frozenset({"socket.connect", "socket.bind", "socket.sendto", "socket.sendmsg"})
_AF_UNIX = 1  # wherever it exists; importing socket for this would slow `docqa --help`
_LOOPBACK = ("127.0.0.1", "::1")
# How the names of packages begin that only carry out what somebody else asks for.
_CARRIERS: tuple[str, ...] = (
    *("socket", "ssl", "http", "urllib", "requests", "aiohttp", "websocket", "anyio"),
    *("asyncio", "selectors", "concurrent", "threading", "ftplib", "smtplib"),
)


class Endpoint(NamedTuple):
    """A service that the user named in the configuration. Its host may be looked up."""

    host: str
    port: int


class Guard:
    """The rules, and what was refused so far (`refusals`, one sentence each)."""

    def __init__(self, endpoints: Sequence[Endpoint] = ()) -> None:
        self.refusals: list[str] = []
        self._hosts = frozenset(endpoint.host for endpoint in endpoints)
        self._addresses = {(endpoint.host, endpoint.port) for endpoint in endpoints}
        self._ports = frozenset(endpoint.port for endpoint in endpoints)
        self._resolver = 0  # the thread in which the guard itself looks up an endpoint

    def hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        """See one audit event; raise NetworkRefused where it is not allowed."""
        if not event.startswith(_NETWORK) or self._resolver == get_ident():
            return
        if event == "socket.__new__":
            self._see_socket(int(arguments[1]))
        elif event in _ADDRESSES:
            self._see_address(event, arguments[0].family, arguments[1])
        elif event in _RESOLVES:
            self._see_name(event, arguments[0])

    def _see_socket(self, family: int) -> None:
        # -1: made around a descriptor that is open already; its addresses are looked at.
        if family in (-1, _AF_UNIX) or _is_local():
            return
        if self._hosts and _family_name(family) in ("AF_INET", "AF_INET6"):
            return
        self._refuse(f"a socket of family {_family_name(family)}")

    def _see_address(self, event: str, family: int, address: object) -> None:
        if family == _AF_UNIX:
            return
        if isinstance(address, tuple) and len(address) >= 2:
            if address[0] in _LOOPBACK and _is_local():
                return
            if (address[0], address[1]) in self._addresses:
                return
        self._refuse(f"{event.removeprefix(_NETWORK)} with the address {address!r}")

    def _see_name(self, event: str, host: object) -> None:
        name = host.decode("ascii", "replace") if isinstance(host, bytes) else host
        if name not in self._hosts or event != "socket.getaddrinfo":
            self._refuse(f"{event.removeprefix(_NETWORK)} of {name!r}")
        self._learn(str(name))

    def _learn(self, host: str) -> None:
        """Note the addresses that the host of an endpoint has: what will be connected to."""
        import socket

        self._resolver = get_ident()
        try:
            for *_, address in socket.getaddrinfo(host, None):
                self._addresses |= {(str(address[0]), port) for port in self._ports}
        except OSError:
            pass  # the caller will meet the same
        finally:
            self._resolver = 0

    def _refuse(self, what: str) -> None:
        sentence = f"docqa is offline: refused {what}, asked for by {_caller()}"
        self.refusals.append(sentence)
        raise NetworkRefused(sentence)


@functools.cache
def go_offline(endpoints: tuple[Endpoint, ...] = ()) -> Guard:
    """Set the switches and install the guard; a further call returns the first one's.

    An audit hook stays for as long as the process does.
    """
    os.environ.update(SWITCHES)
    guard = Guard(endpoints)
    sys.addaudithook(guard.hook)
    return guard


def _caller() -> str:
    """Return `module:line in function` of the code that wants the network."""
    nearest = ""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        module = str(frame.f_globals.get("__name__", "?"))
        place = f"{module}:{frame.f_lineno} in {frame.f_code.co_name}"
        if module != __name__:
            nearest = nearest or place
            if not module.startswith(_CARRIERS):
                return place
        frame = frame.f_back
    return nearest


def _is_local() -> bool:
    """Whether Python's `socket.socketpair` or the engine's own socket is at work."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        module = frame.f_globals.get("__name__")
        is_pair = frame.f_code.co_name in ("socketpair", "_fallback_socketpair")
        if module == "models.local_socket" or (module == "socket" and is_pair):
            return True
        frame = frame.f_back
    return False


def _family_name(family: int) -> str:
    import socket

    try:
        return socket.AddressFamily(family).name
    except ValueError:
        return str(family)
