"""Builds the reader's training data from the data folder.

    python -m models.training.reader_data --data FOLDER --out FOLDER [--limit N]

Writes to the output folder:
    data.npz     the arrays of `reader_records`, compressed
    dev.json.xz  {query: {"answer", "text", "offsets"}} of development questions with a marked
                 answer: what exact match and F1 are counted on, in characters
    base.safetensors  the packaged all-MiniLM-L6-v2 in fp16
All follows from `--seed`; the same folder gives the same arrays.
"""

from __future__ import annotations

import argparse
import json
import lzma
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from models.embedder import packaged_folder
from models.training import reader_made, reader_news, reader_sources
from models.training.reader_records import KINDS, POOLS, Arrays, PassagePool, Query, pack

if TYPE_CHECKING:
    from tokenizers import Tokenizer

MAX_DEV_TEXTS = 1000  # a kind


def collect(data: Path, seed: int, limit: int | None = None) -> tuple[PassagePool, list[Query]]:
    """Return all passages and queries; `limit` keeps that many queries a source, for trials."""
    pool = PassagePool()
    queries: list[Query] = []

    def take(found: list[Query]) -> None:
        if limit is not None:
            random.Random(seed).shuffle(found)
            found = found[:limit]
        queries.extend(found)
        kinds = ", ".join(sorted({q.kind for q in found}))
        print(f"{len(found):7} queries: {kinds}", file=sys.stderr, flush=True)

    take(reader_sources.questions(data, pool, random.Random(seed)))
    take(reader_sources.contracts(data, pool, random.Random(seed + 1)))
    take(reader_sources.meetings(data, pool, random.Random(seed + 2)))
    take(reader_sources.medicine(data, pool, random.Random(seed + 3)))
    take(reader_news.articles(data, pool, random.Random(seed + 4), limit or 45_000))
    n_tasks, n_logs = (15_000, 12_000) if limit is None else (limit, limit)
    take(reader_made.generated(pool, n_tasks, n_logs, seed + 5, False, data / "logs"))
    take(reader_made.generated(pool, n_tasks // 15, n_logs // 15, seed + 6, True, data / "logs"))
    return pool, queries


def development_texts(
    pool: PassagePool, queries: Sequence[Query], tokenizer: Tokenizer
) -> dict[str, dict[str, object]]:
    """Return what `dev.json.xz` holds, by the query's index as text."""
    taken: Counter[str] = Counter()
    chosen = []
    for i, q in enumerate(queries):
        if q.dev and q.answer and q.right and taken[q.kind] < MAX_DEV_TEXTS:
            taken[q.kind] += 1
            chosen.append((i, q))
    texts = [pool.texts[q.right[0].passage] for _, q in chosen]
    encoded = tokenizer.encode_batch(texts, add_special_tokens=False)
    return {
        str(i): {"answer": q.answer, "text": text, "offsets": list(e.offsets)}
        for (i, q), text, e in zip(chosen, texts, encoded, strict=True)
    }


def describe(arrays: Arrays) -> str:
    """Return a table of how many queries and passages there are of each kind."""
    lines = []
    answerable = np.diff(arrays["right_at"]) > 0
    for i, kind in enumerate(KINDS):
        mine = arrays["kind"] == i
        train, dev = mine & (arrays["split"] == 0), mine & (arrays["split"] == 1)
        lines.append(
            f"{kind:16} train {train.sum():6} ({(train & ~answerable).sum()} unanswerable) "
            f"dev {dev.sum():5} ({(dev & ~answerable).sum()} unanswerable)"
        )
    n_marked = int((arrays["right"][:, 1] >= 0).sum())
    sizes = Counter(arrays["pool_of"].tolist())
    names = (*POOLS, "made")
    lines.append("passages: " + ", ".join(f"{n} {sizes[i]}" for i, n in enumerate(names)))
    lengths = np.diff(arrays["text_at"])
    lines.append(
        f"{len(arrays['text'])} tokens of passages, median {int(np.median(lengths))}, "
        f"99 % {int(np.quantile(lengths, 0.99))}; {n_marked} marked answers"
    )
    return "\n".join(lines)


def save_base(target: Path) -> None:
    """Write the packaged encoder in fp16, names as in BertModel."""
    from safetensors.numpy import load_file, save_file

    raw = load_file(str(packaged_folder() / "model.safetensors"))
    kept = {
        name: value.astype(np.float16)
        for name, value in raw.items()
        if "pooler" not in name and not name.endswith("position_ids")
    }
    save_file(kept, str(target))


def main(arguments: Sequence[str] | None = None) -> None:
    """Build and write; print what was made."""
    from tokenizers import Tokenizer

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--base", type=Path, help="where base.safetensors goes, if not to --out")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--limit", type=int, default=None, help="queries a source, for trials")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    pool, queries = collect(options.data, options.seed, options.limit)
    print(f"collected {len(queries)} queries in {time.perf_counter() - started:.0f} s", flush=True)
    tokenizer = Tokenizer.from_file(str(packaged_folder() / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    arrays = pack(pool, queries, tokenizer)
    np.savez_compressed(options.out / "data.npz", allow_pickle=False, **arrays)
    texts = development_texts(pool, queries, tokenizer)
    with lzma.open(options.out / "dev.json.xz", "wt", encoding="utf-8") as file:
        json.dump(texts, file)
    save_base(options.base or options.out / "base.safetensors")
    print(describe(arrays))
    for file in sorted(options.out.iterdir()):
        print(f"{file.name:20} {file.stat().st_size / 2**20:6.1f} MiB")
    print(f"{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
