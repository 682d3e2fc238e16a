"""Which block sizes a kernel takes: the one place for what `docqa.bench.torch_gpu` has measured.

A matrix-vector product: rows and runs of 32 weights of a program, its warps, steps that it loads at
a time. Attention: (warps, stages
of the pipeline, programs a multiprocessor).
"""

from __future__ import annotations

MATVEC: dict[tuple[int, int, int], tuple[int, int, int, int]] = {
    (4, 6144, 4096): (2, 32, 1, 2),
    (4, 4096, 4096): (2, 32, 1, 2),
}  # (bits, N, K); others as below
MATVEC_BY_BITS = {4: (1, 32, 1, 2), 5: (1, 32, 1, 2), 6: (1, 32, 1, 4), 8: (1, 32, 1, 2)}
ATTEND = {16: (2, 2, 4), 8: (1, 1, 8), 4: (1, 1, 8)}  # by the bits of K


def matvec_blocks(bits: int, n: int, k: int) -> tuple[int, int, int, int]:
    """Return the blocks for a matrix (N, K) of codes of `bits` bits."""
    return MATVEC.get((bits, n, k), MATVEC_BY_BITS[bits])


def attend_blocks(k_bits: int) -> tuple[int, int, int]:
    """Return warps, stages and programs a multiprocessor for a cache of `k_bits` bits."""
    return ATTEND[k_bits]
