"""Questions that logs answer by an exact scan: counts, first, last, when, all occurrences.

The lexical index narrows to the chunks that hold the exact terms; every record in them is read.
Where other documents are in scope too, only a scan that matched something definite (a phrase, an
identifier, a level) answers; "how many vanes" is then a question for the manual.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import replace

from docqa.library import Library
from docqa.scan import ScanMatch, ScanResult, prefilter_terms, run_scan
from docqa.scan_intent import Operation, ScanQuery, scan_intent
from docqa.scan_source import NamedLogs, Occurs, named_logs
from docqa.scan_text import describe
from docqa.types import (
    Answer,
    AnswerKind,
    Chunk,
    Citation,
    Document,
    Evidence,
    Kind,
    Scope,
    Usage,
)

BATCH = 512  # chunks loaded at a time
MIN_WORDS = 3  # of the question on one line: it is about that line, though there are other files


def answer_by_scan(question: str, library: Library, scope: Scope) -> Answer | None:
    """Return the answer of a scan, or None where the question needs reading or nothing matches."""
    query = scan_intent(question)
    if query is None:
        return None
    documents = _in_scope(library.store.documents(), scope)
    logs = {d.doc_id: d for d in documents.values() if d.kind is Kind.LOG}
    if not logs:
        return None
    started = time.perf_counter()
    narrowed = replace(scope, doc_ids=frozenset(logs))
    paths = {doc_id: document.path for doc_id, document in logs.items()}
    named = named_logs(query, paths, _occurring(library))
    if named is not None and named.is_said:
        result = _scan_named(named, library, narrowed, paths)
        if _has_none(result):
            return None  # other logs are not what was asked about
        return _answer(question, result, library, logs, time.perf_counter() - started)
    result = _scan(query, library, narrowed, paths)
    is_sure = len(logs) == len(documents) or result.is_named or _is_definite(result)
    if _has_none(result) or not is_sure:
        if named is None:
            return None
        result = _scan_named(named, library, narrowed, paths)
        if _has_none(result):
            return None
    return _answer(question, result, library, logs, time.perf_counter() - started)


def _has_none(result: ScanResult) -> bool:
    """Whether there is nothing to say: no record, or none with a value of the field.

    None is an answer where a quoted text, or a level, is counted in a log that is named.
    """
    query = result.query
    if query.is_explicit and result.is_named and result.n_scanned:
        return bool(query.levels) and not result.has_levels
    is_top = query.operation is Operation.TOP
    return not (result.tally.values if is_top else result.tally.n_records)


def _scan_named(
    named: NamedLogs, library: Library, scope: Scope, paths: Mapping[int, str]
) -> ScanResult:
    inside = replace(scope, doc_ids=named.doc_ids)
    held = {doc_id: paths[doc_id] for doc_id in named.doc_ids}
    for query in named.queries:
        result = replace(_scan(query, library, inside, held), is_named=True)
        if not _has_none(result):
            break
    return result


def _scan(query: ScanQuery, library: Library, scope: Scope, paths: Mapping[int, str]) -> ScanResult:
    result = run_scan(query, _narrowed(query, library, scope), scope, paths=paths)
    if result.tally.n_records or not prefilter_terms(query):
        return result
    # The term may stand inside a longer word, which the index does not know: OutOfMemoryError.
    everything = library.store.iter_chunks(scope, embed_text=False)
    return run_scan(query, everything, scope, paths=paths)


def _occurring(library: Library) -> Occurs:
    def occurs(word: str, doc_ids: frozenset[int]) -> bool:
        found = library.lexical.chunk_ids_containing([word], Scope(doc_ids=doc_ids), n_most=1)
        return next(iter(found), None) is not None

    return occurs


def _in_scope(documents: list[Document], scope: Scope) -> dict[int, Document]:
    wanted = scope.doc_ids
    return {d.doc_id: d for d in documents if wanted is None or d.doc_id in wanted}


def _is_definite(result: ScanResult) -> bool:
    query = result.query
    is_named = any(term.is_exact or term.is_status for term in query.terms)
    has_many_words = result.reading.is_by_line and len(result.reading.patterns) >= MIN_WORDS
    return is_named or bool(query.levels) or result.reading.is_phrase or has_many_words


def _narrowed(query: ScanQuery, library: Library, scope: Scope) -> Iterator[Chunk]:
    terms = prefilter_terms(query)
    if not terms:
        yield from library.store.iter_chunks(scope, embed_text=False)
        return
    ids = list(library.lexical.chunk_ids_containing(terms, scope))
    for start in range(0, len(ids), BATCH):
        yield from library.store.chunks(ids[start : start + BATCH])


def _answer(
    question: str,
    result: ScanResult,
    library: Library,
    logs: Mapping[int, Document],
    scan_s: float,
) -> Answer:
    said = describe(result)
    citations = []
    evidence = []
    for marker, match in enumerate(said.cited, start=1):
        path = logs[match.doc_id].path
        citations.append(_citation(marker, match, path))
        chunk = library.store.chunk_at(match.doc_id, match.line)
        if chunk is not None:
            evidence.append(Evidence(marker, chunk, path, logs[match.doc_id].title, 1.0, 0))
    return Answer(
        question=question,
        query=result.reading.text,
        found=True,
        kind=AnswerKind.SCAN,
        text=said.text,
        citations=tuple(citations),
        evidence=tuple(evidence),
        usage=Usage(retrieve_s=scan_s),
        engine=None,
    )


def _citation(marker: int, match: ScanMatch, path: str) -> Citation:
    return Citation(
        marker=marker,
        path=path,
        page=None,
        line=match.line,
        quote=match.text,
        char_start=match.char_start,
        char_end=match.char_end,
    )
