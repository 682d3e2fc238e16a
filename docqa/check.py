"""`docqa check`: does the library hold what it says, and do the derived files agree with it?

A half-written document of a killed process is no finding: nobody sees it and the next writer clears
it away. What cannot happen by a kill or a full disk is a finding. The derived parts are compared in
docqa/check_derived.py.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from docqa.check_derived import bad_tails, dense_problem, drop_tails, lexical_problem
from docqa.errors import LibraryCorrupt
from docqa.feed import WordFeed
from docqa.index.dense import FILE
from docqa.ingest import LOCK_TIMEOUT_S
from docqa.migrations import LIVE
from docqa.paths import LibraryPaths
from docqa.records import Codec, passage_hash
from docqa.session_purge import sweep_kv
from docqa.store import Store

MAX_FINDINGS = 100
BATCH_ROWS = 4_096


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong. `repair` heals it where `is_derived`; else a backup is needed."""

    subject: str  # database | document path | lexical | dense
    problem: str
    is_derived: bool


def check(paths: LibraryPaths) -> list[Finding]:
    """Return what is wrong with the library, at most MAX_FINDINGS; nothing is changed.

    Reads all of the text: about 150 MB/s. Raises LibraryError where there is nothing to check.
    """
    if not paths.database.exists():
        return []
    findings: list[Finding] = []
    with Store(paths) as store:
        try:
            for finding in _findings(store):
                findings.append(finding)
                if len(findings) >= MAX_FINDINGS:
                    break
        except LibraryCorrupt as error:
            findings.append(Finding("database", str(error), False))
    return findings


def repair(paths: LibraryPaths) -> list[Finding]:
    """Rebuild what is derived; return what is still wrong."""
    findings = check(paths)
    if any(not finding.is_derived for finding in findings):
        return findings  # first a database that can be trusted
    with Store(paths) as store:
        with store.lock.held(LOCK_TIMEOUT_S):
            store.discard_staged()
            _drop_orphans(store)
            drop_tails(store, list(bad_tails(store)))
            sweep_kv(store.db)
        feed = WordFeed(store)
        feed.rebuild()
        feed.close()
        (paths.dense / FILE).unlink(missing_ok=True)  # made again by whoever needs it
    return check(paths)


def _findings(store: Store) -> Iterator[Finding]:
    with store.db.snapshot() as connection:
        yield from _damage(connection)
        yield from _orphans(connection)
        yield from _miscounts(connection)
        yield from _unlogged(connection)
        yield from _bad_vectors(connection)
        yield from _bad_chunks(connection)
        yield from _bad_passages(connection)
        yield from _left_over(connection)
    for tail in bad_tails(store):
        yield Finding(_shown(os.fsencode(tail.path)), tail.problem, True)
    if problem := lexical_problem(store):
        yield Finding("lexical", problem, True)
    if problem := dense_problem(store):
        yield Finding("dense", problem, True)


def _damage(connection: sqlite3.Connection) -> Iterator[Finding]:
    for (text,) in connection.execute("PRAGMA integrity_check(20)"):
        if text != "ok":
            yield Finding("database", str(text), False)
    for row in connection.execute("PRAGMA foreign_key_check").fetchmany(20):
        yield Finding("database", f"row {row[1]} of {row[0]} refers to a missing {row[2]}", False)


_ORPHANS = (
    "FROM passages WHERE NOT EXISTS "
    "(SELECT 1 FROM chunks c WHERE c.passage_id = passages.passage_id)"
)


def _orphans(connection: sqlite3.Connection) -> Iterator[Finding]:
    (n,) = connection.execute(f"SELECT count(*) {_ORPHANS}").fetchone()
    if n:
        yield Finding("database", f"{n} passages belong to no document", True)


def _drop_orphans(store: Store) -> None:
    with store.db.write() as connection:
        gone = connection.execute(f"DELETE {_ORPHANS} RETURNING passage_id").fetchall()
        connection.executemany("INSERT INTO passage_removals (passage_id) VALUES (?)", gone)


def _miscounts(connection: sqlite3.Connection) -> Iterator[Finding]:
    rows = connection.execute(
        "SELECT d.path, d.n_chunks, count(c.chunk_id), count(t.chunk_id), "
        "coalesce(max(c.ordinal) + 1, 0) FROM documents d LEFT JOIN chunks c USING (doc_id) "
        f"LEFT JOIN texts t USING (chunk_id) WHERE d.life = {LIVE} GROUP BY d.doc_id"
    )
    for path, *counts in rows:
        if len(set(counts)) > 1:
            said, held, with_text, numbered = counts
            problem = f"{said} chunks said, {held} held, {with_text} with text, {numbered} numbered"
            yield Finding(_shown(path), problem, False)


def _unlogged(connection: sqlite3.Connection) -> Iterator[Finding]:
    rows = connection.execute(
        f"SELECT d.path, count(c.seq) FROM documents d LEFT JOIN changes c ON c.doc_id = d.doc_id "
        f"AND c.op = 'add' AND c.since_ordinal = 0 WHERE d.life = {LIVE} "
        "GROUP BY d.doc_id HAVING count(c.seq) != 1"
    )
    for path, n in rows:
        yield Finding(_shown(path), f"is {n} times in the change log", False)


def _bad_vectors(connection: sqlite3.Connection) -> Iterator[Finding]:
    (n,) = connection.execute(
        "SELECT count(*) FROM vectors v JOIN embedders e USING (embedder_id) "
        "WHERE length(v.vector) != 2 * e.dim"
    ).fetchone()
    if n:
        yield Finding("database", f"{n} vectors have a wrong length", False)
    cursor = connection.execute("SELECT vector FROM vectors")
    n_odd = 0
    while rows := cursor.fetchmany(BATCH_ROWS):
        for (blob,) in rows:
            numbers = np.frombuffer(blob[: len(blob) // 2 * 2], np.float16)
            n_odd += not np.isfinite(numbers).all()
    if n_odd:
        yield Finding("database", f"{n_odd} vectors hold something that is no number", False)


def _bad_passages(connection: sqlite3.Connection) -> Iterator[Finding]:
    """A passage is the text that its hash names: what its vector was made of."""
    codec, n_wrong = Codec(), 0
    for digest, blob in connection.execute(
        "SELECT hash, text FROM passages p WHERE EXISTS "
        "(SELECT 1 FROM chunks c WHERE c.passage_id = p.passage_id)"
    ):
        try:
            n_wrong += passage_hash(codec.unpack(blob)) != digest
        except LibraryCorrupt:
            n_wrong += 1
    if n_wrong:
        yield Finding("database", f"{n_wrong} passages are not what they were", False)


def _left_over(connection: sqlite3.Connection) -> Iterator[Finding]:
    """Nothing in sessions or saved KV is of a document that is gone."""
    for table in ("turn_sources", "session_pins", "kv_documents"):
        (n,) = connection.execute(
            f"SELECT count(*) FROM {table} WHERE doc_id NOT IN "
            f"(SELECT doc_id FROM documents WHERE life = {LIVE})"
        ).fetchone()
        if n:
            yield Finding("database", f"{n} rows of {table} are of no document", False)


def _bad_chunks(connection: sqlite3.Connection) -> Iterator[Finding]:
    """Chunks tile their document: in order, not overlapping, each as long as its span."""
    codec = Codec()
    rows = connection.execute(
        'SELECT d.doc_id, d.path, c.ordinal, c.start, c."end", t.text FROM documents d '
        "JOIN chunks c USING (doc_id) JOIN texts t USING (chunk_id) "
        f"WHERE d.life = {LIVE} ORDER BY d.doc_id, c.ordinal"
    )
    document, position = -1, 0
    for doc_id, path, ordinal, start, end, blob in rows:
        if doc_id != document:
            document, position = doc_id, 0
        if start < position:
            yield Finding(_shown(path), f"chunk {ordinal} overlaps the one before", False)
        try:
            n_chars = len(codec.unpack(blob))
        except LibraryCorrupt as error:
            yield Finding(_shown(path), f"chunk {ordinal}: {error}", False)
        else:
            if n_chars != end - start:
                problem = f"chunk {ordinal} has {n_chars} characters, its span {end - start}"
                yield Finding(_shown(path), problem, False)
        position = end


def _shown(path: bytes) -> str:
    return path.decode("utf-8", "replace")
