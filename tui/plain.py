"""The one way text reaches a widget: plain and sanitised, never markup.

Documents, file names, titles, model output and what a user pastes are untrusted. Every sink takes
what the functions here return: `Content` for Textual's own rendering, `rich.text.Text` where a
widget (DataTable, Tree) takes Rich. `EdgeFilter` is the last line: whatever a widget draws passes
it on its way to the terminal, so a sink that forgot this module still shows signs, not sequences.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePath

from rich.cells import cell_len
from rich.segment import Segment
from rich.text import Text
from textual.color import Color
from textual.content import Content
from textual.filter import LineFilter
from textual.style import Style

from docqa.sanitize import sanitize, sanitize_line

Part = str | Content | tuple[str, str | Style]


def plain(text: str, style: str | Style = "") -> Content:
    """Return `text` sanitised, newlines kept."""
    return Content.styled(sanitize(text), style) if style else Content(sanitize(text))


def plain_line(text: str, style: str | Style = "") -> Content:
    """Return `text` sanitised as one line: newlines become visible signs."""
    clean = sanitize_line(text)
    return Content.styled(clean, style) if style else Content(clean)


def assembled(*parts: Part) -> Content:
    """Return the parts one after another, each sanitised; a part is text or (text, style)."""
    return Content.assemble(*[_clean(part) for part in parts])


def _clean(part: Part) -> Part:
    if isinstance(part, str):
        return sanitize(part)
    if isinstance(part, Content):
        return part
    return sanitize(part[0]), part[1]


def cell(text: str, style: str = "") -> Text:
    """Return one sanitised line for a table cell or a tree label."""
    return Text(sanitize_line(text), style=style, no_wrap=True, overflow="ellipsis")


def shortened(text: str, limit: int) -> str:
    """Return `text` on one line of at most `limit` characters, its end cut."""
    line = " ".join(sanitize(text).split())
    return line if len(line) <= limit else line[: max(0, limit - 1)] + "…"


def middle_cut(name: str, n_cells: int) -> str:
    """Return a sanitised name in at most `n_cells` cells: its middle is cut, its end says what."""
    if cell_len(name) <= n_cells:
        return name
    n_end = max(1, 2 * n_cells // 3)
    start, end = "", ""
    for character in name:
        if cell_len(start + character) > n_cells - 1 - n_end:
            break
        start += character
    for character in reversed(name):
        if cell_len(character + end) > n_end:
            break
        end = character + end
    return f"{start}…{end}"


def counted(n: int, noun: str) -> str:
    """Return `1 file`, `2,000 files`."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def file_name(path: str) -> str:
    """Return the last part of a path, sanitised."""
    return sanitize_line(PurePath(path).name or path)


class EdgeFilter(LineFilter):
    """Sanitises every segment that a widget draws. Control segments (images) pass as they are."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """Return the segments, those that hold anything a terminal could obey replaced."""
        if all(_is_harmless(segment) for segment in segments):
            return segments
        return list(_sanitized(segments))


def _is_harmless(segment: Segment) -> bool:
    style = segment.style
    return segment.text.isprintable() and (style is None or style.link is None)


def _sanitized(segments: Iterable[Segment]) -> Iterable[Segment]:
    for segment in segments:
        if segment.control:
            yield segment
            continue
        style = segment.style
        if style is not None and style.link is not None:
            style = style.update_link(None)
        yield Segment(sanitize_line(segment.text), style)
