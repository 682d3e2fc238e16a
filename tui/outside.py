"""Opens a document outside: `$EDITOR +line` for text, the desktop's viewer for a PDF."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from pathlib import Path

from textual.app import App, SuspendNotSupported

from docqa.types import Locator

# viewer → its arguments for a page; the first that is installed is used
_PDF_VIEWERS: dict[str, tuple[str, ...]] = {
    "zathura": ("--page={page}", "{path}"),
    "evince": ("--page-index={page}", "{path}"),
    "okular": ("--page", "{page}", "{path}"),
    "sioyek": ("--page", "{page}", "{path}"),
    "mupdf": ("{path}", "{page}"),
    "xpdf": ("{path}", "{page}"),
}


def outside_command(path: Path, locator: Locator) -> tuple[list[str], bool]:
    """Return the command that opens `path` there, and whether it takes over the terminal.

    An empty command: nothing on this machine can open it.
    """
    if locator.unit == "line":
        editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or _first("nano", "vim", "vi")
        words = shlex.split(editor) if editor else []
        return ([*words, f"+{locator.first}", str(path)] if words else [], True)
    has_screen = "DISPLAY" in os.environ or "WAYLAND_DISPLAY" in os.environ
    if has_screen:
        for viewer, arguments in _PDF_VIEWERS.items():
            if shutil.which(viewer):
                filled = [a.format(page=locator.first, path=str(path)) for a in arguments]
                return [viewer, *filled], False
    opener = _first("open", "xdg-open" if has_screen else "")
    return ([opener, str(path)] if opener else [], False)


def _first(*names: str) -> str | None:
    return next((name for name in names if name and shutil.which(name)), None)


def open_outside(app: App[object], path: Path, locator: Locator) -> str | None:
    """Open the file; return what is wrong where that is impossible, as a sentence."""
    if not path.is_file():
        return f"{path} is not there any more"
    command, takes_terminal = outside_command(path, locator)
    if not command:
        what = "set $EDITOR" if locator.unit == "line" else "no PDF viewer on this machine"
        return f"cannot open {path}: {what}"
    try:
        if takes_terminal:
            with app.suspend():
                subprocess.run(command, check=False)
        else:
            subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
    except SuspendNotSupported:
        return "this terminal cannot be handed to an editor"
    except OSError as error:
        return f"{command[0]} did not start: {error.strerror}"
    return None
