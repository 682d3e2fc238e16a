"""Which log a question means by its words: "how many 404s in the shop access log".

The words that name a log stand in its file name and hardly in its lines, so lines are not asked for
them. `named_logs` takes them out of the query; what is left is asked of those logs alone.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, replace

from docqa.named import file_words, squeezed
from docqa.scan_intent import EXTREMES, LOG, ScanQuery, Term, asks_for_lines
from docqa.wording import STOP_WORDS

Occurs = Callable[[str, frozenset[int]], bool]
"""(word, documents) → whether one of them has the word."""

_SAID = re.compile(
    r"(?P<before>(?:[\w.-]+\s+){1,4})log(?:s|file|files)?\b"
    r"|\blogs? (?:files? )?of (?:the |our )?(?P<after>[\w.-]+(?:\s+[\w.-]+){0,2})"
    r"|(?P<joined>\b\w+_logs?\b)",
    re.IGNORECASE,
)
_NO_NAMES = frozenset({"log", "logs", "logfile", "test", "data", "file"})
_KINDS = frozenset({"access", "error", "server", "app", "application", "system", "audit", "event"})
MIN_SHORT = 4  # letters of a word cut short in a file's name: conn, auth
KIND_WEIGHT = 0.1  # of a word for a kind of log against a name


@dataclass(frozen=True, slots=True)
class NamedLogs:
    """The logs, and what is looked for in them."""

    doc_ids: frozenset[int]
    query: ScanQuery
    is_said: bool  # a name stands at the word "log": it is not looked for in lines


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
    if not (LOG.search(query.question) or _is_of_lines(query.terms)):
        return None  # before thousands of file names are taken apart
    words = {doc_id: file_words(path) - _NO_NAMES for doc_id, path in paths.items()}
    asked = dict.fromkeys(word for term in query.terms for word in _words(term))
    at_log = _said(query.question)
    named = {w: {i for i, names in words.items() if _is_named(w, names, at_log)} for w in asked}
    said = {word: ids for word, ids in named.items() if ids and word in at_log}
    called = said or {word: ids for word, ids in named.items() if ids}
    # The word of few logs names them: `apache` in "apache access log", not `access`.
    weights = {w: (KIND_WEIGHT if w in _KINDS else 1.0) / len(ids) for w, ids in called.items()}
    scores = {i: sum(weights[w] for w, ids in called.items() if i in ids) for i in paths}
    most = max(scores.values(), default=0.0)
    doc_ids = frozenset(doc_id for doc_id, score in scores.items() if score == most)
    if not most or len(doc_ids) == len(paths) > 1:
        return None
    used = {word for word, ids in called.items() if said or ids & doc_ids}
    left = _without(query.terms, used)
    if query.levels or _is_of_lines(left):
        held = {w for term in left if not term.is_exact for w in term.words if occurs(w, doc_ids)}
        left = _without(left, held)
    elif said and query.operation in EXTREMES:  # a measure is definite; what the log calls it, not
        nowhere = {w for term in left for w in term.words if not occurs(w, doc_ids)}
        left = _without(left, nowhere)
    is_of_all = bool(said) and asks_for_lines(query.question, query.operation, query.when)
    if not (left or query.levels or is_of_all):
        return None
    if not (LOG.search(query.question) or _is_of_lines(left)):
        return None
    return NamedLogs(doc_ids, replace(query, terms=left, names_log=bool(said)), bool(said))


def _is_named(word: str, names: Set[str], at_log: set[str]) -> bool:
    """Whether a file is called so; "the connection log" may be `conn.log`."""
    low = squeezed(word)
    if low in names:
        return True
    return word in at_log and any(
        len(name) >= MIN_SHORT and name.isalpha() and low.startswith(name) for name in names
    )


def _said(question: str) -> set[str]:
    """Return the words at the word "log": `shop` and `access` of "in the shop access log"."""
    said: set[str] = set()
    plain = re.sub(r"['\u2019]s\b", "", question.lower())  # "the shop's access log"
    for match in _SAID.finditer(plain):
        before = (match["before"] or "").split()
        names = itertools.takewhile(_may_name, reversed(before))
        said.update(names, itertools.takewhile(_may_name, (match["after"] or "").split()))
        said.add(match["joined"] or "")
    return said


def _may_name(word: str) -> bool:
    return word not in STOP_WORDS


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
