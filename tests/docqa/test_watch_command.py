"""`docqa watch` as a user runs it: lines on stdout, JSON, what is remembered, how it stops."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from queue import Empty, Queue

import pytest

from docqa.cli.watching import event_json, event_text
from docqa.discover import WalkOptions
from docqa.errors import UsageError
from docqa.events import FileDone, FolderState, Scanned, WatchProblem
from docqa.types import FileReport, State
from tests.docqa.test_library import open_library

ROOT = Path(__file__).parents[2]


def docqa(library, *arguments):
    command = [sys.executable, "-m", "docqa", *arguments, "--library", str(library)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


class Command:
    """`docqa watch` in a process; its lines as they come."""

    def __init__(self, library, *arguments):
        command = [sys.executable, "-m", "docqa", "watch", *arguments, "--library", str(library)]
        self.process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self._lines: Queue[str] = Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            self._lines.put(line)

    def next(self, timeout_s=60.0):
        try:
            return json.loads(self._lines.get(timeout=timeout_s))
        except Empty:
            self.process.kill()
            raise AssertionError(self.process.stderr.read()) from None

    def next_of(self, path):
        while (found := self.next())["path"] != str(path):
            pass
        return found

    def end(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        code = self.process.wait(30)
        said = self.process.stderr.read()
        self.process.stdout.close()
        self.process.stderr.close()
        return code, said


def test_a_line_per_change_until_it_is_stopped(tmp_path):
    docs, library = tmp_path / "docs", tmp_path / "library"
    docs.mkdir()
    (docs / "a.txt").write_text("The pump needs oil.\n")
    command = Command(library, str(docs), "--exclude", "*.md", "--json")
    first = command.next()
    assert first["schema"] == "docqa.watch/1" and first["event"] == "folder"
    assert first["path"] == str(docs) and first["state"] == "watched"
    assert command.next_of(docs / "a.txt")["state"] == "indexed"
    (docs / "unwanted.md").write_text("no")
    log = docs / "app.log"
    log.write_text("2024-06-01 00:00:01 INFO one\n")
    assert command.next_of(log)["n_lines"] == 1
    with log.open("a") as file:
        file.write("2024-06-01 00:00:02 ERROR zebra broke\n")
    assert command.next_of(log)["n_lines"] == 2
    found = docqa(library, "search", "zebra", "--json", "--no-rerank")
    assert json.loads(found.stdout)["hits"][0]["path"] == str(log)
    (docs / "a.txt").unlink()
    assert command.next_of(docs / "a.txt")["state"] == "removed"
    assert command.end() == (0, "")
    listed = docqa(library, "watch", "--list")
    assert listed.stdout == f"{docs}  exclude *.md\n"
    docqa(library, "watch", "--forget", str(docs))
    assert docqa(library, "watch", "--list").stdout == ""
    assert "app.log" in docqa(library, "list").stdout
    assert docqa(library, "watch").returncode == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_stops_at_once_while_a_file_is_read(tmp_path, number):
    docs = tmp_path / "docs"
    docs.mkdir()
    line = "2024-06-01 00:00:01 INFO something happened again and again in thread {}\n"
    (docs / "big.log").write_text("".join(line.format(i) for i in range(200_000)))
    command = Command(tmp_path / "library", str(docs), "--json")
    command.next()
    time.sleep(2)
    began = time.monotonic()
    code, _ = command.end(number)
    assert code == 0 and time.monotonic() - began < 20
    assert docqa(tmp_path / "library", "check").returncode == 0


def test_what_is_remembered(tmp_path):
    with open_library(tmp_path) as library:
        (tmp_path / "docs").mkdir()
        with pytest.raises(UsageError, match="no such file"):
            library.set_watched(tmp_path / "none", True)
        with pytest.raises(UsageError, match="the library itself"):
            library.set_watched(tmp_path / "library", True)
        library.set_watched(tmp_path / "docs", True, ("*.txt",), ("old",))
        (tmp_path / "docs" / "a.md").write_text("excluded by what is remembered")
        (tmp_path / "docs" / "b.txt").write_text("wanted")
        *_, done = library.sync(library.roots(), with_vectors=False)
        assert [Path(r.path).name for r in done.reports] == ["b.txt"]
        library.set_watched(tmp_path / "docs", False)
        assert library.store.roots.watched() == [] and library.roots() == [tmp_path / "docs"]
    assert WalkOptions().watched == ()


def test_lines_are_safe_and_silent_where_nothing_happened():
    evil = FileReport("/d/\x1b[31m.txt", State.INDEXED, n_lines=1, n_chunks=1)
    assert "\x1b" not in event_text(FileDone(evil))
    assert "\x1b" not in event_text(FolderState("/d/\x1b]0;x\x07", "away", "gone\x1b"))
    assert "\x1b" not in event_text(WatchProblem("\x1bdisk full"))
    assert event_text(Scanned(3, 4)) is None and event_json(Scanned(3, 4)) is None
    unchanged = FileDone(FileReport("/d/a.txt", State.UNCHANGED))
    assert event_text(unchanged) is None and event_json(unchanged) is None
    assert event_json(WatchProblem("x"))["event"] == "problem"
