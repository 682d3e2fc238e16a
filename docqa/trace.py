"""A trace of questions as JSON lines, on request: what was found, packed, sent, reused, answered.

Each line names the documents that it holds words of. The library remembers which traces it wrote;
when a document is removed their lines about it are replaced by one that says so.
"""

from __future__ import annotations

import json
import os
import tempfile
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from docqa.answer_json import answer_json
from docqa.database import Database
from docqa.errors import UsageError
from docqa.events import Answered, AskEvent, Packed, PrefillProgress, Retrieved
from docqa.prompts import place
from docqa.records import path_bytes
from docqa.types import Candidate

SCHEMA = "docqa.trace/1"


class Trace:
    """Appends the events of one question to a file, 0600."""

    def __init__(self, db: Database, path: Path) -> None:
        """Open the file and have the library remember it.

        Raises:
            UsageError: it cannot be written.
        """
        self._id = uuid.uuid4().hex[:12]
        place_ = path.absolute()
        try:
            descriptor = os.open(place_, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        except OSError as error:
            raise UsageError(f"{place_}: the trace cannot be written: {error.strerror}") from error
        self._file = os.fdopen(descriptor, "a", encoding="ascii")
        with db.write() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO traces VALUES (?)", (path_bytes(str(place_)),)
            )

    def note(self, event: AskEvent) -> None:
        """Write an event of `Workspace.ask`; progress is written once, at its end."""
        line = _line(event)
        if line is not None:
            now = datetime.now().astimezone().isoformat(timespec="milliseconds")
            head = {"schema": SCHEMA, "time": now, "id": self._id}
            self._file.write(json.dumps({**head, **line}) + "\n")
            self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _line(event: AskEvent) -> dict[str, Any] | None:
    if isinstance(event, Retrieved):
        return {
            "event": "retrieved",
            "documents": sorted({c.path for c in event.candidates}),
            "query": event.query,
            "retrieve_s": event.retrieve_s,
            "rerank_s": event.rerank_s,
            "candidates": [_candidate(c) for c in event.candidates],
        }
    if isinstance(event, Packed):
        prompt = event.prompt
        return {
            "event": "packed",
            "documents": list(prompt.paths),
            "n_tokens": len(prompt.tokens),
            "layer_tokens": prompt.layer_tokens,
            "above": prompt.above,
            "prompt": [[s.layer, s.text] for s in prompt.segments],
            "dropped": [_candidate(c) for c in prompt.dropped],
        }
    if isinstance(event, PrefillProgress) and event.n_done >= event.n_total:
        return {"event": "prefilled", "documents": [], **asdict(event)}
    if isinstance(event, Answered):
        answer = answer_json(event.answer)
        paths = {row["path"] for row in (*answer["citations"], *answer["evidence"])}
        return {"event": "answered", "documents": sorted(paths), "answer": answer}
    return None


def _candidate(candidate: Candidate) -> dict[str, Any]:
    return {
        "path": candidate.path,
        "where": place(candidate.chunk.span.locator),
        "chunk_id": candidate.chunk.chunk_id,
        "lexical_rank": candidate.lexical_rank,
        "dense_rank": candidate.dense_rank,
        "rrf_score": candidate.rrf_score,
        "rerank_score": candidate.rerank_score,
        "dropped": candidate.dropped,
    }


def purge_traces(db: Database, paths: Sequence[str]) -> None:
    """Take the lines about documents that were removed out of every trace that is still there."""
    if not paths:
        return
    with db.read() as connection:
        traces = [os.fsdecode(path) for (path,) in connection.execute("SELECT path FROM traces")]
    gone = [trace for trace in traces if not _purged(Path(trace), frozenset(paths))]
    if gone:
        with db.write() as connection:
            connection.executemany(
                "DELETE FROM traces WHERE path = ?", [(path_bytes(trace),) for trace in gone]
            )


def _purged(trace: Path, removed: frozenset[str]) -> bool:
    """Rewrite one trace; return whether there is one."""
    try:
        lines = trace.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        return False
    kept = [_without(line, removed) for line in lines]
    if kept == lines:
        return True
    handle, name = tempfile.mkstemp(dir=trace.parent, prefix=".trace-")  # mode 0600
    try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write("".join(line + "\n" for line in kept))
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(trace)
    except BaseException:
        with suppress(OSError):
            Path(name).unlink()
        raise
    return True


def _without(line: str, removed: frozenset[str]) -> str:
    """Return a line as it is, or, where it holds a removed document, what may be left of it."""
    try:
        value = json.loads(line)
        documents = set(value["documents"])
    except (ValueError, KeyError, TypeError):
        return line  # not ours
    if not documents & removed:
        return line
    head = {key: value.get(key) for key in ("schema", "time", "id")}
    rest = sorted(documents - removed)
    return json.dumps({**head, "event": "removed", "documents": rest, "was": value.get("event")})
