"""How a process of ours is started, and what it last wrote."""

from __future__ import annotations

import sys
from pathlib import Path

LOG_TAIL_BYTES = 4_000
LOG_TAIL_LINES = 4


def command(module: str, *arguments: str) -> list[str]:
    """Return the command line of one of our processes.

    `-P`: the folder that the user stands in, which may hold anything, is not searched for modules.
    """
    root = str(Path(__file__).resolve().parent.parent)
    start = f"import sys; sys.path.append({root!r}); from {module} import main; main()"
    return [sys.executable, "-P", "-c", start, *arguments]


def last_lines(written: bytes) -> str:
    """Return the last lines of what a process wrote, on one line."""
    lines = [line for line in written.decode("utf-8", "replace").splitlines() if line.strip()]
    return " | ".join(lines[-LOG_TAIL_LINES:]) or "it wrote nothing"
