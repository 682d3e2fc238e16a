"""How a process of ours is started, and what it last wrote."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
from pathlib import Path

from docqa.offline import go_offline
from docqa.seccomp import deny_network

LOG_TAIL_BYTES = 4_000
LOG_TAIL_LINES = 4


def command(module: str, *arguments: str) -> list[str]:
    """Return the command line of one of our processes.

    `-P`: the folder that the user stands in, which may hold anything, is not searched for modules.
    """
    root = str(Path(__file__).resolve().parent.parent)
    start = (
        f"import sys; sys.path.append({root!r}); from models.processes import seal; seal(); "
        f"from {module} import main; main()"
    )
    return [sys.executable, "-P", "-c", start, *arguments]


def seal() -> str:
    """Take the network from this process and its children, before it imports anything.

    Returns: why the system does not hold it (the guard of `docqa.offline` always does).
    """
    go_offline()
    _make_gpu_ready()
    return deny_network()


def _make_gpu_ready() -> None:
    """Have NVIDIA's devices made, as CUDA would at its first use: a sealed process may not."""
    helper = shutil.which("nvidia-modprobe")
    has_driver = Path("/proc/driver/nvidia").is_dir()
    if helper and has_driver and not Path("/dev/nvidia-uvm").exists():
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            subprocess.run([helper, "-u", "-c=0"], timeout=10, check=False)


def last_lines(written: bytes) -> str:
    """Return the last lines of what a process wrote, on one line."""
    lines = [line for line in written.decode("utf-8", "replace").splitlines() if line.strip()]
    return " | ".join(lines[-LOG_TAIL_LINES:]) or "it wrote nothing"
