"""One token on a GPU: the decoder's step in few kernels, replayed as a CUDA graph.

The same numbers as `models.torch_decoder` within rounding, ten launches a layer instead of a
hundred operations. Matrices that read the same vector are one below the other. Everything that
changes from token to token is in device memory (the token, its position, the tables of pages), so
that one recording serves a whole conversation.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from docqa.errors import ModelRefused
from kernels.decode_attention import N_STATE, ROWS, LayerKv, Partials, attend
from kernels.integers import RUN, Activations
from kernels.kv_pages import PAGE
from kernels.matvec import matvec, prepare
from kernels.reference import rms_norm
from kernels.step import turn_and_keep
from kernels.tuned import SHORT, attend_blocks
from models.kv_cache import N_SINK, KvCache
from models.torch_decoder import Decoder
from models.torch_weights import Layer, Linear, joined


class DeviceTables:
    """A cache's pages, sinks and newest tokens where kernels find them: fixed addresses."""

    def __init__(self, cache: KvCache, max_pages: int) -> None:
        shape, device = cache.shape, cache.pool.device
        size = (shape.n_layers, shape.n_kv_heads)
        self.max_pages = max_pages = -(-max_pages // 16) * 16  # kernels know it as a multiple
        self.tables = torch.zeros((*size, max_pages), dtype=torch.int32, device=device)
        self.counts = torch.zeros(size, dtype=torch.int32, device=device)
        # Of a step, brought there in one copy; each part begins at 16 bytes.
        self._inputs = torch.zeros(8, dtype=torch.int32, device=device)
        self.state, self.token = self._inputs[:N_STATE], self._inputs[4:6]
        self.sinks = tuple(torch.zeros_like(t) for t in cache.sinks)
        self.newest = tuple(torch.zeros_like(t) for t in cache.newest)
        self._pool = cache.pool
        self._seen: tuple[int, int] | None = None  # cache and version that the tables are of
        self._n_newest = -1

    def refresh(self, cache: KvCache, coming: int | None = None) -> None:
        """Bring the copy up to a cache. Only counts are copied where all else is a step's own.

        `coming`: the token to be computed; `token` is its id and position, and `state` counts it.
        """
        now = (id(cache), cache.version)
        if now != self._seen:
            self._copy_tables(cache)
        if now != self._seen or cache.n_newest != self._n_newest:
            for mine, its in ((self.sinks, cache.sinks), (self.newest, cache.newest)):
                for which in (0, 1):
                    mine[which].copy_(its[which])
        self._seen, self._n_newest = now, cache.n_newest
        n_sinks, n_newest = cache.n_sinks, cache.n_newest
        if coming is not None:
            is_sink = n_sinks < N_SINK and not cache.n_paged + n_newest
            n_sinks, n_newest = n_sinks + is_sink, n_newest + (not is_sink)
        counted = [n_sinks, n_newest, 0, 0, coming or 0, cache.next_position, 0, 0]
        self._inputs.copy_(torch.tensor(counted, dtype=torch.int32))

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


class GraphStep:
    """The step of one decoder: a token on top of a cache, with fixed buffers.

    On a CUDA device the launches are recorded once and replayed; elsewhere (Triton's interpreter)
    they are made each time, which is how they are tested without a GPU.
    """

    def __init__(
        self,
        decoder: Decoder,
        cache: KvCache,
        context_length: int,
        short: tuple[tuple[int, int], ...] = SHORT,
    ) -> None:
        """Make the buffers for caches like `cache`; `short`: as `kernels.tuned.SHORT`.

        Raises:
            ModelRefused: a shape, adapter or weight format that the kernels do not take.
        """
        refuse_step(decoder, cache)
        shape, device = decoder.shape, decoder.device
        self.decoder, self.device = decoder, device
        self._fused = [fused(layer) for layer in decoder.weights.layers]
        self._integers: dict[int, Activations] = {}
        self.tables = DeviceTables(cache, -(-context_length // PAGE) + 1)
        n_qkv = (shape.n_heads + 2 * shape.n_kv_heads) * shape.head_dim

        def room(*size: int, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.zeros(size, dtype=dtype, device=device)

        self.token = self.tables.token
        self.x = room(shape.n_embd)
        self.qkv = room(n_qkv)
        self.q = room(shape.n_heads, shape.head_dim)
        self.mixed = room(shape.n_heads, shape.head_dim)
        self.gate_up = room(2 * shape.n_ff)
        self.logits = room(shape.n_vocab)
        kept = (shape.n_layers, shape.n_kv_heads, shape.head_dim)
        self.kept = room(*kept, dtype=torch.float16), room(*kept, dtype=torch.float16)
        self._short = short
        self.n_parts = n_parts_for(cache, device)
        self._partials = Partials(
            room(self.n_parts, shape.n_heads, shape.head_dim), room(self.n_parts, shape.n_heads)
        )
        self.graphs: dict[int, torch.cuda.CUDAGraph] = {}  # by the parts of a sequence

    def run(self, token: int, cache: KvCache) -> Tensor:
        """Compute a token on top of `cache`, append it, return the logits (n_vocab,) float32.

        Raises:
            NoRoom: the pool is full; the cache is as it was.
        """
        self.tables.refresh(cache, token)
        self.launch(cache)
        k, v = (kept[:, :, None] for kept in self.kept)
        cache.append(k, v)
        self.tables.note_step(cache)
        return self.logits

    def launch(self, cache: KvCache) -> None:
        """Compute the token over what the tables say, with the parts that suit the cache."""
        n_parts = self._parts_of(cache)
        if self.device.type != "cuda":
            self.compute(n_parts)
            return
        if n_parts not in self.graphs:
            self.graphs[n_parts] = self._recorded(n_parts)
        self.graphs[n_parts].replay()

    def _parts_of(self, cache: KvCache) -> int:
        for n_pages, n_parts in self._short:
            if cache.n_paged <= n_pages * PAGE:
                return min(n_parts, self.n_parts)
        return self.n_parts

    def _recorded(self, n_parts: int) -> torch.cuda.CUDAGraph:
        """Record a step. Kernels are compiled by a run before, whose results are overwritten."""
        self.compute(n_parts)
        torch.cuda.synchronize(self.device)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self.compute(n_parts)
        return graph

    def compute(self, n_parts: int) -> None:
        """Launch the kernels of one step, a sequence in `n_parts` parts."""
        weights = self.decoder.weights
        self.x.copy_(weights.embedding.rows(self.token[:1].long())[0])
        for index, layer in enumerate(weights.layers):
            of_attention, of_feed_forward = self._fused[index]
            self._products(of_attention, self.x, self.qkv, norm=layer.attn_norm)
            self._attention(index, layer, n_parts)
            is_ready = self._merges_integers(layer)
            self._products(
                [layer.o], self.mixed.view(-1), self.x, residual=self.x, is_ready=is_ready
            )
            self._products(of_feed_forward, self.x, self.gate_up, norm=layer.ffn_norm)
            self._products([layer.down], self.gate_up, self.x, residual=self.x, is_gated=True)
        self._products([weights.output], self.x, self.logits, norm=weights.norm)

    def _attention(self, index: int, layer: Layer, n_parts: int) -> None:
        shape, decoder = self.decoder.shape, self.decoder
        kv = self.tables.layer(index)
        norms = None
        if layer.q_norm is not None and layer.k_norm is not None:
            norms = layer.q_norm, layer.k_norm
        turn_and_keep(
            self.qkv,
            norms,
            decoder.frequencies,
            decoder.rope_scale,
            self.token,
            self.tables.state,
            self.q,
            (self.kept[0][index], self.kept[1][index]),
            kv.sinks,
            kv.newest,
            eps=shape.eps,
            is_interleaved=shape.is_interleaved,
        )
        integers = self._room(self.mixed.numel()) if self._merges_integers(layer) else None
        attend(
            self.q,
            kv,
            Partials(self._partials.out[:n_parts], self._partials.lse[:n_parts]),
            self.mixed,
            integers=integers,
        )

    def _merges_integers(self, layer: Layer) -> bool:
        """Whether the attention's last kernel may hand its output on as integers."""
        return layer.o.packed is not None and self.decoder.shape.head_dim % RUN == 0

    def _products(
        self,
        linears: list[Linear],
        x: Tensor,
        out: Tensor,
        *,
        norm: Tensor | None = None,
        residual: Tensor | None = None,
        is_gated: bool = False,
        is_ready: bool = False,
    ) -> None:
        """Write the products of matrices with f(x), one behind the other, into `out`.

        By the kernel, or by torch for weights that are floats. `is_ready`: x is there as integers.
        """
        eps = self.decoder.shape.eps
        integers = None
        for linear in linears:
            if linear.packed is not None and integers is None:
                integers = self._room(linear.packed.k)
                if not is_ready:
                    prepare(x, integers, norm=norm, eps=eps, is_gated=is_gated)
        at = 0
        for linear in linears:
            n = n_rows(linear)
            target = out[at : at + n]
            if linear.packed is not None:
                assert integers is not None
                matvec(
                    linear.packed,
                    integers,
                    target,
                    bias=linear.bias,
                    residual=residual,
                )
            else:
                self._plain_product(linear, x, target, norm, residual, is_gated)
            at += n

    def _room(self, k: int) -> Activations:
        if k not in self._integers:
            self._integers[k] = Activations.room(k, self.device)
        return self._integers[k]

    def _plain_product(
        self,
        linear: Linear,
        x: Tensor,
        out: Tensor,
        norm: Tensor | None,
        residual: Tensor | None,
        is_gated: bool,
    ) -> None:
        if norm is not None:
            x = rms_norm(x, norm, self.decoder.shape.eps)
        if is_gated:
            n = len(x) // 2
            x = torch.nn.functional.silu(x[:n]) * x[n:]
        found = linear(x[None].to(self.decoder.compute_dtype))[0]
        out.copy_(found if residual is None else found + residual)


def n_rows(linear: Linear) -> int:
    """Return the rows of a matrix."""
    if linear.packed is not None:
        return linear.packed.n
    assert linear.dense is not None, "on a GPU weights are packed or dense"
    return int(linear.dense.shape[0])


def fused(layer: Layer) -> tuple[list[Linear], list[Linear]]:
    """Return Q, K, V and gate, up with neighbours of one format put one below the other.

    The layer's own matrices become views of them, so that the weights are there once.
    """
    if layer.joined is None:
        layer.joined = _fused([layer.q, layer.k, layer.v]), _fused([layer.gate, layer.up])
    return layer.joined


def _fused(linears: list[Linear]) -> list[Linear]:
    runs: list[list[Linear]] = []
    for linear in linears:
        if runs and _fits(runs[-1][-1], linear):
            runs[-1].append(linear)
        else:
            runs.append([linear])
    return [run[0] if len(run) == 1 else _one_of(run) for run in runs]


def _fits(a: Linear, b: Linear) -> bool:
    if a.packed is None or b.packed is None or (a.bias is None) != (b.bias is None):
        return False
    return _form(a) == _form(b)


def _form(linear: Linear) -> tuple[object, ...]:
    """What a kernel is compiled for, and how far a row goes."""
    matrix = linear.packed
    assert matrix is not None
    return matrix.bits, matrix.offset, *(None if p is None else p.shape[1] for p in matrix.planes)


def _one_of(run: list[Linear]) -> Linear:
    matrix = joined([linear.packed for linear in run if linear.packed is not None])
    biases = [linear.bias for linear in run if linear.bias is not None]
    at = 0
    for linear in run:
        n = n_rows(linear)
        linear.packed = matrix.rows(slice(at, at + n))
        at += n
    return Linear(packed=matrix, bias=torch.cat(biases) if biases else None)


def n_parts_for(cache: KvCache, device: torch.device) -> int:
    """Return the parts of a long sequence: some programs for each multiprocessor."""
    if device.type != "cuda":
        return 3
    n_units: int = torch.cuda.get_device_properties(device).multi_processor_count
    blocks = attend_blocks(cache.pool.form.k_bits)
    n_parts = blocks.programs * n_units // cache.shape.n_kv_heads
    if n_parts > 64:  # what joins them takes a power of two: a few above one are not worth it
        n_parts -= n_parts % 64
    return max(2, min(256, n_parts))


def refuse_step(decoder: Decoder, cache: KvCache) -> None:
    """Say why the fast step cannot be used; the plain decoder then computes.

    Raises:
        ModelRefused: a sliding window, a rotation, adapters, or heads that are no power of two.
    """
    shape = decoder.shape
    has_adapters = any(linear.adapters for linear in decoder.weights.linears.values())
    reasons = {
        "a sliding window": bool(shape.window),
        "rotated KV": decoder.rotation is not None,
        "an adapter": has_adapters,
        "heads that are no power of two": shape.head_dim & (shape.head_dim - 1) != 0,
        "more than 16 query heads for a KV head": shape.group > ROWS,
        "KV that is not float16 beside the pages": cache.sinks[0].dtype != torch.float16,
    }
    for reason, holds in reasons.items():
        if holds:
            raise ModelRefused(f"the fused step does not take {reason}")
