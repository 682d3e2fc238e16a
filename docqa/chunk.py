"""Blocks to chunks: passages of the size that the embedder reads whole, along the text's joints.

The extracted text of a document is its blocks that hold more than white space, joined by an empty
line. Chunks tile it: `chunk.text` is a slice, in order, and between two chunks there is nothing or
that empty line. A chunk is cut where a section ends, else at a paragraph, list item or table row,
else at a sentence, a clause, a word, and inside a word only when it is longer than a chunk.

`chunk.embed_text` is what the indexes read: the document's title, the headings above, the header of
a table that began in an earlier chunk, then the text. It holds at most `max_tokens` tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from docqa.chunk_parts import JOINT, Draft, Part, Source
from docqa.errors import FileError
from docqa.sentences import character_ends, clause_ends, line_ends, sentence_ends, word_ends
from docqa.types import (
    Block,
    BlockKind,
    Chunk,
    ChunkItem,
    DocumentTitle,
    PageInfo,
    ParseItem,
)
from docqa.wording import content_words

CountTokens = Callable[[Sequence[str]], list[int]]

MAX_TOKENS = 240  # MiniLM reads 256, two of them [CLS] and [SEP]
MAX_CHUNK_CHARS = 4_000  # also where tokens are cheap: blank-filled tables, [UNK] for base64
MAX_HEADING_CHARS = 160
TINY_TOKENS = 80  # smaller sections are put together with their neighbours
_WHOLE_CHARS = 160  # shorter blocks are not looked into for sentences
_BATCH_CHARS = 64 * 1024


@dataclass(frozen=True, slots=True)
class ChunkOptions:
    """What the chunker is told; travels to the parse worker as msgpack.

    Attributes:
        title: the file's name, put before every chunk's `embed_text`, after a DocumentTitle.
        tokenizer: path of the embedder's tokenizer.json.
        max_tokens: the most tokens of an `embed_text`, special tokens not counted.
    """

    title: str = ""
    tokenizer: str = ""
    max_tokens: int = MAX_TOKENS


def chunk_blocks(
    items: Iterable[ParseItem], options: ChunkOptions, *, count_tokens: CountTokens | None = None
) -> Iterator[ChunkItem]:
    """Yield the chunks of a document in order, its pages and its DocumentInfo among them.

    Pages come as soon as they are known, so before the last chunks of their text; the DocumentInfo
    comes last. Memory is bounded by two chunks and one batch of blocks. Equal items give equal
    chunks. `chunk_id` and `span.doc_id` are 0.

    Args:
        items: what a parser yields. When it raises FileError, the chunks of what came before are
            yielded first.
        options: title and budget.
        count_tokens: of the embedder; None: that of `options.tokenizer`.
    """
    if count_tokens is None:
        from docqa.token_count import TokenCounter

        count_tokens = TokenCounter.open(Path(options.tokenizer))
    chunker = _Chunker(options, count_tokens)
    waiting: list[Block] = []
    n_chars = 0
    try:
        for item in items:
            if isinstance(item, Block):
                waiting.append(item)
                n_chars += len(item.text)
                if n_chars < _BATCH_CHARS:
                    continue
            yield from chunker.add(waiting)
            waiting, n_chars = [], 0
            if isinstance(item, PageInfo):
                yield item
            elif isinstance(item, DocumentTitle):
                chunker.entitle(item.text)
            elif not isinstance(item, Block):
                yield from chunker.end()
                yield item
    except FileError:
        yield from chunker.add(waiting)
        yield from chunker.end()
        raise
    yield from chunker.add(waiting)
    yield from chunker.end()


@dataclass(slots=True)
class _Section:
    """What follows a heading, the heading included, as far as it is not yet in a chunk."""

    path: tuple[str, ...]
    parts: list[Part]
    n_tokens: int = 0
    n_chars: int = 0
    has_body: bool = False

    def add(self, part: Part) -> None:
        self.parts.append(part)
        self.n_tokens += part.n_tokens
        self.n_chars += part.n_chars
        self.has_body |= part.source.block.kind is not BlockKind.HEADING


class _Chunker:
    """Blocks in, chunks out. Holds the open section, and a tiny one before it."""

    def __init__(self, options: ChunkOptions, count_tokens: CountTokens) -> None:
        self._limit = options.max_tokens
        self._count = count_tokens
        self._title = self._shortened(" ".join(options.title.split()), self._limit // 6)
        self._stack: list[tuple[int, str]] = []
        self._section = _Section((), [])
        self._held: _Section | None = None
        self._position = 0
        self._ordinal = 0
        self._budgets: dict[tuple[str, ...], int] = {}
        self._prefixes: dict[tuple[str, ...], str] = {}
        self._made: list[tuple[Draft, str]] = []

    def entitle(self, title: str) -> None:
        """Put `title` before the chunks from here on, and the file's name where it says more."""
        whole = " ".join(title.split())
        if not whole:
            return
        name = self._title
        self._title = self._shortened(whole, self._limit // 6)
        if not set(content_words(name)) <= set(content_words(whole)):
            self._title += f" ({self._shortened(name, self._limit // 8)})"
        self._prefixes.clear()

    def add(self, blocks: Sequence[Block]) -> Iterator[Chunk]:
        """Yield the chunks that `blocks` complete."""
        for parts in self._parts_of(blocks):
            block = parts[0].source.block
            if block.kind is BlockKind.HEADING:
                self._open_section(block)
            for part in parts:
                self._section.add(part)
                if self._is_full(self._section, 2):
                    self._release_held()
                    self._emit_first(self._section)
        yield from self._counted()

    def end(self) -> Iterator[Chunk]:
        """Yield the rest."""
        self._close_section()
        self._release_held()
        self._section = _Section(self._section.path, [])
        yield from self._counted()

    # Blocks to parts

    def _parts_of(self, blocks: Sequence[Block]) -> Iterator[list[Part]]:
        kept = [block for block in blocks if block.text and not block.text.isspace()]
        cuts = [_natural_ends(block) for block in kept]
        pieces = [
            block.text[a:b]
            for block, ends in zip(kept, cuts, strict=True)
            for a, b in pairwise([0, *ends])
        ]
        counts = iter(self._count(pieces))
        for block, ends in zip(kept, cuts, strict=True):
            source = self._source(block)
            parts: list[Part] = []
            for start, end in pairwise([0, *ends]):
                parts += self._small(Part(source, start, end, next(counts)))
            yield parts

    def _source(self, block: Block) -> Source:
        base = self._position
        self._position += len(block.text) + len(JOINT)
        if block.kind is not BlockKind.TABLE:
            return Source(block, base)
        header = block.text.partition("\n")[0].strip()
        (n_tokens,) = self._count([header])
        if n_tokens > self._limit // 8 or len(header) > MAX_CHUNK_CHARS // 4:
            return Source(block, base)
        return Source(block, base, header, n_tokens)

    def _small(self, part: Part) -> list[Part]:
        """Return `part`, or pieces of it that leave room for title, headings and table header."""
        limit = max(1, self._limit * 9 // 20)
        if part.n_tokens <= limit and part.n_chars <= MAX_CHUNK_CHARS // 2:
            return [part]
        text = part.source.block.text[part.start : part.end]
        return [
            Part(part.source, part.start + a, part.start + b, n)
            for a, b, n in self._cut(text, limit, 0)
        ]

    def _cut(self, text: str, limit: int, depth: int) -> list[tuple[int, int, int]]:
        """Return (start, end, n_tokens) of pieces within `limit`, cut at the best joints."""
        if depth < len(_JOINTS):
            ends = _JOINTS[depth](text)
        else:  # a word longer than a chunk; each time round in smaller pieces
            ends = character_ends(text, max(1, limit // (1 + depth - len(_JOINTS))))
        counts = self._count([text[a:b] for a, b in pairwise([0, *ends])])
        pieces: list[tuple[int, int, int]] = []
        for (a, b), n in zip(pairwise([0, *ends]), counts, strict=True):
            is_small = n <= limit and b - a <= MAX_CHUNK_CHARS // 2
            if not is_small and b - a > 1 and depth < len(_JOINTS) + limit:
                pieces += [(a + c, a + d, m) for c, d, m in self._cut(text[a:b], limit, depth + 1)]
            elif pieces and _fits_with(pieces[-1], b, n, limit):
                pieces[-1] = (pieces[-1][0], b, pieces[-1][2] + n)
            else:
                pieces.append((a, b, n))
        return pieces

    # Sections

    def _open_section(self, block: Block) -> None:
        level = max(1, block.heading_level)
        while self._stack and self._stack[-1][0] >= level:
            self._stack.pop()
        self._stack.append((level, _one_line(block.text)))
        path = tuple(text for _, text in self._stack)
        if self._section.parts and not self._section.has_body:
            self._section.path = path  # a heading right under a heading: one chunk
            return
        self._close_section()
        self._section = _Section(path, [])

    def _close_section(self) -> None:
        """Hold the open section if it is tiny, else make its chunks."""
        section = self._section
        if not section.parts:
            return
        if self._held is not None and (merged := self._merged(self._held, section)):
            self._held, section = None, merged
        self._release_held()
        if section.n_tokens < min(TINY_TOKENS, self._limit // 3):
            self._held = section
            return
        self._emit_all(section)

    def _release_held(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            self._emit_all(held)

    def _merged(self, first: _Section, second: _Section) -> _Section | None:
        """Return both as one where they stand under one heading and fit one chunk."""
        n_common = 0
        while first.path[: n_common + 1] == second.path[: n_common + 1] and n_common < min(
            len(first.path), len(second.path)
        ):
            n_common += 1
        is_same_heading = n_common > 0 or not first.path
        if not is_same_heading or n_common < len(first.path) - 1:
            return None
        merged = _Section(first.path[:n_common], [])
        for part in (*first.parts, *second.parts):
            merged.add(part)
        return None if self._is_full(merged, 1) else merged

    # Sections to chunks

    def _is_full(self, section: _Section, n_chunks: int) -> bool:
        budget = self._budget(section)
        return section.n_tokens > budget * n_chunks or (
            section.n_chars > MAX_CHUNK_CHARS * n_chunks
        )

    def _budget(self, section: _Section) -> int:
        """Return the tokens that are left for text beside title, headings and table header."""
        if section.path not in self._budgets:
            if len(self._budgets) > 10_000:
                self._budgets.clear()
            (n_tokens,) = self._count([self._prefix(section.path)])
            self._budgets[section.path] = max(1, self._limit - n_tokens)
        budget = self._budgets[section.path]
        first = section.parts[0]
        if first.start > 0:
            budget -= first.source.n_header_tokens
        return max(1, budget)

    def _emit_all(self, section: _Section) -> None:
        while section.parts and self._is_full(section, 1):
            self._emit_first(section)
        if section.parts:
            self._emit(section, len(section.parts))

    def _emit_first(self, section: _Section) -> None:
        """Make one chunk of the first parts: as many as fit, but no scrap left for the second."""
        budget = self._budget(section)
        best, best_value = 1, float("-inf")
        n_tokens = n_chars = 0
        half = section.n_tokens / 2
        for i, part in enumerate(section.parts[:-1], 1):
            n_tokens += part.n_tokens
            n_chars += part.n_chars
            if n_tokens > budget or n_chars > MAX_CHUNK_CHARS:
                break
            # What is left over fits one chunk: halves; else the fuller the better.
            is_last_cut = section.n_tokens - n_tokens <= budget
            value = -abs(n_tokens - half) / budget if is_last_cut else n_tokens / budget - 1
            if part.source.block.kind is BlockKind.HEADING:
                value -= 0.5  # a heading stays with what it is over
            elif part.ends_block:
                value += 0.25
            if value >= best_value:
                best, best_value = i, value
        self._emit(section, best)

    def _emit(self, section: _Section, n: int) -> None:
        taken, section.parts = section.parts[:n], section.parts[n:]
        section.n_tokens -= sum(part.n_tokens for part in taken)
        section.n_chars -= sum(part.n_chars for part in taken)
        draft = Draft.of(taken, section.path)
        shown = {
            _one_line(part.source.block.text)
            for part in taken
            if part.source.block.kind is BlockKind.HEADING
        }
        above = tuple(heading for heading in section.path if heading not in shown)
        header = taken[0].source.header if taken[0].start > 0 else ""
        lines = (self._prefix(above), header, draft.text.strip())
        self._made.append((draft, "\n".join(filter(None, lines))))

    def _prefix(self, path: tuple[str, ...]) -> str:
        """Return title and headings, each once, the innermost kept when room is short."""
        if path not in self._prefixes:
            if len(self._prefixes) > 10_000:
                self._prefixes.clear()
            self._prefixes[path] = self._new_prefix(path)
        return self._prefixes[path]

    def _new_prefix(self, path: tuple[str, ...]) -> str:
        kept = [heading for heading in path if heading.casefold() != self._title.casefold()]
        line = " > ".join(kept)
        room = self._limit // 4
        while kept and len(line) > room and self._count([line])[0] > room:
            kept = kept[1:] or [self._shortened(kept[0], room)]
            line = " > ".join(kept)
            if len(kept) == 1 and self._count([line])[0] <= room:
                break
        return "\n".join(filter(None, (self._title, line)))

    def _shortened(self, text: str, limit: int) -> str:
        """Return the longest beginning of `text`, in whole words, of at most `limit` tokens."""
        if len(text) <= limit or self._count([text])[0] <= limit:
            return text
        ends = word_ends(text)
        low, high = 0, len(ends) - 1
        while low < high:
            middle = (low + high) // 2
            if self._count([text[: ends[middle]]])[0] <= limit:
                low = middle + 1
            else:
                high = middle
        return text[: ends[low - 1]].rstrip() if low > 0 else ""

    def _counted(self) -> Iterator[Chunk]:
        """Yield the chunks that were made, with `n_tokens`; it never exceeds the limit."""
        made, self._made = self._made, []
        counts = self._count([embed_text for _, embed_text in made])
        for (draft, embed_text), n_tokens in zip(made, counts, strict=True):
            if n_tokens > self._limit:  # tokenizers whose counts do not add up at white space
                embed_text = self._shortened(embed_text, self._limit)
                (n_tokens,) = self._count([embed_text])
            yield draft.chunk(self._ordinal, embed_text, n_tokens)
            self._ordinal += 1


def _one_line(text: str) -> str:
    return " ".join(text.split())[:MAX_HEADING_CHARS].rstrip()


_JOINTS = (sentence_ends, clause_ends, word_ends)


def _natural_ends(block: Block) -> list[int]:
    """Return the ends of the pieces of a block that belong together."""
    if block.kind in (BlockKind.PARAGRAPH, BlockKind.HEADING):
        return sentence_ends(block.text) if len(block.text) > _WHOLE_CHARS else [len(block.text)]
    return line_ends(block.text)


def _fits_with(piece: tuple[int, int, int], end: int, n_tokens: int, limit: int) -> bool:
    return piece[2] + n_tokens <= limit and end - piece[0] <= MAX_CHUNK_CHARS // 2
