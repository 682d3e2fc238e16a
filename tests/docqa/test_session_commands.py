"""`docqa ask --session`, `docqa sessions` and `docqa stats` over a real library, with fakes."""

from __future__ import annotations

import io
import json
import stat
import sys

import pytest

from docqa import wiring
from docqa.cli import main
from docqa.errors import EngineDied, ExitCode
from tests.docqa.session_makers import PUMP, QUESTIONS, Desk, SavingEngine

TORQUE, SEAL = QUESTIONS[:2]


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """Each command opens the library anew, as a process of its own would."""
    made = Desk(tmp_path)
    made.workspace.close()
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "pump.md").write_text(PUMP)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(wiring, "build", lambda config, **_: made.opened())
    return made


@pytest.fixture
def docqa(desk, capsys):
    def run(*arguments):
        code = main([str(a) for a in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def asked(docqa, *arguments):
    code, out, _ = docqa("ask", *arguments, "--json")
    assert code == ExitCode.DONE
    return json.loads(out)


def test_a_session_from_the_command_line(desk, docqa, tmp_path):
    first = asked(docqa, "--session", "pumps", TORQUE, tmp_path / "docs")
    assert first["usage"]["reused_tokens"] == 0
    second = asked(docqa, "--session", "pumps", SEAL)
    usage = second["usage"]
    assert usage["restored_tokens"] == usage["reused_tokens"] > 0
    assert usage["prefilled_tokens"] == usage["prompt_tokens"] - usage["reused_tokens"]
    assert sum(usage["layer_tokens"].values()) == usage["prompt_tokens"]
    assert usage["layer_tokens"]["history"] > 0
    follow_up = asked(docqa, "--session", "pumps", "And why the seal?")
    assert "replaced" in follow_up["query"]

    code, out, _ = docqa("sessions", "list", "--json")
    (row,) = map(json.loads, out.splitlines())
    assert (code, row["name"], row["turns"]) == (0, "pumps", 3) and row["kv_disk_bytes"] > 0
    code, out, _ = docqa("sessions", "show", "pumps")
    assert out.index(TORQUE) < out.index(SEAL) and "38 Nm" in out
    code, out, _ = docqa("sessions", "export", "pumps", "--format", "json")
    assert [t["question"] for t in json.loads(out)["turns"]][:2] == [TORQUE, SEAL]
    kept = tmp_path / "kept.md"
    assert docqa("sessions", "export", "pumps", "--out", kept)[0] == 0
    assert "38 Nm" in kept.read_text() and stat.S_IMODE(kept.stat().st_mode) == 0o600
    code, _, err = docqa("sessions", "export", "pumps", "--out", kept)
    assert code == ExitCode.USAGE and "kept.md" in err and "exists" in err

    code, out, _ = docqa("stats", "pumps", "--json")
    stats = json.loads(out)
    assert stats["questions"] == 3 and stats["kv_disk_bytes"] > 0
    assert stats["prompt_tokens"] == sum(stats["layer_tokens"].values())
    assert "reused" in docqa("stats")[1]

    assert docqa("sessions", "rename", "pumps", "valves")[0] == 0
    code, _, err = docqa("sessions", "show", "pumps")
    assert code == ExitCode.USAGE and "'valves'" in err
    code, out, _ = docqa("sessions", "search", "mechanical seal")
    assert code == 0 and "valves, turn 2" in out
    assert docqa("sessions", "search", "zeppelin")[0] == ExitCode.NOT_FOUND
    assert docqa("sessions", "delete", "valves")[0] == 0
    assert docqa("sessions", "list")[1] == "" and desk.kv_files() == set()


def test_pins_from_the_command_line(docqa, tmp_path):
    pump = tmp_path / "docs" / "pump.md"
    found = asked(docqa, "--pin", pump, TORQUE)
    assert found["usage"]["layer_tokens"]["pinned"] > 0
    assert docqa("sessions", "list")[1] == ""  # pinned for one question
    assert docqa("sessions", "pin", "pumps", pump)[0] == 0
    assert json.loads(docqa("sessions", "list", "--json")[1])["pinned"] == [str(pump)]
    found = asked(docqa, "--session", "pumps", SEAL)
    assert found["usage"]["layer_tokens"]["pinned"] > 0 and found["usage"]["restored_tokens"] > 0
    assert found["citations"][0]["line"] == 9
    assert docqa("sessions", "unpin", "pumps", pump)[0] == 0
    assert "pinned" not in asked(docqa, "--session", "pumps", SEAL)["usage"]["layer_tokens"]


def test_a_trace_on_request_and_its_purge(docqa, tmp_path):
    trace = tmp_path / "trace.jsonl"
    asked(docqa, "--trace", trace, TORQUE, tmp_path / "docs")
    lines = [json.loads(line) for line in trace.read_text().splitlines()]
    assert [line["event"] for line in lines] == ["retrieved", "packed", "prefilled", "answered"]
    assert len({line["id"] for line in lines}) == 1
    assert "38 Nm" in json.dumps(lines[1]["prompt"])
    assert lines[3]["answer"]["citations"][0]["line"] == 5
    asked(docqa, "--trace", trace, SEAL)
    assert len(trace.read_text().splitlines()) == 8
    assert docqa("remove", tmp_path / "docs")[0] == 0
    assert "38 Nm" not in trace.read_text() and "removed" in trace.read_text()
    code, _, err = docqa("ask", "--trace", tmp_path / "no" / "t.jsonl", TORQUE)
    assert code == ExitCode.USAGE and "trace" in err


def test_what_came_from_standard_input_is_not_kept(docqa, monkeypatch):
    log = "".join(f"2026-03-01T10:00:{i:02d}Z ERROR pump casing {i}\n" for i in range(20))
    stdin = io.TextIOWrapper(io.BytesIO(log.encode()))
    monkeypatch.setattr(sys, "stdin", stdin)
    assert asked(docqa, "--session", "logs", "How many errors were there?", "-")["found"]
    out = docqa("sessions", "show", "logs")[1]
    assert "How many errors were there?" in out and "no longer in the library" in out
    assert "pump casing" not in out


def test_kv_that_cannot_be_saved_costs_a_note_not_the_answer(desk, docqa, tmp_path, monkeypatch):
    monkeypatch.setattr(SavingEngine, "save_kv", lambda *_: 0)
    monkeypatch.setattr(SavingEngine, "kv_reason", "No space left on device")
    code, out, err = docqa("ask", "--session", "pumps", TORQUE, tmp_path / "docs")
    assert code == 0 and "38 Nm" in out and "No space left" in err
    monkeypatch.setattr(SavingEngine, "save_kv", _die)
    code, out, err = docqa("ask", "--session", "pumps", SEAL)
    assert code == 0 and "4000" in out and "the engine ended" in err
    shown = json.loads(docqa("sessions", "show", "pumps", "--json")[1])
    assert [turn["question"] for turn in shown["turns"]] == [TORQUE, SEAL]


def _die(*_):
    raise EngineDied("the engine ended")


def test_bad_names(docqa):
    assert docqa("ask", "--session", "  ", TORQUE)[0] == ExitCode.USAGE
    code, _, err = docqa("stats", "nothing")
    assert code == ExitCode.USAGE and "no sessions yet" in err
