"""Quantised matrices as the matrix-vector kernel reads them: planes of 32-bit words.

The bytes of a GGUF block are not laid out for wide loads. `pack` rearranges any format of
`kernels.dequantise` into one form:

- `low`  (N, K / 8) int32: the low four bits of each code. The 32 weights of a run are four words;
  weight 4 j + i of the run is nibble j of word i, so that a thread that loads a run as 16 bytes
  multiplies nibble j by four neighbours of x.
- `high` (N, K h / 32) int32, h = bits - 4: what is above. Weight 4 j + i is in word i h // 4, its
  bits from (i % (4 / h)) (8 h) + j h. None for four-bit formats.
- `factors` and `subs`: d and sub of `Parts`, and beside each the minimum's where there is one.

The bytes are those of the file, but for six-bit sub-scales that take eight here (Q4_K: 4.63 bits a
weight instead of 4.5).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.dequantise import Parts, split

RUN = 32  # weights of a run: four words of nibbles


@dataclass(frozen=True, slots=True)
class PackedMatrix:
    """A matrix (N, K) in planes; see the module."""

    low: Tensor
    high: Tensor | None
    bits: int
    offset: int
    factors: Tensor  # (N, K / super-group, 1 or 2) float16
    subs: Tensor | None  # (N, K / group, 1 or 2) int8

    @property
    def n(self) -> int:
        """Rows."""
        return int(self.low.shape[0])

    @property
    def k(self) -> int:
        """Columns."""
        return 8 * int(self.low.shape[1])

    @property
    def n_bytes(self) -> int:
        """Of all planes."""
        return sum(t.numel() * t.element_size() for t in self.planes if t is not None)

    @property
    def planes(self) -> tuple[Tensor | None, ...]:
        """The planes in the order in which the kernels take them; None: the format has none."""
        return self.low, self.high, self.factors, self.subs

    @property
    def pointers(self) -> tuple[Tensor, ...]:
        """The planes for a kernel, which does not read those that there are not."""
        return tuple(self.low if plane is None else plane for plane in self.planes)

    @property
    def format(self) -> dict[str, int | bool]:
        """What a kernel is compiled for."""
        n_groups = int((self.factors if self.subs is None else self.subs).shape[1])
        return {
            "bits": self.bits,
            "offset": self.offset,
            "halves": n_groups * RUN // self.k,
            "per_super": n_groups // int(self.factors.shape[1]),
            "has_sub": self.subs is not None,
            "has_min": self.factors.shape[2] == 2,
        }

    def to(self, device: torch.device | str) -> PackedMatrix:
        """Return the matrix on `device`."""
        return self._map(lambda t: t.to(device))

    def rows(self, index: Tensor | slice) -> PackedMatrix:
        """Return some rows: an embedding is looked up so."""
        return self._map(lambda t: t[index])

    def _map(self, change: object) -> PackedMatrix:
        def one(t: Tensor | None) -> Tensor | None:
            return None if t is None else change(t)  # type: ignore[operator]

        low, factors = change(self.low), change(self.factors)  # type: ignore[operator]
        high, subs = one(self.high), one(self.subs)
        return PackedMatrix(low, high, self.bits, self.offset, factors, subs)

    def parts(self) -> Parts:
        """Return the matrix with one code a byte again."""
        codes = _unpacked_low(self.low)
        if self.high is not None:
            codes |= _unpacked_high(self.high, self.bits - 4) << 4
        d, dmin = _apart(self.factors)
        sub, submin = (None, None) if self.subs is None else _apart(self.subs)
        return Parts(codes, self.bits, self.offset, d, sub, dmin, submin)

    def dense(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return the weights (N, K); in float32 they equal `dequantise` of the file's bytes."""
        parts = self.parts()
        scale, minimum = parts.scale, parts.minimum
        n, n_groups = scale.shape
        grouped = (parts.codes.view(n, n_groups, -1).float() - parts.offset) * scale[..., None]
        if minimum is not None:
            grouped -= minimum[..., None]
        return grouped.view(n, -1).to(dtype)


def pack(raw: Tensor, kind: str) -> PackedMatrix:
    """Return rows `raw` (N, bytes of a row) uint8 of a block format in planes.

    Raises:
        KeyError: `kind` is no block format.
    """
    parts = split(raw, kind)
    n, k = parts.codes.shape
    runs = parts.codes.view(n, k // RUN, 8, 4)  # (…, j, i)
    low = _words((runs & 15).to(torch.int64), torch.arange(8) * 4, dim=2).view(n, k // 8)
    high = None
    if parts.bits > 4:
        high = _packed_high((runs >> 4).to(torch.int64), parts.bits - 4).view(n, -1)
    factors = _beside(parts.d, parts.dmin)
    subs = None if parts.sub is None else _beside(parts.sub, parts.submin)
    return PackedMatrix(low, high, parts.bits, parts.offset, factors, subs)


def _beside(one: Tensor, other: Tensor | None) -> Tensor:
    """(N, G) and (N, G) → (N, G, 2), or (N, G, 1)."""
    return one[..., None] if other is None else torch.stack((one, other), dim=2)


def _apart(pairs: Tensor) -> tuple[Tensor, Tensor | None]:
    return pairs[..., 0], pairs[..., 1] if pairs.shape[2] == 2 else None


def _words(fields: Tensor, shifts: Tensor, dim: int) -> Tensor:
    """Put the fields along `dim` into 32-bit words, the first at shifts[0]."""
    shape = [1] * fields.dim()
    shape[dim] = -1
    words = (fields << shifts.to(fields.device).view(shape)).sum(dim)
    return torch.where(words >= 1 << 31, words - (1 << 32), words).to(torch.int32)


def _packed_high(runs: Tensor, h: int) -> Tensor:
    """(N, runs, j 8, i 4) → (N, runs, h) words."""
    n, n_runs = runs.shape[:2]
    share = 4 // h  # values of i in one word
    fields = runs.view(n, n_runs, 8, h, share).permute(0, 1, 3, 4, 2).reshape(n, n_runs, h, -1)
    return _words(fields, torch.arange(8 * share) * h, dim=3)


def _unpacked_low(low: Tensor) -> Tensor:
    n, n_words = low.shape
    shifts = torch.arange(0, 32, 4, dtype=torch.int32, device=low.device).view(1, 1, 8, 1)
    return ((low.view(n, -1, 1, 4) >> shifts) & 15).to(torch.uint8).view(n, 8 * n_words)


def _unpacked_high(high: Tensor, h: int) -> Tensor:
    n = high.shape[0]
    share = 4 // h
    shifts = torch.arange(0, 32, h, dtype=torch.int32, device=high.device).view(1, 1, 1, share, 8)
    fields = (high.view(n, -1, h, 1, 1) >> shifts) & ((1 << h) - 1)
    return fields.permute(0, 1, 4, 2, 3).to(torch.uint8).reshape(n, -1)
