"""The torch engine's decoder with llama.cpp's arithmetic: equal to llama.cpp to the last bit.

A difference in the last digit of anything decides here and there which of two eight-bit codes an
activation becomes, and in the end the logits are tenths apart: llama.cpp is as far from itself when
it reads a prompt in other batches. So no closeness of logits tells an engine that is right from one
that is slightly wrong. This does: the decoder is the engine's own – weights, layers, positions,
what sees what, the KV cache – and its operations (products, attention, norms, RoPE, SwiGLU) are
computed by ggml (`ggml.Ggml`), on numbers that are then llama.cpp's own. If all logits are equal,
only the operations' arithmetic is left, and `Watch` measures each of them on the same inputs: how
far torch's is from ggml's, and how far where torch rounds as llama.cpp does (`rounding`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from docqa.bench.ggml import Ggml, Matrix
from docqa.bench.rounding import (
    ACTIVATIONS,
    TILE,
    lost_sums,
    minima,
    rounded,
    rounded_attention,
)
from docqa.bench.torch_model import TorchModel
from kernels import reference
from models.settings import RopeSettings
from models.torch_decoder import Chunk, Decoder, Observer
from models.torch_rope import Rope, rope_of
from models.torch_weights import LINEARS, Linear, MappedTensors


class Watch:
    """Sums of squares: of what torch's operations differ from ggml's, and of ggml's results."""

    def __init__(self) -> None:
        self.n_pieces = 0  # of a text, still to be looked at
        self.sums: dict[str, list[float]] = {}

    def compare(self, name: str, theirs: Tensor, ours: Callable[[], Tensor]) -> None:
        """Add an operation's results, where that is wanted."""
        if self.n_pieces <= 0:
            return
        sums = self.sums.setdefault(name, [0.0, 0.0])
        sums[0] += float((ours() - theirs).double().square().sum())
        sums[1] += float(theirs.double().square().sum())


class LlamaArithmetic(Decoder):
    """The engine's decoder on ggml's operations, on a CPU. Its KV is f16."""

    def __init__(self, model: TorchModel, context_length: int) -> None:
        """Copy the matrices as they are in the file.

        Raises:
            ValueError: positions that are scaled, which this does not know how to ask for.
        """
        self.ggml, self.watch = Ggml(), Watch()
        rope = rope_of(model.file, model.shape, RopeSettings(), model.weights.rope_factors)
        if rope.method != "none":
            raise ValueError(f"{model.file.path.name}: positions are scaled ({rope.method})")
        self._rope: Rope = rope
        weights = self._on_ggml(model)
        super().__init__(model.shape, weights, rope, context_length, torch.device("cpu"))
        self._positions = torch.zeros(0)

    def _on_ggml(self, model: TorchModel) -> Any:
        """Return the weights with each matrix that is multiplied by in ggml's hands."""
        tensors, weights = MappedTensors(model.file), model.weights

        def product(name: str, linear: Linear) -> Product:
            return Product(self.ggml, self.watch, linear, tensors, name + ".weight")

        layers = [
            dataclasses.replace(
                layer,
                **{
                    short: product(f"blk.{i}.{name}", getattr(layer, short))
                    for short, name in LINEARS.items()
                },
            )
            for i, layer in enumerate(weights.layers)
        ]
        last = "token_embd" if model.shape.is_tied else "output"
        return dataclasses.replace(weights, layers=layers, output=product(last, weights.output))

    def read(self, prompt: list[int], answer: list[int], cache: Any) -> Tensor:
        """Return the logits (answer, n_vocab) of the prompt's end and of each token but the last.

        The answer is read in pieces that llama.cpp would compute as it does single tokens.
        """
        cache.clear()
        found, rest = [], answer[:-1]
        pieces = [rest[at : at + TILE - 1] for at in range(0, len(rest), TILE - 1)]
        for i, piece in enumerate((prompt, *pieces)):
            chunk = self.compute(torch.tensor(piece), cache)
            cache.append(chunk.k, chunk.v)
            found.append(self.logits(chunk.hidden if i else chunk.hidden[-1:]))
            self.watch.n_pieces -= 1
        return torch.cat(found)

    # -- in the places of the decoder's operations -------------------------------------------------

    def compute(
        self,
        tokens: Tensor,
        past: Any,
        *,
        observe: Observer | None = None,
        is_aborted: Callable[[], bool] = lambda: False,
    ) -> Chunk:
        """Return what `tokens` compute on top of `past`, as `Decoder.compute`."""
        start = past.next_position
        self._positions = torch.arange(start, start + len(tokens))
        return super().compute(tokens, past, observe=observe, is_aborted=is_aborted)

    def norm(self, x: Tensor, weight: Tensor) -> Tensor:
        """As `Decoder.norm`."""
        found = self.ggml.norm(x, weight, self.shape.eps)
        self.watch.compare("norm", found, lambda: super(LlamaArithmetic, self).norm(x, weight))
        return found

    def turned(self, x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
        """As `Decoder.turned`."""
        rope, pairs = self._rope, self.shape.is_interleaved
        found = self.ggml.turned(x, self._positions, rope.base, rope.dim, is_interleaved=pairs)
        self.watch.compare("rope", found, lambda: super(LlamaArithmetic, self).turned(x, turn))
        return found

    def gated(self, gate: Tensor, up: Tensor) -> Tensor:
        """As `Decoder.gated`."""
        found = self.ggml.gated(gate, up)
        self.watch.compare("swiglu", found, lambda: super(LlamaArithmetic, self).gated(gate, up))
        return found

    def _attention(self, q: Tensor, k: Tensor, v: Tensor, there: Tensor | None) -> Tensor:
        assert there is None, "nothing was evicted"
        scale = q.shape[2] ** -0.5
        allowed = reference.causal(q.shape[1], k.shape[1], self.shape.window, "cpu")[0]
        found = self.ggml.attend(q, k, v, scale, allowed)
        plain = super()._attention
        is_tiled = q.shape[1] >= TILE
        name = "attention, of a prompt" if is_tiled else "attention, of an answer"
        self.watch.compare(name, found, lambda: plain(q, k, v, None))
        if not is_tiled:
            self.watch.compare(
                "attention, of an answer, rounded",
                found,
                lambda: rounded_attention(q, k.half(), v.half(), scale, allowed),
            )
        return found


class Product(Linear):
    """A matrix whose products ggml computes."""

    def __init__(
        self, ggml: Ggml, watch: Watch, linear: Linear, tensors: MappedTensors, name: str
    ) -> None:
        """Take the matrix `name` of the file; `linear`: the same in torch."""
        import gguf

        super().__init__(dense=linear.dense, raw=linear.raw, bias=linear.bias)
        info, self._bytes = tensors.info(name), tensors.raw(name)
        self._kind, self._ggml, self._watch = info.type_name, ggml, watch
        kind = int(gguf.GGMLQuantizationType[info.type_name])
        self._matrix = Matrix(ggml, self._bytes, kind, info.shape[1], info.shape[0])

    def __call__(self, x: Tensor) -> Tensor:
        """As `Linear`."""
        found = self._ggml.product(self._matrix, x)
        if self.bias is not None:
            found += self.bias
        plain = super().__call__
        self._watch.compare("product", found, lambda: plain(x))
        self._watch.compare("product, rounded", found, lambda: self._rounded(x))
        return found

    def _rounded(self, x: Tensor) -> Tensor:
        """Return torch's product of activations that are rounded as llama.cpp rounds them."""
        found = super().__call__(rounded(x, self._kind))
        if ACTIVATIONS.get(self._kind) == "Q8_1":
            found += lost_sums(x) @ minima(self._bytes, self._kind).T
        return found
