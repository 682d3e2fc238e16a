"""The questions about the documents, and the proof that each stands where it is said to stand.

A question about a PDF names words (`needles`) that must all be on one page: that page is its place,
found in the text that PyMuPDF extracts from the finished file. A question about the log names the
keys of events, whose lines the log's maker returns, or a text that is counted.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

import pymupdf

MANUAL, LOG, PAPER, NOTE = "pump_manual.pdf", "service.log", "paper.pdf", "scanned_note.pdf"


@dataclass(frozen=True, slots=True)
class Asked:
    """A question as it is written down; `n_places` pages or events are expected."""

    question: str
    file: str
    answers: tuple[str, ...] = ()
    needles: tuple[str, ...] = ()  # of a PDF: words that are all on the page
    keys: tuple[str, ...] = ()  # of the log: events, any of them
    counted: str = ""  # of the log: a text; the answer is the number of lines that hold it
    kind: str = "fact"
    n_places: int = 1
    crosses: bool = False  # each needle has a page of its own, one after the other
    unanswerable: bool = False


def squeezed(text: str) -> str:
    """Return `text` with hyphenation undone and every run of blanks as one space."""
    text = re.sub(r"(?<=[a-z])-\n(?=[a-z])", "", text.replace("\xad", "-"))
    return " ".join(text.split())


def pages_of(path: Path) -> list[str]:
    """Return the text of each page."""
    with pymupdf.open(path) as document:
        return [squeezed(page.get_text()) for page in document]


def _pdf_places(asked: Asked, pages: list[str]) -> list[int]:
    if asked.crosses:
        found = [
            next(i for i, text in enumerate(pages, 1) if needle in text) for needle in asked.needles
        ]
        assert found == list(range(found[0], found[0] + len(found))), asked.question
        return found
    found = [i for i, text in enumerate(pages, 1) if all(n in text for n in asked.needles)]
    assert len(found) == asked.n_places, (asked.question, found)
    seen = " ".join(pages[i - 1] for i in found).lower()
    assert any(answer.lower() in seen for answer in asked.answers), asked.question
    return found


def _log_places(asked: Asked, lines: list[str], places: dict[str, range]) -> list[int]:
    if asked.counted:
        found = [i for i, line in enumerate(lines, 1) if asked.counted in line]
        assert str(len(found)) in asked.answers, (asked.question, len(found))
        return found
    assert len(asked.keys) == asked.n_places, asked.question
    # Each line of a record is a right place: a stack trace belongs to the line above it.
    found = sorted(line for key in asked.keys for line in places[key])
    seen = " ".join(lines[i - 1] for i in found).lower()
    assert any(answer.lower() in seen for answer in asked.answers), asked.question
    return found


def make(folder: Path, asked: list[Asked], places: dict[str, range]) -> None:
    """Write `questions.jsonl` into `folder`, where the documents already are."""
    pages = {name: pages_of(folder / name) for name in (MANUAL, PAPER)}
    lines = (folder / LOG).read_text(encoding="utf-8").splitlines()
    written = []
    for number, one in enumerate(asked, 1):
        row: dict[str, object] = {
            "id": f"q{number:03d}",
            "question": one.question,
            "file": one.file,
        }
        if one.unanswerable:
            pass
        elif one.file == LOG:
            row["line"] = _log_places(one, lines, places)
        elif one.file == NOTE:
            row["page"] = [1]
        else:
            row["page"] = _pdf_places(one, pages[one.file])
        row |= {
            "answers": list(one.answers),
            "unanswerable": one.unanswerable,
            "kind": one.kind,
        }
        assert one.unanswerable != bool(one.answers), one.question
        written.append(json.dumps(row, ensure_ascii=False))
    (folder / "questions.jsonl").write_text("\n".join(written) + "\n", encoding="utf-8")
