"""The base as a small torch model for training: packed sequences, merged adapter, greedy decoding.

The weights are dequantised from the GGUF exactly as ggml does it, so the adapter is trained against
the noise of the quantisation it will be used with. Rows of Q and K stay in GGUF's order, where
RoPE turns neighbouring pairs; the adapter therefore needs no reordering when it is exported.

Instead of a side branch in every projection, the adapter is merged, `W + B A`, once a step: the
forward pass is then that of the plain model (four matrix products a layer), and autograd brings
the gradient of the merged weights back to A and B.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from models.gguf import TensorInfo, read_header

PROJECTIONS = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
Attend = Callable[[Tensor, Tensor, Tensor, Tensor, int], Tensor]


def by_projection(rank: int, kv_rank: int) -> dict[str, int]:
    """Return the rank of each projection: the narrow K and V get a smaller one."""
    return {p: kv_rank if p in ("attn_k", "attn_v") else rank for p in PROJECTIONS}


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of a Llama model."""

    n_layers: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    rope_base: float
    norm_eps: float


@dataclass(slots=True)
class Base:
    """The frozen weights, float32. `weights[p]`: (L, out, in); `norms`: (L, D)."""

    shape: Shape
    embedding: Tensor  # (V, D), the head too
    weights: dict[str, Tensor]
    attn_norm: Tensor
    ffn_norm: Tensor
    output_norm: Tensor

    def lowest(self, n_layers: int) -> Base:
        """Return a model of the first `n_layers` layers, to try the training on."""
        kept = {k: v[:n_layers] for k, v in self.weights.items()}
        norms = (self.attn_norm[:n_layers], self.ffn_norm[:n_layers], self.output_norm)
        return Base(replace(self.shape, n_layers=n_layers), self.embedding, kept, *norms)

    def to(self, device: str) -> Base:
        """Return the weights on `device`."""
        moved = {k: v.to(device) for k, v in self.weights.items()}
        rest = (self.attn_norm.to(device), self.ffn_norm.to(device), self.output_norm.to(device))
        return Base(self.shape, self.embedding.to(device), moved, *rest)


@dataclass(slots=True)
class Merged:
    """Weights of one forward pass in the type it computes in: (L, out, in) each."""

    qkv: Tensor
    output: Tensor
    gate_up: Tensor
    down: Tensor


def dequantise(raw: bytes, tensor: TensorInfo) -> npt.NDArray[np.float32]:
    """Return the tensor's values, rows outermost.

    ggml's blocks of 32: Q8_0 is `d, 32 int8`; Q4_1 is `d, m, 16 bytes` with the low nibbles first
    (ggml-quants.c, dequantize_row_q4_1 and dequantize_row_q8_0).
    """
    shape = tuple(reversed(tensor.shape))
    data = np.frombuffer(raw, np.uint8)
    match tensor.type_name:
        case "F32":
            return data.view(np.float32).reshape(shape)
        case "F16":
            return data.view(np.float16).astype(np.float32).reshape(shape)
        case "Q8_0":
            blocks = data.reshape(-1, 34)
            scale = blocks[:, :2].copy().view(np.float16).astype(np.float32)
            return (blocks[:, 2:].view(np.int8).astype(np.float32) * scale).reshape(shape)
        case "Q4_1":
            blocks = data.reshape(-1, 20)
            scale, low = blocks[:, :4].copy().view(np.float16).astype(np.float32).T[:, :, None]
            packed = blocks[:, 4:]
            nibbles = np.concatenate([packed & 15, packed >> 4], axis=1).astype(np.float32)
            return np.asarray(nibbles * scale + low, np.float32).reshape(shape)
    raise ValueError(f"{tensor.name}: type {tensor.type_name} is not read here")


def load_base(path: Path) -> Base:
    """Return the weights of a Llama-architecture GGUF with tied embeddings."""
    header = read_header(path)
    fields = {k: v for k, v in header.metadata.items() if isinstance(v, (int, float))}
    raw = path.read_bytes()
    table = {t.name: t for t in header.tensors}

    def read(name: str) -> Tensor:
        tensor = table[name]
        part = raw[tensor.offset : tensor.offset + tensor.n_bytes]
        return torch.from_numpy(np.array(dequantise(part, tensor)))

    n_layers, n_heads = int(fields["llama.block_count"]), int(fields["llama.attention.head_count"])
    shape = Shape(
        n_layers,
        n_heads,
        int(fields["llama.attention.head_count_kv"]),
        int(fields["llama.embedding_length"]) // n_heads,
        float(fields["llama.rope.freq_base"]),
        float(fields["llama.attention.layer_norm_rms_epsilon"]),
    )

    def stack(name: str) -> Tensor:
        return torch.stack([read(f"blk.{i}.{name}.weight") for i in range(n_layers)])

    weights = {p: stack(p) for p in PROJECTIONS}
    norms = (stack("attn_norm"), stack("ffn_norm"), read("output_norm.weight"))
    return Base(shape, read("token_embd.weight"), weights, *norms)


class Adapter(torch.nn.Module):  # type: ignore[misc]
    """Low-rank updates of all seven projections: `delta = B A`, (L, out, r) and (L, r, in).

    `ranks` may differ from projection to projection. A starts as in LoRA (Hu et al. 2021, section
    4.1), B at zero, so that training starts from the base.
    """

    def __init__(self, base: Base, ranks: dict[str, int], seed: int = 0) -> None:
        super().__init__()
        chance = torch.Generator().manual_seed(seed)
        self.a, self.b = torch.nn.ParameterDict(), torch.nn.ParameterDict()
        for name in PROJECTIONS:
            n_layers, n_out, n_in = base.weights[name].shape
            start = torch.rand(n_layers, ranks[name], n_in, generator=chance) * 2 - 1
            self.a[name] = torch.nn.Parameter(start / n_in**0.5)
            self.b[name] = torch.nn.Parameter(torch.zeros(n_layers, n_out, ranks[name]))

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def begin_with(self, arrays: Mapping[str, npt.NDArray[np.float32]]) -> None:
        """Take over an adapter as `adapter_export.exported` reads it; of as many layers as here."""
        for name, values in arrays.items():
            projection, side = name.split(".")
            weight = (self.a if side == "a" else self.b)[projection]
            weight.copy_(torch.from_numpy(values[: len(weight)]))

    def merge(self, base: Base, dtype: torch.dtype) -> Merged:
        """Return base and update in one, rounded once."""
        full = {
            n: torch.baddbmm(base.weights[n], self.b[n], self.a[n]).to(dtype) for n in PROJECTIONS
        }
        return fuse(full)


def fuse(full: dict[str, Tensor]) -> Merged:
    """Return the seven projections as four matrices a layer."""
    return Merged(
        torch.cat([full["attn_q"], full["attn_k"], full["attn_v"]], 1),
        full["attn_output"],
        torch.cat([full["ffn_gate"], full["ffn_up"]], 1),
        full["ffn_down"],
    )


def rotations(places: Tensor, shape: Shape) -> tuple[Tensor, Tensor]:
    """Return cos and sin (N, head_dim / 2) of the positions."""
    half = torch.arange(0, shape.head_dim, 2, device=places.device, dtype=torch.float32)
    angle = places[:, None].float() * shape.rope_base ** (-half / shape.head_dim)
    return angle.cos(), angle.sin()


def _rope(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    even, odd = x[..., 0::2].float(), x[..., 1::2].float()
    cos, sin = cos[:, None], sin[:, None]
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], -1).flatten(-2).to(x.dtype)


def _norm(x: Tensor, weight: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
    return (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * weight).to(dtype)


def before_attention(
    x: Tensor,
    norm: Tensor,
    qkv: Tensor,
    cos: Tensor,
    sin: Tensor,
    heads: tuple[int, int, int, float],
) -> tuple[Tensor, Tensor, Tensor]:
    """Return q (N, H, d), k and v (N, H_kv, d) of the residual stream `x` (N, D), float32."""
    n_heads, n_kv_heads, head_dim, eps = heads
    y = F.linear(_norm(x, norm, eps, qkv.dtype), qkv)
    q, k, v = y.split([n_heads * head_dim, n_kv_heads * head_dim, n_kv_heads * head_dim], -1)
    q, k, v = (z.view(x.shape[0], -1, head_dim) for z in (q, k, v))
    return _rope(q, cos, sin), _rope(k, cos, sin), v.contiguous()


def after_attention(
    x: Tensor,
    attended: Tensor,
    output: Tensor,
    norm: Tensor,
    gate_up: Tensor,
    down: Tensor,
    eps: float,
) -> Tensor:
    """Return the residual stream after the rest of the layer."""
    x = x + F.linear(attended, output).float()
    gate, up = F.linear(_norm(x, norm, eps, gate_up.dtype), gate_up).chunk(2, -1)
    return x + F.linear(F.silu(gate) * up, down).float()


class Llama:
    """The forward pass over packed sequences; with `compiled`, both halves of a layer are fused."""

    def __init__(
        self, base: Base, attend: Attend, dtype: torch.dtype, compiled: bool = False
    ) -> None:
        self.base, self.attend, self.dtype = base, attend, dtype
        shape = base.shape
        self.heads = (shape.n_heads, shape.n_kv_heads, shape.head_dim, shape.norm_eps)
        self.head = base.embedding.to(dtype)
        self.before, self.after = before_attention, after_attention
        if compiled:
            self.before = torch.compile(before_attention, dynamic=False)
            self.after = torch.compile(after_attention, dynamic=False)

    def hidden(
        self,
        merged: Merged,
        tokens: Tensor,
        places: Tensor,
        ends: Tensor,
        longest: int,
        keep: Callable[[int, Tensor, Tensor], None] | None = None,
        fused: bool = True,
    ) -> Tensor:
        """Return the normed last hidden states (N, D); `keep(layer, k, v)` may store the cache."""
        base, eps = self.base, self.base.shape.norm_eps
        before, after = (self.before, self.after) if fused else (before_attention, after_attention)
        x = F.embedding(tokens, base.embedding)
        cos, sin = rotations(places, base.shape)
        stacks = (merged.qkv, merged.output, merged.gate_up, merged.down)
        layers = zip(*(stack.unbind() for stack in stacks), strict=True)
        for i, (qkv, output, gate_up, down) in enumerate(layers):
            q, k, v = before(x, base.attn_norm[i], qkv, cos, sin, self.heads)
            if keep is not None:
                keep(i, k, v)
            y = self.attend(q, k, v, ends, longest).flatten(1)
            x = after(x, y, output, base.ffn_norm[i], gate_up, down, eps)
        return _norm(x, base.output_norm, eps, self.dtype)

    def logits(self, hidden: Tensor) -> Tensor:
        """Return float32 scores of the next token for the chosen hidden states."""
        return F.linear(hidden, self.head).float()

    @torch.inference_mode()  # type: ignore[untyped-decorator]
    def generate(
        self, merged: Merged, prompts: Sequence[npt.NDArray[np.uint16]], end: int, n_new: int,
        first_banned: int | None = None, temperature: float = 0.0,
    ) -> tuple[list[list[int]], Tensor]:  # fmt: skip
        """Return continuations, greedy or drawn, and the first token's probabilities (B, V).

        `first_banned` may not be the first token: what would be answered if refusing were left to
        the threshold. Prompts are prefilled packed; the cache is (B, H_kv, T, d) a layer.
        """
        device, shape = self.base.embedding.device, self.base.shape
        lengths = torch.tensor([len(p) for p in prompts], device=device)
        ends = F.pad(lengths.cumsum(0), (1, 0)).to(torch.int32)
        tokens = torch.from_numpy(np.concatenate(prompts).astype(np.int64)).to(device)
        places = torch.cat([torch.arange(len(p), device=device) for p in prompts])
        owner = torch.repeat_interleave(torch.arange(len(prompts), device=device), lengths)
        longest = int(lengths.max())
        size = (shape.n_layers, 2, len(prompts), shape.n_kv_heads, longest + n_new, shape.head_dim)
        cache = torch.zeros(size, dtype=self.dtype, device=device)

        def keep(layer: int, k: Tensor, v: Tensor) -> None:
            cache[layer, 0, owner, :, places] = k
            cache[layer, 1, owner, :, places] = v

        hidden = self.hidden(merged, tokens, places, ends, longest, keep, fused=False)
        scores = self.logits(hidden[ends[1:].long() - 1])
        chances = scores.softmax(-1)
        if first_banned is not None:
            scores[:, first_banned] = -torch.inf
        token = _chosen(scores, temperature)
        said = [token]
        done = token == end
        for step in range(n_new - 1):
            if bool(done.all()):
                break
            hidden = self._step(merged, token, lengths + step, cache)
            token = _chosen(self.logits(hidden), temperature)
            said.append(token)
            done |= token == end
        rows = torch.stack(said, 1).tolist()
        return [row[: row.index(end)] if end in row else row for row in rows], chances

    def _step(self, merged: Merged, token: Tensor, places: Tensor, cache: Tensor) -> Tensor:
        """Return the hidden states (B, D) of one new token a row, and store its keys and values."""
        base, shape = self.base, self.base.shape
        x = F.embedding(token, base.embedding)
        cos, sin = rotations(places, shape)
        rows = torch.arange(len(token), device=token.device)
        seen = torch.arange(cache.shape[4], device=token.device)[None] <= places[:, None]
        group = shape.n_heads // shape.n_kv_heads
        for i in range(shape.n_layers):
            q, k, v = before_attention(x, base.attn_norm[i], merged.qkv[i], cos, sin, self.heads)
            cache[i, 0, rows, :, places] = k
            cache[i, 1, rows, :, places] = v
            q = q.view(len(token), shape.n_kv_heads, group, shape.head_dim)
            scores = (q @ cache[i, 0].transpose(-1, -2)).float() * shape.head_dim**-0.5
            scores = scores.masked_fill(~seen[:, None, None], -torch.inf)
            y = (scores.softmax(-1).to(self.dtype) @ cache[i, 1]).flatten(1)
            rest = (base.ffn_norm[i], merged.gate_up[i], merged.down[i], shape.norm_eps)
            x = after_attention(x, y, merged.output[i], *rest)
        return _norm(x, base.output_norm, shape.norm_eps, self.dtype)


def _chosen(scores: Tensor, temperature: float) -> Tensor:
    """Return the best token of each row, or with a temperature one drawn."""
    if not temperature:
        return scores.argmax(-1)
    return torch.multinomial((scores / temperature).softmax(-1), 1)[:, 0]
