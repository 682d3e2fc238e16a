"""Where a text may be cut: sentences, clauses, words. Pieces tile the text; spaces go left."""

from __future__ import annotations

import re
import unicodedata

# An end of sentence: signs, closing quotes, white space; or the signs of scripts without spaces.
_END = re.compile(r"[.!?…]+[\"'”’)\]»]*\s+|[。！？｡]+[\"”’」』）]*\s*|\n[ \t]*\n\s*", re.UNICODE)
_CLAUSE = re.compile(r"[;:,，、；：–—][\"'”’)\]»]*\s+|[，、；：]\s*|\n\s*")
_WORD = re.compile(r"\s+")
_LINE = re.compile(r"[\r\n]+(?:[^\S\r\n]+[\r\n]+)*")
_LAST_WORD = re.compile(r"([^\s(\[\"'“‘«]+)\.$")
_INITIALS = re.compile(r"(?:[^\W\d_]\.)*[^\W\d_]$")

_ABBREVIATION_TEXT = (
    "abb abs al app apr approx art assoc asst aug ave bd bldg bros bull ca cap capt cf ch chap "
    "cl co col comm comp corp cpl def dec dept dist div dr ed eds eq eqn esp est etc ex exec ext "
    "feb fed fig figs fl ft gen gov govt hon hr hrs ibid inc incl inst int jan jr jul jun lab "
    "lib lt ltd maj mar max mfr mgr min misc mme mr mrs ms mt nat natl no nos nov nr oct op orig "
    "p para paras pat pers ph pl plc pp pres prof pt publ ref refs reg rep rept res rev sec sect "
    "sen sep sept ser sgt soc sp spp sr st std supp suppl tab tech tel temp treas univ viz vol "
    "vols vs wt abs. e.g i.e u.s u.k z.b d.h bzw usw ggf inkl"
)
_ABBREVIATIONS = frozenset(_ABBREVIATION_TEXT.split())


def sentence_ends(text: str) -> list[int]:
    """Return where sentences end, the end of `text` last; ascending, white space to the left.

    A full stop ends none after an abbreviation, an initial (`J. Smith`), the number of a list item,
    or before a small letter.
    """
    ends = []
    for match in _END.finditer(text):
        end = match.end()
        if end < len(text) and not _is_inner(text, match.start(), end):
            ends.append(end)
    return [*ends, len(text)]


def clause_ends(text: str) -> list[int]:
    """Return where clauses end: after commas, semicolons, colons, dashes and at line ends."""
    return _ends(_CLAUSE, text)


def word_ends(text: str) -> list[int]:
    """Return where words end."""
    return _ends(_WORD, text)


def line_ends(text: str) -> list[int]:
    """Return where lines end, the newlines to the left."""
    return _ends(_LINE, text)


def character_ends(text: str, size: int) -> list[int]:
    """Return cuts about every `size` characters, none inside what is seen as one character."""
    ends = [0]
    while len(text) - ends[-1] > size:
        cut = ends[-1] + size
        while cut > ends[-1] and _joins(text, cut):
            cut -= 1
        # A pile of marks longer than `size` is cut all the same.
        ends.append(cut if cut > ends[-1] else ends[-1] + size)
    return [*ends[1:], len(text)]


def _ends(pattern: re.Pattern[str], text: str) -> list[int]:
    ends = [match.end() for match in pattern.finditer(text) if match.start() > 0]
    return ends if ends and ends[-1] == len(text) else [*ends, len(text)]


def _is_inner(text: str, stop: int, end: int) -> bool:
    if text[stop] != "." or text[stop : stop + 2] == "..":
        return text[end].islower() and text[stop] in ".…"
    if text[end].islower():
        return True
    before = _LAST_WORD.search(text, max(0, stop - 24), stop + 1)
    if before is None:
        return False
    word = before[1]
    if word.isdigit():  # "1. First": the number of an item, where it begins a line
        begin = stop - len(word)
        return begin == 0 or text[begin - 1] == "\n"
    return word.lower() in _ABBREVIATIONS or (
        _INITIALS.match(word) is not None and word[0].isupper() and len(word) < 6
    )


def _joins(text: str, at: int) -> bool:
    """Whether a cut before `at` parts a character from its marks, or a pair like CR LF."""
    left, right = text[at - 1], text[at]
    return (
        unicodedata.combining(right) != 0
        or unicodedata.category(right) in ("Mn", "Mc", "Me", "Sk", "Cf")
        or left == "\u200d"
        or "\U0001f3fb" <= right <= "\U0001f3ff"
        or "\U0001f1e6" <= right <= "\U0001f1ff"
        or (left == "\r" and right == "\n")
    )
