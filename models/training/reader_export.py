"""What training brought -> the shipped files: weights, calibration, threshold.

    python -m models.training.reader_export --parts RUN --out models/weights --threshold 0.035

RUN holds `reader-00.part` …, `dev-scores.npz` and `report.json` of `reader_train`. Written are
`reader.safetensors` (the parts joined) and `reader.json`. The development logits are those of
passages that training did not see, on the candidates that search brings.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.reader_pairs import FORMAT
from models.training.reader_eval import calibration_error

N_RERANKED = 24  # candidates that the product's reader sees: docqa.config.RetrieveConfig.n_rerank
WRONGLY_REFUSED = 0.02  # of the answerable development questions, each kind counting alike
N_NEWTON = 50

Floats = npt.NDArray[np.float64]


def fit_platt(
    logits: Floats, is_right: npt.NDArray[np.bool_], weight: Floats
) -> tuple[float, float]:
    """Return (scale, offset) of P = sigmoid(scale · logit + offset), by Newton's method.

    Targets as in Platt (1999), (n₊ + 1) / (n₊ + 2) and 1 / (n₋ + 2), so that separable logits have
    a finite solution. `weight` (N,) counts the rows.
    """
    n_right, n_wrong = float(is_right.sum()), float((~is_right).sum())
    goal = np.where(is_right, (n_right + 1) / (n_right + 2), 1 / (n_wrong + 2))
    x = np.stack([logits, np.ones_like(logits)], 1)
    w = np.array([1.0, 0.0])
    for _ in range(N_NEWTON):
        p = 1.0 / (1.0 + np.exp(-np.clip(x @ w, -60, 60)))
        gradient = x.T @ (weight * (p - goal))
        hessian = (x * (weight * p * (1 - p))[:, None]).T @ x + 1e-9 * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        w -= step
        if float(np.abs(step).max()) < 1e-9:
            break
    return float(w[0]), float(w[1])


def _by_kind(held: Mapping[str, Any]) -> dict[str, tuple[Floats, npt.NDArray[np.bool_]]]:
    """Return logits and marks (Q, K) of each kind, of the candidates that the product reads."""
    kinds = [name.removesuffix(".logits") for name in held if name.endswith(".logits")]
    return {
        kind: (
            np.asarray(held[f"{kind}.logits"], np.float64)[:, :N_RERANKED],
            np.asarray(held[f"{kind}.is_right"], bool)[:, :N_RERANKED],
        )
        for kind in kinds
    }


def calibrate(held: Mapping[str, Any], threshold: float | None = None) -> dict[str, Any]:
    """Return scale, offset, threshold and what they give, of the arrays of dev-scores.npz.

    Without a `threshold` it is the one that refuses WRONGLY_REFUSED of the answerable.
    """
    kinds = _by_kind(held)
    logits, right, weight = [], [], []
    for values, marks in kinds.values():
        there = np.isfinite(values)
        logits.append(values[there])
        right.append(marks[there])
        weight.append(np.full(int(there.sum()), 1.0 / there.sum()))
    all_logits, all_right = np.concatenate(logits), np.concatenate(right)
    scale, offset = fit_platt(all_logits, all_right, np.concatenate(weight) * len(all_logits))
    if threshold is None:
        lowest = _threshold(list(kinds.values()))
        threshold = 1.0 / (1.0 + math.exp(-(scale * lowest + offset)))
    lowest = (math.log(threshold / (1.0 - threshold)) - offset) / scale
    figures = {}
    for kind, (values, marks) in kinds.items():
        there = np.isfinite(values)
        answerable = marks.any(1)
        absent = np.where(marks, -np.inf, values)[answerable].max(1)
        figures[kind] = {
            "n": int(answerable.sum()),
            "wrongly_refused": float((values[answerable].max(1) < lowest).mean()),
            "rightly_refused": float((absent < lowest).mean()),
            "calibration_error": calibration_error(
                (scale * values[there] + offset).astype(np.float32), marks[there]
            ),
        }
    return {"scale": scale, "offset": offset, "threshold": threshold, "development": figures}


def _threshold(kinds: Sequence[tuple[Floats, npt.NDArray[np.bool_]]]) -> float:
    """Return the highest logit that refuses WRONGLY_REFUSED of the answerable, kinds alike."""
    best, weight = [], []
    for values, marks in kinds:
        answerable = marks.any(1)
        best.append(values[answerable].max(1))
        weight.append(np.full(int(answerable.sum()), 1.0 / max(1, answerable.sum())))
    tops, weights = np.concatenate(best), np.concatenate(weight)
    order = np.argsort(tops)
    share = np.cumsum(weights[order]) / weights.sum()
    return float(tops[order][np.searchsorted(share, WRONGLY_REFUSED)])


def main(arguments: Sequence[str] | None = None) -> None:
    """Join, calibrate, write; print what was found."""
    from models.embedder import packaged_name

    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--parts", type=Path, required=True, help="the folder of reader_train")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--threshold", type=float, help="instead of the development set's")
    options = parser.parse_args(arguments)
    parts = sorted(options.parts.glob("reader-*.part"))
    (options.out / "reader.safetensors").write_bytes(b"".join(p.read_bytes() for p in parts))
    with np.load(options.parts / "dev-scores.npz", allow_pickle=False) as held:
        about = calibrate(held, options.threshold)
    about = {"format": FORMAT, "base": packaged_name(), **about}
    (options.out / "reader.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(about, indent=1))


if __name__ == "__main__":
    main()
