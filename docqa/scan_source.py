"""Which log a question means by its words: "how many 404s in the shop access log".

The words that name a log stand in its file name and hardly in its lines, so lines are not asked for
them. `named_logs` takes them out of the query; what is left is asked of those logs alone. Where a
log is named, all that describes it beside its name is taken out, too: "in our zanbil shop access
log", "IIS log of the web server: ".
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, replace

from docqa.named import file_words, squeezed
from docqa.scan import named_files
from docqa.scan_intent import EXTREMES, LOG, ScanQuery, Term, asks_for_lines, is_of_levels
from docqa.wording import STOP_WORDS

Occurs = Callable[[str, frozenset[int]], bool]
"""(word, documents) → whether one of them has the word."""

_SAID = re.compile(
    r"(?P<before>(?:[\w./-]+\s+){1,4})(?P<log>(?:sys)?log(?:s|file|files)?)\b"
    r"(?: of (?:the|our|my) (?P<whose>[\w.-]+(?:\s+[\w.-]+){0,2}))?(?: \((?P<aside>[^)]*)\))?"
    r"|\blogs? (?:files? )?of (?:the |our )?(?P<after>[\w.-]+(?:\s+[\w.-]+){0,2})"
    r"|(?P<joined>\b\w+_logs?\b)",
    re.IGNORECASE,
)
_HEADING = re.compile(r"^\W*(?P<words>(?:[^:?!]|:(?=\d)){3,80}?)(?::\s| [-\u2013] )")
"""`Bro conn log - which …`, `auth.log: how many …`"""
_HOST = re.compile(r"\b(?:the|our|my) (?P<before>(?:[\w.-]+ ){1,3})(?:server|(?:web)?site|shop)\b")
"""Where no log is spoken of: `404s on the semicomplete apache server`"""
_NAME = re.compile(r"(?<![\w/@.])[a-z][\w-]*(?:[._][\w-]+)+(?![\w@])")  # `zanbil.ir`, `w3c_big`
_SUBJECT = re.compile(r"\b(?:which|what) ((?:\w+ ){1,3})(?:took|takes|needed|needs|had|has|ran)\b")
_VERB = re.compile(r"\b((?:did|does|do|to|can|could)\b[^?,:;]{0,40}?)\blog(?= (?:in|on|out|off)\b)")
"""`from which address did ada log in`"""
_PARTS = re.compile(r"[,;()]|\b(?:in|of|from|on|at|for|between|since|until)\b")
_ARTICLES = frozenset("the our my this that your their in from".split())  # noqa: SIM905
_NO_NAMES = frozenset({"log", "logs", "logfile", "test", "data", "file"})
_KINDS = frozenset({"access", "error", "server", "app", "application", "system", "audit", "event"})
_GENERIC = frozenset({"syslog"})  # a file's name, and what half of all logs are called
MIN_SHORT = 4  # letters of a word cut short in a file's name: conn, auth
KIND_WEIGHT = 0.1  # of a word for a kind of log against a name


@dataclass(frozen=True, slots=True)
class NamedLogs:
    """The logs, and what is looked for in them: the first query that matches anything answers."""

    doc_ids: frozenset[int]
    queries: tuple[ScanQuery, ...]  # from the narrow to the wide
    is_said: bool  # a name stands at the word "log": it is not looked for in lines


def named_logs(query: ScanQuery, paths: Mapping[int, str], occurs: Occurs) -> NamedLogs | None:
    """Return the logs that `query` names, or None: it names none, or all.

    A name alone may be that of a thing with a manual: the question has to speak of a log, or of
    something that only a line has (a path, a status). Where no line has all other words, those that
    these logs have somewhere are given up if such a thing or a level is left to look for: `zanbil`
    tells which shop it is, not which line.

    Args:
        query: as `scan_intent` found it.
        paths: doc_id → path of all logs in scope.
        occurs: asked only for words that name no file.
    """
    if not (LOG.search(query.question) or _is_of_lines(query.terms)):
        return None  # before thousands of file names are taken apart
    at_log, described = _said(query.question)
    target = _target(query, paths, at_log)
    if target is None:
        return None
    described = described if target.is_named else set()
    # `web2` of "the web2 auth log" may be one of several hosts, and then its lines have it.
    hosts = {w for w in described if re.search(r"\d", w) and occurs(w, target.doc_ids)}
    wide = _without(query.terms, target.words | described)
    # A file's whole name leaves its words to the lines: "GC pauses in kafkaServer-gc.log".
    named = set[str]() if query.files else target.words
    # "did the shop …, shop_access_log": said twice, and no line has it.
    parts = {part for word in at_log & target.words for part in word.split("_")}
    readings = [
        _without(query.terms, named | described - hosts),
        _without(query.terms, named | described),
        wide,
        _without(wide, parts | _given_up(query, target, wide, occurs)),
    ]
    is_of_all = target.is_named and asks_for_lines(query.question, query.operation, query.when)
    found = [
        replace(
            query,
            terms=terms,
            names_log=target.is_named,
            is_explicit=query.is_explicit or is_of_levels(query.operation, query.levels, terms),
        )
        for terms in dict.fromkeys(readings)
        if (terms or query.levels or is_of_all)
        and (LOG.search(query.question) or _is_of_lines(terms))
    ]
    return NamedLogs(target.doc_ids, tuple(found), target.is_said) if found else None


@dataclass(frozen=True, slots=True)
class _Target:
    """The logs that are named, and the words that name them."""

    doc_ids: frozenset[int]
    words: set[str]
    is_named: bool  # by a file's name, or at the word "log"
    is_said: bool  # and not only as what half of all logs are called


def _target(query: ScanQuery, paths: Mapping[int, str], at_log: set[str]) -> _Target | None:
    words = {doc_id: file_words(path) - _NO_NAMES for doc_id, path in paths.items()}
    asked = dict.fromkeys([*(w for term in query.terms for w in _words(term)), *at_log])
    named = {w: {i for i, names in words.items() if _is_named(w, names, at_log)} for w in asked}
    by_file = named_files(query, paths)
    if by_file:
        return _Target(by_file, {w for w, ids in named.items() if ids >= by_file}, True, True)
    said = {w: ids for w, ids in named.items() if ids and (w in at_log or "_" in w)}
    called = said or {word: ids for word, ids in named.items() if ids}
    # The word of few logs names them: `apache` in "apache access log", not `access`.
    weights = {w: (KIND_WEIGHT if w in _KINDS else 1.0) / len(ids) for w, ids in called.items()}
    scores = {i: sum(weights[w] for w, ids in called.items() if i in ids) for i in paths}
    most = max(scores.values(), default=0.0)
    doc_ids = frozenset(doc_id for doc_id, score in scores.items() if score == most)
    if not most or len(doc_ids) == len(paths) > 1:
        return None
    used = {word for word, ids in called.items() if said or ids & doc_ids}
    return _Target(doc_ids, used, bool(said), bool(said.keys() - _GENERIC))


def _given_up(
    query: ScanQuery, target: _Target, terms: tuple[Term, ...], occurs: Occurs
) -> set[str]:
    """Return the words that need not be on a line, where no line has all."""
    if query.levels or _is_of_lines(terms):
        plain = {word for term in terms if not term.is_exact for word in term.words}
        return {word for word in plain if occurs(word, target.doc_ids)}
    if target.is_named and query.operation in EXTREMES:  # the measure is definite
        words = {word for term in terms for word in term.words}
        asked = " ".join(_SUBJECT.findall(query.question.lower())).split()
        return {word for word in words if word in asked or not occurs(word, target.doc_ids)}
    return set()


def _is_named(word: str, names: Set[str], at_log: set[str]) -> bool:
    """Whether a file is called so; "the connection log" may be `conn.log`."""
    low = squeezed(word)
    if low in names:
        return True
    return word in at_log and any(
        len(name) >= MIN_SHORT and name.isalpha() and low.startswith(name) for name in names
    )


def _said(question: str) -> tuple[set[str], set[str]]:
    """Return the words at the word "log", and those of them that can only describe it.

    `shop` and `access` of "in the shop access log" describe it: an article comes before them, or
    they stand in a heading. Of "failed logins auth log" any may be looked for.
    """
    said, described = set[str](), set[str]()
    plain = re.sub(r"['\u2019]s\b", "", question.lower())  # "the shop's access log"
    plain = _VERB.sub(r"\1", plain)
    for match in _SAID.finditer(plain):
        before = (match["before"] or "").split()
        names = list(itertools.takewhile(_may_name, reversed(before)))
        after = set(itertools.takewhile(_may_name, (match["after"] or "").split()))
        said.update(names, after)
        described.update(after, (match["whose"] or "").split())
        described.update(_NAME.findall(match["aside"] or ""))
        said.add(match["joined"] or match["log"] or "")
        if len(names) < len(before) and before[-len(names) - 1] in _ARTICLES:
            described.update(names)
    for match in _HOST.finditer("" if LOG.search(plain) else plain):
        said.update(match["before"].split())
        described.update(match[0].split()[1:])
    heading = _HEADING.match(plain)
    parts = _PARTS.split(heading["words"]) if heading else []
    for part in [part for part in parts if LOG.search(part)] or ([] if said else parts[:1]):
        words = {word for word in part.split() if _may_name(word)}
        said |= words
        described |= words
    for words in (said, described):
        words |= {part for word in words for part in word.split("/")}
        words -= {"", "log", "logs"}
    return said, described


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
        if term.is_exact and term.text.lower() not in used
        else replace(term, words=tuple(w for w in _words(term) if w.lower() not in used))
        for term in terms
        if not term.is_status
    ]
    statuses = [term for term in terms if term.is_status]
    return tuple([*statuses, *(term for term in kept if term.words)])
