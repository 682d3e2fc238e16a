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

Where a header names the columns (`docqa.columns`), a chunk has it as its heading unless its own
text begins with one.
"""

from __future__ import annotations

import functools
import re
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path

from docqa.columns import header_before, header_in
from docqa.errors import UnreadableFile
from docqa.parse.levels import LEVELS
from docqa.parse.log import (
    MAX_RECORD_CHARS,
    Batch,
    Lines,
    LogSample,
    RecordReader,
    Shape,
    cut_warning,
    line_batches,
    sample_log,
)
from docqa.parse.log_format import MISS, Miss
from docqa.parse.log_tail import Growth, LastChunk, compare, window_of
from docqa.parse.stream import TextStream
from docqa.parse.templates import mask
from docqa.protocols import ParseOptions
from docqa.types import BlockKind, Chunk, ChunkItem, DocumentInfo, Kind, Locator, LogTail, Span

TARGET_CHARS = 4_096
EMBED_CHARS = 1_000

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
        reader = RecordReader(sample)
        counts: Counter[str] = Counter()
        severe: set[str] = set()
        n_pieces = 0
        for lines in sample.pieces:
            for piece in _pieces(lines):
                found = reader.read(piece)
                pairs = {(template_of(shape), shape.is_severe) for shape in set(found.shapes)}
                counts.update(template for template, _ in pairs if template)
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


def template_of(shape: Shape) -> str:
    """Return the template of a shape's lines, made when it is first asked for; maybe empty."""
    if shape.line is not None:
        shape.template = mask(shape.line)
        shape.line = None
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


def chunk_log_records(
    path: Path,
    options: ParseOptions,
    *,
    target_chars: int = TARGET_CHARS,
    tail: LogTail | None = None,
) -> Iterator[ChunkItem]:
    """Yield the chunks of a log in order, then its DocumentInfo.

    With `tail`, of what was read before: the chunks from `tail.ordinal` on, which is made again
    from the same lines and what has come after them; the DocumentInfo is of the whole log. Read on
    until its tail stands at the end of the file: one call reads a bounded part.

    `n_tokens` and the ids are 0: they are the embedder's and the store's to fill in. Memory is
    bounded by a few blocks of the file.

    Raises:
        UnsupportedFile: binary data.
        UnreadableFile: empty, not permitted, or a decompression bomb; with `tail`, the file is
            not that log any more.
    """
    if tail is not None and compare(path, tail) is Growth.OTHER:
        raise UnreadableFile(path, "is not the log that was read before")
    sample, background = _sampled(path) if tail is None else _known_sample(path, *_age(path, tail))
    is_plain = tail is not None or _is_plain(path)
    window = window_of(path, tail, whole_lines=options.whole_lines) if is_plain else None
    inode = path.stat().st_ino
    reader = RecordReader(sample)
    stream = TextStream(path, window)
    packer = _Packer(reader, background, embed_title(path.name), target_chars)
    last = LastChunk(tail.time if tail else None)
    if tail is not None:
        packer.resume(tail)
    try:
        for batch in line_batches(stream):
            for chunk in packer.add(batch):
                last.note(chunk)
                yield chunk
        for chunk in packer.end():
            last.note(chunk)
            yield chunk
    finally:
        stream.close()
    n_lines = stream.n_lines + (tail.line - 1 if tail else 0)
    found = last.tail(stream, window, n_lines) if window else None
    is_other = tail and (path.stat().st_ino != inode or compare(path, tail) is Growth.OTHER)
    if is_other:
        raise UnreadableFile(path, "was replaced while it was read")
    yield DocumentInfo(
        kind=Kind.LOG,
        title=path.name,
        n_lines=n_lines,
        encoding=stream.encoding,
        warnings=(*stream.warnings, *packer.warnings),
        tail=found,
    )


def _sampled(path: Path) -> tuple[LogSample, Background]:
    sample = sample_log(path)
    return sample, Background(sample)


def _age(path: Path, tail: LogTail) -> tuple[bytes, int]:
    """Return what a sample of this log is good for: until it is twice as long."""
    return tail.head, path.stat().st_size.bit_length()


@functools.lru_cache(maxsize=8)
def _known_sample(path: Path, head: bytes, age: int) -> tuple[LogSample, Background]:
    """Return the sample of a log that is read line by line: taking it costs more than a line."""
    return _sampled(path)


def _is_plain(path: Path) -> bool:
    """Whether the bytes of the file are those of its lines: not packed, not UTF-16."""
    stream = TextStream(path)
    stream.close()
    return stream.packed is None and not stream.encoding.startswith(("utf-16", "utf-32"))


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
        self._limit = max(MAX_RECORD_CHARS, target_chars)
        self._ordinal = 0
        self._offset = 0  # of the first pending line in the extracted text
        self._line = 1  # its number
        self._pending = Lines([], [], [], [])
        self._time: float | None = None  # of the record that the next chunk may begin inside
        self._level: str | None = None
        self._columns = ""  # the header line above the next chunk
        self._long_template = title

    def resume(self, tail: LogTail) -> None:
        """Go on where a former reading ended."""
        self._ordinal, self._offset, self._line = tail.ordinal, tail.start_char, tail.line
        self._time, self._columns = tail.time, tail.columns
        self._reader.resume(tail.time)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was done to lines that are too long."""
        return cut_warning(self.n_cut_lines)

    def add(self, batch: Batch) -> Iterator[Chunk]:
        """Take lines in and yield the chunks that are complete."""
        found = self._reader.read(batch.lines)
        start, last = 0, len(found.lines) - 1
        is_long = [i for i, line in enumerate(found.lines) if len(line) >= self._limit]
        if batch.is_continued and 0 not in is_long:
            is_long.insert(0, 0)
        if batch.is_open and last not in is_long:
            is_long.append(last)
        for i in is_long:
            self._take(found, start, i)
            yield from self._pack(is_end=True)
            if i or not batch.is_continued:
                self._begin_long(found, i)
            yield from self._cut(found.lines[i], batch.is_open and i == last)
            start = i + 1
        self._take(found, start, last + 1)
        yield from self._pack(is_end=False)

    def end(self) -> Iterator[Chunk]:
        """Yield what is left."""
        yield from self._pack(is_end=True)

    def _take(self, found: Lines, start: int, end: int) -> None:
        pending = self._pending
        shift = len(pending.lines) - start
        pending.gaps.extend(i + shift for i in found.gaps if start <= i < end)
        pending.lines.extend(found.lines[start:end])
        pending.times.extend(found.times[start:end])
        pending.shapes.extend(found.shapes[start:end])

    def _pack(self, *, is_end: bool) -> Iterator[Chunk]:
        """Yield chunks of the pending lines; all of them at an end, else all but the last ones."""
        pending = self._pending
        ends = list(accumulate(len(line) + 1 for line in pending.lines))
        at, n = 0, len(pending.lines)
        while at < n:
            begun = ends[at - 1] if at else 0
            if not is_end and ends[-1] - begun <= self._limit + self._target:
                break
            cut = self._cut_after(at, begun, ends)
            yield from self._flush(at, cut)
            at = cut
        for column in (pending.lines, pending.times, pending.shapes):
            del column[:at]
        pending.gaps[:] = [i - at for i in pending.gaps if i >= at]

    def _cut_after(self, at: int, begun: int, ends: list[int]) -> int:
        """Return the line before which the chunk that begins with line `at` ends.

        The first head from `target` characters on, or after a gap; the last head before, where
        that would make the chunk half as long again; a line's end, where one record is too long.
        """
        times, target, n = self._pending.times, self._target, len(ends)
        soft = bisect_left(ends, begun + target // 4, at) + 1
        full = bisect_left(ends, begun + target, at) + 1
        most = max(bisect_right(ends, begun + target * 3 // 2, at), at + 1)
        for gap in self._pending.gaps:
            if soft <= gap <= full:
                return gap
        for i in range(full, min(most, n - 1) + 1):
            if times[i] is not MISS:
                return i
        if most >= n:
            return n
        for i in range(min(full, n) - 1, soft - 1, -1):
            if times[i] is not MISS:
                return i
        limit = max(bisect_right(ends, begun + self._limit, at), at + 1)
        for i in range(most, min(limit, n - 1) + 1):
            if times[i] is not MISS:
                return i
        return min(limit, n)

    def _flush(self, start: int, end: int) -> Iterator[Chunk]:
        """Yield pending lines as a chunk, unless they are all blank."""
        pending = self._pending
        lines, times = pending.lines[start:end], pending.times[start:end]
        shapes = set(pending.shapes[start:end])
        text = "\n".join(lines)
        body = text.strip("\n")
        levels: set[str | None] = {shape.level for shape in shapes}
        if times[0] is MISS:
            levels.add(self._level)
        span = self._span_of(lines, times)
        for i in range(end - 1, start - 1, -1):
            if pending.times[i] is not MISS:
                self._level = pending.shapes[i].level
                break
        if body:
            lead = len(text) - len(text.lstrip("\n"))
            ordered = tuple(level for level in LEVELS if level in levels)
            ordered_shapes = dict.fromkeys(pending.shapes[start:end])
            yield self._chunk(body, lead, lead, self._embed_text(ordered_shapes), span, ordered)
        self._offset += len(text) + 1
        self._line += end - start

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
        above, self._columns = self._columns, header_in(body) or self._columns
        return Chunk(
            chunk_id=0,
            span=Span(0, start, start + len(body), place),
            ordinal=ordinal,
            text=body,
            embed_text=embed_text,
            kind=BlockKind.RECORD,
            headings=(above,) if above and not header_before(body) else (),
            time_first=times[0],
            time_last=times[1],
            levels=levels,
        )

    def _begin_long(self, found: Lines, i: int) -> None:
        """Note the record of a line that is cut: its pieces share one template."""
        self.n_cut_lines += 1
        line, time, shape = found.lines[i], found.times[i], found.shapes[i]
        if time is not MISS:
            self._time = time and self._reader.exact_time(line[:MAX_RECORD_CHARS], time)
            self._level = shape.level
        self._long_template = f"{self._title}\n{template_of(shape)}".strip()

    def _cut(self, line: str, is_open: bool) -> Iterator[Chunk]:
        """Yield the pieces of a long line, or of the part of it that has been read."""
        levels = (self._level,) if self._level else ()
        for start in range(0, len(line), self._target):
            piece = line[start : start + self._target]
            times = (self._time, self._time)
            yield self._chunk(piece, start, 0, self._long_template, times, levels)
        self._offset += len(line) + (not is_open)
        self._line += not is_open

    def _span_of(
        self, lines: list[str], times: list[float | Miss | None]
    ) -> tuple[float | None, float | None]:
        """Return the earliest and latest time, and remember the last record's.

        Clocks go back and threads write late, so these are not simply first and last line.
        """
        known = [time for time in times if isinstance(time, float)]
        carried = self._time if times[0] is MISS else None
        ends = [] if carried is None else [carried]
        if known:
            low, high = min(known), max(known)
            first, last = times.index(low), len(times) - 1 - times[::-1].index(high)
            ends.append(self._reader.exact_time(lines[first], low))
            ends.append(self._reader.exact_time(lines[last], high))
            self._time = known[-1]
        return (min(ends), max(ends)) if ends else (None, None)

    def _embed_text(self, shapes: dict[Shape, None]) -> str:
        """Return what stands for this chunk in the indexes; see the module's docstring."""
        place_of = self._background.place_of
        chosen: dict[str, bool] = {}  # template -> is it severe
        rarest, n_chars = -1, 0
        for shape in sorted(shapes, key=_is_routine):
            if n_chars >= EMBED_CHARS:
                break
            template = template_of(shape)
            place = place_of.get(template)
            if place is not None and not shape.is_severe:
                rarest = max(rarest, place)
            elif template and template not in chosen:
                chosen[template] = shape.is_severe
                n_chars += len(template) + 1
        if chosen:
            body = "\n".join(sorted(chosen, key=lambda template: (not chosen[template], template)))
        else:
            body = self._background.texts[rarest] if rarest >= 0 else ""
        return f"{self._title}\n{body[:EMBED_CHARS]}".strip()


def _is_routine(shape: Shape) -> bool:
    return not shape.is_severe
