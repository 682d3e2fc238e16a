"""What a model takes, from its header alone: weights, KV for each type, recurrent state, buffers.

Estimates of what llama.cpp reserves (llama-kv-cache.cpp, llama-hparams.cpp); tests hold them within
10 % of what it reports after loading.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from models.model_file import ModelFile
from models.settings import KV_BLOCKS

PAD_CONTEXT = 256  # llama.cpp rounds a context up to these tokens
# Types (ggml's numbers: Q4_0, Q2_K, Q4_K, IQ4_NL, MXFP4) whose matrices llama.cpp writes anew in
# the order that a CPU reads best: in memory of its own, beside the file where that is mapped.
REPACKED_TYPES = frozenset({2, 10, 12, 20, 39})
QUANTISED = frozenset(kind for kind, (_, n) in KV_BLOCKS.items() if n > 1)
_BLOCK = re.compile(r"^blk\.(\d+)\.")


@dataclass(frozen=True, slots=True)
class Needs:
    """Bytes of a model under certain settings."""

    weights: int
    kv: int
    state: int  # of recurrent layers, all sequences
    compute: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.kv + self.state + self.compute


def needs(
    model: ModelFile,
    context_length: int,
    kv_type_k: str = "q8_0",
    kv_type_v: str = "q8_0",
    *,
    n_ubatch: int = 512,
    n_sequences: int = 4,
    n_outputs: int = 16,
    on_gpu: bool = False,
) -> Needs:
    """Return what `model` takes with a context of `context_length` tokens.

    `on_gpu`: its kernels read a prompt over quantised KV by way of an f16 copy of a layer's.
    """
    n_cells = context_length + -context_length % PAD_CONTEXT
    return Needs(
        weights=sum(tensor.n_bytes for tensor in model.tensors),
        kv=n_cells * kv_bytes_per_token(model, kv_type_k, kv_type_v),
        state=state_bytes(model) * n_sequences,
        compute=compute_bytes(model, n_cells, n_ubatch, n_outputs)
        + on_gpu * n_cells * _expanded_row(model, kv_type_k, kv_type_v),
    )


def kv_bytes_per_token(model: ModelFile, kv_type_k: str, kv_type_v: str) -> int:
    """Return the bytes of one token's K and V over all layers.

    Layers without KV heads (recurrent ones) keep none. Sliding-window layers keep every token:
    docqa loads them so, since otherwise no prefix could be reused. MLA keeps one latent row for
    all heads, and no V.
    """
    if model.kv_lora_rank:
        row = model.head_dim_k if max(model.n_kv_heads) == 1 else 0
        row = row or model.kv_lora_rank + model.rope.dimension_count
        return sum(1 for n in model.n_kv_heads if n) * _row_bytes(kv_type_k, row)
    total = 0
    for n_heads, (dim_k, dim_v) in zip(model.n_kv_heads, _head_dims(model), strict=True):
        total += _row_bytes(kv_type_k, n_heads * dim_k)
        total += _row_bytes(kv_type_v, n_heads * dim_v)
    return total


def _expanded_row(model: ModelFile, kv_type_k: str, kv_type_v: str) -> int:
    """Return the bytes of one token in the f16 copy of the quantised ones of a layer's K and V."""
    rows = [
        n * (k * (kv_type_k in QUANTISED) + v * (kv_type_v in QUANTISED))
        for n, (k, v) in zip(model.n_kv_heads, _head_dims(model), strict=True)
    ]
    return 2 * max(rows)


def _head_dims(model: ModelFile) -> list[tuple[int, int]]:
    """Return (K, V) head sizes of each layer: windows may have their own (Gemma 4)."""
    found = [(model.head_dim_k, model.head_dim_v)] * model.n_layers
    pattern = model.metadata.get(f"{model.architecture}.attention.sliding_window_pattern")
    own = tuple(_number(model, f"attention.{part}_length_swa") for part in ("key", "value"))
    if not isinstance(pattern, np.ndarray) or pattern.size < model.n_layers or not all(own):
        return found
    return [(own[0], own[1]) if pattern[i] else dims for i, dims in enumerate(found)]


def _number(model: ModelFile, key: str) -> int:
    value = model.metadata.get(f"{model.architecture}.{key}", 0)
    return value if isinstance(value, int) else 0


def _row_bytes(kv_type: str, n: int) -> int:
    n_bytes, n_elements = KV_BLOCKS[kv_type]
    return -(-n // n_elements) * n_bytes


def state_bytes(model: ModelFile) -> int:
    """Return the bytes of one sequence's recurrent state (float32) over all recurrent layers."""
    if not model.is_recurrent:
        return 0
    # Where every layer keeps KV, every layer is both (Falcon-H1).
    n_recurrent = sum(1 for n in model.n_kv_heads if n == 0) or model.n_layers
    head, cache = _number(model, "wkv.head_size"), _number(model, "shortconv.l_cache")
    if head:
        shift = _number(model, "token_shift_count") or 2
        row = shift * model.n_embd + model.n_embd * head
    elif cache:
        row = model.n_embd * (cache - 1)
    else:
        inner, states = _number(model, "ssm.inner_size"), _number(model, "ssm.state_size")
        kernel = max(_number(model, "ssm.conv_kernel") - 1, 0)
        groups = _number(model, "ssm.group_count")
        row = kernel * (inner + 2 * groups * states) + states * inner
    return 4 * row * n_recurrent


def compute_bytes(model: ModelFile, n_cells: int, n_ubatch: int, n_outputs: int) -> int:
    """Return the scratch memory of a prefill chunk.

    Activations of one layer at a time (the feed-forward pair and about six rows of the embedding's
    width) or the logits that are asked for, the attention mask in f16, and a copy of some logits.
    """
    stated = model.metadata.get(f"{model.architecture}.feed_forward_length", 0)
    if isinstance(stated, np.ndarray) and stated.size:  # per layer in some files
        stated = int(stated.max())
    n_ff = stated if isinstance(stated, int) else 0
    activations = 4 * n_ubatch * (2 * n_ff + 6 * model.n_embd)
    mask = 2 * n_ubatch * n_cells
    logits = 4 * n_outputs * model.n_vocab
    return max(activations, logits) + mask + logits // 4


def is_repacked(model: ModelFile) -> bool:
    """Whether most of the weights are rewritten for a CPU: then the file is better not mapped.

    Mapped, its pages would stand in memory beside the rewritten ones, twice the model's size.
    """
    total = sum(t.n_bytes for t in model.tensors)
    return 2 * sum(t.n_bytes for t in model.tensors if t.type_id in REPACKED_TYPES) > total


def layer_bytes(model: ModelFile) -> list[int]:
    """Return the bytes of the weights of each layer; the last entry is what is in no layer."""
    found = [0] * (model.n_layers + 1)
    for tensor in model.tensors:
        match = _BLOCK.match(tensor.name)
        layer = int(match.group(1)) if match else model.n_layers
        found[min(layer, model.n_layers)] += tensor.n_bytes
    return found
