"""`docqa plan [MODEL]`: what of a model fits here, before it is loaded; measured, on request.

stdout is the table (or one JSON object, `docqa.plan/1`); notes go to stderr. Exit code 3 where the
chosen context does not fit.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from docqa.cli.render import print_json
from docqa.config import Config, ModelConfig
from docqa.errors import ExitCode, UsageError
from docqa.sanitize import sanitize_line
from docqa.types import Block

if TYPE_CHECKING:
    from docqa.wiring import Check, KvTest, PlanReport, Row

GIB = 2**30


def run_plan(arguments: argparse.Namespace, config: Config) -> int:
    """Do what the command line of `docqa plan` asks for; return the exit code."""
    from docqa import wiring

    if arguments.tokens < 1:
        raise UsageError(f"--tokens {arguments.tokens}: at least 1")
    report = wiring.plan_model(config)
    checks: Sequence[Check] = ()
    test: KvTest | None = None
    if arguments.measure:
        checks = wiring.check_plan(report, config.model)
    if arguments.test_kv:
        text = _text_of(Path(arguments.test_kv), config, 8 * arguments.tokens)
        test = wiring.compare_kv_types(config.model, text, arguments.tokens)
    if arguments.json:
        print_json(_as_json(report, checks, test))
    else:
        for line in _lines(report, checks, test, config.model):
            print(sanitize_line(line))
    for warning in report.rope.warnings if not arguments.quiet else ():
        print(sanitize_line(f"note: {warning}"), file=sys.stderr)
    return ExitCode.DONE if report.chosen.fits or config.model.force else ExitCode.MODEL


def _text_of(path: Path, config: Config, n_chars: int) -> str:
    """Return the beginning of a document's text, read like any other but not into the library."""
    from docqa.parse.worker import ParseWorker
    from docqa.protocols import ParseOptions

    with ParseWorker(config.parse) as worker:
        items = worker.parse(path.absolute(), ParseOptions(ocr="never"))
        texts: list[str] = []
        blocks = (item.text for item in items if isinstance(item, Block))
        for text in itertools.takewhile(lambda _: sum(map(len, texts)) < n_chars, blocks):
            texts.append(text)
    return "\n\n".join(texts)


# -- as text --------------------------------------------------------------------------------------


def _lines(
    report: PlanReport, checks: Sequence[Check], test: KvTest | None, config: ModelConfig
) -> Iterable[str]:
    yield from _summary(report)
    yield ""
    yield from _table(report)
    if checks:
        yield ""
        yield "loaded as planned        estimated   measured   ratio"
        for c in checks:
            name = f"{c.name}, {c.unit}"
            yield f"{name:22} {c.estimated:11.3f} {c.measured:10.3f}   {c.ratio:5.2f}"
    if test is not None:
        yield ""
        yield from _kv_test(test, config)


def _summary(report: PlanReport) -> Iterable[str]:
    model, chosen, machine = report.model, report.chosen, report.hardware
    yield (
        f"{model.name}: {model.architecture}, {model.n_params / 1e6:,.0f} M parameters, "
        f"{model.quantisation or 'mixed'}, trained for {model.context_length:,} tokens"
    )
    kinds = [
        f"a sliding window of {model.sliding_window:,}" if model.sliding_window else "",
        f"latent attention (MLA) of rank {model.kv_lora_rank}" if model.kv_lora_rank else "",
        "recurrent layers" if model.is_recurrent else "",
    ]
    if any(kinds):
        yield "it has " + ", ".join(kind for kind in kinds if kind)
    where = f"{machine.name}, {machine.vram_bytes / GIB:.1f} GiB of VRAM free, " * bool(
        machine.vram_bytes
    )
    yield f"here: {where}{machine.ram_bytes / GIB:.1f} GiB of RAM free"
    needs, others = chosen.needs, report.beside
    parts = {
        "weights": needs.weights,
        "KV": needs.kv,
        "recurrent state": needs.state,
        "compute buffers": needs.compute,
        "adapter": others.adapter,
        "embedder": others.embedder,
        "reranker": others.reranker,
        "process": others.process,
    }
    shown = " + ".join(f"{name} {n / GIB:.2f}" for name, n in parts.items() if n)
    yield f"chosen: {_chosen(report)}"
    yield f"takes {sum(parts.values()) / GIB:.2f} GiB: {shown}; {chosen.reason}"


def _chosen(report: PlanReport) -> str:
    chosen, rope = report.chosen, report.rope
    text = f"context {chosen.context_length:,}, KV {chosen.kv_type_k}/{chosen.kv_type_v}"
    if rope.stretch > 1:
        text += f", {rope.method} {rope.stretch:.2g}x the trained length"
    if chosen.is_on_gpu:
        text += f", {min(chosen.n_gpu_layers, report.model.n_layers)} layers on the GPU"
    return f"{text}, batches of {chosen.n_batch}"


def _table(report: PlanReport) -> Iterable[str]:
    yield "context    KV           GiB  of it KV  fits   recompute  restore   decode"
    trained = report.model.context_length
    for row in report.rows:
        stretch = f" {row.context_length / trained:.2g}x" if row.context_length > trained else ""
        mark = "*" if _is_chosen(report, row) else " "
        yield (
            f"{row.context_length:>7,}{mark}   {row.kv_type_k + '/' + row.kv_type_v:10} "
            f"{row.total_bytes / GIB:5.2f}  {row.kv_bytes / GIB:8.3f}  "
            f"{'yes' if row.fits else 'NO':4} {_seconds(row.prefill_s):>11}  "
            f"{_seconds(row.restore_s):>7}  {_rate(row.decode_tokens_s):>7}{stretch}"
        )
    yield (
        "* chosen. recompute: the prefill of a full context; restore: its KV from disk instead; "
        "decode: tokens/s at its end. Times are estimates of an idle machine."
    )


def _is_chosen(report: PlanReport, row: Row) -> bool:
    chosen = report.chosen
    return (row.context_length, row.kv_type_k, row.kv_type_v) == (
        chosen.context_length,
        chosen.kv_type_k,
        chosen.kv_type_v,
    )


def _seconds(value: float) -> str:
    if value < 90:
        return f"{value:.2g} s" if value < 10 else f"{value:.0f} s"
    return f"{value / 60:.0f} min" if value < 5400 else f"{value / 3600:.1f} h"


def _rate(value: float) -> str:
    return f"{value:.1f}/s" if value < 10 else f"{value:.0f}/s"


def _kv_test(test: KvTest, config: ModelConfig) -> Iterable[str]:
    yield f"KV types on {test.n_tokens} tokens of the document, beside f16:"
    yield "type    size  mean KL    p99 KL   same best token  good enough"
    for c in test.comparisons:
        yield (
            f"{c.kv_type:6} {c.bytes_ratio:5.2f}  {c.mean_kl:7.5f}  {c.p99_kl:8.5f}  "
            f"{c.top1_agreement:14.1%}   {'yes' if c.is_good else 'no'}"
        )
    now = f"{config.kv_type_k}/{config.kv_type_v}"
    yield f"recommended: {test.recommended} (set now: {now})"


# -- as JSON --------------------------------------------------------------------------------------


def _as_json(report: PlanReport, checks: Sequence[Check], test: KvTest | None) -> dict[str, Any]:
    from dataclasses import asdict

    model, chosen, machine, others = report.model, report.chosen, report.hardware, report.beside
    return {
        "schema": "docqa.plan/1",
        "model": {
            "name": model.name,
            "path": str(model.path),
            "architecture": model.architecture,
            "quantisation": model.quantisation,
            "n_params": model.n_params,
            "context_length": model.context_length,
            "sliding_window": model.sliding_window,
            "kv_lora_rank": model.kv_lora_rank,
            "is_recurrent": model.is_recurrent,
        },
        "machine": asdict(machine),
        "bytes": {
            "weights": chosen.needs.weights,
            "kv": chosen.needs.kv,
            "state": chosen.needs.state,
            "compute": chosen.needs.compute,
            **asdict(others),
            "budget": chosen.budget_bytes,
        },
        "chosen": {
            "context_length": chosen.context_length,
            "kv_type_k": chosen.kv_type_k,
            "kv_type_v": chosen.kv_type_v,
            "n_gpu_layers": chosen.n_gpu_layers,
            "n_batch": chosen.n_batch,
            "fits": chosen.fits,
            "reason": chosen.reason,
            "rope": report.rope.method,
            "stretch": report.rope.stretch,
        },
        "rows": [asdict(row) for row in report.rows],
        "measured": [asdict(c) | {"ratio": c.ratio} for c in checks],
        "kv_test": None if test is None else _test_json(test),
    }


def _test_json(test: KvTest) -> dict[str, Any]:
    return {
        "n_tokens": test.n_tokens,
        "recommended": test.recommended,
        "types": [
            {
                "kv_type": c.kv_type,
                "mean_kl": c.mean_kl,
                "p99_kl": c.p99_kl,
                "top1_agreement": c.top1_agreement,
                "bytes_ratio": c.bytes_ratio,
                "is_good": c.is_good,
            }
            for c in test.comparisons
        ],
    }
