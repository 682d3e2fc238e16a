"""Which log a question means by its words: "how many 404s in the shop access log".

The words that name a log stand in its file name and hardly in its lines, so lines are not asked for
them. `named_logs` takes them out of the query; what is left is asked of those logs alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from docqa.named import file_words, squeezed
from docqa.scan_intent import ScanQuery, Term

Occurs = Callable[[str, frozenset[int]], bool]
"""(word, documents) → whether one of them has the word."""

_LOG = re.compile(r"\blog(?:s|file|files)?\b|_logs?\b", re.IGNORECASE)
_NO_NAMES = frozenset({"log", "logs", "logfile", "test", "data", "file"})


@dataclass(frozen=True, slots=True)
class NamedLogs:
    """The logs, and what is looked for in them."""

    doc_ids: frozenset[int]
    query: ScanQuery


def named_logs(query: ScanQuery, paths: Mapping[int, str], occurs: Occurs) -> NamedLogs | None:
    """Return the logs that `query` names, or None: it names none, or all.

    A name alone may be that of a thing with a manual: the question has to speak of a log, or of
    something that only a line has (a path, a status). Of the other words, those that these logs
    have somewhere are given up where such a thing or a level is left to look for: `zanbil` tells
    which shop it is, not which line.

    Args:
        query: as `scan_intent` found it.
        paths: doc_id → path of all logs in scope.
        occurs: asked only for words that name no file.
    """
    if not (_LOG.search(query.question) or _is_of_lines(query.terms)):
        return None  # before thousands of file names are taken apart
    words = {doc_id: file_words(path) - _NO_NAMES for doc_id, path in paths.items()}
    asked = dict.fromkeys(word for term in query.terms for word in _words(term))
    hits = {doc_id: [w for w in asked if squeezed(w) in held] for doc_id, held in words.items()}
    most = max((len(found) for found in hits.values()), default=0)
    doc_ids = frozenset(doc_id for doc_id, found in hits.items() if len(found) == most)
    if not most or len(doc_ids) == len(paths) > 1:
        return None
    used = {word for doc_id in doc_ids for word in hits[doc_id]}
    left = _without(query.terms, used)
    if query.levels or _is_of_lines(left):
        said = {w for term in left if not term.is_exact for w in term.words if occurs(w, doc_ids)}
        left = _without(left, said)
    if not (left or query.levels) or not (_LOG.search(query.question) or _is_of_lines(left)):
        return None
    return NamedLogs(doc_ids, replace(query, terms=left))


def _is_of_lines(terms: tuple[Term, ...]) -> bool:
    """Whether there is a path, a host, a status; a number (`broker 1`) may be anything."""
    return any(t.is_status or (t.is_exact and not t.text.isdigit()) for t in terms)


def _words(term: Term) -> tuple[str, ...]:
    if term.is_status:
        return ()
    return (term.text,) if term.is_exact else term.words


def _without(terms: tuple[Term, ...], used: set[str]) -> tuple[Term, ...]:
    kept = [
        term
        if term.is_exact and term.text not in used
        else replace(term, words=tuple(w for w in _words(term) if w not in used))
        for term in terms
        if not term.is_status
    ]
    statuses = [term for term in terms if term.is_status]
    return tuple([*statuses, *(term for term in kept if term.words)])
