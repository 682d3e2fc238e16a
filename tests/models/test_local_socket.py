"""Who reaches an engine's socket: processes of this user, over a Unix socket or a port.

Strangers are processes of their own: this one may have been put offline by a test before.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from docqa import paths
from models import local_socket, shared_host
from models.local_socket import PORT, UNIX, Listener, connect
from tests.loopback import has_loopback
from tests.models.test_host import say
from tests.models.test_shared_host import shared

ROOT = Path(__file__).parents[2]


def stranger(code: str, *arguments: str) -> subprocess.Popen[str]:
    """Start a program that knows nothing of docqa."""
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


loopback = pytest.mark.skipif(not has_loopback(), reason="there is no loopback here")
KINDS = [
    pytest.param(PORT, marks=loopback),
    pytest.param(UNIX, marks=pytest.mark.skipif(os.name != "posix", reason="POSIX")),
]
CALLER = """
import socket, sys
with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as connection:
    connection.sendall(bytes.fromhex(sys.argv[2]))
    connection.shutdown(socket.SHUT_WR)
    connection.recv(100)
"""
ECHO = """
import socket
with socket.create_server(("127.0.0.1", 0)) as server:
    print(server.getsockname()[1], flush=True)
    caller, _ = server.accept()
    n = 0
    while piece := caller.recv(100):
        n += len(piece)
        caller.sendall(piece)
    print(n)
"""


def served(listener: Listener, found: list[bool]) -> threading.Thread:
    """Admit or refuse one caller, and greet it where it is one of ours."""

    def serve() -> None:
        caller = listener.accept()
        found.append(listener.admits(caller))
        if found[-1]:
            caller.sendall(b"hello")
        caller.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize("kind", KINDS)
def test_a_caller_of_this_user_is_admitted(tmp_path: Path, kind: str) -> None:
    listener, found = Listener(tmp_path / f"e{kind}"), []
    assert (tmp_path / f"e{kind}").stat().st_mode & 0o077 == 0 or kind == UNIX
    thread = served(listener, found)
    connection = connect(tmp_path / f"e{kind}", 5)
    assert connection is not None
    assert connection.recv(5) == b"hello"
    connection.close()
    thread.join()
    assert found == [True]
    listener.close()
    assert list(tmp_path.iterdir()) == []
    assert connect(tmp_path / f"e{kind}", 1) is None


def test_a_file_that_somebody_else_has_put_there_stays(tmp_path: Path) -> None:
    address = tmp_path / "e.port"
    first = Listener(address)
    second = Listener(address)
    first.close()
    assert address.exists()
    second.close()
    assert not address.exists()


@loopback
def test_without_the_secret_nobody_is_admitted(tmp_path: Path) -> None:
    address = tmp_path / "e.port"
    listener, found = Listener(address), []
    port, secret = address.read_text().split()
    address.write_text(f"{port} {secret[:-1]}{'0' if secret[-1] != '0' else '1'}")
    thread = served(listener, found)
    assert connect(address, 5) is None
    thread.join()
    # One that says nothing, one that says noise.
    for noise in (b"", b"x" * 64):
        thread = served(listener, found)
        caller = stranger(CALLER, port, noise.hex())
        thread.join()
        caller.communicate(timeout=60)
    assert found == [False, False, False]
    listener.close()


@loopback
def test_one_who_took_the_port_of_an_engine_is_not_believed(tmp_path: Path) -> None:
    """It sends back whatever it hears: its own challenge, then its own answer."""
    server = stranger(ECHO)
    assert server.stdout is not None
    address = tmp_path / "e.port"
    address.write_text(f"{server.stdout.readline().strip()} {'ab' * 32}")
    assert connect(address, 5) is None
    heard, _ = server.communicate(timeout=60)
    assert int(heard) == 2 * local_socket.PROOF_BYTES  # no word of the caller's own


@pytest.mark.parametrize("text", ["", "80", "80 zz", "99999 " + "ab" * 32, "80 abab", "a b c"])
def test_what_is_no_port_is_no_engine(tmp_path: Path, text: str) -> None:
    (tmp_path / "e.port").write_text(text)
    assert connect(tmp_path / "e.port", 1) is None


@loopback
def test_the_guard_lets_it_pass_and_nothing_beside_it(tmp_path: Path) -> None:
    code = f"""
import socket, sys
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from docqa.errors import NetworkRefused
from docqa.offline import go_offline
go_offline()
from models.local_socket import Listener, connect
import threading
from tests.loopback import has_loopback
listener = Listener(Path({str(tmp_path / "e.port")!r}))
threading.Thread(target=lambda: listener.admits(listener.accept())).start()
print(connect(Path({str(tmp_path / "e.port")!r}), 5) is not None)
try:
    socket.create_connection(("127.0.0.1", 9), 1)
except NetworkRefused:
    print("refused")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["True", "refused"], done.stderr


@loopback
def test_an_engine_is_shared_over_a_port(
    tiny_models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Windows, where no system-call filter forbids the engine a port."""

    def unsealed(module: str, *arguments: str) -> list[str]:
        code = f"import sys; sys.path.append({str(ROOT)!r}); from {module} import main; main()"
        return [sys.executable, "-P", "-c", code, *arguments]

    monkeypatch.setattr(paths, "runtime_dir", lambda: tmp_path / "run")
    monkeypatch.setattr(local_socket, "SUFFIX", PORT)
    monkeypatch.setattr(shared_host, "command", unsealed)
    tokens = list(range(60, 160))
    try:
        with shared(tiny_models["qwen3"]) as one, shared(tiny_models["qwen3"]) as other:
            first, _ = say(one, tokens, 4)
            again, stop = say(other, tokens, 4)
            assert (again, stop.n_reused) == (first, 99)
            (status,) = shared_host.status()
            assert status.n_clients == 2
        (address,) = (tmp_path / "run").glob("*.port")
        assert address.stat().st_mode & 0o077 == 0
    finally:
        assert shared_host.stop() == 1
    assert shared_host.status() == []
