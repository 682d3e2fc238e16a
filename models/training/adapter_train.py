r"""Train the citing adapter within a box of time.

    python -m models.training.adapter_train --data data.npz.xz --base BASE.gguf --out DIR \\
        --minutes 13

The learning rate follows the clock (or the epochs, whichever is further) down to zero, so that the
result is a finished one however fast the machine is. Every two minutes the adapter is saved as
float16 safetensors in parts; at the end the development prompts are answered in batches. `--smoke`
does all of it in small on a CPU, on the two lowest layers.

`--start` begins with an exported adapter; where the minutes leave none for training, that one
invents (`--invent-after 0`) and answers the development prompts as it is.

`--full` trains all matrices and norms of the layers instead, for the comparison. What it learnt is
saved at the end as `full-*.safetensors`, and the adapter of the usual ranks that comes nearest to
it as `adapter-*.safetensors`; both answer the development prompts.
"""

from __future__ import annotations

import json
import lzma
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.training import adapter_attention
from models.training.adapter_answers import evaluate
from models.training.adapter_batches import (
    Batch,
    Dataset,
    Prefetch,
    Sample,
    Sampler,
    batches,
    pack,
    trained_on,
)
from models.training.adapter_data import Tokenizer
from models.training.adapter_export import exported
from models.training.adapter_full import FullUpdate, narrowed
from models.training.adapter_invent import (
    KIND,
    Invented,
    Inventor,
    add,
    recalled,
    sources,
    told,
)
from models.training.adapter_llama import (
    PROJECTIONS,
    Adapter,
    Base,
    Llama,
    Merged,
    by_projection,
    load_base,
)
from models.training.adapter_parts import write_parts
from models.training.adapter_plan import Plan, parser, plan_of

SAVE_EVERY_S = 120.0
# Of the minutes for inventing: learning to write, and writing; the rest is checking.
WRITING_LESSONS, WRITING = 0.2, 0.5
REAL_FROM = 0.65  # from here on mostly the real questions


class Trainer:
    """One run: model, adapter, optimizer and the clock."""

    def __init__(
        self, data: Dataset, base: Base, plan: Plan, out: Path, device: str,
        start: Path | None = None,
    ) -> None:  # fmt: skip
        self.data, self.plan, self.out, self.device = data, plan, out, device
        self.started = time.monotonic()
        self.dtype = torch.bfloat16 if device != "cpu" else torch.float32
        self.base = base.to(device)
        attend = adapter_attention.choose(base.shape, device, self.dtype)
        self.note(event="attention", way=getattr(attend, "__name__", str(attend)))
        self.llama = Llama(self.base, attend, self.dtype, plan.compiled)
        self.ranks = by_projection(plan.rank, plan.kv_rank)
        self.module: Adapter | FullUpdate = (
            FullUpdate(self.base) if plan.full else Adapter(base, self.ranks, plan.seed).to(device)
        )
        if start is not None:
            assert isinstance(self.module, Adapter), "--start is not for --full"
            self.module.begin_with(exported(start))
        self.optimizer = torch.optim.AdamW(
            self.module.parameters(),
            lr=plan.rate,
            betas=(0.9, 0.98),
            weight_decay=plan.decay,
            fused=device != "cpu",
        )
        self.sampler = Sampler(data, plan.seed)
        self.n_tokens, self.n_steps, self.seen = plan.n_tokens, 0, 0
        self.watch = self._watched()
        self.invented = False
        self.recalled: list[Invented] = []
        self.invent_s = 0.0  # spent on inventing

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started

    def note(self, **fields: Any) -> None:
        """Write one line to the log and to stdout."""
        line = json.dumps({"t": round(self.elapsed, 1), **fields})
        print(line, flush=True)
        with (self.out / "train.log").open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def progress(self) -> float:
        """Return how much of the run is over, by the clock, the epochs or the steps.

        The clock stands still while questions are invented.
        """
        budget = 60 * (self.plan.minutes - self.plan.eval_minutes - self.plan.invent)
        epochs = self.sampler.n_drawn / (self.plan.epochs * max(1, len(self.sampler.train)))
        steps = self.n_steps / self.plan.max_steps if self.plan.max_steps else 0.0
        spent = (self.elapsed - self.invent_s) / budget if budget > 0 else 1.0
        return max(spent, epochs, steps)

    def _watched(self) -> list[Batch]:
        """Return what is watched: development prompts of five kinds, and the base's own words."""
        found = []
        for name in ("squad-4", "squad-adversarial", "contract", "log", "table"):
            samples, used = [], 0
            for placed in self.data.meta["sets"]:
                if placed["name"] != name:
                    continue
                prompt, target = self.data.arranged(placed)
                target = np.concatenate([target, self.data.frame["end"]])
                if used + len(prompt) + len(target) > self.n_tokens:
                    break
                used += len(prompt) + len(target)
                samples.append(Sample(prompt, target, name))
            if samples:
                found.append(pack(samples, self.n_tokens))
        plain = [row for row in self.data.arrays["plain"].tolist() if row[2]]
        chats = [Sample(self.data.piece(a), self.data.piece(b), "plain") for a, b, _ in plain]
        while sum(len(s.prompt) + len(s.target) for s in chats) > self.n_tokens:
            chats.pop()
        return [*found, pack(chats, self.n_tokens)] if chats else found

    def loss(self, merged: Merged, batch: Batch) -> Tensor:
        """Return the weighted cross entropy of the target tokens, in nats."""

        def send(array: np.ndarray) -> Tensor:
            tensor = torch.from_numpy(array)
            if self.device == "cpu":
                return tensor
            return tensor.pin_memory().to(self.device, non_blocking=True)

        ends = send(batch.ends)
        tokens, places = send(batch.tokens), send(batch.places)
        fused = torch.is_grad_enabled()  # watching is too rare to compile a second version for
        hidden = self.llama.hidden(merged, tokens, places, ends, batch.longest, fused=fused)
        scores = self.llama.logits(hidden[send(batch.at)])
        each = torch.nn.functional.cross_entropy(scores, send(batch.wanted), reduction="none")
        return (each * send(batch.weight)).sum()

    def step(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Take one optimizer step; return loss and gradient norm, on the device."""
        ramp = min(1.0, (self.n_steps + 1) / self.plan.n_warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = self.plan.rate * ramp * max(0.0, 1 - self.progress())
        loss = self.loss(self.module.merge(self.base, self.dtype), batch)
        norm = _descend(loss, self.module, self.optimizer)
        self.n_steps += 1
        return loss.detach(), norm

    def try_step(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Take the first steps, giving up what this machine cannot do: compiling, large batches."""
        try:
            return self.step(batch)
        except torch.OutOfMemoryError:
            self.optimizer.zero_grad(set_to_none=True)
            raise
        except Exception as error:  # whatever the compiler raises: the plain functions still work
            if not self.plan.compiled or self.n_steps:
                raise
            self.note(event="not compiled", error=f"{type(error).__name__}: {str(error)[:400]}")
            self.optimizer.zero_grad(set_to_none=True)
            self.llama = Llama(self.base, self.llama.attend, self.dtype, False)
            return self.step(batch)

    def train(self) -> None:
        """Train until the clock or the epochs are over."""
        self.note(event="dev", loss=self.watched_loss())
        if self.plan.invent and not self.plan.invent_after:
            self.invent()
        source = Prefetch(batches(self.sampler.samples(), self.n_tokens))
        saved = shown = self.elapsed
        tokens, losses = 0, []
        while self.progress() < 1:
            try:
                loss, norm = self.try_step(source.next())
            except torch.OutOfMemoryError:
                torch.cuda.empty_cache()
                source.close()
                self.n_tokens //= 2
                self.note(event="out of memory", n_tokens=self.n_tokens)
                self.watch = self._watched()
                source = Prefetch(batches(self.sampler.samples(), self.n_tokens))
                continue
            tokens += self.n_tokens
            self.seen += self.n_tokens
            losses.append(loss)
            if self.plan.invent and not self.invented and self.is_schooled:
                source.close()
                self.invent()
                source = Prefetch(batches(self.sampler.samples(), self.n_tokens))
                tokens, shown = 0, self.elapsed
            if (self.invented or self.recalled) and self.progress() > REAL_FROM:
                self.sampler.kept[KIND] = self.plan.late
            if self.n_steps % 50 == 0 or self.n_steps == 1:
                mean = float(torch.stack(losses).mean())
                speed, losses = tokens / (self.elapsed - shown), []
                tokens, shown = 0, self.elapsed
                epochs = self.sampler.n_drawn / max(1, len(self.sampler.train))
                about = {
                    "loss": mean,
                    "norm": float(norm),
                    "epochs": epochs,
                    "progress": self.progress(),
                }
                rounded = {name: round(value, 4) for name, value in about.items()}
                self.note(step=self.n_steps, tok_s=round(speed), **rounded)
            if self.elapsed - saved > SAVE_EVERY_S:
                saved = self.elapsed
                if not self.plan.full:  # hundreds of megabytes
                    self.save()
                self.note(event="dev", loss=self.watched_loss())
        source.close()
        self.save()
        done: dict[str, Any] = {"steps": self.n_steps, "tokens": self.seen}
        if self.device != "cpu":
            done["peak_gb"] = round(torch.cuda.max_memory_allocated() / 1e9, 1)
        self.note(event="trained", **done, loss=self.watched_loss())

    @property
    def is_schooled(self) -> bool:
        """Whether enough was learnt from the real questions to judge invented ones."""
        return self.elapsed > 60 * self.plan.invent_after

    def invent(self) -> None:
        """Write questions for `plan.invent` minutes, and train on those that hold, too."""

        def until(share: float) -> Callable[[], bool]:
            limit = began + 60 * self.plan.invent * share
            return lambda: self.elapsed > limit

        self.invented = True
        began = self.elapsed
        writer = Adapter(self.base, self.ranks, self.plan.seed + 1).to(self.device)
        inventor = Inventor(self.data, self.llama, writer, self.n_tokens, self.plan.seed)
        self._school(inventor, until(WRITING_LESSONS))
        asked = sources(self.data, self.plan.invent_each)
        if self.plan.invent_limit:
            asked = asked[:: max(1, len(asked) // self.plan.invent_limit)]
        writing = 1.0 - WRITING_LESSONS if self.plan.invent_all else WRITING
        made = inventor.written(asked, self.dtype, until(WRITING_LESSONS + writing))
        self.note(event="written", asked=len(asked), usable=len(made))
        kept = made
        if not self.plan.invent_all:
            kept = inventor.agreed(made, self.module.merge(self.base, self.dtype), until(1.0))
        add(self.data, kept)
        self.sampler.train = trained_on(self.data)
        self.invent_s = self.elapsed - began
        self.note(event="invented", kept=len(kept), rows=len(self.sampler.train))
        self.tell([*self.recalled, *kept])

    def _school(self, inventor: Inventor, is_over: Callable[[], bool]) -> None:
        """Teach the writing adapter."""
        optimizer = torch.optim.AdamW(
            inventor.adapter.parameters(), lr=self.plan.rate, betas=(0.9, 0.98), weight_decay=0.0
        )
        lessons = Prefetch(inventor.lessons())
        step, loss = 0, torch.zeros(())
        while not is_over():
            step += 1
            for group in optimizer.param_groups:
                group["lr"] = self.plan.rate * min(1.0, step / self.plan.n_warmup)
            loss = self.loss(inventor.adapter.merge(self.base, self.dtype), lessons.next())
            _descend(loss, inventor.adapter, optimizer)
            if step % 50 == 0:
                self.note(event="writing", step=step, loss=round(float(loss), 4))
        lessons.close()

    def recall(self, made: list[Invented]) -> None:
        """Train on what an earlier run invented, too, from the beginning."""
        self.recalled = made
        add(self.data, made)
        self.sampler.train = trained_on(self.data)

    def tell(self, made: list[Invented]) -> None:
        """Write invented questions in words."""
        lines = "\n".join(told(self.data, one) for one in made)
        (self.out / "invented.jsonl.xz").write_bytes(lzma.compress(lines.encode("utf-8")))

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def watched_loss(self) -> list[float]:
        """Return the loss on each watched batch."""
        merged = self.module.merge(self.base, self.dtype)
        return [round(float(self.loss(merged, batch)), 4) for batch in self.watch]

    def save(self) -> None:
        """Write the adapter, or the full update, in parts."""
        about = {"steps": str(self.n_steps), "tokens": str(self.seen)}
        about["prompt_version"] = str(self.data.meta["prompt_version"])
        about["plan"] = json.dumps(asdict(self.plan))
        if isinstance(self.module, FullUpdate):
            write_parts(self.module.updates(self.base), self.out, "full", about)
            return
        sides = {"a": self.module.a, "b": self.module.b}
        tensors = {f"{n}.{s}": held[n] for n in PROJECTIONS for s, held in sides.items()}
        write_parts(tensors, self.out, "adapter", about)

    def narrow(self) -> dict[str, float]:
        """Go on with the adapter nearest to the full update, and save it.

        Returns what share of each projection's update it keeps.
        """
        assert isinstance(self.module, FullUpdate)
        self.module, kept = narrowed(self.module, self.base, self.ranks)
        self.save()
        kept = {name: round(share, 4) for name, share in kept.items()}
        self.note(event="narrowed", kept=kept, loss=self.watched_loss())
        return kept


def _descend(loss: Tensor, module: torch.nn.Module, optimizer: torch.optim.Optimizer) -> Tensor:
    """Take the step that a loss asks for; return the gradient's norm."""
    loss.backward()  # type: ignore[no-untyped-call]
    norm: Tensor = torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return norm


def main() -> None:
    """Parse the command line, train, evaluate."""
    args = parser(__doc__).parse_args()
    plan = plan_of(args)
    device = "cuda" if torch.cuda.is_available() and not args.smoke else "cpu"
    base = load_base(args.base)
    if args.smoke:
        base = base.lowest(2)
        plan = replace(plan, minutes=30.0, n_tokens=1536, max_steps=6, n_warmup=2)
        plan = replace(plan, compiled=False, eval_limit=6, invent_after=0.0, invent_limit=4)
    torch.set_float32_matmul_precision("high")
    args.out.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(Dataset(args.data), base, plan, args.out, device, args.start)
    if args.invented:
        trainer.recall(recalled(trainer.data, args.invented, Tokenizer(args.base)))
    trainer.note(event="start", device=device, rows=len(trainer.sampler.train), plan=asdict(plan))
    trainer.train()
    evaluate(trainer)
    if plan.full:
        evaluate(trainer, "-low-rank", kept=trainer.narrow())
    trainer.note(event="done")


if __name__ == "__main__":
    main()
