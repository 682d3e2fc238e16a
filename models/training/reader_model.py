"""The reader in torch, as functions of a dictionary of weights: one pass gives both heads.

Weights are named and laid out as the fused operators of `models.minilm` want them, (in, out), so
that the trained file is the shipped one. Dropout is on where `dropout` is above 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

Weights = Mapping[str, Tensor]

N_LAYERS, N_HEADS, HIDDEN, EPSILON = 6, 12, 384, 1e-12
FROZEN = ("word",)  # as in the packaged embedder, so it need not be shipped again


def load_base(file: Path, device: str, seed: int = 0) -> dict[str, Tensor]:
    """Return float32 weights: the encoder of `file` (BertModel's names) and new heads."""
    from safetensors.torch import load_file

    raw = {name: value.float() for name, value in load_file(str(file)).items()}
    generator = torch.Generator().manual_seed(seed)
    w = {
        "word": raw["embeddings.word_embeddings.weight"],
        "position": raw["embeddings.position_embeddings.weight"],
        "type": raw["embeddings.token_type_embeddings.weight"],
        "norm.gamma": raw["embeddings.LayerNorm.weight"],
        "norm.beta": raw["embeddings.LayerNorm.bias"],
    }
    for i in range(N_LAYERS):
        w |= _layer(raw, i)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator) * 0.02

    w["head.dense"], w["head.dense.bias"] = drawn(HIDDEN, HIDDEN), torch.zeros(HIDDEN)
    w["head.out"], w["head.out.bias"] = drawn(HIDDEN, 1), torch.zeros(1)
    w["span"], w["span.bias"] = drawn(HIDDEN, 2), torch.zeros(2)
    return {name: value.to(device).contiguous() for name, value in w.items()}


def _layer(raw: Weights, i: int) -> dict[str, Tensor]:
    layer = f"encoder.layer.{i}."
    names = [f"{layer}attention.self.{part}." for part in ("query", "key", "value")]
    w = {
        f"{i}.qkv": torch.cat([raw[n + "weight"].T for n in names], 1),
        f"{i}.qkv.bias": torch.cat([raw[n + "bias"] for n in names]),
    }
    for ours, theirs in (
        ("out", "attention.output.dense"),
        ("up", "intermediate.dense"),
        ("down", "output.dense"),
    ):
        w[f"{i}.{ours}"] = raw[f"{layer}{theirs}.weight"].T
        w[f"{i}.{ours}.bias"] = raw[f"{layer}{theirs}.bias"]
    for ours, theirs in (("norm1", "attention.output"), ("norm2", "output")):
        w[f"{i}.{ours}.gamma"] = raw[f"{layer}{theirs}.LayerNorm.weight"]
        w[f"{i}.{ours}.beta"] = raw[f"{layer}{theirs}.LayerNorm.bias"]
    return w


def encode(w: Weights, ids: Tensor, types: Tensor, lengths: Tensor, dropout: float = 0.0) -> Tensor:
    """Return (B, T, H) hidden states of ids (B, T), types (B, T), lengths (B,)."""
    n_rows, width = ids.shape
    size, training = (HIDDEN,), dropout > 0.0
    kept = torch.arange(width, device=ids.device) < lengths[:, None]
    mask = kept[:, None, None, :]
    # Two types: written as arithmetic, the gradient is a sum instead of colliding scatters.
    kind = w["type"][0] + types[..., None].to(w["type"].dtype) * (w["type"][1] - w["type"][0])
    h = F.embedding(ids, w["word"]) + w["position"][:width] + kind
    h = F.layer_norm(h, size, w["norm.gamma"], w["norm.beta"], EPSILON)
    h = F.dropout(h, dropout, training)
    for i in range(N_LAYERS):
        qkv = torch.addmm(w[f"{i}.qkv.bias"], h.view(-1, HIDDEN), w[f"{i}.qkv"])
        q, k, v = qkv.view(n_rows, width, 3, N_HEADS, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
        mixed = mixed.transpose(1, 2).reshape(-1, HIDDEN)
        mixed = torch.addmm(w[f"{i}.out.bias"], mixed, w[f"{i}.out"]).view_as(h)
        h = h + F.dropout(mixed, dropout, training)
        h = F.layer_norm(h, size, w[f"{i}.norm1.gamma"], w[f"{i}.norm1.beta"], EPSILON)
        wide = F.gelu(torch.addmm(w[f"{i}.up.bias"], h.view(-1, HIDDEN), w[f"{i}.up"]))
        narrow = torch.addmm(w[f"{i}.down.bias"], wide, w[f"{i}.down"]).view_as(h)
        h = h + F.dropout(narrow, dropout, training)
        h = F.layer_norm(h, size, w[f"{i}.norm2.gamma"], w[f"{i}.norm2.beta"], EPSILON)
    return h


def heads(w: Weights, h: Tensor, dropout: float = 0.0) -> tuple[Tensor, Tensor]:
    """Return relevance logits (B,) and start/end logits (B, T, 2), float32, of (B, T, H)."""
    first = F.gelu(torch.addmm(w["head.dense.bias"], h[:, 0], w["head.dense"]))
    first = F.dropout(first, dropout, dropout > 0.0)
    relevance = torch.addmm(w["head.out.bias"], first, w["head.out"])
    return relevance[:, 0].float(), (h @ w["span"] + w["span.bias"]).float()


def embed(w: Weights, ids: Tensor, lengths: Tensor) -> Tensor:
    """Return (B, H) unit vectors: mean pooling, as the packaged embedder makes them."""
    h = encode(w, ids, torch.zeros_like(ids), lengths)
    kept = (torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]).to(h.dtype)
    pooled = (kept[:, None] @ h)[:, 0].float()
    return F.normalize(pooled, dim=-1)


def cast(w: Weights, dtype: torch.dtype) -> dict[str, Tensor]:
    """Return the weights in the type that the layers compute in; gradients flow back."""
    return {name: value.to(dtype) for name, value in w.items()}
