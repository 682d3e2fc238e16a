"""Logs and texts that are made to mislead, exhaust or escape their reader.

    python -m tests.hostile.make_logs FOLDER [BYTES]

`LOGS` is file name → function that writes it, given how large the large ones are to be. Every file
holds the words `needle ok` on a line of its own where a reader can find any text at all in it.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

HEAD = b"2026-03-11T14:00:00Z INFO needle ok\n"
TAIL = b"2026-03-11T14:00:01Z ERROR needle ok at the end\n"
BLOCK = 1 << 20


def _write(path: Path, parts: Iterator[bytes]) -> None:
    with path.open("wb") as file:
        for part in parts:
            file.write(part)


def _filled(n_bytes: int, unit: bytes) -> Iterator[bytes]:
    """Yield HEAD, one line of `n_bytes` made of `unit`, TAIL."""
    yield HEAD
    block = unit * (BLOCK // len(unit))
    for _ in range(max(1, n_bytes // len(block))):
        yield block
    yield b"\n" + TAIL


# Bytes that are no UTF-8 (github.com/wazuh/wazuh/issues/38590 lists the classes).
INVALID = (
    *(b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\x80", b"\xe9", b"\xe4\xb8", b"\xf5\x80\x80\x80"),
    *(b"\xfe\xff", b"\xf0\x9f", b"\xd0", b"\xef\xbf\xbe", b"\xc3\x28"),
)
ESCAPES = (
    *("\x1b]0;hijack\x07", "\x1b]8;;http://hijack/\x1b\\x\x1b]8;;\x1b\\", "\x1b]52;c;aGk=\x07"),
    *(
        "\x1b[2J\x1b[H",
        "\x1b[6n",
        "\x1bc",
        "\x1bP+q\x1b\\",
        "\x9b31m",
        "\x9d0;x\x07",
        "\x1b[?1049h",
    ),
    *("\u202egnp.exe", "\u2066x\u2069", "\x07\x08\x7f", "\x1b]never ends", "a" + "\u0301" * 500),
)


def _lines(*lines: bytes) -> Iterator[bytes]:
    yield HEAD
    for number, line in enumerate(lines):
        yield b"2026-03-11T14:00:00.%03dZ WARN %s\n" % (number % 1000, line)
    yield TAIL


def _plain(unit: bytes) -> Callable[[Path, int], None]:
    return lambda path, n_bytes: _write(path, _filled(n_bytes, unit))


def sparse(path: Path, n_bytes: int) -> None:
    """A hole between two lines: zeros that no disk holds."""
    with path.open("wb") as file:
        file.write(HEAD)
        file.seek(n_bytes)
        file.write(b"\n" + TAIL)


def no_newline(path: Path, n_bytes: int) -> None:
    """One line, and nothing after it."""
    _write(path, (b"needle ok " + b"x" * BLOCK for _ in range(max(1, n_bytes // BLOCK))))


def invalid_bytes(path: Path, _: int) -> None:
    """Each class of bytes that is no UTF-8, alone, in words and at ends of lines."""
    words = [part for bad in INVALID for part in (bad, b"a" + bad + b"b", bad * 50)]
    _write(path, _lines(*words))


def escapes(path: Path, _: int) -> None:
    """Sequences that a terminal obeys."""
    _write(path, _lines(*(f"before {e} after".encode("utf-8", "surrogatepass") for e in ESCAPES)))


def zeros_between(path: Path, _: int) -> None:
    """Zero bytes in and between lines, as after a crash of the machine."""
    _write(path, _lines(b"\0" * 5000, b"a\0b\0c", b"\0", b"\0" * 4096 + b"torn " * 20))


def carriage_returns(path: Path, n_bytes: int) -> None:
    """A progress bar: a million returns, no line feed."""
    n = min(n_bytes // 20, 1_000_000)
    _write(path, iter((HEAD, b"".join(b"\r%3d%% of the work" % (i % 101) for i in range(n)), TAIL)))


def empty_lines(path: Path, n_bytes: int) -> None:
    """Nothing but line feeds."""
    _write(path, iter((HEAD, b"\n" * n_bytes, TAIL)))


def impossible_times(path: Path, _: int) -> None:
    """Times that no calendar has, before and after all that a float can hold."""
    times = (
        *("9999-12-31T23:59:60Z", "0000-00-00T00:00:00Z", "2026-13-45T99:99:99Z", "-1", "1e400"),
        *("2026-03-11T14:00:00+99:99", "99999999999999999999", "31/Feb/2026:25:61:61 +9999"),
    )
    body = "".join(f"{t} ERROR something {i}\n" for i in range(50) for t in times)
    _write(path, iter((HEAD, body.encode(), TAIL)))


def deep_json(path: Path, n_bytes: int) -> None:
    """A line of JSON as deep as it is long."""
    n = min(n_bytes // 12, 1_000_000)
    line = b'{"time":"2026-03-11T14:00:00Z","a":' + b'{"a":' * n + b"1" + b"}" * n + b"}"
    _write(path, iter((b'{"time":"2026-03-11T14:00:00Z","msg":"needle ok"}\n', line, b"\n")))


def stack_without_end(path: Path, n_bytes: int) -> None:
    """One record whose stack trace fills the file."""
    n = n_bytes // 40
    body = b"".join(b"    at some.pack.Class.call(Class.java:%d)\n" % i for i in range(n))
    _write(path, iter((HEAD, b"2026-03-11T14:00:00Z ERROR boom\n", body, TAIL)))


def records_without_end(path: Path, n_bytes: int) -> None:
    """Lines that all differ in every word: no template serves twice."""
    n = min(n_bytes // 60, 200_000)
    body = b"".join(
        b"2026-03-11T14:00:00Z INFO %s\n" % (hex(i * 2654435761 % 2**64)[2:].encode() * 3)
        for i in range(n)
    )
    _write(path, iter((HEAD, body, TAIL)))


def gzip_bomb(path: Path, n_bytes: int) -> None:
    """1,000 times its size when unpacked."""
    with gzip.open(path, "wb") as file:
        for part in _filled(n_bytes * 4, b"\0"):
            file.write(part)


def gzip_of_gzip(path: Path, _: int) -> None:
    """Packed twice: what is inside is no text."""
    path.write_bytes(gzip.compress(gzip.compress(HEAD * 1000)))


def cut_gzip(path: Path, _: int) -> None:
    """A packed log whose end is missing."""
    whole = gzip.compress(b"".join(HEAD + b"%d\n" % i for i in range(20_000)))
    path.write_bytes(whole[: len(whole) // 2])


def xz_bomb(path: Path, n_bytes: int) -> None:
    """10,000 times its size when unpacked."""
    path.write_bytes(lzma.compress(HEAD + b"x" * n_bytes + b"\n" + TAIL))


def bzip_bomb(path: Path, n_bytes: int) -> None:
    """The same in bzip2."""
    path.write_bytes(bz2.compress(HEAD + b"x" * n_bytes + b"\n" + TAIL))


def utf16_without_mark(path: Path, _: int) -> None:
    """Two bytes a character, and nothing that says so."""
    path.write_bytes((HEAD + TAIL).decode().encode("utf-16-le") * 50)


def half_surrogates(path: Path, _: int) -> None:
    """UTF-16 with halves of characters."""
    text = "\ufeff" + (HEAD.decode() + "\ud800x\udfff\n") * 50
    path.write_bytes(text.encode("utf-16-le", "surrogatepass"))


def deep_html(path: Path, n_bytes: int) -> None:
    """Elements opened and never closed."""
    n = min(n_bytes // 5, 300_000)
    path.write_bytes(b"<html><body><p>needle ok</p>" + b"<div>" * n + b"<table>" * (n // 10))


def wide_csv(path: Path, n_bytes: int) -> None:
    """A table of a hundred thousand columns, and a quote that never ends."""
    n = min(n_bytes // 20, 100_000)
    rows = [
        b",".join(b"c%d" % i for i in range(n)),
        b",".join([b"needle ok"] * n),
        b'"' + b"a," * n,
    ]
    path.write_bytes(b"\n".join(rows))


def deep_markdown(path: Path, n_bytes: int) -> None:
    """Quotes in quotes, lists in lists, and a fence that never ends."""
    n = min(n_bytes // 10, 200_000)
    path.write_bytes(b"# needle ok\n\n" + b">" * n + b"\n" + b"- " * n + b"\n```\n" + b"*_" * n)


LOGS: dict[str, Callable[[Path, int], None]] = {
    "long_line.log": _plain(b"x"),
    "long_words.log": _plain(b"word and another word, "),
    "long_digits.log": _plain(b"0123456789"),
    "long_brackets.log": _plain(b"[({<"),
    "long_colons.log": _plain(b"12:00:"),
    "long_quotes.log": _plain(b"\"'`\\"),
    "long_accents.log": _plain("é\u0301".encode()),
    "long_escapes.log": _plain(b"\x1b[31m"),
    "long_open_escape.log": _plain(b"\x1b]0;"),
    "long_blanks.txt": _plain(b" \t"),
    "zeros.log": _plain(b"\0"),
    "sparse.log": sparse,
    "no_newline.txt": no_newline,
    "invalid_bytes.log": invalid_bytes,
    "escapes.log": escapes,
    "zeros_between.log": zeros_between,
    "carriage_returns.log": carriage_returns,
    "empty_lines.log": empty_lines,
    "impossible_times.log": impossible_times,
    "deep_json.log": deep_json,
    "deep_json.jsonl": deep_json,
    "stack_without_end.log": stack_without_end,
    "records_without_end.log": records_without_end,
    "gzip_bomb.log.gz": gzip_bomb,
    "gzip_of_gzip.log.gz": gzip_of_gzip,
    "cut_gzip.log.gz": cut_gzip,
    "xz_bomb.log.xz": xz_bomb,
    "bzip_bomb.log.bz2": bzip_bomb,
    "utf16_without_mark.log": utf16_without_mark,
    "half_surrogates.log": half_surrogates,
    "deep_html.html": deep_html,
    "wide_csv.csv": wide_csv,
    "deep_markdown.md": deep_markdown,
}


def main(folder: Path, n_bytes: int) -> None:
    """Write every file into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, make in LOGS.items():
        make(folder / name, n_bytes)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 64 << 20)
