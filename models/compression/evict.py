"""Compress a cache by a method: score, select, drop the pages. The memory is free afterwards.

StreamingLLM, H2O and SnapKV score with the queries of the text that has just been read; KVzip reads
the text a second time. A method that sees the question is for one answer only: `sees_question` says
so, and the caller must drop the conversation after it, because what another question needs is gone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from docqa.errors import ModelRefused
from kernels.kv_pages import PAGE
from models.compression import scores, select
from models.kv_cache import KvCache
from models.settings import EVICTIONS
from models.torch_decoder import Decoder
from models.torch_rope import angles, rotate
from models.torch_shape import Shape

METHODS = EVICTIONS
REPEAT_TOKENS = 512  # of the text that KVzip has repeated at a time


@dataclass(slots=True)
class Observed:
    """What is gathered while a text is read: H2O's sums, SnapKV's last queries, by layer."""

    method: str
    layers: dict[int, Tensor] = field(default_factory=dict)

    @property
    def is_needed(self) -> bool:
        """Whether the method looks at anything while the text is read."""
        return self.method in ("h2o", "snapkv")

    def __call__(self, layer: int, q: Tensor, k: Tensor) -> None:
        """Take a layer's Q and K; `torch_decoder.Observer`."""
        before = self.layers.get(layer)
        if self.method == "h2o":
            found = scores.h2o(q, k)
            if before is not None:
                n = k.shape[1] - q.shape[1]  # what stood there before; the rest was read again
                found[:, :n] += before[:, :n]
            self.layers[layer] = found
        elif self.method == "snapkv":
            asked = q[:, -scores.OBSERVED :].clone()
            if before is not None and asked.shape[1] < scores.OBSERVED:
                asked = torch.cat((before, asked), dim=1)[:, -scores.OBSERVED :]
            self.layers[layer] = asked

    def of_layer(self, layer: int, cache: KvCache) -> Tensor:
        """Return the scores (H_kv, n) of the tokens of a layer that is still whole."""
        if self.method == "h2o":
            return self.layers[layer]
        return scores.snapkv(self.layers[layer], cache.layer(layer)[0])


def sees_question(method: str) -> bool:
    """Whether a method's choice is made for the text's last words, usually the question."""
    return method in ("snapkv", "h2o")


def read_and_compress(
    decoder: Decoder,
    cache: KvCache,
    tokens: Sequence[int],
    method: str,
    keep: float,
    *,
    n_chunk: int = 512,
    repeat_prompt: Sequence[int] = (),
    turns_again: bool = False,
) -> Tensor:
    """Read a prompt in chunks into an empty cache and compress it; return the last state (1, E).

    Args:
        decoder: the model.
        cache: what is filled.
        tokens: the prompt.
        method: of `METHODS`.
        keep: share of the pages that stays.
        n_chunk: tokens computed at once. StreamingLLM drops after each chunk, so that the peak is
            bounded, too; the others need the whole text before they choose.
        repeat_prompt: what KVzip puts before the text that it has repeated.
        turns_again: move the kept K down to adjacent positions (StreamingLLM's own way) instead of
            leaving gaps.

    Raises:
        ModelRefused: no such method, a share that is none, a model with sliding windows.
    """
    refuse_eviction(decoder.shape, method, keep)
    observe = Observed(method)
    limit = max(PAGE, int(keep * len(tokens)))
    hidden = torch.empty(0)
    for at in range(0, len(tokens), n_chunk):
        ids = torch.tensor(list(tokens[at : at + n_chunk]))
        chunk = decoder.compute(ids, cache, observe=observe if observe.is_needed else None)
        hidden = chunk.hidden[-1:].clone()
        cache.append(chunk.k, chunk.v)
        if method == "streaming" and _n_kept(cache) > limit:
            drop(decoder, cache, _streaming(cache, limit), turns_again=turns_again)
    if method != "streaming":
        compress(
            decoder, cache, tokens, observe, keep,
            repeat_prompt=repeat_prompt, turns_again=turns_again,
        )  # fmt: skip
    return hidden


def refuse_eviction(shape: Shape, method: str, keep: float) -> None:
    """Refuse what cannot be done.

    Raises:
        ModelRefused: no such method, a share that is none, a model with sliding windows.
    """
    if method not in METHODS or not 0 < keep <= 1:
        raise ModelRefused(
            f"eviction {method!r} keeping {keep}: one of {', '.join(METHODS)}, more than 0 and at "
            "most 1"
        )
    if shape.window:
        raise ModelRefused("a model with sliding windows drops tokens by itself")


def compress(
    decoder: Decoder,
    cache: KvCache,
    tokens: Sequence[int],
    observed: Observed,
    keep: float,
    *,
    repeat_prompt: Sequence[int] = (),
    turns_again: bool = False,
) -> None:
    """Compress a cache that holds `tokens`, which `observed` saw read; see `read_and_compress`."""
    if observed.method == "streaming":
        kept = _streaming(cache, max(PAGE, int(keep * len(tokens))))
    else:
        found = importance(decoder, cache, tokens, observed, repeat_prompt)
        kept = choose(observed.method, found, keep)
    drop(decoder, cache, kept, turns_again=turns_again)


def importance(
    decoder: Decoder,
    cache: KvCache,
    tokens: Sequence[int],
    observed: Observed,
    repeat_prompt: Sequence[int] = (),
) -> list[Tensor]:
    """Return the scores (H_kv, paged tokens) of each layer by any method but StreamingLLM.

    The cache is as it was, so that several shares may be chosen by the same scores.
    """
    if observed.method == "kvzip":
        return repetition_scores(decoder, cache, tokens, repeat_prompt)
    layers = range(decoder.shape.n_layers)
    return [_of_pages(cache, observed.of_layer(i, cache)) for i in layers]


def choose(method: str, found: list[Tensor], keep: float) -> list[list[Tensor]]:
    """Return what `drop` keeps, by the scores of `importance`: H2O keeps as much of every head."""
    return (select.uniform if method == "h2o" else select.adaptive)(found, keep)


def repetition_scores(
    decoder: Decoder, cache: KvCache, tokens: Sequence[int], repeat_prompt: Sequence[int]
) -> list[Tensor]:
    """Return KVzip's scores (H_kv, paged tokens) of each layer; the cache is as it was.

    The text is repeated piece by piece on top of the whole of it, so that the cost is about one
    more reading; each token keeps the most attention that any piece gave it.
    """
    n_context = cache.n_tokens
    best: dict[int, Tensor] = {}

    def observe(layer: int, q: Tensor, k: Tensor) -> None:
        found = scores.kvzip(q, k, n_context)
        best[layer] = torch.maximum(best[layer], found) if layer in best else found

    for at in range(0, len(tokens), REPEAT_TOKENS):
        piece = [*repeat_prompt, *tokens[at : at + REPEAT_TOKENS]]
        decoder.compute(torch.tensor(piece), cache, observe=observe)
    return [_of_pages(cache, best[i]) for i in range(decoder.shape.n_layers)]


def drop(
    decoder: Decoder,
    cache: KvCache,
    kept: list[list[Tensor]],
    *,
    turns_again: bool = False,
) -> None:
    """Keep of each layer's heads the tokens `kept` (places in its pages, ascending); free the rest.

    `turns_again`: K is turned to adjacent positions, those of the newest, too; every head of every
    layer must then keep as many.
    """
    before = max(len(ids) for layer in cache.tables for ids in layer) * PAGE
    after = [len(places) for layer in kept for places in layer]
    n_moved = before - max(after)
    assert not turns_again or min(after) == max(after), "adjacent positions are the same for all"
    for layer, heads in enumerate(kept):
        k, v, _ = cache.layer(layer)
        paged = slice(cache.n_sinks, k.shape[1] - cache.n_newest)
        new_k, new_v = [], []
        for head, places in enumerate(heads):
            at = places.to(k.device)
            kept_k = k[head, paged][at]
            if turns_again:
                down = torch.arange(len(at), device=at.device) - at
                kept_k = _turned(decoder, kept_k, down)
            new_k.append(kept_k)
            new_v.append(v[head, paged][at])
        cache.replace_layer(layer, new_k, new_v)
        if turns_again and n_moved:
            _move_newest(decoder, cache, layer, n_moved)
    cache.note_eviction(n_moved, n_moved if turns_again else 0)


def _move_newest(decoder: Decoder, cache: KvCache, layer: int, n_moved: int) -> None:
    newest = cache.newest[0][layer][:, : cache.n_newest]
    down = torch.full((cache.n_newest,), -n_moved, device=newest.device)
    for head in range(newest.shape[0]):
        newest[head] = _turned(decoder, newest[head].float(), down).to(newest.dtype)


def _turned(decoder: Decoder, k: Tensor, by: Tensor) -> Tensor:
    """Return K (n, D) turned by `by` (n,) more positions; YaRN's factor is in K already.

    Turning is additive, so K that was kept turned need not be turned back first.
    """
    turn = angles(decoder.frequencies, 1.0, by)
    if decoder.rotation is not None:
        k = k @ decoder.rotation
    k = rotate(k[:, None], *turn, decoder.shape.is_interleaved)[:, 0]
    return k if decoder.rotation is None else k @ decoder.rotation


def _streaming(cache: KvCache, limit: int) -> list[list[Tensor]]:
    """The newest pages such that sinks, pages and newest are `limit` tokens, about."""
    n_paged = len(cache.tables[0][0]) * PAGE
    n_dense = cache.n_sinks + cache.n_newest
    n_pages = max(0, min(n_paged, limit - n_dense)) // PAGE
    places = torch.arange(n_paged - n_pages * PAGE, n_paged)
    shape = cache.shape
    return [[places] * shape.n_kv_heads for _ in range(shape.n_layers)]


def _n_kept(cache: KvCache) -> int:
    return cache.n_sinks + cache.n_newest + PAGE * max(len(ids) for ids in cache.tables[0])


def _of_pages(cache: KvCache, found: Tensor) -> Tensor:
    """The scores of the tokens that are in pages: sinks and newest always stay."""
    return found[:, cache.n_sinks : cache.n_sinks + cache.n_paged].cpu()
