"""What a GGUF file says of its model: shape, rope, vocabulary, chat template, quantisation.

`read_model(path)` returns a `ModelFile` or raises `ModelRefused`: what is missing or impossible is
named before llama.cpp sees the file. Splits (`…-00001-of-00003.gguf`) are read as one model.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from docqa.errors import ModelRefused
from models.gguf import Header, StringArray, TensorInfo, Value, read_header

FILE_TYPES: dict[int, str] = {
    0: "F32",
    1: "F16",
    2: "Q4_0",
    3: "Q4_1",
    7: "Q8_0",
    8: "Q5_0",
    9: "Q5_1",
    10: "Q2_K",
    11: "Q3_K_S",
    12: "Q3_K_M",
    13: "Q3_K_L",
    14: "Q4_K_S",
    15: "Q4_K_M",
    16: "Q5_K_S",
    17: "Q5_K_M",
    18: "Q6_K",
    19: "IQ2_XXS",
    20: "IQ2_XS",
    21: "Q2_K_S",
    22: "IQ3_XS",
    23: "IQ3_XXS",
    24: "IQ1_S",
    25: "IQ4_NL",
    26: "IQ3_S",
    27: "IQ3_M",
    28: "IQ2_S",
    29: "IQ2_M",
    30: "IQ4_XS",
    31: "IQ1_M",
    32: "BF16",
    36: "TQ1_0",
    37: "TQ2_0",
    38: "MXFP4",
    39: "NVFP4",
}

ENCODERS = ("bert", "nomic-bert", "jina-bert-v2", "jina-bert-v3", "modern-bert", "t5encoder")
_SPLIT = re.compile(r"^(?P<stem>.*)-(?P<no>\d{5})-of-(?P<count>\d{5})\.gguf$")


@dataclass(frozen=True, slots=True)
class Rope:
    """The rotary embedding as the file states it; None or 0 where it is silent."""

    freq_base: float  # 10,000 where silent, as in llama.cpp
    dimension_count: int
    scaling: str  # none | linear | yarn | longrope | dynamic; "" where silent
    factor: float
    original_context_length: int
    attn_factor: float
    has_factors: bool  # a rope_freqs / rope_factors tensor: Llama-3.1 scaling, LongRoPE

    @property
    def is_extended(self) -> bool:
        """Whether the file itself already stretches its positions."""
        return self.has_factors or (self.scaling not in ("", "none") and self.factor != 1.0)


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The tokenizer's data. `types`: 1 normal, 2 unknown, 3 control, 4 user, 5 unused, 6 byte."""

    model: str  # gpt2 (BPE), llama (SentencePiece), bert, t5, rwkv …
    pre: str
    tokens: StringArray
    merges: StringArray | None
    types: npt.NDArray[np.int32]
    bos: int | None
    eos: int | None
    add_bos: bool | None  # None: the file is silent, and llama.cpp decides by the kind
    add_eos: bool | None
    add_space_prefix: bool | None


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A model as its file describes it. Counts are per model, heads per layer."""

    path: Path
    parts: tuple[Path, ...]  # the files, the first one first
    architecture: str
    name: str
    n_layers: int
    n_embd: int
    n_heads: tuple[int, ...]  # (n_layers,)
    n_kv_heads: tuple[int, ...]  # (n_layers,); 0 where a layer keeps no KV
    head_dim_k: int
    head_dim_v: int
    context_length: int  # the trained one
    n_vocab: int
    rope: Rope
    sliding_window: int  # 0: none
    kv_lora_rank: int  # of MLA; 0: none
    is_recurrent: bool  # at least some layers keep a state instead of KV
    quantisation: str
    n_bytes: int  # of all parts
    n_params: int
    tensors: tuple[TensorInfo, ...]
    vocabulary: Vocabulary
    chat_template: str | None
    metadata: Mapping[str, Value]

    @property
    def is_adapter(self) -> bool:
        """Whether this is a LoRA and no model."""
        return self.metadata.get("general.type") == "adapter"


def read_model(path: Path) -> ModelFile:
    """Return the checked description of the model in `path`.

    Raises:
        ModelNotFound: the file, or a part of a split model, is not there.
        ModelRefused: not a language model in GGUF, or one that is broken.
    """
    first = read_header(path)
    headers = [first, *(read_header(part) for part in _other_parts(first))]
    fields = _Fields(path, first.metadata)
    if fields.text("general.type") not in ("", "model"):
        raise fields.refused(f"is no model but of the type {fields.text('general.type')[:80]!r}")
    return _model(fields, headers)


def _other_parts(first: Header) -> list[Path]:
    """Return the further files of a split model."""
    count = first.metadata.get("split.count", 1)
    if not isinstance(count, int) or count < 2:
        return []
    match = _SPLIT.match(first.path.name)
    if match is None or int(match["no"]) != 1 or int(match["count"]) != count:
        raise ModelRefused(
            f"{first.path}: one of {count} parts; name the first, which ends in "
            f"-00001-of-{count:05d}.gguf"
        )
    stem = match["stem"]
    return [
        first.path.with_name(f"{stem}-{no:05d}-of-{count:05d}.gguf") for no in range(2, count + 1)
    ]


class _Fields:
    """Typed access to the metadata; what is missing or of the wrong kind is refused by name."""

    def __init__(self, path: Path, metadata: Mapping[str, Value]) -> None:
        self.path, self.metadata = path, metadata
        self.architecture = self.text("general.architecture")
        if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", self.architecture):
            raise self.refused("states no architecture")

    def refused(self, problem: str) -> ModelRefused:
        return ModelRefused(f"{self.path}: {problem}")

    def text(self, key: str) -> str:
        value = self.metadata.get(key, "")
        if not isinstance(value, str):
            raise self.refused(f"metadata {key!r} is no text")
        return value

    def flag(self, key: str) -> bool | None:
        value = self.metadata.get(key)
        return value if isinstance(value, bool) else None

    def integer(
        self, key: str, default: int | None = None, low: int = 0, high: int = 1 << 31
    ) -> int:
        """Return `<architecture>.<key>` within [low, high)."""
        name = f"{self.architecture}.{key}"
        value = self.metadata.get(name, default)
        if isinstance(value, np.ndarray) and value.size:
            value = int(value.max())
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.refused(f"metadata {name!r} is missing or no number")
        if not low <= value < high:
            raise self.refused(f"metadata {name!r} is {value}, which no model has")
        return value

    def number(self, key: str, default: float) -> float:
        value = self.metadata.get(f"{self.architecture}.{key}", default)
        if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
            raise self.refused(f"metadata {self.architecture}.{key} is no number")
        return float(value)

    def per_layer(self, key: str, n_layers: int, default: int) -> tuple[int, ...]:
        """Return `<architecture>.<key>` for every layer; one number stands for all."""
        value = self.metadata.get(f"{self.architecture}.{key}")
        if not isinstance(value, np.ndarray):
            return (self.integer(key, default, 0, 1 << 16),) * n_layers
        if value.dtype.kind not in "iu" or value.size < n_layers:
            raise self.refused(f"metadata {self.architecture}.{key} has too few layers")
        counts = tuple(int(v) for v in value[:n_layers])
        if not all(0 <= v < 1 << 16 for v in counts):
            raise self.refused(f"metadata {self.architecture}.{key} is impossible")
        return counts

    def strings(self, key: str) -> StringArray | None:
        value = self.metadata.get(key)
        return value if isinstance(value, StringArray) else None

    def token(self, key: str, n_vocab: int) -> int | None:
        value = self.metadata.get(f"tokenizer.ggml.{key}")
        if not isinstance(value, int) or isinstance(value, bool):
            return None
        if not 0 <= value < n_vocab:
            # Some files write 0xFFFFFFFF for "none".
            return None
        return value


def _model(fields: _Fields, headers: list[Header]) -> ModelFile:
    n_layers = fields.integer("block_count", low=1, high=1024)
    n_embd = fields.integer("embedding_length", low=1, high=1 << 20)
    n_heads = fields.per_layer("attention.head_count", n_layers, 0)
    n_kv_heads = _kv_heads(fields, n_layers, max(n_heads))
    most = max(n_heads)
    head_dim = n_embd // most if most else 0
    tensors = tuple(t for header in headers for t in header.tensors)
    if not tensors:
        raise fields.refused("holds no weights (a vocabulary only?)")
    vocabulary = _vocabulary(fields)
    rope = _rope(fields, tensors)
    head_dim_k = fields.integer("attention.key_length", head_dim, 0, 1 << 16)
    if 0 < head_dim_k < rope.dimension_count:  # llama.cpp aborts
        raise fields.refused(
            f"turns {rope.dimension_count} numbers of heads that have {head_dim_k} (rope)"
        )
    template = fields.text("tokenizer.chat_template")
    file_type = fields.metadata.get("general.file_type")
    return ModelFile(
        path=fields.path,
        parts=tuple(header.path for header in headers),
        architecture=fields.architecture,
        name=fields.text("general.name") or fields.path.stem,
        n_layers=n_layers,
        n_embd=n_embd,
        n_heads=n_heads,
        n_kv_heads=n_kv_heads,
        head_dim_k=head_dim_k,
        head_dim_v=fields.integer("attention.value_length", head_dim, 0, 1 << 16),
        context_length=fields.integer("context_length", low=1),
        n_vocab=len(vocabulary.tokens),
        rope=rope,
        sliding_window=fields.integer("attention.sliding_window", 0, 0, 1 << 31),
        kv_lora_rank=fields.integer("attention.kv_lora_rank", 0, 0, 1 << 20),
        is_recurrent=_is_recurrent(fields),
        quantisation=FILE_TYPES.get(file_type, "") if isinstance(file_type, int) else "",
        n_bytes=sum(header.n_bytes for header in headers),
        n_params=sum(int(np.prod(t.shape, dtype=np.int64)) for t in tensors),
        tensors=tensors,
        vocabulary=vocabulary,
        chat_template=template or None,
        metadata=fields.metadata,
    )


def _kv_heads(fields: _Fields, n_layers: int, n_heads: int) -> tuple[int, ...]:
    """Return the KV heads of each layer, 0 where it keeps none.

    Some hybrids state one number for all and, beside it, which layers are recurrent instead:
    a list, or that every n-th is not (Qwen3.5). Others let the last layers read an earlier one's
    KV (Gemma 3n and 4).
    """
    counts = list(fields.per_layer("attention.head_count_kv", n_layers, n_heads))
    interval = fields.integer("full_attention_interval", 0, 0, 1 << 16)
    recurrent = fields.metadata.get(f"{fields.architecture}.attention.recurrent_layers")
    if isinstance(recurrent, np.ndarray) and recurrent.size >= n_layers:
        counts = [0 if recurrent[i] else n for i, n in enumerate(counts)]
    elif interval and _is_recurrent(fields):
        counts = [0 if (i + 1) % interval else n for i, n in enumerate(counts)]
    n_shared = fields.integer("attention.shared_kv_layers", 0, 0, 1 << 16)
    n_own = max(n_layers - n_shared, 0)
    return (*counts[:n_own], *(0 for _ in counts[n_own:]))


def _is_recurrent(fields: _Fields) -> bool:
    keys = ("ssm.state_size", "wkv.head_size", "shortconv.l_cache", "kda.head_dim")
    return any(f"{fields.architecture}.{key}" in fields.metadata for key in keys)


def _rope(fields: _Fields, tensors: tuple[TensorInfo, ...]) -> Rope:
    scaling = fields.text(f"{fields.architecture}.rope.scaling.type")
    factor = fields.number("rope.scaling.factor", 0.0) or fields.number("rope.scale_linear", 0.0)
    if not scaling and factor not in (0.0, 1.0):
        scaling = "linear"  # what old files mean by a bare factor
    return Rope(
        freq_base=fields.number("rope.freq_base", 10_000.0),
        dimension_count=fields.integer("rope.dimension_count", 0, 0, 1 << 16),
        scaling=scaling,
        factor=factor or 1.0,
        original_context_length=fields.integer("rope.scaling.original_context_length", 0),
        attn_factor=fields.number("rope.scaling.attn_factor", 1.0),
        has_factors=any("rope_freqs" in t.name or "rope_factors" in t.name for t in tensors),
    )


def _vocabulary(fields: _Fields) -> Vocabulary:
    tokens = fields.strings("tokenizer.ggml.tokens")
    if tokens is None or not len(tokens):
        raise fields.refused("holds no vocabulary")
    n_vocab = len(tokens)
    named = [token for token in tokens.raw() if token]  # llama.cpp gives the empty ones names
    if len(set(named)) != len(named):  # and aborts on a second one of the same name
        raise fields.refused("has the same token twice in its vocabulary")
    types = fields.metadata.get("tokenizer.ggml.token_type")
    if types is None:
        types = np.ones(n_vocab, np.int32)
    if not isinstance(types, np.ndarray) or types.size < n_vocab:
        raise fields.refused("has token types for only a part of its vocabulary")
    scores = fields.metadata.get("tokenizer.ggml.scores")
    if scores is not None and (not isinstance(scores, np.ndarray) or scores.size < n_vocab):
        raise fields.refused("has scores for only a part of its vocabulary")
    return Vocabulary(
        model=fields.text("tokenizer.ggml.model"),
        pre=fields.text("tokenizer.ggml.pre"),
        tokens=tokens,
        merges=fields.strings("tokenizer.ggml.merges"),
        types=types[:n_vocab].astype(np.int32),
        bos=fields.token("bos_token_id", n_vocab),
        eos=fields.token("eos_token_id", n_vocab),
        add_bos=fields.flag("tokenizer.ggml.add_bos_token"),
        add_eos=fields.flag("tokenizer.ggml.add_eos_token"),
        add_space_prefix=fields.flag("tokenizer.ggml.add_space_prefix"),
    )
