"""PDFs with a few bytes changed: items or a sentence, never a hang, never the parent."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest

from docqa.config import ParseConfig
from docqa.errors import FileError
from docqa.parse.worker import ParseWorker
from docqa.protocols import ParseOptions
from docqa.types import DocumentInfo
from tests.hostile.make_pdfs import BOMBS, FONT, form, one_page, packed, pdf, stream
from tests.hostile.mutate import PDF, mutated

ROOT = Path(__file__).parents[2]
SHARED = ROOT / "../shared/data/pdfs"
OPTIONS = ParseOptions(ocr="never")


def originals() -> list[bytes]:
    """Return small PDFs with all that a reader walks: fonts, forms, outlines, labels, images."""
    made = [
        one_page(stream(b"BT /F 9 Tf 9 50 Td (Some text) Tj ET"), FONT),
        one_page(packed(b"BT /F 9 Tf 9 50 Td [(So) 20 (me te) -300 (xt)] TJ ET"), FONT),
        one_page(stream(b"/X Do"), b"/XObject<</X 5 0 R>>", b"", form(b"0 0 9 9 re f", FONT)),
        BOMBS["outline_of_itself"](),
        BOMBS["labels_of_themselves"](),
        BOMBS["huge_image"](),
        BOMBS["object_stream_in_itself"](),
        pdf([b"<</Type/Catalog/Pages 2 0 R/Lang(en)>>", b"<</Type/Pages/Kids[]/Count 0>>"]),
    ]
    made += [(ROOT / "sample_docs" / name).read_bytes() for name in ("paper.pdf",)]
    real = sorted([*SHARED.glob("robustness/*/*.pdf"), *SHARED.glob("pdfjs/*.pdf")])
    return made + [path.read_bytes() for path in real if path.stat().st_size < 40_000][:60]


def run(n: int, seed: int, folder: Path) -> Counter[str]:
    """Read `n` mutated files with one worker after another; return what became of them."""
    rng = random.Random(seed)
    wholes = originals()
    outcomes: Counter[str] = Counter()
    with ParseWorker(ParseConfig(page_timeout_s=20.0)) as worker:
        for number in range(n):
            path = folder / "mutated.pdf"
            path.write_bytes(mutated(rng.choice(wholes), rng, PDF))
            n_started = worker.n_started
            try:
                items = list(worker.parse(path, OPTIONS))
                assert isinstance(items[-1], DocumentInfo)
                outcomes["read"] += 1
            except FileError as error:
                assert error.path == str(path) and 5 < len(error.reason) < 400, number
                outcomes["refused" if worker.pid is not None else "died"] += 1
            assert worker.n_started - n_started <= 1
    return outcomes


@pytest.mark.timeout(120)
def test_mutated_pdfs_are_read_or_refused(tmp_path: Path) -> None:
    outcomes = run(100, 1, tmp_path)
    assert outcomes["read"] > 20 and outcomes["refused"] > 5, outcomes
    assert not outcomes["died"]


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_five_thousand_mutated_pdfs(tmp_path: Path) -> None:
    outcomes = run(5_000, 2, tmp_path)
    assert sum(outcomes.values()) == 5_000
    assert outcomes["died"] <= 5, outcomes  # each is a file in quarantine, not a dead program
