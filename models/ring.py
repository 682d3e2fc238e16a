"""Ring attention: one sequence over several devices, exact (Liu et al. 2023, arXiv:2310.01889).

A sequence is cut into 2 W pieces for W ranks; rank r holds pieces r and 2 W - 1 - r (zigzag), so
that under a causal mask every rank has the same work at every turn of the ring. K and V travel
round the ring; what each visit gives is merged in float32 by its log-sum-exp. After a prefill the
cache stays where it is: a decoded token asks every rank for its part.

Works over any `torch.distributed` backend: NCCL between GPUs, gloo between CPUs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from kernels import reference
from models.torch_decoder import Decoder
from models.torch_rope import angles

Local = Callable[[Tensor, Tensor, Tensor, bool], tuple[Tensor, Tensor]]
"""Q (H, T, D), K and V (H_kv, n, D), causal → output (H, T, D) and LSE (H, T), float32."""


@dataclass(frozen=True, slots=True)
class Ring:
    """A rank's place. `pieces` are the two that it holds, in the order of the sequence."""

    rank: int
    n_ranks: int

    @property
    def pieces(self) -> tuple[int, int]:
        """Numbers of this rank's pieces."""
        return self.rank, 2 * self.n_ranks - 1 - self.rank

    def places(self, n_tokens: int) -> Tensor:
        """Return the places in the sequence of this rank's tokens, ascending.

        Raises:
            ValueError: the tokens are not a multiple of 2 W.
        """
        if n_tokens % (2 * self.n_ranks):
            raise ValueError(f"{n_tokens} tokens are no multiple of {2 * self.n_ranks}")
        size = n_tokens // (2 * self.n_ranks)
        return torch.cat([torch.arange(p * size, (p + 1) * size) for p in self.pieces])


def ring_of_group() -> Ring:
    """Return this process's place in the default group."""
    return Ring(dist.get_rank(), dist.get_world_size())


def local_attention(q: Tensor, k: Tensor, v: Tensor, is_causal: bool) -> tuple[Tensor, Tensor]:
    """Return output and LSE: torch's flash attention on a GPU, the reference elsewhere."""
    if q.is_cuda:
        return _flash(q, k, v, is_causal)
    allowed = reference.causal(q.shape[1], k.shape[1], 0, q.device) if is_causal else None
    return reference.attend(q, k, v, scale=q.shape[2] ** -0.5, allowed=allowed)


def _flash(q: Tensor, k: Tensor, v: Tensor, is_causal: bool) -> tuple[Tensor, Tensor]:
    """As `local_attention`, K and V of one visit repeated for all heads.

    A rank's half of 256k tokens of an 8B model takes 2 GB so, for one layer at a time.
    """
    group = q.shape[0] // k.shape[0]
    wide_k, wide_v = (x.repeat_interleave(group, dim=0)[None].to(torch.bfloat16) for x in (k, v))
    found = torch.ops.aten._scaled_dot_product_flash_attention(
        q[None].to(torch.bfloat16), wide_k, wide_v, 0.0, is_causal
    )
    return found[0][0].float(), found[1][0, :, : q.shape[1]].float()


def ring_attention(
    q: Tensor, k: Tensor, v: Tensor, ring: Ring, attend: Local = local_attention
) -> Tensor:
    """Return causal attention (H, T, D) float32 of this rank's queries over the whole sequence.

    Q (H, T, D), K and V (H_kv, T, D) are this rank's two pieces, one after the other. While a block
    is computed the next one is under way.
    """
    half = q.shape[1] // 2
    parts: list[tuple[Tensor, Tensor]] = []
    low: list[tuple[Tensor, Tensor]] = []  # of the first piece alone
    kv = torch.stack((k, v)).contiguous()
    for turn in range(ring.n_ranks):
        source = (ring.rank - turn) % ring.n_ranks
        incoming, waits = pass_on(kv, ring, turn)
        key, value = kv[0], kv[1]
        if source == ring.rank:
            # Its two pieces follow each other, with a gap between them that others hold.
            parts.append(attend(q, key, value, True))
        elif source < ring.rank:
            # All queries see the source's first piece; its last is behind all of them.
            parts.append(attend(q, key[:, :half], value[:, :half], False))
        else:
            # Only the later queries see it, and they see both pieces.
            low.append(attend(q[:, half:], key, value, False))
        for wait in waits:
            wait.wait()
        kv = incoming
    early, late = _split(parts, half)
    return torch.cat((reference.merge(early)[0], reference.merge(late + low)[0]), dim=1)


def _split(
    parts: list[tuple[Tensor, Tensor]], half: int
) -> tuple[list[tuple[Tensor, Tensor]], list[tuple[Tensor, Tensor]]]:
    early = [(out[:, :half], lse[:, :half]) for out, lse in parts]
    late = [(out[:, half:], lse[:, half:]) for out, lse in parts]
    return early, late


def pass_on(kv: Tensor, ring: Ring, turn: int) -> tuple[Tensor, list[dist.Work]]:
    """Send K and V to the next rank, receive the previous one's; not after the last turn."""
    if turn == ring.n_ranks - 1:
        return kv, []
    incoming = torch.empty_like(kv)
    after, before = (ring.rank + 1) % ring.n_ranks, (ring.rank - 1) % ring.n_ranks
    operations = [
        dist.P2POp(dist.isend, kv, after),
        dist.P2POp(dist.irecv, incoming, before),
    ]
    return incoming, dist.batch_isend_irecv(operations)


def sharded_attention(q: Tensor, k: Tensor, v: Tensor, attend: Local = local_attention) -> Tensor:
    """Return attention (H, T, D) of queries that every rank has over K and V that are sharded.

    A rank without keys gives nothing. What travels is one output a rank, not the cache.
    """
    if k.shape[1]:
        out, lse = attend(q, k, v, False)
    else:
        out = torch.zeros(q.shape, device=q.device)
        lse = torch.full(q.shape[:2], float("-inf"), device=q.device)
    packed = torch.cat((out, lse[..., None]), dim=-1).contiguous()
    gathered = [torch.empty_like(packed) for _ in range(dist.get_world_size())]
    dist.all_gather(gathered, packed)
    return reference.merge([(part[..., :-1], part[..., -1]) for part in gathered])[0]


class RingDecoder:
    """A decoder whose sequence and cache are spread over the ranks; every rank has all weights.

    `prefill` reads a prompt, `step` appends one token. The new token's K and V go to one rank after
    the other, so that the shards stay even.
    """

    def __init__(self, decoder: Decoder, ring: Ring) -> None:
        self.decoder, self.ring = decoder, ring
        self.n_tokens = 0
        self._k: list[Tensor] = []
        self._v: list[Tensor] = []

    def prefill(self, tokens: Tensor) -> Tensor:
        """Return the logits (n_vocab,) after a prompt (T,), on every rank. T: a multiple of 2 W."""
        decoder, ring = self.decoder, self.ring
        places = ring.places(len(tokens)).to(decoder.device)
        x = decoder.weights.embedding.rows(tokens.to(decoder.device)[places])
        turn = angles(decoder.frequencies, decoder.rope_scale, places)
        self._k, self._v = [], []
        for layer in decoder.weights.layers:
            q, k, v = decoder.qkv(layer, x, turn)
            k, v = k.to(decoder.kv_dtype), v.to(decoder.kv_dtype)
            self._k.append(k)
            self._v.append(v)
            x = decoder.after_attention(layer, x, ring_attention(q, k, v, ring))
        self.n_tokens = len(tokens)
        last = x[-1:].contiguous()  # rank 0 holds the last piece
        dist.broadcast(last, 0)
        return decoder.logits(last)[0]

    def forget(self) -> None:
        """Drop the cache."""
        self._k, self._v, self.n_tokens = [], [], 0

    def step(self, token: int) -> Tensor:
        """Return the logits (n_vocab,) after one more token, on every rank."""
        decoder = self.decoder
        x = decoder.weights.embedding.rows(torch.tensor([token], device=decoder.device))
        position = torch.tensor([self.n_tokens], device=decoder.device)
        turn = angles(decoder.frequencies, decoder.rope_scale, position)
        is_mine = self.n_tokens % self.ring.n_ranks == self.ring.rank
        for index, layer in enumerate(decoder.weights.layers):
            q, k, v = decoder.qkv(layer, x, turn)
            if is_mine:
                self._k[index] = torch.cat((self._k[index], k.to(decoder.kv_dtype)), dim=1)
                self._v[index] = torch.cat((self._v[index], v.to(decoder.kv_dtype)), dim=1)
            mixed = sharded_attention(q, self._k[index], self._v[index])
            x = decoder.after_attention(layer, x, mixed)
        self.n_tokens += 1
        return decoder.logits(x)[0]
