"""Answer the development prompts with the model in training, in batches, and write figures."""

from __future__ import annotations

import random
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from docqa.config import AnswerConfig
from models.training import adapter_metrics

if TYPE_CHECKING:
    from models.training.adapter_train import Trainer

N_NEW = AnswerConfig().max_tokens  # as docqa itself; and where a few words are asked for:
N_NEW_SHORT = 48
SHORT = ("squad", "web", "policy", "table", "two", "follow", "position")
MAX_ROWS = 512


Placed = tuple[dict[str, Any], np.ndarray]


def longest_answer(item: Placed) -> int:
    """Return how many tokens may be written: a sentence, a few words, or what is not scored."""
    if not (item[0]["references"] or item[0]["forbidden"]):
        return 1
    return N_NEW_SHORT if item[0]["name"].startswith(SHORT) else N_NEW


def grouped(made: list[Placed], n_tokens: int) -> list[list[Placed]]:
    """Return batches of prompts of similar length and kind of answer."""
    ordered = sorted(made, key=lambda m: (longest_answer(m), len(m[1])))
    groups: list[list[Placed]] = [[]]
    for item in ordered:
        longest = len(item[1])
        full = (len(groups[-1]) + 1) * longest > n_tokens or len(groups[-1]) >= MAX_ROWS
        if groups[-1] and (full or longest_answer(groups[-1][0]) != longest_answer(item)):
            groups.append([])
        groups[-1].append(item)
    return groups


@torch.no_grad()  # type: ignore[untyped-decorator]
def answers(trainer: Trainer) -> list[adapter_metrics.Outcome]:
    """Answer the development prompts, as many as the time allows.

    Batches come in a drawn order: cut short, the figures are still those of prompts of every kind
    and length.
    """
    merged = trainer.module.merge(trainer.base, trainer.dtype)
    placed = trainer.data.meta["sets"]
    if trainer.plan.eval_limit:
        placed = placed[:: max(1, len(placed) // trainer.plan.eval_limit)]
    made = [(p, trainer.data.arranged(p)[0]) for p in placed]
    groups = grouped(made, 4 * trainer.n_tokens)
    random.Random(trainer.plan.seed).shuffle(groups)
    refusal, end = int(trainer.data.frame["refusal"][0]), int(trainer.data.frame["end"][0])
    found: list[adapter_metrics.Outcome] = []
    for i, group in enumerate(groups):
        if trainer.elapsed > 60 * trainer.plan.minutes:
            trainer.note(event="evaluation cut", groups=i, of=len(groups))
            break
        prompts = [prompt for _, prompt in group]
        texts, chances = trainer.llama.generate(
            merged, prompts, end, longest_answer(group[0]), refusal
        )
        best = chances.argmax(-1).tolist()
        chance = chances[:, refusal].tolist()
        for (p, _), ids, top, p_no in zip(group, texts, best, chance, strict=True):
            text = trainer.data.text(ids)
            numbers, sources = trainer.data.numbers(p), trainer.data.sources(p)
            found.append(adapter_metrics.outcome(p, numbers, sources, text, p_no, top == refusal))
    return found


def evaluate(trainer: Trainer, suffix: str = "", **about: Any) -> dict[str, Any]:
    """Write the answers and their figures, with what is told `about` them; return the figures.

    `suffix` is part of the files' names.
    """
    found = answers(trainer)
    name = torch.cuda.get_device_name() if trainer.device != "cpu" else "cpu"
    run = {"plan": asdict(trainer.plan), "steps": trainer.n_steps, "tokens": trainer.seen}
    run |= {"seconds": round(trainer.elapsed), "device": name, **about}
    return adapter_metrics.write(trainer.out, suffix, found, run)
