"""All figures of the engine in one go: `python -m docqa.bench.engine --all` (`make gpu-bench`).

Each measurement is a process of its own, so that one that fails or runs out of memory costs only
its own figures, and each begins with an empty GPU. Into `--out`: the output of each, `results.json`
with the last line of each, `table.md`, and the plot of perplexity by position. `--dry` runs every
one of them at sizes for a CPU: minutes, and figures of nothing.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from docqa.bench.shaped_model import SHAPES, write_shaped

TIMEOUT_S = 3 * 3600.0


@dataclass(frozen=True, slots=True)
class Job:
    """One measurement: a module of docqa.bench, or `docqa` itself, and its arguments."""

    name: str
    module: str
    arguments: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Sizes:
    """How large everything is."""

    shape: str
    trained: int
    depths: tuple[int, ...]
    prefill: int
    tokens: int
    batch: int
    rounds: int
    prompts: int
    resumed_tokens: int
    context: int
    needles: tuple[int, ...]
    repeats: int
    streamed: int
    window: int


FULL = Sizes(
    "8b", 131_072, (0, 32_768, 122_880), 2048, 128, 2048, 5, 100, 256, 32_768,
    (4096, 8192, 16_384, 32_768), 5, 100_000, 2048,
)  # fmt: skip
DRY = Sizes("tiny", 512, (0, 300), 64, 8, 64, 1, 1, 8, 1024, (1024,), 1, 600, 128)


def run_all(options: argparse.Namespace) -> int:
    """Run every measurement; return how many failed."""
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    sizes = DRY if options.dry else FULL
    shaped = out / f"random-{sizes.shape}.gguf"
    if not shaped.exists():
        write_shaped(shaped, SHAPES[sizes.shape], sizes.trained)
    text = options.text or _own_text(out)
    results: dict[str, Any] = {}
    for job in jobs(options, sizes, shaped, text, out):
        began = time.perf_counter()
        print(f"{job.name}: {job.module} {' '.join(job.arguments)}", file=sys.stderr, flush=True)
        results[job.name] = _run(job, out)
        seconds = time.perf_counter() - began
        state = "failed, see its output" if results[job.name] is None else "done"
        print(f"{job.name}: {state} in {seconds:.0f} s", file=sys.stderr, flush=True)
        (out / "results.json").write_text(json.dumps(results, indent=1), "utf-8")
    table = "\n".join(table_lines(results)) + "\n"
    (out / "table.md").write_text(table, "utf-8")
    print(table, end="")
    return sum(found is None for found in results.values())


def jobs(
    options: argparse.Namespace, sizes: Sizes, shaped: Path, text: Path, out: Path
) -> Iterator[Job]:
    """Yield the measurements, the quickest first."""
    threads = ("--threads", str(options.threads)) if options.threads else ()
    common = ("--model", str(shaped), "--text", str(text), *threads)
    small: tuple[str, ...] = ("--model", str(shaped) if options.dry else options.model)
    small += ("--text", str(text))
    small += threads
    plan = ("plan", str(shaped), "--measure", "--json", "--context", str(sizes.depths[-1] + 512))
    yield Job("plan", "docqa", plan)
    rounds = ("--rounds", str(sizes.rounds), "--tokens", str(sizes.tokens))
    yield Job("lookup", "docqa.bench.engine", (*small, "--lookup", *rounds))
    bench = ("--llama-bench", str(options.llama_bench)) if options.llama_bench else ()
    for kv_type in ("q8_0", "f16"):
        depths = ("--depths", *map(str, sizes.depths), "--kv-types", kv_type)
        batch = ("--batch", str(sizes.batch), "--prefill", str(sizes.prefill))
        arguments = (*common, *depths, *batch, *rounds, *bench)
        yield Job(f"speed {kv_type}", "docqa.bench.engine", arguments)
    kinds = ("--kv-types", "f16", "q8_0", "q4_0", "--tokens", str(sizes.resumed_tokens))
    yield Job(
        "resume", "docqa.bench.engine", (*small, "--resume", str(sizes.prompts), *kinds)
    )  # with and without YaRN
    context = ("--context", str(sizes.context))
    plot = ("--plot", str(out / "rope.svg"))
    yield Job("rope", "docqa.bench.long_context", ("rope", *small, *context, *plot))
    lengths = ("--lengths", *map(str, sizes.needles), "--repeats", str(sizes.repeats))
    methods = ("--methods", "none", "linear", "ntk", "yarn")
    yield Job("needle", "docqa.bench.needle", (*small, *lengths, *methods))
    streamed = ("--tokens", str(sizes.streamed), "--window", str(sizes.window))
    yield Job("sinks", "docqa.bench.long_context", ("sinks", *small, *streamed))


def _own_text(out: Path) -> Path:
    """Return this package's sources as one text: something long that is always there."""
    path = out / "text.txt"
    files = sorted(Path(__file__).parents[1].rglob("*.py"))
    path.write_text("\n".join(file.read_text("utf-8") for file in files), "utf-8")
    return path


def _run(job: Job, out: Path) -> Any:
    """Run one; return the JSON of its last line, None where it failed. Its output is kept."""
    command = [sys.executable, "-m", job.module, *job.arguments]
    with (out / f"{job.name.replace(' ', '-')}.log").open("wb") as log:
        try:
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=log, timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired:
            return None
        log.write(done.stdout)
    lines = done.stdout.decode("utf-8", "replace").splitlines()
    try:
        return json.loads(lines[-1])
    except (IndexError, json.JSONDecodeError):
        return None


# -- the table ------------------------------------------------------------------------------------


def table_lines(results: Mapping[str, Any]) -> Iterator[str]:
    """Yield the results as a Markdown table; what failed is said to have failed."""
    yield "| what | measured |"
    yield "|---|---|"
    for name, found in results.items():
        rows = [("failed", "see its output")] if found is None else _ROWS[name.split()[0]](found)
        for what, measured in rows:
            yield f"| {name}: {what} | {measured} |"


def _plan_rows(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for check in found["measured"]:
        yield (
            f"{check['name']}, {check['unit']}, estimated / measured",
            f"{check['estimated']:.3g} / {check['measured']:.3g} = {check['ratio']:.2f}",
        )


def _lookup_rows(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    row = found["lookup"]
    same = "the same text" if row["is_equal"] else "ANOTHER TEXT"
    yield "guessing over plain decoding", f"{row['speed_up']:.2f}, {same}"


def _speed_rows(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for row in found["speed"]:
        depth = f"depth {row['depth']:,}"
        for step in ("prefill", "decode"):
            text = f"{row[f'{step}_tokens_s']:,.0f} tokens/s, {row[f'{step}_ratio']:.3f} of alone"
            if f"{step}_over_llama_bench" in row:
                text += f", {row[f'{step}_over_llama_bench']:.3f} of llama-bench"
            yield f"{step} at {depth}", text
        if "kv_mib" in row:
            disk = row.get("cold_disk_s", row.get("disk_s", float("nan")))
            yield (
                f"restore of {row['depth']:,} tokens ({row['kv_mib']:,.0f} MiB)",
                f"disk {disk:.2f} s cold, {row['warm_disk_s']:.2f} s warm, RAM "
                f"{row['ram_s']:.2f} s; prefill {row['fill_s']:.2f} s",
            )


def _resume_rows(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for row in found["resume"]:
        rope = "YaRN" if row["yarn"] else "no YaRN"
        yield (
            f"{row['kv']}, {rope}: {row['tokens']} tokens after a restore as without",
            f"{row['n_equal']} of {row['of']}",
        )


def _rope_rows(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    trained, context = found["trained"], found["context"]
    for method, values in found["perplexity"].items():
        cut = max(1, round(len(values) * trained / context))
        within, beyond = values[:cut], values[cut:]
        text = f"{sum(within) / len(within):.1f} within the trained length"
        text += f", {sum(beyond) / len(beyond):.1f} beyond" if beyond else ""
        yield f"perplexity by {method} in {context:,} tokens", text


def _needle_rows(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for row in found["needle"]:
        each = ", ".join(f"{n}/{row['of_each']}" for n in row["found"])
        yield (
            f"{row['method']}, {row['length']:,} tokens, depths {found['depths']}",
            f"{row['recall']:.0%} ({each})",
        )


def _sinks_rows(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield (
        f"perplexity over {found['tokens']:,} tokens, window {found['window']:,}",
        f"sinks + window {found['perplexity_sinks']:.2f}, window alone "
        f"{found['perplexity_window']:.2f}; streamed / computed afresh "
        f"{found['streamed_over_computed']:.4f}",
    )


_ROWS = {
    "plan": _plan_rows,
    "lookup": _lookup_rows,
    "speed": _speed_rows,
    "resume": _resume_rows,
    "rope": _rope_rows,
    "needle": _needle_rows,
    "sinks": _sinks_rows,
}
