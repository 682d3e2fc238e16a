"""llama.cpp's operations one by one, from the library that llama.cpp itself runs on (ggml's CPU).

Each method computes one operation on torch tensors as llama.cpp computes it in a model, in one
thread, to the last bit. Shapes are torch's: ggml names dimensions from the last to the first.
"""

from __future__ import annotations

import ctypes
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from models.llama_library import llama

SCRATCH_BYTES = 1 << 30  # of address space: pages that nothing is written to take no memory
HEADER_BYTES = 1 << 16  # of a tensor's description, generously
_TYPES = {torch.float32: 0, torch.float16: 1, torch.int32: 26}
_ROPE_NEIGHBOURS, _ROPE_HALVES = 0, 2

_pointer, _int, _long, _float = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64, ctypes.c_float
_NAMES: dict[str, tuple[Any, ...]] = {
    "ggml_free": (None, _pointer),
    "ggml_new_tensor_3d": (_pointer, _pointer, _int, _long, _long, _long),
    "ggml_get_data": (_pointer, _pointer),
    "ggml_mul_mat": (_pointer, _pointer, _pointer, _pointer),
    "ggml_mul": (_pointer, _pointer, _pointer, _pointer),
    "ggml_rms_norm": (_pointer, _pointer, _pointer, _float),
    "ggml_swiglu_split": (_pointer, _pointer, _pointer, _pointer),
    "ggml_flash_attn_ext": (_pointer, *[_pointer] * 5, *[_float] * 3),
    "ggml_rope_ext": (_pointer, *[_pointer] * 4, *[_int] * 3, *[_float] * 6),
    "ggml_new_graph": (_pointer, _pointer),
    "ggml_build_forward_expand": (None, _pointer, _pointer),
    "ggml_graph_compute_with_ctx": (_int, _pointer, _pointer, _int),
    "ggml_cpu_init": (None,),
}


class _Memory(ctypes.Structure):
    """ggml_init_params."""

    _fields_ = (
        ("size", ctypes.c_size_t),
        ("buffer", ctypes.c_void_p),
        ("has_no_data", ctypes.c_bool),
    )


class Ggml:
    """The operations. Not thread-safe: one buffer for all of them."""

    def __init__(self) -> None:
        """Look the functions up.

        Raises:
            AttributeError: a build that has not linked the CPU's.
        """
        self._buffer = np.empty(SCRATCH_BYTES, np.uint8)
        self._calls = {name: _function(name, *types) for name, types in _NAMES.items()}
        self._calls["ggml_init"] = _function("ggml_init", _pointer, _Memory)
        self._calls["ggml_cpu_init"]()

    def product(self, matrix: Matrix, x: Tensor) -> Tensor:
        """Return x (T, K) times the transposed matrix (N, K): (T, N)."""
        with _Scratch(self) as run:
            return run.result("ggml_mul_mat", matrix.handle, run.put(x), size=(len(x), matrix.n))

    def norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        """Return x (…, D) over its root mean square, times weight (D,)."""
        with _Scratch(self) as run:
            normed = run.call("ggml_rms_norm", run.put(x), eps)
            return run.result("ggml_mul", normed, run.put(weight), size=x.shape)

    def gated(self, gate: Tensor, up: Tensor) -> Tensor:
        """Return silu(gate) * up, both (T, n_ff)."""
        with _Scratch(self) as run:
            return run.result("ggml_swiglu_split", run.put(gate), run.put(up), size=gate.shape)

    def turned(
        self, x: Tensor, positions: Tensor, base: float, dim: int, *, is_interleaved: bool
    ) -> Tensor:
        """Return x (T, H, D) turned by its positions (T,), the first `dim` of D, unscaled."""
        mode = _ROPE_NEIGHBOURS if is_interleaved else _ROPE_HALVES
        with _Scratch(self) as run:
            at = run.put(positions.to(torch.int32))
            how = (dim, mode, 0, base, 1.0, 0.0, 1.0, 32.0, 1.0)
            return run.result("ggml_rope_ext", run.put(x), at, None, *how, size=x.shape)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, scale: float, allowed: Tensor) -> Tensor:
        """Return (H, T, D) of q (H, T, D), k and v (H_kv, n, D), allowed (T, n) bool."""
        mask = torch.zeros(allowed.shape, dtype=torch.float16)
        mask.masked_fill_(~allowed, float("-inf"))
        size = (q.shape[1], q.shape[0], q.shape[2])
        with _Scratch(self) as run:
            parts = (run.put(q.float()), run.put(k.half()), run.put(v.half()), run.put(mask))
            found = run.result("ggml_flash_attn_ext", *parts, scale, 0.0, 0.0, size=size)
        return found.transpose(0, 1)

    def call(self, name: str, *arguments: Any) -> Any:
        """Call a function of ggml's."""
        return self._calls[name](*arguments)

    def memory(self, size: int) -> int:
        """Return a context of ggml's with memory of its own."""
        return int(self.call("ggml_init", _Memory(size, None, False)))

    def scratch(self) -> int:
        """Return a context over the buffer that all operations share."""
        return int(self.call("ggml_init", _Memory(SCRATCH_BYTES, self._buffer.ctypes.data, False)))


class Matrix:
    """A matrix of a GGUF in ggml's memory, as it is in the file."""

    def __init__(self, ggml: Ggml, raw: Tensor, kind: int, n: int, k: int) -> None:
        """Copy `raw` (N, bytes of a row) uint8 of ggml's type `kind`; K weights a row."""
        self.n = n
        self._context = ggml.memory(raw.numel() + HEADER_BYTES)
        self.handle = ggml.call("ggml_new_tensor_3d", self._context, kind, k, n, 1)
        raw = raw.contiguous()
        ctypes.memmove(ggml.call("ggml_get_data", self.handle), raw.data_ptr(), raw.numel())


class _Scratch:
    """One operation: what goes in, and its result."""

    def __init__(self, ggml: Ggml) -> None:
        self._ggml = ggml
        self._context = ggml.scratch()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._ggml.call("ggml_free", self._context)

    def put(self, x: Tensor) -> int:
        x = x.contiguous()
        sizes = [*reversed(x.shape), 1, 1][:3]
        found = self.call("ggml_new_tensor_3d", _TYPES[x.dtype], *sizes)
        n_bytes = x.numel() * x.element_size()
        ctypes.memmove(self._ggml.call("ggml_get_data", found), x.data_ptr(), n_bytes)
        return int(found)

    def call(self, name: str, *arguments: Any) -> Any:
        return self._ggml.call(name, self._context, *arguments)

    def result(self, name: str, *arguments: Any, size: tuple[int, ...]) -> Tensor:
        found = self.call(name, *arguments)
        graph = self.call("ggml_new_graph")
        self._ggml.call("ggml_build_forward_expand", graph, found)
        if self._ggml.call("ggml_graph_compute_with_ctx", self._context, graph, 1):
            raise RuntimeError(f"{name} failed")
        out = torch.empty(size)
        ctypes.memmove(out.data_ptr(), self._ggml.call("ggml_get_data", found), 4 * out.numel())
        return out


def _function(name: str, result: Any, *arguments: Any) -> Any:
    # By item, not by attribute: that would change what llama-cpp-python declared of it.
    found = llama._lib[name]
    found.restype, found.argtypes = result, list(arguments)
    return found
