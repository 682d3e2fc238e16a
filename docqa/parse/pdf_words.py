"""Lines to running text: hyphens at line ends, and what may follow what.

A hyphen at the end of a line is taken out unless the document shows elsewhere that it belongs to
the word.
"""

from __future__ import annotations

import re

_MAX_WORDS = 200_000
_WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")
_HEAD = re.compile(r"([^\W\d_]+(?:-[^\W\d_]+)*)-$")
_TAIL = re.compile(r"([^\W\d_]+)")
_TERMINAL = re.compile(r"[.!?:;…][\"'”’)\]]*$")
_KEPT_PREFIXES = frozenset(
    [
        "self",
        "non",
        "ex",
        "all",
        "cross",
        "half",
        "high",
        "low",
        "long",
        "short",
        "well",
        "co",
        "multi",
        "two",
        "three",
        "four",
        "five",
        "six",
        "full",
    ]
)


class Vocabulary:
    """The words of a document so far, to tell `well-known` from `informa-tion`."""

    def __init__(self) -> None:
        self._words: set[str] = set()

    def note(self, text: str) -> None:
        """Remember the words of a line, but for its last, which may be cut."""
        if len(self._words) < _MAX_WORDS:
            self._words.update(_WORD.findall(text.lower().rstrip("-\u00ad"))[:-1])

    def join(self, before: str, after: str) -> str:
        """Return two lines of one paragraph as one text."""
        if before.endswith("\u00ad"):
            return before[:-1] + after
        if not before.endswith("-"):
            return f"{before} {after}"
        head, tail = _HEAD.search(before), _TAIL.match(after)
        if not head:
            # "10-" + "12", "–": a range or a dash goes on; a dash between blanks keeps them.
            return f"{before} {after}" if before.endswith(" -") else before + after
        if not tail or not tail[1][0].islower():
            return before + after
        first, second = head[1].lower(), tail[1].lower()
        if first + second in self._words:
            return before[:-1] + after
        if f"{first}-{second}" in self._words or first in _KEPT_PREFIXES or "-" in first:
            return before + after
        return before[:-1] + after


def is_finished(text: str) -> bool:
    """Whether a paragraph ends like a sentence."""
    return bool(_TERMINAL.search(text.rstrip()))


def may_continue(before: str, after: str) -> bool:
    """Whether `after`, at the top of a page, goes on with the sentence of `before`."""
    before, after = before.rstrip(), after.lstrip()
    if not before or not after or is_finished(before):
        return False
    if after[0].islower() or before.endswith((",", "-", "\u00ad", "(")):
        return True
    last = before.rsplit(None, 1)[-1].lower()
    return last in _LINKS


_LINKS = frozenset(
    [
        "a",
        "an",
        "the",
        "of",
        "and",
        "or",
        "to",
        "in",
        "on",
        "at",
        "by",
        "for",
        "with",
        "from",
        "as",
        "that",
        "which",
        "is",
        "are",
        "was",
        "were",
        "be",
        "been",
        "has",
        "have",
        "had",
        "will",
        "shall",
        "may",
        "must",
        "can",
        "not",
        "its",
        "their",
        "his",
        "her",
        "this",
        "these",
        "those",
        "any",
        "each",
        "such",
        "than",
        "into",
        "under",
        "over",
        "between",
        "if",
        "when",
        "where",
        "who",
        "whose",
        "but",
        "nor",
    ]
)
