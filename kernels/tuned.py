"""Which block sizes a kernel takes: the one place for what `docqa.bench.torch_gpu` has measured.

These are of an H200, 2026-11-23 (`README.md` beside this).
"""

from __future__ import annotations

from dataclasses import dataclass

# A matrix-vector product: rows and runs of 32 weights of a program, its warps, steps whose loads
# are under way together. By (bits, N, K); others by their bits.
MATVEC: dict[tuple[int, int, int], tuple[int, int, int, int]] = {
    (4, 4096, 4096): (2, 32, 1, 2),
    (4, 4096, 14336): (1, 32, 1, 1),
}
MATVEC_BY_BITS = {4: (2, 32, 1, 1), 5: (1, 32, 1, 2), 6: (1, 32, 1, 1), 8: (2, 32, 1, 4)}


@dataclass(frozen=True, slots=True)
class AttendBlocks:
    """How a cache is read, a page at a time, by `programs` for each multiprocessor.

    `dense_parts` programs of a head take the stretches in float16 (16 sinks and 128 newest are nine
    blocks of 16). `most_registers` of a thread; 0: what the compiler takes.
    """

    num_warps: int
    num_stages: int
    programs: int
    dense_parts: int = 3
    most_registers: int = 0


ATTEND = {  # by the bits of K
    16: AttendBlocks(4, 2, 4),
    8: AttendBlocks(1, 2, 8, 9),
    4: AttendBlocks(1, 2, 12, 9, most_registers=168),
}


# Up to so many pages of a head, so many parts of a sequence; longer ones take all programs.
SHORT = ((16, 32), (64, 96))


def matvec_blocks(bits: int, n: int, k: int) -> tuple[int, int, int, int]:
    """Return the blocks for a matrix (N, K) of codes of `bits` bits."""
    return MATVEC.get((bits, n, k), MATVEC_BY_BITS[bits])


def attend_blocks(k_bits: int) -> AttendBlocks:
    """Return the blocks for a cache of `k_bits` bits."""
    return ATTEND[k_bits]
