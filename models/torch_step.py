"""One token on a GPU: the decoder's step in few kernels, replayed as a CUDA graph.

The same numbers as `models.torch_decoder` within rounding, about ten launches a layer instead of a
hundred operations. Everything that changes from token to token is in device memory (the token, its
position, the tables of pages), so that one recording serves a whole conversation.
"""

from __future__ import annotations

import numpy as np
import torch

from kernels.decode_attention import N_STATE, LayerKv
from models.kv_cache import KvCache


class DeviceTables:
    """A cache's pages, sinks and newest tokens where kernels find them: fixed addresses."""

    def __init__(self, cache: KvCache, max_pages: int) -> None:
        shape, device = cache.shape, cache.pool.device
        size = (shape.n_layers, shape.n_kv_heads)
        self.max_pages = max_pages
        self.tables = torch.zeros((*size, max_pages), dtype=torch.int32, device=device)
        self.counts = torch.zeros(size, dtype=torch.int32, device=device)
        self.state = torch.zeros(N_STATE, dtype=torch.int32, device=device)
        self.sinks = tuple(torch.zeros_like(t) for t in cache.sinks)
        self.newest = tuple(torch.zeros_like(t) for t in cache.newest)
        self._pool = cache.pool
        self._seen: tuple[int, int] | None = None  # cache and version that the tables are of
        self._n_newest = -1

    def refresh(self, cache: KvCache) -> None:
        """Bring the copy up to a cache. Nothing is copied where only what a step wrote is new."""
        now = (id(cache), cache.version)
        if now != self._seen:
            self._copy_tables(cache)
        if now != self._seen or cache.n_newest != self._n_newest:
            for mine, its in ((self.sinks, cache.sinks), (self.newest, cache.newest)):
                for which in (0, 1):
                    mine[which].copy_(its[which])
        self._seen, self._n_newest = now, cache.n_newest
        self.state.copy_(torch.tensor([cache.n_sinks, cache.n_newest, 0], dtype=torch.int32))

    def note_step(self, cache: KvCache) -> None:
        """Say that a step has written its token into the newest here, and the cache into its own.

        Where the cache moved tokens into pages meanwhile, its version differs and all is copied.
        """
        if self._seen == (id(cache), cache.version):
            self._n_newest = cache.n_newest

    def _copy_tables(self, cache: KvCache) -> None:
        shape = cache.shape
        tables = np.zeros((shape.n_layers, shape.n_kv_heads, self.max_pages), np.int32)
        counts = np.zeros((shape.n_layers, shape.n_kv_heads), np.int32)
        for layer, heads in enumerate(cache.tables):
            for head, ids in enumerate(heads):
                tables[layer, head, : len(ids)] = ids
                counts[layer, head] = len(ids)
        self.tables.copy_(torch.from_numpy(tables))
        self.counts.copy_(torch.from_numpy(counts))

    def layer(self, index: int) -> LayerKv:
        """Return what the attention kernel takes for one layer."""
        pool = self._pool
        return LayerKv(
            table=self.tables[index],
            counts=self.counts[index],
            planes=(
                pool.k_codes,
                pool.k_scale,
                pool.k_zero,
                pool.v_codes,
                pool.v_scale,
                pool.v_zero,
            ),
            sinks=(self.sinks[0][index], self.sinks[1][index]),
            newest=(self.newest[0][index], self.newest[1][index]),
            state=self.state,
            k_bits=pool.form.k_bits,
            v_bits=pool.form.v_bits,
        )
