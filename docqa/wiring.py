"""The composition root: Config → Workspace. The only module of the core that imports models."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from docqa import doctor
from docqa.config import Config, ModelConfig
from docqa.errors import DocqaError
from docqa.library import Library
from docqa.paths import LibraryPaths
from docqa.process_memory import give_back_large_blocks
from docqa.protocols import Embedder, Engine, Reranker
from docqa.types import EngineInfo
from docqa.workspace import NO_MODEL_NAME, Workspace

if TYPE_CHECKING:
    from models.plan_report import Check as Check  # also for docqa.cli.plan
    from models.plan_report import KvTest as KvTest
    from models.plan_report import PlanReport as PlanReport
    from models.planner import Row as Row


@dataclass(frozen=True, slots=True)
class PlanRow:
    """One context with one pair of KV types: its memory, and estimated times."""

    context_length: int
    kv_type_k: str
    kv_type_v: str
    total_bytes: int
    kv_bytes: int
    fits: bool
    prefill_s: float  # of the whole context
    decode_tokens_s: float  # at its end


def build(
    config: Config,
    *,
    warn: Callable[[str], None] | None = None,
    reads_elsewhere: bool = False,
) -> Workspace:
    """Return a workspace over the library of `config`; models are loaded when first needed.

    `warn` hears what the user should know of the settings, when the language model is opened.
    `reads_elsewhere`: files are read and watched in a process of its own, for a program with a
    screen (docqa/background.py).
    """
    give_back_large_blocks()

    def open_embedder() -> Embedder:
        from models.embedder import open_embedder

        return open_embedder(config.embed)

    def open_engine() -> Engine:
        from models.host import open_engine

        return open_engine(config.model, warn=warn)

    def tokenizer_file() -> Path:
        from models.embedder import PACKAGED, packaged_folder

        is_packaged = config.embed.model == PACKAGED
        folder = packaged_folder() if is_packaged else Path(config.embed.model).expanduser()
        return folder / "tokenizer.json"

    library = _library_class(reads_elsewhere)(
        LibraryPaths(config.library.dir),
        config,
        open_embedder=open_embedder,
        tokenizer_file=tokenizer_file,
    )

    def open_reranker() -> Reranker | None:
        from models.reranker import open_reranker

        if config.retrieve.reranker == "none":
            return None
        return open_reranker(config.retrieve, library.embedder)

    def evict_kv(folder: Path, n_bytes: int, keep: Path | None) -> None:
        from models.kv_file import enforce_quota

        enforce_quota(folder, n_bytes, keep)

    def forget_kv() -> int:
        from models.shared_host import forget

        return forget()

    return Workspace(
        library,
        config,
        open_engine=open_engine,
        open_reranker=open_reranker,
        evict_kv=evict_kv,
        forget_kv=forget_kv,
    )


def _library_class(reads_elsewhere: bool) -> type[Library]:
    if not reads_elsewhere:
        return Library
    from docqa.background import BackgroundLibrary

    return BackgroundLibrary


def seal_process() -> None:
    """Take the network from this process, which runs models, and from its children."""
    from models.processes import seal

    seal()


def change_model(workspace: Workspace, model: ModelConfig) -> None:
    """Load another language model, or the same one anew, in the background."""

    def open_engine() -> Engine:
        from models.host import open_engine

        return open_engine(model)

    workspace.change_engine(open_engine, replace(workspace.config, model=model))


def plan_rows(name: str) -> tuple[str, list[PlanRow]]:
    """Return what fits of a model on this machine, in a sentence and a table; nothing is loaded.

    Raises:
        ModelError: no such model, or its file is refused.
    """
    from models import planner
    from models.catalog import resolve
    from models.hardware import detect
    from models.model_file import read_model

    model, hardware = read_model(resolve(name)), detect()
    chosen = planner.plan(model, hardware)
    rows = [
        PlanRow(
            row.context_length,
            row.kv_type_k,
            row.kv_type_v,
            row.total_bytes,
            row.kv_bytes,
            row.fits,
            row.prefill_s,
            row.decode_tokens_s,
        )
        for row in planner.table(model, hardware)
    ]
    summary = (
        f"{model.name}: {model.n_params / 1e6:,.0f} M parameters, {model.quantisation}, trained "
        f"for {model.context_length:,} tokens. On {hardware.name}: context "
        f"{chosen.context_length:,}, KV {chosen.kv_type_k}/{chosen.kv_type_v}; {chosen.reason}"
    )
    return summary, rows


def plan_model(config: Config) -> PlanReport:
    """Return what fits of the configured model, from its header: `docqa plan`.

    Raises:
        ModelError: no such model, or its file or context is refused.
    """
    from models.plan_report import report

    return report(config)


def check_plan(report: PlanReport, config: ModelConfig) -> list[Check]:
    """Load the model as planned and measure what was estimated: `docqa plan --measure`."""
    from models.plan_report import check

    return check(report, config)


def compare_kv_types(config: ModelConfig, text: str, n_tokens: int) -> KvTest:
    """Compare KV types with f16 on a text of the user's: `docqa plan --test-kv FILE`."""
    from models.plan_report import compare_kv_types

    return compare_kv_types(config, text, n_tokens)


def kv_bytes_of(config: ModelConfig, info: EngineInfo) -> int | None:
    """Return the bytes that the KV of a full context takes; None where that is not known."""
    from models.catalog import resolve
    from models.memory import kv_bytes_per_token
    from models.model_file import read_model

    try:
        model = read_model(resolve(config.path))
        per_token = kv_bytes_per_token(model, info.kv_type_k, info.kv_type_v)
    except (DocqaError, KeyError, ValueError):
        return None
    return int(per_token * info.context_length)


def diagnose(config: Config) -> list[doctor.Finding]:
    """Return what works on this machine and every effective setting: `docqa doctor`."""
    found = doctor.machine() + doctor.ocr(config.parse.ocr_language) + doctor.library(config)
    return found + doctor.confinement(config) + _models(config) + doctor.settings(config)


def _models(config: Config) -> list[doctor.Finding]:
    from models.catalog import resolve
    from models.embedder import open_embedder
    from models.reranker import open_reranker

    found = []
    try:
        if config.model.path == NO_MODEL_NAME:
            found.append(doctor.Finding("model", NO_MODEL_NAME, "as set: answers are quotes"))
        else:
            path = resolve(config.model.path)
            found.append(doctor.Finding("model", config.model.path, str(path)))
            found.append(_offload())
    except DocqaError as error:
        found.append(doctor.failed("model", config.model.path, error))
    try:
        embedder = open_embedder(config.embed)
        found.append(
            doctor.Finding("model", "embedder", f"{embedder.name}, {embedder.dim} numbers")
        )
        if config.retrieve.reranker != "none":
            reranker = open_reranker(config.retrieve, embedder)
            found.append(doctor.Finding("model", "reranker", reranker.name))
    except DocqaError as error:
        found.append(doctor.failed("model", "embedder and reranker", error))
    return found


def _offload() -> doctor.Finding:
    """Say whether the build of llama.cpp can use a GPU, asked in a process of its own."""
    code = "import llama_cpp; print(llama_cpp.llama_supports_gpu_offload())"
    asked = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    can = asked.stdout.strip().endswith("True")
    value = "yes" if can else "no: this build of llama-cpp-python runs on the CPU only"
    return doctor.Finding("model", "gpu offload", value)


def available_models(config: Config) -> list[dict[str, Any]]:
    """Return one record a model that can be named: `docqa models`."""
    from models.catalog import list_models

    return [
        {
            "name": entry.name,
            "path": str(entry.path),
            "source": entry.source,
            "architecture": entry.architecture,
            "quantisation": entry.quantisation,
            "n_bytes": entry.n_bytes,
            "context_length": entry.context_length,
            "is_default": entry.name == config.model.path,
            "problem": entry.problem,
        }
        for entry in list_models()
    ]


def check_library(config: Config, *, is_repaired: bool) -> list[str]:
    """Return what is wrong with the library, in sentences: `docqa check`."""
    from docqa.check import check, repair

    paths = LibraryPaths(config.library.dir)
    findings = repair(paths) if is_repaired else check(paths)
    said = [f"{finding.subject}: {finding.problem}" for finding in findings]
    return said + _bad_kv(paths.kv, is_repaired=is_repaired)


def _bad_kv(folder: Path, *, is_repaired: bool) -> list[str]:
    """Return what is wrong with saved KV; a repair deletes it: it is computed again when needed."""
    from models.kv_check import damaged

    found = list(damaged(folder))
    if is_repaired:
        for path, _ in found:
            path.unlink(missing_ok=True)
        return []
    return [f"saved KV: {reason}" for _, reason in found]


def back_up_library(config: Config, file: Path, *, is_replaced: bool) -> int:
    """Copy the library to a file; return its number of documents: `docqa backup`."""
    from docqa.backup import back_up

    return back_up(LibraryPaths(config.library.dir), file.absolute(), is_replaced=is_replaced)


def restore_library(config: Config, file: Path, *, is_replaced: bool) -> int:
    """Put a backup in place of the library; return its number of documents: `docqa restore`."""
    from docqa.backup import restore

    return restore(LibraryPaths(config.library.dir), file.absolute(), is_replaced=is_replaced)


def engine_status() -> list[str]:
    """Return one line a warm engine of this user: `docqa engine status`."""
    from models.shared_host import status

    return [
        f"pid {e.pid}  {e.model}  {e.state}  {e.n_clients} clients  context {e.context_length}  "
        f"{e.n_cached_tokens} tokens cached  up {e.uptime_s:.0f} s  idle {e.idle_s:.0f} s"
        for e in status()
    ]


def stop_engine() -> list[str]:
    """Stop the warm engines of this user: `docqa engine stop`."""
    from models.shared_host import stop

    n_stopped = stop()
    return [f"stopped {n_stopped} engine{'s' if n_stopped != 1 else ''}"] if n_stopped else []
