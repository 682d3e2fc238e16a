"""How a model is loaded: what crosses from the caller to the engine's process."""

from __future__ import annotations

import hashlib

import msgspec

# Names of `[model] kv_type_k` and `kv_type_v` → ggml's types.
KV_TYPES: dict[str, int] = {"f16": 1, "q4_0": 2, "q8_0": 8, "bf16": 30}

# (bytes of a block, elements of a block)
KV_BLOCKS: dict[str, tuple[int, int]] = {
    "f16": (2, 1),
    "bf16": (2, 1),
    "q8_0": (34, 32),
    "q4_0": (18, 32),
}

# The pairs (K, V) for which every build has an attention kernel. A GPU computes others by
# expanding the whole cache to f16 at each step (ggml-cuda/fattn.cu), slower and in more memory than
# f16 itself would take.
KV_PAIRS: tuple[tuple[str, str], ...] = (
    ("f16", "f16"),
    ("bf16", "bf16"),
    ("q8_0", "q8_0"),
    ("q4_0", "q4_0"),
)


# What the torch engine can drop of a prompt's KV (`models.compression`).
EVICTIONS = ("streaming", "h2o", "snapkv", "kvzip")


def working_pairs(*, has_gpu: bool) -> tuple[tuple[str, str], ...]:
    """Return the pairs (K, V) that a build computes without a detour: a CPU's kernels mix all."""
    if has_gpu:
        return KV_PAIRS
    kinds = tuple(KV_TYPES)
    mixed = tuple((k, v) for k in kinds for v in kinds if k != v)
    return KV_PAIRS + mixed


class RopeSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Positions, as llama.cpp takes them. 0 and -1 mean: as the file says."""

    scaling: int = -1  # -1 the file's, 0 none, 1 linear, 2 YaRN, 3 LongRoPE
    freq_base: float = 0.0
    freq_scale: float = 0.0  # 1 / factor
    original_context: int = 0
    ext_factor: float = -1.0
    beta_fast: float = -1.0
    beta_slow: float = -1.0


class AdapterSettings(msgspec.Struct, frozen=True, kw_only=True):
    """A LoRA on top of the model."""

    path: str
    scale: float = 1.0


class LoadSettings(msgspec.Struct, frozen=True, kw_only=True):
    """A model and everything that changes what it computes or how fast."""

    path: str
    context_length: int
    engine: str = "llama"  # llama | torch
    adapters: tuple[AdapterSettings, ...] = ()
    kv_type_k: str = "q8_0"
    kv_type_v: str = "q8_0"
    kv_bytes_per_token: int = 0  # of these types; only reported
    n_batch: int = 512  # tokens of a prefill chunk
    n_ubatch: int = 512
    n_threads: int = 1
    adapts_threads: bool = False  # use fewer while other programs want the cores
    n_gpu_layers: int = -1
    n_sequences: int = 4  # conversations whose KV is kept side by side
    guesses: bool = True  # prompt lookup for greedy answers: the same text, sooner
    kv_ram_bytes: int = 512 << 20  # of KV kept in RAM when a conversation leaves the context
    rope: RopeSettings = RopeSettings()
    eviction: str = ""  # method of `models.compression`; torch engine only
    eviction_keep: float = 1.0  # share of the prompt's KV that stays
    maps_file: bool = True  # weights stay in the file; False: read into memory, where they change
    wish: str = ""  # digest of what the user asked for; the rest follows from it and the machine


def settings_digest(settings: LoadSettings) -> str:
    """Return what two callers must have in common to share an engine: what they wish.

    Not what was chosen for it: that depends on the memory that was free, and the engine that runs
    has taken some.
    """
    return settings.wish or hashlib.sha256(msgspec.msgpack.encode(settings)).hexdigest()[:32]
