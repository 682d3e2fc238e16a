"""Reading on equals reading anew: every line once, every number right, at any cut."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from docqa.chunk_log import chunk_log_records
from docqa.errors import UnreadableFile
from docqa.parse import log_tail
from docqa.parse.log_tail import Growth, compare
from docqa.parse.stream import read_text
from docqa.protocols import ParseOptions
from docqa.types import Chunk

OPTIONS = ParseOptions()
WHOLE = ParseOptions(whole_lines=True)


def read(path, tail=None, options=OPTIONS):
    *chunks, info = chunk_log_records(path, options, target_chars=400, tail=tail)
    return chunks, info


def grow(path, data):
    with path.open("ab") as file:
        file.write(data)


def read_on(path, chunks, info, options=OPTIONS):
    """Return the chunks and info after reading on to the end."""
    while compare(path, info.tail) is Growth.GROWN:
        before = info.tail
        new, info = read(path, before, options)
        assert all(isinstance(chunk, Chunk) for chunk in new)
        chunks = [*chunks[: before.ordinal], *new]
        if info.tail is None or info.tail.n_bytes == before.n_bytes:
            break
    return chunks, info


def check_tiling(path, chunks, info, whole=None):
    text = read_text(path) if whole is None else whole
    lines = text.split("\n")
    position = 0
    for ordinal, chunk in enumerate(chunks):
        assert chunk.ordinal == ordinal and chunk.span.start >= position
        assert text[position : chunk.span.start].strip("\n") == ""
        assert text[chunk.span.start : chunk.span.end] == chunk.text
        first = chunk.span.locator.first
        assert lines[first - 1].endswith(chunk.text.split("\n")[0]) or len(lines[first - 1]) > 400
        position = chunk.span.end
    assert text[position:].strip("\n") == ""
    assert info.n_lines == text.count("\n") + (not text.endswith("\n"))


def log_bytes(rng, n, newline=b"\n"):
    lines = []
    for i in range(n):
        time = f"2024-06-{1 + i // 1000:02d} {i // 60 % 24:02d}:{i % 60:02d}:07"
        level = rng.choice(["INFO", "WARN", "ERROR"])
        lines.append(f"{time} {level} job {i} is \u00e9tat {rng.randint(0, 9)}".encode())
        if rng.random() < 0.1:
            lines.append(b"  at frame " + b"x" * rng.randint(0, 300))
        if rng.random() < 0.05:
            lines.append(b"")
        if rng.random() < 0.02:
            lines.append(b"\x1b[31mred\x1b[0m \xff\xfe bad bytes")
    return newline.join(lines) + newline


@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
@pytest.mark.parametrize("seed", range(6))
def test_reading_on_tiles_the_text_at_any_cut(tmp_path, seed, newline):
    rng = random.Random(seed)
    data = log_bytes(rng, 200, newline)
    path = tmp_path / "a.log"
    cuts = sorted(rng.sample(range(100, len(data)), 12))
    path.write_bytes(data[: cuts[0]])
    chunks, info = read(path)
    n_anew = 0
    for start, end in zip(cuts, [*cuts[1:], len(data)], strict=True):
        grow(path, data[start:end])
        if info.tail is None:  # cut inside a character or a CRLF: read anew, never wrongly on
            n_anew += 1
            chunks, info = read(path)
        else:
            chunks, info = read_on(path, chunks, info)
        check_tiling(path, chunks, info)
    assert n_anew <= 3
    fresh, _ = read(path)
    assert "\n".join(c.text for c in chunks).split() == "\n".join(c.text for c in fresh).split()
    assert abs(len(chunks) - len(fresh)) <= len(fresh) // 4


def test_only_the_last_chunk_is_read_again(tmp_path):
    path = tmp_path / "a.log"
    path.write_bytes(log_bytes(random.Random(1), 500))
    _, info = read(path)
    grow(path, b"2024-06-09 00:00:00 ERROR the new line\n")
    new, info_now = read(path, info.tail)
    assert sum(len(chunk.text) for chunk in new) < 1000
    assert new[-1].text.endswith("the new line") and "ERROR" in new[-1].levels
    assert info_now.n_lines == info.n_lines + 1 and info_now.tail.n_bytes == path.stat().st_size


def test_a_last_line_is_kept_back_until_it_is_whole(tmp_path):
    path = tmp_path / "a.log"
    path.write_bytes(b"2024-06-01 00:00:01 one\n2024-06-01 00:00:02 tw")
    chunks, info = read(path, options=WHOLE)
    assert chunks[0].text == "2024-06-01 00:00:01 one" and info.n_lines == 1
    assert compare(path, info.tail) is Growth.GROWN
    _, still = read(path, info.tail, WHOLE)
    assert still.tail == info.tail
    grow(path, b"o\n")
    chunks, info = read(path, info.tail, WHOLE)
    assert chunks[0].text.split("\n")[1] == "2024-06-01 00:00:02 two"
    assert compare(path, info.tail) is Growth.SAME


def test_years_go_on_where_dates_have_none(tmp_path):
    path = tmp_path / "syslog.log"
    path.write_bytes(b"".join(b"Dec 31 23:%02d:00 host a: b\n" % i for i in range(60)))
    os.utime(path, (1_735_689_600, 1_735_689_600))  # 2025-01-01
    _, info = read(path)
    grow(path, b"Jan  1 00:00:05 host a: happy\n")
    os.utime(path, (1_735_689_700, 1_735_689_700))
    new, _ = read(path, info.tail)
    assert new[-1].time_last == 1_735_689_605.0


def test_a_file_that_is_another_is_never_read_on(tmp_path):
    path = tmp_path / "a.log"
    data = log_bytes(random.Random(2), 100)
    path.write_bytes(data)
    _, info = read(path)
    for other in (
        data[:500],  # cut
        b"x" + data,  # another beginning
        data[:-300] + b"y" * 300 + b"more\n",  # the same beginning, cut and grown again
        b"\0" * len(data) + b"grown over a hole\n",
        b"",
    ):
        path.write_bytes(other)
        assert compare(path, info.tail) is Growth.OTHER
        with pytest.raises(UnreadableFile):
            read(path, info.tail)
    path.unlink()
    os.mkfifo(path)
    assert compare(path, info.tail) is Growth.OTHER


def test_long_lines_blank_ends_and_packed_files(tmp_path):
    path = tmp_path / "a.log"
    path.write_bytes(b"2024-06-01 00:00:01 one\n" + b"2024-06-01 00:00:02 " + b"z" * 40_000)
    chunks, info = read(path)
    grow(path, b"z" * 100 + b"\n\n\n")
    chunks, info = read_on(path, chunks, info)
    check_tiling(path, chunks, info)
    grow(path, b"\n2024-06-01 00:00:03 three\n")
    chunks, info = read_on(path, chunks, info)
    check_tiling(path, chunks, info)
    assert chunks[-1].text.endswith("three")
    wide = tmp_path / "wide.log"
    wide.write_bytes("2024-06-01 00:00:01 one\n".encode("utf-16"))
    assert read(wide)[1].tail is None


def test_a_long_absence_is_made_up_in_steps(tmp_path, monkeypatch):
    monkeypatch.setattr(log_tail, "MAX_STEP_BYTES", 2_000)
    path = tmp_path / "a.log"
    data = log_bytes(random.Random(3), 300)
    path.write_bytes(data[:1000])
    chunks, info = read(path)
    grow(path, data[1000:])
    n_steps = 0
    while compare(path, info.tail) is Growth.GROWN:
        before = info.tail
        new, info = read(path, before)
        assert before.n_bytes < info.tail.n_bytes <= before.n_bytes + 2_000
        chunks = [*chunks[: before.ordinal], *new]
        n_steps += 1
    assert n_steps >= len(data) // 2_000 - 1
    check_tiling(path, chunks, info)


def test_real_logs_read_on_like_anew(tmp_path):
    logs = Path(__file__).parents[4] / "shared" / "data" / "logs"
    if not logs.is_dir():
        pytest.skip("shared data are not here")
    rng = random.Random(4)
    names = [p for p in sorted(logs.rglob("*")) if p.is_file() and 2_000 < p.stat().st_size < 4e5]
    n_read = 0
    for source in names[:60]:
        data = source.read_bytes()
        path = tmp_path / source.name
        cut = data.rfind(b"\n", 0, rng.randint(1_000, len(data))) + 1
        path.write_bytes(data[:cut])
        try:
            chunks, info = read(path)
        except UnreadableFile:
            continue
        if info.tail is None:
            continue
        grow(path, data[cut:])
        chunks, info = read_on(path, chunks, info)
        check_tiling(path, chunks, info)
        n_read += 1
    assert n_read >= 10
