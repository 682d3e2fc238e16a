"""kill -9 while turns are kept and KV is saved: the old session or the new one, never a broken one.

`make slow` kills 200 times.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import select
import time

import numpy as np
import pytest

from docqa.check import check
from docqa.session_purge import SAVING_S, sweep_kv
from docqa.sessions import Sessions
from docqa.store import Store
from models.kv_file import KvRefused, read_kv
from tests.docqa.librarian import log_chunks, open_store, put
from tests.docqa.session_writer import (
    IDENTITY,
    KEY,
    N_BYTES,
    payload_of,
    tokens_of,
    turn_of,
    write,
)

pytestmark = pytest.mark.skipif(os.name != "posix", reason="kills with SIGKILL")
LONGEST_S = 0.08  # after its first word; a round of the writer takes about as long


def killed(context, folder, delay_s: float) -> str:
    """Run a writer, kill it `delay_s` after it has said something; return all that it said."""
    reader, writer = os.pipe()
    process = context.Process(target=_write, args=(str(folder), multiprocessing_fd(writer)))
    process.start()
    os.close(writer)
    said = b""
    deadline = None
    while deadline is None or time.monotonic() < deadline:
        wait_s = None if deadline is None else max(0.0, deadline - time.monotonic())
        if not select.select([reader], [], [], wait_s)[0]:
            break
        piece = os.read(reader, 65536)
        assert piece, f"the writer ended by itself: {process.exitcode}"
        said += piece
        deadline = deadline or time.monotonic() + delay_s
    process.kill()
    process.join()
    while piece := os.read(reader, 65536):
        said += piece
    os.close(reader)
    return said.decode()


def multiprocessing_fd(descriptor: int):
    from multiprocessing.reduction import DupFd

    return DupFd(descriptor)


def _write(folder: str, descriptor) -> None:
    write(folder, descriptor.detach())


def check_session(store: Store, said: str) -> None:
    sessions = Sessions(store.db)
    session = sessions.get("talk")
    turns = sessions.turns(session.session_id)
    (document,) = store.documents()
    told = [line.split() for line in said.splitlines()]
    n_turns = 1 + max((int(n) for word, n in told if word == "turn"), default=-1)
    n_saved = max((int(n) for word, n in told if word == "kv"), default=-1)
    assert n_turns <= len(turns) <= n_turns + 1 or not told
    for n, turn in enumerate(turns):
        expected = turn_of(n, document.doc_id)
        assert turn.ordinal == n and turn.answer.text == expected.answer.text
        assert turn.answer.citations == expected.answer.citations
        assert [s.chunk.text for s in turn.sources] == [s.chunk.text for s in expected.sources]
    path = store.paths.kv / f"session-{session.session_id}.kv"
    if not path.exists():
        assert n_saved < 0
        return
    try:
        header, payload = read_kv(path, IDENTITY, KEY)
    except KvRefused as error:
        raise AssertionError(f"a broken file: {error}") from error
    saved = len(header.tokens) // 4 // 100 - 1
    assert n_saved <= saved < len(turns)
    assert list(np.frombuffer(header.tokens, "<i4")) == tokens_of(saved)
    assert (payload == payload_of(saved)).all() and header.documents == (document.sha256,)


@pytest.mark.parametrize("n_kills", [30, pytest.param(200, marks=pytest.mark.slow)])
def test_a_kill_leaves_the_old_session_or_the_new_one(tmp_path, n_kills):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.docqa.session_writer"])
    with open_store(tmp_path) as store:
        put(store, "/docs/pump.pdf", log_chunks(2))
    chance = random.Random(7)
    n_remains = 0
    for _ in range(n_kills):
        said = killed(context, tmp_path / "library", chance.random() * LONGEST_S)
        with open_store(tmp_path) as store:
            check_session(store, said)
            n_remains = max(n_remains, len(list(store.paths.kv.glob(".saving-*"))))
    print(f"{n_remains} remains of saves that were cut short")
    assert not check(store.paths)
    with open_store(tmp_path) as store:
        long_ago = time.time() - 2 * SAVING_S
        for path in store.paths.kv.glob(".saving-*"):
            os.utime(path, (long_ago, long_ago))
        sweep_kv(store.db)
        assert {path.name for path in store.paths.kv.iterdir()} <= {"session-1.kv"}
        assert sum(p.stat().st_size for p in store.paths.kv.iterdir()) < 2 * N_BYTES
        store.remove([store.documents()[0].doc_id])
        assert not list(store.paths.kv.iterdir())
