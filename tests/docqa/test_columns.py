"""Headers that name the columns of a log: with each chunk, with each part, after growth."""

from dataclasses import replace
from pathlib import Path

import pytest

from docqa.chunk_log import chunk_log_records
from docqa.columns import columns_of, header_before, header_in
from docqa.narrow import narrowed
from docqa.protocols import ParseOptions
from docqa.types import Chunk, DocumentInfo

OLD = "#Fields: date time cs-method cs-uri-stem sc-status"
NEW = "#Fields: date time c-ip sc-status"


def row(i: int) -> str:
    return f"2015-01-13 00:{i // 60:02}:{i % 60:02} GET /page/{i} 200"


def new_row(i: int) -> str:
    return f"2015-01-13 00:{5 + i // 60:02}:{i % 60:02} 10.0.0.{i % 250} 404"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    file = tmp_path / "u_ex150113.log"
    old, new = [row(i) for i in range(300)], [new_row(i) for i in range(300)]
    file.write_text("\n".join(("#Software: IIS", OLD, *old, "#Version: 1.0", NEW, *new)) + "\n")
    return file


def chunks_of(file: Path) -> list[Chunk]:
    return [item for item in chunk_log_records(file, ParseOptions()) if isinstance(item, Chunk)]


def test_a_header() -> None:
    assert header_in(f"#Software: IIS\n{OLD}\n{row(1)}\n{NEW}\n{new_row(1)}") == NEW
    assert header_in("#fieldset: x\n# fields\nsome #Fields: a") == ""
    assert header_before(f"#Software: IIS\n{OLD}\n{row(1)}\n{NEW}\n{new_row(1)}") == OLD
    assert header_before(f"{row(1)}\n{OLD}") == ""


def test_a_row_is_named() -> None:
    columns = columns_of("#Fields: date cs-method cs-uri-stem cs(User-Agent) s-x time-taken")
    assert columns is not None
    said = columns.named("2015-01-13 GET /a Mozilla/5.0+(X11) - 283")
    assert said == 'GET /a date=2015-01-13 user_agent="Mozilla/5.0 (X11)" time-taken=283 ms'
    assert columns.named("2015-01-13 GET /a") == ""  # another number of values: nothing is sure
    assert columns.named("#Software: a b c d e") == ""
    assert columns_of("#Software: IIS") is None


def test_values_with_spaces() -> None:
    quoted = columns_of("#Fields: date cs-host x-note")
    tabbed = columns_of("#fields\tts\tnote\tempty")
    assert quoted is not None and tabbed is not None
    assert quoted.named('"2017-06-28" "a.example" "two words"').endswith('x-note="two words"')
    assert tabbed.named("1.5\ttwo words\t(empty)") == 'ts=1.5 note="two words"'


def test_each_chunk_has_the_header_above_it(log: Path) -> None:
    chunks = chunks_of(log)
    assert len(chunks) > 4
    assert chunks[0].headings == ()  # it stands in its text
    for chunk in chunks[1:]:
        lines = chunk.text.split("\n")
        above = log.read_text().split("\n")[: chunk.span.locator.first - 1]
        held = [line for line in above if line.startswith("#Fields")][-1]
        assert lines[0].startswith("#") or chunk.headings == (held,)
    assert {chunk.headings for chunk in chunks[1:]} >= {(OLD,), (NEW,)}


def test_a_part_has_the_header_above_it(log: Path) -> None:
    (both,) = [chunk for chunk in chunks_of(log) if NEW in chunk.text and row(299) in chunk.text]
    for wanted, header in (("/page/299", OLD), ("10.0.0.20 ", NEW)):
        (part,) = narrowed(both, f"what is {wanted}", max_chars=300)
        assert wanted in part.text and part.headings == (header,)
    short = replace(both, text=both.text[:100])
    assert narrowed(short, "what is it") == [short]


def test_a_log_that_grows_keeps_its_columns(log: Path) -> None:
    *_, info = chunk_log_records(log, ParseOptions())
    assert isinstance(info, DocumentInfo) and info.tail is not None
    with log.open("a") as file:
        file.write("\n".join(new_row(i) for i in range(300, 600)) + "\n")
    read_on = list(chunk_log_records(log, ParseOptions(), tail=info.tail))
    grown = [item for item in read_on if isinstance(item, Chunk)]
    assert len(grown) > 2
    assert grown == chunks_of(log)[-len(grown) :]
    assert all(chunk.headings == (NEW,) for chunk in grown)
