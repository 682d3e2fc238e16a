"""All figures of the engine in one go: `python -m docqa.bench.engine --all` (`make gpu-bench`).

Each measurement is a process of its own, so that one that fails, hangs or runs out of memory costs
only its own figures, and each begins with an empty GPU. Those of speed run alone and come first;
the others, whose figures do not depend on the time they take, run `--at-once` side by side. Into
`--out`: the output of each, `results.json` with the last line of JSON of each, `table.md`, and the
plot of perplexity by position; the first two are written anew after every job. A job that is
stopped at its limit, or because the `--minutes` of all are over, keeps the figures it had: the
table says so. `--dry` runs every one of them at sizes for a CPU: minutes, and figures of nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from docqa.bench.shaped_model import SHAPES, write_shaped


@dataclass(frozen=True, slots=True)
class Job:
    """One measurement: a module of docqa.bench, or `docqa` itself, and its arguments."""

    name: str
    module: str
    arguments: tuple[str, ...]
    limit_s: float = 3600.0
    is_alone: bool = True  # its figure is a time: nothing else runs beside it
    on_gpu: bool = True


@dataclass(frozen=True, slots=True)
class Sizes:
    """How large everything is."""

    shape: str
    trained: int
    depths: tuple[int, ...]
    restored: int  # the depth at which saving and restoring is measured
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
    kills: int
    turns: int
    turn_context: int
    passage: int  # characters of a source of a turn; two documents of four are pinned


FULL = Sizes(
    shape="8b",
    trained=131_072,
    depths=(0, 32_768, 122_880),
    restored=32_768,
    prefill=2048,
    tokens=128,
    batch=2048,
    rounds=3,
    prompts=100,
    resumed_tokens=256,
    context=32_768,
    needles=(4096, 8192, 16_384, 32_768),
    repeats=3,
    streamed=100_000,
    window=2048,
    kills=200,
    turns=10,
    turn_context=8192,
    passage=1200,
)
DRY = Sizes(
    shape="tiny",
    trained=512,
    depths=(0, 300),
    restored=300,
    prefill=64,
    tokens=8,
    batch=64,
    rounds=1,
    prompts=1,
    resumed_tokens=8,
    context=1024,
    needles=(1024,),
    repeats=1,
    streamed=600,
    window=128,
    kills=2,
    turns=2,
    turn_context=4096,
    passage=200,
)


def run_all(options: argparse.Namespace) -> int:
    """Run every measurement; return how many failed."""
    return _Run(options).run()


class _Run:
    """All of it: what there is so far, and how much time is left."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._ends = time.monotonic() + 60 * options.minutes
        self._options, self._out = options, Path(options.out)
        self._results: dict[str, Any] = {}
        self._seconds: dict[str, float] = {}
        self._writing = threading.Lock()

    def run(self) -> int:
        """Run every job; return how many have no figures."""
        options, out = self._options, self._out
        scratch = Path(options.scratch or out)
        for folder in (out, scratch):
            folder.mkdir(parents=True, exist_ok=True)
        sizes = DRY if options.dry else FULL
        shaped = scratch / f"random-{sizes.shape}.gguf"
        text = options.text or _own_text(out)
        found = list(jobs(options, sizes, shaped, text, out))
        if options.only:
            found = [job for job in found if job.name.startswith(tuple(options.only))]
        self._results = {job.name: None for job in found}
        if not shaped.exists() and any(str(shaped) in job.arguments for job in found):
            write_shaped(shaped, SHAPES[sizes.shape], sizes.trained)
        for job in found:
            if job.is_alone:
                self._do(job)
        with ThreadPoolExecutor(max(1, options.at_once)) as pool:
            list(pool.map(self._do, [job for job in found if not job.is_alone]))
        print((out / "table.md").read_text("utf-8"), end="")
        return sum(result is None for result in self._results.values())

    def _do(self, job: Job) -> None:
        left_s = min(job.limit_s, self._ends - time.monotonic())
        print(f"{job.name}: {job.module} {' '.join(job.arguments)}", file=sys.stderr, flush=True)
        began = time.perf_counter()
        result = _run(job, self._out, left_s) if left_s > 0 else None
        spent = time.perf_counter() - began
        state = "done" if result is not None else "no figures, see its output"
        print(f"{job.name}: {state} in {spent:.0f} s", file=sys.stderr, flush=True)
        with self._writing:
            self._results[job.name] = result
            self._seconds[job.name] = round(spent, 1)
            written = {"jobs": self._results, "seconds": self._seconds}
            (self._out / "results.json").write_text(json.dumps(written, indent=1), "utf-8")
            table = "\n".join(table_lines(self._results)) + "\n"
            (self._out / "table.md").write_text(table, "utf-8")


def jobs(
    options: argparse.Namespace, sizes: Sizes, shaped: Path, text: Path, out: Path
) -> Iterator[Job]:
    """Yield the measurements, those of speed first, of each kind the weightiest first."""
    threads = ("--threads", str(options.threads)) if options.threads else ()
    large = ("--model", str(shaped), "--text", str(text), *threads)
    small: tuple[str, ...] = ("--model", str(shaped) if options.dry else options.model)
    small += ("--text", str(text), *threads)
    yield from _speed_jobs(options, sizes, large)
    plan = ("plan", str(shaped), "--measure", "--json", "--context", str(sizes.depths[-1] + 512))
    yield Job("plan large", "docqa", plan, 120)
    name = str(shaped) if options.dry else options.model
    yield Job("plan small", "docqa", ("plan", name, "--measure", "--json"), 60)
    rounds = ("--rounds", str(sizes.rounds), "--tokens", str(sizes.tokens))
    yield Job("lookup", "docqa.bench.engine", (*small, "--lookup", *rounds), 60)
    yield from _resume_jobs(sizes, small)
    streamed = ("--tokens", str(sizes.streamed), "--window", str(sizes.window))
    arguments: tuple[str, ...] = ("sinks", *small, *streamed)
    yield Job("sinks", "docqa.bench.long_context", arguments, is_alone=False)
    arguments = ("rope", *small, "--context", str(sizes.context), "--plot", str(out / "rope.svg"))
    yield Job("rope", "docqa.bench.long_context", arguments, is_alone=False)
    lengths = ("--lengths", *map(str, sizes.needles), "--repeats", str(sizes.repeats))
    for method in ("yarn", "none"):
        arguments = (*small, *lengths, "--methods", method)
        yield Job(f"needle {method}", "docqa.bench.needle", arguments, is_alone=False)
    kills = (*small, "--kills", str(sizes.kills))
    # Saving is the same wherever the model runs, and without a GPU a process starts sooner.
    yield Job("kills", "docqa.bench.kills", kills, is_alone=False, on_gpu=False)
    arguments = (*small, "--turns", str(sizes.turns), "--context", str(sizes.turn_context))
    arguments += ("--passage-chars", str(sizes.passage))
    yield Job("turns", "docqa.bench.turns", arguments, is_alone=False)
    for method in ("linear", "ntk"):
        arguments = (*small, *lengths, "--methods", method)
        yield Job(f"needle {method}", "docqa.bench.needle", arguments, is_alone=False)


def _speed_jobs(options: argparse.Namespace, sizes: Sizes, large: tuple[str, ...]) -> Iterator[Job]:
    bench = ("--llama-bench", str(options.llama_bench)) if options.llama_bench else ()
    for depth in sorted(sizes.depths, key=lambda depth: (depth != sizes.restored, -depth)):
        for kv_type in ("q8_0", "f16"):
            arguments = (*large, "--depths", str(depth), "--kv-types", kv_type)
            arguments += ("--batch", str(sizes.batch), "--prefill", str(sizes.prefill))
            arguments += ("--rounds", str(sizes.rounds), "--tokens", str(sizes.tokens), *bench)
            if depth != sizes.restored or kv_type != "q8_0":
                arguments += ("--no-restore",)
            yield Job(f"speed {kv_type} {depth}", "docqa.bench.engine", arguments, 900)


def _resume_jobs(sizes: Sizes, small: tuple[str, ...]) -> Iterator[Job]:
    common = (*small, "--resume", str(sizes.prompts), "--tokens", str(sizes.resumed_tokens))
    for rope in ("plain", "yarn"):
        for kv_type in ("q8_0", "f16", "q4_0"):
            arguments = (*common, "--kv-types", kv_type, "--ropes", rope)
            yield Job(f"resume {kv_type} {rope}", "docqa.bench.engine", arguments, is_alone=False)


def _own_text(out: Path) -> Path:
    """Return this package's sources as one text: something long that is always there."""
    path = out / "text.txt"
    files = sorted(Path(__file__).parents[1].rglob("*.py"))
    path.write_text("\n".join(file.read_text("utf-8") for file in files), "utf-8")
    return path


def _run(job: Job, out: Path, limit_s: float) -> Any:
    """Run one; return its last line of JSON, None where there is none. Its output is kept.

    What was stopped or failed after it had told something is marked `stopped`.
    """
    command = [sys.executable, "-m", job.module, *job.arguments]
    environment = dict(os.environ) if job.on_gpu else {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    stem = out / job.name.replace(" ", "-")
    lines, log = stem.with_suffix(".out"), stem.with_suffix(".log")
    with lines.open("wb") as told, log.open("wb") as errors:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=told,
            stderr=errors,
            env=environment,
            start_new_session=True,
        )
        try:
            is_whole = process.wait(limit_s) == 0
        except subprocess.TimeoutExpired:
            is_whole = False
            _end(process)
    for line in reversed(lines.read_text("utf-8", "replace").splitlines()):
        with contextlib.suppress(json.JSONDecodeError):
            found = json.loads(line)
            if isinstance(found, dict):
                return found if is_whole else found | {"stopped": True}
    return None


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a job with what it has started; its engine ends with it."""
    if hasattr(os, "killpg"):
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()


# -- the table ------------------------------------------------------------------------------------


def table_lines(results: Mapping[str, Any]) -> Iterator[str]:
    """Yield the results as a Markdown table; what failed is said to have failed."""
    yield "| what | measured |"
    yield "|---|---|"
    for name, found in results.items():
        rows = [("no figures", "see its output")] if found is None else _rows(name, found)
        for what, measured in rows:
            yield f"| {name}: {what} | {measured} |"


def _rows(name: str, found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for what, measured in _ROWS[name.split()[0]](found):
        yield what, measured + " (stopped before its end)" * ("stopped" in found)


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
            text = f"{row[f'{step}_tokens_s']:,.0f} tokens/s"
            if f"{step}_ratio" in row:
                text += f", {row[f'{step}_ratio']:.3f} of alone"
            if f"{step}_over_llama_bench" in row:
                text += f", {row[f'{step}_over_llama_bench']:.3f} of llama-bench"
            yield f"{step} at {depth}", text
        if "kv_mib" in row:
            disk = row.get("cold_disk_s", row.get("disk_s", float("nan")))
            yield (
                f"restore of {row['depth']:,} tokens ({row['kv_mib']:,.0f} MiB)",
                f"disk {disk:.2f} s cold, {row['warm_disk_s']:.2f} s warm, RAM "
                f"{row['ram_s']:.2f} s ({row['ram_first_s']:.2f} s the first time); prefill "
                f"{row['fill_s']:.2f} s, a plain read of the file "
                f"{row.get('cold_read_s', float('nan')):.2f} s cold",
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


def _kills_rows(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    row = found["kills"]
    yield (
        f"{row['kills']} times kill -9 of an engine that was told to save",
        f"{row['broken']} broken, {row['old']} old, {row['new']} new, {row['changed']} went on "
        f"otherwise; {row['while_saving']} while saving",
    )


def _turns_rows(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    n = len(found["turns"])
    yield f"unchanged prefix reused in {n} turns", f"{found['reused_share']:.1%}"


_ROWS = {
    "kills": _kills_rows,
    "turns": _turns_rows,
    "plan": _plan_rows,
    "lookup": _lookup_rows,
    "speed": _speed_rows,
    "resume": _resume_rows,
    "rope": _rope_rows,
    "needle": _needle_rows,
    "sinks": _sinks_rows,
}
