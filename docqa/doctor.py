"""`docqa doctor`: what works on this machine, and every effective setting with its origin."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from docqa.config import Config
from docqa.errors import DocqaError
from docqa.paths import LibraryPaths

PACKAGES = (
    "llama-cpp-python",
    "onnxruntime",
    "pymupdf",
    "tantivy",
    "faiss-cpu",
    "torch",
    "textual",
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report. `is_bad` makes the exit code 1."""

    topic: str
    name: str
    value: str
    is_bad: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)

    def as_text(self) -> str:
        """Return the line for reading."""
        return f"{'!' if self.is_bad else ' '} {self.topic:<8} {self.name:<28} {self.value}"


def machine() -> list[Finding]:
    """Return Python, platform and the versions of the packages that matter."""
    found = [Finding("machine", "python", f"{platform.python_version()} on {platform.platform()}")]
    for package in PACKAGES:
        try:
            found.append(Finding("package", package, importlib.metadata.version(package)))
        except importlib.metadata.PackageNotFoundError:
            found.append(Finding("package", package, "missing: install docqa again", is_bad=True))
    return found


def settings(config: Config) -> list[Finding]:
    """Return each effective setting and where it comes from."""
    return [
        Finding("setting", name, f"{value}  ({origin})")
        for name, (value, origin) in config.values().items()
    ]


def library(config: Config) -> list[Finding]:
    """Return where the library is and whether it can be written."""
    paths = LibraryPaths(config.library.dir)
    if not paths.database.exists():
        return [Finding("library", str(paths.root), "not there yet: `docqa add` makes it")]
    n_bytes = sum(file.stat().st_size for file in paths.root.rglob("*") if file.is_file())
    return [Finding("library", str(paths.root), f"{n_bytes / 1e6:.1f} MB")]


def ocr(language: str) -> list[Finding]:
    """Return whether scanned pages can be read."""
    from docqa.parse.pdf_ocr import find_tessdata

    folder = find_tessdata(language)
    if folder is None:
        advice = f"no language data for '{language}': scanned pages are reported as not read"
        return [Finding("ocr", "tesseract", f"{advice} (install tesseract-ocr)")]
    return [Finding("ocr", "tesseract", f"language data in {folder}")]


def confinement(config: Config) -> list[Finding]:
    """Return what holds the processes that read files, and those that run the language model."""
    cap = f"{config.parse.memory_bytes / 1e9:.1f} GB of memory"
    policies = (
        ("file readers", "deny_all_but_reading", f"no network, writing or other program; {cap}"),
        ("engine", "deny_network", "no network"),
    )
    return [Finding("sandbox", name, _held(policy, value)) for name, policy, value in policies]


def _held(policy: str, value: str) -> str:
    """Try a filter in a process of its own: it could not be taken back here."""
    root = str(Path(__file__).resolve().parents[1])
    code = f"import sys; sys.path.append({root!r}); from docqa.seccomp import {policy} as p"
    asked = subprocess.run(
        [sys.executable, "-P", "-c", f"{code}; sys.stdout.write(p())"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    problem = asked.stdout or asked.stderr.strip().rpartition("\n")[2]
    if problem:
        return f"no system-call filter ({problem}); the guard in Python is in force"
    return value


def failed(topic: str, name: str, error: DocqaError) -> Finding:
    """Return an error as a finding."""
    return Finding(topic, name, str(error), is_bad=True)
