"""The proof itself: it sees a socket where there is one, and the real commands make none."""

import shutil
import subprocess
import sys

import pytest

from docqa import offline_proof
from docqa.cli import main
from docqa.errors import ExitCode
from docqa.offline_proof import (
    guard_fires,
    namespace_prefix,
    prove,
    read_trace,
)

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="strace and filters are Linux's"
)
# C code, which no hook of Python's sees; the process goes on if it may.
LEAKS = "import ctypes, sys; ctypes.CDLL(None).socket(2, 1, 0); print('38 Nm')"
QUIET = "none"


def tracer(folder, monkeypatch, is_with_strace):
    if is_with_strace and not shutil.which("strace"):
        pytest.skip("strace is not installed")
    if not is_with_strace:
        monkeypatch.setattr(offline_proof.shutil, "which", lambda _: None)
    make, reason = offline_proof._tracer(folder)
    if make is None:
        pytest.skip(f"nothing can be traced here: {reason}")
    return make


@pytest.mark.parametrize("is_with_strace", [True, False])
def test_a_socket_made_by_c_code_is_seen(tmp_path, monkeypatch, is_with_strace):
    make = tracer(tmp_path, monkeypatch, is_with_strace)
    command = [*make(tmp_path / "trace"), sys.executable, "-c", LEAKS]
    done = subprocess.run(command, capture_output=True, text=True)
    if is_with_strace:
        assert read_trace(tmp_path / "trace")["INET"] == 1
    else:
        assert offline_proof._problem(done, "38 Nm").startswith("was ended because it tried")


@pytest.mark.parametrize("is_with_strace", [True, False])
def test_a_command_that_leaks_is_a_bad_finding(tmp_path, monkeypatch, is_with_strace):
    """The whole step, on a command line that talks: it must not pass."""
    if is_with_strace and not shutil.which("strace"):
        pytest.skip("strace is not installed")
    if not is_with_strace:
        monkeypatch.setattr(offline_proof.shutil, "which", lambda _: None)
    monkeypatch.setattr(offline_proof, "_start", lambda: LEAKS)
    monkeypatch.setattr(offline_proof, "SCENES", {"ask": offline_proof._ask})
    (finding,) = offline_proof._traced(tmp_path, QUIET)
    if finding.value.startswith("cannot be traced"):
        pytest.skip(finding.value)
    assert finding.is_bad and "can leave the machine" in finding.value


@pytest.mark.parametrize("is_with_strace", [True, pytest.param(False, marks=pytest.mark.slow)])
@pytest.mark.timeout(900)
def test_add_ask_watch_and_the_terminal_ui_make_no_such_socket(
    tmp_path, monkeypatch, is_with_strace
):
    tracer(tmp_path, monkeypatch, is_with_strace)
    findings = list(offline_proof._traced(tmp_path, QUIET))
    assert [f.name for f in findings] == [f"docqa {name}" for name in offline_proof.SCENES]
    assert {"add", "ask", "watch", "tui"} <= set(offline_proof.SCENES)
    assert not any(f.is_bad for f in findings), findings
    assert all(f.value.startswith("no socket that leaves the machine") for f in findings)


@pytest.mark.timeout(900)
def test_add_and_ask_work_without_interfaces(tmp_path):
    prefix, reason = namespace_prefix()
    if not prefix:
        pytest.skip(reason)
    seen = subprocess.run([*prefix, "cat", "/proc/net/dev"], capture_output=True, text=True)
    names = {line.split(":")[0].strip() for line in seen.stdout.splitlines()[2:]}
    assert names <= {"lo"}  # the namespace is what it is said to be
    findings = list(offline_proof._without_interfaces(tmp_path, QUIET))
    assert [f.is_bad for f in findings] == [False, False], findings


def test_the_guard_is_seen_to_fire():
    finding = guard_fires()
    assert not finding.is_bad and "in somebody" in finding.value


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_whole_proof_with_the_default_model():
    findings = list(prove())
    assert not [f for f in findings if f.is_bad]
    names = [f.name for f in findings]
    assert names[0] == "guard" and len(names) > 2


def test_doctor_prints_the_proof_and_fails_with_it(monkeypatch, capsys):
    from docqa.doctor import Finding

    given = []

    def proved(model):
        given.append(model)
        yield Finding("offline", "docqa ask", "tried\x1b[2J to make sockets", is_bad=True)

    monkeypatch.setattr(offline_proof, "prove", proved)
    assert main(["doctor", "--offline-proof", "--model", "m.gguf"]) == ExitCode.FAILED
    assert given == ["m.gguf"]
    assert "\x1b" not in capsys.readouterr().out


def test_no_language_model_is_a_setting_and_not_a_fault(capsys):
    assert main(["doctor", "--model", "none"]) == ExitCode.DONE
    shown = capsys.readouterr().out
    assert "as set: answers are quotes" in shown
    assert "no network, writing or other program" in shown
    assert main(["doctor", "--model", "no-such-model"]) == ExitCode.FAILED
