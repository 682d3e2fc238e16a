"""Trains the reader: one encoder, a relevance head and a start/end head, in a given time.

    python -m models.training.reader_train --data FOLDER --out FOLDER --minutes 9

`--data` holds what `reader_data` wrote. Needs numpy, safetensors and torch alone. The learning rate
follows the clock, so that a slower or shared machine still ends with a finished model. Written to
`--out`:
    reader-00.part …   the averaged weights without the word embeddings, fp16 safetensors, in
                       parts of at most 15 MB: `cat reader-*.part > reader.safetensors`
    report.json        settings, speed and every evaluation
    dev-scores.npz     the development logits that calibration is fitted on
`--start FILE` begins with trained weights; with `--max-steps 0` they are only evaluated.
`--state FILE` keeps a checkpoint there every two minutes and goes on from it where there is one.
`--smoke` runs everything on a small part in under a minute on a CPU.
"""

from __future__ import annotations

import argparse
import json
import lzma
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from models.reader_pairs import FORMAT, Ids
from models.training import reader_eval
from models.training.reader_batches import Prefetch, Sizes, Step
from models.training.reader_invented import extended
from models.training.reader_mine import mine
from models.training.reader_model import FROZEN, cast, encode, heads, load_base
from models.training.reader_records import Arrays, subset

PART_BYTES = 15_000_000


@dataclass(frozen=True, slots=True)
class Recipe:
    """What is tuned. The learning rate is the encoder's; lower layers learn `layer_decay` less."""

    rate: float = 1.5e-4
    head_rate: float = 6e-4
    layer_decay: float = 0.9
    weight_decay: float = 0.02
    dropout: float = 0.1
    warm_share: float = 0.04  # of the time: the rate rises
    cloze_share: float = 0.2  # of the time: most lone rows are clozes
    ema: float = 0.999
    clip: float = 1.0
    rank_loss: float = 1.0
    binary_loss: float = 0.5
    span_loss: float = 1.0


class Trainer:
    """Weights, their average, the optimiser, and one step of it."""

    def __init__(self, base: dict[str, Tensor], recipe: Recipe, device: str) -> None:
        self.recipe, self.device = recipe, device
        self.weights = {
            name: value.clone().requires_grad_(name not in FROZEN) for name, value in base.items()
        }
        self.trained = {n: w for n, w in self.weights.items() if w.requires_grad}
        self.average = {n: w.detach().clone() for n, w in self.trained.items()}
        groups = [
            {"params": [w], "base": self._rate(n), "lr": 0.0, "weight_decay": self._decay(n, w)}
            for n, w in self.trained.items()
        ]
        self.optimiser = torch.optim.AdamW(
            _merged(groups), betas=(0.9, 0.98), eps=1e-6, fused=device != "cpu"
        )
        weights = [recipe.rank_loss, recipe.binary_loss, recipe.span_loss]
        self._loss_weights = torch.tensor(weights, device=device)
        self.n_steps = 0
        self.dtype = torch.float32 if device == "cpu" else torch.bfloat16

    def _rate(self, name: str) -> float:
        if name.startswith(("head", "span")):
            return self.recipe.head_rate
        depth = int(name.split(".")[0]) + 1 if name[0].isdigit() else 0
        return self.recipe.rate * self.recipe.layer_decay ** (6 - depth)

    def _decay(self, name: str, weight: Tensor) -> float:
        is_matrix = weight.ndim == 2 and name not in ("position", "type")
        return self.recipe.weight_decay if is_matrix else 0.0

    def step(self, step: Step, sizes: Sizes, progress: float) -> Tensor:
        """Learn from one step at `progress` (0 … 1) of the time; return (3,) detached losses."""
        for group in self.optimiser.param_groups:
            group["lr"] = group["base"] * _schedule(progress, self.recipe.warm_share)
        light = cast(self.weights, self.dtype)
        relevance, spans = self._forward(light, step)
        has_right = self._moved(step.has_right)
        losses = torch.stack(_losses(relevance, spans, has_right, sizes))
        (losses * self._loss_weights).sum().backward()
        torch.nn.utils.clip_grad_norm_(list(self.trained.values()), self.recipe.clip, foreach=True)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.n_steps += 1
        decay = min(self.recipe.ema, (1 + self.n_steps) / (10 + self.n_steps))
        with torch.no_grad():
            torch._foreach_lerp_(
                list(self.average.values()), list(self.trained.values()), 1.0 - decay
            )
        return losses.detach()

    def _forward(self, light: dict[str, Tensor], step: Step) -> tuple[Tensor, Tensor]:
        """Return relevance (N,) in the step's order and the span loss of each marked row (M,)."""
        rows = np.concatenate([micro.row for micro in step.micros])
        back = self._moved(np.argsort(rows))
        inputs = []
        for micro in step.micros:  # all copies first: none then waits for a kernel
            marked = np.flatnonzero(step.spans[micro.row, 0] >= 0)
            arrays = (micro.ids, micro.types, micro.lengths, marked, step.spans[micro.row[marked]])
            inputs.append([self._moved(array) for array in arrays])
        relevance, span_losses = [], []
        for ids, types, lengths, marked, goal in inputs:
            h = encode(light, ids, types, lengths, self.recipe.dropout)
            scores, logits = heads(light, h, self.recipe.dropout)
            relevance.append(scores)
            if len(marked):
                span_losses.append(_span_loss(logits[marked], types[marked], lengths[marked], goal))
        spans = torch.cat(span_losses) if span_losses else torch.zeros(1, device=self.device)
        return torch.cat(relevance)[back], spans

    def _moved(self, array: npt.NDArray[Any]) -> Tensor:
        tensor = torch.from_numpy(array)
        if self.device == "cpu":
            return tensor
        return tensor.pin_memory().to(self.device, non_blocking=True)

    def forward(self) -> reader_eval.Forward:
        """Return the averaged model as the evaluation wants it."""
        averaged = {**self.weights, **self.average}
        exact = torch.float32 if self.device == "cpu" else torch.float16
        light = cast({n: w.detach() for n, w in averaged.items()}, exact)

        def run(ids: Ids, types: Ids, lengths: Ids) -> tuple[Any, Any]:
            with torch.inference_mode():
                given = (torch.from_numpy(x).to(self.device) for x in (ids, types, lengths))
                scores, spans = heads(light, encode(light, *given))
                return scores.cpu().numpy(), spans.cpu().numpy()

        return run

    def save_state(self, file: Path, elapsed: float) -> None:
        """Write all that going on needs, first beside `file`, then in its place."""
        from safetensors.torch import save_file

        tensors = {f"w.{n}": w.detach() for n, w in self.trained.items()}
        tensors |= {f"a.{n}": w for n, w in self.average.items()}
        for name, weight in self.trained.items():
            state = self.optimiser.state.get(weight, {})
            tensors |= {f"o.{k}.{name}": v for k, v in state.items() if isinstance(v, Tensor)}
        meta = {"n_steps": str(self.n_steps), "elapsed": str(elapsed)}
        held = {n: t.contiguous().cpu() for n, t in tensors.items()}
        save_file(held, f"{file}.new", meta)
        Path(f"{file}.new").replace(file)

    def load_state(self, file: Path) -> float:
        """Go on from `file`; return the seconds that it had trained for."""
        from safetensors import safe_open

        with safe_open(str(file), framework="pt", device=self.device) as held, torch.no_grad():
            for name, weight in self.trained.items():
                weight.copy_(held.get_tensor(f"w.{name}"))
                self.average[name].copy_(held.get_tensor(f"a.{name}"))
                keys = [k for k in held.keys() if k.startswith("o.") and k.split(".", 2)[2] == name]  # noqa: SIM118
                state = {k.split(".", 2)[1]: held.get_tensor(k) for k in keys}
                if "step" in state and self.device == "cpu":
                    state["step"] = state["step"].cpu()
                self.optimiser.state[weight] = state
            meta = held.metadata()
        self.n_steps = int(meta["n_steps"])
        return float(meta["elapsed"])


def _merged(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the groups with equal rate and decay as one: fewer, larger optimiser kernels."""
    merged: dict[tuple[float, float], dict[str, Any]] = {}
    for group in groups:
        key = (group["base"], group["weight_decay"])
        if key in merged:
            merged[key]["params"] += group["params"]
        else:
            merged[key] = group
    return list(merged.values())


def _schedule(progress: float, warm_share: float) -> float:
    """Return the share of the peak rate: a linear rise, then half a cosine down to 2 %."""
    if progress < warm_share:
        return max(0.01, progress / warm_share)
    rest = min(1.0, (progress - warm_share) / (1.0 - warm_share))
    return 0.02 + 0.98 * 0.5 * (1.0 + math.cos(math.pi * rest))


def _losses(
    relevance: Tensor, spans: Tensor, has_right: Tensor, sizes: Sizes
) -> tuple[Tensor, Tensor, Tensor]:
    """Return (rank, binary, span) losses, each a mean.

    Binary: the right passage of a group weighs as much as two wrong ones.
    """
    width = 1 + sizes.n_wrong
    n_groups = len(has_right)
    grouped = relevance[: n_groups * width].view(n_groups, width)
    rank = -F.log_softmax(grouped, dim=1)[:, 0]
    rank = (rank * has_right).sum() / has_right.sum().clamp(min=1)
    goal = torch.zeros_like(grouped)
    goal[:, 0] = has_right.float()
    weight = torch.where(goal > 0, 2.0, 1.0)
    binary = F.binary_cross_entropy_with_logits(grouped, goal, weight, reduction="sum")
    return rank, binary / weight.sum(), spans.mean()


def _span_loss(logits: Tensor, types: Tensor, lengths: Tensor, goal: Tensor) -> Tensor:
    """Return (M,) mean of start and end cross-entropy over the context and text tokens."""
    positions = torch.arange(logits.shape[1], device=logits.device)
    allowed = (types > 0) & (positions < lengths[:, None] - 1)
    masked = logits.masked_fill(~allowed[..., None], -1e4)
    start = F.cross_entropy(masked[..., 0], goal[:, 0], reduction="none")
    end = F.cross_entropy(masked[..., 1], goal[:, 1], reduction="none")
    return 0.5 * (start + end)


def evaluate(
    trainer: Trainer,
    arrays: Arrays,
    mined: npt.NDArray[np.int32],
    texts: dict[str, Any],
    *,
    limit: int,
    n_candidates: int,
) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
    """Return the figures of the averaged model and the scored candidates behind them."""
    forward = trainer.forward()
    figures: dict[str, Any] = {}
    kept: dict[str, npt.NDArray[Any]] = {}
    for kind in reader_eval.SPAN_KINDS:
        figures[f"span {kind}"] = reader_eval.span_scores(forward, arrays, texts, kind, limit)
    for kind in reader_eval.RANK_KINDS:
        scored = reader_eval.score_candidates(forward, arrays, mined, kind, limit, n_candidates)
        if not len(scored.queries):
            continue
        figures[f"rank {kind}"] = reader_eval.rank_scores(scored, arrays)
        figures[f"refuse {kind}"] = reader_eval.refusal(scored, arrays)
        best = scored.logits.argmax(1)[:, None]
        figures[f"ece {kind}"] = reader_eval.calibration_error(
            np.take_along_axis(scored.logits, best, 1)[:, 0],
            np.take_along_axis(scored.is_right, best, 1)[:, 0],
        )
        for name in ("queries", "passages", "logits", "is_right"):
            kept[f"{kind}.{name}"] = getattr(scored, name)
    return figures, kept


def shown(figures: dict[str, Any]) -> str:
    """Return the figures in one short line a kind."""
    lines = []
    for name, value in figures.items():
        values = value if isinstance(value, dict) else {"": value}
        body = (f"{k} {v:.3f}" if isinstance(v, float) else f"{k} {v}" for k, v in values.items())
        lines.append(f"    {name:22} {' '.join(body)}")
    return "\n".join(lines)


def export(trainer: Trainer, out: Path, about: dict[str, str]) -> None:
    """Write the averaged weights in parts, fp16, word embeddings left out."""
    from safetensors.torch import save

    held = {n: w.half().cpu().contiguous() for n, w in trainer.average.items()}
    data = save(held, about)
    for number, start in enumerate(range(0, len(data), PART_BYTES)):
        (out / f"reader-{number:02}.part").write_bytes(data[start : start + PART_BYTES])


def train(options: argparse.Namespace, recipe: Recipe, sizes: Sizes) -> dict[str, Any]:
    """Train for the given time, evaluate, write everything; return the report."""
    device = options.device
    torch.manual_seed(options.seed)
    torch.set_float32_matmul_precision("high")
    arrays, texts = _load(options)
    base = load_base(options.base or options.data / "base.safetensors", device, options.seed)
    started = time.perf_counter()
    mined = mine(arrays, base, device)
    _say(f"mined {len(mined)} queries in {time.perf_counter() - started:.0f} s on {device}")
    if device != "cpu":
        torch.cuda.empty_cache()
    if options.start:
        base |= _trained(options.start, device)
    trainer = Trainer(base, recipe, device)
    report: dict[str, Any] = {"recipe": asdict(recipe), "sizes": asdict(sizes), "evaluations": []}
    elapsed = 0.0
    if options.state and options.state.is_file():
        elapsed = trainer.load_state(options.state)
        _say(f"going on from {options.state}: step {trainer.n_steps}, {elapsed:.0f} s")
    quick = dict(limit=options.eval_limit, n_candidates=4 if options.smoke else 20)
    with Prefetch(
        arrays, mined, sizes, n_workers=options.workers, seed=options.seed + trainer.n_steps
    ) as steps:
        elapsed = _run(
            trainer, steps, sizes, options, report, elapsed, (arrays, mined, texts, quick)
        )
    final = dict(limit=100_000, n_candidates=50) if not options.smoke else quick
    figures, kept = evaluate(trainer, arrays, mined, texts, **final)
    _say(f"final, {trainer.n_steps} steps in {elapsed:.0f} s\n{shown(figures)}")
    report |= {"final": figures, "n_steps": trainer.n_steps, "seconds": elapsed}
    about = {"format": FORMAT, "n_steps": str(trainer.n_steps)}
    export(trainer, options.out, about)
    np.savez_compressed(options.out / "dev-scores.npz", allow_pickle=False, **kept)
    (options.out / "report.json").write_text(json.dumps(report, indent=1), encoding="utf-8")
    return report


def _run(
    trainer: Trainer,
    steps: Prefetch,
    sizes: Sizes,
    options: argparse.Namespace,
    report: dict[str, Any],
    elapsed: float,
    evaluated: tuple[Arrays, npt.NDArray[np.int32], dict[str, Any], dict[str, int]],
) -> float:
    """Step until the time is up; return the seconds trained, evaluations not counted."""
    budget = options.minutes * 60
    arrays, mined, texts, quick = evaluated
    next_eval, next_save = elapsed + options.eval_every_s, elapsed + 120.0
    total, n_since, n_tokens, waited = torch.zeros(3, device=trainer.device), 0, 0, 0.0
    tick = mark = time.perf_counter()
    first_step = trainer.n_steps
    while elapsed < budget and trainer.n_steps - first_step < options.max_steps:
        before = time.perf_counter()
        step = steps.next()
        waited += time.perf_counter() - before
        steps.warm.value = elapsed < trainer.recipe.cloze_share * budget
        total += trainer.step(step, sizes, elapsed / budget)
        n_since += 1
        n_tokens += sum(int(m.lengths.sum()) for m in step.micros)
        if n_since % 25 == 0 and trainer.device != "cpu":
            torch.cuda.synchronize()
        now = time.perf_counter()
        elapsed, tick = elapsed + now - tick, now
        if elapsed >= next_eval:
            means = (total / n_since).tolist()
            _say(
                f"{elapsed:4.0f} s step {trainer.n_steps} "
                f"rank {means[0]:.3f} binary {means[1]:.3f} span {means[2]:.3f} | "
                f"{n_tokens / (now - mark):,.0f} tokens/s, waited {waited / (now - mark):.0%}"
            )
            figures, _ = evaluate(trainer, arrays, mined, texts, **quick)
            _say(shown({k: v for k, v in figures.items() if not k.startswith(("ece", "refuse"))}))
            report["evaluations"].append(
                {"seconds": elapsed, "step": trainer.n_steps, "losses": means} | figures
            )
            total.zero_()
            n_since, n_tokens, waited = 0, 0, 0.0
            next_eval = elapsed + options.eval_every_s
            if options.state and elapsed >= next_save:
                trainer.save_state(options.state, elapsed)
                next_save = elapsed + 120.0
            tick = mark = time.perf_counter()
    if options.state:
        trainer.save_state(options.state, elapsed)
    return elapsed


def _load(options: argparse.Namespace) -> tuple[Arrays, dict[str, Any]]:
    """Return the arrays and the texts of the development answers, or a small part of both."""
    with np.load(options.data / "data.npz", allow_pickle=False) as held:
        arrays = {name: held[name] for name in held.files}
    if options.invented:
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(options.tokenizer))
        tokenizer.no_padding()
        tokenizer.no_truncation()
        arrays = extended(arrays, options.invented, tokenizer)
        _say(f"{len(arrays['kind'])} queries with {options.invented}")
    with lzma.open(options.data / "dev.json.xz", "rt", encoding="utf-8") as file:
        texts = json.load(file)
    if options.smoke:
        arrays, chosen = subset(arrays, n_each=2, n_others=20)
        texts = {str(i): texts[str(q)] for i, q in enumerate(chosen) if str(q) in texts}
    return arrays, texts


def _trained(file: Path, device: str) -> dict[str, Tensor]:
    """Return the float32 weights of a file as `reader_export` writes it."""
    from safetensors.torch import load_file

    return {name: value.float().to(device) for name, value in load_file(str(file)).items()}


def _say(text: str) -> None:
    print(text, flush=True)


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    p = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    p.add_argument("--data", type=Path, required=True)
    p.add_argument("--base", type=Path, help="base.safetensors, if not in --data")
    p.add_argument("--out", type=Path, required=True)
    p.add_argument("--invented", type=Path, help="questions from the adapter's training")
    p.add_argument("--tokenizer", type=Path, help="tokenizer.json, for --invented")
    p.add_argument("--start", type=Path, help="reader.safetensors to begin with")
    p.add_argument("--state", type=Path, help="checkpoint, read if it exists")
    p.add_argument("--minutes", type=float, default=9.0, help="of training, mining not counted")
    p.add_argument("--max-steps", type=int, default=10**9)
    p.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    p.add_argument("--workers", type=int, default=6)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--eval-every-s", type=float, default=75.0)
    p.add_argument("--eval-limit", type=int, default=300)
    p.add_argument("--smoke", action="store_true", help="a few small steps")
    for name, value in asdict(Recipe()).items():
        p.add_argument(f"--{name.replace('_', '-')}", type=float, default=value)
    for name, value in asdict(Sizes()).items():
        p.add_argument(f"--{name.replace('_', '-')}", type=int, default=value)
    return p


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, train."""
    options = parser().parse_args(arguments)
    recipe = Recipe(**{name: getattr(options, name) for name in asdict(Recipe())})
    sizes = Sizes(**{name: getattr(options, name) for name in asdict(Sizes())})
    if options.smoke:
        sizes = Sizes(n_groups=2, n_wrong=2, n_lone=2, n_micro=2)
        options.minutes, options.max_steps = 0.5, 4
        torch.set_num_threads(1)  # threads that wait for each other on a busy machine cost more
        options.workers, options.eval_limit, options.eval_every_s = 1, 2, 5.0
    options.out.mkdir(parents=True, exist_ok=True)
    train(options, recipe, sizes)


if __name__ == "__main__":
    main()
