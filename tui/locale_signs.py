r"""Keys and signs in the character set of the user's locale.

Textual draws in the locale's character set, where Python writes what is missing as `\u2500`, which
breaks every line of the screen; and it reads keys as UTF-8 only, and ends at any other byte.
"""

from __future__ import annotations

import codecs
import io
import sys
from collections.abc import Callable

from rich.cells import cell_len
from textual.drivers import linux_driver

_ERRORS = "docqa-signs"
_SIGNS = {
    **dict.fromkeys("─━═▔▁", "-"),
    **dict.fromkeys("│┃║▌▐▎▊▕▏", "|"),
    **dict.fromkeys("┌┐└┘├┤┬┴┼╭╮╰╯╔╗╚╝┏┓┗┛", "+"),
    **dict.fromkeys("█▀▄▇▆▅▃▂", "#"),
    **dict.fromkeys("●•■◆·", "*"),
    **dict.fromkeys("›❯▶▸→", ">"),
    **dict.fromkeys("‹◀◂←", "<"),
    **dict.fromkeys("▼↓▾", "v"),
    **dict.fromkeys("▲↑▴^", "^"),
    "…": ".",
    "✗": "x",
    "✓": "v",
    "‼": "!",
    "\N{EN DASH}": "-",
    "\N{EM DASH}": "-",
}


def sign_of(character: str) -> str:
    """Return ASCII for a character, as wide as it is on the screen."""
    return _SIGNS.get(character) or "?" * cell_len(character)


def _replace(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    missing = error.object[error.start : error.end]
    return "".join(map(sign_of, missing)), error.end


def use_locale() -> None:
    """Draw what the locale lacks as ASCII, and read keys as it writes them. Before the app runs."""
    for stream in (sys.__stdout__, sys.__stderr__):
        if isinstance(stream, io.TextIOWrapper) and codecs.lookup(stream.encoding).name != "utf-8":
            codecs.register_error(_ERRORS, _replace)
            stream.reconfigure(errors=_ERRORS)
    encoding = sys.__stdin__.encoding if sys.__stdin__ else "utf-8"

    def decoder(_: str) -> Callable[[], codecs.IncrementalDecoder]:
        return lambda: codecs.getincrementaldecoder(encoding)("replace")

    linux_driver.getincrementaldecoder = decoder  # type: ignore[assignment, attr-defined]
