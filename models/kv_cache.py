"""The KV of conversations: paged, quantised, shared by forks, really freed when it is dropped.

A cache holds the tokens of one conversation in three stretches, in order:

    sinks (float16) | pages of 64 tokens (`kernels.kv_pages`: 4, 8 or 16 bits) | newest (float16)

The newest `WINDOW` tokens at least, and the first `N_SINK`, stay in float16. Pages come from one
`PagePool` for all layers, heads and conversations; a fork shares them (counted), and a head may
keep other pages than its neighbour, so that per-head eviction frees memory. Tokens are cut off at
any place: a page that is cut is decoded into the newest. After an eviction only the newest can be.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from kernels import kv_pages
from kernels.kv_pages import PAGE
from models.torch_shape import Shape

N_SINK = 16
WINDOW = 64  # newest tokens that stay in float16, at least
N_NEWEST = WINDOW + PAGE  # room for them

TOKENS_AT_ONCE = 4096  # that are in float while they are encoded, over all layers

Ids = npt.NDArray[np.int32]


class NoRoom(Exception):
    """The pool has no page left."""


@dataclass(frozen=True, slots=True)
class KvFormat:
    """How K and V are kept: bits of a page's codes, and whether they are rotated before."""

    k_bits: int = 8
    v_bits: int = 8
    rotation: bool = False

    def token_bytes(self, shape: Shape) -> float:
        """Return the bytes of a token in pages, over all layers and heads, scales included."""
        per_page = kv_pages.page_bytes(shape.head_dim, self.k_bits, is_k=True)
        per_page += kv_pages.page_bytes(shape.head_dim, self.v_bits, is_k=False)
        return per_page / PAGE * shape.n_layers * shape.n_kv_heads


class PagePool:
    """Pages of K and V, each of one head of one layer; a page may have several owners."""

    def __init__(
        self, n_pages: int, head_dim: int, form: KvFormat, device: torch.device | str = "cpu"
    ) -> None:
        """Set `n_pages` pages aside.

        Raises:
            torch.OutOfMemoryError: the device has not as much.
        """
        self.form, self.head_dim, self.device = form, head_dim, torch.device(device)
        self.k_codes, self.k_scale, self.k_zero = self._planes(n_pages, is_k=True)
        self.v_codes, self.v_scale, self.v_zero = self._planes(n_pages, is_k=False)
        self._free = np.arange(n_pages, dtype=np.int32)[::-1].copy()
        self._n_free = n_pages
        self._owners = np.zeros(n_pages, np.int32)

    def _planes(self, n: int, *, is_k: bool) -> tuple[Tensor, Tensor, Tensor]:
        bits = self.form.k_bits if is_k else self.form.v_bits
        codes = kv_pages.empty_codes(n, self.head_dim, bits, self.device, is_k=is_k)
        scales = (self.head_dim,) if is_k else (PAGE, 2)
        size = (0, *scales) if bits == 16 else (n, *scales)
        scale = torch.empty(size, dtype=torch.float16, device=self.device)
        return codes, scale, torch.empty_like(scale)

    @property
    def n_pages(self) -> int:
        """All pages."""
        return len(self._owners)

    @property
    def n_free(self) -> int:
        """Pages that nobody owns."""
        return self._n_free

    @property
    def page_bytes(self) -> int:
        """Bytes of one page, K and V."""
        bits = self.form
        return kv_pages.page_bytes(self.head_dim, bits.k_bits, is_k=True) + kv_pages.page_bytes(
            self.head_dim, bits.v_bits, is_k=False
        )

    def take(self, n: int) -> Ids:
        """Return `n` pages with one owner each.

        Raises:
            NoRoom: there are not as many.
        """
        if n > self._n_free:
            raise NoRoom
        self._n_free -= n
        ids = self._free[self._n_free : self._n_free + n].copy()
        self._owners[ids] = 1
        return ids

    def share(self, ids: Ids) -> None:
        """Give pages one more owner."""
        self._owners[ids.ravel()] += 1

    def release(self, ids: Ids) -> None:
        """Take one owner away; pages that have none are free again."""
        flat = ids.ravel()
        self._owners[flat] -= 1
        freed = flat[self._owners[flat] == 0]
        self._free[self._n_free : self._n_free + len(freed)] = freed
        self._n_free += len(freed)

    def write(self, ids: Ids, k: Tensor, v: Tensor) -> None:
        """Encode K and V (m, PAGE, D) into pages `ids` (m,)."""
        at = torch.from_numpy(ids.astype(np.int64)).to(self.device)
        for planes, encoded in (
            ((self.k_codes, self.k_scale, self.k_zero), kv_pages.encode_k(k, self.form.k_bits)),
            ((self.v_codes, self.v_scale, self.v_zero), kv_pages.encode_v(v, self.form.v_bits)),
        ):
            for plane, values in zip(planes, encoded, strict=True):
                if plane.shape[0]:
                    plane[at] = values

    def read(self, ids: Ids) -> tuple[Tensor, Tensor]:
        """Return K and V (…, PAGE, D) float32 of pages `ids` (…)."""
        at = torch.from_numpy(ids.astype(np.int64)).to(self.device)

        def of(plane: Tensor) -> Tensor:
            return plane[at] if plane.shape[0] else plane

        form = self.form
        k = kv_pages.decode_k(of(self.k_codes), of(self.k_scale), of(self.k_zero), form.k_bits)
        v = kv_pages.decode_v(of(self.v_codes), of(self.v_scale), of(self.v_zero), form.v_bits)
        return k, v

    def planes(self) -> list[Tensor]:
        """Return all planes, for saving: those without bytes are left out."""
        every = (
            self.k_codes,
            self.k_scale,
            self.k_zero,
            self.v_codes,
            self.v_scale,
            self.v_zero,
        )
        return [plane for plane in every if plane.shape[0]]


class KvCache:
    """One conversation's KV over all layers."""

    def __init__(self, pool: PagePool, shape: Shape, dense: torch.dtype = torch.float16) -> None:
        self.pool, self.shape = pool, shape
        size = (shape.n_layers, shape.n_kv_heads)
        self.sinks = self._dense(N_SINK, dense)
        self.newest = self._dense(N_NEWEST, dense)
        self.tables: list[list[Ids]] = [
            [np.zeros(0, np.int32) for _ in range(size[1])] for _ in range(size[0])
        ]
        self.n_sinks = self.n_newest = 0
        self._n_paged = 0  # tokens that went into pages, those evicted included
        self.n_evicted = 0  # tokens that some head no longer has
        self.n_moved = 0  # positions by which re-rotated K moved down
        self.version = 0  # of the tables, for a copy on the device

    def _dense(self, n: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        shape = self.shape
        size = (shape.n_layers, shape.n_kv_heads, n, shape.head_dim)
        device = self.pool.device
        return torch.zeros(size, dtype=dtype, device=device), torch.zeros(
            size, dtype=dtype, device=device
        )

    # -- what there is ----------------------------------------------------------------------------

    @property
    def n_tokens(self) -> int:
        """Tokens that were appended and not cut off."""
        return self.n_sinks + self._n_paged + self.n_newest

    @property
    def next_position(self) -> int:
        """The position of the next token."""
        return self.n_tokens - self.n_moved

    @property
    def n_paged(self) -> int:
        """Tokens behind the sinks that left the newest, those evicted included."""
        return self._n_paged

    @property
    def n_bytes(self) -> int:
        """Bytes of pages and of the stretches in float16. Shared pages count in full."""
        n_pages = sum(len(ids) for layer in self.tables for ids in layer)
        dense = 2 * self.sinks[0][:, :, : self.n_sinks].numel()
        dense += 2 * self.newest[0][:, :, : self.n_newest].numel()
        return n_pages * self.pool.page_bytes + int(dense * self.sinks[0].element_size())

    def layer(
        self, index: int, dtype: torch.dtype = torch.float32
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return K and V (H_kv, n, D) of a layer, decoded, and which are there (H_kv, n).

        None stands for all; heads that kept fewer pages than others are padded.
        """
        tables = self.tables[index]
        counts = [len(ids) for ids in tables]
        most = max(counts)
        padded = np.stack([np.pad(ids, (0, most - len(ids))) for ids in tables])
        k, v = self.pool.read(padded)
        stretches = []
        for which, paged in enumerate((k, v)):
            sinks = self.sinks[which][index][:, : self.n_sinks].to(dtype)
            newest = self.newest[which][index][:, : self.n_newest].to(dtype)
            pages = paged.flatten(1, 2).to(dtype)
            stretches.append(torch.cat((sinks, pages, newest), dim=1))
        if min(counts) == most:
            return stretches[0], stretches[1], None
        n = stretches[0].shape[1]
        there = torch.ones((len(counts), n), dtype=torch.bool, device=self.pool.device)
        for head, count in enumerate(counts):
            there[head, self.n_sinks + count * PAGE : self.n_sinks + most * PAGE] = False
        return stretches[0], stretches[1], there

    # -- growing ----------------------------------------------------------------------------------

    def append(self, k: Tensor, v: Tensor) -> None:
        """Add K and V (n_layers, H_kv, T, D) of new tokens.

        Raises:
            NoRoom: the pool has not enough pages; nothing has changed.
        """
        n_new = k.shape[2]
        n_to_sinks = min(n_new, N_SINK - self.n_sinks) if not self._n_paged + self.n_newest else 0
        n_rest = self.n_newest + n_new - n_to_sinks
        n_full = max(0, (n_rest - WINDOW) // PAGE) if n_rest >= N_NEWEST else 0
        ids = self._take(n_full)
        for which, new in enumerate((k, v)):
            self.sinks[which][:, :, self.n_sinks : self.n_sinks + n_to_sinks] = new[
                :, :, :n_to_sinks
            ]
        self.n_sinks += n_to_sinks
        k, v = k[:, :, n_to_sinks:], v[:, :, n_to_sinks:]
        if not n_full:
            for which, new in enumerate((k, v)):
                self.newest[which][:, :, self.n_newest : n_rest] = new
            self.n_newest = n_rest
            return
        # All layers at once for a page or two; of a long chunk, a layer in float at a time.
        n_at_once = max(1, TOKENS_AT_ONCE // (n_full * PAGE))
        for at in range(0, self.shape.n_layers, n_at_once):
            layers = slice(at, at + n_at_once)
            self._append_layers(layers, (k[layers], v[layers]), ids[layers])
        self._n_paged += n_full * PAGE
        self.n_newest = n_rest - n_full * PAGE
        self.version += 1

    def _take(self, n_full: int) -> Ids:
        shape = self.shape
        n = n_full * shape.n_layers * shape.n_kv_heads
        return self.pool.take(n).reshape(shape.n_layers, shape.n_kv_heads, n_full)

    def _append_layers(self, layers: slice, new: tuple[Tensor, Tensor], ids: Ids) -> None:
        """Put the oldest of the newest and of K and V (l, H_kv, T, D) into pages (l, H_kv, m)."""
        n_full = ids.shape[2]
        paged = []
        for which in (0, 1):
            kept = self.newest[which][layers]
            joined = torch.cat((kept[:, :, : self.n_newest], new[which].to(kept.dtype)), dim=2)
            rest = joined[:, :, n_full * PAGE :]
            kept[:, :, : rest.shape[2]] = rest
            full = joined[:, :, : n_full * PAGE]
            paged.append(full.reshape(ids.size, PAGE, -1))
        self.pool.write(ids.ravel(), *paged)
        for tables, of_layer in zip(self.tables[layers], ids, strict=True):
            for head, pages in enumerate(of_layer):
                tables[head] = np.concatenate((tables[head], pages))

    # -- cutting and sharing ----------------------------------------------------------------------

    def truncate(self, n: int) -> bool:
        """Keep the first `n` tokens; False, and nothing done, where they cannot be told apart."""
        if n >= self.n_tokens:
            return True
        if n == 0:
            self.clear()
            return True
        n_before_newest = self.n_sinks + self._n_paged
        if n >= n_before_newest:
            self.n_newest = n - n_before_newest
            return True
        if self.n_evicted:
            return False
        n_pages, n_rest = divmod(max(n - self.n_sinks, 0), PAGE)
        if n_rest:
            self._reopen(n_pages, n_rest)
        for layer in self.tables:
            for head, ids in enumerate(layer):
                self.pool.release(ids[n_pages:])
                layer[head] = ids[:n_pages]
        self.n_sinks = min(self.n_sinks, n)
        self._n_paged, self.n_newest = n_pages * PAGE, n_rest
        self.version += 1
        return True

    def _reopen(self, page: int, n: int) -> None:
        """Decode the first `n` tokens of each head's `page` into the newest."""
        for layer, tables in enumerate(self.tables):
            k, v = self.pool.read(np.array([ids[page] for ids in tables], np.int32))
            for which, values in enumerate((k, v)):
                target = self.newest[which]
                target[layer, :, :n] = values[:, :n].to(target.dtype)

    def clear(self) -> None:
        """Forget everything; the pages are free again."""
        for layer in self.tables:
            for head, ids in enumerate(layer):
                self.pool.release(ids)
                layer[head] = ids[:0]
        self.n_sinks = self._n_paged = self.n_newest = self.n_evicted = self.n_moved = 0
        self.version += 1

    def fork(self, n: int) -> KvCache:
        """Return a cache of the first `n` tokens that shares its pages with this one.

        Raises:
            ValueError: they cannot be told apart after an eviction.
        """
        copy = KvCache(self.pool, self.shape, self.sinks[0].dtype)
        for mine, its in ((self.sinks, copy.sinks), (self.newest, copy.newest)):
            for which in (0, 1):
                its[which].copy_(mine[which])
        copy.tables = [[ids.copy() for ids in layer] for layer in self.tables]
        for layer in self.tables:
            for ids in layer:
                self.pool.share(ids)
        copy.n_sinks, copy._n_paged, copy.n_newest = self.n_sinks, self._n_paged, self.n_newest
        copy.n_evicted, copy.n_moved = self.n_evicted, self.n_moved
        if not copy.truncate(n):
            copy.clear()
            raise ValueError("a cache that was compressed shares only its whole")
        return copy

    # -- eviction ---------------------------------------------------------------------------------

    def replace_layer(self, layer: int, k: list[Tensor], v: list[Tensor]) -> None:
        """Put K and V (m PAGE, D), one of each head, where the pages of a layer were.

        Raises:
            NoRoom: before anything has changed. Old pages count as free only afterwards.
        """
        counts = [len(part) // PAGE for part in k]
        assert all(len(part) % PAGE == 0 for part in k)
        ids = np.split(self.pool.take(sum(counts)), np.cumsum(counts)[:-1])
        for head, pages in enumerate(ids):
            if len(pages):
                dim = self.shape.head_dim
                self.pool.write(
                    pages, k[head].reshape(-1, PAGE, dim), v[head].reshape(-1, PAGE, dim)
                )
            self.pool.release(self.tables[layer][head])
            self.tables[layer][head] = pages
        self.version += 1

    def restore_counts(
        self, n_sinks: int, n_paged: int, n_newest: int, n_evicted: int, n_moved: int
    ) -> None:
        """Say what a saved cache held; its tables and stretches have been filled."""
        self.n_sinks, self._n_paged, self.n_newest = n_sinks, n_paged, n_newest
        self.n_evicted, self.n_moved = n_evicted, n_moved
        self.version += 1

    def note_eviction(self, n_evicted: int, n_moved: int) -> None:
        """Say that heads have dropped tokens, and by how many positions K was moved down."""
        self.n_evicted += n_evicted
        self.n_moved += n_moved
