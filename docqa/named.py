"""Which documents a question names: "the accident in Venice", "trial NCT06149832".

A name at the head of a document (its title, its file name, its first passages) tells what all of it
is about, but the passage that answers seldom repeats it: among twelve accident reports, each has a
"probable cause", and only the first page says where. So the question is asked of the document that
it names, without the name. Names are what is written like one: codes, and words with a capital; in
a question all in small letters, the words that have one in all passages found.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path

from docqa.types import Candidate, Scope
from docqa.wording import (
    STOP_WORDS,
    content_words,
    family,
    identifier_spans,
    identifiers,
    without_identifiers,
)

HEAD_CHUNKS = 3  # passages from its start, in which a document says what it is
MAX_NAMED_CHUNKS = 2_000  # with a name; more do not tell which document is meant
MAX_DOCUMENTS = 3  # what names more is a kind of document, not one
MIN_WORDS = 2  # that must be left to ask
TITLE_CASE = 0.6  # share of capitals from which they mean nothing: "What Is The Probable Cause"
MIN_TITLE_WORDS = 4
MAX_FILE_WORDS = 4  # of a file's name that a question may run together

Heads = Callable[[str, Scope], frozenset[int]]
"""Words → the documents with them, together, in one of their first HEAD_CHUNKS passages."""

_CAPITAL = r"[A-Z][\w&]*(?:[-.][\w&]+)*"
_SMALL = re.compile(r"(?<![\w'\u2019])[^\W\d_]{3,}(?!\w)")
_FILE_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_a-zA-Z]+")
_RUN = re.compile(rf"\b{_CAPITAL}(?:[ ](?:of[ ]|and[ ]|&[ ])?{_CAPITAL})*")
# Words with a capital that name no document: parts of one, times, and levels of a log.
_NO_NAMES = frozenset(
    """section chapter table figure fig page appendix annex article part step item line note clause
    january february march april may june july august september october november december monday
    tuesday wednesday thursday friday saturday sunday utc gmt error warning warn info debug fatal
    critical trace exception i mr mrs ms dr probable list name describe explain""".split()  # noqa: SIM905
)


@dataclass(frozen=True, slots=True)
class Named:
    """The documents, and what is asked of them."""

    doc_ids: frozenset[int]
    question: str


@dataclass(frozen=True, slots=True)
class _Name:
    text: str
    start: int
    end: int
    code: str = ""  # as `wording.identifiers` gives it


def named_documents(
    question: str,
    candidates: Sequence[Candidate],
    heads: Heads,
    scope: Scope,
) -> Named | None:
    """Return what the question names, or None: nothing, too much, or several things to compare.

    `candidates` are those of a search for the whole question; where they are all of the named
    documents, there is nothing to narrow.
    """
    found: list[tuple[_Name, frozenset[int]]] = []
    for name in _names(_truecased(question, candidates)):
        for part in _parts(name):
            if documents := _headed(part.text, candidates, heads, scope):
                found.append((part, documents))
                if part is name:
                    break
    doc_ids = _meant(question, found)
    if not 0 < len(doc_ids) <= MAX_DOCUMENTS:
        return None
    inside = [c for c in candidates if c.chunk.span.doc_id in doc_ids]
    if len(inside) == len(candidates) or _has_siblings([name for name, _ in found], inside):
        return None
    asked = _without(question, [name for name, _ in found])
    return Named(doc_ids, asked if len(content_words(asked)) >= MIN_WORDS else question)


def _meant(question: str, found: Sequence[tuple[_Name, frozenset[int]]]) -> frozenset[int]:
    """Return the documents that all names head; else that most do, two or more.

    The second of "Venice, Florida" only says which Venice: without it where nothing has both.
    """
    alone = [
        headed
        for i, (name, headed) in enumerate(found)
        if not i or question[found[i - 1][0].end : name.start].strip() != ","
    ]
    for headed in ([documents for _, documents in found], alone):
        common = reduce(frozenset.intersection, headed) if headed else frozenset()
        if common:
            return common
    counts = Counter(doc_id for headed in alone for doc_id in headed)
    most = max(counts.values(), default=0)
    return frozenset(i for i, n in counts.items() if n == most) if most > 1 else frozenset()


def _truecased(question: str, candidates: Sequence[Candidate]) -> str:
    """Return a question in small letters with the capitals that its words have in the passages.

    Source: truecasing (Lita et al., ACL 2003); the corpus is what was found.
    """
    if any(c.isupper() for c in without_identifiers(question, identifiers(question))):
        return question
    words = {m.group() for m in _SMALL.finditer(question) if not _is_plain(m.group())}
    if not words:
        return question
    form = re.compile(rf"\b(?:{'|'.join(map(re.escape, words))})\b", re.IGNORECASE)
    texts = (text for c in candidates for text in (c.chunk.text, c.title))
    forms = {m.group() for text in texts for m in form.finditer(text)}
    names = {f.lower() for f in forms} - forms
    return _SMALL.sub(lambda m: m.group().title() if m.group() in names else m.group(), question)


def _names(question: str) -> list[_Name]:
    """Return what is written like a name, in order."""
    codes = [_Name(question[a:b], a, b, code) for code, a, b in identifier_spans(question)]
    runs = [
        name
        for match in _RUN.finditer(question)
        if (name := _trimmed(question, match.start(), match.end())) is not None
        and not any(code.start < name.end and name.start < code.end for code in codes)
    ]
    words = content_words(question)
    n_capital = sum(len(name.text.split()) for name in runs)
    if len(words) >= MIN_TITLE_WORDS and n_capital > TITLE_CASE * len(words):
        runs = []
    return sorted([*codes, *runs], key=lambda name: name.start)


def _trimmed(question: str, start: int, end: int) -> _Name | None:
    """Return the name in [start, end) without words that are none at its ends."""
    words = [(m.group(), start + m.start(), start + m.end()) for m in _words(question[start:end])]
    while words and _is_plain(words[0][0]):
        words.pop(0)
    while words and _is_plain(words[-1][0]):
        words.pop()
    if not words or (len(words) == 1 and words[0][1] == 0 and not words[0][0].isupper()):
        return None  # every question begins with a capital
    return _Name(question[words[0][1] : words[-1][2]], words[0][1], words[-1][2])


def _words(text: str) -> Iterable[re.Match[str]]:
    return re.finditer(r"\S+", text)


def _is_plain(word: str) -> bool:
    return word.lower() in STOP_WORDS or word.lower() in _NO_NAMES


def _parts(name: _Name) -> list[_Name]:
    """Return the name, then, if it has several words, each of them."""
    words = [] if name.code else list(_words(name.text))
    parts = [
        _Name(m.group(), name.start + m.start(), name.start + m.end())
        for m in words
        if len(words) > 1 and m.group()[0].isupper() and not _is_plain(m.group())
    ]
    return [name, *parts]


def _headed(
    name: str, candidates: Sequence[Candidate], heads: Heads, scope: Scope
) -> frozenset[int]:
    """Return the documents with `name` at their head."""
    wanted = squeezed(name)
    paths = {c.chunk.span.doc_id: c.path for c in candidates}
    by_file = {doc_id for doc_id, path in paths.items() if wanted in file_words(path)}
    return heads(name, scope) | by_file


def squeezed(text: str) -> str:
    """Return `text` in small letters without what separates its words, as `file_words` has it."""
    return re.sub(r"[\W_]+", "", text).lower()


def file_words(path: str) -> set[str]:
    """Return what a file's name can be called by: its words and up to four of them joined.

    Letters and digits are words apart (NARA2022), and so are capitals inside a word:
    PfHospitalityGroupInc is PF Hospitality's.
    """
    parts = _FILE_WORD.findall(Path(path).stem)
    joined = {
        "".join(parts[i:j]).lower()
        for i in range(len(parts))
        for j in range(i + 1, min(i + MAX_FILE_WORDS, len(parts)) + 1)
    }
    return {word for word in joined if len(word) > 1}


def _has_siblings(names: Iterable[_Name], inside: Iterable[Candidate]) -> bool:
    """Whether the documents also tell of another TWX: then its code tells passages apart."""
    families = {family(name.code): name.code for name in names if name.code}
    return any(
        families.get(family(other), other) != other
        for candidate in inside
        for other in identifiers(candidate.chunk.text)
    )


def _without(question: str, names: Iterable[_Name]) -> str:
    """Return the question without the names and the words that tie them to it."""
    asked = question
    for name in sorted(names, key=lambda n: -n.start):
        before = re.sub(
            r"\s*\b(?:in|at|of|for|by|from|near|with|on|about|to)?(?:\s+the)?\s*$",
            "",
            asked[: name.start],
            flags=re.IGNORECASE,
        )
        after = re.sub(rf"^(?:['\u2019]s)?(?:,\s*{_CAPITAL})?,?", "", asked[name.end :])
        asked = f"{before} {after.lstrip()}"
    return re.sub(r"\s+([?.!,])", r"\1", asked).strip()


def within(scope: Scope, named: Named) -> Scope:
    """Return `scope` limited to the named documents."""
    doc_ids = named.doc_ids if scope.doc_ids is None else scope.doc_ids & named.doc_ids
    return replace(scope, doc_ids=doc_ids)
