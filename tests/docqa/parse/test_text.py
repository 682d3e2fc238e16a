"""Text files of each format against blocks whose text, kind and lines are known."""

import gzip
import itertools

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from docqa.errors import UnreadableFile, UnsupportedFile
from docqa.parse import PARSERS, kind_of, parse, suffix_of
from docqa.parse.text import MAX_BLOCK_CHARS, MAX_LINE_CHARS, parse_text
from docqa.protocols import ParseOptions
from docqa.types import Block, BlockKind, DocumentInfo, Kind

H, P, L, T, C = (
    BlockKind.HEADING,
    BlockKind.PARAGRAPH,
    BlockKind.LIST,
    BlockKind.TABLE,
    BlockKind.CODE,
)


def read(path, data, encoding="utf-8"):
    if isinstance(data, str):
        data = data.encode(encoding)
    path.write_bytes(data)
    items = list(parse_text(path, ParseOptions()))
    assert isinstance(items[-1], DocumentInfo)
    return [i for i in items if isinstance(i, Block)], items[-1]


def shape(blocks):
    return [(b.kind, b.heading_level, b.locator.first, b.locator.last, b.text) for b in blocks]


def line_at(block, offset):
    """The rule of docqa.types.Block: count on from the last break."""
    base, number = 0, block.locator.first
    for start, line in block.breaks:
        if start <= offset:
            base, number = start, line
    return number + block.text.count("\n", base, offset)


def test_plain_text(tmp_path):
    blocks, info = read(
        tmp_path / "notes.txt",
        "CHAPTER ONE\n\nFirst line,\nsecond line.\n\n\n- an item\n- another\n\n2.1 Scope\n\nEnd.",
    )
    assert shape(blocks) == [
        (H, 1, 1, 1, "CHAPTER ONE"),
        (P, 0, 3, 4, "First line,\nsecond line."),
        (L, 0, 7, 8, "- an item\n- another"),
        (H, 2, 10, 10, "2.1 Scope"),
        (P, 0, 12, 12, "End."),
    ]
    assert (info.kind, info.title, info.n_lines, info.encoding) == (
        Kind.TEXT,
        "CHAPTER ONE",
        12,
        "utf-8",
    )


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"]
)
def test_encodings_and_line_ends(tmp_path, encoding, end):
    text = (
        "Der Kessel läuft über.\nDie Prüfung am Gehäuse, 5 µm größer.\n\nZweiter Absatz für alle.\n"
    )
    blocks, info = read(tmp_path / "a.txt", text.replace("\n", end), encoding)
    assert [b.text for b in blocks] == [
        "Der Kessel läuft über.\nDie Prüfung am Gehäuse, 5 µm größer.",
        "Zweiter Absatz für alle.",
    ]
    assert [b.locator.first for b in blocks] == [1, 4] and info.n_lines == 4


def test_the_first_accent_may_come_late(tmp_path):
    data = b"plain words only\n" * 9000 + "Schluß für heute".encode("cp1252")
    blocks, info = read(tmp_path / "late.txt", data)
    assert info.encoding == "cp1252" and blocks[-1].text.endswith("Schluß für heute")


def test_broken_bytes_are_said(tmp_path):
    data = ("für alle Fälle später über\n" * 50).encode() + b"bad \xff byte\n"
    _, info = read(tmp_path / "bad.txt", data)
    assert info.warnings == ("1 characters could not be decoded as utf-8",)


def test_control_characters_and_form_feeds(tmp_path):
    blocks, _ = read(tmp_path / "c.txt", "a\x07b\x0cc\u2028d\x85e\u200bf\n")
    assert blocks[0].text == "ab c d ef"


def test_one_endless_line_is_cut_and_keeps_its_number(tmp_path):
    blocks, info = read(tmp_path / "long.txt", "first\n" + "x" * (3 * MAX_LINE_CHARS) + "\nlast\n")
    assert info.n_lines == 3
    assert all(len(b.text) <= MAX_LINE_CHARS for b in blocks)
    assert sum(b.text.count("x") for b in blocks) == 3 * MAX_LINE_CHARS
    assert {line_at(b, b.text.index("x")) for b in blocks if "x" in b.text} == {2}
    assert (blocks[-1].locator.last, line_at(blocks[-1], len(blocks[-1].text) - 1)) == (3, 3)


def test_long_paragraphs_are_cut_at_lines(tmp_path):
    lines = [f"line {i} of a paragraph that never ends" for i in range(1, 1001)]
    blocks, _ = read(tmp_path / "p.txt", "\n".join(lines))
    assert len(blocks) > 1 and all(len(b.text) <= MAX_BLOCK_CHARS for b in blocks)
    assert "\n".join(b.text for b in blocks) == "\n".join(lines)
    assert all(b.text.startswith(f"line {b.locator.first} ") for b in blocks)


def test_gzip(tmp_path):
    blocks, info = read(tmp_path / "a.txt.gz", gzip.compress(b"Packed words.\n"))
    assert blocks[0].text == "Packed words." and info.n_lines == 1


def test_truncated_gzip_keeps_the_beginning(tmp_path):
    import random

    words = [str(random.Random(1).random()) for _ in range(9)]
    data = "\n\n".join(f"{w} {i}" for i, w in enumerate(words * 9000))
    blocks, info = read(tmp_path / "a.txt.gz", gzip.compress(data.encode())[:-400])
    assert blocks[0].text == f"{words[0]} 0" and "reading stopped" in info.warnings[0]


MARKDOWN = """---
title: The Manual
---
# Pumps #

Intro with *words*
on two lines.

Setup
-----
1. unpack
2. connect

```sh
# not a heading
run --now
```
| Model | Flow |
|-------|-----:|
| A     | 12   |
| B \\| C | 36 |

### Deep
"""


def test_markdown(tmp_path):
    blocks, info = read(tmp_path / "m.md", MARKDOWN)
    assert info.title == "The Manual"
    assert shape(blocks) == [
        (P, 0, 2, 2, "title: The Manual"),
        (H, 1, 4, 4, "Pumps"),
        (P, 0, 6, 7, "Intro with *words*\non two lines."),
        (H, 2, 9, 10, "Setup"),
        (L, 0, 11, 12, "1. unpack\n2. connect"),
        (C, 0, 14, 17, "```sh\n# not a heading\nrun --now\n```"),
        (T, 0, 18, 21, "Model | Flow\nModel: A | Flow: 12\nModel: B | C | Flow: 36"),
        (H, 3, 23, 23, "Deep"),
    ]


def test_a_fence_that_is_never_closed(tmp_path):
    blocks, _ = read(tmp_path / "f.md", "```\n" + "code\n" * 1000)
    assert {b.kind for b in blocks} == {C} and len(blocks) == 3
    assert blocks[1].locator.first == 401


RST = """=====
Title
=====

Section
-------
Text here.

Example::

    code line
      indented

After.

Sub
~~~
Other
-----
"""


def test_rst(tmp_path):
    blocks, info = read(tmp_path / "r.rst", RST)
    assert info.title == "Title"
    assert shape(blocks) == [
        (H, 1, 1, 3, "Title"),
        (H, 2, 5, 6, "Section"),
        (P, 0, 7, 7, "Text here."),
        (P, 0, 9, 9, "Example::"),
        (C, 0, 11, 12, "    code line\n      indented"),
        (P, 0, 14, 14, "After."),
        (H, 3, 16, 17, "Sub"),
        (H, 2, 18, 19, "Other"),
    ]


HTML = """<!DOCTYPE html>
<html><head><title>Pump &amp; Tank</title>
<style>p { color: red }</style>
<script>var x = "<p>no</p>";</script></head>
<body><h1>Pumps</h1>
<p>First <b>bold</b> word
and a second line.</p>
<ul><li>one
<li>two</ul>
<table><tr><th>Model</th><th>Flow</th></tr>
<tr><td>A</td><td>12</td></tr>
<tr><td>B</td><td>36</td></tr></table>
<pre>
  kept   blanks
next</pre>
tail text
</body></html>
"""


def test_html(tmp_path):
    blocks, info = read(tmp_path / "p.html", HTML)
    assert info.title == "Pump & Tank"
    assert shape(blocks) == [
        (H, 1, 5, 5, "Pumps"),
        (P, 0, 6, 7, "First bold word and a second line."),
        (L, 0, 8, 8, "- one"),
        (L, 0, 9, 9, "- two"),
        (T, 0, 10, 12, "Model | Flow\nModel: A | Flow: 12\nModel: B | Flow: 36"),
        (C, 0, 14, 15, "  kept   blanks\nnext"),
        (P, 0, 16, 16, "tail text"),
    ]
    assert blocks[1].breaks == ((len("First bold word "), 7),)


def test_html_without_a_suffix(tmp_path):
    blocks, _ = read(tmp_path / "page", "<html><body><p>Hello</p></body></html>")
    assert shape(blocks) == [(P, 0, 1, 1, "Hello")]


def test_html_that_is_never_closed(tmp_path):
    blocks, _ = read(tmp_path / "x.html", "<table><tr><td>a<td>b<p>c<div><script>never")
    assert "a | b c" in blocks[0].text


def test_csv(tmp_path):
    blocks, info = read(
        tmp_path / "t.csv", 'Name;Note;Price\nA;"two\nlines";1,5\n\nB;;2,0\nC;x;3,0;extra\n'
    )
    assert len(blocks) == 1 and blocks[0].kind is T
    rows = blocks[0].text.split("\n")
    assert rows == [
        "Name | Note | Price",
        "Name: A | Note: two lines | Price: 1,5",
        "Name: B | Price: 2,0",
        "Name: C | Note: x | Price: 3,0 | extra",
    ]
    starts = [blocks[0].text.index(row) for row in rows]
    assert [line_at(blocks[0], start) for start in starts] == [1, 2, 5, 6]
    assert (blocks[0].locator.first, blocks[0].locator.last, info.n_lines) == (1, 6, 6)


def test_csv_without_a_header(tmp_path):
    blocks, _ = read(tmp_path / "n.csv", "1,2,3\n4,5,6\n")
    assert (blocks[0].kind, blocks[0].text) == (L, "1 | 2 | 3\n4 | 5 | 6")
    blocks, _ = read(tmp_path / "one.csv", "just,a,row\n")
    assert blocks[0].text == "just | a | row"


def test_json_lines(tmp_path):
    blocks, _ = read(
        tmp_path / "r.jsonl",
        '{"id": 7, "tags": ["a", "b"], "who": {"name": "J\\u00f6rg\\nK"}}\nno json\n{"id": null}\n',
    )
    assert blocks[0].text == "id: 7 | tags: a, b | who.name: Jörg K\nno json\nid: null"


def test_json(tmp_path):
    blocks, _ = read(tmp_path / "min.json", '{"server":{"port":8080,"on":true},"list":[{"a":1}]}')
    assert blocks[0].text == "server.port: 8080\nserver.on: true\nlist[0].a: 1"
    assert {line_at(blocks[0], i) for i in (0, 20, 40)} == {1}
    blocks, _ = read(tmp_path / "pretty.json", '{\n  "a": 1,\n  "b": 2,\n  "c": 3\n}\n')
    assert blocks[0].text.startswith('{\n  "a": 1') and blocks[0].locator.last == 5
    blocks, _ = read(tmp_path / "deep.json", "[" * 100_000)
    assert blocks


def test_code_keeps_its_indentation(tmp_path):
    blocks, _ = read(tmp_path / "m.py", "def f():\n    return 1\n\n\nX = 2\n")
    assert shape(blocks) == [(C, 0, 1, 2, "def f():\n    return 1"), (C, 0, 5, 5, "X = 2")]


def test_blank_files_are_said_to_be(tmp_path):
    with pytest.raises(UnreadableFile, match="no text"):
        read(tmp_path / "blank.txt", " \n\n\t\n")


# ---- kind_of ----

LOG = "".join(f"2024-03-0{i % 9 + 1} 10:00:0{i % 10} INFO service started {i}\n" for i in range(30))


@pytest.mark.parametrize(
    ("name", "data", "kind"),
    [
        ("a.pdf", b"%PDF-1.7\n...", Kind.PDF),
        ("report", b"\n\n%PDF-1.4\n...", Kind.PDF),
        ("renamed.txt", b"%PDF-1.4\n...", Kind.PDF),
        ("app.log", b"anything at all\n", Kind.LOG),
        ("app.log.1", b"anything at all\n", Kind.LOG),
        ("app.log.2.gz", gzip.compress(b"anything\n"), Kind.LOG),
        ("app.log-20240301.gz", gzip.compress(LOG.encode()), Kind.LOG),
        ("syslog", LOG.encode(), Kind.LOG),
        ("service.txt", LOG.encode(), Kind.LOG),
        ("job.out", b"no times here\n", Kind.LOG),
        ("notes", b"Just some words.\nAnd more of them.\n", Kind.TEXT),
        ("README", "Grüße an alle, die hier lesen.\n".encode("utf-16"), Kind.TEXT),
        ("events.csv", LOG.encode(), Kind.TEXT),
        ("page.html", b"<html></html>", Kind.TEXT),
        ("odd.xyz", b"Words in an unknown suffix.\n", Kind.TEXT),
    ],
)
def test_kind_of(tmp_path, name, data, kind):
    (tmp_path / name).write_bytes(data)
    assert kind_of(tmp_path / name) is kind


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("a.png", b"\x89PNG\r\n\x1a\n" + b"\0" * 50, "PNG image"),
        ("a.docx", b"PK\x03\x04" + b"\x14\0" * 50, "office document"),
        ("log.txt", b"\x7fELF\x02\x01" + b"\0" * 90, "a program"),
        ("data", bytes(range(256)) * 20, "binary data"),
        ("a.log", bytes(range(256)) * 20, "binary data"),
        ("p.pdf.gz", gzip.compress(b"%PDF-1.4\n"), "unpack it"),
    ],
)
def test_binary_files_are_unsupported(tmp_path, name, data, words):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UnsupportedFile, match=words):
        kind_of(tmp_path / name)


def test_unreadable_files(tmp_path):
    (tmp_path / "empty.log").write_bytes(b"")
    (tmp_path / "broken.gz").write_bytes(b"\x1f\x8b\x08\0\0\0")
    (tmp_path / "fake.pdf").write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 50)
    for name, words in [
        ("empty.log", "empty"),
        ("broken.gz", "broken"),
        ("absent.txt", "does not exist"),
        ("fake.pdf", "is a PNG image"),
        (".", "not a regular file"),
    ]:
        with pytest.raises(UnreadableFile, match=words) as caught:
            kind_of(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)


def test_suffixes_of_rotated_names(tmp_path):
    for name, suffix in {
        "app.log.1": ".log",
        "app.log.2.gz": ".log",
        "app.log.2024-03-01": ".log",
        "messages.1": "",
        "a.md": ".md",
        ".gz": "",
    }.items():
        assert suffix_of(tmp_path / name) == suffix
    assert set(PARSERS) >= {".pdf", ".log", ".txt", ".md", ".rst", ".html", ".csv", ".jsonl"}


LINES = st.lists(
    st.text(alphabet="ab #-|`=\"',;:<>&\té\u2028\x0c", max_size=20), min_size=1, max_size=40
)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(lines=LINES, suffix=st.sampled_from([".txt", ".md", ".rst", ".py", ".csv", ".html"]))
def test_every_block_is_where_it_says(tmp_path, lines, suffix):
    """Each line carries its number as a word; every word must be at the line that it names."""
    path = tmp_path / f"property{suffix}"
    texts = [f"{line} w{i}w" if line.strip() else "" for i, line in enumerate(lines, 1)]
    path.write_text("\n".join(texts), encoding="utf-8")
    try:
        items = list(parse(path, ParseOptions()))
    except UnreadableFile:
        assert suffix == ".html" or not any(texts)
        return
    for block in items[:-1]:
        assert block.locator.first <= block.locator.last <= len(lines)
        assert block.text.strip() and block.text == block.text.rstrip("\n")
        edges = [(0, 0), *block.breaks]
        assert all(a[0] <= b[0] for a, b in itertools.pairwise(edges))
        for word in block.text.replace("|", " ").replace(":", " ").split():
            if suffix in (".csv", ".html", ".md") and block.kind is BlockKind.TABLE:
                continue  # column names stand in every row
            if word.startswith("w") and word.endswith("w") and word[1:-1].isdigit():
                at = block.text.index(word)
                assert line_at(block, at) == int(word[1:-1]) or suffix == ".csv"
