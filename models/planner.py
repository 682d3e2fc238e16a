"""What fits, before anything is loaded: context, KV types, layers on the GPU, batch sizes.

One dial, the memory that may be used, decides. `plan` chooses; `table` shows the alternatives with
their memory and estimated times (marked as estimates: bandwidth and arithmetic, no more).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from models.hardware import Hardware
from models.memory import Needs, kv_bytes_per_token, layer_bytes, needs
from models.model_file import ModelFile
from models.rope import AUTO_CONTEXT, MOST_STRETCH
from models.settings import KV_PAIRS

SHARE = 0.9  # of the free memory: the rest is for the system, fragmentation, the desktop
GPU_OVERHEAD_BYTES = 600 << 20  # the driver's context and llama.cpp's pools, on an H200
SMALL_PARAMS = 6_000_000_000  # below, q4_0 KV is offered but never chosen: it costs too much
CONTEXTS = (2048, 4096, 8192, 16384, 32768, 65536, 131072, 262144)
LEAST_CONTEXT = 512
GPU_UBATCH, CPU_UBATCH = 1024, 512


@dataclass(frozen=True, slots=True)
class Plan:
    """How to load a model on this machine."""

    context_length: int
    kv_type_k: str
    kv_type_v: str
    n_gpu_layers: int  # of n_layers + 1: the last is the output
    n_batch: int
    n_ubatch: int
    needs: Needs
    budget_bytes: int
    fits: bool
    reason: str  # one sentence

    @property
    def is_on_gpu(self) -> bool:
        """Whether any layer is."""
        return self.n_gpu_layers > 0


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table: one context with one pair of KV types. Times are estimates."""

    context_length: int
    kv_type_k: str
    kv_type_v: str
    total_bytes: int
    kv_bytes: int
    fits: bool
    prefill_s: float  # of the whole context
    decode_tokens_s: float  # at its end
    restore_s: float  # of its KV from disk, instead of the prefill


def plan(
    model: ModelFile,
    hardware: Hardware,
    *,
    context_length: int = 0,
    kv_types: tuple[str, str] | None = None,
    memory_bytes: int = 0,
    reserved_bytes: int = 0,
) -> Plan:
    """Return how to load `model` within the memory there is.

    Args:
        model: what its header says.
        hardware: where it is to run.
        context_length: tokens wished; 0: the trained length, 8192 at most, less where that does
            not fit.
        kv_types: (K, V) wished; None: q8_0, or q4_0 where a large model fits only so.
        memory_bytes: the dial; 0: nine tenths of what is free.
        reserved_bytes: of adapters, embedder and reranker beside it.
    """
    on_gpu = hardware.vram_bytes > GPU_OVERHEAD_BYTES
    n_ubatch = GPU_UBATCH if on_gpu else CPU_UBATCH
    free = hardware.vram_bytes - GPU_OVERHEAD_BYTES if on_gpu else hardware.ram_bytes
    budget = min(memory_bytes or int(SHARE * free), free) - reserved_bytes
    wished = context_length or min(model.context_length, AUTO_CONTEXT)
    pairs = [kv_types] if kv_types else [("q8_0", "q8_0")]
    if not kv_types and model.n_params >= SMALL_PARAMS:
        pairs.append(("q4_0", "q4_0"))
    for pair in pairs:
        found = needs(model, wished, *pair, n_ubatch=n_ubatch, on_gpu=on_gpu)
        if found.total <= budget:
            layers = model.n_layers + 1 if on_gpu else 0
            text = "fits" + (f" on {hardware.name}" if on_gpu else "")
            return Plan(wished, *pair, layers, *_batches(n_ubatch), found, budget, True, text)
    if on_gpu:
        return _split(model, hardware, wished, pairs[-1], budget, n_ubatch, reserved_bytes)
    return _shorter(model, wished, pairs[-1], budget, n_ubatch, is_fixed=context_length > 0)


def _batches(n_ubatch: int) -> tuple[int, int]:
    """Return (n_batch, n_ubatch): a chunk of prefill is one micro-batch, so cancels are heard."""
    return n_ubatch, n_ubatch


def _split(
    model: ModelFile,
    hardware: Hardware,
    context: int,
    pair: tuple[str, str],
    budget: int,
    n_ubatch: int,
    reserved: int,
) -> Plan:
    """Return a plan with as many layers on the GPU as fit, each with its KV; the rest in RAM."""
    found = needs(model, context, *pair, n_ubatch=n_ubatch, on_gpu=True)
    kv_of_layer = found.kv // model.n_layers
    left, n = budget - found.compute, 0
    for weights in reversed(layer_bytes(model)[:-1]):  # llama.cpp offloads the last layers first
        if left < weights + kv_of_layer:
            break
        left -= weights + kv_of_layer
        n += 1
    in_ram = found.total - found.compute - (budget - found.compute - left)
    fits = in_ram + reserved <= SHARE * hardware.ram_bytes
    reason = f"{n} of {model.n_layers} layers fit on {hardware.name}; the rest runs on the CPU"
    return Plan(context, *pair, n, *_batches(n_ubatch), found, budget, fits, reason)


def _shorter(
    model: ModelFile,
    wished: int,
    pair: tuple[str, str],
    budget: int,
    n_ubatch: int,
    *,
    is_fixed: bool,
) -> Plan:
    """Return a plan with the longest context that fits; one that was asked for is not cut."""
    context = wished
    if not is_fixed:
        fixed = needs(model, 0, *pair, n_ubatch=n_ubatch)
        per_token = kv_bytes_per_token(model, *pair) + 2 * n_ubatch
        context = min(wished, (budget - fixed.total) // max(per_token, 1) // 256 * 256)
        context = max(context, LEAST_CONTEXT)
    found = needs(model, context, *pair, n_ubatch=n_ubatch)
    fits = found.total <= budget
    if fits:
        reason = f"a context of {wished} does not fit; {context} does"
    else:
        reason = (
            f"needs {found.total / 2**30:.1f} GiB and {max(budget, 0) / 2**30:.1f} are free: take "
            "a smaller model or a shorter context"
        )
    return Plan(context, *pair, 0, *_batches(n_ubatch), found, budget, fits, reason)


def table(
    model: ModelFile,
    hardware: Hardware,
    memory_bytes: int = 0,
    reserved_bytes: int = 0,
    *,
    contexts: Sequence[int] = CONTEXTS,
    also: tuple[str, str] | None = None,
    speeds: Mapping[tuple[str, str], Hardware] = MappingProxyType({}),
) -> list[Row]:
    """Return context × KV types, contexts up to 8 times the trained one.

    `also`: a pair of types beside f16, q8_0 and q4_0. `reserved_bytes` count into `total_bytes`.
    `speeds`: the machine as it was measured with a pair, for the times of its rows.
    """
    on_gpu = hardware.vram_bytes > GPU_OVERHEAD_BYTES
    free = hardware.vram_bytes - GPU_OVERHEAD_BYTES if on_gpu else hardware.ram_bytes
    budget = min(memory_bytes or int(SHARE * free), free)
    n_ubatch = GPU_UBATCH if on_gpu else CPU_UBATCH
    pairs = [pair for pair in KV_PAIRS if pair[0] != "bf16"]
    pairs += [also] if also and also not in pairs else []
    rows = []
    for context in contexts:
        if context > MOST_STRETCH * model.context_length:
            break
        for pair in pairs:
            if not _is_possible(model, pair):
                continue
            found = needs(model, context, *pair, n_ubatch=n_ubatch, on_gpu=on_gpu)
            total = found.total + reserved_bytes
            machine = speeds.get(pair, hardware)
            rows.append(_row(model, machine, context, pair, found, total, total <= budget))
    return rows


def _is_possible(model: ModelFile, pair: tuple[str, str]) -> bool:
    dims = (model.head_dim_k, model.head_dim_v)
    return all(kind in ("f16", "bf16") or not d % 32 for kind, d in zip(pair, dims, strict=True))


def _row(
    model: ModelFile,
    hardware: Hardware,
    context: int,
    pair: tuple[str, str],
    found: Needs,
    total_bytes: int,
    fits: bool,
) -> Row:
    return Row(
        context,
        *pair,
        total_bytes,
        found.kv,
        fits,
        prefill_s(model, hardware, context),
        1.0 / decode_s(model, hardware, found.kv),
        found.kv / hardware.disk_bytes_s,
    )


def prefill_s(model: ModelFile, hardware: Hardware, n_tokens: int) -> float:
    """Return the estimated seconds to read a prompt of `n_tokens`."""
    attention = attention_flops(model, n_tokens)
    products = prefill_flops(model, n_tokens) - attention
    rate = hardware.attention_flops_s or hardware.flops_s
    passes_s = hardware.token_layer_s * model.n_layers * n_tokens
    return products / hardware.flops_s + attention / rate + passes_s


def decode_s(model: ModelFile, hardware: Hardware, kv_bytes: int) -> float:
    """Return the estimated seconds of a token that reads `kv_bytes` of KV."""
    kv_rate = hardware.kv_bytes_s or hardware.bytes_s
    read_s = active_bytes(model) / hardware.bytes_s + kv_bytes / kv_rate
    return hardware.layer_s * model.n_layers + read_s


def active_bytes(model: ModelFile) -> int:
    """Return the bytes of weights that one token reads: of a mixture, the experts in use."""
    total = sum(t.n_bytes for t in model.tensors) - looked_up_bytes(model)
    n_experts = model.metadata.get(f"{model.architecture}.expert_count", 0)
    n_used = model.metadata.get(f"{model.architecture}.expert_used_count", 0)
    if not (isinstance(n_experts, int) and isinstance(n_used, int) and 0 < n_used < n_experts):
        return total
    experts = sum(t.n_bytes for t in model.tensors if "_exps." in t.name)
    return total - experts + experts * n_used // n_experts


def looked_up_bytes(model: ModelFile) -> int:
    """Return the bytes of an embedding table of which a token reads one row only.

    Where there is no output matrix the table is that, too, and is read whole.
    """
    sizes = {t.name: t.n_bytes for t in model.tensors}
    return sizes.get("token_embd.weight", 0) if "output.weight" in sizes else 0


def prefill_flops(model: ModelFile, n_tokens: int) -> float:
    """Return 2 · parameters · tokens, and the attention.

    Of the parameters those of the layers: logits are computed for the last token only.
    """
    total = max(sum(t.n_bytes for t in model.tensors), 1)
    share = active_bytes(model) / (total - looked_up_bytes(model) or 1)
    n_elements = sum(
        int(np.prod(t.shape, dtype=np.int64))
        for t in model.tensors
        if t.name not in ("token_embd.weight", "output.weight")
    )
    return 2.0 * n_elements * share * n_tokens + attention_flops(model, n_tokens)


def attention_flops(model: ModelFile, n_tokens: int) -> float:
    """Return 2 · tokens² / 2 · heads · (d_k + d_v): each token looks back at half, on average.

    A layer that keeps no KV has no attention; a sliding window is computed like the others, masked.
    """
    heads = sum(n for n, kv in zip(model.n_heads, model.n_kv_heads, strict=True) if kv)
    return 1.0 * n_tokens**2 * heads * (model.head_dim_k + model.head_dim_v)
