"""The watcher on a real file system: in the end the library holds what is on disk, no more.

The cases are those of the watchers of other programs: what events miss, editors' ways to save,
slow writers, drives that go away. A look at everything is forced only where a case is about it.
"""

from __future__ import annotations

import hashlib
import os
import resource
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from docqa import hints, settling
from docqa import watch as watch_module
from docqa.bench.watch import fill_rows
from docqa.check import check
from docqa.config import Config
from docqa.discover import WalkOptions
from docqa.errors import Interrupted, LibraryError
from docqa.events import FileDone, FolderState, WatchProblem
from docqa.feed import WordFeed
from docqa.hints import SuspendClock, explain
from docqa.ingest import Ingest, SyncOptions, sync
from docqa.library import WorkerReader
from docqa.records import WatchedFolder
from docqa.settling import Settler, is_open_for_writing
from docqa.types import State
from docqa.watch import Pace, Watcher
from tests.docqa.librarian import LineReader, open_store, run_sync

QUICK = Pace(tick_s=0.05, sweep_s=3600, poll_s=0.3, again_s=0.5, retry_s=0.2, sweep_share=1)
PATIENCE_S = 30.0
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux only")


class Watching:
    """A watcher in a thread, with what it said."""

    def __init__(self, store, folders, reader=None, pace=QUICK):
        self.store = store
        self.folders = [
            f if isinstance(f, WatchedFolder) else WatchedFolder(str(f)) for f in folders
        ]
        self.events: list = []
        self.stop = threading.Event()
        self.error: BaseException | None = None
        self.settler = Settler()
        self.words = WordFeed(store)
        self.reader = reader or LineReader()
        self.parts = Ingest(store, self.reader, self.words, None, self.stop)
        self.watcher = Watcher(
            self.look, lambda: self.folders, self.stop, self.settler,
            skip=str(store.paths.root), pace=pace,
        )  # fmt: skip
        self.thread = threading.Thread(target=self._run, daemon=True)

    def look(self, paths, walk):
        yield from sync(
            self.parts, paths, SyncOptions(walk, settling=self.settler, changes_only=True)
        )

    def _run(self):
        try:
            for event in self.watcher.run():
                self.events.append(event)
        except BaseException as error:
            self.error = error

    def __enter__(self):
        for folder in self.folders:
            self.store.roots.watch(folder)
        self.thread.start()
        if self.folders:
            self.until(lambda: len(self.states()) >= len(self.folders))
            time.sleep(0.3)  # for the watches to be set
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join(10)
        self.words.close()
        assert self.error is None, self.error

    def until(self, is_so: Callable[[], bool]):
        deadline = time.monotonic() + PATIENCE_S
        while not is_so():
            assert self.thread.is_alive(), self.error
            assert time.monotonic() < deadline, (indexed(self.store), self.events[-10:])
            time.sleep(0.03)

    def until_equal(self, folder):
        self.until(lambda: indexed(self.store, folder) == on_disk(folder))

    def sweep(self):
        for post in self.watcher._posts.values():
            post.sweep_at = 0.0

    def states(self):
        return [e for e in self.events if isinstance(e, FolderState)]

    def reports(self, name):
        done = [e.report for e in self.events if isinstance(e, FileDone)]
        return [r for r in done if os.path.basename(r.path) == name]  # noqa: PTH119


def indexed(store, folder=None):
    documents = store.documents(None if folder is None else str(folder))
    return {(d.path, d.sha256) for d in documents if d.state is State.INDEXED}


def on_disk(folder):
    found = set()
    for top, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(top, name)  # noqa: PTH118
            if name.endswith((".txt", ".md")) and not os.path.islink(path):  # noqa: PTH114
                with suppress(OSError), open(path, "rb") as file:  # noqa: PTH123
                    found.add((path, hashlib.sha256(file.read()).hexdigest()))
    return found


@pytest.fixture
def store(tmp_path):
    with open_store(tmp_path) as opened:
        yield opened


@pytest.fixture
def docs(tmp_path):
    (tmp_path / "docs").mkdir()
    return tmp_path / "docs"


def test_01_folders_made_and_filled_at_once(store, docs):
    with Watching(store, [docs]) as watching:
        for i in range(100):
            folder = docs / f"a{i}" / "b" / "c"
            folder.mkdir(parents=True)
            (folder / "x.txt").write_text(f"text {i}")
        time.sleep(1.0)
        watching.sweep()
        watching.until_equal(docs)
    assert len(indexed(store)) == 100


def test_02_a_tree_moved_in(store, docs, tmp_path):
    for i in range(30):
        (tmp_path / "tree" / f"s{i % 5}").mkdir(parents=True, exist_ok=True)
        (tmp_path / "tree" / f"s{i % 5}" / f"{i}.txt").write_text(f"text {i}")
    with Watching(store, [docs]) as watching:
        (tmp_path / "tree").rename(docs / "tree")
        watching.until_equal(docs)  # without a sweep: the folder's event is enough
    assert len(indexed(store)) == 30


def test_03_a_tree_moved_out_and_across_keeps_its_documents(store, docs, tmp_path):
    for i in range(5):
        (docs / "one").mkdir(exist_ok=True)
        (docs / "one" / f"{i}.txt").write_text(f"text {i}")
    with Watching(store, [docs]) as watching:
        watching.until_equal(docs)
        ids = {Path(d.path).name: d.doc_id for d in store.documents()}
        (docs / "one").rename(docs / "two")
        watching.until_equal(docs)
        assert {Path(d.path).name: d.doc_id for d in store.documents()} == ids
        (docs / "two").rename(tmp_path / "elsewhere")
        watching.until(lambda: not store.documents())
    assert len(watching.reader.read_paths) == 5


SAVES = ("vim", "emacs", "office", "word", "in place")


@pytest.mark.parametrize("how", SAVES)
def test_04_atomic_saves(store, docs, how):
    path = docs / "a.txt"
    path.write_text("first")
    with Watching(store, [docs]) as watching:
        watching.until_equal(docs)
        if how == "vim":
            (docs / "4913").write_text("")
            (docs / "4913").unlink()
            path.rename(docs / "a.txt~")
            (docs / ".a.txt.swp").write_text("b0VIM")
            path.write_text("second")
            (docs / "a.txt~").unlink()
        elif how == "emacs":
            (docs / ".#a.txt").symlink_to("user@host.1")
            (docs / "#a.txt#").write_text("sec")
            (docs / "a.txt~").write_text("first")
            path.write_text("second")
            (docs / "#a.txt#").unlink()
            (docs / ".#a.txt").unlink()
        elif how == "office":
            (docs / ".~lock.a.txt#").write_text("user")
            (docs / "lu123.tmp").write_text("second")
            (docs / "lu123.tmp").replace(path)
            (docs / ".~lock.a.txt#").unlink()
        elif how == "word":
            (docs / "~$a.txt").write_text("user")
            (docs / "~WRD0001.tmp").write_text("second")
            path.rename(docs / "~WRL0002.tmp")
            (docs / "~WRD0001.tmp").rename(path)
            (docs / "~WRL0002.tmp").unlink()
            (docs / "~$a.txt").unlink()
        else:
            path.write_text("second")
        watching.until(lambda: [c.text for c in store.iter_chunks()] == ["second"])
        time.sleep(0.5)
    assert [Path(d.path).name for d in store.documents()] == ["a.txt"]
    assert not any(r.state is State.REMOVED for r in watching.reports("a.txt"))


@linux
def test_05_a_slow_writer_is_never_read_half(store, docs):
    path = docs / "slow.txt"
    code = (
        "import sys, time\n"
        "with open(sys.argv[1], 'w') as f:\n"
        "    for i in range(8):\n"
        "        f.write(f'part {i}\\n'); f.flush(); time.sleep(0.1 if i % 3 else 0.9)\n"
    )
    with Watching(store, [docs]) as watching:
        subprocess.run([sys.executable, "-c", code, str(path)], check=True)
        watching.until_equal(docs)
    assert watching.reader.read_paths == [str(path)]  # once, when it was closed
    assert [r.state for r in watching.reports("slow.txt")] == [State.INDEXED]


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("n", [2_000, pytest.param(200_000, marks=pytest.mark.slow)])
def test_06_a_burst_of_small_files(store, docs, n, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "PATIENCE_S", 30 + n / 20)

    def write(k):
        for i in range(k, n, 4):
            folder = docs / f"d{i % 40}"
            folder.mkdir(exist_ok=True)
            (folder / f"{i}.txt").write_text(f"text {i}")

    with Watching(store, [docs]) as watching:
        threads = [threading.Thread(target=write, args=(k,)) for k in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        watching.sweep()
        watching.until(lambda: store.count_chunks() >= n)
        watching.until_equal(docs)


def test_07_deleted_and_made_again_and_renamed_in_case_only(store, docs):
    path = docs / "a.txt"
    path.write_text("first")
    with Watching(store, [docs]) as watching:
        watching.until_equal(docs)
        path.unlink()
        path.write_text("second")
        watching.until_equal(docs)
        doc_id = store.document(path).doc_id
        path.rename(docs / "A.txt")
        watching.until_equal(docs)
        assert store.document(docs / "A.txt").doc_id == doc_id
        (docs / "A.txt").unlink()
        watching.until(lambda: not store.documents())


def test_08_hard_links_and_copies_are_documents_of_their_own(store, docs):
    (docs / "a.txt").write_text("same")
    with Watching(store, [docs]) as watching:
        watching.until_equal(docs)
        os.link(docs / "a.txt", docs / "b.txt")
        shutil.copy(docs / "a.txt", docs / "c.txt")
        watching.until(lambda: len(indexed(store)) == 3)
        (docs / "a.txt").unlink()
        watching.until_equal(docs)
    assert len(indexed(store)) == 2


def test_09_a_folder_that_goes_away_and_comes_back_loses_nothing(store, docs, tmp_path):
    (docs / "a.txt").write_text("text")
    with Watching(store, [docs]) as watching:
        watching.until_equal(docs)
        docs.rename(tmp_path / "away")
        watching.until(lambda: watching.states()[-1].state == "away")
        time.sleep(0.5)
        assert len(store.documents()) == 1
        (tmp_path / "away" / "b.txt").write_text("written while away")
        (tmp_path / "away").rename(docs)
        watching.until(lambda: watching.states()[-1].state == "watched")
        watching.until_equal(docs)
        (docs / "c.txt").write_text("events come again")
        watching.until_equal(docs)
    assert [s.state for s in watching.states()] == ["watched", "away", "watched"]


def test_09_an_empty_mount_point_is_another_drive(store, docs, monkeypatch):
    (docs / "a.txt").write_text("text")
    with Watching(store, [docs]) as watching:
        watching.until_equal(docs)
        monkeypatch.setattr("docqa.sweep._nearest_folder", lambda path: (str(docs), 4711))
        (docs / "a.txt").unlink()
        watching.until(lambda: any(e.state is State.FAILED for e in watching.reports("docs")))
        watching.sweep()
        time.sleep(0.5)
        assert len(store.documents()) == 1 and len(watching.reports("docs")) == 1


@pytest.mark.parametrize("number", [24, 28])  # EMFILE, ENOSPC
def test_10_a_limit_of_the_system_leads_to_polling_and_is_said(store, docs, monkeypatch, number):
    def no_watches(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("watchfiles.watch", no_watches)
    with Watching(store, [docs]) as watching:
        watching.until(lambda: watching.states()[-1].state == "polled")
        assert "sysctl fs.inotify.max_user_" in watching.states()[-1].reason
        (docs / "a.txt").write_text("text")
        watching.until_equal(docs)


def test_10_what_watchfiles_says_is_understood():
    said = RuntimeError("error in underlying watcher: OS file watch limit reached. about [...]")
    assert "max_user_watches" in explain(said)


def test_11_network_drives_are_polled(store, docs, monkeypatch):
    monkeypatch.setattr(watch_module, "why_polled", lambda path: "it is on a network drive (nfs4)")
    with Watching(store, [docs]) as watching:
        assert watching.states() == [
            FolderState(str(docs), "polled", "it is on a network drive (nfs4)")
        ]
        (docs / "a.txt").write_text("text")
        watching.until_equal(docs)
        (docs / "a.txt").unlink()
        watching.until(lambda: not store.documents())
    assert watching.watcher._posts[str(docs)].hints is None


def test_11_the_kind_of_drive_is_known(monkeypatch):
    import psutil

    class Drive:
        def __init__(self, mountpoint, fstype):
            self.mountpoint, self.fstype = mountpoint, fstype

    drives = [Drive("/", "ext4"), Drive("/net", "nfs4"), Drive("/net/local", "xfs")]
    drives += [Drive("/home/u/ssh", "fuse.sshfs"), Drive("/usb", "fuseblk")]
    monkeypatch.setattr(psutil, "disk_partitions", lambda all: drives)
    assert "nfs4" in hints.why_polled("/net/a") and "sshfs" in hints.why_polled("/home/u/ssh")
    for path in ("/home/u", "/net/local/x", "/network", "/usb/a"):
        assert hints.why_polled(path) is None


def test_12_a_file_gone_before_it_is_opened_or_not_permitted(store, docs, monkeypatch):
    (docs / "good.txt").write_text("good")
    secret = docs / "secret.txt"
    secret.write_text("secret")
    opened = settling.is_open_for_writing

    def vanish(path):
        if path.endswith("gone.txt"):
            os.unlink(path)  # noqa: PTH108
        return opened(path)

    monkeypatch.setattr("docqa.settling.is_open_for_writing", vanish)

    import docqa.reading as reading

    hash_of = reading._hash

    def refused(path, cancel):
        if path.endswith("secret.txt"):
            raise PermissionError(13, "Permission denied")
        return hash_of(path, cancel)

    monkeypatch.setattr("docqa.reading._hash", refused)
    with Watching(store, [docs]) as watching:
        (docs / "gone.txt").write_text("soon gone")
        watching.until(lambda: {Path(p).name for p, _ in indexed(store)} == {"good.txt"})
        watching.until(lambda: watching.reports("secret.txt"))
        watching.sweep()
        time.sleep(0.5)
        assert "Permission denied" in watching.reports("secret.txt")[0].error
        assert len(watching.reports("secret.txt")) == 1  # said once
        monkeypatch.undo()
        watching.sweep()
        watching.until_equal(docs)


@linux
def test_13_pipes_sockets_loops_holes_and_names(store, docs, tmp_path, monkeypatch):
    (tmp_path / "outside.txt").write_text("outside")
    os.mkfifo(docs / "pipe.txt")
    (docs / "loop").symlink_to(docs)
    (docs / "out.txt").symlink_to(tmp_path / "outside.txt")
    with (docs / "hole.txt").open("wb") as file:
        file.truncate(1 << 40)
    names = [b"line\nbreak.txt", b"esc\x1b[31m.txt", b"bad\xff\xfe.txt"]
    monkeypatch.chdir(docs)
    with socket.socket(socket.AF_UNIX) as server, Watching(store, [docs]) as watching:
        server.bind("s.txt")
        for name in names:
            with open(os.path.join(os.fsencode(docs), name), "wb") as file:  # noqa: PTH118,PTH123
                file.write(b"text of " + name.hex().encode())
        watching.until(lambda: len(indexed(store)) == 3)
        watching.until(lambda: watching.reports("hole.txt"))
    assert {os.fsencode(Path(p).name) for p, _ in indexed(store)} == set(names)
    assert "larger than" in watching.reports("hole.txt")[0].error


def test_14_after_sleep_everything_is_looked_at(store, docs):
    times = {"wall": 1000.0, "steady": 10.0}
    clock = SuspendClock(wall=lambda: times["wall"], steady=lambda: times["steady"])
    assert not clock.has_slept()
    times.update(wall=1005.0, steady=15.0)
    assert not clock.has_slept()
    times.update(wall=1605.0, steady=15.1)
    assert clock.has_slept() and not clock.has_slept()
    with Watching(store, [docs]) as watching:
        for post in watching.watcher._posts.values():
            post.hints.close()  # what happens now is not heard of
        (docs / "a.txt").write_text("text")
        time.sleep(0.3)
        assert not store.documents()
        watching.watcher._clock.wall = lambda: time.time() + 600
        watching.until_equal(docs)


def test_15_what_changed_before_the_start_is_found(store, docs):
    (docs / "a.txt").write_text("first")
    (docs / "b.txt").write_text("second")
    with Watching(store, [docs]) as watching:
        watching.until_equal(docs)
    (docs / "a.txt").write_text("changed")
    (docs / "b.txt").unlink()
    (docs / "c.txt").write_text("new")
    with Watching(store, [docs]) as watching:
        watching.until_equal(docs)


@pytest.mark.slow
def test_16_a_look_at_100_000_files_reads_none(store, docs):
    fill_rows(store, docs, 100_000)
    reader = LineReader()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    reports = run_sync(store, [docs], reader, options=SyncOptions(changes_only=True))
    assert not reports and not reader.read_paths
    grown_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown_mb < 300
    (docs / "d7" / "7001.txt").write_text("changed")
    reports = run_sync(store, [docs], reader, options=SyncOptions(changes_only=True))
    assert [(name, r.state) for name, r in reports.items()] == [("7001.txt", State.INDEXED)]


# Beside the sixteen


def test_globs_ignore_files_and_temporary_files_hold_for_events(store, docs):
    (docs / ".docqaignore").write_text("private/\n")
    (docs / "private").mkdir()
    folder = WatchedFolder(str(docs), include=("*.txt",), exclude=("old",))
    with Watching(store, [folder]) as watching:
        for name in ("a.md", "private/b.txt", "old/c.txt", ".hidden/d.txt", "e.txt~", ".f.txt"):
            (docs / name).parent.mkdir(exist_ok=True)
            (docs / name).write_text("unwanted")
        (docs / "good.txt").write_text("wanted")
        watching.until(lambda: len(indexed(store)) == 1)
        time.sleep(1.0)
        assert {Path(p).name for p, _ in indexed(store)} == {"good.txt"}
        (docs / ".docqaignore").write_text("")
        watching.until(lambda: {Path(p).name for p, _ in indexed(store)} == {"good.txt", "b.txt"})


def test_folders_may_be_switched_on_and_off(store, docs, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (docs / "a.txt").write_text("a")
    (other / "b.txt").write_text("b")
    with Watching(store, [docs]) as watching:
        watching.until_equal(docs)
        watching.folders = [*watching.folders, WatchedFolder(str(other))]
        watching.until_equal(other)
        watching.folders = watching.folders[1:]
        time.sleep(0.3)
        (docs / "late.txt").write_text("nobody looks")
        (other / "c.txt").write_text("c")
        watching.until_equal(other)
    assert len(indexed(store)) == 3


def test_a_library_that_cannot_be_written_is_said_and_tried_again(store, docs):
    with Watching(store, [docs]) as watching:
        look = watching.watcher._look
        failures = [LibraryError("the disk is full"), LibraryError("the disk is full")]

        def failing(paths, walk):
            if failures:
                raise failures.pop()
            yield from look(paths, walk)

        watching.watcher._look = failing
        (docs / "a.txt").write_text("text")
        watching.until_equal(docs)
    assert [e.text for e in watching.events if isinstance(e, WatchProblem)] == [
        "the disk is full"
    ] * 2


def test_stop_interrupts_a_file_that_is_being_read(store, docs):
    reader = LineReader()
    (docs / "a.txt").write_text("one\nWAIT\nthree")
    watching = Watching(store, [docs], reader)
    reader.on_wait = lambda path: watching.stop.set()
    with watching:
        watching.thread.join(10)
        assert not watching.thread.is_alive()
    assert not store.documents()


@linux
def test_writers_are_known():
    import tempfile

    with tempfile.NamedTemporaryFile() as file:
        assert is_open_for_writing(file.name)
        with open(file.name, "rb"):  # noqa: PTH123
            pass
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.txt"
        path.write_text("x")
        with path.open("rb"):
            assert not is_open_for_writing(str(path))
        with path.open("ab"):  # the lease was given back
            assert is_open_for_writing(str(path))
        assert not is_open_for_writing(str(path / "none"))


def log_lines(store):
    return [line for chunk in store.iter_chunks() for line in chunk.text.split("\n")]


def test_a_growing_log_is_followed_through_rotation(store, docs):
    reader = WorkerReader(Config(), None, lambda: ("", 256))
    path = docs / "app.log"
    n = 0

    def write(k):
        nonlocal n
        with path.open("a") as file:
            for _ in range(k):
                n += 1
                file.write(f"2024-06-01 00:{n // 60:02d}:{n % 60:02d} INFO line N{n}\n")
                file.flush()

    write(10)
    with Watching(store, [docs], reader) as watching:
        stream = path.open("a")  # a daemon keeps it open
        watching.until(lambda: len(log_lines(store)) == 10)
        for _ in range(3):
            write(5)
            watching.until(lambda: len(log_lines(store)) == n)
        path.rename(docs / "app.log.1")
        write(4)
        watching.until(lambda: sorted(log_lines(store)) == sorted(set(log_lines(store))))
        watching.until(lambda: len(log_lines(store)) == n)
        shutil.copy(path, docs / "app.log.2")
        os.truncate(path, 0)
        write(6)
        watching.until(lambda: len(log_lines(store)) == n)
        stream.close()
        time.sleep(0.5)
    reader.close()
    assert len(set(log_lines(store))) == len(log_lines(store)) == n
    assert check(store.paths) == []


def test_a_walk_may_be_shallow(store, docs):
    from docqa.discover import Findings, discover

    (docs / "in").mkdir()
    (docs / "in" / "a.txt").write_text("a")
    (docs / "b.txt").write_text("b")
    walk = WalkOptions(watched=(WatchedFolder(str(docs)),), are_hints=True)
    found = [f.path for f in discover([docs], Findings(), walk.shallow())]
    assert found == [str(docs / "b.txt")]
    assert store.known_in(str(docs)) == []


def test_interrupted_is_not_swallowed(store, docs):
    def look(paths, walk):
        raise Interrupted("by somebody else")
        yield

    watching = Watching(store, [docs])
    watching.watcher._look = look
    with pytest.raises(Interrupted):
        list(watching.watcher.run())
    watching.words.close()


def test_a_watched_file_may_be_saved_by_replacing_it(store, docs):
    path = docs / "a.txt"
    path.write_text("first")
    with Watching(store, [path]) as watching:
        watching.until_equal(docs)
        for text in ("second", "third"):
            (docs / "a.tmp").write_text(text)
            (docs / "a.tmp").replace(path)
            watching.until_equal(docs)
        (docs / "b.txt").write_text("not watched")
        time.sleep(0.5)
    assert [c.text for c in store.iter_chunks()] == ["third"]
    assert [s.state for s in watching.states()] == ["watched"]
