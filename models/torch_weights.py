"""A GGUF's weights in torch: mapped from the file, checked against the memory there is.

`load(model, device)` returns the decoder's matrices. On a GPU they stay quantised, rearranged for
the kernels (`kernels.packed`); on a CPU they are dequantised to float32 once, or, where that does
not fit, a matrix at a time when it is used. Activations are not rounded: llama.cpp's are, to eight
bits beside quantised weights, which moves its logits by about as much as its own batch size does.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from docqa.errors import ModelRefused
from kernels.dequantise import PLAIN, dequantise
from kernels.packed import PackedMatrix, pack
from models.gguf import TensorInfo, read_header
from models.model_file import ModelFile
from models.torch_shape import ROPE_TENSORS, Shape, optional_biases, refused

CPU_SHARE = 0.6  # of the free RAM that float32 weights may take
GPU_SLACK_BYTES = 1 << 30  # for activations, the prefill's dense matrix and the library's own
PACK_BYTES = 1 << 26  # of codes at a time while a matrix is packed


class MappedTensors:
    """The tensors of a model's files, mapped: nothing is read until it is used."""

    def __init__(self, model: ModelFile) -> None:
        self._files: dict[str, tuple[Path, TensorInfo]] = {
            tensor.name: (part, tensor)
            for part in model.parts
            for tensor in read_header(part).tensors
        }
        self._maps: dict[Path, np.memmap[tuple[int, ...], np.dtype[np.uint8]]] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._files

    def info(self, name: str) -> TensorInfo:
        """Return the table's entry of a tensor."""
        return self._files[name][1]

    def raw(self, name: str) -> torch.Tensor:
        """Return the bytes of a tensor (N, bytes of a row) uint8, a row a row of the matrix."""
        part, info = self._files[name]
        if part not in self._maps:
            # Copy on write: torch warns of arrays that it may not write to.
            self._maps[part] = np.memmap(part, np.uint8, "c")
        data = self._maps[part][info.offset : info.offset + info.n_bytes]
        n_rows = 1 if len(info.shape) == 1 else int(np.prod(info.shape[1:]))
        return torch.from_numpy(data.reshape(n_rows, -1))

    def vector(self, name: str) -> torch.Tensor:
        """Return a tensor of one dimension in float32."""
        return dequantise(self.raw(name), self.info(name).type_name).flatten()


class Linear:
    """A matrix (N, K) with its bias and adapters: x (T, K) → (T, N) float32."""

    def __init__(
        self,
        *,
        dense: torch.Tensor | None = None,
        packed: PackedMatrix | None = None,
        raw: tuple[torch.Tensor, str] | None = None,
        bias: torch.Tensor | None = None,
    ) -> None:
        """Take one of `dense`, `packed` and `raw`."""
        self.dense, self.packed, self.raw, self.bias = dense, packed, raw, bias
        self.adapters: list[tuple[torch.Tensor, torch.Tensor, float]] = []

    def matrix(self, dtype: torch.dtype) -> torch.Tensor:
        """Return the weights (N, K) without adapters, made where they are kept quantised."""
        if self.dense is not None:
            return self.dense.to(dtype)
        if self.packed is not None:
            return _unpacked(self.packed, dtype)
        assert self.raw is not None
        return dequantise(*self.raw).to(dtype)

    def rows(self, index: torch.Tensor) -> torch.Tensor:
        """Return some rows (T, K) float32: an embedding."""
        if self.dense is not None:
            return self.dense[index].float()
        if self.packed is not None:
            return self.packed.rows(index).dense()
        assert self.raw is not None
        return dequantise(self.raw[0][index], self.raw[1])

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Return x (T, K) times the transposed matrix, in x's precision; (T, N) float32."""
        matrix = self.matrix(x.dtype)
        if x.is_cuda and x.dtype != torch.float32:
            # The sums are float32 in there: not rounded to x's precision on their way out.
            out = torch.mm(x, matrix.T, out_dtype=torch.float32)
        else:
            out = (x @ matrix.T).float()
        for a, b, scale in self.adapters:
            out += scale * ((x.float() @ a.T) @ b.T)
        return out if self.bias is None else out + self.bias


def _unpacked(matrix: PackedMatrix, dtype: torch.dtype) -> torch.Tensor:
    """Return the weights, by the kernel where there is Triton and a GPU."""
    if matrix.low.is_cuda and importlib.util.find_spec("triton") is not None:
        from kernels.unpack import unpack

        return unpack(matrix, dtype)
    return matrix.dense(dtype)


@dataclass(slots=True)
class Layer:
    """One block of the decoder."""

    attn_norm: torch.Tensor
    q: Linear
    k: Linear
    v: Linear
    o: Linear
    ffn_norm: torch.Tensor
    gate: Linear
    up: Linear
    down: Linear
    q_norm: torch.Tensor | None = None
    k_norm: torch.Tensor | None = None
    # Q, K, V and gate, up one below the other, for a step.
    joined: tuple[list[Linear], list[Linear]] | None = field(default=None, init=False)


@dataclass(slots=True)
class Weights:
    """All of a decoder. `linears` has every matrix by its tensor's name."""

    embedding: Linear
    layers: list[Layer]
    norm: torch.Tensor
    output: Linear
    rope_factors: dict[str, tuple[float, ...]]
    linears: dict[str, Linear] = field(default_factory=dict)


LINEARS = {
    "q": "attn_q",
    "k": "attn_k",
    "v": "attn_v",
    "o": "attn_output",
    "gate": "ffn_gate",
    "up": "ffn_up",
    "down": "ffn_down",
}


def load(model: ModelFile, shape: Shape, device: torch.device, kv_bytes: int = 0) -> Weights:
    """Return the weights on `device`.

    Args:
        model: the file.
        shape: of `torch_shape.shape_of`.
        device: cpu or cuda.
        kv_bytes: set aside for the KV cache; only counted.

    Raises:
        ModelRefused: they do not fit; nothing has been allocated.
    """
    refuse_what_has_no_room(model, device, kv_bytes)
    tensors = MappedTensors(model)
    is_dense = device.type == "cpu" and _fits_as_float(model)
    biases = optional_biases(shape)

    def vector(name: str) -> torch.Tensor:
        return tensors.vector(name).to(device)

    def linear(name: str) -> Linear:
        bias_name = name + ".bias"
        has_bias = bias_name in biases and bias_name in tensors
        bias = vector(bias_name) if has_bias else None
        return _linear(tensors, name + ".weight", device, is_dense, bias)

    embedding = linear("token_embd")
    linears = {"token_embd.weight": embedding}
    layers = []
    for i in range(shape.n_layers):
        block = f"blk.{i}."
        parts = {short: linear(block + name) for short, name in LINEARS.items()}
        linears |= {f"{block}{LINEARS[short]}.weight": part for short, part in parts.items()}
        norms = {}
        if shape.has_qk_norm:
            norms = {n: vector(f"{block}attn_{n}.weight") for n in ("q_norm", "k_norm")}
        layers.append(
            Layer(
                attn_norm=vector(block + "attn_norm.weight"),
                ffn_norm=vector(block + "ffn_norm.weight"),
                **parts,
                **norms,
            )
        )
    output = embedding if shape.is_tied else linear("output")
    linears.setdefault("output.weight", output)
    return Weights(
        embedding, layers, vector("output_norm.weight"), output, _factors(tensors), linears
    )


def _factors(tensors: MappedTensors) -> dict[str, tuple[float, ...]]:
    return {n: tuple(tensors.vector(n).tolist()) for n in ROPE_TENSORS if n in tensors}


def _linear(
    tensors: MappedTensors,
    name: str,
    device: torch.device,
    is_dense: bool,
    bias: torch.Tensor | None,
) -> Linear:
    raw, kind = tensors.raw(name), tensors.info(name).type_name
    if device.type == "cpu":
        if is_dense:
            return Linear(dense=dequantise(raw, kind), bias=bias)
        return Linear(raw=(raw, kind), bias=bias)
    if kind in PLAIN:
        return Linear(dense=raw.contiguous().view(PLAIN[kind]).to(device), bias=bias)
    return Linear(packed=_packed_on(raw, kind, device), bias=bias)


def _packed_on(raw: torch.Tensor, kind: str, device: torch.device) -> PackedMatrix:
    """Pack on the device, some rows at a time: the steps between take eight times the bytes."""
    n_rows = max(1, PACK_BYTES // max(1, 2 * raw.shape[1]))
    packed = [pack(raw[at : at + n_rows].to(device), kind) for at in range(0, len(raw), n_rows)]
    return packed[0] if len(packed) == 1 else joined(packed)


def joined(matrices: list[PackedMatrix]) -> PackedMatrix:
    """Return matrices of one format and width, one below the other."""

    def cat(name: str) -> torch.Tensor | None:
        planes = [getattr(m, name) for m in matrices]
        return None if planes[0] is None else torch.cat(planes)

    first = matrices[0]
    low, factors = cat("low"), cat("factors")
    assert low is not None and factors is not None
    return PackedMatrix(low, cat("high"), first.bits, first.offset, factors, cat("subs"))


# -- memory ---------------------------------------------------------------------------------------


def refuse_what_has_no_room(model: ModelFile, device: torch.device, kv_bytes: int) -> None:
    """Refuse a model that the device cannot hold, before anything of it is there.

    Raises:
        ModelRefused: with what it needs and what is free.
    """
    if device.type == "cuda":
        free = int(torch.cuda.mem_get_info(device)[0])
        # Sub-scales take eight bits instead of six: at most a sixteenth more than the file.
        needed = model.n_bytes * 17 // 16 + kv_bytes + GPU_SLACK_BYTES
        place = "on the GPU"
    else:
        free = _free_ram()
        needed, place = kv_bytes + _largest_bytes(model), "in RAM"
    if needed > free:
        raise ModelRefused(
            f"{model.path.name}: needs {needed / 2**30:.1f} GiB {place} with "
            f"{kv_bytes / 2**30:.1f} GiB of KV, and {free / 2**30:.1f} GiB are free: ask for a "
            "shorter context, smaller KV types, or use --engine llama, which can share the work "
            "between GPU and CPU"
        )


def _free_ram() -> int:
    import psutil

    return int(psutil.virtual_memory().available)


def _fits_as_float(model: ModelFile) -> bool:
    return 4 * model.n_params < CPU_SHARE * _free_ram()


def _largest_bytes(model: ModelFile) -> int:
    return max(4 * int(np.prod(t.shape, dtype=np.int64)) for t in model.tensors)


# -- adapters -------------------------------------------------------------------------------------


def apply_adapter(
    model: ModelFile, weights: Weights, path: Path, scale: float, device: torch.device
) -> None:
    """Put a LoRA on top of the weights: y += scale * alpha / rank * (x A^T) B^T.

    Raises:
        ModelRefused: no LoRA, or one for another model; nothing was changed.
    """
    found = read_adapter(model, weights, path)
    for linear, a, b, factor in found:
        linear.adapters.append((a.to(device), b.to(device), factor * scale))


def read_adapter(
    model: ModelFile, weights: Weights, path: Path
) -> list[tuple[Linear, torch.Tensor, torch.Tensor, float]]:
    """Return (matrix, A (r, K), B (N, r), alpha / r) of each pair in the file.

    Raises:
        ModelRefused: as `apply_adapter`.
    """
    header = read_header(path)
    meta: Mapping[str, object] = header.metadata
    if meta.get("general.type") != "adapter" or meta.get("adapter.type") != "lora":
        raise ModelRefused(f"{path.name}: is no LoRA adapter")
    if meta.get("general.architecture") != model.architecture:
        raise ModelRefused(
            f"{path.name}: is for {meta.get('general.architecture')!r}, and {model.path.name} is "
            f"{model.architecture!r}"
        )
    alpha = meta.get("adapter.lora.alpha", 0.0)
    alpha = float(alpha) if isinstance(alpha, int | float) else 0.0
    file = np.memmap(path, np.uint8, "c")
    by_name = {t.name: t for t in header.tensors}
    found = []
    for name, info in by_name.items():
        if name.endswith(".lora_b"):
            continue
        target = name.removesuffix(".lora_a")
        pair = by_name.get(target + ".lora_b")
        if target == name or pair is None:
            raise ModelRefused(f"{path.name}: tensor {name!r} has no partner")
        found.append(_pair(path, model, weights, target, (info, pair), file, alpha))
    if len(by_name) != 2 * len(found):
        raise ModelRefused(f"{path.name}: a .lora_b tensor has no partner")
    return found


def _pair(
    path: Path,
    model: ModelFile,
    weights: Weights,
    target: str,
    pair: tuple[TensorInfo, TensorInfo],
    file: np.memmap[tuple[int, ...], np.dtype[np.uint8]],
    alpha: float,
) -> tuple[Linear, torch.Tensor, torch.Tensor, float]:
    a, b = pair
    base = next((t for t in model.tensors if t.name == target), None)
    linear = weights.linears.get(target)
    if base is None or linear is None or target == "token_embd.weight":
        raise ModelRefused(f"{path.name}: adapts {target!r}, which {model.path.name} has not")
    rank = a.shape[1] if len(a.shape) == 2 else 0
    if (a.shape, b.shape) != ((base.shape[0], rank), (rank, base.shape[1])) or not rank:
        raise ModelRefused(
            f"{path.name}: is for another model: {target!r} has the shape {base.shape}, its "
            f"adapter {a.shape} and {b.shape}"
        )
    values = [
        dequantise(
            torch.from_numpy(file[t.offset : t.offset + t.n_bytes].reshape(t.shape[1], -1)),
            _adapter_type(path, t),
        )
        for t in (a, b)
    ]
    return linear, values[0], values[1], alpha / rank if alpha else 1.0


def _adapter_type(path: Path, tensor: TensorInfo) -> str:
    from models.torch_shape import WEIGHT_TYPES

    if tensor.type_name not in WEIGHT_TYPES:
        raise ModelRefused(f"{path.name}: tensor {tensor.name!r} is of type {tensor.type_name}")
    return tensor.type_name


__all__ = [
    "Layer",
    "Linear",
    "MappedTensors",
    "Weights",
    "apply_adapter",
    "joined",
    "load",
    "read_adapter",
    "refuse_what_has_no_room",
    "refused",
]
