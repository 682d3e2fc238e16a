"""The decoder in plain torch: tokens in, the KV of the tokens and their hidden states out.

The readable version that runs everywhere and that the GPU's step (`models.torch_step`) is held to.
A call computes a chunk of a prompt, or one token, on top of what a cache holds; it changes the
cache in nothing, so that a chunk that is abandoned leaves no trace: the caller appends.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from kernels import reference
from models.torch_rope import Rope, angles, inverse_frequencies, rotate
from models.torch_shape import Shape
from models.torch_weights import Layer, Weights

FEED_FORWARD_ROWS = 16_384


class Past(Protocol):
    """What a decoder reads of a cache."""

    @property
    def n_tokens(self) -> int:
        """Tokens that were computed."""
        ...

    @property
    def next_position(self) -> int:
        """The position of the next token."""
        ...

    def layer(self, index: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return K and V (H_kv, n, D) and which are there (H_kv, n); None: all."""
        ...


class Aborted(Exception):
    """The caller wants no more; nothing has changed."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """What a call computed: hidden states (T, n_embd), K and V (n_layers, H_kv, T, D)."""

    hidden: Tensor
    k: Tensor
    v: Tensor


Observer = Callable[[int, Tensor, Tensor], None]
"""Called for each layer with Q (H, T, D) and K (H_kv, n + T, D), for scores of importance."""


class Decoder:
    """One model on one device."""

    def __init__(
        self,
        shape: Shape,
        weights: Weights,
        rope: Rope,
        context_length: int,
        device: torch.device,
        *,
        kv_dtype: torch.dtype = torch.float16,
        rotation: Tensor | None = None,
        compute_dtype: torch.dtype | None = None,
    ) -> None:
        """Take weights that are loaded.

        Args:
            shape: sizes.
            weights: of `torch_weights.load`.
            rope: positions.
            context_length: tokens; decides dynamic NTK and LongRoPE.
            device: where the weights are.
            kv_dtype: K and V are rounded to it before they are used, as the cache keeps them.
            rotation: (D, D) orthogonal, applied to Q, K and V; None: none.
            compute_dtype: of products and attention; None: float32, on a GPU bfloat16.
        """
        self.shape, self.weights, self.device = shape, weights, device
        self.kv_dtype, self.rotation = kv_dtype, rotation
        frequencies, self.rope_scale = inverse_frequencies(rope, context_length)
        self.frequencies = frequencies.to(device)
        fast = torch.float32 if device.type == "cpu" else torch.bfloat16
        self.compute_dtype = compute_dtype or fast

    def compute(
        self,
        tokens: Tensor,
        past: Past,
        *,
        observe: Observer | None = None,
        is_aborted: Callable[[], bool] = lambda: False,
    ) -> Chunk:
        """Return what `tokens` (T,) compute on top of `past`.

        Raises:
            Aborted: `is_aborted`, asked between layers, said so.
        """
        shape, n = self.shape, len(tokens)
        x = self.weights.embedding.rows(tokens.to(self.device))
        start = past.next_position
        positions = torch.arange(start, start + n, device=self.device)
        turn = angles(self.frequencies, self.rope_scale, positions)
        size = (shape.n_layers, shape.n_kv_heads, n, shape.head_dim)
        new_k = torch.empty(size, dtype=self.kv_dtype, device=self.device)
        new_v = torch.empty(size, dtype=self.kv_dtype, device=self.device)
        for index, layer in enumerate(self.weights.layers):
            if is_aborted():
                raise Aborted
            q, k, v = self.qkv(layer, x, turn)
            new_k[index], new_v[index] = k, v
            mixed = self._attend(index, q, new_k[index], new_v[index], past, observe)
            x = self.after_attention(layer, x, mixed)
        return Chunk(x, new_k, new_v)

    def logits(self, hidden: Tensor) -> Tensor:
        """Return (T, n_vocab) float32 for hidden states (T, n_embd)."""
        normed = self.norm(hidden, self.weights.norm)
        return self.weights.output(normed.to(self.compute_dtype))

    def qkv(
        self, layer: Layer, x: Tensor, turn: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return Q (H, T, D), K and V (H_kv, T, D), turned by their positions."""
        shape = self.shape
        normed = self.norm(x, layer.attn_norm).to(self.compute_dtype)
        q = layer.q(normed).view(-1, shape.n_heads, shape.head_dim)
        k = layer.k(normed).view(-1, shape.n_kv_heads, shape.head_dim)
        v = layer.v(normed).view(-1, shape.n_kv_heads, shape.head_dim)
        if layer.q_norm is not None and layer.k_norm is not None:
            q, k = self.norm(q, layer.q_norm), self.norm(k, layer.k_norm)
        q, k = self.turned(q, turn), self.turned(k, turn)
        if self.rotation is not None:
            q, k, v = q @ self.rotation, k @ self.rotation, v @ self.rotation
        return q.transpose(0, 1), k.transpose(0, 1), v.transpose(0, 1)

    def _attend(
        self,
        index: int,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        past: Past,
        observe: Observer | None,
    ) -> Tensor:
        """Return (H, T, D): attention over the past and the chunk itself."""
        if past.n_tokens:
            past_k, past_v, there = past.layer(index, k.dtype)
            k, v = torch.cat((past_k, k), dim=1), torch.cat((past_v, v), dim=1)
        else:
            there = None
        if observe is not None:
            observe(index, q, k)
        return self._attention(q, k, v, there)

    def _attention(self, q: Tensor, k: Tensor, v: Tensor, there: Tensor | None) -> Tensor:
        n, n_keys = q.shape[1], k.shape[1]
        is_exact = self.compute_dtype == torch.float32
        if q.is_cuda and there is None and not self.shape.window and not is_exact:
            return _vendor_attention(q, k, v)
        allowed = None
        if n > 1 or self.shape.window or there is not None:
            allowed = reference.causal(n, n_keys, self.shape.window, q.device)
        if allowed is not None and there is not None:
            n_past = there.shape[1]
            allowed = allowed.expand(there.shape[0], -1, -1).clone()
            allowed[:, :, :n_past] &= there[:, None, :]
        return reference.attend(q, k, v, scale=q.shape[2] ** -0.5, allowed=allowed)[0]

    def after_attention(self, layer: Layer, x: Tensor, mixed: Tensor) -> Tensor:
        """Return the layer's output (T, n_embd) from its input and its attention (H, T, D)."""
        if self.rotation is not None:
            mixed = mixed @ self.rotation  # symmetric: its own inverse
        flat = mixed.transpose(0, 1).flatten(1)
        x = x + layer.o(flat.to(self.compute_dtype))
        return x + self._feed_forward(layer, x)

    def _feed_forward(self, layer: Layer, x: Tensor) -> Tensor:
        if len(x) > FEED_FORWARD_ROWS:
            # Some rows at a time: what is between the matrices is several times as wide as x.
            return torch.cat(
                [self._feed_forward(layer, part) for part in x.split(FEED_FORWARD_ROWS)]
            )
        normed = self.norm(x, layer.ffn_norm).to(self.compute_dtype)
        gated = self.gated(layer.gate(normed), layer.up(normed))
        return layer.down(gated.to(self.compute_dtype))

    # -- between the matrices, one by one: a bench puts others in their places ---------------------

    def norm(self, x: Tensor, weight: Tensor) -> Tensor:
        """Return x (…, D) over its root mean square, times weight (D,)."""
        return reference.rms_norm(x, weight, self.shape.eps)

    def turned(self, x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
        """Return x (T, H, D) turned by the angles of its positions."""
        return rotate(x, *turn, self.shape.is_interleaved)

    def gated(self, gate: Tensor, up: Tensor) -> Tensor:
        """Return SwiGLU of both halves (T, n_ff)."""
        return torch.nn.functional.silu(gate) * up


def _vendor_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Prefill on a GPU: torch's flash attention, causal to the lower right. (H, T, D) float32."""
    from torch.nn.attention.bias import causal_lower_right

    dtype = k.dtype if k.dtype == torch.float16 else torch.bfloat16  # as the cache keeps them
    mask = causal_lower_right(q.shape[1], k.shape[1]) if q.shape[1] > 1 else None
    group = q.shape[0] // k.shape[0]
    out = torch.nn.functional.scaled_dot_product_attention(
        q[None].to(dtype),
        k[None].to(dtype).repeat_interleave(group, dim=1),
        v[None].to(dtype).repeat_interleave(group, dim=1),
        attn_mask=mask,
    )
    return out[0].float()
