"""Which decoders the torch engine runs: a GGUF's shape, checked whole before anything is allocated.

`shape_of(model)` accepts the llama, qwen2, qwen3 and mistral families (dense): grouped-query
attention, RMSNorm, SwiGLU, optional norms of Q and K, optional biases, tied or separate output,
sliding windows. Anything else – another architecture, experts, a tensor that is missing, surplus,
of another shape or of a type without dequantisation – is a `ModelRefused` that names it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from docqa.errors import ModelRefused
from models.gguf import TensorInfo
from models.model_file import ModelFile

# architecture → whether rotary pairs are neighbours (2i, 2i+1) instead of halves (i, i + d/2).
# The converter to GGUF permutes Q and K of the llama family so that they are.
ARCHITECTURES: dict[str, bool] = {
    "llama": True,
    "mistral3": True,
    "qwen2": False,
    "qwen3": False,
}
WEIGHT_TYPES = frozenset(
    ("F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K")
)
ROPE_TENSORS = ("rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight")
MAX_HEAD_DIM = 256


@dataclass(frozen=True, slots=True)
class Shape:
    """A decoder's sizes. Every layer has the same."""

    architecture: str
    n_layers: int
    n_embd: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    n_ff: int
    n_vocab: int
    eps: float
    rope_dim: int
    is_interleaved: bool  # rotary pairs are neighbours
    has_qk_norm: bool
    is_tied: bool  # the output shares the embedding's weights
    window: int  # tokens that a token sees, itself included; 0: all

    @property
    def group(self) -> int:
        """Query heads of one KV head."""
        return self.n_heads // self.n_kv_heads


def shape_of(model: ModelFile) -> Shape:
    """Return the shape of a model that the torch engine runs.

    Raises:
        ModelRefused: it cannot; the message names what stands in the way.
    """
    _refuse_family(model)
    tensors = {t.name: t for t in model.tensors}
    n_heads, n_kv_heads, head_dim = model.n_heads[0], model.n_kv_heads[0], model.head_dim_k
    shape = Shape(
        architecture=model.architecture,
        n_layers=model.n_layers,
        n_embd=model.n_embd,
        n_heads=n_heads,
        n_kv_heads=n_kv_heads,
        head_dim=head_dim,
        n_ff=int(_number(model, "feed_forward_length", 0)),
        n_vocab=_rows(model, tensors, "token_embd.weight"),
        eps=_number(model, "attention.layer_norm_rms_epsilon", 0.0),
        rope_dim=model.rope.dimension_count or head_dim,
        is_interleaved=ARCHITECTURES[model.architecture],
        has_qk_norm="blk.0.attn_q_norm.weight" in tensors,
        is_tied="output.weight" not in tensors,
        window=0,  # llama.cpp reads the key for none of these families (a test compares)
    )
    _refuse_sizes(model, shape)
    _refuse_tensors(model, shape, tensors)
    return shape


def refuse_engine(engine: str, model: ModelFile) -> None:
    """Refuse an engine that there is not, or a model that the torch engine does not run.

    Raises:
        ModelRefused: with the reason.
    """
    if engine != "torch":
        raise ModelRefused(f"engine {engine!r}: choose one of llama, torch")
    shape_of(model)


def refused(model: ModelFile, problem: str) -> ModelRefused:
    """Return the error of a model that the torch engine does not run."""
    return ModelRefused(
        f"{model.path.name}: the torch engine cannot run it: {problem}; use --engine llama"
    )


def _refuse_family(model: ModelFile) -> None:
    if model.architecture not in ARCHITECTURES:
        known = ", ".join(sorted(ARCHITECTURES))
        raise refused(model, f"architecture {model.architecture!r} is not one of {known}")
    if _number(model, "expert_count", 0):
        raise refused(model, "it has experts (MoE)")
    if model.is_recurrent or model.kv_lora_rank:
        raise refused(model, "not every layer keeps plain K and V")
    if len(set(model.n_heads)) > 1 or len(set(model.n_kv_heads)) > 1:
        raise refused(model, "its layers have different numbers of heads")


def _refuse_sizes(model: ModelFile, shape: Shape) -> None:
    if shape.n_kv_heads < 1 or shape.n_heads % shape.n_kv_heads:
        raise refused(model, f"{shape.n_heads} heads share {shape.n_kv_heads} KV heads")
    if model.head_dim_v != shape.head_dim:
        raise refused(model, f"heads of {shape.head_dim} for K and {model.head_dim_v} for V")
    if shape.head_dim % 2 or not 0 < shape.head_dim <= MAX_HEAD_DIM:
        raise refused(model, f"heads of {shape.head_dim} dimensions")
    if shape.rope_dim % 2 or shape.rope_dim > shape.head_dim:
        raise refused(model, f"{shape.rope_dim} rotated dimensions of {shape.head_dim}")
    if not 0 < shape.eps < 1:
        raise refused(model, f"an epsilon of {shape.eps} in its norms")
    if shape.n_vocab < model.n_vocab:
        raise refused(model, f"{shape.n_vocab} embeddings for {model.n_vocab} tokens")


def expected_tensors(shape: Shape) -> dict[str, tuple[int, ...]]:
    """Return name → ggml shape (contiguous first) of every tensor that the decoder must have."""
    e, q, kv = shape.n_embd, shape.n_heads * shape.head_dim, shape.n_kv_heads * shape.head_dim
    found: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (e, shape.n_vocab),
        "output_norm.weight": (e,),
    }
    if not shape.is_tied:
        found["output.weight"] = (e, shape.n_vocab)
    for i in range(shape.n_layers):
        block = {
            "attn_norm": (e,),
            "attn_q": (e, q),
            "attn_k": (e, kv),
            "attn_v": (e, kv),
            "attn_output": (q, e),
            "ffn_norm": (e,),
            "ffn_gate": (e, shape.n_ff),
            "ffn_up": (e, shape.n_ff),
            "ffn_down": (shape.n_ff, e),
        }
        if shape.has_qk_norm:
            block |= {"attn_q_norm": (shape.head_dim,), "attn_k_norm": (shape.head_dim,)}
        found |= {f"blk.{i}.{name}.weight": dims for name, dims in block.items()}
    return found


def optional_biases(shape: Shape) -> dict[str, tuple[int, ...]]:
    """Return name → shape of the biases that a family may have."""
    weights = expected_tensors(shape)
    return {
        name.removesuffix(".weight") + ".bias": dims[1:]
        for name, dims in weights.items()
        if len(dims) == 2 and name.startswith("blk.")
    }


def _refuse_tensors(model: ModelFile, shape: Shape, tensors: Mapping[str, TensorInfo]) -> None:
    expected, biases = expected_tensors(shape), optional_biases(shape)
    for name, dims in expected.items():
        if name not in tensors:
            raise refused(model, f"tensor {name!r} is missing")
        if tensors[name].shape != dims:
            raise refused(model, f"tensor {name!r} has the shape {tensors[name].shape}, not {dims}")
    for name, tensor in tensors.items():
        if name in biases and tensor.shape != biases[name]:
            raise refused(model, f"tensor {name!r} has the shape {tensor.shape}")
        if name not in expected and name not in biases and name not in ROPE_TENSORS:
            raise refused(model, f"tensor {name!r} is none that it knows")
        if tensor.type_name not in WEIGHT_TYPES:
            raise refused(model, f"tensor {name!r} is of the type {tensor.type_name}")


def _number(model: ModelFile, key: str, default: float) -> float:
    value = model.metadata.get(f"{model.architecture}.{key}", default)
    if isinstance(value, np.ndarray) and value.size:
        sizes = {float(v) for v in value.ravel()}
        if len(sizes) > 1:
            raise refused(model, f"its layers differ in {key}")
        return sizes.pop()
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise refused(model, f"metadata {key!r} is no number")
    return float(value)


def _rows(model: ModelFile, tensors: Mapping[str, TensorInfo], name: str) -> int:
    if name not in tensors or len(tensors[name].shape) != 2:
        raise refused(model, f"tensor {name!r} is missing")
    return tensors[name].shape[1]
