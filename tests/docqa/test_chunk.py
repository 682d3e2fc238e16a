from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from docqa.chunk import MAX_CHUNK_CHARS, ChunkOptions, chunk_blocks
from docqa.chunk_parts import JOINT
from docqa.errors import UnreadableFile
from docqa.sentences import character_ends, sentence_ends, word_ends
from docqa.types import (
    Block,
    BlockKind,
    Chunk,
    DocumentInfo,
    DocumentTitle,
    Kind,
    Locator,
    PageInfo,
    PageState,
)
from models.embedder import packaged_folder
from tests.fakes import HashEmbedder

COUNT = HashEmbedder().count_tokens
PAGE = Locator("page", 1, 1)


def block(text, kind=BlockKind.PARAGRAPH, page=1, level=0, breaks=()) -> Block:
    last = breaks[-1][1] if breaks else page
    return Block(text, kind, Locator("page", page, last), level, tuple(breaks))


def heading(text, level=1, page=1) -> Block:
    return block(text, BlockKind.HEADING, page, level)


def chunked(blocks, title="", max_tokens=60, count=COUNT) -> list[Chunk]:
    return list(chunk_blocks(blocks, ChunkOptions(title, "", max_tokens), count_tokens=count))


def words(n: int, start: int = 0) -> str:
    return " ".join(f"word{i}" for i in range(start, start + n))


def sentences(n: int, length: int = 8) -> str:
    return " ".join(f"Sentence {i} " + words(length - 3) + "." for i in range(n))


def extracted(blocks) -> str:
    return JOINT.join(b.text for b in blocks if isinstance(b, Block) and b.text.strip())


def number_at(blocks, position: int) -> int:
    """The page or line of a character of the extracted text, counted from the blocks alone."""
    base = 0
    for b in blocks:
        if not b.text.strip():
            continue
        if position < base + len(b.text):
            number, at = b.locator.first, 0
            for offset, value in b.breaks:
                if offset <= position - base:
                    number, at = value, offset
            if b.locator.unit == "line":
                number += b.text.count("\n", at, position - base)
            return number
        base += len(b.text) + len(JOINT)
    raise AssertionError(position)


def check(blocks, chunks, max_tokens, count=COUNT) -> None:
    text = extracted(blocks)
    assert [c.ordinal for c in chunks] == list(range(len(chunks)))
    for c in chunks:
        assert text[c.span.start : c.span.end] == c.text
        assert c.text.strip()
        assert len(c.text) <= MAX_CHUNK_CHARS + 2 * max_tokens or len(c.text.split()) == 1
        assert c.n_tokens == count([c.embed_text])[0] <= max_tokens
    ends = [0, *(c.span.end for c in chunks)]
    starts = [*(c.span.start for c in chunks), len(text)]
    for end, start in zip(ends, starts, strict=True):
        assert text[end:start].strip("\n") == "" and end <= start
    for c in chunks:
        for offset in {0, len(c.text) // 2, len(c.text.rstrip()) - 1, *(o for o, _ in c.breaks)}:
            if c.text[offset] == "\n" or offset < 0:
                continue
            found = c.locate(offset, offset + 1)
            assert found.first == found.last == number_at(blocks, c.span.start + offset)
        assert c.span.locator == c.locate(0, len(c.text.rstrip()))


KINDS = [k for k in BlockKind if k is not BlockKind.HEADING]
TEXTS = st.one_of(
    st.text(max_size=120),
    st.text(alphabet="ab .\n\r\t,;", max_size=200),
    st.text(alphabet="東京都は日本。の首、都", max_size=150),
    st.text(alphabet="👍🏽👨‍👩‍👧é\u0301x ", max_size=80),
    st.builds(lambda n: words(n), st.integers(1, 120)),
    st.builds(lambda n: sentences(n), st.integers(1, 30)),
    st.builds(lambda n: "x" * n, st.integers(1, 5000)),
    st.builds(lambda n: "\r\n".join(f"row {i} | {i * 7}" for i in range(n)), st.integers(1, 40)),
)


@st.composite
def documents(draw):
    unit = draw(st.sampled_from(["page", "line"]))
    number, blocks = 1, []
    for _ in range(draw(st.integers(0, 6))):
        text = draw(TEXTS)
        is_heading = draw(st.integers(0, 3)) == 0
        kind = BlockKind.HEADING if is_heading else draw(st.sampled_from(KINDS))
        offsets = draw(st.lists(st.integers(1, max(1, len(text) - 1)), max_size=3, unique=True))
        first, breaks, at = number, [], 0
        for offset in [*sorted(offsets), len(text)]:
            number += text.count("\n", at, offset) if unit == "line" else 0
            if offset < len(text):
                number += draw(st.integers(0, 5))
                breaks.append((offset, number))
            at = offset
        last = number
        blocks.append(
            Block(
                text,
                kind,
                Locator(unit, first, last),
                draw(st.integers(1, 6)) if is_heading else 0,
                tuple(breaks),
            )
        )
        number = last + draw(st.integers(0, 3))
    return blocks


@settings(deadline=None, max_examples=60)
@given(documents(), st.sampled_from(["", "A title"]), st.integers(16, 90))
def test_tiling_spans_breaks_budget(blocks, title, max_tokens):
    chunks = chunked(blocks, title, max_tokens)
    check(blocks, chunks, max_tokens)
    assert chunks == chunked(blocks, title, max_tokens)


def characters(texts) -> list[int]:
    """A tokenizer whose counts do not add up: every text costs one token more."""
    return [len(text) // 3 + 1 for text in texts]


@settings(deadline=None, max_examples=25)
@given(documents(), st.integers(24, 90))
def test_budget_holds_for_a_tokenizer_whose_counts_do_not_add_up(blocks, max_tokens):
    check(blocks, chunked(blocks, "T", max_tokens, characters), max_tokens, characters)


def test_a_heading_opens_a_chunk_and_stays_with_its_text():
    blocks = [
        heading("Manual"),
        heading("Seals", 2),
        block(sentences(5)),
        heading("Valves", 2),
        block(sentences(5)),
        heading("Index"),
        block(sentences(5)),
    ]
    found = chunked(blocks, "Pump A7")
    check(blocks, found, 60)
    assert [c.headings for c in found] == [("Manual", "Seals"), ("Manual", "Valves"), ("Index",)]
    assert found[0].text.startswith("Manual\n\nSeals\n\nSentence 0")
    assert found[1].text.startswith("Valves\n\nSentence 0")
    assert found[1].embed_text.startswith("Pump A7\nManual\nValves\n\nSentence 0")


def test_a_later_chunk_of_a_section_knows_its_headings():
    blocks = [heading("Manual"), heading("Seals", 2), block(sentences(20))]
    found = chunked(blocks, "Pump A7")
    check(blocks, found, 60)
    assert len(found) > 2
    for c in found[1:]:
        assert c.headings == ("Manual", "Seals")
        assert c.embed_text == f"Pump A7\nManual > Seals\n{c.text.strip()}"
        assert c.text.startswith("Sentence")


def test_a_sentence_is_not_cut_and_no_scrap_is_left():
    found = chunked([block(sentences(8))])  # 72 tokens
    assert [c.text.count("Sentence") for c in found] == [4, 4]


def test_paragraphs_are_preferred_to_sentences():
    blocks = [block(sentences(3)), block(sentences(3)), block(sentences(4))]
    found = chunked(blocks)
    assert [c.text.count("Sentence") for c in found] == [6, 4]
    check(blocks, found, 60)


def test_tiny_sections_are_put_together_under_their_heading():
    blocks = [heading("Codes")]
    for i in range(4):
        blocks += [heading(f"E{i}", 2), block(f"Meaning {i}.")]
    blocks += [heading("Next"), block("End.")]
    found = chunked(blocks, "T", 60)
    check(blocks, found, 60)
    assert [c.headings for c in found] == [("Codes",), ("Next",)]
    assert "E3\n\nMeaning 3." in found[0].text


def test_a_split_table_keeps_its_header_in_every_chunk():
    rows = ["Part | Torque"] + [f"Bolt {i} | {i * 3} Nm" for i in range(40)]
    blocks = [heading("Torques"), block("\n".join(rows), BlockKind.TABLE)]
    found = chunked(blocks, "T")
    check(blocks, found, 60)
    assert len(found) > 3
    for c in found:
        assert c.kind is BlockKind.TABLE
        assert "Part | Torque" in c.embed_text
        assert all(line in rows for line in c.text.splitlines() if "|" in line)


def test_pages_pass_through_and_a_chunk_may_cross_a_page():
    page = PageInfo(1, PageState.TEXT, 10)
    info = DocumentInfo(Kind.PDF, "T", 2)
    text = "It ends on the next page."
    blocks = [block(text, page=1, breaks=[(12, 2)])]
    found = list(chunk_blocks([*blocks, page, info], ChunkOptions(), count_tokens=COUNT))
    assert [type(i).__name__ for i in found] == ["PageInfo", "Chunk", "DocumentInfo"]
    chunk = found[1]
    assert chunk.span.locator == Locator("page", 1, 2)
    assert chunk.locate(text.index("ends"), 7).first == 1
    assert chunk.locate(text.index("next"), len(text)) == Locator("page", 2, 2)


def test_a_title_that_comes_first_stands_before_every_chunk_with_the_name_of_the_file():
    items = [DocumentTitle("Pump manual"), block("Some text.", page=1)]
    (found,) = chunk_blocks(items, ChunkOptions("TWX_40_v2"), count_tokens=COUNT)
    assert found.embed_text == "Pump manual (TWX_40_v2)\nSome text."
    (same,) = chunk_blocks(items, ChunkOptions("manual"), count_tokens=COUNT)
    assert same.embed_text == "Pump manual\nSome text."
    (bare,) = chunk_blocks([DocumentTitle(" "), items[1]], ChunkOptions("n"), count_tokens=COUNT)
    assert bare.embed_text == "n\nSome text."


def test_lines_are_counted_over_merged_blocks():
    line = [
        Block("one\ntwo", BlockKind.PARAGRAPH, Locator("line", 5, 6)),
        Block("three", BlockKind.PARAGRAPH, Locator("line", 8, 8)),
        Block("four\nfive", BlockKind.PARAGRAPH, Locator("line", 20, 21)),
    ]
    (found,) = chunked(line)  # no headings
    assert found.breaks == ((len("one\ntwo\n\nthree\n\n"), 20),)  # only what is not implied
    assert found.span.locator == Locator("line", 5, 21)
    at = found.text.index
    assert [found.locate(at(w), at(w) + 1).first for w in ("two", "three", "five")] == [6, 8, 21]


def test_what_was_read_before_an_error_is_kept():
    def failing():
        yield block("Page one.")
        yield PageInfo(1, PageState.TEXT, 9)
        raise UnreadableFile("x.pdf", "broken")

    found = []
    with pytest.raises(UnreadableFile):
        for item in chunk_blocks(failing(), ChunkOptions(), count_tokens=COUNT):
            found.append(item)
    assert [i.text for i in found if isinstance(i, Chunk)] == ["Page one."]


def test_streams():
    """Chunks of a long document come while it is read."""
    seen = []

    def endless():
        for i in range(100_000):
            seen.append(i)
            yield block(sentences(40))

    chunks = chunk_blocks(endless(), ChunkOptions(), count_tokens=COUNT)
    assert isinstance(next(chunks), Chunk)
    assert len(seen) < 200


def test_with_the_real_tokenizer_and_options_over_the_wire():
    options = ChunkOptions("Größe der Pumpe", str(packaged_folder() / "tokenizer.json"), 240)
    again = msgspec.msgpack.decode(msgspec.msgpack.encode(options), type=ChunkOptions)
    blocks = [heading("Übersicht"), block(sentences(200)), block("東京都は日本の首都です。" * 90)]
    found = list(chunk_blocks(blocks, again))
    from docqa.token_count import TokenCounter

    check(blocks, found, 240, TokenCounter.open(Path(options.tokenizer)))
    prose = [c.n_tokens for c in found if "Sentence" in c.text][:-2]
    assert min(prose) > 170


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three? Four", ["One. ", "Two! ", "Three? ", "Four"]),
        ('He said "Stop." Then he left.', ['He said "Stop." ', "Then he left."]),
        ("See Fig. 3 and Dr. Smith. Next.", ["See Fig. 3 and Dr. Smith. ", "Next."]),
        ("J. R. Smith wrote it. U.S. Navy did.", ["J. R. Smith wrote it. ", "U.S. Navy did."]),
        ("E.g. this, i.e. that. End.", ["E.g. this, i.e. that. ", "End."]),
        ("It costs 3.50 today. Buy 2.", ["It costs 3.50 today. ", "Buy 2."]),
        ("1. First item.\n2. Second item.", ["1. First item.\n", "2. Second item."]),
        ("東京です。京都です。", ["東京です。", "京都です。"]),
        ("Wait ... what? Yes.", ["Wait ... what? ", "Yes."]),
        ("It was in 2019. The next year came.", ["It was in 2019. ", "The next year came."]),
        ("", [""]),
    ],
)
def test_sentences(text, expected):
    assert [text[a:b] for a, b in pairwise([0, *sentence_ends(text)])] == expected


@given(st.text(max_size=200))
def test_cuts_tile(text):
    for ends in (sentence_ends(text), word_ends(text), character_ends(text, 7)):
        assert ends[-1] == len(text)
        assert all(a < b for a, b in pairwise([0, *ends])) or not text


def test_a_visible_character_is_not_cut():
    text = "👨‍👩‍👧" * 3 + "e\u0301" * 10 + "👍🏽" * 3
    for size in range(6, 12):
        for end in character_ends(text, size)[:-1]:
            assert text[end] not in "\u0301\u200d🏽" and text[end - 1] != "\u200d"
