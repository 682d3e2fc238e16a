"""What the parse worker and its parent say to one another: frames of msgpack, typed, no pickle.

A frame is a 4-byte little-endian length and that many bytes of msgpack.
"""

from __future__ import annotations

import msgspec

from docqa.protocols import ParseOptions
from docqa.types import Block, Chunk, DocumentInfo, LogTail, PageInfo

MAX_FRAME_BYTES = 64 * 1024 * 1024


class Request(msgspec.Struct, frozen=True):
    """Parent to child: parse one file."""

    path: bytes  # a file name need not be valid UTF-8
    options: ParseOptions
    chunking: bytes  # msgpack of ChunkOptions; empty: send what the parser yields
    tail: LogTail | None = None  # of a log that was read before: only what is new


class Blocks(msgspec.Struct, tag="blocks", array_like=True):
    """Consecutive items of one type."""

    items: list[Block]


class Chunks(msgspec.Struct, tag="chunks", array_like=True):
    """Consecutive items of one type."""

    items: list[Chunk]


class Pages(msgspec.Struct, tag="pages", array_like=True):
    """Consecutive items of one type."""

    items: list[PageInfo]


class Infos(msgspec.Struct, tag="infos", array_like=True):
    """Consecutive items of one type."""

    items: list[DocumentInfo]


class Batch(msgspec.Struct, tag="batch"):
    """Child to parent: items in order."""

    runs: list[Blocks | Chunks | Pages | Infos]


class Failed(msgspec.Struct, tag="failed"):
    """Child to parent: the file ended with an error, a class of docqa.errors by its name."""

    error: str
    reason: str


class Done(msgspec.Struct, tag="done"):
    """Child to parent: the file ended well. `rss_bytes` is the child's memory now."""

    rss_bytes: int


Message = Batch | Failed | Done
RUNS: dict[type, type] = {Block: Blocks, Chunk: Chunks, PageInfo: Pages, DocumentInfo: Infos}
