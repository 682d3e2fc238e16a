"""Follow-up questions: what is searched for when a question leans on the one before.

"And the larger model?" finds nothing by itself. A question is a follow-up when it refers back
(pronouns, "that one", "what about") or says too little to search for. Its query is then the
question with the words of the earlier question that it lacks; the subject comes from the last
question that stood by itself. A question that stands by itself is never touched: a drifting query
that nobody asked for is worse than a repeated noun. The effective query is always shown.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from docqa.wording import content_words, stem

MIN_CONTENT_WORDS = 2  # fewer say too little to search for
MAX_CARRIED_WORDS = 12

_REFERS_BACK = re.compile(
    r"\b(it|its|they|them|their|theirs|he|him|his|she|her|hers|this|that|these|those|there|then|"
    r"former|latter|same|above|previous(ly)?|earlier|such)\b",
    re.IGNORECASE,
)
# "that" and "then" often only join clauses: a question with its own subject is no follow-up.
_WEAK = frozenset({"this", "that", "then", "there", "same", "such", "above", "these", "those"})
_CONTINUES = re.compile(
    r"^\s*(and|but|so|or|also|why|how so|how come|what about|how about|what else|anything else|"
    r"where exactly|when exactly|since when|by whom|really)\b",
    re.IGNORECASE,
)
_WORD = re.compile(r"\w+(?:[.,:/'-]\w+)*")


def refers_back(question: str) -> bool:
    """Return whether `question` cannot be searched for without the one before."""
    n_content = len(set(content_words(question)))
    if n_content < MIN_CONTENT_WORDS:
        return True
    if _CONTINUES.match(question):
        return n_content < MIN_CONTENT_WORDS + 3
    found = {match.group().lower() for match in _REFERS_BACK.finditer(question)}
    if found - _WEAK:
        return True
    return bool(found) and n_content < MIN_CONTENT_WORDS + 2


def effective_query(question: str, earlier: Sequence[str]) -> str:
    """Return what to search for: `question`, with the words it lacks of the `earlier` questions.

    `earlier` is oldest first. Words are carried from the last question that stood by itself and
    from the follow-ups since, newest first, up to MAX_CARRIED_WORDS.
    """
    if not earlier or not refers_back(question):
        return question
    known = set(content_words(question))
    carried: list[str] = []
    for previous in reversed(earlier):
        for word in _WORD.findall(previous):
            key = content_words(word)
            if key and stem(word.lower()) not in known and len(carried) < MAX_CARRIED_WORDS:
                known.update(key)
                carried.append(word)
        if not refers_back(previous):
            break
    return f"{question} ({' '.join(carried)})" if carried else question
