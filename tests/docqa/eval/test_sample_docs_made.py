"""The committed sample documents are what their script makes; questions are many and checked."""

import json
import subprocess
import sys
from pathlib import Path

import pymupdf

FOLDER = Path(__file__).parents[3] / "sample_docs"
PDFS = ("pump_manual.pdf", "paper.pdf", "scanned_note.pdf")


def make(folder: Path) -> dict[str, bytes]:
    script = FOLDER / "make_sample_docs.py"
    subprocess.run([sys.executable, script, folder], check=True, capture_output=True)
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def text_of(content: bytes) -> list[tuple[str, str]]:
    with pymupdf.open(stream=content, filetype="pdf") as document:
        return [(page.get_label(), page.get_text()) for page in document]


def test_the_script_makes_the_committed_documents_the_same_each_time(tmp_path: Path) -> None:
    first, second = make(tmp_path / "first"), make(tmp_path / "second")
    assert first == second
    for name in ("service.log", "questions.jsonl"):
        assert first[name] == (FOLDER / name).read_bytes()
    # Another zlib compresses to other bytes: of a PDF, what it says must be the same.
    for name in PDFS:
        assert text_of(first[name]) == text_of((FOLDER / name).read_bytes())
    assert sum(len(content) for content in first.values()) < 3_000_000


def test_the_documents_are_of_the_promised_shape() -> None:
    manual, paper, note = (text_of((FOLDER / name).read_bytes()) for name in PDFS)
    assert [label for label, _ in manual[:6]] == ["i", "ii", "iii", "iv", "1", "2"]
    assert 24 <= len(manual) <= 28
    assert 6 <= len(paper) <= 8
    assert [text for _, text in note] == [""]
    with pymupdf.open(FOLDER / PDFS[0]) as document:
        assert {level for level, *_ in document.get_toc()} == {1, 2, 3}
    n_lines = (FOLDER / "service.log").read_bytes().count(b"\n")
    assert 19_000 <= n_lines <= 21_000


def test_there_are_enough_questions_of_every_kind() -> None:
    lines = (FOLDER / "questions.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    assert len(rows) >= 60
    assert sum(row["unanswerable"] for row in rows) >= 15
    assert len({row["id"] for row in rows}) == len({row["question"] for row in rows}) == len(rows)
    kinds = {row["kind"] for row in rows}
    assert {"table", "page-break", "two-model", "log-count", "two-column", "ocr"} <= kinds
