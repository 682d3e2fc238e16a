"""What training brought -> the shipped files: weights, calibration, threshold.

    python -m models.training.reader_export --parts RUN --out models/weights --threshold 0.035
    python -m models.training.reader_export --parts RUN RUN2 --data SET --out models/weights

RUN holds `reader-00.part` …, `dev-scores.npz` and `report.json` of `reader_train`. Written are
`reader.safetensors` (the parts joined; of several runs their mean) and `reader.json`. The
development logits are those of passages that training did not see, on the candidates that search
brings. A mean has none: it reads the last run's candidates again, on the CPU.
"""

from __future__ import annotations

import argparse
import json
import math
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.reader_pairs import FORMAT
from models.training import reader_eval
from models.training.reader_eval import Forward, Scored, calibration_error
from models.training.reader_records import Arrays

N_RERANKED = 24  # candidates that the product's reader sees: docqa.config.RetrieveConfig.n_rerank
WRONGLY_REFUSED = 0.02  # of the answerable development questions, each kind counting alike
N_NEWTON = 50
N_RESCORED = 400  # questions of a kind that a mean reads again: half an hour on two cores
CPU_BATCH_TOKENS = 2048

Floats = npt.NDArray[np.float64]


def mean_weights(files: Sequence[bytes]) -> bytes:
    """Return a safetensors file with the mean of the tensors of `files`, their metadata the last's.

    Runs that saw other data err differently (Wortsman et al. 2022, "Model soups").

    Raises:
        KeyError: they do not have the same tensors.
    """
    from safetensors.numpy import load, save

    runs = [load(file) for file in files]
    mean = {name: np.mean([run[name].astype(np.float32) for run in runs], 0) for name in runs[-1]}
    (size,) = struct.unpack_from("<Q", files[-1])
    about = json.loads(files[-1][8 : 8 + size]).get("__metadata__")
    return save({name: value.astype(np.float16) for name, value in mean.items()}, about)


def rescored(
    held: Mapping[str, Any], arrays: Arrays, forward: Forward, limit: int
) -> dict[str, npt.NDArray[Any]]:
    """Return dev-scores.npz anew for other weights, and print how they rank.

    `limit` questions of each kind, evenly spaced; their passages are those of `held`.
    """
    found: dict[str, npt.NDArray[Any]] = {}
    for kind in _kinds(held):
        all_queries = held[f"{kind}.queries"]
        chosen = np.linspace(0, len(all_queries) - 1, min(limit, len(all_queries))).astype(int)
        queries, passages = all_queries[chosen], held[f"{kind}.passages"][chosen]
        is_right = held[f"{kind}.is_right"][chosen]
        logits = reader_eval.passage_logits(
            forward, arrays, queries, passages, batch_tokens=CPU_BATCH_TOKENS
        )
        for name, before in (("before", held[f"{kind}.logits"][chosen]), ("mean", logits)):
            ranks = reader_eval.rank_scores(Scored(queries, passages, before, is_right), arrays)
            print(f"{kind:15} {name:7}", {k: round(v, 3) for k, v in ranks.items()}, flush=True)
        found |= {f"{kind}.logits": logits, f"{kind}.is_right": is_right}
    return found


def fit_platt(
    logits: Floats, is_right: npt.NDArray[np.bool_], weight: Floats
) -> tuple[float, float]:
    """Return (scale, offset) of P = sigmoid(scale · logit + offset), by Newton's method.

    Targets as in Platt (1999), (n₊ + 1) / (n₊ + 2) and 1 / (n₋ + 2), so that separable logits have
    a finite solution; start and step halving as in Lin, Lin and Weng (2007), without which wide
    logits diverge. `weight` (N,) counts the rows.
    """
    n_right, n_wrong = float(is_right.sum()), float((~is_right).sum())
    goal = np.where(is_right, (n_right + 1) / (n_right + 2), 1 / (n_wrong + 2))
    x = np.stack([logits, np.ones_like(logits)], 1)

    def loss(w: Floats) -> float:
        z = x @ w
        return float((weight * (np.logaddexp(0.0, z) - goal * z)).sum())

    w = np.array([0.0, math.log((n_right + 1) / (n_wrong + 1))])
    for _ in range(N_NEWTON):
        p = 1.0 / (1.0 + np.exp(-np.clip(x @ w, -60, 60)))
        gradient = x.T @ (weight * (p - goal))
        hessian = (x * (weight * p * (1 - p))[:, None]).T @ x + 1e-9 * np.eye(2)
        step, before = np.linalg.solve(hessian, gradient), loss(w)
        while loss(w - step) > before and float(np.abs(step).max()) > 1e-9:
            step = step / 2
        w = w - step
        if float(np.abs(step).max()) < 1e-9:
            break
    return float(w[0]), float(w[1])


def _by_kind(held: Mapping[str, Any]) -> dict[str, tuple[Floats, npt.NDArray[np.bool_]]]:
    """Return logits and marks (Q, K) of each kind, of the candidates that the product reads."""
    return {
        kind: (
            np.asarray(held[f"{kind}.logits"], np.float64)[:, :N_RERANKED],
            np.asarray(held[f"{kind}.is_right"], bool)[:, :N_RERANKED],
        )
        for kind in _kinds(held)
    }


def _kinds(held: Mapping[str, Any]) -> list[str]:
    return [name.removesuffix(".logits") for name in held if name.endswith(".logits")]


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
    from models.embedder import packaged_folder, packaged_name
    from models.reader import ReaderNet

    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument(
        "--parts", type=Path, nargs="+", required=True, help="folders of reader_train; all: a mean"
    )
    parser.add_argument("--data", type=Path, help="what reader_data wrote; for a mean")
    parser.add_argument("--limit", type=int, default=N_RESCORED, help="questions of a kind")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--threshold", type=float, help="instead of the development set's")
    options = parser.parse_args(arguments)
    if len(options.parts) > 1 and options.data is None:
        parser.error("the mean of several runs is measured: --data names what reader_data wrote")
    runs = [_joined(folder) for folder in options.parts]
    weights = options.out / "reader.safetensors"
    weights.write_bytes(mean_weights(runs) if len(runs) > 1 else runs[0])
    held = _arrays(options.parts[-1] / "dev-scores.npz")
    if len(runs) > 1:
        net = ReaderNet(packaged_folder(), weights, 0)
        held = rescored(held, _arrays(options.data / "data.npz"), net.forward, options.limit)
    about = {
        "format": FORMAT,
        "base": packaged_name(),
        **calibrate(held, options.threshold),
    }
    (options.out / "reader.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(about, indent=1))


def _joined(folder: Path) -> bytes:
    return b"".join(part.read_bytes() for part in sorted(folder.glob("reader-*.part")))


def _arrays(file: Path) -> dict[str, npt.NDArray[Any]]:
    with np.load(file, allow_pickle=False) as held:
        return {name: held[name] for name in held.files}


if __name__ == "__main__":
    main()
