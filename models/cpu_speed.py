"""How fast this CPU computes a model's own products and attention, in llama.cpp's kernels.

    python -m models.cpu_speed        # a Work as JSON on stdin, a Speed as JSON on stdout

Runs in a process of its own (`measure`): the kernels are called without the library's guards. Some
tenths of a second: a matrix of the model's shape and type times a prompt's activations, and times
one token's; attention of a block of queries, and of one, over the KV type in question. Weights are
laid out as they will be, so that repacked types are measured repacked. By one thread: several on a
machine that is busy wait for each other, and the least time of one is still that of an idle core.
"""

from __future__ import annotations

import ctypes
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

N_PROMPT, N_QUERIES, N_KV = 128, 64, 2048
DECODE_BYTES = 96 << 20  # more than a cache holds
MOST_MATRICES = 500  # of one graph
LEAST_S = 0.2
TIMEOUT_S = 60.0
_F16, _F32 = 1, 0


class Work(msgspec.Struct, frozen=True):
    """What is to be measured: one layer's shapes and types (ggml's numbers)."""

    weight_type: int
    is_repacked: bool
    n_in: int
    n_out: int
    k_type: int
    v_type: int
    head_dim: int
    n_heads: int
    n_kv_heads: int


class Speed(msgspec.Struct, frozen=True):
    """Per second and thread: products, attention, weights and KV that one token reads."""

    flops_s: float
    attention_flops_s: float
    bytes_s: float
    kv_bytes_s: float


def measure(work: Work) -> Speed | None:
    """Return the speed, measured in a process of its own; None where that does not work here."""
    from models.processes import command

    try:
        done = subprocess.run(
            command("models.cpu_speed"),
            input=msgspec.json.encode(work),
            capture_output=True,
            timeout=TIMEOUT_S,
            check=True,
        )
        return msgspec.json.decode(done.stdout, type=Speed)
    except (OSError, subprocess.SubprocessError, msgspec.MsgspecError):
        return None


class _InitParams(ctypes.Structure):
    _fields_ = (
        ("mem_size", ctypes.c_size_t),
        ("mem_buffer", ctypes.c_void_p),
        ("no_alloc", ctypes.c_bool),
    )


class _Ggml:
    """The few functions of ggml that are needed; contexts and tensors are plain addresses."""

    def __init__(self) -> None:
        from models.llama_library import llama

        folder = Path(llama._lib._name).parent
        self.base = ctypes.CDLL(str(_library(folder, "ggml-base")))
        self.cpu = ctypes.CDLL(str(_library(folder, "ggml-cpu")))

    def call(self, name: str, *arguments: object, result: object = ctypes.c_void_p) -> Any:
        """Call a function of either library. Every argument is a ctypes value."""
        library = self.base if hasattr(self.base, name) else self.cpu
        function = getattr(library, name)
        function.restype = result
        return function(*arguments)

    def context(self, n_bytes: int, *, no_alloc: bool = False) -> ctypes.c_void_p:
        """Return a context that holds `n_bytes` of tensors, or their descriptions only."""
        return ctypes.c_void_p(self.call("ggml_init", _InitParams(n_bytes, None, no_alloc)))

    def tensor(self, context: ctypes.c_void_p, kind: int, *shape: int) -> ctypes.c_void_p:
        """Return a tensor of up to three dimensions, the fastest first."""
        sizes = [ctypes.c_int64(n) for n in (*shape, 1, 1)[:3]]
        made = self.call("ggml_new_tensor_3d", context, ctypes.c_int(kind), *sizes)
        return ctypes.c_void_p(made)

    def seconds(self, context: ctypes.c_void_p, results: Sequence[ctypes.c_void_p]) -> float:
        """Return the least seconds of computing all `results`, after one round of warming up."""
        graph = ctypes.c_void_p(self.call("ggml_new_graph", context))
        for result in results:
            self.call("ggml_build_forward_expand", graph, result, result=None)
        times: list[float] = []
        while len(times) < 3 or sum(times) < LEAST_S:
            began = time.perf_counter()
            self.call(
                "ggml_graph_compute_with_ctx",
                context,
                graph,
                ctypes.c_int(1),
                result=ctypes.c_int,
            )
            times.append(time.perf_counter() - began)
        return min(times[1:])


def _library(folder: Path, stem: str) -> Path:
    names = (f"lib{stem}.so", f"lib{stem}.dylib", f"{stem}.dll")
    return next(folder / name for name in names if (folder / name).exists())


def _weights(ggml: _Ggml, work: Work, n: int) -> list[ctypes.c_void_p]:
    """Return `n` matrices (n_out rows of n_in) of zeros, laid out as a loaded model's are."""
    context = ggml.context(1 << 20, no_alloc=True)
    found = [ggml.tensor(context, work.weight_type, work.n_in, work.n_out) for _ in range(n)]
    name = "_Z35ggml_backend_cpu_repack_buffer_typev" if work.is_repacked else ""
    kind = ggml.call(name if name and hasattr(ggml.cpu, name) else "ggml_backend_cpu_buffer_type")
    ggml.call("ggml_backend_alloc_ctx_tensors_from_buft", context, ctypes.c_void_p(kind))
    for tensor in found:
        size = int(ggml.call("ggml_nbytes", tensor, result=ctypes.c_size_t))
        zeros = ctypes.create_string_buffer(size)
        ggml.call(
            "ggml_backend_tensor_set",
            tensor,
            zeros,
            ctypes.c_size_t(0),
            ctypes.c_size_t(size),
            result=None,
        )
    return found


def _products(ggml: _Ggml, work: Work) -> tuple[float, float]:
    """Return (FLOP/s of a prompt's products, bytes/s of weights that one token reads)."""
    (one,) = _weights(ggml, work, 1)
    size = int(ggml.call("ggml_nbytes", one, result=ctypes.c_size_t))
    many = _weights(ggml, work, min(max(2, DECODE_BYTES // size), MOST_MATRICES))
    context = ggml.context(64 << 20)

    def product(weights: ctypes.c_void_p, n: int) -> ctypes.c_void_p:
        right = ggml.tensor(context, _F32, work.n_in, n)
        return ctypes.c_void_p(ggml.call("ggml_mul_mat", context, weights, right))

    prompt_s = ggml.seconds(context, [product(one, N_PROMPT)])
    token_s = ggml.seconds(context, [product(w, 1) for w in many])
    return 2.0 * work.n_in * work.n_out * N_PROMPT / prompt_s, size * len(many) / token_s


def _attention(ggml: _Ggml, work: Work) -> tuple[float, float]:
    """Return (FLOP/s of a prompt's attention, bytes/s of KV that one token reads)."""
    context = ggml.context(512 << 20)
    shape = (work.head_dim, N_KV, work.n_kv_heads)
    k, v = (ggml.tensor(context, kind, *shape) for kind in (work.k_type, work.v_type))
    n_bytes = sum(int(ggml.call("ggml_nbytes", t, result=ctypes.c_size_t)) for t in (k, v))
    for tensor in (k, v):
        data = ctypes.c_void_p(ggml.call("ggml_get_data", tensor))
        ctypes.memset(data, 0, int(ggml.call("ggml_nbytes", tensor, result=ctypes.c_size_t)))

    def attend(n: int) -> ctypes.c_void_p:
        query = ggml.tensor(context, _F32, work.head_dim, n, work.n_heads)
        mask = ggml.tensor(context, _F16, N_KV, -(-n // 64) * 64)
        data = ctypes.c_void_p(ggml.call("ggml_get_data", mask))
        ctypes.memset(data, 0, int(ggml.call("ggml_nbytes", mask, result=ctypes.c_size_t)))
        numbers = (ctypes.c_float(work.head_dim**-0.5), ctypes.c_float(0.0), ctypes.c_float(0.0))
        return ctypes.c_void_p(
            ggml.call("ggml_flash_attn_ext", context, query, k, v, mask, *numbers)
        )

    prompt_s = ggml.seconds(context, [attend(N_QUERIES)])
    token_s = ggml.seconds(context, [attend(1)])
    return 4.0 * N_QUERIES * N_KV * work.head_dim * work.n_heads / prompt_s, n_bytes / token_s


def main() -> None:
    """Measure the work on standard input; write its speed to standard output."""
    work = msgspec.json.decode(sys.stdin.buffer.read(), type=Work)
    ggml = _Ggml()
    flops_s, bytes_s = _products(ggml, work)
    attention_flops_s, kv_bytes_s = _attention(ggml, work)
    speed = Speed(flops_s, attention_flops_s, bytes_s, kv_bytes_s)
    sys.stdout.buffer.write(msgspec.json.encode(speed))


if __name__ == "__main__":
    main()
