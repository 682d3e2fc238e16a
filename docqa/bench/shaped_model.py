"""Writes a GGUF of random weights in a real model's shape: for speed and memory, its text is noise.

    python -m docqa.bench.shaped_model OUT.gguf --shape 8b

Weights are Q4_K blocks as large as a trained model's begin: activations stay near 1 at any depth,
so that float16 holds them. `8b` is Llama-3-8B's shape with a vocabulary of 32,000 (3.8 GiB, seconds
to write); `1b` and `tiny` are for dry runs.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np

N_VOCAB, N_BYTES = 32_000, 256
Q4_K_ELEMENTS, Q4_K_BYTES = 256, 144
# A weight is d · scale · q - dmin · m, all but d and dmin uniformly random here: scale and m of 6
# bits, q of 4. Its mean is 0 where dmin is 7.5 d (else activations grow with the width, not with
# its root), and its deviation is then 258 d.
MINIMUM_OVER_SCALE, DEVIATION_OVER_SCALE = 7.5, 258.3


@dataclass(frozen=True, slots=True)
class Shape:
    """What decides the arithmetic of a llama-like model."""

    n_embd: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    n_ff: int
    n_layers: int


SHAPES = {
    "8b": Shape(4096, 32, 8, 128, 14336, 32),
    "1b": Shape(2048, 32, 8, 64, 8192, 16),
    "tiny": Shape(256, 4, 2, 64, 512, 2),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the model that the command line names."""
    parser = argparse.ArgumentParser(prog="docqa.bench.shaped_model", description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--shape", choices=SHAPES, default="8b")
    parser.add_argument("--context", type=int, default=131_072, help="trained length to state")
    options = parser.parse_args(arguments)
    write_shaped(options.out, SHAPES[options.shape], options.context)


def write_shaped(path: Path, shape: Shape, context_length: int = 131_072, seed: int = 0) -> Path:
    """Write the model and return `path`. The same seed gives the same file."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name(f"random {path.stem}")
    writer.add_file_type(15)
    writer.add_context_length(context_length)
    writer.add_embedding_length(shape.n_embd)
    writer.add_block_count(shape.n_layers)
    writer.add_feed_forward_length(shape.n_ff)
    writer.add_head_count(shape.n_heads)
    writer.add_head_count_kv(shape.n_kv_heads)
    writer.add_key_length(shape.head_dim)
    writer.add_value_length(shape.head_dim)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(500_000.0)
    writer.add_rope_dimension_count(shape.head_dim)
    writer.add_vocab_size(N_VOCAB)
    _add_vocabulary(writer)
    _add_tensors(writer, shape, np.random.default_rng(seed))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_vocabulary(writer: gguf.GGUFWriter) -> None:
    n_words = N_VOCAB - N_BYTES - 3
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(N_BYTES))]
    writer.add_tokenizer_model("llama")
    writer.add_token_list([*tokens, *(f"t{i}" for i in range(n_words))])
    writer.add_token_scores([0.0] * N_VOCAB)
    writer.add_token_types([2, 3, 3] + [6] * N_BYTES + [1] * n_words)
    # No end of text: random weights may say it at once, and speed is measured over many tokens.
    writer.add_eos_token_id(0)


def _add_tensors(writer: gguf.GGUFWriter, shape: Shape, rng: np.random.Generator) -> None:
    def ones(name: str) -> None:
        writer.add_tensor(name, np.ones(shape.n_embd, np.float32))

    def matrix(name: str, n_rows: int, n_columns: int, deviation: float = 0.0) -> None:
        scale = (deviation or n_columns**-0.5) / DEVIATION_OVER_SCALE
        n_blocks = n_rows * n_columns // Q4_K_ELEMENTS
        blocks = rng.integers(0, 256, (n_blocks, Q4_K_BYTES), np.uint8)
        blocks[:, 0:2] = np.frombuffer(np.float16(scale).tobytes(), np.uint8)
        least = np.float16(MINIMUM_OVER_SCALE * np.float16(scale))
        blocks[:, 2:4] = np.frombuffer(least.tobytes(), np.uint8)
        rows = blocks.reshape(n_rows, n_columns // Q4_K_ELEMENTS * Q4_K_BYTES)
        writer.add_tensor(name, rows, raw_dtype=gguf.GGMLQuantizationType.Q4_K)

    n, q, kv = shape.n_embd, shape.n_heads * shape.head_dim, shape.n_kv_heads * shape.head_dim
    # What all layers add to the residual stream together is as large as what it begins with.
    added = (2 * shape.n_layers) ** -0.5
    matrix("token_embd.weight", N_VOCAB, n, deviation=1.0)
    ones("output_norm.weight")
    matrix("output.weight", N_VOCAB, n)
    for i in range(shape.n_layers):
        block = f"blk.{i}."
        ones(block + "attn_norm.weight")
        ones(block + "ffn_norm.weight")
        matrix(block + "attn_q.weight", q, n)
        matrix(block + "attn_k.weight", kv, n)
        matrix(block + "attn_v.weight", kv, n)
        matrix(block + "attn_output.weight", n, q, deviation=added * q**-0.5)
        matrix(block + "ffn_gate.weight", shape.n_ff, n)
        matrix(block + "ffn_up.weight", shape.n_ff, n)
        matrix(block + "ffn_down.weight", n, shape.n_ff, deviation=added * shape.n_ff**-0.5)


if __name__ == "__main__":
    main()
