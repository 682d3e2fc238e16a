"""What a training run of the adapter is asked to do: its plan and its command line."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

P_INVENTED_LATE = 0.25  # of the invented questions, at the end of a run


@dataclass(frozen=True, slots=True)
class Plan:
    """What the command line asked for."""

    minutes: float
    eval_minutes: float
    n_tokens: int
    rate: float
    rank: int
    kv_rank: int
    epochs: float
    max_steps: int  # 0: as many as the time allows
    n_warmup: int
    seed: int
    compiled: bool
    full: bool
    eval_limit: int
    invent: float = 0.0  # minutes of writing questions to train on; 0: the real ones only
    invent_after: float = 2.0  # minutes on the real ones before
    invent_each: int = 6  # questions drawn about a passage
    invent_limit: int = 0  # questions drawn in all; 0: all
    invent_all: bool = False  # keep also what the adapter in training answers otherwise
    late: float = P_INVENTED_LATE  # of the invented questions drawn at the end
    decay: float = 0.0  # of the trained update: towards the base


def parser(about: str | None) -> argparse.ArgumentParser:
    """Return the command line; the first line of `about` describes it."""
    p = argparse.ArgumentParser(description=(about or "").split("\n")[0])
    p.add_argument("--data", type=Path, required=True)
    p.add_argument("--base", type=Path, required=True)
    p.add_argument("--out", type=Path, required=True)
    p.add_argument("--minutes", type=float, default=13.0, help="training and evaluation together")
    p.add_argument("--eval-minutes", type=float, default=2.0)
    p.add_argument("--tokens", type=int, default=32_768, help="of one batch")
    p.add_argument("--lr", type=float, help="at its peak; 6e-4, with --full 1e-4")
    p.add_argument("--decay", type=float, help="of the update; 0, with --full 0.1")
    p.add_argument("--rank", type=int, default=64)
    p.add_argument("--kv-rank", type=int, default=32)
    p.add_argument("--epochs", type=float, default=5.0, help="at most")
    p.add_argument("--steps", type=int, default=0, help="at most")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--eval-limit", type=int, default=0, help="development prompts; 0: all")
    p.add_argument("--invent", type=float, default=0.0, help="minutes of writing questions")
    p.add_argument("--invent-after", type=float, default=2.0, help="minutes")
    p.add_argument("--invent-each", type=int, default=6, help="questions about a passage")
    p.add_argument("--invented", type=Path, help="what an earlier run wrote of that name")
    p.add_argument("--invent-all", action="store_true", help="to be judged (adapter_judge)")
    p.add_argument("--late", type=float, default=P_INVENTED_LATE, help="kept at the end")
    p.add_argument("--start", type=Path, help="adapter to begin with; not with --full")
    p.add_argument("--no-compile", action="store_true")
    p.add_argument("--full", action="store_true", help="train the whole layers instead")
    p.add_argument("--smoke", action="store_true", help="in small, on a CPU")
    return p


def plan_of(args: argparse.Namespace) -> Plan:
    """Return the plan of a parsed command line."""
    return Plan(
        minutes=args.minutes,
        eval_minutes=args.eval_minutes,
        n_tokens=args.tokens,
        rate=args.lr or (1e-4 if args.full else 6e-4),
        rank=args.rank,
        kv_rank=args.kv_rank,
        epochs=args.epochs,
        max_steps=args.steps,
        n_warmup=60,
        seed=args.seed,
        compiled=not args.no_compile,
        full=args.full,
        eval_limit=args.eval_limit,
        invent=args.invent,
        invent_after=args.invent_after,
        invent_each=args.invent_each,
        invent_all=args.invent_all,
        late=args.late,
        decay=args.decay if args.decay is not None else (0.1 if args.full else 0.0),
    )
