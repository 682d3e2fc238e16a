"""What there is to compute with: free memory, a GPU that this build can use, and how fast it is."""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
import subprocess
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from models.model_file import ModelFile

# Memory bandwidth in GB/s and dense f16 TFLOP/s as the makers state them: only for estimates.
GPUS: dict[str, tuple[float, float]] = {
    "H200": (4800, 990),
    "H100": (3350, 990),
    "A100": (1550, 312),
    "L40": (864, 181),
    "A10": (600, 125),
    "L4": (300, 121),
    "T4": (320, 65),
    "5090": (1790, 210),
    "5080": (960, 113),
    "4090": (1008, 165),
    "4080": (717, 97),
    "4070": (504, 58),
    "4060": (272, 30),
    "3090": (936, 71),
    "3080": (760, 60),
    "3060": (360, 25),
}
OTHER_GPU = (300.0, 25.0)
# Of what is stated, in llama.cpp's kernels: fitted to llama-bench on an H200 with a model of 8B in
# Q4_K and one of 135M in Q4_1, at depths of 0 to 122,880.
ATTAINED_BANDWIDTH, ATTAINED_FLOPS, ATTAINED_ATTENTION = 0.38, 0.195, 0.27
ATTAINED_KV = {"f16": 0.49, "bf16": 0.49, "q8_0": 0.117, "q4_0": 0.06}
GPU_LAYER_S, QUANTISED_LAYER_S = 37e-6, 11e-6  # of each layer's launches; more to quantise its KV
GPU_TOKEN_LAYER_S = 0.51e-6  # of a token of a prompt in each layer, beside its products
THREAD_GAIN = 0.85  # what each further thread adds to the first
DISK_BYTES_S = 1.5e9  # an NVMe drive with a cold cache


@dataclass(frozen=True, slots=True)
class Hardware:
    """One place to compute, and its speed for estimates. A GPU has `vram_bytes`."""

    name: str
    ram_bytes: int  # free
    vram_bytes: int  # free; 0: no GPU, or a build that cannot use one
    bytes_s: float
    flops_s: float
    disk_bytes_s: float = DISK_BYTES_S
    attention_flops_s: float = 0.0  # 0: as flops_s
    kv_bytes_s: float = 0.0  # 0: as bytes_s
    layer_s: float = 0.0  # what a token costs in each layer, however little there is to read
    token_layer_s: float = 0.0  # what one of a prompt costs there, however small the matrices are


def detect(*, measures_speed: bool = True) -> Hardware:
    """Return what this machine has free right now. The speed of a CPU is measured for 50 ms."""
    import psutil

    ram = int(psutil.virtual_memory().available)
    gpu = nvidia() if build_has_gpu() else None
    if gpu is None:
        bytes_s, flops_s = cpu_speed() if measures_speed else (0.0, 0.0)
        return Hardware("CPU", ram, 0, bytes_s, flops_s)
    return gpu_named(gpu[0], ram, gpu[1])


def gpu_named(name: str, ram: int, vram: int) -> Hardware:
    """Return a GPU with the speed that its name tells."""
    bandwidth, tflops = next((v for k, v in GPUS.items() if k in name), OTHER_GPU)
    return Hardware(
        name,
        ram,
        vram,
        ATTAINED_BANDWIDTH * bandwidth * 1e9,
        ATTAINED_FLOPS * tflops * 1e12,
        attention_flops_s=ATTAINED_ATTENTION * tflops * 1e12,
        layer_s=GPU_LAYER_S,
        token_layer_s=GPU_TOKEN_LAYER_S,
    )


def measured(hardware: Hardware, model: ModelFile, pair: tuple[str, str], n: int) -> Hardware:
    """Return the place with the speed of llama.cpp's kernels on this model and KV types.

    A CPU is measured with `n` threads, in a second or two, and stays as it is where that cannot be
    done. Of a GPU it is looked up.
    """
    if hardware.vram_bytes:
        return _with_kv_speed(hardware, pair)
    from models.cpu_speed import Work, measure
    from models.memory import REPACKED_TYPES
    from models.settings import KV_TYPES

    layers = [t for t in model.tensors if t.name.startswith("blk.") and len(t.shape) == 2]
    if not layers or not max(model.n_kv_heads) or model.kv_lora_rank:
        return hardware
    largest = max(layers, key=lambda t: t.n_bytes)
    layer = model.n_kv_heads.index(max(model.n_kv_heads))
    found = measure(
        Work(
            largest.type_id,
            largest.type_id in REPACKED_TYPES,
            largest.shape[0],
            largest.shape[1],
            KV_TYPES[pair[0]],
            KV_TYPES[pair[1]],
            model.head_dim_k,
            model.n_heads[layer],
            model.n_kv_heads[layer],
        )
    )
    if found is None or model.head_dim_k != model.head_dim_v:
        return hardware
    gain = 1 + THREAD_GAIN * (n - 1)
    return replace(
        hardware,
        bytes_s=found.bytes_s * gain,
        flops_s=found.flops_s * gain,
        attention_flops_s=found.attention_flops_s * gain,
        kv_bytes_s=found.kv_bytes_s * gain,
    )


def _with_kv_speed(gpu: Hardware, pair: tuple[str, str]) -> Hardware:
    share = 2 / sum(1 / ATTAINED_KV[kind] for kind in pair)
    return replace(
        gpu,
        kv_bytes_s=gpu.bytes_s * share / ATTAINED_BANDWIDTH,
        layer_s=gpu.layer_s + QUANTISED_LAYER_S * any(kind[0] == "q" for kind in pair),
    )


def build_has_gpu() -> bool:
    """Whether the installed llama.cpp was built for a GPU; looked up without loading it."""
    spec = importlib.util.find_spec("llama_cpp")
    if spec is None or spec.origin is None:
        return False
    folder = Path(spec.origin).parent / "lib"
    kinds = ("cuda", "metal", "vulkan", "hip", "sycl")
    return any(f"ggml-{kind}" in file.name for file in folder.glob("*") for kind in kinds)


def nvidia() -> tuple[str, int] | None:
    """Return (name, free bytes) of the NVIDIA GPU with the most free memory.

    Of those that CUDA shows to this process: nvidia-smi by itself knows nothing of that.
    """
    program = shutil.which("nvidia-smi")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if program is None or visible in ("", "-1"):
        return None
    query = [program, "--query-gpu=name,memory.free", "--format=csv,noheader,nounits"]
    query += ["-i", visible] if visible else []
    try:
        found = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True)
        rows = [line.rsplit(",", 1) for line in found.stdout.splitlines() if "," in line]
        return max(((n.strip(), int(m) << 20) for n, m in rows), key=lambda gpu: gpu[1])
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


@functools.cache
def cpu_speed() -> tuple[float, float]:
    """Return (bytes/s, FLOP/s) of this CPU, measured for some 50 ms."""
    source = np.ones(1 << 23, np.float32)
    target = np.empty_like(source)
    left = np.ones((384, 384), np.float32)
    copies = min(_seconds(lambda: np.copyto(target, source)) for _ in range(3))
    products = min(_seconds(lambda: left @ left) for _ in range(3))
    # A copy reads and writes; decoding only reads. Quantised products run at about half of BLAS.
    return 2 * source.nbytes / copies, 0.5 * 2 * 384**3 / products


def _seconds(action: object) -> float:
    assert callable(action)
    began = time.perf_counter()
    action()
    return max(time.perf_counter() - began, 1e-9)
