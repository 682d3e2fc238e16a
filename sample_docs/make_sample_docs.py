"""Makes every sample document and `questions.jsonl`, byte for byte the same each time.

    python sample_docs/make_sample_docs.py [FOLDER]

FOLDER is where they are written (this file's own folder). Needs reportlab (`pip install
docqa[dev]`). Each place in `questions.jsonl` is checked against the finished files: a document that
no longer says what a question expects ends the run with the question's text.
"""

from __future__ import annotations

import sys
from pathlib import Path

from source import log, manual, note, paper, questions, questions_text

MAX_BYTES = 3_000_000


def main(folder: Path) -> int:
    """Write everything into `folder`; return the exit code."""
    folder.mkdir(parents=True, exist_ok=True)
    manual.make(folder / questions.MANUAL)
    paper.make(folder / questions.PAPER)
    note.make(folder / questions.NOTE)
    places = log.make(folder / questions.LOG)
    questions.make(folder, questions_text.QUESTIONS, places)
    names = (questions.MANUAL, questions.PAPER, questions.NOTE, questions.LOG, "questions.jsonl")
    sizes = {name: (folder / name).stat().st_size for name in names}
    for name, n_bytes in sizes.items():
        print(f"{n_bytes:>9} {name}")
    assert sum(sizes.values()) < MAX_BYTES, "the sample documents must stay small"
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent))
