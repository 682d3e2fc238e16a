"""Ring attention over processes is attention: exact, any number of ranks, prefill and decode."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from kernels import reference
from models.kv_cache import KvCache, KvFormat, PagePool
from models.ring import Ring
from tests.loopback import has_loopback
from tests.models.ring_cases import N_STEPS, PROMPT, decoder_of, qkv
from tests.models.torch_models import Small, write_small

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    small = Small(n_embd=128, n_heads=4, head_dim=32, n_ff=128)
    return write_small(tmp_path_factory.mktemp("ring") / "m.gguf", small)


@pytest.fixture(scope="module")
def expected(model):
    q, k, v = qkv()
    whole, _ = reference.attend(q, k, v, scale=32**-0.5, allowed=reference.causal(96, 96, 0, "cpu"))
    decoder = decoder_of(model)
    cache = KvCache(PagePool(64, 32, KvFormat(16, 16)), decoder.shape)
    logits = []
    for tokens in (PROMPT, *([t] for t in range(300, 300 + N_STEPS))):
        chunk = decoder.compute(torch.tensor(tokens), cache)
        cache.append(chunk.k, chunk.v)
        logits.append(decoder.logits(chunk.hidden[-1:])[0])
    return whole.numpy(), torch.stack(logits).numpy()


@pytest.mark.parametrize(
    "world",
    [2, pytest.param(1, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow)],
)
def test_the_ring_computes_what_one_process_does(tmp_path, model, expected, world):
    if not has_loopback():
        pytest.skip("gloo talks over loopback, which is down here")
    environ = {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    ranks = [
        subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tests.models.ring_worker",
                *map(str, (rank, world, tmp_path, model)),
            ],
            cwd=ROOT,
            env=environ,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(world)
    ]
    for process in ranks:
        _, errors = process.communicate(timeout=240)
        assert process.returncode == 0, errors
    whole, logits = expected
    for rank in range(world):
        with np.load(tmp_path / f"found{rank}.npz") as found:
            assert np.allclose(found["whole"], whole, atol=2e-6)
            if world > 1:
                assert np.allclose(found["one"], whole[:, -1:], atol=2e-6)
            assert np.allclose(found["logits"], logits, atol=2e-4)


def test_zigzag_gives_every_rank_the_same_work():
    for world in (2, 3, 8):
        places = [Ring(r, world).places(96 * world) for r in range(world)]
        assert torch.equal(torch.cat(places).sort().values, torch.arange(96 * world))
        work = {int((p + 1).sum()) for p in places}  # keys that its queries see
        assert len(work) == 1
        assert all(bool((p.diff() > 0).all()) for p in places)


def test_tokens_that_cannot_be_cut_evenly_are_refused():
    with pytest.raises(ValueError, match="no multiple of 6"):
        Ring(0, 3).places(100)
