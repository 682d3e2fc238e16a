"""`docqa doctor --offline-proof`: the offline promise, proved again on the user's machine.

`prove()` runs the real commands on a small library of their own and yields what it finds:

1. the guard refuses a socket, and names who asked;
2. add, ask, search, watch and the terminal UI under a trace of their system calls, with all the
   processes that they start: not one may try to make a socket that could leave the machine. strace
   tells what was tried; where it is not installed, a filter ends whatever tries (SIGSYS), and then
   everything must still work;
3. add and ask in a network namespace without interfaces: nothing is missing.

What a system does not allow is said, and is not a failure; what fails has `is_bad`.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from docqa.doctor import Finding
from docqa.errors import ExitCode

TOPIC = "offline"
COMMAND_S = 300.0
KEEP_ALIVE_S = 2  # the shared engine ends soon after its last question, and its trace with it
MANUAL = (
    "# Pump manual\n\nThe casing bolts of the pump are tightened to 38 Nm.\n\n"
    "The shaft seal is replaced every 4000 hours.\n"
)
LOG = "".join(f"2026-03-11T14:00:{i:02}Z ERROR valve {i} did not close\n" for i in range(40))
QUESTION = "To which torque are the casing bolts tightened?"
ANSWER = "38 Nm"
_FAMILY = re.compile(r"\bsocket\((?:AF|PF)_(\w+)|sa_family=AF_(\w+)")
_HARMLESS = frozenset({"UNIX", "LOCAL", "NETLINK", "UNSPEC"})
_ESCAPES = re.compile(r"\x1b(?:\[[0-9;?<>=]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\^_])")
_NO_SOCKET = "refused a socket of family AF_INET"
_KILLED_BY_FILTER = -getattr(signal, "SIGSYS", 31)


@dataclass(slots=True)
class Stage:
    """Where the commands run: files, a library and the variables that keep it apart."""

    folder: Path
    model: str  # empty: as configured
    prefix: Sequence[str] = ()  # what a command is run under
    environment: dict[str, str] = field(default_factory=dict)

    def docqa(self, *arguments: str) -> list[str]:
        """Return the command line of `docqa …` here."""
        return [*self.prefix, sys.executable, "-P", "-c", _start(), *arguments]

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            self.docqa(*arguments),
            env=self.environment,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=COMMAND_S,
            check=False,
        )


def _start() -> str:
    root = str(Path(__file__).resolve().parents[1])
    return f"import sys; sys.path.append({root!r}); from docqa.cli import main; sys.exit(main())"


def prove(model: str = "") -> Iterator[Finding]:
    """Yield what was found, one step after the other; minutes with a large model.

    Args:
        model: the language model to ask; empty: as configured.
    """
    yield guard_fires()
    with tempfile.TemporaryDirectory(prefix="docqa-proof-") as name:
        yield from _traced(Path(name), model)
    with tempfile.TemporaryDirectory(prefix="docqa-proof-") as name:
        yield from _without_interfaces(Path(name), model)


def guard_fires() -> Finding:
    """Try to open a socket in a process of ours: the guard must refuse it and name the caller."""
    code = (
        "from docqa.offline import go_offline; go_offline(); import socket\n"
        "def somebody(): socket.socket()\n"
        "somebody()"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    said = done.stderr.strip().splitlines()[-1:]
    is_refused = done.returncode != 0 and _NO_SOCKET in done.stderr and "in somebody" in done.stderr
    value = said[0].partition(": ")[2] if is_refused else f"did not refuse a socket: {said}"
    return Finding(TOPIC, "guard", value, is_bad=not is_refused)


# -- step 2: what is tried ------------------------------------------------------------------------


def _traced(folder: Path, model: str) -> Iterator[Finding]:
    make, reason = _tracer(folder)
    if make is None:
        yield Finding(TOPIC, "system calls", f"cannot be traced here: {reason}")
        return
    for name, act in SCENES.items():
        trace = folder / f"{name}.trace"
        stage = _stage(folder, model, make(trace))
        problem = _play(stage, act)
        families = read_trace(trace)
        leaving = {f: n for f, n in families.items() if f not in _HARMLESS}
        if leaving:
            value = f"tried to make sockets that can leave the machine: {_listed(leaving)}"
        elif problem:
            value = problem
        elif trace.exists():
            value = f"no socket that leaves the machine ({_listed(families) or 'no socket at all'})"
        else:
            value = "no socket that leaves the machine (any would have ended it)"
        yield Finding(TOPIC, f"docqa {name}", value, is_bad=bool(leaving or problem))


def _tracer(folder: Path) -> tuple[Callable[[Path], Sequence[str]] | None, str]:
    """Return what makes the prefix that traces a command, or None and why there is none."""
    if not sys.platform.startswith("linux"):
        return None, "strace and system-call filters are Linux's; the guard above is in force"
    strace = shutil.which("strace")
    if strace is not None:

        def under_strace(trace: Path) -> Sequence[str]:
            calls = "trace=socket,socketpair,connect,bind,sendto,sendmsg"
            return [strace, "-f", "--seccomp-bpf", "-qq", "-e", calls, "-o", str(trace), "--"]

        probe = subprocess.run(
            [*under_strace(folder / "probe"), sys.executable, "-c", ""],
            capture_output=True,
            check=False,
        )
        if probe.returncode == 0:
            return under_strace, ""
    killer = [sys.executable, "-P", "-c", _under_filter()]
    probe = subprocess.run([*killer, sys.executable, "-c", ""], capture_output=True, check=False)
    if probe.returncode == 0:
        return lambda _: killer, ""
    return None, probe.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]


def _under_filter() -> str:
    """Return a program that runs its arguments where an inet socket is death."""
    root = str(Path(__file__).resolve().parents[1])
    return (
        f"import os, sys; sys.path.append({root!r})\n"
        "from docqa.seccomp import deny_network_or_die\n"
        "reason = deny_network_or_die()\n"
        "sys.exit(reason) if reason else os.execv(sys.argv[1], sys.argv[1:])"
    )


def read_trace(trace: Path) -> Counter[str]:
    """Return address family → number of calls that name it (socket, connect, bind, send)."""
    if not trace.exists():
        return Counter()
    text = trace.read_text("utf-8", "replace")
    return Counter(made or used for made, used in _FAMILY.findall(text))


def _listed(families: dict[str, int]) -> str:
    return ", ".join(f"AF_{name}: {n}" for name, n in sorted(families.items()))


# -- step 3: what is missed -----------------------------------------------------------------------


def namespace_prefix() -> tuple[Sequence[str], str]:
    """Return what runs a command without network interfaces, or nothing and why not."""
    unshare = shutil.which("unshare")
    if unshare is None:
        return (), "there is no `unshare` on this system"
    prefix = [unshare, "-rn", "--"]
    probe = subprocess.run([*prefix, "true"], capture_output=True, text=True, check=False)
    if probe.returncode != 0:
        return (), probe.stderr.strip() or "`unshare -rn` is not allowed"
    return prefix, ""


def _without_interfaces(folder: Path, model: str) -> Iterator[Finding]:
    name = "no interfaces"
    prefix, reason = namespace_prefix()
    if not prefix:
        yield Finding(TOPIC, name, f"cannot be tried here: {reason}")
        return
    stage = _stage(folder, model, prefix)
    for scene in ("add", "ask"):
        problem = _play(stage, SCENES[scene])
        value = problem or "works in a network namespace without interfaces"
        yield Finding(TOPIC, f"docqa {scene}, {name}", value, is_bad=bool(problem))


# -- the scenes -----------------------------------------------------------------------------------


def _stage(folder: Path, model: str, prefix: Sequence[str]) -> Stage:
    files = folder / "files"
    if not files.exists():
        files.mkdir()
        (files / "manual.md").write_text(MANUAL, encoding="utf-8")
        (files / "valves.log").write_text(LOG, encoding="utf-8")
        (files / "page.pdf").write_bytes(_pdf("Grease the bearings every 500 hours."))
    run = folder / "run"
    run.mkdir(mode=0o700, exist_ok=True)
    environment = {
        **os.environ,
        "DOCQA_LIBRARY": str(folder / "library"),
        "DOCQA_MODEL_KEEP_ALIVE_S": str(KEEP_ALIVE_S),
        "DOCQA_TUI_MODE": "plain",
        "XDG_RUNTIME_DIR": str(run),
        "TERM": "xterm-256color",
    }
    if model:
        environment["DOCQA_MODEL"] = model
    return Stage(folder, model, prefix, environment)


def _pdf(text: str) -> bytes:
    """Return a PDF of one page; MuPDF mends the cross-reference table that it lacks."""
    content = f"BT /F 12 Tf 72 700 Td ({text}) Tj ET".encode()
    return b"".join(
        (
            b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n",
            b"2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n",
            b"3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]/Contents 4 0 R",
            b"/Resources<</Font<</F<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>>>>>>>endobj\n",
            b"4 0 obj<</Length %d>>stream\n%s\nendstream endobj\n" % (len(content), content),
            b"trailer<</Root 1 0 R>>\n%%EOF",
        )
    )


def _play(stage: Stage, act: Callable[[Stage], str]) -> str:
    """Run a scene; return what went wrong in it, empty where nothing did."""
    try:
        return act(stage)
    except subprocess.TimeoutExpired:
        return f"did not end within {COMMAND_S:.0f} s"
    except OSError as error:
        return f"could not be run: {error}"


def _problem(done: subprocess.CompletedProcess[str], *expected: str) -> str:
    if done.returncode == _KILLED_BY_FILTER:
        return "was ended because it tried to make a socket that can leave the machine"
    missing = [text for text in expected if text not in done.stdout]
    if done.returncode == ExitCode.DONE and not missing:
        return ""
    said = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
    return f"ended with code {done.returncode}, without {missing or 'success'}: {''.join(said)}"


def _add(stage: Stage) -> str:
    return _problem(stage.run("add", str(stage.folder / "files")), "manual.md", "page.pdf")


def _ask(stage: Stage) -> str:
    quoted = _problem(stage.run("ask", QUESTION, "--model", "none"), ANSWER)
    if quoted or stage.model == "none":
        return quoted
    done = stage.run("ask", QUESTION)
    # What the model makes of it is not the question here: only that it was asked.
    return "" if done.returncode == ExitCode.NOT_FOUND else _problem(done)


def _search(stage: Stage) -> str:
    return _problem(stage.run("search", "bearings", "--json"), "page.pdf")


def _watch(stage: Stage) -> str:
    """Watch the folder, put a file in, and wait until the watcher says that it is searchable."""
    with subprocess.Popen(
        stage.docqa("watch", str(stage.folder / "files")),
        env=stage.environment,
        cwd=stage.folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        seen = _Screen(process.stdout.fileno())
        try:
            if not seen.wait_for("watched"):
                return f"did not begin to watch: {seen.tail()}"
            (stage.folder / "files" / "new.md").write_text("Valve 7 leaks.\n", encoding="utf-8")
            if not seen.wait_for("new.md"):
                return f"did not see a new file: {seen.tail()}"
        finally:
            _end(process, signal.SIGTERM)
        return "" if process.returncode == ExitCode.DONE else f"ended with {process.returncode}"


def _tui(stage: Stage) -> str:
    """Open the terminal UI in a terminal of its own, ask, and leave."""
    try:
        import pty
    except ImportError:
        return ""  # no pseudo-terminals here, so no trace either
    ours, theirs = pty.openpty()
    _resize(theirs)
    with subprocess.Popen(
        stage.docqa("tui"),
        env={**stage.environment, "COLUMNS": "120", "LINES": "40"},
        cwd=stage.folder,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    ) as process:
        os.close(theirs)
        seen = _Screen(ours)
        try:
            if not seen.wait_for("Ask a question"):
                return f"did not come up: {seen.tail()}"
            os.write(ours, QUESTION.encode() + b"\r")
            if not seen.wait_for(ANSWER, "Not found"):
                return f"did not answer: {seen.tail()}"
            os.write(ours, b"\x11")  # Ctrl-Q
            seen.wait_for()  # until it closes
        finally:
            _end(process, signal.SIGTERM)
            os.close(ours)
        return "" if process.returncode == ExitCode.DONE else f"ended with {process.returncode}"


def _resize(terminal: int) -> None:
    import fcntl
    import struct
    import termios

    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))


class _Screen:
    """What a process has written so far, without escape sequences."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._raw = b""

    def wait_for(self, *texts: str) -> bool:
        """Read until one of `texts` was written; False at the end or when it takes too long."""
        import select

        deadline = time.monotonic() + COMMAND_S
        while not any(text in self.text() for text in texts):
            left_s = deadline - time.monotonic()
            if left_s <= 0 or not select.select([self._descriptor], [], [], left_s)[0]:
                return False
            try:
                part = os.read(self._descriptor, 1 << 16)
            except OSError:  # a pseudo-terminal whose other side is closed
                part = b""
            if not part:
                return False
            self._raw += part
        return True

    def text(self) -> str:
        return _ESCAPES.sub("", self._raw.decode("utf-8", "replace"))

    def tail(self) -> str:
        return " ".join(self.text().split())[-300:]


def _end(process: subprocess.Popen[bytes], number: int) -> None:
    """Have the process end, and all that was started with it if it does not."""
    with contextlib.suppress(ProcessLookupError):
        if process.poll() is None:
            os.killpg(process.pid, number)
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


SCENES: dict[str, Callable[[Stage], str]] = {
    "add": _add,
    "ask": _ask,
    "search": _search,
    "watch": _watch,
    "tui": _tui,
}
