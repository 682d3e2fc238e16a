"""The words of a scan's answer: the number first, then what was matched, then the lines.

Numbers and times are what `docqa.scan` counted and read; nothing here is estimated. `[n]` marks the
n-th cited line.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import PurePath

from docqa.parse.timestamps import zone_seconds
from docqa.scan import MAX_FORMS, MAX_KEPT, ScanMatch, ScanResult, ScanText, time_key
from docqa.scan_intent import COUNT, EXTREMES, SIZES, Operation
from docqa.scan_time import zone_in

_MAX_LISTED = 20
_MAX_LINE_CHARS = 240
_MAX_CITED = 5
_MAX_NAMED = 3


def describe(result: ScanResult) -> ScanText:
    """Return the answer in words, and the matches that it cites."""
    writer = _Writer(result)
    if result.tally.n_records == 0:
        return ScanText(f"0 records match. {writer.searched}", ())
    if result.query.operation in (Operation.TOP, Operation.HISTOGRAM):
        return writer.values()
    if result.query.operation in (Operation.FIRST, Operation.LAST):
        return writer.one()
    if result.query.operation in EXTREMES:
        return writer.extreme()
    if result.query.operation is Operation.COUNT:
        return writer.count()
    return writer.listing()


class _Writer:
    """Collects the cited matches of one answer."""

    def __init__(self, result: ScanResult) -> None:
        self._result = result
        self._tally = result.tally
        self._cited: list[ScanMatch] = []

    @property
    def searched(self) -> str:
        """Say what was looked for, and where."""
        query = self._result.query
        clock = "UTC" if query.when and query.when.is_utc else "each log's clock"
        when = f", {query.when.text.strip()} ({clock})" if query.when else ""
        files = len(self._tally.per_document)
        logs = sorted(PurePath(path).name for path in self._result.paths.values())
        where = ""
        if self._result.is_named:
            where = f" in {_listed(logs)}" if len(logs) <= _MAX_NAMED else f" in {len(logs)} logs"
        return f"Scanned for {self._result.reading.text}{when}{where}" + (
            f", found in {files} files." if files > 1 else "."
        )

    def count(self) -> ScanText:
        """How many, when first and last, and how many a file."""
        tally = self._tally
        lines = "" if tally.n_lines == tally.n_records else f" ({tally.n_lines:,} lines)"
        parts = [f"{_records(tally.n_records)}{lines}{self._kinds()}. {self.searched}"]
        if tally.n_records <= _MAX_CITED:
            parts += [self._shown(match) for match in tally.matches]
        elif tally.first is not None and tally.last is not None:
            parts.append("First: " + self._shown(tally.first))
            parts.append("Last: " + self._shown(tally.last))
        parts += self._forms()
        if len(tally.per_document) > 1:
            parts += [f"{self._name(i)}: {n:,}" for i, n in tally.per_document.most_common(10)]
        return self._text(parts)

    @property
    def _is_mixed(self) -> bool:
        """Whether different lines were counted, few enough to show each kind."""
        return 1 < len(self._tally.values) <= MAX_FORMS

    def _kinds(self) -> str:
        """Say where most of the records are of one kind: the others may not be what is meant."""
        values = self._tally.values
        if not self._is_mixed:
            return ""
        return f", {values.most_common(1)[0][1]:,} of them of the commonest kind of {len(values)}"

    def _forms(self) -> list[str]:
        """The different lines among those counted, for the reader to judge what was counted."""
        if not self._is_mixed:
            return []
        return [
            f"{n:,} × {form}{self._mark(self._tally.example[form])}"
            for form, n in self._tally.values.most_common()
        ]

    def one(self) -> ScanText:
        """Answer with the first or the last record."""
        is_first = self._result.query.operation is Operation.FIRST
        match = self._tally.first if is_first else self._tally.last
        if match is None:
            return self._text([self.searched])
        word = "First" if is_first else "Last"
        total = self._tally.n_records
        return self._text(
            [
                f"{word}: {self._shown(match)}",
                f"{word} of {_records(total)}. {self.searched}",
            ]
        )

    def extreme(self) -> ScanText:
        """Answer with the record that states the longest, shortest, largest or smallest."""
        assert self._tally.extreme is not None, "only lines with a measure were counted"
        measure, match = self._tally.extreme
        operation = self._result.query.operation
        word, how = operation.capitalize(), "large" if operation in SIZES else "long"
        which = f"{word} of {_records(self._tally.n_records)} that state how {how}."
        return self._text(
            [f"{word}: {measure.text}, {self._shown(match)}", f"{which} {self.searched}"]
        )

    def listing(self) -> ScanText:
        """List the records in order, up to a number; say how many there are."""
        tally, query = self._tally, self._result.query
        wanted = min(query.n_wanted, MAX_KEPT) if query.n_wanted != 10 else _MAX_LISTED
        if query.operation is Operation.WHEN:
            wanted = 10
        takes_last = query.operation is Operation.LIST and "last" in query.question.lower()
        # Files are read one after the other: the last in time may be in the first of them.
        latest = sorted(tally.tail, key=time_key)[-wanted:]
        shown = latest if takes_last else tally.matches[:wanted]
        parts = [self._shown(match) for match in shown]
        rest = tally.n_records - len(shown)
        if rest > 0 and not takes_last and tally.last is not None and tally.last not in shown:
            parts.append(f"… {rest - 1:,} more, the last: {self._shown(tally.last)}")
        elif rest > 0:
            parts.append(f"… {rest:,} more")
        return self._text([*parts, f"{_records(tally.n_records)}. {self.searched}"])

    def values(self) -> ScanText:
        """List the most frequent values of a field, or the counts over time."""
        tally, query = self._tally, self._result.query
        if not tally.values:
            what = "time" if query.operation is Operation.HISTOGRAM else query.field
            return self._text(
                [f"{_records(tally.n_records)}, none states a value ({what}). {self.searched}"]
            )
        most = tally.values.most_common(query.n_wanted)
        what = query.bucket if query.operation is Operation.HISTOGRAM else query.field
        parts = []
        if query.operation is Operation.HISTOGRAM and len(tally.values) <= 24:
            top, n = most[0]
            parts.append(f"Most: {top} with {n:,}{self._mark(tally.example[top])}")
            is_short = len(tally.values) <= query.n_wanted  # else a page of lines would follow
            for value, n in sorted(tally.values.items()):
                parts.append(
                    f"{value}: {n:,}{self._mark(tally.example[value]) if is_short else ''}"
                )
        else:
            parts += [f"{value}: {n:,}{self._mark(tally.example[value])}" for value, n in most]
        if len(tally.values) > len(most):
            parts.append(f"… {len(tally.values) - len(most):,} more")
        total = f"{len(tally.values):,} different ({what}) in {_records(tally.n_records)}."
        if query.operation is Operation.TOP and COUNT.search(query.question):
            return self._text([f"{total} {self.searched}", *parts])
        return self._text([*parts, f"{total} {self.searched}"])

    def _text(self, parts: list[str]) -> ScanText:
        return ScanText("\n".join(parts), tuple(self._cited))

    def _mark(self, match: ScanMatch) -> str:
        if match not in self._cited:
            self._cited.append(match)
        return f" [{self._cited.index(match) + 1}]"

    def _shown(self, match: ScanMatch) -> str:
        line = match.text.strip()
        if len(line) > _MAX_LINE_CHARS:
            line = line[:_MAX_LINE_CHARS] + "…"
        name = f"{self._name(match.doc_id)} " if len(self._tally.per_document) > 1 else ""
        time = f"{_time(match.time, zone_in(match.head))}, " if match.time is not None else ""
        shown = f"{time}{name}line {match.line:,}: {line}{self._mark(match)}"
        if match.line != match.record_line:
            head = match.head.strip()[:_MAX_LINE_CHARS]
            shown += f" (in the record of line {match.record_line:,}: {head})"
        return shown

    def _name(self, doc_id: int) -> str:
        path = self._result.paths.get(doc_id)
        return PurePath(path).name if path else f"document {doc_id}"


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _records(n: int) -> str:
    return f"{n:,} record" + ("" if n == 1 else "s")


def _time(time: float, zone: str) -> str:
    at = datetime.fromtimestamp(time + zone_seconds(zone), UTC)
    millis = f".{at.microsecond // 1000:03d}" if at.microsecond else ""
    return f"{at:%Y-%m-%d %H:%M:%S}{millis} {zone or 'UTC'}"
