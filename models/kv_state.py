"""A torch cache as bytes, for RAM and for `models.kv_file`: its counts, then its numbers.

    length of the head (8) | head (MessagePack) | sinks K, V | newest K, V | tables' pages, a plane
    at a time

Whether the bytes belong here is what the file's identity and digests say; what is checked again is
every size, so that nothing is read beyond the end.
"""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.buffers import byte_buffer
from models.kv_cache import N_NEWEST, N_SINK, KvCache, PagePool
from models.torch_shape import Shape

Bytes = npt.NDArray[np.uint8]


class _Head(msgspec.Struct, frozen=True):
    """Counts of a saved cache."""

    k_bits: int
    v_bits: int
    n_sinks: int
    n_paged: int
    n_newest: int
    n_evicted: int
    n_moved: int
    pages: list[list[int]]  # of each layer's heads


def to_bytes(cache: KvCache) -> Bytes:
    """Return a cache as bytes; its pages are written as they are, in few bits."""
    form = cache.pool.form
    head = msgspec.msgpack.encode(
        _Head(
            form.k_bits,
            form.v_bits,
            cache.n_sinks,
            cache.n_paged,
            cache.n_newest,
            cache.n_evicted,
            cache.n_moved,
            [[len(ids) for ids in layer] for layer in cache.tables],
        )
    )
    ids = np.concatenate([ids for layer in cache.tables for ids in layer]).astype(np.int64)
    at = torch.from_numpy(ids).to(cache.pool.device)
    parts = [cache.sinks[w][:, :, : cache.n_sinks] for w in (0, 1)]
    parts += [cache.newest[w][:, :, : cache.n_newest] for w in (0, 1)]
    sizes = [p.numel() * p.element_size() for p in parts]
    sizes += [len(ids) * _row_bytes(plane) for plane in cache.pool.planes()]
    found = byte_buffer(8 + len(head) + sum(sizes))
    found[:8] = np.frombuffer(len(head).to_bytes(8, "little"), np.uint8)
    found[8 : 8 + len(head)] = np.frombuffer(head, np.uint8)
    begin = 8 + len(head)
    for index, size in enumerate(sizes):
        # A plane at a time: its gathered copy is gone before the next is made.
        part = parts[index] if index < 4 else cache.pool.planes()[index - 4][at]
        found[begin : begin + size] = _flat(part)
        begin += size
    return found


def from_bytes(data: Bytes, pool: PagePool, shape: Shape) -> KvCache:
    """Return the cache that `to_bytes` wrote.

    Raises:
        ValueError: it is of other bits, another shape, or not whole.
        NoRoom: the pool has not enough pages.
    """
    head, begin = _read_head(data)
    form = pool.form
    sizes_fit = len(head.pages) == shape.n_layers and all(
        len(layer) == shape.n_kv_heads and min(layer) >= 0 for layer in head.pages
    )
    counts_fit = 0 <= head.n_sinks <= N_SINK and 0 <= head.n_newest <= N_NEWEST
    if (head.k_bits, head.v_bits) != (form.k_bits, form.v_bits) or not (sizes_fit and counts_fit):
        raise ValueError("is KV of another shape")
    cache = KvCache(pool, shape)
    n_pages = sum(map(sum, head.pages))
    targets = [cache.sinks[w][:, :, : head.n_sinks] for w in (0, 1)]
    targets += [cache.newest[w][:, :, : head.n_newest] for w in (0, 1)]
    planes = pool.planes()
    sizes = [t.numel() * t.element_size() for t in targets]
    sizes += [n_pages * _row_bytes(plane) for plane in planes]
    if begin + sum(sizes) != len(data):
        raise ValueError("is not whole")
    ids = pool.take(n_pages)
    at = torch.from_numpy(ids.astype(np.int64)).to(pool.device)
    for index, size in enumerate(sizes):
        part = torch.from_numpy(data[begin : begin + size])
        if index < 4:
            target = targets[index]
            target.copy_(part.view(target.dtype).view(target.shape))
        else:
            plane = planes[index - 4]
            plane[at] = part.view(plane.dtype).view(n_pages, *plane.shape[1:]).to(pool.device)
        begin += size
    cut = np.split(ids, np.cumsum([n for layer in head.pages for n in layer])[:-1])
    n_heads = shape.n_kv_heads
    cache.tables = [cut[i : i + n_heads] for i in range(0, len(cut), n_heads)]
    cache.restore_counts(head.n_sinks, head.n_paged, head.n_newest, head.n_evicted, head.n_moved)
    return cache


def _read_head(data: Bytes) -> tuple[_Head, int]:
    n = int.from_bytes(data[:8].tobytes(), "little")
    if n > len(data) - 8:
        raise ValueError("is not whole")
    try:
        return msgspec.msgpack.decode(data[8 : 8 + n].tobytes(), type=_Head), 8 + n
    except msgspec.MsgspecError as error:
        raise ValueError(f"is not KV of the torch engine: {error}") from error


def _row_bytes(plane: Tensor) -> int:
    return int(plane[0].numel() * plane.element_size())


def _flat(part: Tensor) -> Bytes:
    flat: Bytes = part.contiguous().cpu().view(-1).view(torch.uint8).numpy()
    return flat
