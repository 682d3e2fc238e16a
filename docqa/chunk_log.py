"""Logs to chunks in one pass: whole records, time gaps as borders, templates for the indexes.

`chunk_log_records` is the fast way through a log of any size; its records are those of
`docqa.parse.log.parse_log`. Chunks tile the extracted text with newlines only between them.

A chunk ends at the end of a record, when it holds `target_chars` or when the next record comes
`TIME_GAP_S` later and the chunk is a quarter full. A record is kept whole up to
`MAX_RECORD_CHARS`; beyond that it is cut at a line's end, and a longer line inside the line.

What the indexes embed is not the text but the line templates in it, so that the routine of a
service is embedded once and what is rare stands out. `Background` knows, from a sample of the whole
file, the templates that turn up everywhere, in order of frequency and packed into a few texts. The
`embed_text` of a chunk is the file's name and then

- its severe templates (WARN, ERROR, FATAL) and the ones that are not background, sorted, severe
  first, cut to `EMBED_CHARS`;
- or, of a chunk with nothing but background: the background text with its rarest template.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from docqa.parse.levels import LEVELS, SEVERE
from docqa.parse.log import (
    MAX_RECORD_CHARS,
    Batch,
    Lines,
    LogSample,
    RecordReader,
    cut_warning,
    line_batches,
    sample_log,
)
from docqa.parse.log_format import MISS, Miss
from docqa.parse.stream import TextStream
from docqa.parse.templates import mask
from docqa.parse.timestamps import YearClock
from docqa.protocols import ParseOptions
from docqa.types import BlockKind, Chunk, ChunkItem, DocumentInfo, Kind, Locator, Span

TARGET_CHARS = 4_096
EMBED_CHARS = 1_000
TIME_GAP_S = 600.0

_N_BACKGROUND_TEXTS = 8
_ROUTINE_SHARE = 0.01  # of the sampled pieces that must hold a template
_SEVERE_SHARE = 0.10
_MIN_PIECES = 3
_ROTATION = re.compile(r"(?:\.(?:gz|bz2|xz|\d+))+$|[-_.]?\d{4,}.*$")


class Background:
    """The templates that occur all over one file, packed into `texts`, the most frequent first."""

    def __init__(self, sample: LogSample) -> None:
        self.texts: list[str] = []
        self.place_of: dict[str, int] = {}
        reader = RecordReader(sample.first_lines, YearClock(sample.clock_year))
        counts: Counter[str] = Counter()
        severe: set[str] = set()
        n_pieces = 0
        for lines in sample.pieces:
            for piece in _pieces(lines):
                found = reader.read(piece)
                pairs = {
                    (template_of(reader, found, i), _is_severe(found, i)) for i in _heads(found)
                }
                counts.update(template for template, _ in pairs)
                severe.update(template for template, is_severe in pairs if is_severe)
                n_pieces += 1
        self._pack(counts, severe, n_pieces)

    def _pack(self, counts: Counter[str], severe: set[str], n_pieces: int) -> None:
        texts: list[list[str]] = [[]]
        n_chars = 0
        for template, n in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])):
            share = _SEVERE_SHARE if template in severe else _ROUTINE_SHARE
            if n < max(_MIN_PIECES, share * n_pieces):
                continue
            if n_chars + len(template) > EMBED_CHARS and texts[-1]:
                if len(texts) == _N_BACKGROUND_TEXTS:
                    break
                texts.append([])
                n_chars = 0
            texts[-1].append(template)
            n_chars += len(template) + 1
            self.place_of[template] = len(texts) - 1
        self.texts = ["\n".join(text)[:EMBED_CHARS] for text in texts]


def template_of(reader: RecordReader, found: Lines, i: int) -> str:
    """Return the template of line `i`, remembered in its shape."""
    shape = found.shapes[i]
    if shape.template is None:
        line = found.lines[i]
        shape.template = mask(reader.without_time(line) if found.times[i] is not MISS else line)
    return shape.template


def embed_title(name: str) -> str:
    """Return a file name without what rotation adds, equal for all parts of one log."""
    return _ROTATION.sub("", name) or name


def _pieces(lines: Sequence[str]) -> Iterator[list[str]]:
    """Cut sampled lines into lists of about one chunk's size."""
    piece: list[str] = []
    n_chars = 0
    for line in lines:
        piece.append(line[:MAX_RECORD_CHARS])
        n_chars += len(line)
        if n_chars >= TARGET_CHARS:
            yield piece
            piece, n_chars = [], 0
    if piece:
        yield piece


def _heads(found: Lines) -> list[int]:
    """The lines that say what happened: record heads and unindented lines like `Caused by:`."""
    return [
        i
        for i, line in enumerate(found.lines)
        if line and (found.times[i] is not MISS or (line[0] not in " \t#" and line[:3] != "at "))
    ]


def _is_severe(found: Lines, i: int) -> bool:
    while i > 0 and found.times[i] is MISS:
        i -= 1
    return found.levels[i] in SEVERE


def chunk_log_records(
    path: Path, options: ParseOptions, *, target_chars: int = TARGET_CHARS
) -> Iterator[ChunkItem]:
    """Yield the chunks of a log in order, then its DocumentInfo.

    `n_tokens` and the ids are 0: they are the embedder's and the store's to fill in. Memory is
    bounded by a few blocks of the file.

    Raises:
        UnsupportedFile: binary data.
        UnreadableFile: empty, not permitted, or a decompression bomb.
    """
    sample = sample_log(path)
    reader = RecordReader(sample.first_lines, YearClock(sample.clock_year))
    stream = TextStream(path)
    packer = _Packer(reader, Background(sample), embed_title(path.name), target_chars)
    try:
        for batch in line_batches(stream):
            yield from packer.add(batch)
        yield from packer.end()
    finally:
        stream.close()
    yield DocumentInfo(
        kind=Kind.LOG,
        title=path.name,
        n_lines=stream.n_lines,
        encoding=stream.encoding,
        warnings=(*stream.warnings, *packer.warnings),
    )


class _Packer:
    """Lines in, chunks out. Holds the lines of one chunk and of the record after it."""

    def __init__(
        self, reader: RecordReader, background: Background, title: str, target_chars: int
    ) -> None:
        self.n_cut_lines = 0
        self._reader = reader
        self._background = background
        self._title = title
        self._target = target_chars
        self._ordinal = 0
        self._offset = 0  # of the first pending line in the extracted text
        self._line = 1  # its number
        self._pending = Lines([], [], [], [])
        self._time: float | None = None  # of the record that the next chunk may begin inside
        self._level: str | None = None
        self._n_chars = 0
        self._record_at = 0  # where the last pending record begins, and its characters
        self._before_chars = 0
        self._last_time: float | None = None
        self._long_template = title

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was done to lines that are too long."""
        return cut_warning(self.n_cut_lines)

    def add(self, batch: Batch) -> Iterator[Chunk]:
        """Take lines in and yield the chunks that are complete."""
        found = self._reader.read(batch.lines)
        pending, target = self._pending, self._target
        soft, most, limit = target // 4, target * 3 // 2, max(MAX_RECORD_CHARS, target)
        last = len(found.lines) - 1
        for i, (line, time, level, shape) in enumerate(
            zip(found.lines, found.times, found.levels, found.shapes, strict=True)
        ):
            n = len(line) + 1
            is_open = batch.is_open and i == last
            if n > limit or is_open or (i == 0 and batch.is_continued):
                yield from self._flush(len(pending.lines))
                if i or not batch.is_continued:
                    self._begin_long(line, time, level, found, i)
                yield from self._cut(line, is_open)
                continue
            if time is not MISS:
                size = self._n_chars
                if size >= target or size + n > most or (size >= soft and self._is_gap(time)):
                    yield from self._flush(len(pending.lines))
                self._record_at = len(pending.lines)
                self._before_chars = self._n_chars
                if time is not None:
                    self._last_time = time
            elif self._n_chars + n > most:
                if self._record_at and self._before_chars >= soft:
                    yield from self._flush(self._record_at)
                if self._n_chars + n > limit:
                    yield from self._flush(len(pending.lines))
            pending.lines.append(line)
            pending.times.append(time)
            pending.levels.append(level)
            pending.shapes.append(shape)
            self._n_chars += n

    def end(self) -> Iterator[Chunk]:
        """Yield the last chunk."""
        yield from self._flush(len(self._pending.lines))

    def _is_gap(self, time: float | None) -> bool:
        last = self._last_time
        return time is not None and last is not None and time - last >= TIME_GAP_S

    def _flush(self, n: int) -> Iterator[Chunk]:
        """Yield the first `n` pending lines as a chunk."""
        if n == 0:
            return
        pending = self._pending
        taken = Lines(*(column[:n] for column in pending.columns))
        for column in pending.columns:
            del column[:n]
        text = "\n".join(taken.lines)
        body = text.strip("\n")
        times, levels = self._span_of(taken)
        if body:
            lead = len(text) - len(text.lstrip("\n"))
            yield self._chunk(body, lead, lead, self._embed_text(taken), times, levels)
        self._offset += len(text) + 1
        self._line += n
        self._n_chars -= len(text) + 1
        self._record_at = max(0, self._record_at - n)
        self._before_chars = 0

    def _chunk(
        self,
        body: str,
        n_chars: int,
        n_lines: int,
        embed_text: str,
        times: tuple[float | None, float | None],
        levels: tuple[str, ...],
    ) -> Chunk:
        """Return the chunk `n_chars` and `n_lines` behind the position reached."""
        start, first = self._offset + n_chars, self._line + n_lines
        place = Locator("line", first, first + body.count("\n"))
        ordinal = self._ordinal
        self._ordinal += 1
        return Chunk(
            chunk_id=0,
            span=Span(0, start, start + len(body), place),
            ordinal=ordinal,
            text=body,
            embed_text=embed_text,
            kind=BlockKind.RECORD,
            time_first=times[0],
            time_last=times[1],
            levels=levels,
        )

    def _begin_long(
        self, line: str, time: float | Miss | None, level: str | None, found: Lines, i: int
    ) -> None:
        """Note the record of a line that is cut: its pieces share one template."""
        self.n_cut_lines += 1
        if time is not MISS:
            self._time = None if time is None else self._reader.exact_time(line[:MAX_RECORD_CHARS])
            self._last_time = self._time if self._time is not None else self._last_time
            self._level = level
        self._long_template = f"{self._title}\n{mask(self._reader.without_time(line[:4096]))}"

    def _cut(self, line: str, is_open: bool) -> Iterator[Chunk]:
        """Yield the pieces of a long line, or of the part of it that has been read."""
        levels = (self._level,) if self._level else ()
        for start in range(0, len(line), self._target):
            piece = line[start : start + self._target]
            times = (self._time, self._time)
            yield self._chunk(piece, start, 0, self._long_template, times, levels)
        self._offset += len(line) + (not is_open)
        self._line += not is_open

    def _span_of(self, taken: Lines) -> tuple[tuple[float | None, float | None], tuple[str, ...]]:
        """Return the earliest and latest time and the levels, and remember the last record's.

        Clocks go back and threads write late, so the ends are not simply first and last line.
        """
        found: set[str | None] = {self._level} if taken.times[0] is MISS else set()
        carried = self._time if taken.times[0] is MISS else None
        low = high = -1
        for i, time in enumerate(taken.times):
            if time is MISS:
                continue
            self._level = taken.levels[i]
            found.add(self._level)
            self._time = time
            if time is None:
                continue
            if low < 0 or time < taken.times[low]:  # type: ignore[operator]
                low = i
            if high < 0 or time >= taken.times[high]:  # type: ignore[operator]
                high = i
        ends = [self._reader.exact_time(taken.lines[i]) for i in (low, high) if i >= 0]
        known = [t for t in (carried, *ends) if t is not None]
        span = (min(known), max(known)) if known else (None, None)
        return span, tuple(level for level in LEVELS if level in found)

    def _embed_text(self, taken: Lines) -> str:
        """Return what stands for this chunk in the indexes; see the module's docstring."""
        background, reader = self._background, self._reader
        severe: set[str] = set()
        routine: set[str] = set()
        known: set[str] = set()
        n_chars = 0
        heads = _heads(taken)
        urgent = {i for i in heads if _is_severe(taken, i)}
        for i in sorted(heads, key=lambda i: i not in urgent):
            if n_chars >= EMBED_CHARS:
                break
            template = template_of(reader, taken, i)
            if template in background.place_of:
                known.add(template)
                if i not in urgent:
                    continue
            chosen = severe if i in urgent else routine
            if template not in severe and template not in chosen:
                chosen.add(template)
                n_chars += len(template) + 1
        if severe or routine:
            body = "\n".join([*sorted(severe), *sorted(routine)])
        else:
            place = max((background.place_of[template] for template in known), default=-1)
            body = background.texts[place] if place >= 0 else ""
        return f"{self._title}\n{body[:EMBED_CHARS]}".strip()
