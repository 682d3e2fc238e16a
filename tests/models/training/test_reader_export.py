"""From training to the shipped files: calibration, and the mean of several runs."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save

from models.training import reader_export


def test_platt_finds_the_slope_and_offset_that_drew_the_answers():
    rng = np.random.default_rng(3)
    logits = rng.normal(0, 4, 60_000)
    right = rng.random(len(logits)) < 1 / (1 + np.exp(-(0.6 * logits - 1.2)))
    scale, offset = reader_export.fit_platt(logits, right, np.ones(len(logits)))
    assert (scale, offset) == (pytest.approx(0.6, abs=0.02), pytest.approx(-1.2, abs=0.04))


def test_the_threshold_refuses_two_in_a_hundred_of_the_answerable():
    logits = np.full((200, 3), -9.0)
    logits[:, 1] = np.linspace(-4, 4, 200)
    right = np.zeros(logits.shape, bool)
    right[:, 1] = True
    about = reader_export.calibrate({"squad.logits": logits, "squad.is_right": right})
    figures = about["development"]["squad"]
    assert figures["wrongly_refused"] == pytest.approx(0.02, abs=0.006)
    assert figures["rightly_refused"] == 1.0  # without the right one, -9 is the best
    assert reader_export.calibrate(
        {"squad.logits": logits, "squad.is_right": right}, threshold=0.5
    )["threshold"] == 0.5  # fmt: skip


def test_a_mean_of_runs_has_their_tensors_and_the_last_ones_metadata(tmp_path):
    one = save({"w": np.array([1.0, 3.0], np.float16)}, {"format": "reader-pair/1"})
    two = save({"w": np.array([2.0, 5.0], np.float16)}, {"format": "reader-pair/1", "n_steps": "9"})
    (tmp_path / "mean").write_bytes(reader_export.mean_weights([one, two]))
    with safe_open(tmp_path / "mean", "np") as mean:
        assert mean.get_tensor("w").tolist() == [1.5, 4.0]
        assert mean.get_tensor("w").dtype == np.float16
        assert mean.metadata() == {"format": "reader-pair/1", "n_steps": "9"}
    with pytest.raises(KeyError):
        reader_export.mean_weights([save({"other": np.zeros(2, np.float16)}), two])


def test_a_mean_reads_the_same_candidates_again(monkeypatch):
    held = {
        "log.queries": np.arange(4),
        "log.passages": np.array([[7, 8, -1]] * 4, np.int32),
        "log.logits": np.zeros((4, 3), np.float32),
        "log.is_right": np.array([[False, True, False]] * 4),
    }
    arrays = {"right_at": np.arange(5), "right": np.full((4, 2), 8)}
    row = np.zeros(5, np.int32)
    monkeypatch.setattr(
        "models.training.reader_eval.pair_row", lambda arrays, q, p: (row + p, 2, 3)
    )

    def forward(ids, types, lengths):
        return ids[:, 0].astype(np.float32), np.zeros((*ids.shape, 2), np.float32)

    found = reader_export.rescored(held, arrays, forward, limit=2)
    assert found["log.logits"].tolist() == [[7.0, 8.0, -np.inf]] * 2
    assert found["log.is_right"].shape == (2, 3)
