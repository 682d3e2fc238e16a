"""Files to blocks. `kind_of` says how a file is read, `parse` reads it.

The parsers are imported when they are called: PyMuPDF is loaded in the parse worker only
(docqa/parse/worker.py), never in the process with the user's screen.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from docqa.errors import UnreadableFile, UnsupportedFile
from docqa.parse import sniff
from docqa.protocols import ParseOptions, Parser
from docqa.types import Kind, ParseItem


def _parse_pdf(path: Path, options: ParseOptions) -> Iterator[ParseItem]:
    from docqa.parse.pdf import parse_pdf

    return parse_pdf(path, options)


def _parse_log(path: Path, options: ParseOptions) -> Iterator[ParseItem]:
    from docqa.parse.log import parse_log

    return iter(parse_log(path, options))


def _parse_text(path: Path, options: ParseOptions) -> Iterator[ParseItem]:
    from docqa.parse.text import parse_text

    return parse_text(path, options)


PARSERS: dict[str, Parser] = {
    ".pdf": _parse_pdf,
    ".log": _parse_log,
    ".txt": _parse_text,
    ".text": _parse_text,
    ".md": _parse_text,
    ".markdown": _parse_text,
    ".rst": _parse_text,
    ".html": _parse_text,
    ".htm": _parse_text,
    ".xhtml": _parse_text,
    ".csv": _parse_text,
    ".tsv": _parse_text,
    ".json": _parse_text,
    ".jsonl": _parse_text,
    ".ndjson": _parse_text,
    ".xml": _parse_text,
    ".yaml": _parse_text,
    ".yml": _parse_text,
    ".toml": _parse_text,
    ".ini": _parse_text,
    ".cfg": _parse_text,
    ".conf": _parse_text,
    ".tex": _parse_text,
    ".py": _parse_text,
    ".c": _parse_text,
    ".h": _parse_text,
    ".cpp": _parse_text,
    ".rs": _parse_text,
    ".go": _parse_text,
    ".java": _parse_text,
    ".js": _parse_text,
    ".ts": _parse_text,
    ".sh": _parse_text,
    ".sql": _parse_text,
}
_BY_KIND: dict[Kind, Parser] = {Kind.PDF: _parse_pdf, Kind.LOG: _parse_log, Kind.TEXT: _parse_text}
# Of these suffixes the content is never taken for a log: a CSV of events stays a table.
_MARKUP = frozenset(PARSERS) - {".pdf", ".log", ".txt", ".text", ".json", ".jsonl", ".ndjson"}
_ROTATED = re.compile(
    r"\.(?:\d{1,4}|\d{4}-?\d\d-?\d\d(?:[-T]?\d+)?|old|gz|bz2|xz|bak)$", re.IGNORECASE
)
_LOG_NAMES = frozenset({".log", ".out", ".err"})
_SAYS_LOG = re.compile(r"(?:^|[\W_])(?:sys)?log(?:s|file)?(?:$|[\W_\d])", re.IGNORECASE)


def suffix_of(path: Path) -> str:
    """Return the lower-case suffix without rotation and gzip: `app.log.2.gz` gives `.log`."""
    return suffix_of_name(path.name)


def suffix_of_name(name: str) -> str:
    """Return the same for a file name alone; a walk asks it of every file."""
    while (shorter := _ROTATED.sub("", name)) != name and shorter.strip("."):
        name = shorter
    stem, _, suffix = name.rpartition(".")
    return f".{suffix.lower()}" if suffix and stem.strip(".") else ""


def kind_of(path: Path) -> Kind:
    """Return how the file is read, judged by its content first and its name second.

    Raises:
        UnsupportedFile: binary data of a kind that docqa does not read.
        UnreadableFile: missing, empty, not a regular file, not permitted, broken gzip.
    """
    head = sniff.head_of(path)
    if not head.data:
        raise UnreadableFile(path, "is empty; nothing to index")
    suffix = suffix_of(path)
    if sniff.is_pdf(head.data):
        if head.is_packed:
            raise UnsupportedFile(path, "is a compressed PDF; unpack it first")
        return Kind.PDF
    binary = sniff.binary_kind(head.data)
    if suffix == ".pdf":
        if binary and binary != "binary data":
            raise UnreadableFile(path, f"is named .pdf but is {binary}")
        return Kind.PDF  # MuPDF repairs files whose header is gone, or says what is wrong
    if binary:
        raise UnsupportedFile(path, f"is {binary}; docqa reads PDF, logs and text")
    if suffix == ".log":
        return Kind.LOG
    if suffix in _MARKUP:
        return Kind.TEXT
    if suffix in _LOG_NAMES or (not suffix and _SAYS_LOG.search(path.name)):  # access_log, syslog
        return Kind.LOG
    return Kind.LOG if _is_log(sniff.decode_head(head)) else Kind.TEXT


def parse(path: Path, options: ParseOptions) -> Iterator[ParseItem]:
    """Yield the items of a file (see docqa.protocols.Parser).

    Raises:
        FileError: as `kind_of` and the parser of that kind.
    """
    yield from _BY_KIND[kind_of(path)](path, options)


def _is_log(head: str) -> bool:
    from docqa.parse.log import looks_like_log

    return looks_like_log(head)
