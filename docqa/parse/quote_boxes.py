"""Where a quote stands on its page: the boxes of its words, one a line.

The quote is extracted text: hyphens joined, table rows with their column names repeated. So letters
are compared, not characters: first as one run; where that fails, as the window of the page that
shares most words with it.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

MIN_SHARED_WORDS = 2
MIN_SHARE = 0.3  # of the quote's words, in the best window


@dataclass(frozen=True, slots=True)
class PageWord:
    """A word of a page and its box; x to the right, y down."""

    x0: float
    y0: float
    x1: float
    y1: float
    text: str


Box = tuple[float, float, float, float]


def boxes_of_quote(words: Sequence[PageWord], quote: str) -> list[Box]:
    """Return the boxes of `quote` among `words` (in reading order); empty where it is not there."""
    wanted = _letters(quote)
    if not wanted or not words:
        return []
    run = _as_one_run(words, wanted)
    return _line_boxes([words[i] for i in run]) if run else _as_window(words, quote)


def _letters(text: str) -> str:
    folded = unicodedata.normalize("NFKC", text).casefold()
    return "".join(c for c in folded if c.isalnum())


def _as_one_run(words: Sequence[PageWord], wanted: str) -> list[int]:
    owners: list[int] = []
    pieces: list[str] = []
    for index, word in enumerate(words):
        letters = _letters(word.text)
        pieces.append(letters)
        owners += [index] * len(letters)
    at = "".join(pieces).find(wanted)
    return sorted(set(owners[at : at + len(wanted)])) if at >= 0 else []


def _as_window(words: Sequence[PageWord], quote: str) -> list[Box]:
    """Return the boxes in the window that shares most words; of equals the one of fewest boxes."""
    tokens = [_letters(word.text) for word in words]
    wanted = Counter(t for t in map(_letters, quote.split()) if t)
    size = sum(wanted.values())
    inside: Counter[str] = Counter()
    shared = best = 0
    boxes: list[Box] = []
    for end, token in enumerate(tokens):
        inside[token] += 1
        if token in wanted and inside[token] <= wanted[token]:
            shared += 1
        if end >= size:
            old = tokens[end - size]
            if old in wanted and inside[old] <= wanted[old]:
                shared -= 1
            inside[old] -= 1
        if shared and shared >= best:
            window = _shrunk(range(max(0, end - size + 1), end + 1), tokens, wanted)
            found = _line_boxes([words[i] for i in window if tokens[i] in wanted])
            if shared > best or len(found) < len(boxes):
                best, boxes = shared, found
    return boxes if best >= max(MIN_SHARED_WORDS, MIN_SHARE * size) else []


def _shrunk(window: range, tokens: Sequence[str], wanted: Counter[str]) -> range:
    """Return the part of `window` without the edges that add no word of the quote."""
    inside = Counter(tokens[i] for i in window)
    first, last = window.start, window.stop - 1
    while first < last and inside[tokens[first]] > wanted[tokens[first]]:
        inside[tokens[first]] -= 1
        first += 1
    while first < last and inside[tokens[last]] > wanted[tokens[last]]:
        inside[tokens[last]] -= 1
        last -= 1
    return range(first, last + 1)


def _line_boxes(words: Sequence[PageWord]) -> list[Box]:
    boxes: list[Box] = []
    for word in words:
        if boxes and _continues(boxes[-1], word):
            x0, y0, x1, y1 = boxes[-1]
            boxes[-1] = (min(x0, word.x0), min(y0, word.y0), max(x1, word.x1), max(y1, word.y1))
        else:
            boxes.append((word.x0, word.y0, word.x1, word.y1))
    return boxes


def _continues(box: Box, word: PageWord) -> bool:
    """Return whether `word` stands on the line of `box`, near its end."""
    height = box[3] - box[1]
    overlap = min(box[3], word.y1) - max(box[1], word.y0)
    return overlap > 0.5 * height and -height < word.x0 - box[2] < 2 * height
