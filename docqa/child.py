"""How docqa starts a process of its own with Python in it, and how the end of one reads."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

_ROOT = str(Path(__file__).parents[1])


def python_command(statement: str, *arguments: str) -> list[str]:
    """Return the command that runs `statement` with this docqa importable, `sys` imported.

    A fresh interpreter: not forked (threads, FAISS), and it does not import the parent's main
    module. `arguments` are `sys.argv[2:]` there.
    """
    entry = f"import sys; r = sys.argv[1]; r in sys.path or sys.path.insert(0, r); {statement}"
    return [sys.executable, "-P", "-X", "utf8", "-c", entry, _ROOT, *arguments]


def signal_name(code: int) -> str:
    """Return the name of the signal that ended a process with the negative exit code `code`."""
    return signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
