"""Passages without a question, for `adapter_invent` to ask about: news and medical pages."""

from __future__ import annotations

import random
from pathlib import Path

from models.training import adapter_sources
from models.training.adapter_records import Passage, held_out

MAX_PASSAGES = 4  # of one text


def articles(folder: Path, n_news: int, n_medical: int, seed: int) -> list[list[Passage]]:
    """Return passages of `n_news` articles and `n_medical` pages, those of one text together.

    The development tenth is left out.
    """
    rng = random.Random(seed)
    news = [r["text"] for r in adapter_sources.read(folder / "text" / "wikinews.jsonl.xz")]
    pages = adapter_sources.read(folder / "retrieval" / "medquad_pairs.jsonl.xz")
    medical = list(dict.fromkeys(r["passage"] for r in pages))
    found = []
    for texts, n_texts in ((news, n_news), (medical, n_medical)):
        fit = [t for t in texts if len(t) > 300 and not held_out(t)]
        for text in rng.sample(fit, min(n_texts, len(fit))):
            spans = adapter_sources.chunks(text, rng)
            group = [
                adapter_sources.placed(text[a:b].strip(), rng)
                for a, b in spans[:MAX_PASSAGES]
                if b - a >= 150
            ]
            if group:
                found.append(group)
    return found
