"""From `[model]` of the configuration to how a model is loaded, or refused with the reason."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from docqa.config import ModelConfig
from docqa.errors import ModelRefused
from models.memory import kv_bytes_per_token, needs
from models.model_file import ModelFile
from models.rope import plan_rope
from models.settings import KV_PAIRS, AdapterSettings, LoadSettings

MIN_CONTEXT = 256

Log = Callable[[str], None]


def quiet(_line: str) -> None:
    """Log to nowhere."""


def load_settings(
    config: ModelConfig, model: ModelFile, adapter: Path | None, log: Log = quiet
) -> LoadSettings:
    """Return how to load `model`.

    Raises:
        ModelRefused: settings that cannot work for this model.
    """
    pair = (config.kv_type_k, config.kv_type_v)
    if pair not in KV_PAIRS:
        works = ", ".join(f"{k}/{v}" for k, v in KV_PAIRS)
        raise ModelRefused(
            f"KV types {pair[0]}/{pair[1]}: no attention kernel works on this pair; "
            f"choose kv_type_k and kv_type_v among {works}"
        )
    for part, dim in (("K", model.head_dim_k), ("V", model.head_dim_v)):
        kind = pair[part == "V"]
        if kind not in ("f16", "bf16") and dim % 32:
            raise ModelRefused(
                f"{model.name}: KV type {kind} needs heads in multiples of 32, its {part} heads "
                f"have {dim}; set kv_type_k and kv_type_v to f16"
            )
    if 0 < config.context_length < MIN_CONTEXT or config.context_length < 0:
        raise ModelRefused(
            f"context_length {config.context_length}: {MIN_CONTEXT} tokens at least (or 0: as "
            "trained)"
        )
    rope = plan_rope(model, config.context_length, config.rope, force=config.force)
    for warning in rope.warnings:
        log(f"{model.path.name}: {warning}")
    _refuse_what_has_no_room(model, rope.context_length, pair, force=config.force)
    return LoadSettings(
        path=str(model.path),
        context_length=rope.context_length,
        rope=rope.settings,
        adapters=(AdapterSettings(path=str(adapter)),) if adapter else (),
        kv_type_k=pair[0],
        kv_type_v=pair[1],
        kv_bytes_per_token=kv_bytes_per_token(model, *pair),
        n_threads=config.n_threads or physical_cores(),
        adapts_threads=config.n_threads == 0,
        n_gpu_layers=config.n_gpu_layers,
    )


def _refuse_what_has_no_room(
    model: ModelFile, context_length: int, pair: tuple[str, str], *, force: bool
) -> None:
    """Refuse a context whose KV cannot be held: Linux would kill some process later instead.

    Weights are mapped from the file and do not count; on a GPU llama.cpp itself says what lacks.
    """
    from models.hardware import build_has_gpu

    if force or build_has_gpu():
        return
    import psutil

    wanted = needs(model, context_length, *pair)
    n_bytes = wanted.kv + wanted.state + wanted.compute
    free = int(psutil.virtual_memory().available)
    if n_bytes > free:
        raise ModelRefused(
            f"a context of {context_length} tokens takes {n_bytes / 2**30:.1f} GiB beside the "
            f"weights of {model.path.name}, and {free / 2**30:.1f} GiB are free: ask for a shorter "
            "context or smaller KV types (docqa plan shows what fits), or add --force"
        )


def physical_cores() -> int:
    """Return the physical cores that this process may use."""
    import psutil

    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(psutil.cpu_count(logical=False) or 1, usable or 1))
