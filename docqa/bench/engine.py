"""The engine's path against llama.cpp alone, and what saved KV brings; on a CPU or a GPU.

    python -m docqa.bench.engine                                   # default model, small sizes
    python -m docqa.bench.engine --model 8b.gguf --depths 0 32768 122880 --tokens 256
    python -m docqa.bench.engine --resume 100 --tokens 256         # restored = uninterrupted?
    python -m docqa.bench.engine --lookup                          # guessing from the prompt
    python -m docqa.bench.engine --all [--dry]                     # everything: make gpu-bench

- path: tokens into the host process, text out of it, seen by the caller: at each `depth`, `tokens`
  greedy ones, and a prefill of `prefill` tokens. alone: the same batches through llama_decode in
  this process, no sampling, no text. ratio: path / alone, side by side, the median of `rounds`.
  With `--llama-bench PROGRAM` the same over that program's figures instead, taken just after.
- save, disk, ram: writing KV, restoring it from a file (verified whole; the page cache as it is,
  or dropped first where the system lets us) and from RAM, beside `fill_s`, the prefill it saves;
  `cold_read_s` is one plain read of the file with a cold cache: what the disk allows.
- resume: prompts whose greedy continuation after a restore equals the uninterrupted one.
- lookup: an answer that copies from its prompt, with and without guessing: same text, speed-up.
- all: everything above and the long-context benches, one process each; a table and JSON in `--out`.

The last line is JSON. Text comes from a file (`--text`), else from this package's own sources.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
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

TEXT_CHARS = 40_000
KV_TYPES = ("f16", "q8_0", "q4_0")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what the command line asks for."""
    options = _parser().parse_args(arguments)
    if options.all:
        from docqa.bench.engine_all import run_all

        sys.exit(run_all(options))
    model = read_model(resolve(options.model))
    found: dict[str, Any] = {"model": model.path.name}
    if options.lookup:
        found["lookup"] = _lookup(options, model)
    elif options.resume:
        found["resume"] = [
            _resumed(options, model, kv_type, stretched)
            for kv_type in options.kv_types
            for stretched in [rope == "yarn" for rope in options.ropes]
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
    parser.add_argument("--prefill", type=int, default=512, help="tokens to read at each depth")
    parser.add_argument("--rounds", type=int, default=1, help="the median of them is taken")
    parser.add_argument("--llama-bench", type=Path, help="the program, to compare with it too")
    parser.add_argument("--no-restore", action="store_true", help="measure no save and restore")
    parser.add_argument("--kv-types", nargs="+", default=["q8_0"], choices=KV_TYPES)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--prompt", type=int, default=200, help="tokens of a prompt of --resume")
    parser.add_argument("--resume", type=int, default=0, metavar="PROMPTS")
    parser.add_argument("--ropes", nargs="+", default=["plain", "yarn"], choices=("plain", "yarn"))
    parser.add_argument("--lookup", action="store_true", help="guessing from the prompt")
    parser.add_argument("--all", action="store_true", help="everything, for a GPU")
    parser.add_argument("--dry", action="store_true", help="--all at small sizes, for a CPU")
    parser.add_argument("--out", type=Path, default=Path("engine-bench"), help="folder of --all")
    parser.add_argument(
        "--scratch", type=Path, help="of --all: folder of the large model; else out"
    )
    parser.add_argument("--minutes", type=float, default=180.0, help="--all ends after so many")
    parser.add_argument(
        "--at-once", type=int, default=1, help="jobs of --all that measure no speed"
    )
    parser.add_argument("--only", nargs="+", help="of --all: the jobs whose names begin so")
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
    # The numbers that a model computes with do not care whether a long text says a thing twice.
    tokens = engine.tokenize([Segment(text[: min(8 * n + 1000, TEXT_CHARS)], False)])[0]
    return (tokens * (n // len(tokens) + 1))[:n]


# -- speed ----------------------------------------------------------------------------------------


def _speed(
    options: argparse.Namespace, model: ModelFile, kv_type: str, depth: int
) -> dict[str, float | str]:
    """Return a row: decode at `depth`, then a prefill of `--prefill` tokens there."""
    n_filled = max(depth, 1)
    room = n_filled + max(options.tokens, options.prefill) + 8
    settings = _settings(options, model, kv_type, max(room, 256))
    with HostEngine(msgspec.structs.replace(settings, kv_ram_bytes=0), model) as engine:
        prompt = _tokens(engine, options, max(depth + options.prefill, 1))
        engine.wait_until_ready()
        began = time.perf_counter()
        list(engine.generate(prompt[:n_filled], max_tokens=0))
        fill_s = time.perf_counter() - began
        rounds = [_timed(engine, prompt, depth, options) for _ in range(options.rounds)]
    prefill_s = statistics.median(r[0] for r in rounds)
    decode_s = statistics.median(r[1] for r in rounds)
    row: dict[str, float | str] = {"kv": kv_type, "depth": depth, "fill_s": fill_s}
    row |= {"prefill_tokens_s": options.prefill / prefill_s, "decode_tokens_s": 1 / decode_s}
    if options.llama_bench:
        row |= _llama_bench(options, kv_type, depth, options.prefill / prefill_s, 1 / decode_s)
    else:
        alone_prefill_s, alone_decode_s = _alone(settings, prompt, depth, options)
        row["prefill_ratio"] = alone_prefill_s / prefill_s
        row["decode_ratio"] = alone_decode_s / decode_s
    if depth >= 256 and not options.no_restore:
        with HostEngine(settings, model) as engine, tempfile.TemporaryDirectory() as folder:
            list(engine.generate(prompt[:n_filled], max_tokens=0))
            path = Path(folder) / "bench.kv"
            row |= _restores(engine, settings, model, prompt[:n_filled], path)
    print(
        "  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()),
        flush=True,
    )
    return row


def _timed(
    engine: HostEngine, prompt: list[int], depth: int, options: argparse.Namespace
) -> tuple[float, float]:
    """Return (seconds to read what follows the filled part, seconds a token to write there)."""
    filled = prompt[: max(depth, 1)]
    times = []
    for event in engine.generate(filled, max_tokens=options.tokens):
        if isinstance(event, Piece):
            times.append(time.perf_counter())
    # What was written is forgotten; at depth 0 all is: the text begins with another token.
    list(engine.generate(filled if depth else [prompt[0] ^ 1], max_tokens=0))
    began = time.perf_counter()
    list(engine.generate(prompt, max_tokens=0))
    return time.perf_counter() - began, (times[-1] - times[0]) / max(len(times) - 1, 1)


def _alone(
    settings: LoadSettings, prompt: list[int], depth: int, options: argparse.Namespace
) -> tuple[float, float]:
    """Return the same two by llama.cpp in this process, with nothing of ours around it."""
    from models.llama_context import LlamaContext, LogTail

    context = LlamaContext(settings, LogTail())

    def read(tokens: list[int], start: int) -> None:
        for at in range(0, len(tokens), settings.n_batch):
            chunk = tokens[at : at + settings.n_batch]
            context.decode(chunk, start + at, 0, logits=at + len(chunk) == len(tokens))
        context.logits()

    n_filled = max(depth, 1)
    read(prompt[:n_filled], 0)
    found = []
    for _ in range(options.rounds):
        began = time.perf_counter()
        for i in range(options.tokens - 1):
            read([prompt[i % len(prompt)]], n_filled + i)
        decoded = time.perf_counter()
        context.remove(0, depth)
        read_began = time.perf_counter()
        read(prompt[depth:], depth)
        prefill_s = time.perf_counter() - read_began
        context.remove(0, n_filled)
        found.append((prefill_s, (decoded - began) / max(options.tokens - 1, 1)))
    context.close()
    return statistics.median(f[0] for f in found), statistics.median(f[1] for f in found)


def _llama_bench(
    options: argparse.Namespace,
    kv_type: str,
    depth: int,
    prefill_tokens_s: float,
    decode_tokens_s: float,
) -> dict[str, float | str]:
    """Return our speeds over those of the llama-bench program, with the same settings."""
    numbers = {"-p": options.prefill, "-n": options.tokens, "-d": depth, "-fa": 1}
    numbers |= {"-b": options.batch, "-ub": options.batch}
    numbers["-r"] = options.rounds
    command = [str(options.llama_bench), "-m", str(resolve(options.model)), "-o", "json"]
    command += ["-ctk", kv_type, "-ctv", kv_type]
    command += [part for name, n in numbers.items() for part in (name, str(n))]
    if options.threads:
        command += ["-t", str(options.threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    speeds = {bool(run["n_gen"]): float(run["avg_ts"]) for run in json.loads(done.stdout)}
    return {
        "llama_bench_prefill_tokens_s": speeds[False],
        "llama_bench_decode_tokens_s": speeds[True],
        "prefill_over_llama_bench": prefill_tokens_s / speeds[False],
        "decode_over_llama_bench": decode_tokens_s / speeds[True],
    }


def _restores(
    engine: HostEngine, settings: LoadSettings, model: ModelFile, prompt: list[int], path: Path
) -> dict[str, float | str]:
    began = time.perf_counter()
    n_saved = engine.save_kv(path)
    row: dict[str, float | str] = {"save_s": time.perf_counter() - began}
    row["kv_mib"] = path.stat().st_size / 2**20
    with HostEngine(settings, model) as fresh:
        fresh.wait_until_ready()
        fresh.load_kv(path.with_name("none.kv"))  # the model's hash is looked up, not measured
        is_cold = _drop_from_page_cache(path)
        if is_cold:
            row["cold_read_s"] = _read_s(path)
            _drop_from_page_cache(path)
        for name in ("cold_disk_s" if is_cold else "disk_s", "warm_disk_s"):
            list(fresh.generate(prompt[:1], max_tokens=0))  # something else in its place
            began = time.perf_counter()
            assert fresh.load_kv(path) == n_saved, fresh.kv_reason
            row[name] = time.perf_counter() - began
        row["ram_first_s"] = _from_ram(fresh, prompt)
        row["ram_s"] = _from_ram(fresh, prompt)
    return row


def _from_ram(engine: HostEngine, prompt: list[int]) -> float:
    """Return the seconds until a conversation is read again that another had put into RAM.

    In them that other one is put there: both change places.
    """
    list(engine.generate(prompt[::-1], max_tokens=0))  # takes its place in the context
    began = time.perf_counter()
    *_, stop = engine.generate(prompt, max_tokens=0)
    assert isinstance(stop, Stop)
    if stop.n_reused < len(prompt) // 2:
        return float("nan")  # more than `kv_ram_bytes`, or fewer tokens than are parked
    return time.perf_counter() - began


def _drop_from_page_cache(path: Path) -> bool:
    """Make the next read of a file come from its disk; False where the system has no way to."""
    if not hasattr(os, "posix_fadvise"):
        return False
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)
    with contextlib.suppress(OSError):  # root alone may drop everything; the file is dropped anyway
        Path("/proc/sys/vm/drop_caches").write_text("3\n")
    return True


def _read_s(path: Path) -> float:
    """Return the seconds that one plain read of a file takes."""
    piece = bytearray(8 << 20)
    began = time.perf_counter()
    with path.open("rb", buffering=0) as file:
        while file.readinto(piece):
            pass
    return time.perf_counter() - began


# -- resume ---------------------------------------------------------------------------------------


def _resumed(
    options: argparse.Namespace, model: ModelFile, kv_type: str, stretched: bool
) -> dict[str, Any]:
    """Return how many of the prompts go on after a restore as they did without."""
    n_prompt, n = options.prompt, options.tokens
    context = 2 * model.context_length if stretched else max(n_prompt + 2 * n + 64, 256)
    settings = _settings(options, model, kv_type, context)
    n_equal = 0
    row: dict[str, Any] = {"kv": kv_type, "yarn": stretched}
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
            row |= {"n_equal": n_equal, "of": i + 1, "tokens": n}
            if i % 10 == 9:  # what there is, should it be stopped
                print(json.dumps({"model": model.path.name, "resume": [row]}), flush=True)
    print(row, flush=True)
    return row


def _said(engine: HostEngine, prompt: list[int], n: int) -> list[int]:
    return [e.token for e in engine.generate(prompt, max_tokens=n) if isinstance(e, Piece)]


# -- guessing from the prompt ----------------------------------------------------------------------

COPIED = "Copy the following text word by word, and write nothing else:"


def _lookup(options: argparse.Namespace, model: ModelFile) -> dict[str, Any]:
    """Return the speed of an answer that copies, with guesses and without; median of rounds."""
    row: dict[str, Any] = {}
    said: dict[str, list[int]] = {}
    for name in ("plain", "guessing"):
        settings = _settings(options, model, options.kv_types[0], 2048)
        settings = msgspec.structs.replace(settings, guesses=name == "guessing")
        with HostEngine(settings, model) as engine:
            source = (__doc__ or "")[:1200]
            asked = Segment(f"{COPIED}\n\n{source}", False, "question")
            prompt = [t for ids in engine.tokenize(engine.chat([("user", [asked])])) for t in ids]
            times = []
            for _ in range(max(options.rounds, 1)):
                *pieces, stop = engine.generate(prompt, max_tokens=options.tokens)
                assert isinstance(stop, Stop)
                said[name] = [p.token for p in pieces if isinstance(p, Piece) and p.token >= 0]
                times.append(stop.decode_s / max(stop.n_generated, 1))
                row["n_guessed"], row["n_accepted"] = stop.n_guessed, stop.n_accepted
            row[f"{name}_tokens_s"] = 1 / statistics.median(times)
    row["speed_up"] = row["guessing_tokens_s"] / row["plain_tokens_s"]
    row["is_equal"] = said["plain"] == said["guessing"]
    print(row, flush=True)
    return row


if __name__ == "__main__":
    main()
