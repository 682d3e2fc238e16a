"""One rank of the ring's tests: joins the group, computes its part, rank 0 writes what was found.

python -m tests.models.ring_worker RANK WORLD FOLDER MODEL
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist


def main(rank: int, world: int, folder: Path, model: Path) -> None:
    from models.ring import Ring, RingDecoder, ring_attention, sharded_attention
    from tests.models.ring_cases import HEADS, N_STEPS, PROMPT, decoder_of, qkv

    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder / 'meet'}", rank=rank, world_size=world
    )
    ring = Ring(rank, world)
    q, k, v = qkv()
    places = ring.places(q.shape[1])
    part = ring_attention(q[:, places], k[:, places], v[:, places], ring)
    gathered = [torch.empty_like(part) for _ in range(world)]
    dist.all_gather(gathered, part)
    whole = torch.empty(q.shape)
    for r, found in enumerate(gathered):
        whole[:, Ring(r, world).places(q.shape[1])] = found
    shard = torch.arange(k.shape[1]) % world == rank
    if rank == world - 1:
        shard[:] = False  # a rank without keys; its own are given to rank 0
    if rank == 0:
        shard |= torch.arange(k.shape[1]) % world == world - 1
    one = sharded_attention(q[:, -1:], k[:, shard], v[:, shard])
    ringed = RingDecoder(decoder_of(model), ring)
    logits = [ringed.prefill(torch.tensor(PROMPT))]
    logits += [ringed.step(token) for token in range(300, 300 + N_STEPS)]
    assert q.shape[0] == HEADS
    np.savez(
        folder / f"found{rank}.npz",
        whole=whole.numpy(),
        one=one.numpy(),
        logits=torch.stack(logits).numpy(),
    )
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4]))
