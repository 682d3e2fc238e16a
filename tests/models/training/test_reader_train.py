"""Training of the reader: losses mean what they say, figures are right, a run can go on."""

import json

import numpy as np
import pytest
import torch

from models.training import reader_eval, reader_model, reader_train
from models.training.reader_batches import Sizes

SIZES = Sizes(n_groups=2, n_wrong=2, n_lone=0, n_micro=1)


def test_losses_at_known_logits():
    relevance = torch.tensor([2.0, 0.0, 0.0, -1.0, -1.0, -1.0])
    has_right = torch.tensor([True, False])
    rank, binary, span = reader_train._losses(relevance, torch.tensor([0.5, 1.5]), has_right, SIZES)
    assert rank.item() == pytest.approx(-2.0 + np.log(np.exp(2.0) + 2.0), abs=1e-5)
    softplus = lambda x: np.log1p(np.exp(x))  # noqa: E731
    expected = (2 * softplus(-2.0) + 2 * softplus(0.0) + 3 * softplus(-1.0)) / 7
    assert binary.item() == pytest.approx(expected, abs=1e-5)
    assert span.item() == 1.0


def test_span_loss_looks_at_text_alone():
    logits = torch.zeros(1, 6, 2)
    types = torch.tensor([[0, 0, 1, 1, 1, 0]])
    loss = reader_train._span_loss(logits, types, torch.tensor([5]), torch.tensor([[2, 3]]))
    assert loss.item() == pytest.approx(np.log(2.0), abs=1e-4)  # the last token is [SEP]


def test_the_rate_rises_and_falls():
    rates = [reader_train._schedule(p, 0.1) for p in (0.0, 0.05, 0.1, 0.5, 1.0)]
    assert rates[0] < rates[1] < rates[2] == 1.0 > rates[3] > rates[4] == pytest.approx(0.02)


def test_best_span_is_in_order_and_not_too_long():
    start = np.full(100, -5.0, np.float32)
    end = np.full(100, -5.0, np.float32)
    start[50], end[10], end[99], end[52] = 9.0, 9.0, 8.0, 3.0
    assert reader_eval.best_span(start, end)[:2] == (50, 52)


def test_ranks_and_refusals():
    arrays = {"right_at": np.array([0, 1, 2, 2])}  # the last question has no answer
    logits = np.array([[0.0, 3.0, -np.inf], [2.0, 1.0, 0.0], [-1.0, -2.0, -3.0]], np.float32)
    is_right = np.array([[0, 1, 0], [0, 1, 0], [0, 0, 0]], bool)
    scored = reader_eval.Scored(np.arange(3), np.zeros((3, 3), np.int32), logits, is_right)
    ranks = reader_eval.rank_scores(scored, arrays)
    assert (ranks["r1_before"], ranks["r1"]) == (0.0, 0.5)
    assert (ranks["mrr_before"], ranks["mrr"], ranks["n"]) == (0.5, 0.75, 2)
    refused = reader_eval.refusal(scored, arrays, wrongly=0.0)
    assert refused == {"threshold": 2.0, "absent": 0.5, "misled": 1.0}


def test_calibration_error_of_overconfidence():
    logits = np.full(100, 20.0, np.float32)
    right = np.arange(100) < 70
    assert reader_eval.calibration_error(logits, right) == pytest.approx(0.3, abs=1e-6)


def _small(monkeypatch) -> dict[str, torch.Tensor]:
    """A reader of one layer and few words, so that a test trains it in a second."""
    monkeypatch.setattr(reader_model, "N_LAYERS", 1)
    monkeypatch.setattr(reader_model, "N_HEADS", 2)
    monkeypatch.setattr(reader_model, "HIDDEN", 16)
    generator = torch.Generator().manual_seed(0)
    shapes = {
        "word": (200, 16), "position": (64, 16), "type": (2, 16), "norm.gamma": (16,),
        "norm.beta": (16,), "0.qkv": (16, 48), "0.qkv.bias": (48,), "0.out": (16, 16),
        "0.out.bias": (16,), "0.up": (16, 32), "0.up.bias": (32,), "0.down": (32, 16),
        "0.down.bias": (16,), "0.norm1.gamma": (16,), "0.norm1.beta": (16,),
        "0.norm2.gamma": (16,), "0.norm2.beta": (16,), "head.dense": (16, 16),
        "head.dense.bias": (16,), "head.out": (16, 1), "head.out.bias": (1,), "span": (16, 2),
        "span.bias": (2,),
    }  # fmt: skip
    return {
        name: torch.ones(shape)
        if name.endswith("gamma")
        else torch.randn(shape, generator=generator) * 0.2
        for name, shape in shapes.items()
    }


def _step():
    """Groups whose right row holds token 150; the answer is that token."""
    from models.training.reader_batches import Micro, Step

    rng = np.random.default_rng(0)
    ids = rng.integers(110, 140, (8, 16)).astype(np.int32)
    types = np.ones((8, 16), np.int32)
    types[:, :4] = 0
    spans = np.full((8, 2), -1, np.int64)
    for row, at in ((0, 6), (3, 9), (6, 5), (7, 11)):
        ids[row, at] = 150
        spans[row] = at
    micro = Micro(ids, types, np.full(8, 16, np.int32), np.arange(8))
    return Step((micro,), np.array([True, True]), spans)


SMALL = Sizes(n_groups=2, n_wrong=2, n_lone=2, n_micro=1)


def test_training_learns_ranking_and_spans_and_goes_on_from_a_checkpoint(monkeypatch, tmp_path):
    base = _small(monkeypatch)
    recipe = reader_train.Recipe(rate=5e-3, head_rate=2e-2, dropout=0.0, layer_decay=1.0)
    trainer = reader_train.Trainer(base, recipe, "cpu")
    first = trainer.step(_step(), SMALL, 0.1)
    for _ in range(60):
        last = trainer.step(_step(), SMALL, 0.1)
    assert (last < 0.2 * first).all()
    assert torch.equal(trainer.weights["word"], base["word"])  # frozen

    trainer.save_state(tmp_path / "state", 12.5)
    again = reader_train.Trainer(base, recipe, "cpu")
    assert again.load_state(tmp_path / "state") == 12.5
    assert again.n_steps == 61
    for each in (trainer, again):
        each.step(_step(), SMALL, 0.2)
    for name, weight in trainer.trained.items():
        assert torch.equal(weight, again.trained[name]), name
        assert torch.equal(trainer.average[name], again.average[name]), name


def test_parts_rejoin_to_a_file_without_the_frozen_weights(monkeypatch, tmp_path):
    from safetensors.numpy import load

    monkeypatch.setattr(reader_train, "PART_BYTES", 1000)
    trainer = reader_train.Trainer(_small(monkeypatch), reader_train.Recipe(), "cpu")
    reader_train.export(trainer, tmp_path, {"format": "x"})
    parts = sorted(tmp_path.glob("reader-*.part"))
    assert len(parts) > 1
    held = load(b"".join(part.read_bytes() for part in parts))
    assert set(held) == set(trainer.trained) and all(a.dtype == np.float16 for a in held.values())


def test_the_figures_can_be_written_and_shown():
    figures = {"span squad": {"em": 0.5, "n": 4}, "ece squad": 0.25, "span manual": {}}
    assert "em 0.500 n 4" in reader_train.shown(figures)
    assert json.loads(json.dumps(figures)) == figures


def test_training_begins_with_shipped_weights(monkeypatch, tmp_path):
    base = _small(monkeypatch)
    trainer = reader_train.Trainer(base, reader_train.Recipe(), "cpu")
    trainer.average = {n: w + 0.25 for n, w in trainer.average.items()}
    reader_train.export(trainer, tmp_path, {})
    (tmp_path / "reader.safetensors").write_bytes((tmp_path / "reader-00.part").read_bytes())
    again = base | reader_train._trained(tmp_path / "reader.safetensors", "cpu")
    assert torch.equal(again["word"], base["word"])
    for name, weight in trainer.average.items():
        torch.testing.assert_close(again[name], weight.detach(), atol=2e-3, rtol=1e-3)
