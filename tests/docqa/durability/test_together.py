"""A terminal UI, command lines and a watcher on one library at once: nothing is lost, nobody waits
in vain, and no lock is spoken of."""

from __future__ import annotations

import multiprocessing
import os
import random
import threading
import time
import traceback
from pathlib import Path

import pytest

from docqa.check import check
from docqa.types import AnswerKind
from tests.docqa.durability import small
from tests.docqa.durability.killing import FAST, Changes

SHORT_S = 12.0


def follow(stop, inner: threading.Event) -> None:
    """Set `inner` after `stop`. A process that ends while it waits for `stop` would block `set`."""
    while not stop.is_set():
        time.sleep(0.05)
    inner.set()


def watcher(folder: Path, stop, rng: random.Random) -> int:
    inner = threading.Event()
    threading.Thread(target=follow, args=(stop, inner), daemon=True).start()
    n = 0
    with small.open_library(folder) as library:
        library.set_watched(folder / "docs", True)
        for event in library.watch(inner, [folder / "docs"], pace=FAST):
            assert type(event).__name__ != "WatchProblem", event
            n += 1
    return n


def screen(folder: Path, stop, rng: random.Random) -> int:
    """What a terminal UI does all day: it stays open, lists, searches, asks, switches folders."""
    n = 0
    with small.open_workspace(folder) as workspace:
        while not stop.is_set():
            n += 1
            what = rng.randrange(5)
            if what == 0:
                for document in workspace.documents():
                    workspace.pages(document.doc_id)
            elif what == 1:
                found = workspace.search(f"{small.OLD_ANSWER} report", 5)
                assert any(small.OLD_ANSWER in one.chunk.text for one in found), found
            elif what == 2:
                answer = small.ask(workspace, f"What does the {small.OLD_ANSWER} report name?")
                assert answer.kind is AnswerKind.QUOTE and small.OLD_ANSWER in answer.text
            elif what == 3:
                small.ask(workspace, f"How many lines of service.log contain R{n % 60:05d}?")
            else:
                workspace.set_watched(folder / "docs", True, exclude=["*.bak"])
            time.sleep(rng.random() * 0.05)
    return n


def commands(folder: Path, stop, rng: random.Random) -> int:
    """What command lines do: each opens the library, does one thing, and closes it."""
    n = 0
    while not stop.is_set():
        n += 1
        what = rng.randrange(5)
        if what == 0:
            small.run_sync(folder, lambda report: None)
        elif what == 1:
            with small.open_library(folder) as library:
                names = [p for p in (folder / "docs").glob("*.txt") if p.name != "report.txt"]
                library.remove(rng.sample(names, min(2, len(names))))
        elif what == 2:
            small.answers(folder)
        elif what == 3:
            from docqa.backup import back_up

            back_up(small.paths_of(folder), folder / f"{os.getpid()}.docqa", is_replaced=True)
        else:
            assert [f for f in check(small.paths_of(folder)) if not f.is_derived] == []
        time.sleep(rng.random() * 0.1)
    return n


def play(role, folder: str, stop, seed: int, results, all_here) -> None:
    small.shrink()
    all_here.wait(120)
    try:
        results.put((role.__name__, role(Path(folder), stop, random.Random(seed)), ""))
    except BaseException:
        results.put((role.__name__, 0, traceback.format_exc()[-3000:]))


def all_together(folder: Path, seconds: float, monkeypatch) -> None:
    monkeypatch.setattr("docqa.library.WorkerReader", small.InProcess)
    small.prepare(folder)
    context = multiprocessing.get_context("spawn")
    stop, results, all_here = context.Event(), context.Queue(), context.Barrier(4)
    roles = (watcher, screen, commands)
    children = [
        context.Process(target=play, args=(role, str(folder), stop, seed, results, all_here))
        for seed, role in enumerate(roles)
    ]
    for child in children:
        child.start()
    all_here.wait(120)
    changes = Changes(folder / "docs", random.Random(7))
    until = time.monotonic() + seconds
    while time.monotonic() < until and all(child.is_alive() for child in children):
        changes.make()
        time.sleep(0.3)
    stop.set()
    ended = sorted(results.get(timeout=120) for _ in children)
    for child in children:
        child.join(60)
    assert [error for _, _, error in ended if error] == []
    assert all(n > 2 for _, n, _ in ended), ended
    small.verify(folder, [])


def test_for_a_moment(tmp_path, monkeypatch):
    all_together(tmp_path, SHORT_S, monkeypatch)


@pytest.mark.slow
@pytest.mark.timeout(7_200)
def test_for_ten_minutes(tmp_path, monkeypatch):
    all_together(tmp_path, float(os.environ.get("DOCQA_SOAK_TOGETHER_S", "600")), monkeypatch)
