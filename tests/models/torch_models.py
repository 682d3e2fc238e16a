"""Small random decoders in GGUF for the torch engine: any family, any weight format."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
import torch

torch.set_num_threads(1)  # on a busy machine threads that wait for each other take ten times


@dataclass(frozen=True)
class Small:
    """Sizes of a small decoder."""

    architecture: str = "llama"
    kind: str = "F32"  # of the matrices
    n_embd: int = 256
    n_heads: int = 4
    n_kv_heads: int = 2
    head_dim: int = 64
    n_ff: int = 512
    n_layers: int = 2
    n_vocab: int = 384
    is_tied: bool = False
    has_bias: bool = False
    has_qk_norm: bool = False
    window: int = 0
    context: int = 2048
    rope_freqs: bool = False


def write_small(path: Path, small: Small, seed: int = 0, extra: dict | None = None) -> Path:
    """Write the model; `extra`: further float tensors by name."""
    rng = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(path, small.architecture)
    writer.add_context_length(small.context)
    writer.add_embedding_length(small.n_embd)
    writer.add_block_count(small.n_layers)
    writer.add_feed_forward_length(small.n_ff)
    writer.add_head_count(small.n_heads)
    writer.add_head_count_kv(small.n_kv_heads)
    writer.add_key_length(small.head_dim)
    writer.add_value_length(small.head_dim)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10_000.0)
    writer.add_rope_dimension_count(small.head_dim)
    if small.window:
        writer.add_sliding_window(small.window)
    writer.add_vocab_size(small.n_vocab)
    tokens = [b"<unk>", b"<s>", b"</s>", *(f"<0x{i:02X}>".encode() for i in range(256))]
    tokens += [f"t{i}".encode() for i in range(small.n_vocab - len(tokens))]
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * small.n_vocab)
    writer.add_token_types([2, 3, 3] + [6] * 256 + [1] * (small.n_vocab - 259))

    def matrix(name: str, n: int, k: int, scale: float = 1.0) -> None:
        values = (rng.standard_normal((n, k)) * scale / k**0.5).astype(np.float32)
        add_matrix(writer, name, values, small.kind, rng)

    def vector(name: str, n: int, around: float = 1.0) -> None:
        writer.add_tensor(name, (around + 0.1 * rng.standard_normal(n)).astype(np.float32))

    e, q, kv = small.n_embd, small.n_heads * small.head_dim, small.n_kv_heads * small.head_dim
    matrix("token_embd.weight", small.n_vocab, e, 16.0)
    vector("output_norm.weight", e)
    if not small.is_tied:
        matrix("output.weight", small.n_vocab, e, 3.0)
    if small.rope_freqs:
        factors = np.linspace(1, 8, small.head_dim // 2, dtype=np.float32)
        writer.add_tensor("rope_freqs.weight", factors)
    for i in range(small.n_layers):
        block = f"blk.{i}."
        vector(block + "attn_norm.weight", e)
        vector(block + "ffn_norm.weight", e)
        for name, n, k in (
            ("attn_q", q, e),
            ("attn_k", kv, e),
            ("attn_v", kv, e),
            ("attn_output", e, q),
            ("ffn_gate", small.n_ff, e),
            ("ffn_up", small.n_ff, e),
            ("ffn_down", e, small.n_ff),
        ):
            matrix(f"{block}{name}.weight", n, k, 2.0 if name in ("attn_q", "attn_k") else 1.0)
        if small.has_bias:
            for name, n in (("attn_q", q), ("attn_k", kv), ("attn_v", kv)):
                vector(f"{block}{name}.bias", n, 0.0)
        if small.has_qk_norm:
            vector(block + "attn_q_norm.weight", small.head_dim)
            vector(block + "attn_k_norm.weight", small.head_dim)
    for name, values in (extra or {}).items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def add_matrix(writer, name, values, kind, rng):
    """Quantise where gguf-py can; k-quants get random blocks whose weights are of that size."""
    quant = gguf.GGMLQuantizationType[kind]
    if kind == "F32":
        writer.add_tensor(name, values)
    elif kind == "F16":
        writer.add_tensor(name, values.astype(np.float16))
    elif kind in ("Q4_K", "Q5_K", "Q6_K"):
        writer.add_tensor(name, k_quant(values, kind, rng), raw_dtype=quant)
    else:
        writer.add_tensor(name, gguf.quants.quantize(values, quant), raw_dtype=quant)


def k_quant(values, kind, rng):
    n, k = values.shape
    size = float(values.std())
    n_bytes = gguf.GGML_QUANT_SIZES[quant_of(kind)][1]
    rows = rng.integers(0, 256, (n, k // 256, n_bytes), dtype=np.uint8)

    def half(at, value):
        rows[..., at : at + 2] = np.array([value], np.float16).view(np.uint8)

    if kind == "Q6_K":  # scales of some 70, codes of some 18
        half(208, size / 70 / 18)
    else:  # scales of some 32, codes of some 8 or 16
        codes = 8 if kind == "Q4_K" else 16
        half(0, size / 32 / codes)
        half(2, size / 32)
    return rows.reshape(n, -1)


def quant_of(kind):
    return gguf.GGMLQuantizationType[kind]


def write_lora(path: Path, small: Small, names=("attn_q", "ffn_down"), rank=4, seed=1) -> Path:
    """Write an adapter for two matrices of every layer, alpha 8."""
    rng = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(path, small.architecture)
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 8.0)
    sizes = {
        "attn_q": (small.n_heads * small.head_dim, small.n_embd),
        "ffn_down": (small.n_embd, small.n_ff),
    }
    for i in range(small.n_layers):
        for name in names:
            n, k = sizes[name]
            a = rng.standard_normal((rank, k)).astype(np.float32) / k**0.5
            b = rng.standard_normal((n, rank)).astype(np.float32) / 4
            writer.add_tensor(f"blk.{i}.{name}.weight.lora_a", a)
            writer.add_tensor(f"blk.{i}.{name}.weight.lora_b", b)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
