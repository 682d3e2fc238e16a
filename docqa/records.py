"""Rows of the store <-> the records of docqa/types.py."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, cast

import msgspec
import zstandard

from docqa.errors import LibraryCorrupt
from docqa.types import BlockKind, Chunk, Document, Kind, Locator, LogTail, Scope, Span, State

LEVELS = ("TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL")
OTHER_LEVEL_BIT = 1 << len(LEVELS)
SEVERE_MASK = 1 << LEVELS.index("ERROR") | 1 << LEVELS.index("FATAL")
WARN_MASK = 1 << LEVELS.index("WARN")

Row = tuple[Any, ...]  # what sqlite3 hands out

DOCUMENT_COLUMNS = (
    "doc_id, path, sha256, kind, title, n_bytes, mtime_ns, state, n_chunks, n_pages, n_lines, "
    "error, warnings"
)
CHUNK_COLUMNS = (
    'c.chunk_id, c.doc_id, c.ordinal, c.start, c."end", c.unit, c.first, c.last, c.kind, '
    "c.n_tokens, c.time_first, c.time_last, c.passage_id, t.text, t.headings, t.breaks, t.levels"
)


@dataclass(frozen=True, slots=True)
class FileStamp:
    """What is known of a file before it is parsed. Equal stamps: the file was not written since.

    `checked_ns` is the clock before the file was looked at: an mtime close to it may hide a later
    write within the clock's grain.
    """

    path: str
    n_bytes: int
    mtime_ns: int
    inode: int
    device: int
    checked_ns: int
    sha256: bytes | None = None  # None: not read yet, or not readable


@dataclass(frozen=True, slots=True)
class Known:
    """A document as the sync compares it with its file."""

    document: Document
    stamp: FileStamp
    parser: str
    tail: LogTail | None = None  # of a log: where to read on when it has grown


@dataclass(frozen=True, slots=True)
class WatchedFolder:
    """A folder (or file) that the user wants watched, with globs as in docqa/discover.py."""

    path: str  # absolute
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Change:
    """One step for an index over documents. An add covers the chunks from `since_ordinal` on."""

    seq: int
    op: Literal["add", "remove"]
    doc_id: int
    since_ordinal: int


@dataclass(frozen=True, slots=True)
class PendingPassage:
    """A distinct `embed_text` that has no vector of the current embedder yet."""

    passage_id: int
    embed_text: str


class Codec:
    """Text <-> zstd. Not shared between threads: make one for each piece of work.

    A log chunk of 4,000 characters shrinks to a quarter, at about 125 MB/s in and 570 MB/s out.
    """

    def __init__(self) -> None:
        self._compressor: zstandard.ZstdCompressor | None = None  # readers need none
        self._decompressor = zstandard.ZstdDecompressor()

    def pack(self, text: str) -> bytes:
        """Return `text` compressed. Lone surrogates survive."""
        if self._compressor is None:
            self._compressor = zstandard.ZstdCompressor(level=1)
        return self._compressor.compress(text.encode("utf-8", "surrogatepass"))

    def unpack(self, blob: bytes) -> str:
        """Return the text of `blob`; raise LibraryCorrupt where it is none."""
        try:
            return self._decompressor.decompress(blob).decode("utf-8", "surrogatepass")
        except (zstandard.ZstdError, UnicodeDecodeError) as error:
            raise LibraryCorrupt(
                f"The text of a passage is damaged ({error}); run `docqa check`."
            ) from error


def path_bytes(path: str) -> bytes:
    """Return the key of a path; any file name has one."""
    return os.fsencode(path)


def storable(text: str | None) -> str | None:
    """Return text for a column that is only shown: lone surrogates (of file names) become `?`."""
    return None if text is None else text.encode("utf-8", "replace").decode()


def passage_hash(embed_text: str) -> bytes:
    """Return the 16-byte identity of an embed_text."""
    data = embed_text.encode("utf-8", "surrogatepass")
    return hashlib.blake2b(data, digest_size=16).digest()


def level_mask(levels: Iterable[str]) -> int:
    """Return the levels as bits, for filters."""
    mask = 0
    for level in levels:
        mask |= 1 << LEVELS.index(level) if level in LEVELS else OTHER_LEVEL_BIT
    return mask


def priority(chunk: Chunk) -> int:
    """Return the rank in which passages are embedded: 0 documents, 1 trouble, 2 warnings, 3 rest.

    A log of a million lines must not keep the manual beside it from being found.
    """
    if chunk.kind is not BlockKind.RECORD:
        return 0
    mask = level_mask(chunk.levels)
    return 1 if mask & SEVERE_MASK else 2 if mask & WARN_MASK else 3


def scope_filter(scope: Scope, table: str = "c") -> tuple[str, list[object]]:
    """Return an SQL condition on the chunks table and its parameters; ("1", []) for everything.

    A chunk passes where its time range meets [since, until] and one of its levels is asked for.
    """
    conditions: list[str] = []
    values: list[object] = []
    if scope.doc_ids is not None:
        conditions.append(f"{table}.doc_id IN (SELECT value FROM json_each(?))")
        values.append(json.dumps(sorted(scope.doc_ids)))
    if scope.since is not None:
        conditions.append(f"{table}.time_last >= ?")
        values.append(scope.since)
    if scope.until is not None:
        conditions.append(f"{table}.time_first <= ?")
        values.append(scope.until)
    if scope.levels is not None:
        conditions.append(f"({table}.level_mask & ?) != 0")
        values.append(level_mask(scope.levels))
    return " AND ".join(conditions) or "1", values


# Looked up, not parsed: a sweep reads 100,000 rows.
_DOCUMENT_KINDS = {kind.value: kind for kind in Kind}
_STATES = {state.value: state for state in State}


def document_of(row: Row, n_pending: int = 0) -> Document:
    """Return the record of a row of DOCUMENT_COLUMNS."""
    return Document(
        doc_id=row[0],
        path=os.fsdecode(row[1]),
        sha256=row[2].hex() if row[2] else "",
        kind=_DOCUMENT_KINDS[row[3]],
        title=row[4],
        n_bytes=row[5],
        mtime_ns=row[6],
        state=_STATES[row[7]],
        n_chunks=row[8],
        n_pages=row[9],
        n_lines=row[10],
        n_pending=n_pending,
        error=row[11],
        warnings=tuple(json.loads(row[12])) if row[12] != "[]" else (),
    )


_KINDS = {kind.value: kind for kind in BlockKind}


def chunk_of(row: Row, codec: Codec, embed_text: str) -> Chunk:
    """Return the record of a row of CHUNK_COLUMNS."""
    return Chunk(
        chunk_id=row[0],
        span=Span(
            row[1], row[3], row[4], Locator(cast(Literal["page", "line"], row[5]), row[6], row[7])
        ),
        ordinal=row[2],
        text=codec.unpack(row[13]),
        embed_text=embed_text,
        kind=_KINDS[row[8]],
        headings=tuple(json.loads(row[14])) if row[14] else (),
        breaks=tuple((a, b) for a, b in json.loads(row[15])) if row[15] else (),
        n_tokens=row[9],
        time_first=row[10],
        time_last=row[11],
        levels=tuple(row[16].split(" ")) if row[16] else (),
    )


def chunk_values(chunk: Chunk, doc_id: int, passage_id: int) -> Row:
    """Return the values of a row of `chunks`, chunk_id left out."""
    span = chunk.span
    return (
        doc_id,
        chunk.ordinal,
        span.start,
        span.end,
        span.locator.unit,
        span.locator.first,
        span.locator.last,
        chunk.kind.value,
        chunk.n_tokens,
        chunk.time_first,
        chunk.time_last,
        level_mask(chunk.levels),
        passage_id,
    )


def text_values(chunk: Chunk, codec: Codec) -> Row:
    """Return the values of a row of `texts`, chunk_id left out."""
    return (
        codec.pack(chunk.text),
        _json(chunk.headings) if chunk.headings else None,
        _json(chunk.breaks) if chunk.breaks else None,
        " ".join(chunk.levels) or None,
    )


def tail_blob(tail: LogTail) -> bytes:
    """Return the column of a tail."""
    return msgspec.msgpack.encode(tail)


def tail_of(blob: bytes | None) -> LogTail | None:
    """Return the record of a tail's column; None also where a newer or damaged one is unknown."""
    if blob is None:
        return None
    try:
        return msgspec.msgpack.decode(blob, type=LogTail)
    except msgspec.DecodeError:
        return None  # the log is read anew


def _json(values: object) -> str:
    # ASCII escapes keep lone surrogates, which SQLite's text cannot hold.
    return json.dumps(values, separators=(",", ":"))
