"""The step of the torch engine with its launches made in other ways: a part of `torch_gpu`.

For each KV type and depth the whole step is timed as a graph, with one thing changed after another
(`kernels.tuned.StepTuning`). Before a way is timed its logits are compared, over several tokens,
with those of the step as it is; a way that is wrong, or is not compiled, is said so and left out.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from kernels.tuned import STEP, AttendBlocks, StepTuning, attend_blocks

if TYPE_CHECKING:
    from docqa.bench.torch_gpu import Bench

SHORT = ((16, 32), (64, 96))  # pages of a head, parts
EARLY = (0, 1, 2, 4)
TOKENS = (1, 77, 1234, 5, 31_000)
RIGHT = 1e-3


def attend_variants(bits: int) -> list[AttendBlocks]:
    """Return ways to read a cache, the one in use first."""
    base = attend_blocks(bits)
    found = [base, replace(base, dense_parts=9), AttendBlocks(4, 2, 64, 8, 9)]
    if bits == 16:
        return found
    for tokens in (32, 64):
        for stages in (1, 2):
            for warps in (1, 2):
                for k_integers in (False, True):
                    new = AttendBlocks(warps, stages, tokens, 8, 9, k_integers, is_asm=True)
                    found.append(new)
                    if warps == 1 and stages == 1:
                        most = (128, 168) if tokens == 32 else (168,)
                        found += [replace(new, most_registers=n) for n in most]
    return found


def label(blocks: AttendBlocks) -> str:
    """Name a way to read a cache."""
    parts = [f"{blocks.num_warps}w{blocks.num_stages}s{blocks.tokens}t/{blocks.programs}"]
    parts.append(f"d{blocks.dense_parts}")
    parts += ["ints"] * blocks.k_integers + ["asm"] * blocks.is_asm
    parts += [f"r{blocks.most_registers}"] if blocks.most_registers else []
    return " ".join(parts)


def step_variants(best: AttendBlocks | None) -> dict[str, StepTuning]:
    """Return the ways to launch a step, the first as it is: with `best` for attention, or without.

    `best` is known where attention was swept in the same run.
    """
    found = {"as it is": STEP}
    if best is not None:
        found[f"attention {label(best)}"] = replace(STEP, attend=best)
        for early in (1, 2, 4):
            tuning = StepTuning(overlaps=True, early=early, short=SHORT, attend=best)
            found[f"overlaps, early {early}, short, attention"] = tuning
        return found
    found["short"] = replace(STEP, short=SHORT)
    for early in EARLY:
        found[f"overlaps, early {early}"] = replace(STEP, overlaps=True, early=early)
    found["overlaps, early 4, short"] = replace(STEP, overlaps=True, early=4, short=SHORT)
    return found


def time_steps(
    bench: Bench, decoder: Any, cache: Any, kind: str, depth: int, best: AttendBlocks | None
) -> None:
    """Note the time of a step over `cache` for each way to launch it."""
    from models.torch_step import GraphStep

    expected: list[Any] = []
    for name, tuning in step_variants(best).items():
        try:
            step = GraphStep(decoder, cache, cache.n_tokens + 256, tuning)
            logits = [logits_of(step, cache, token) for token in TOKENS]
            if not expected:
                expected = logits
            error = max(
                float((new - old).norm() / old.norm())
                for new, old in zip(logits, expected, strict=True)
            )
            wrong = {} if error < RIGHT else {"WRONG": True}
            took = bench.seconds(lambda step=step: step.launch(cache), 20)  # type: ignore[misc]
        except Exception as problem:  # one way that fails must not end the others
            bench.note(f"step {kind} at {depth}", way=name, failed=str(problem)[:200])
            continue
        rate = 1 / took if took else 0.0
        bench.note(
            f"step {kind} at {depth}",
            way=name.replace(" ", "_"),
            ms=took * 1e3,
            tok_s=rate,
            error=error,
            **wrong,
        )
        del step


def logits_of(step: Any, cache: Any, token: int) -> Any:
    """Return the logits of a token on top of `cache`, which is then as it was."""
    n = cache.n_tokens
    logits = step.run(token, cache).clone()
    cache.truncate(n)
    return logits


def compile_step(way: tuple[bool, int]) -> None:
    """Run what is between the attentions of a step once, on little data of an 8B model's form.

    `way`: overlaps, early.
    """
    import torch

    from docqa.bench.torch_kernels import random_rows
    from kernels.integers import Activations
    from kernels.matvec import matvec, prepare
    from kernels.packed import pack
    from kernels.step import turn_and_keep

    overlaps, early = way
    device = torch.device("cuda")
    matrix = pack(random_rows("Q4_K", 48, 4096, 0).to(device), "Q4_K")
    x, room = torch.zeros(2 * 4096, device=device), Activations.room(4096, device)
    norm, out = torch.ones(4096, device=device), torch.empty(48, device=device)
    prepare(x[:4096], room, norm=norm, eps=1e-5, overlaps=overlaps)
    prepare(x, room, is_gated=True, overlaps=overlaps)
    for residual in (None, out):
        for blocks in ((1, 32, 1, 2), (2, 32, 1, 2)):
            matvec(
                matrix, room, out, residual=residual, blocks=blocks, early=early, overlaps=overlaps
            )
    dense = [torch.zeros(8, n, 128, dtype=torch.float16, device=device) for n in (16, 16, 128, 128)]
    kept = [torch.zeros(8, 128, dtype=torch.float16, device=device) for _ in "kv"]
    turn_and_keep(
        torch.zeros(48 * 128, device=device),
        None,
        torch.zeros(64, device=device),
        1.0,
        torch.zeros(2, dtype=torch.int32, device=device),
        torch.tensor([16, 1, 0], dtype=torch.int32, device=device),
        torch.zeros(32, 128, device=device),
        (kept[0], kept[1]),
        (dense[0], dense[1]),
        (dense[2], dense[3]),
        eps=1e-5,
        is_interleaved=True,
        overlaps=overlaps,
    )
