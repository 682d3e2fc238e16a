"""The records that pass between stages. Frozen, slotted, standard library only.

    Document -> Block (+ Locator) -> Chunk (+ Span) -> Hit -> Candidate -> Evidence
             -> PackedPrompt -> Answer (+ Citation, Usage)

A Hit comes from one index, a Candidate is fused, Evidence is in the prompt, a Citation is used by
the answer: never synonyms. Only `page`, `line` and `marker` are 1-based; every other position
counts characters from 0, and every range is half-open.

The *extracted text* of a document is what its parser read, blocks joined by newlines. Chunks tile
it: each chunk is `text[span.start:span.end]`, chunks are in order and do not overlap, and what lies
between two chunks is newlines only, so that neighbours can be rejoined exactly.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal


class Kind(StrEnum):
    """What a file was read as."""

    PDF = "pdf"
    LOG = "log"
    TEXT = "text"


class State(StrEnum):
    """What became of a file; the `state` of `docqa add --json` and `docqa list --json`."""

    INDEXED = "indexed"
    UNCHANGED = "unchanged"
    PARTIAL = "partial"  # indexed, but some pages could not be read
    FAILED = "failed"
    QUARANTINED = "quarantined"  # failed twice in a way that killed the parse worker
    REMOVED = "removed"


class BlockKind(StrEnum):
    """The role of a block in its document."""

    HEADING = "heading"
    PARAGRAPH = "paragraph"
    LIST = "list"
    TABLE = "table"  # one table row a line, the header row repeated at the top of each block
    CODE = "code"
    RECORD = "record"  # one log record: a line and what continues it (a stack trace)


class PageState(StrEnum):
    """How the text of a page was obtained."""

    TEXT = "text"
    OCR = "ocr"
    EMPTY = "empty"  # a blank page: nothing to read
    UNREAD = "unread"  # an image of text, and no OCR engine
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Locator:
    """Where something stands in its source: 1-based, inclusive."""

    unit: Literal["page", "line"]
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Span:
    """A range of characters of a document's extracted text, and where that is in the source."""

    doc_id: int
    start: int
    end: int
    locator: Locator


@dataclass(frozen=True, slots=True)
class LogTail:
    """Where reading a log goes on when it has grown: at the beginning of its last chunk.

    That chunk may have been cut short by the end of the file, so it is made again. `head` and
    `last` are digests of the first kilobyte and of the last one before `n_bytes`: the proof that
    a file is still the log that was read (docqa/parse/log_tail.py).
    """

    n_bytes: int  # everything before is in the document
    start_byte: int  # of the last chunk's first line
    start_char: int  # of that line in the extracted text
    line: int  # its number
    ordinal: int  # of the last chunk
    encoding: str
    head: bytes
    last: bytes
    time: float | None = None  # of the record before, UTC seconds
    columns: str = ""  # the header line above it (docqa/columns.py)


@dataclass(frozen=True, slots=True)
class DocumentInfo:
    """What a parser knows of the whole file. Yielded once, last."""

    kind: Kind
    title: str
    n_pages: int | None = None
    n_lines: int | None = None
    encoding: str | None = None
    warnings: tuple[str, ...] = ()
    tail: LogTail | None = None  # of a log that can be read on from where this reading ended


@dataclass(frozen=True, slots=True)
class PageInfo:
    """How one page was read. `label` is the page's printed number where the PDF states one."""

    page: int
    state: PageState
    n_chars: int
    label: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Block:
    """A piece of a document as the parser understood it.

    `breaks` holds `(offset, number)`: from that offset in `text` on, the source is at that page or
    line. The position at offset 0 is `locator.first`. Where the unit is a line, newlines in `text`
    count on from the last break.
    """

    text: str
    kind: BlockKind
    locator: Locator
    heading_level: int = 0  # 1 is the outermost; 0: not a heading
    breaks: tuple[tuple[int, int], ...] = ()
    time: float | None = None  # of a log record: UTC seconds since the epoch
    level: str | None = None  # of a log record: TRACE DEBUG INFO WARN ERROR FATAL


@dataclass(frozen=True, slots=True)
class DocumentTitle:
    """A document's title, yielded before its first block by parsers that know it by then."""

    text: str


ParseItem = Block | PageInfo | DocumentTitle | DocumentInfo


@dataclass(frozen=True, slots=True)
class Chunk:
    """A passage of the size that the embedder reads, and where it stands.

    `embed_text` is what the indexes are given: title and heading path before the text, or, for
    logs, the distinct line templates of the chunk (numbers and identifiers masked), so that equal
    chunks are embedded once. The heading of a log chunk is the line above that names its columns.
    Before the store assigns them, `chunk_id` and `span.doc_id` are 0.
    """

    chunk_id: int
    span: Span
    ordinal: int  # 0, 1, 2 … in the order of the document
    text: str
    embed_text: str
    kind: BlockKind
    headings: tuple[str, ...] = ()
    breaks: tuple[tuple[int, int], ...] = ()
    n_tokens: int = 0  # of `embed_text`, counted by the embedder's tokenizer
    time_first: float | None = None
    time_last: float | None = None
    levels: tuple[str, ...] = ()

    def locate(self, start: int, end: int) -> Locator:
        """Return the pages or lines of `text[start:end]`."""
        last = max(start, end - 1)
        return Locator(self.span.locator.unit, self._number_at(start), self._number_at(last))

    def _number_at(self, offset: int) -> int:
        base, number = 0, self.span.locator.first
        for break_offset, break_number in self.breaks:
            if break_offset > offset:
                break
            base, number = break_offset, break_number
        if self.span.locator.unit == "line":
            number += self.text.count("\n", base, offset)
        return number


ChunkItem = Chunk | PageInfo | DocumentInfo


@dataclass(frozen=True, slots=True)
class Document:
    """A file of the library."""

    doc_id: int
    path: str  # absolute
    sha256: str
    kind: Kind
    title: str
    n_bytes: int
    mtime_ns: int
    state: State
    n_chunks: int
    n_pages: int | None = None
    n_lines: int | None = None
    n_pending: int = 0  # chunks whose vectors are still to be computed
    error: str | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FileReport:
    """One line of `docqa add --json`, `docqa list --json` and `docqa sync --json`."""

    path: str
    state: State
    n_pages: int | None = None
    n_lines: int | None = None
    n_chunks: int = 0
    error: str | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Scope:
    """What a search is limited to. None: not limited."""

    doc_ids: frozenset[int] | None = None
    since: float | None = None  # UTC seconds; chunks without a time do not pass
    until: float | None = None
    levels: frozenset[str] | None = None

    @property
    def is_open(self) -> bool:
        """Whether everything passes."""
        return self == Scope()


@dataclass(frozen=True, slots=True)
class Hit:
    """A chunk found by one index. The scale of `score` is private to that index."""

    chunk_id: int
    score: float


@dataclass(frozen=True, slots=True)
class Mark:
    """Where a passage answers: characters of its text, and how well, comparable among passages."""

    start: int
    end: int
    score: float

    def shifted(self, n_chars: int) -> Mark:
        """Return the mark in a text that begins `n_chars` earlier."""
        return Mark(self.start + n_chars, self.end + n_chars, self.score)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A chunk found by any index, with all that is known of its rank."""

    chunk: Chunk
    path: str
    title: str
    modified_s: float = 0.0  # of the file, seconds since the epoch
    lexical_rank: int | None = None  # 1 is the best
    dense_rank: int | None = None
    lexical_score: float | None = None
    dense_score: float | None = None
    rrf_score: float = 0.0
    rerank_score: float | None = None  # calibrated P(relevant) where the reranker has one
    marks: tuple[Mark, ...] = ()  # the reranker's, in `chunk.text`, best first
    answers: tuple[Mark, ...] = ()  # the trained reader's, in a few words: `Relevance.answers`
    read_score: float | None = None  # P(it answers) of the trained reader, where it read it
    dropped: str | None = None  # why it is not evidence


@dataclass(frozen=True, slots=True)
class Evidence:
    """A passage in the prompt. `chunk` may be several neighbours rejoined."""

    marker: int
    chunk: Chunk
    path: str
    title: str
    score: float
    n_tokens: int  # in the prompt, counted by the reading model's tokenizer
    marks: tuple[Mark, ...] = ()  # where it answers, best first
    answers: tuple[Mark, ...] = ()  # the trained reader's, in a few words: `Relevance.answers`
    read_score: float | None = None  # P(it answers) of the trained reader, where it read it


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of the prompt. Only where `is_control` may special tokens be parsed from it."""

    text: str
    is_control: bool
    layer: Literal["template", "system", "pinned", "history", "evidence", "question"] = "template"


@dataclass(frozen=True, slots=True)
class PackedPrompt:
    """What is sent to the engine: `len(tokens) + max_new_tokens <= context_length` holds."""

    segments: tuple[Segment, ...]
    tokens: tuple[int, ...]
    evidence: tuple[Evidence, ...]
    dropped: tuple[Candidate, ...]
    layer_tokens: dict[str, int] = field(default_factory=dict)
    above: tuple[int, ...] = ()  # markers that the turn names because they stood there already
    paths: tuple[str, ...] = ()  # of every document whose text is in it


@dataclass(frozen=True, slots=True)
class Citation:
    """A place that the answer cites. `quote` occurs verbatim in the extracted text.

    `char_start` and `char_end` count in the extracted text of the document.
    """

    marker: int
    path: str
    page: int | None
    line: int | None
    quote: str
    char_start: int
    char_end: int
    page_last: int | None = None
    line_last: int | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """What a question cost. Tokens are the reading model's; reused ones were measured."""

    prompt_tokens: int = 0
    reused_tokens: int = 0
    generated_tokens: int = 0
    retrieve_s: float = 0.0
    rerank_s: float = 0.0
    prefill_s: float = 0.0
    decode_s: float = 0.0
    layer_tokens: dict[str, int] = field(default_factory=dict)  # of the prompt
    kv_bytes: int = 0  # of the conversation, in the engine
    restored_tokens: int = 0  # of KV that was saved on disk, in the engine before this question
    shifted_tokens: int = 0  # of the reused: kept although older turns before them were dropped
    choose_s: float = 0.0  # weighing the reader's answers against the model's

    @property
    def prefilled_tokens(self) -> int:
        """Tokens of the prompt that had to be computed."""
        return self.prompt_tokens - self.reused_tokens


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """Which engine answered, with which model and settings."""

    name: str
    model: str
    context_length: int
    kv_type_k: str
    kv_type_v: str
    adapter: str | None = None
    refusal_threshold: float | None = None  # of P(first token of prompts.NOT_FOUND), if trained for


class AnswerKind(StrEnum):
    """How an answer came about; shown, so that nothing passes for what it is not."""

    MODEL = "model"  # the model's words, supported by what they cite
    QUOTE = "quote"  # the best verbatim sentence, because the model's words were not supported
    SCAN = "scan"  # an exact scan of log lines: counts, first, last, all occurrences
    NOT_FOUND = "not_found"


@dataclass(frozen=True, slots=True)
class Answer:
    """The result of a question. `found` is a state, not a sentence the model may forget."""

    question: str
    query: str  # what was searched for: differs from the question in a follow-up
    found: bool
    kind: AnswerKind
    text: str
    citations: tuple[Citation, ...]
    evidence: tuple[Evidence, ...]  # in the prompt; of a refusal: the nearest passages
    usage: Usage
    engine: EngineInfo | None
    notes: tuple[str, ...] = ()  # said beside the answer: "only these passages were read"
