"""The engine's path against llama.cpp alone, and what saved KV brings; on a CPU or a GPU.

    python -m docqa.bench.engine                                   # default model, small sizes
    python -m docqa.bench.engine --model 8b.gguf --depths 0 32768 122880 --tokens 256
    python -m docqa.bench.engine --resume 100 --tokens 256         # restored = uninterrupted?

- path: tokens into the host process, text out of it, seen by the caller: prefill of `depth` tokens,
  then `tokens` greedy ones. alone: the same batches through llama_decode in this process, no
  sampling, no text (what llama-bench measures). ratio: path / alone, side by side.
- save, disk, ram: writing KV, restoring it from a file (verified whole; the page cache as it is,
  or dropped first where the system lets us) and from RAM, beside the prefill that it saves.
- resume: prompts whose greedy continuation after a restore equals the uninterrupted one.

The last line is JSON. Text comes from a file (`--text`), else from this package's own sources.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from docqa.config import ModelConfig
from docqa.protocols import Piece, Stop
from docqa.types import Segment
from models.catalog import resolve
from models.host import HostEngine
from models.load_plan import load_settings
from models.model_file import ModelFile, read_model
from models.settings import LoadSettings

KV_TYPES = ("f16", "q8_0", "q4_0")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what the command line asks for."""
    options = _parser().parse_args(arguments)
    model = read_model(resolve(options.model))
    found: dict[str, Any] = {"model": model.path.name}
    if options.resume:
        found["resume"] = [
            _resumed(options, model, kv_type, stretched)
            for kv_type in options.kv_types
            for stretched in (False, True)
        ]
    else:
        found["speed"] = [
            row
            for kv_type in options.kv_types
            for depth in options.depths
            for row in (_speed(options, model, kv_type, depth),)
        ]
    print(json.dumps(found))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="docqa.bench.engine", description=__doc__)
    parser.add_argument("--model", default=ModelConfig().path)
    parser.add_argument("--text", type=Path, help="a long text file")
    parser.add_argument("--depths", type=int, nargs="+", default=[0, 512, 2048])
    parser.add_argument("--tokens", type=int, default=64, help="to generate")
    parser.add_argument("--kv-types", nargs="+", default=["q8_0"], choices=KV_TYPES)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--prompt", type=int, default=200, help="tokens of a prompt of --resume")
    parser.add_argument("--resume", type=int, default=0, metavar="PROMPTS")
    return parser


def _settings(
    options: argparse.Namespace, model: ModelFile, kv_type: str, context: int
) -> LoadSettings:
    config = replace(
        ModelConfig(),
        adapter="none",
        context_length=context,
        kv_type_k=kv_type,
        kv_type_v=kv_type,
        n_threads=options.threads,
    )
    settings = load_settings(config, model, None, lambda line: print(line, file=sys.stderr))
    return msgspec.structs.replace(
        settings,
        n_batch=options.batch,
        n_ubatch=options.batch,
        adapts_threads=False,
        guesses=False,
        kv_ram_bytes=8 << 30,
        n_sequences=1,
    )


def _tokens(engine: HostEngine, options: argparse.Namespace, n: int) -> list[int]:
    """Return `n` tokens of the text, repeated where it is too short."""
    files = [options.text] if options.text else sorted(Path(__file__).parents[1].glob("*.py"))
    text = "\n".join(file.read_text("utf-8", "replace") for file in files)
    tokens = engine.tokenize([Segment(text[: 8 * n + 1000], False)])[0]
    return (tokens * (n // len(tokens) + 1))[:n]


# -- speed ----------------------------------------------------------------------------------------


def _speed(
    options: argparse.Namespace, model: ModelFile, kv_type: str, depth: int
) -> dict[str, float | str]:
    n_prompt = max(depth, 1)
    settings = _settings(options, model, kv_type, max(n_prompt + options.tokens + 8, 256))
    with HostEngine(settings, model) as engine, tempfile.TemporaryDirectory() as folder:
        prompt = _tokens(engine, options, n_prompt)
        prefill_s, decode_s, n_said = _timed(engine, prompt, options.tokens)
        row: dict[str, float | str] = {"kv": kv_type, "depth": depth, "prefill_s": prefill_s}
        if depth >= 256:
            row |= _restores(engine, settings, model, prompt, Path(folder) / "bench.kv")
    alone_prefill_s, alone_decode_s = _alone(settings, prompt, n_said)
    row |= {
        "prefill_tokens_s": n_prompt / prefill_s,
        "decode_tokens_s": n_said / decode_s,
        "prefill_ratio": alone_prefill_s / prefill_s,
        "decode_ratio": alone_decode_s / decode_s,
    }
    print(
        "  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()),
        flush=True,
    )
    return row


def _timed(engine: HostEngine, prompt: list[int], n: int) -> tuple[float, float, int]:
    """Return (seconds to the first piece, seconds of the others, their number)."""
    engine.wait_until_ready()
    began = first = time.perf_counter()
    n_pieces = 0
    for event in engine.generate(prompt, max_tokens=n):
        if isinstance(event, Piece):
            n_pieces += 1
            first = time.perf_counter() if n_pieces == 1 else first
    return first - began, max(time.perf_counter() - first, 1e-9), max(n_pieces - 1, 1)


def _alone(settings: LoadSettings, prompt: list[int], n: int) -> tuple[float, float]:
    """Return the seconds of the same decodes by llama.cpp in this process."""
    from models.llama_context import LlamaContext, LogTail

    context = LlamaContext(settings, LogTail())
    context.decode(prompt[:1], 0, 0)  # a warm-up: the first decode maps the weights
    context.logits()
    context.remove(0, -1)
    began = time.perf_counter()
    for start in range(0, len(prompt), settings.n_batch):
        chunk = prompt[start : start + settings.n_batch]
        context.decode(chunk, start, 0, logits=start + len(chunk) == len(prompt))
    context.logits()
    prefilled = time.perf_counter()
    for i in range(n):
        context.decode([prompt[i % len(prompt)]], len(prompt) + i, 0)
        context.logits()
    decoded = time.perf_counter()
    context.close()
    return prefilled - began, max(decoded - prefilled, 1e-9)


def _restores(
    engine: HostEngine, settings: LoadSettings, model: ModelFile, prompt: list[int], path: Path
) -> dict[str, float | str]:
    began = time.perf_counter()
    n_saved = engine.save_kv(path)
    row: dict[str, float | str] = {"save_s": time.perf_counter() - began}
    row["kv_mib"] = path.stat().st_size / 2**20
    is_cold = _drop_from_page_cache(path)
    with HostEngine(settings, model) as fresh:
        fresh.wait_until_ready()
        fresh.load_kv(path.with_name("none.kv"))  # the model's hash is looked up, not measured
        for name in ("cold_disk_s" if is_cold else "disk_s", "warm_disk_s"):
            list(fresh.generate(prompt[:1], max_tokens=0))  # something else in its place
            began = time.perf_counter()
            assert fresh.load_kv(path) == n_saved, fresh.kv_reason
            row[name] = time.perf_counter() - began
        row["ram_s"] = _from_ram(fresh, prompt, n_saved)
    return row


def _from_ram(engine: HostEngine, prompt: list[int], n_saved: int) -> float:
    """Return the seconds until a conversation that was parked in RAM is read again."""
    del n_saved
    list(engine.generate(prompt[::-1], max_tokens=0))  # takes its place in the context
    began = time.perf_counter()
    *_, stop = engine.generate(prompt, max_tokens=0)
    assert isinstance(stop, Stop)
    if stop.n_reused < len(prompt) // 2:
        return float("nan")  # more than `kv_ram_bytes`, or fewer tokens than are parked
    return time.perf_counter() - began


def _drop_from_page_cache(path: Path) -> bool:
    if not hasattr(os, "posix_fadvise"):
        return False
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)
    return True


# -- resume ---------------------------------------------------------------------------------------


def _resumed(
    options: argparse.Namespace, model: ModelFile, kv_type: str, stretched: bool
) -> dict[str, Any]:
    """Return how many of the prompts go on after a restore as they did without."""
    n_prompt, n = options.prompt, options.tokens
    context = 2 * model.context_length if stretched else n_prompt + 2 * n + 64
    settings = _settings(options, model, kv_type, context)
    n_equal = 0
    with (
        HostEngine(settings, model) as one,
        HostEngine(settings, model) as other,
        tempfile.TemporaryDirectory() as folder,
    ):
        text = _tokens(one, options, n_prompt + 37 * options.resume)
        path = Path(folder) / "resume.kv"
        for i in range(options.resume):
            prompt = text[37 * i : 37 * i + n_prompt]
            list(one.generate(prompt[:-8], max_tokens=0))
            one.save_kv(path)
            expected = _said(one, prompt, n)
            list(other.generate(text[-1:], max_tokens=0))
            assert other.load_kv(path) == n_prompt - 8, other.kv_reason
            n_equal += _said(other, prompt, n) == expected
    row = {"kv": kv_type, "yarn": stretched, "n_equal": n_equal, "of": options.resume, "tokens": n}
    print(row, flush=True)
    return row


def _said(engine: HostEngine, prompt: list[int], n: int) -> list[int]:
    return [e.token for e in engine.generate(prompt, max_tokens=n) if isinstance(e, Piece)]


if __name__ == "__main__":
    main()
