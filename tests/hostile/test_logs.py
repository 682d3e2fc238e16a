"""Hostile logs and texts: read in bounded memory, what is text in them is found."""

from __future__ import annotations

import threading
from pathlib import Path

import psutil
import pytest

from docqa.cli import render
from docqa.config import ParseConfig
from docqa.errors import FileError
from docqa.parse.worker import ParseWorker
from docqa.protocols import ParseOptions
from docqa.types import State
from models.embedder import packaged_folder
from tests.hostile.conftest import Open, found, synced
from tests.hostile.make_logs import HEAD, LOGS, TAIL

SMALL_BYTES = 1 << 18
REFUSED = frozenset({"gzip_of_gzip.log.gz"})
CUT = frozenset({"cut_gzip.log.gz", "no_newline.txt"})  # whose end is not there
NO_END = frozenset(
    {"deep_html.html", "wide_csv.csv", "deep_markdown.md", "deep_json.log", "deep_json.jsonl"}
    | {"impossible_times.log", "half_surrogates.log"}
)
MAX_CHUNK_CHARS = 20_000


def chunks(path: Path, worker: ParseWorker) -> tuple[list[str], str]:
    """Return the passages of a file as they are indexed, and the error."""
    from docqa.chunk import ChunkOptions

    options = ChunkOptions(title=path.stem, tokenizer=str(packaged_folder() / "tokenizer.json"))
    texts, reason = [], ""
    try:
        for item in worker.parse(path, ParseOptions(), chunking=options):
            text = getattr(item, "text", "")
            assert len(text) < MAX_CHUNK_CHARS
            text.encode()  # whole characters only
            texts.append(text)
    except FileError as error:
        reason = error.reason
        assert 5 < len(reason) < 400 and "Traceback" not in reason
    return texts, reason


def test_every_small_one_is_read_and_its_words_found(tmp_path: Path) -> None:
    with ParseWorker() as worker:
        for name, make in LOGS.items():
            path = tmp_path / name
            make(path, SMALL_BYTES)
            texts, reason = chunks(path, worker)
            if name in REFUSED:
                assert "binary" in reason
                continue
            assert not reason, (name, reason)
            assert any("needle ok" in text for text in texts), name
            if name not in CUT | NO_END:
                assert any("at the end" in text for text in texts), name
        assert worker.n_started == 1


def test_the_others_are_done_and_the_words_are_answered(
    tmp_path: Path, open_workspace: Open
) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    names = (
        "escapes.log",
        "invalid_bytes.log",
        "gzip_of_gzip.log.gz",
        "long_line.log",
        "zeros.log",
    )
    for name in names:
        LOGS[name](docs / name, SMALL_BYTES // 8)
    workspace = open_workspace()
    reports = synced(workspace, docs)
    assert reports.pop("gzip_of_gzip.log.gz").state is State.FAILED
    assert {report.state for report in reports.values()} == {State.INDEXED}
    assert found(workspace, "needle ok") == set(reports)
    # The library keeps what it could not take for a colour; the way to the screen is sanitised.
    for hit in workspace.search("before after", 20, is_reranked=False):
        shown = render.hit_text(1, hit, render.Style(False))
        assert "\x1b" not in shown and "\x9b" not in shown and "\u202e" not in shown


class Peak:
    """The largest memory of a process, looked at while it works."""

    def __init__(self, worker: ParseWorker) -> None:
        self.n_bytes = 0
        self._worker = worker
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def _watch(self) -> None:
        while not self._is_over.wait(0.05):
            try:
                rss = psutil.Process(self._worker.pid).memory_info().rss
            except (psutil.Error, TypeError, ValueError):
                continue
            self.n_bytes = max(self.n_bytes, rss)

    def __enter__(self) -> Peak:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", ["long_line.log", "sparse.log", "zeros.log", "no_newline.txt"])
def test_lines_of_a_gigabyte_stay_under_300_mb(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    LOGS[name](path, 1 << 30 if name != "no_newline.txt" else 1 << 27)
    with ParseWorker(ParseConfig(page_timeout_s=120.0)) as worker:
        worker.start()
        with Peak(worker) as peak:
            n_found = sum("needle ok" in text for text in iter_texts(path, worker))
        assert n_found >= 1
    assert peak.n_bytes < 300_000_000


def iter_texts(path: Path, worker: ParseWorker):
    from docqa.chunk import ChunkOptions

    options = ChunkOptions(title=path.stem, tokenizer=str(packaged_folder() / "tokenizer.json"))
    for item in worker.parse(path, ParseOptions(), chunking=options):
        yield getattr(item, "text", "")


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("level", "is_refused"), [(9, True), (1, False)])
def test_packed_bombs_are_refused_or_read_in_little_memory(
    tmp_path: Path, level: int, is_refused: bool
) -> None:
    """What unpacks to gigabytes: given up by its ratio, or read like any long line."""
    import gzip

    path = tmp_path / "bomb.log.gz"
    with gzip.open(path, "wb", compresslevel=level) as file:
        file.write(HEAD)
        for _ in range(3 << 10):
            file.write(b"\0" * (1 << 20))
        file.write(TAIL)
    with ParseWorker(ParseConfig(page_timeout_s=120.0)) as worker:
        worker.start()
        with Peak(worker) as peak:
            if is_refused:  # a thousandth of its size; a fast packer's 230th passes
                with pytest.raises(FileError, match="unpacks to more than"):
                    list(iter_texts(path, worker))
            else:
                assert any("needle ok at the end" in text for text in iter_texts(path, worker))
    assert peak.n_bytes < 300_000_000
