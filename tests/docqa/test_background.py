"""Files read in a process of its own: the same events, the same library, a clean stop, a death."""

from __future__ import annotations

import json
import os
import signal
import threading
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from docqa import background
from docqa.background import Child
from docqa.config import Config, LibraryConfig, ParseConfig
from docqa.errors import Interrupted, LibraryError
from docqa.events import EmbedProgress, FileDone, FolderState, Scanned, SyncDone
from docqa.types import State
from docqa.wiring import build


@pytest.fixture
def workspace(tmp_path):
    config = Config(library=LibraryConfig(tmp_path / "library"), parse=ParseConfig(ocr="never"))
    with build(config, reads_elsewhere=True) as made:
        yield made


@pytest.fixture
def children(monkeypatch):
    """The processes that were started, in order."""
    started = []

    class Known(Child):
        def __init__(self, request):
            super().__init__(request)
            started.append(self.process)

    monkeypatch.setattr(background, "Child", Known)
    return started


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_the_events_and_the_library_are_those_of_a_sync_here(workspace, tmp_path):
    path = written(tmp_path, "manual.md", "# Bolts\n\nThe casing bolts are tightened to 38 Nm.\n")
    bad = tmp_path / os.fsdecode(b"broken \xff.pdf")
    bad.write_bytes(b"%PDF-1.7\nnothing")
    events = list(workspace.sync([path, bad]))
    assert events[0] == Scanned(2, path.stat().st_size + bad.stat().st_size)
    done = {event.report.path: event.report for event in events if isinstance(event, FileDone)}
    assert done[str(path)].state is State.INDEXED and done[str(path)].n_chunks == 1
    assert [r.state for p, r in done.items() if p != str(path)] == [State.FAILED]
    assert any(isinstance(event, EmbedProgress) for event in events)
    assert isinstance(events[-1], SyncDone) and len(events[-1].reports) == 2
    assert [d.state for d in workspace.documents()] == [State.FAILED, State.INDEXED]
    found = workspace.search("torque of the bolts", 1, is_reranked=False)
    assert [c.path for c in found] == [str(path)]
    same = [e for e in workspace.sync([path]) if isinstance(e, SyncDone)]
    assert [r.state for r in same[0].reports] == [State.UNCHANGED]
    anew = [e for e in workspace.sync([path], again=True) if isinstance(e, SyncDone)]
    assert [(r.state, r.n_chunks) for r in anew[0].reports] == [(State.INDEXED, 1)]
    path.unlink()
    again = [e for e in workspace.sync([path]) if isinstance(e, SyncDone)]
    assert [r.state for r in again[0].reports] == [State.REMOVED]


def test_a_stop_is_heard_and_what_was_done_is_kept(workspace, tmp_path):
    # So many that none of them is a race: the child cannot be through before it is told.
    paths = [written(tmp_path, f"{n}.md", f"# Part {n}\n\nWords of it.\n") for n in range(400)]
    stop = threading.Event()
    seen = []
    with pytest.raises(Interrupted):
        for event in workspace.sync(paths, cancel=stop):
            if isinstance(event, FileDone):
                seen.append(event.report.path)
                stop.set()
    kept = {d.path for d in workspace.documents()}
    assert set(seen) <= kept and len(kept) < len(paths)


def test_a_process_that_is_killed_is_an_error_and_the_next_sync_goes_on(
    workspace, tmp_path, children
):
    # Their vectors take far longer than a signal.
    paths = [written(tmp_path, f"{n}.md", f"# Part {n}\n\nWords of it.\n") for n in range(60)]

    def sync_and_kill():
        for event in workspace.sync(paths):
            if isinstance(event, FileDone):
                os.kill(children[0].pid, signal.SIGKILL)

    with pytest.raises(LibraryError, match="SIGKILL"):
        sync_and_kill()
    assert isinstance(list(workspace.sync(paths))[-1], SyncDone)
    assert len(workspace.documents()) == len(paths)
    assert all(process.poll() is not None for process in children)


def test_leaving_the_iterator_ends_the_process(workspace, tmp_path, children):
    events = workspace.sync([written(tmp_path, "a.md", "# A\n\nWords.\n")])
    assert isinstance(next(events), Scanned)
    assert children[0].poll() is None
    events.close()
    assert children[0].poll() is not None


def test_a_watched_folder_brings_its_new_file(workspace, tmp_path):
    folder = tmp_path / "docs"
    folder.mkdir()
    workspace.set_watched(folder)
    stop = threading.Event()
    done = []
    for event in workspace.watch(stop=stop):
        if isinstance(event, FolderState):
            written(folder, "new.md", "# New\n\nWords.\n")
        elif isinstance(event, FileDone):
            done.append(Path(event.report.path).name)
            stop.set()
    assert done == ["new.md"]


def test_settings_go_along(tmp_path):
    config = Config(library=LibraryConfig(tmp_path / "library"), parse=ParseConfig(ocr="never"))
    config = replace(config, sources={"parse.ocr": "file"})
    sent = json.loads(json.dumps(background._plain(config)))
    found = msgspec.convert(sent, Config, dec_hook=background._from_plain)
    assert found == replace(config, sources={})
