"""Weights in torch are gguf-py's, bit for bit, whatever the bytes."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
import torch

from kernels.dequantise import BLOCKS, PLAIN, dequantise, split


def random_rows(kind: str, n: int, n_blocks: int, seed: int) -> np.ndarray:
    """Rows of random bytes: every code, every sub-scale; scales are kept finite."""
    n_bytes = BLOCKS[kind][1]
    rng = np.random.default_rng(seed)
    if kind in PLAIN:
        values = rng.standard_normal((n, n_blocks)).astype(np.float32)
        if kind == "BF16":
            return (values.view(np.uint32) >> 16).astype(np.uint16).view(np.uint8)
        return values.astype(np.float16 if kind == "F16" else np.float32).view(np.uint8)
    rows = rng.integers(0, 256, (n, n_blocks, n_bytes), dtype=np.uint8)
    halves = {"Q6_K": [208], "Q4_0": [0], "Q5_0": [0], "Q8_0": [0]}.get(kind, [0, 2])
    for at in halves:
        scale = rng.standard_normal((n, n_blocks, 1)).astype(np.float16)
        rows[..., at : at + 2] = scale.view(np.uint8)
    return rows.reshape(n, -1)


@pytest.mark.parametrize("kind", sorted(BLOCKS))
@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (16, 2)])
def test_weights_are_bit_equal_to_gguf_py(kind, shape):
    rows = random_rows(kind, *shape, seed=len(kind) + shape[0])
    expected = gguf.quants.dequantize(rows, gguf.GGMLQuantizationType[kind]).astype(np.float32)
    found = dequantise(torch.from_numpy(rows), kind).numpy()
    assert found.shape == expected.shape
    assert (found.view(np.uint32) == expected.view(np.uint32)).all()


def test_subnormal_and_negative_scales():
    rows = random_rows("Q4_K", 2, 3, seed=1)
    rows.reshape(-1, 144)[:, 0:2] = np.array([3], np.uint16).view(np.uint8)  # subnormal
    rows.reshape(-1, 144)[:, 2:4] = np.array([-0.5], np.float16).view(np.uint8)
    expected = gguf.quants.dequantize(rows, gguf.GGMLQuantizationType.Q4_K)
    found = dequantise(torch.from_numpy(rows), "Q4_K").numpy()
    assert (found.view(np.uint32) == expected.view(np.uint32)).all()


@pytest.mark.parametrize("kind", sorted(set(BLOCKS) - set(PLAIN)))
def test_codes_fit_their_bits(kind):
    parts = split(torch.from_numpy(random_rows(kind, 4, 2, seed=7)), kind)
    assert int(parts.codes.max()) < 1 << parts.bits
    assert parts.codes.shape[1] % parts.scale.shape[1] == 0


def test_an_unknown_format_is_refused():
    with pytest.raises(KeyError):
        dequantise(torch.zeros(1, 84, dtype=torch.uint8), "Q2_K")
