"""The memory of the GPU, where there is one: asked of nvidia-smi now and then, in a thread."""

from __future__ import annotations

import shutil
import subprocess

PERIOD_S = 10.0


def gpu_line() -> str:
    """Return `GPU 12.1/79.6 GB` of the first GPU; empty where there is none to ask about."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ""
    query = ["--query-gpu=memory.used,memory.total", "--format=csv,noheader,nounits"]
    try:
        asked = subprocess.run(
            [program, *query], capture_output=True, text=True, timeout=5, check=True
        )
        used, total = (float(part) for part in asked.stdout.splitlines()[0].split(","))
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return ""
    return f"GPU {used / 1024:.1f}/{total / 1024:.1f} GB"
