"""Tensors of a training run as safetensors files of a bounded size."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch import Tensor

PART_BYTES = 15_000_000


def write_parts(
    tensors: Mapping[str, Tensor], out: Path, stem: str, about: dict[str, str], limit: int = 0
) -> None:
    """Write `stem-0.safetensors` … as float16, of at most `limit` bytes (0: the usual) each.

    A file is replaced whole. A tensor (L, …) that is larger than a file is cut between its layers:
    `attn_q.a` is then found as `attn_q.a/0`, `attn_q.a/12` …
    """
    from safetensors.torch import save_file

    limit = limit or PART_BYTES
    parts: list[dict[str, Tensor]] = [{}]
    for name, tensor in tensors.items():
        half = tensor.detach().half().cpu()
        n_rows = max(1, limit // half[0].nbytes)
        for first in range(0, len(half), n_rows):
            piece = half[first : first + n_rows].contiguous()
            held = sum(t.nbytes for t in parts[-1].values())
            if parts[-1] and held + piece.nbytes > limit:
                parts.append({})
            parts[-1][name if n_rows >= len(half) else f"{name}/{first}"] = piece
    for i, part in enumerate(parts):
        file = out / f"{stem}-{i}.safetensors"
        save_file(part, file.with_suffix(".tmp"), metadata=about)
        file.with_suffix(".tmp").replace(file)


def load_parts(folder: Path, stem: str = "adapter") -> dict[str, npt.NDArray[np.float16]]:
    """Return the tensors of `stem-*.safetensors` under their names, cut ones joined."""
    from safetensors.numpy import load_file

    found: dict[str, npt.NDArray[np.float16]] = {}
    cut: dict[str, dict[int, npt.NDArray[np.float16]]] = {}
    for file in sorted(folder.glob(f"{stem}-*.safetensors")):
        for key, tensor in load_file(file).items():
            name, _, first = key.partition("/")
            if first:
                cut.setdefault(name, {})[int(first)] = tensor
            else:
                found[name] = tensor
    found |= {n: np.concatenate([p[i] for i in sorted(p)]) for n, p in cut.items()}
    if not found:
        raise FileNotFoundError(f"{folder}: no {stem}-*.safetensors")
    return found
