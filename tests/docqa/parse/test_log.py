"""Logs: records, times, levels, encodings, and that nothing stops or loses a line."""

import bz2
import codecs
import gzip
import lzma
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from docqa.chunk_log import EMBED_CHARS, chunk_log_records
from docqa.errors import UnreadableFile, UnsupportedFile
from docqa.parse.encoding import decode_line, detect_encoding
from docqa.parse.levels import find_level
from docqa.parse.log import MAX_RECORD_CHARS, looks_like_log, parse_log
from docqa.parse.log_format import HeaderReader, find_formats
from docqa.parse.stream import read_text
from docqa.parse.templates import mask
from docqa.parse.timestamps import YearClock
from docqa.protocols import ParseOptions
from docqa.types import Block, Chunk, DocumentInfo

OPTIONS = ParseOptions()
LOGS = Path(__file__).parents[3] / "../shared/data/logs"


def blocks_of(path: Path) -> list[Block]:
    return [item for item in parse_log(path, OPTIONS) if isinstance(item, Block)]


def chunks_of(path: Path, **options: int) -> list[Chunk]:
    found = chunk_log_records(path, OPTIONS, **options)
    return [item for item in found if isinstance(item, Chunk)]


def info_of(path: Path) -> DocumentInfo:
    *_, info = chunk_log_records(path, OPTIONS)
    assert isinstance(info, DocumentInfo)
    return info


def written(folder: Path, data: bytes | str, name: str = "app.log") -> Path:
    path = folder / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def utc(text: str) -> float:
    return datetime.fromisoformat(text + "+00:00").timestamp()


def check_tiling(path: Path, chunks: list[Chunk]) -> None:
    """What docqa/types.py promises of chunks."""
    text = read_text(path)
    position = 0
    for ordinal, chunk in enumerate(chunks):
        assert chunk.ordinal == ordinal
        assert text[chunk.span.start : chunk.span.end] == chunk.text
        assert text[position : chunk.span.start].strip("\n") == ""
        assert chunk.span.locator.first == 1 + text.count("\n", 0, chunk.span.start)
        assert chunk.span.locator.last == 1 + text.count("\n", 0, chunk.span.end)
        position = chunk.span.end
    assert text[position:].strip("\n") == ""


# --- times ---------------------------------------------------------------------------------------

TIMES = [
    ("2016-12-19 15:04:22,619 INFO x", "2016-12-19T15:04:22.619"),
    ("[2020-01-01 00:00:00,123] INFO x", "2020-01-01T00:00:00.123"),
    ("2022-08-27T17:22:01.694554+03:00 x", "2022-08-27T14:22:01.694554"),
    ("2022-08-27T17:22:01Z x", "2022-08-27T17:22:01"),
    ("2025-08-16 13:02:58.095 CEST [885178] ERROR:  x", "2025-08-16T11:02:58.095"),
    ("2013-02-27 10:00:00 -0500 x", "2013-02-27T15:00:00"),
    ("<34>1 2003-10-11T22:14:15.003Z mymachine su - ID47 - x", "2003-10-11T22:14:15.003"),
    ('1.2.3.4 - - [20/Jul/2009:22:59:26 -0100] "GET / HTTP/1.0" 200 1', "2009-07-20T23:59:26"),
    ("2023/01/15 10:00:00 [error] 12#0: *1 connect() failed", "2023-01-15T10:00:00"),
    ("[Wed Oct 11 14:32:52.123456 2000] [core:error] [pid 1] x", "2000-10-11T14:32:52"),
    ("Tue, 15 Nov 1994 08:12:31 GMT x", "1994-11-15T08:12:31"),
    ("17/06/09 20:10:40 INFO executor.Backend: x", "2017-06-09T20:10:40"),
    ("1428634687123 Hello", "2015-04-10T02:58:07.123"),
    ("1697048351.000001 execve", "2023-10-11T18:19:11.000001"),
    ("20120702.102240,672:DEBUG:foo", "2012-07-02T10:22:40.672"),
    ("200806 14:25:02 mysqld started", "2020-08-06T14:25:02"),
    ("2012-025T10:22:40,672:DEBUG:foo", "2012-01-25T10:22:40.672"),
    ("@40000000433225833b6e1a8c tcpserver: x", "2005-09-22T03:31:05"),
    ("1/31/2020 4:05:06 PM\tError\tx", "2020-01-31T16:05:06"),
    ("31.12.2020 23:59:59 x", "2020-12-31T23:59:59"),
    ("INFO 2020-01-01 10:00:00 x", "2020-01-01T10:00:00"),
    ("web-1  | 2020-01-01 10:00:00 x", "2020-01-01T10:00:00"),
    ('{"level":"info","ts":1716723772.5,"msg":"x"}', "2024-05-26T11:42:52.5"),
    ('{"msg":"x","@timestamp":"2025-01-13T09:58:13.631Z"}', "2025-01-13T09:58:13.631"),
    ('time="2021-09-15T21:17:10Z" level=error msg="x"', "2021-09-15T21:17:10"),
    ("2020-02-30 10:00:00 no such day", None),
    ("12:01:02.123 only a clock", None),
    ("[   12.345678] usb 1-1: new device", None),
    ("Thread-16::DEBUG::2011-06-23 19:03:11,607::client::225::x", "2011-06-23T19:03:11.607"),
]


@pytest.mark.parametrize(("line", "expected"), TIMES)
def test_time_of_a_line(tmp_path: Path, line: str, expected: str | None) -> None:
    (block,) = blocks_of(written(tmp_path, line + "\n"))
    assert block.time == (pytest.approx(utc(expected), abs=1e-5) if expected else None)
    (chunk,) = chunks_of(tmp_path / "app.log")
    assert (chunk.time_first, chunk.time_last) == (block.time, block.time)


@pytest.mark.parametrize(
    ("line", "mtime", "year"),
    [
        ("Nov  3 09:23:38 host automount[7998]: x", "2019-11-04T00:00:00", 2019),
        ("Nov  3 09:23:38 host automount[7998]: x", "2019-11-01T00:00:00", 2018),
        ("E0517 15:04:22.619632 195 logging.cc:253] x", "2021-06-01T00:00:00", 2021),
        ("05-17 15:04:22.123  1234  1250 E Tag: x", "2021-05-15T00:00:00", 2020),
    ],
)
def test_year_from_the_files_own_date(tmp_path: Path, line: str, mtime: str, year: int) -> None:
    path = written(tmp_path, line + "\n")
    os.utime(path, (utc(mtime), utc(mtime)))
    (block,) = blocks_of(path)
    assert block.time is not None
    assert datetime.fromtimestamp(block.time, UTC).year == year


def test_year_rolls_over_and_a_late_line_of_december_stays_in_its_year(tmp_path: Path) -> None:
    lines = ["Dec 31 23:59:58", "Jan  1 00:00:01", "Dec 31 23:59:59", "Jan  1 00:00:02"]
    path = written(tmp_path, "".join(f"{line} host app[1]: x\n" for line in lines))
    os.utime(path, (utc("2021-01-05T00:00:00"),) * 2)
    assert [block.time for block in blocks_of(path)] == [
        utc("2020-12-31T23:59:58"),
        utc("2021-01-01T00:00:01"),
        utc("2020-12-31T23:59:59"),
        utc("2021-01-01T00:00:02"),
    ]


MONTHS = ("Nov", "Feb", "Jun", "Nov", "Feb", "Mar")


def test_two_new_years_in_one_file(tmp_path: Path) -> None:
    lines = [f"{month} 10 12:00:00 host app: x" for month in MONTHS]
    path = written(tmp_path, "\n".join(lines) + "\n")
    os.utime(path, (utc("2022-03-11T00:00:00"),) * 2)
    years = [datetime.fromtimestamp(block.time or 0, UTC).year for block in blocks_of(path)]
    assert years == [2020, 2021, 2021, 2021, 2022, 2022]


# --- levels --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "level"),
    [
        ("2016-12-19 15:04:22,619 WARN [x] y", "WARN"),
        ("2016-12-19 15:04:22,619 [main] ERROR c.e.Foo - y", "ERROR"),
        ("2022-06-02T11:58:12.193Z info vpxd[45715] y", "INFO"),
        ("2020-08-06T14:25:02.835618Z 0 [Warning] [MY-010068] y", "WARN"),
        ("2023/01/15 10:00:00 [error] 12#0: *1 y", "ERROR"),
        ("[Wed Oct 11 14:32:52 2000] [core:crit] y", "FATAL"),
        ("E0517 15:04:22.619632 195 logging.cc:253] y", "ERROR"),
        ("W0517 15:04:22.619632 195 logging.cc:253] y", "WARN"),
        ("05-17 15:04:22.123  1234  1250 D Tag: y", "DEBUG"),
        ("time=2021-09-15T21:17:10Z level=warning msg=y", "WARN"),
        ('{"ts":"2021-09-15T21:17:10Z","level":30,"msg":"y"}', "INFO"),
        ('{"ts":"2021-09-15T21:17:10Z","level":50,"msg":"y"}', "ERROR"),
        ('{"t":{"$date":"2026-03-10T20:58:10+00:00"},"s":"W","msg":"y"}', "WARN"),
        ("<11>1 2003-10-11T22:14:15Z host su - - - y", "ERROR"),
        ("2025-08-13 01:45:01.123 PDT [12345] LOG:  y", "INFO"),
        ("2020-01-01 10:00:00 FATAL: y", "FATAL"),
        ("Mar  1 10:00:00 host sshd[1]: error: y", "ERROR"),
        ('1.2.3.4 - - [20/Jul/2009:22:59:26 +0000] "GET /error HTTP/1.0" 500 1', None),
        ("2020-01-01 10:00:00 the error rate was low", None),
        ("2020-01-01 10:00:00 information about it", None),
    ],
)
def test_level_of_a_line(tmp_path: Path, line: str, level: str | None) -> None:
    (block,) = blocks_of(written(tmp_path, line + "\n"))
    assert block.level == level


def test_levels_told_by_digits_or_letters_are_not_mixed_up(tmp_path: Path) -> None:
    """Lines alike but for hexadecimal digits share what is known of them, but not this."""
    lines = [f"{c}0517 15:04:2{i}.619632 195 a.cc:2] y" for i, c in enumerate("EFIWE")]
    assert [b.level for b in blocks_of(written(tmp_path, "\n".join(lines) + "\n"))] == [
        *("ERROR", "FATAL", "INFO", "WARN", "ERROR")
    ]
    lines = [f'{{"ts":"2021-09-15T21:17:1{i}Z","level":{i}0,"msg":"y"}}' for i in (3, 5, 4, 3)]
    assert [b.level for b in blocks_of(written(tmp_path, "\n".join(lines) + "\n"))] == [
        *("INFO", "ERROR", "WARN", "INFO")
    ]


def test_find_level_of_an_empty_line() -> None:
    assert find_level("") is None


# --- records -------------------------------------------------------------------------------------

TRACES = {
    "java": "a.StateException: no\n\tat a.B.c(B.java:1)\nCaused by: x.Y: z\n\t... 3 more",
    "python": 'Traceback (most recent call last):\n  File "a.py", line 1\n    g()\nValueError: no',
    "go": "panic: no\n\ngoroutine 1 [running]:\nmain.main()\n\t/tmp/a.go:4 +0x39",
    "js": "TypeError: no\n    at Object.<anonymous> (/a.js:1:7)\n    at node:internal/main:1",
    ".net": "System.Exception: no\n   at A.B.C() in C:\\a.cs:line 1\n   --- End of inner ---",
}


@pytest.mark.parametrize("name", TRACES)
def test_a_stack_trace_belongs_to_its_record(tmp_path: Path, name: str) -> None:
    trace = TRACES[name]
    text = (
        "2020-01-01 10:00:00 INFO before\n"
        f"2020-01-01 10:00:01 ERROR failed\n{trace}\n"
        "2020-01-01 10:00:02 INFO after\n"
    )
    first, second, third = blocks_of(written(tmp_path, text))
    assert second.text == f"2020-01-01 10:00:01 ERROR failed\n{trace}"
    assert second.locator.first == 2
    assert second.locator.last == third.locator.first - 1 == 2 + trace.count("\n") + 1
    assert (first.level, second.level, third.level) == ("INFO", "ERROR", "INFO")


def test_lines_without_times_are_records_unless_they_continue(tmp_path: Path) -> None:
    path = written(tmp_path, "alpha\n  more\n\nbeta\nat x.Y\ngamma\n")
    assert [b.text for b in blocks_of(path)] == ["alpha\n  more", "beta\nat x.Y", "gamma"]


def test_a_format_that_begins_in_the_middle_is_found(tmp_path: Path) -> None:
    old = "".join(f"Mar  1 10:00:{i % 60:02d} host app: x {i}\n" for i in range(700))
    new = "".join(f"2021-03-02T11:00:{i % 60:02d}Z app: y {i}\n" for i in range(1200))
    path = written(tmp_path, old + new)
    os.utime(path, (utc("2021-03-03T00:00:00"),) * 2)
    last = blocks_of(path)[-1]
    assert last.time == utc("2021-03-02T11:00:59")
    assert last.locator.first == 1900


def test_records_are_capped(tmp_path: Path) -> None:
    dump = "  row of a dump\n" * 5000
    path = written(tmp_path, f"2020-01-01 10:00:00 ERROR dump\n{dump}2020-01-01 10:00:01 INFO x\n")
    found = blocks_of(path)
    assert max(len(block.text) for block in found) <= MAX_RECORD_CHARS
    assert {block.level for block in found[:-1]} == {"ERROR"}
    chunks = chunks_of(path)
    assert max(len(chunk.text) for chunk in chunks) <= MAX_RECORD_CHARS
    check_tiling(path, chunks)


def test_chunks_end_at_records_and_silences(tmp_path: Path) -> None:
    lines = []
    for hour in (10, 14):
        for i in range(300):
            lines.append(f"2020-01-01 {hour}:00:{i // 5:02d} INFO request {i} took {i * 7} ms\n")
    path = written(tmp_path, "".join(lines))
    chunks = chunks_of(path)
    check_tiling(path, chunks)
    assert all(chunk.text.startswith("2020-01-01") for chunk in chunks)
    starts = {chunk.time_first for chunk in chunks}
    assert utc("2020-01-01T14:00:00") in starts
    assert not any(
        (c.time_first or 0) < utc("2020-01-01T13:00:00") < (c.time_last or 0) for c in chunks
    )


# --- templates -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "template"),
    [
        ("GET /api/v1/orders/17 200 12ms", "GET /api/*"),
        ("job 5e0f6a7b8c9d done in 17 ms", "job * done in * ms"),
        ("id=3fa85f64-5717-4562-b3fc-2c963f66afa6 ok", "id=* ok"),
        ("from 10.0.0.9:5432 to worker-3", "from * to worker-*"),
        ('{"ts":"2020","level":"warn","msg":"disk 9 full"}', "warn disk * full"),
    ],
)
def test_mask(line: str, template: str) -> None:
    assert mask(line) == template


def test_routine_chunks_share_one_text_and_the_rare_line_stands_out(tmp_path: Path) -> None:
    lines = [
        f"2020-01-01 10:{i // 600:02d}:{i // 10 % 60:02d} INFO request {i} done in {i % 97} ms\n"
        for i in range(5000)
    ]
    lines[2500] = "2020-01-01 10:04:10 ERROR disk 7 full\n"
    chunks = chunks_of(written(tmp_path, "".join(lines)))
    texts = [chunk.embed_text for chunk in chunks]
    assert len(set(texts)) == 2
    (odd,) = [chunk for chunk in chunks if "ERROR" in chunk.levels]
    assert odd.embed_text == "app.log\nERROR disk * full"
    assert all(len(text) <= EMBED_CHARS + 100 for text in texts)


# --- bytes ---------------------------------------------------------------------------------------

BYTES = [
    b"\xff",
    b"\xc0\xaf",
    b"\xed\xa0\x80",
    b"\x80",
    b"\xe9",
    b"\xe4\xb8",
    b"\x00",
    b"\xfe\xff\x00",
    "é".encode(),
    "漢字".encode("gb18030"),
]


@pytest.mark.parametrize("odd", BYTES)
def test_no_byte_stops_the_parser(tmp_path: Path, odd: bytes) -> None:
    head = b"2020-01-01 10:00:00 INFO plain line\n" * 50
    path = written(tmp_path, head + b"2020-01-01 10:00:01 WARN odd " + odd + b" end\n" + head)
    found = blocks_of(path)
    assert len(found) == 101
    assert found[50].level == "WARN"
    assert found[50].text.endswith(" end")
    assert found[100].locator.first == 101


def test_encodings_are_told_apart() -> None:
    text = "2020-01-01 10:00:00 INFO Grüße\n" * 40
    for name in ("utf-8", "utf-16-le", "utf-16-be"):
        assert detect_encoding(text.encode(name)).name == name
    for bom, name in ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le")):
        assert detect_encoding(bom + text.encode(name)).name == name
    assert detect_encoding("漢字仮名まじりの文章".encode("shift_jis") * 20).name != "cp1252"
    assert decode_line("café".encode("cp1252")) == "café"
    assert decode_line("日本".encode() + b"\xff") == "日本\ufffd"


@pytest.mark.parametrize("name", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"])
def test_whole_files_in_an_encoding(tmp_path: Path, name: str) -> None:
    text = "".join(f"2020-01-01 10:00:{i:02d} INFO Grüße {i}\r\n" for i in range(60))
    path = written(tmp_path, text.encode(name))
    assert read_text(path) == text.replace("\r\n", "\n")
    assert [b.locator.first for b in blocks_of(path)] == list(range(1, 61))


def test_each_line_may_have_its_own_encoding(tmp_path: Path) -> None:
    path = written(tmp_path, "Grüße\n".encode() * 9 + "Grüße\n".encode("cp1252"))
    assert read_text(path) == "Grüße\n" * 10
    assert info_of(path).warnings == ("1 lines are not valid utf-8",)


@pytest.mark.parametrize(
    ("name", "pack"), [("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress)]
)
def test_packed_logs(tmp_path: Path, name: str, pack: object) -> None:
    text = "2020-01-01 10:00:00 INFO x\n" * 3000
    path = written(tmp_path, pack(text.encode()), f"app.log.{name}")  # type: ignore[operator]
    assert read_text(path) == text
    assert info_of(path).n_lines == 3000
    assert chunks_of(path)[0].embed_text.startswith("app.log\n")


def test_a_cut_off_gzip_file_keeps_what_it_has(tmp_path: Path) -> None:
    text = "".join(f"2020-01-01 10:00:00 INFO {os.urandom(8).hex()}\n" for _ in range(5000))
    path = written(tmp_path, gzip.compress(text.encode())[:-2000], "app.log.gz")
    assert text.startswith(read_text(path)[:20_000])
    assert "ends early" in info_of(path).warnings[0]


def test_a_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("docqa.parse.stream.FREE_UNPACKED_BYTES", 1 << 20)
    path = written(tmp_path, gzip.compress(b"a" * (1 << 24)), "app.log.gz")
    with pytest.raises(UnreadableFile, match="unpacks to more than"):
        list(chunk_log_records(path, OPTIONS))


@pytest.mark.parametrize(
    "data",
    [b"\x7fELF" + bytes(range(256)) * 9, b"\x89PNG\r\n\x1a\n" + b"\0" * 99, bytes(range(256)) * 40],
)
def test_binary_is_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(UnsupportedFile):
        list(parse_log(written(tmp_path, data), OPTIONS))


@pytest.mark.parametrize(("data", "reason"), [(b"", "empty"), (b"\0" * 3_000_000, "zero bytes")])
def test_nothing_to_read(tmp_path: Path, data: bytes, reason: str) -> None:
    with pytest.raises(UnreadableFile, match=reason):
        list(parse_log(written(tmp_path, data), OPTIONS))


def test_a_log_truncated_under_its_writer(tmp_path: Path) -> None:
    path = written(tmp_path, b"\0" * 2_500_000 + b"2020-01-01 10:00:00 WARN x\n")
    (block,) = blocks_of(path)
    assert (block.text, block.locator.first) == ("2020-01-01 10:00:00 WARN x", 1)
    assert info_of(path).warnings == ("2,500,000 zero bytes were left out",)


def test_terminal_colours_are_no_text(tmp_path: Path) -> None:
    path = written(tmp_path, "\x1b[0m\x1b[32m2020-01-01 10:00:00\x1b[0m \x1b[31mERROR\x1b[0m x\n")
    (block,) = blocks_of(path)
    assert (block.text, block.level) == ("2020-01-01 10:00:00 ERROR x", "ERROR")


def test_a_very_long_line_is_cut_and_said(tmp_path: Path) -> None:
    line = "2020-01-01 10:00:01 ERROR " + "0123456789abcdeé" * 200_000
    text = f"2020-01-01 10:00:00 INFO a\n{line}\n2020-01-01 10:00:02 INFO b\n"
    path = written(tmp_path, text)
    assert read_text(path) == text
    chunks = chunks_of(path)
    check_tiling(path, chunks)
    assert {(c.span.locator.first, c.span.locator.last) for c in chunks[1:-1]} == {(2, 2)}
    assert {c.levels for c in chunks[1:-1]} == {("ERROR",)}
    assert len({c.embed_text for c in chunks}) <= 3
    assert chunks[-1].span.locator.first == 3
    info = info_of(path)
    assert info.n_lines == 3
    assert info.warnings == ("1 lines are longer than 16,384 characters and were cut",)
    assert blocks_of(path)[-1].locator.first == 3


# --- properties ----------------------------------------------------------------------------------

PIECES = st.lists(
    st.one_of(
        st.sampled_from(
            ["\n", "\r\n", "\r", "\n\n", " ", "\t", "\0", "2020-01-01 10:00:00 INFO x"]
        ),
        st.sampled_from(["Mar  1 10:00:00 h a: b", '{"ts":"2020-01-01T00:00:00Z"}', "12:00:00 x"]),
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x1b"), max_size=40),
    ),
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(pieces=PIECES, target=st.sampled_from([16, 64, 4096]))
def test_text_and_lines_are_exact(
    pieces: list[str], target: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    text = "\ufeff" + "".join(pieces)
    path = written(tmp_path_factory.mktemp("log"), text)
    expected = "".join(pieces).replace("\0", "").replace("\r\n", "\n").replace("\r", "\n")
    try:
        assert read_text(path) == expected
    except UnsupportedFile:
        return  # control characters: no text at all
    chunks = chunks_of(path, target_chars=target)
    check_tiling(path, chunks)
    lines = expected.split("\n")
    blocks = blocks_of(path)
    assert "".join(b.text for b in blocks).replace("\n", "") == expected.replace("\n", "")
    for block in blocks:
        at = block.locator
        assert "\n".join(lines[at.first - 1 : at.last]) == block.text
    assert info_of(path).n_lines == len(expected.removesuffix("\n").split("\n")) * bool(expected)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([t for t, _ in TIMES] + ["  at x", "plain", "", "}"]), max_size=40))
def test_the_fast_path_equals_the_plain_one(lines: list[str]) -> None:
    """RecordReader looks times up by column; HeaderReader matches every line."""
    from docqa.parse.log import LogSample, RecordReader
    from docqa.parse.log_format import MISS

    formats = tuple(find_formats(lines))
    fast = RecordReader(LogSample((), formats, 2020)).read(list(lines))
    plain = HeaderReader(formats, YearClock(2020))
    for i, line in enumerate(lines):
        head = plain.read(line)
        if head is not MISS:
            assert fast.times[i] == head[0]
        elif formats and i:
            assert fast.times[i] is MISS


# --- real logs -----------------------------------------------------------------------------------

UNTIMED = {
    "LICENSE",
    "plain.0",
    "procstate.0",
    "tcf.0",
    "w3c.1",
    "empty.0",
    "with_a_really_long_name_to_test_a_bug_with_long_names.0",
}


@pytest.mark.skipif(not LOGS.is_dir(), reason="shared/data/logs is not here")
def test_real_logs_are_tiled_and_timed() -> None:
    n_files = n_timed = 0
    for path in sorted(LOGS.glob("*/*")):
        if path.stat().st_size == 0:
            continue
        chunks = chunks_of(path)
        check_tiling(path, chunks)
        n_files += 1
        n_timed += any(chunk.time_first is not None for chunk in chunks)
    assert n_files >= 140
    assert n_timed >= 0.9 * n_files


@pytest.mark.skipif(not LOGS.is_dir(), reason="shared/data/logs is not here")
def test_what_is_a_log_among_real_files() -> None:
    logs = [p for p in LOGS.glob("elastic/*server.log*") if p.stat().st_size]
    assert logs
    for path in logs:
        assert looks_like_log(read_text(path)[:20_000])


@pytest.mark.parametrize(
    "prose",
    [
        "",
        "In 2020 the committee met on 12 March.\nIt was late.\n",
        "# Heading\n\nSome text - with dashes.\n\n* 2020-01-01: a list\n* things\n* more\n* more\n",
        "a,b,c\n1,2,3\n4,5,6\n",
    ],
)
def test_prose_is_no_log(prose: str) -> None:
    assert not looks_like_log(prose)


_MEMORY = """
import resource, sys
from pathlib import Path
from docqa.bench.log import write_log
from docqa.chunk_log import chunk_log_records
from docqa.protocols import ParseOptions
path = Path(sys.argv[1])
write_log(path, "service", 200_000_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
n = sum(1 for _ in chunk_log_records(path, ParseOptions()))
print(n, before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_memory_stays_flat_over_a_large_log(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _MEMORY, str(tmp_path / "big.log")],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[3],
    )
    n_items, _, peak_kib = map(int, done.stdout.split())
    assert n_items > 40_000
    assert peak_kib < 150 * 1024
