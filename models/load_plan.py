"""From `[model]` of the configuration to how a model is loaded, or refused with the reason."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path

import msgspec

from docqa.config import ModelConfig
from docqa.errors import ModelRefused
from models.hardware import build_has_gpu, detect
from models.memory import is_repacked, kv_bytes_per_token, needs
from models.model_file import ModelFile
from models.planner import plan
from models.rope import plan_rope
from models.settings import EVICTIONS, AdapterSettings, LoadSettings, working_pairs

MIN_CONTEXT = 256
AUTO_PAIR = ("auto", "auto")  # of KV types: the planner's choice

Log = Callable[[str], None]


def quiet(_line: str) -> None:
    """Log to nowhere."""


def load_settings(
    config: ModelConfig,
    model: ModelFile,
    adapter: Path | None,
    log: Log = quiet,
    warn: Log | None = None,
) -> LoadSettings:
    """Return how to load `model`.

    Args:
        config: what is wished.
        model: what its header says.
        adapter: a LoRA on top of it.
        log: hears everything.
        warn: hears what the user should know; `log` where it is None.

    Raises:
        ModelRefused: settings that cannot work for this model.
    """
    if config.engine != "llama":
        from models.torch_shape import refuse_engine

        refuse_engine(config.engine, model)  # before a process is started
    eviction, keep = _eviction(config)
    wished = (config.kv_type_k, config.kv_type_v)
    pair = ("q8_0", "q8_0") if wished == AUTO_PAIR else wished
    _refuse_pair(model, pair)
    if 0 < config.context_length < MIN_CONTEXT or config.context_length < 0:
        raise ModelRefused(
            f"context_length {config.context_length}: {MIN_CONTEXT} tokens at least (or 0: as "
            "trained)"
        )
    rope = plan_rope(model, config.context_length, config.rope, force=config.force)
    for warning in rope.warnings:
        (warn or log)(f"{model.path.name}: {warning}")
    settings = LoadSettings(
        path=str(model.path),
        context_length=rope.context_length,
        engine=config.engine,
        rope=rope.settings,
        eviction=eviction,
        eviction_keep=keep,
        adapters=(AdapterSettings(path=str(adapter)),) if adapter else (),
        kv_type_k=pair[0],
        kv_type_v=pair[1],
        kv_bytes_per_token=kv_bytes_per_token(model, *pair),
        n_threads=config.n_threads or physical_cores(),
        adapts_threads=config.n_threads == 0,
        n_gpu_layers=config.n_gpu_layers,
        maps_file=build_has_gpu() or not is_repacked(model),
        wish=_wish(config, model, adapter),
    )
    if config.memory_gib > 0 or build_has_gpu() or wished == AUTO_PAIR:
        return _within_memory(settings, config, model, adapter, log)
    _refuse_what_has_no_room(model, rope.context_length, pair, force=config.force)
    return settings


def _eviction(config: ModelConfig) -> tuple[str, float]:
    """Return the method, "" for none, and the share that stays, of `[model] evict`."""
    if config.evict == "none":
        return "", 1.0
    found = re.fullmatch(rf"({'|'.join(EVICTIONS)}):(\d+(?:\.\d+)?)", config.evict)
    if found is None or float(found[2]) < 1:
        raise ModelRefused(
            f"evict '{config.evict}': none, or one of {', '.join(EVICTIONS)} and how many times "
            "smaller the prompt's KV is to be, such as kvzip:4"
        )
    if config.engine != "torch":
        raise ModelRefused(
            f"evict '{config.evict}': only the torch engine drops KV from a prompt; add "
            "--engine torch, or choose smaller KV types"
        )
    return found[1], 1 / float(found[2])


def _refuse_pair(model: ModelFile, pair: tuple[str, str]) -> None:
    pairs = working_pairs(has_gpu=build_has_gpu())
    if pair not in pairs:
        works = ", ".join(f"{k}/{v}" for k, v in pairs)
        raise ModelRefused(
            f"KV types {pair[0]}/{pair[1]}: no attention kernel of this build works on this pair; "
            f"choose kv_type_k and kv_type_v among {works}"
        )
    for part, dim in (("K", model.head_dim_k), ("V", model.head_dim_v)):
        kind = pair[part == "V"]
        if kind not in ("f16", "bf16") and dim % 32:
            raise ModelRefused(
                f"{model.name}: KV type {kind} needs heads in multiples of 32, its {part} heads "
                f"have {dim}; set kv_type_k and kv_type_v to f16"
            )


def _wish(config: ModelConfig, model: ModelFile, adapter: Path | None) -> str:
    """Return a digest of what was asked for, for callers who share an engine."""
    asked = dataclasses.replace(config, path=str(model.path), keep_alive_s=0.0)
    return hashlib.sha256(f"{asked!r}{adapter}".encode()).hexdigest()[:32]


def _within_memory(
    settings: LoadSettings,
    config: ModelConfig,
    model: ModelFile,
    adapter: Path | None,
    log: Log,
) -> LoadSettings:
    """Return the settings that the planner makes of the memory there is."""
    is_auto = (config.kv_type_k, config.kv_type_v) == AUTO_PAIR
    chosen = plan(
        model,
        detect(measures_speed=False),
        # A context that was not asked for may shrink to fit.
        context_length=settings.context_length if config.context_length else 0,
        kv_types=None if is_auto else (settings.kv_type_k, settings.kv_type_v),
        memory_bytes=int(config.memory_gib * 2**30),
        reserved_bytes=adapter.stat().st_size if adapter else 0,
    )
    if not chosen.fits and not config.force:
        raise ModelRefused(f"{model.path.name}: {chosen.reason}, or add --force")
    log(f"{model.path.name}: {chosen.reason}")
    return msgspec.structs.replace(
        settings,
        context_length=chosen.context_length,
        kv_type_k=chosen.kv_type_k,
        kv_type_v=chosen.kv_type_v,
        kv_bytes_per_token=kv_bytes_per_token(model, chosen.kv_type_k, chosen.kv_type_v),
        n_batch=chosen.n_batch,
        n_ubatch=chosen.n_ubatch,
        n_gpu_layers=chosen.n_gpu_layers if config.n_gpu_layers < 0 else config.n_gpu_layers,
    )


def _refuse_what_has_no_room(
    model: ModelFile, context_length: int, pair: tuple[str, str], *, force: bool
) -> None:
    """Refuse a context whose KV cannot be held: Linux would kill some process later instead.

    Weights are mapped from the file and do not count.
    """
    if force:
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
