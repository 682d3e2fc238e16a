"""What an empty conversation says: what to do first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from textual.content import Content

from docqa.types import Document
from tui.plain import assembled, file_name

_SAMPLE_FILES = ("pump_manual.pdf", "service.log", "paper.pdf")
_SAMPLE_QUESTIONS = {
    "pump_manual.pdf": "Which torque do the casing bolts need?",
    "service.log": "How many errors are in the log?",
}


def sample_folder() -> Path | None:
    """Return the folder of the sample documents where this is a checkout, else None."""
    folder = Path(__file__).parents[1] / "sample_docs"
    return folder if (folder / _SAMPLE_FILES[0]).is_file() else None


def sample_paths() -> list[Path]:
    """Return the sample documents that are there."""
    folder = sample_folder()
    return [p for name in _SAMPLE_FILES if folder and (p := folder / name).is_file()]


def welcome_content(documents: Sequence[Document]) -> Content:
    """Return the greeting: of an empty library what to do, else what to ask."""
    key = "bold $accent"
    if not documents:
        sample = (
            ("  Ctrl+T  ", key, "add the sample documents: a manual, a log, a paper\n")
            if sample_paths()
            else None
        )
        parts: list[str | tuple[str, str]] = [
            ("Your library is empty.\n\n", "bold"),
            ("  Ctrl+O  ", key),
            "add a file or folder; or paste or drop its path here\n",
        ]
        if sample:
            parts += [(sample[0], sample[1]), sample[2]]
        parts += [("  F1      ", key), "help\n\n", ("Nothing leaves this machine.", "$text-muted")]
        return assembled(*parts)
    names = {file_name(d.path) for d in documents}
    questions = [question for name, question in _SAMPLE_QUESTIONS.items() if name in names]
    parts = [
        ("Ask a question about your documents.\n\n", "bold"),
        "Answers cite the page or line; ",
        ("Enter", key),
        " on a citation, or its number, shows the passage.\n",
        ("Escape", key),
        " stops an answer, or leaves the question line for the single keys.\n",
    ]
    if questions:
        parts += ["\nFor example:\n"]
        parts += [f"  • {question}\n" for question in questions]
    return assembled(*parts)
