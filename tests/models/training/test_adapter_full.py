"""The full update starts at the base, carries its norms in its matrices, and is cut to a rank."""

import numpy as np
import pytest
import torch

from models.training.adapter_attention import one_by_one
from models.training.adapter_export import near_mean
from models.training.adapter_full import FullUpdate, low_rank, narrowed
from models.training.adapter_llama import PROJECTIONS, Base, Llama, Shape
from models.training.adapter_parts import load_parts, write_parts

SHAPE = Shape(n_layers=2, n_heads=4, n_kv_heads=2, head_dim=8, rope_base=10_000.0, norm_eps=1e-5)
SIZES = {"attn_q": (32, 32), "attn_k": (16, 32), "attn_v": (16, 32), "attn_output": (32, 32),
         "ffn_gate": (48, 32), "ffn_up": (48, 32), "ffn_down": (32, 48)}  # fmt: skip


def draw(*size, seed=0):
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed)) * 0.3


@pytest.fixture
def base():
    weights = {p: draw(2, *size, seed=i) for i, (p, size) in enumerate(SIZES.items())}
    norms = [1 + draw(2, 32, seed=8), 1 + draw(2, 32, seed=9), 1 + draw(32, seed=10)]
    return Base(SHAPE, draw(60, 32, seed=11), weights, *norms)


def hidden(base, merged):
    tokens, ends = torch.arange(3, 20), torch.tensor([0, 17])
    model = Llama(base, one_by_one, torch.float32)
    return model.hidden(merged, tokens, torch.arange(17), ends, 17)


def test_it_starts_at_the_base(base):
    full = FullUpdate(base)
    assert all(not update.any() for update in full.updates(base).values())
    merged = full.merge(base, torch.float32)
    assert torch.equal(merged.output, base.weights["attn_output"])


def test_trained_norms_are_part_of_the_matrices(base):
    full = FullUpdate(base)
    with torch.no_grad():
        for name in PROJECTIONS:
            full.w[name].copy_(draw(2, *SIZES[name], seed=20) * 0.1)
        full.norm["attn_norm"].copy_(draw(2, 32, seed=21))
        full.norm["ffn_norm"].copy_(draw(2, 32, seed=22))
        plain = FullUpdate(base)
        for name in PROJECTIONS:
            plain.w[name].copy_(full.w[name])
        scaled = Base(
            base.shape,
            base.embedding,
            base.weights,
            base.attn_norm * (1 + full.norm["attn_norm"]),
            base.ffn_norm * (1 + full.norm["ffn_norm"]),
            base.output_norm,
        )
        expected = hidden(scaled, plain.merge(base, torch.float32))
        found = hidden(base, full.merge(base, torch.float32))
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
        assert not torch.allclose(found, hidden(base, plain.merge(base, torch.float32)), atol=1e-2)
        for name, update in full.updates(base).items():
            torch.testing.assert_close(base.weights[name] + update, full.weights(base)[name])


def test_every_parameter_learns(base):
    full = FullUpdate(base)
    hidden(base, full.merge(base, torch.float32)).square().mean().backward()
    assert all(bool(p.grad.any()) for p in full.parameters())
    assert sum(1 for _ in full.parameters()) == 9


@pytest.mark.parametrize("size", [(48, 32), (32, 48), (16, 32)])
@pytest.mark.parametrize("rank", [1, 5, 16])
def test_low_rank_is_the_nearest(size, rank):
    update = draw(3, *size, seed=rank)
    a, b, kept = low_rank(update, rank)
    assert a.shape == (3, rank, size[1]) and b.shape == (3, size[0], rank)
    u, s, v = torch.linalg.svd(update, full_matrices=False)
    best = (u[:, :, :rank] * s[:, None, :rank]) @ v[:, :rank]
    torch.testing.assert_close(b @ a, best, atol=1e-5, rtol=1e-4)
    share = float(s[:, :rank].square().sum() / s.square().sum())
    assert kept == pytest.approx(share, abs=1e-5)
    torch.testing.assert_close(a.norm(dim=2), b.norm(dim=1), atol=1e-5, rtol=1e-4)


def test_an_update_that_is_zero_stays_zero():
    a, b, _ = low_rank(torch.zeros(2, 8, 6), 3)
    assert not (b @ a).any() and a.isfinite().all() and b.isfinite().all()


def test_at_full_rank_nothing_is_lost(base):
    full = FullUpdate(base)
    with torch.no_grad():
        full.w["ffn_down"].copy_(draw(2, 32, 48, seed=30))
        full.norm["ffn_norm"].copy_(draw(2, 32, seed=31))
    ranks = {name: min(size) for name, size in SIZES.items()}
    adapter, kept = narrowed(full, base, ranks)
    assert kept["ffn_down"] == kept["ffn_gate"] == pytest.approx(1.0)
    found, expected = adapter.merge(base, torch.float32), full.merge(base, torch.float32)
    torch.testing.assert_close(found.down, expected.down, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found.gate_up, expected.gate_up, atol=1e-5, rtol=1e-4)


def test_parts_are_bounded_and_join_again(tmp_path):
    tensors = {"small": draw(2, 4), "large": draw(7, 10, 10, seed=1), "last": draw(3, 5, seed=2)}
    write_parts(tensors, tmp_path, "full", {"steps": "3"}, limit=500)
    files = list(tmp_path.glob("full-*.safetensors"))
    assert len(files) >= 4 and not list(tmp_path.glob("*.tmp"))
    held = load_parts(tmp_path, "full")
    assert set(held) == set(tensors)
    for name, tensor in tensors.items():
        assert np.array_equal(held[name], tensor.half().numpy())
    with pytest.raises(FileNotFoundError, match="no adapter-"):
        load_parts(tmp_path)


def test_the_mean_of_two_runs_is_cut_to_the_ranks(tmp_path):
    runs = []
    for seed in (1, 2):
        tensors = {}
        for i, (name, (n_out, n_in)) in enumerate(SIZES.items()):
            tensors[f"{name}.a"] = draw(2, 4, n_in, seed=10 * seed + i)
            tensors[f"{name}.b"] = draw(2, n_out, 4, seed=100 * seed + i)
        folder = tmp_path / str(seed)
        folder.mkdir()
        write_parts(tensors, folder, "adapter", {})
        runs.append((folder, {n: t.half().float() for n, t in tensors.items()}))
    folders = [folder for folder, _ in runs]
    exact, cut = near_mean(folders, 8, 8), near_mean(folders, 5, 3)
    for name in SIZES:
        mean = sum(tensors[f"{name}.b"] @ tensors[f"{name}.a"] for _, tensors in runs) / 2
        a, b = (torch.from_numpy(exact[f"{name}.{side}"]).float() for side in "ab")
        torch.testing.assert_close(b @ a, mean, atol=5e-3, rtol=5e-3)
        assert cut[f"{name}.a"].shape[1] == (3 if name in ("attn_k", "attn_v") else 5)
