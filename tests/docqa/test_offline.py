"""The guard against the network: what it refuses, what it lets pass, and whom it names."""

import errno
import os
import socket
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace

import pytest

from docqa import seccomp
from docqa.errors import ExitCode, NetworkRefused
from docqa.offline import SWITCHES, Endpoint, Guard
from docqa.system_calls import ARCHITECTURES, numbers

ROOT = Path(__file__).parents[2]
HAS_FILTER = sys.platform.startswith("linux") and os.uname().machine in ARCHITECTURES
needs_filter = pytest.mark.skipif(not HAS_FILTER, reason="no system-call filter on this system")


# A socket as an audit hook sees it: this very process may be guarded by now (docqa.cli.main).
INET = SimpleNamespace(family=socket.AF_INET)


def python(code, **environment):
    """Run code in a process of its own: an audit hook and a filter stay for ever."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        timeout=60,
    )


TRIES = {
    "a TCP socket": "socket.socket()",
    "a UDP socket": "socket.socket(socket.AF_INET, socket.SOCK_DGRAM)",
    "an IPv6 socket": "socket.socket(socket.AF_INET6)",
    "a raw packet socket": "socket.socket(17, socket.SOCK_RAW)",
    "a connection": "socket.create_connection(('192.0.2.1', 80), 1)",
    "to itself": "socket.create_connection(('127.0.0.1', 9), 1)",
    "a name": "socket.getaddrinfo('example.invalid', 80)",
    "an old way to look up": "socket.gethostbyname('example.invalid')",
    "a look up of an address": "socket.getnameinfo(('192.0.2.1', 80), 0)",
    "a download": "urllib.request.urlopen('http://example.invalid/', timeout=1)",
    "a server": "http.server.HTTPServer(('', 0), None)",
}


@pytest.mark.parametrize("what", TRIES)
def test_refused_with_the_name_of_the_caller(what):
    done = python(f"""
        import http.server, socket, urllib.request
        from docqa.offline import go_offline
        guard = go_offline()
        def exfiltrate():
            {TRIES[what]}
        try:
            exfiltrate()
        except OSError as error:  # also where a library wraps it
            print(error)
        print(len(guard.refusals), guard.refusals[0])
    """)
    assert done.returncode == 0, done.stderr
    assert "docqa is offline: refused" in done.stdout.splitlines()[0]
    assert done.stdout.splitlines()[-1].startswith("1 ")
    assert "__main__:6 in exfiltrate" in done.stdout


def test_unix_sockets_and_pairs_pass():
    done = python("""
        import asyncio, socket
        from docqa.offline import go_offline
        guard = go_offline()
        a, b = socket.socketpair()
        a.sendall(b"hello")
        assert b.recv(9) == b"hello"
        asyncio.run(asyncio.sleep(0))
        assert not guard.refusals
    """)
    assert done.returncode == 0, done.stderr


def test_the_pair_that_python_makes_of_loopback_passes_and_nothing_beside_it():
    """Windows has no other pair; what Python does there is repeated here."""
    done = python("""
        import socket
        from docqa.offline import go_offline
        guard = go_offline()
        code = '''
        def _fallback_socketpair():
            server = socket()
            server.bind((HOST, 0))
            server.listen()
            client = socket()
            client.connect(server.getsockname())
            return client, server.accept()[0]
        '''
        import textwrap
        exec(textwrap.dedent(code), socket.__dict__)
        socket.HOST = "127.0.0.1"
        a, b = socket._fallback_socketpair()
        a.sendall(b"x")
        assert b.recv(1) == b"x" and not guard.refusals
        socket.HOST = "0.0.0.0"
        try:
            socket._fallback_socketpair()
        except PermissionError:
            print("refused")
    """)
    if "Network is unreachable" in done.stderr or "Cannot assign" in done.stderr:
        pytest.skip("there is no loopback here")
    assert done.stdout.strip() == "refused", done.stderr


def test_switches_are_set_before_libraries_are_imported():
    done = python(
        """
        from docqa.offline import go_offline
        go_offline()
        import huggingface_hub.constants as hub
        assert hub.HF_HUB_OFFLINE and hub.HF_HUB_DISABLE_TELEMETRY
        import os
        print(os.environ["TRANSFORMERS_OFFLINE"])
        """,
        HF_HUB_OFFLINE="0",
        TRANSFORMERS_OFFLINE="0",
    )
    assert done.stdout.strip() == "1", done.stderr
    assert SWITCHES["DO_NOT_TRACK"] == "1"


def test_a_library_that_downloads_is_refused_and_named():
    done = python("""
        from docqa.offline import go_offline
        guard = go_offline()
        import huggingface_hub.constants
        huggingface_hub.constants.HF_HUB_OFFLINE = False  # a library that does not heed its switch
        import huggingface_hub, os
        os.environ["HF_HOME"] = "/nonexistent"
        try:
            huggingface_hub.HfApi().model_info("owner/name")
        except Exception as error:
            print(type(error).__name__)
        print(guard.refusals[0] if guard.refusals else "nothing was refused")
    """)
    assert "asked for by huggingface_hub." in done.stdout, done.stdout + done.stderr


def test_an_endpoint_of_the_user_may_be_reached_and_nothing_else():
    guard = Guard([Endpoint("127.0.0.1", 4321)])
    guard.hook("socket.__new__", (INET, socket.AF_INET, 0, 0))
    guard.hook("socket.connect", (INET, ("127.0.0.1", 4321)))
    with pytest.raises(NetworkRefused, match=r"connect with the address .*4322"):
        guard.hook("socket.connect", (INET, ("127.0.0.1", 4322)))
    with pytest.raises(NetworkRefused, match=r"192\.0\.2\.7"):
        guard.hook("socket.sendto", (INET, ("192.0.2.7", 4321)))
    with pytest.raises(NetworkRefused, match=r"getaddrinfo of 'example\.invalid'"):
        guard.hook("socket.getaddrinfo", ("example.invalid", 80, 0, 0, 0))
    assert len(guard.refusals) == 3


def test_the_host_of_an_endpoint_may_be_looked_up_and_then_reached(monkeypatch):
    found = [(socket.AF_INET, 1, 6, "", ("192.0.2.9", 0))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: found)
    guard = Guard([Endpoint("answers.invalid", 8080)])
    with pytest.raises(NetworkRefused):
        guard.hook("socket.connect", (INET, ("192.0.2.9", 8080)))
    guard.hook("socket.getaddrinfo", ("answers.invalid", 8080, 0, 0, 0))
    guard.hook("socket.connect", (INET, ("192.0.2.9", 8080)))
    with pytest.raises(NetworkRefused):
        guard.hook("socket.connect", (INET, ("192.0.2.9", 22)))


def test_the_command_line_ends_with_a_sentence():
    """A command in which a library wants the network: exit code and message, no traceback."""
    done = python("""
        import socket, sys
        import docqa.cli.commands as commands
        commands.COMMANDS["list"] = lambda arguments: socket.create_connection(("192.0.2.1", 1))
        from docqa.cli import main
        sys.exit(main(["list"]))
    """)
    assert done.returncode == ExitCode.FAILED
    assert done.stderr.startswith("docqa: docqa is offline: refused getaddrinfo of '192.0.2.1'")


# -- what the system refuses ----------------------------------------------------------------------

SEALED = """
import ctypes, errno, os, signal, socket, subprocess, sys, threading
from docqa import seccomp
assert getattr(seccomp, sys.argv[1])() == ""
libc = ctypes.CDLL(None, use_errno=True)
def c(name, *arguments):
    done = getattr(libc, name)(*arguments)
    return ctypes.get_errno() if done == -1 else 0
def attempt(do):
    try:
        do()
    except OSError as error:
        return error.errno
    return 0
folder = sys.argv[2]
results = {
    "inet": c("socket", 2, 1, 0),
    "inet6": c("socket", 10, 2, 0),
    "packet": c("socket", 17, 3, 0),
    "vsock": c("socket", 40, 1, 0),
    "unix": c("socket", 1, 1, 0),
    "ring": c("syscall", 425, 1, 0),
    "program": attempt(lambda: subprocess.run([sys.executable, "-c", ""], check=True)),
    "fork": attempt(lambda: os.fork() or os._exit(0)),
    "read": attempt(lambda: open(sys.executable, "rb").read(4)),
    "write": attempt(lambda: open(folder + "/new", "w")),
    "append": attempt(lambda: open(folder + "/old", "a")),
    "unlink": attempt(lambda: os.unlink(folder + "/old")),
    "rename": attempt(lambda: os.rename(folder + "/old", folder + "/other")),
    "chmod": attempt(lambda: os.chmod(folder + "/old", 0o777)),
    "link": attempt(lambda: os.symlink("old", folder + "/link")),
    "folder": attempt(lambda: os.mkdir(folder + "/folder")),
    "signal": attempt(lambda: os.kill(os.getppid(), 0)),
    "look": c("process_vm_readv", os.getppid(), None, 0, None, 0, 0),
}
thread = threading.Thread(target=lambda: results.update(thread=c("socket", 2, 1, 0)))
thread.start()
thread.join()
print(results)
"""


def sealed(policy, folder):
    (folder / "old").write_text("kept")
    done = subprocess.run(
        [sys.executable, "-c", SEALED, policy, str(folder)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    import ast

    return ast.literal_eval(done.stdout.splitlines()[-1])


@needs_filter
def test_a_process_that_runs_models_has_no_network_and_all_else(tmp_path):
    results = sealed("deny_network", tmp_path)
    refused = {name for name, error in results.items() if error == errno.EACCES}
    assert refused == {"inet", "inet6", "packet", "vsock", "thread"}
    assert results["ring"] == errno.ENOSYS
    allowed = {"unix", "program", "fork", "read", "write", "append", "signal"}
    assert not {name: results[name] for name in allowed if results[name]}


@needs_filter
def test_a_process_that_reads_files_can_only_read(tmp_path):
    results = sealed("deny_all_but_reading", tmp_path)
    assert results.pop("read") == 0
    network = {"inet", "inet6", "packet", "vsock", "unix", "thread"}
    assert {results.pop(name) for name in network} == {errno.EACCES}
    assert results.pop("ring") == errno.ENOSYS
    assert set(results.values()) == {errno.EPERM}, results
    assert [p.name for p in tmp_path.iterdir()] == ["old"]
    assert (tmp_path / "old").read_text() == "kept"


@needs_filter
def test_the_processes_that_run_models_are_sealed():
    from models.processes import command

    start = command("json")  # any module: `main` is never reached
    code = start[-1].replace("from json import main; main()", "import socket; socket.socket()")
    done = subprocess.run([*start[:-1], code], capture_output=True, text=True, timeout=60)
    assert "refused a socket of family AF_INET" in done.stderr
    code = code.replace(
        "socket.socket()", "import ctypes; print(ctypes.CDLL(None).socket(2, 1, 0))"
    )
    done = subprocess.run([*start[:-1], code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "-1", done.stderr


def test_where_there_is_no_filter_the_reason_is_said(monkeypatch):
    monkeypatch.setattr(seccomp.platform, "machine", lambda: "riscv64")
    reason = seccomp.deny_network()
    assert "riscv64" in reason or not sys.platform.startswith("linux")


def test_numbers_are_those_of_the_machines():
    assert numbers("x86_64")["network"]["socket"] == 41
    assert numbers("aarch64")["network"]["socket"] == 198
    assert "open" not in numbers("aarch64")["single"]
    for machine in ARCHITECTURES:
        found = [n for group in numbers(machine).values() for n in group.values()]
        assert len(found) == len(set(found))
