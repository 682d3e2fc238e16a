"""What quantised KV and evicted tokens cost, on a model and a text of one's own.

    python -m docqa.bench.torch_quality TEXT [--model GGUF] [--length 4096] [--n 20] [--out F.jsonl]

Two tables. Perplexity by position for each KV type beside f16, the text read 64 tokens at a time so
that nearly everything is read from pages. Then each eviction at 2, 4 and 8 times, the question
hidden from it (it comes after the compression) and shown (it is compressed with the text), on tasks
that the model solves with f16 (at least 0.8): a needle, one of four needles, a sentence of the text
completed, and the perplexity of what follows. Needles alone would hide damage.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from docqa.bench.torch_model import load_model

FORMS = {
    "f16": (16, 16, False),
    "int8": (8, 8, False),
    "int4": (4, 4, False),
    "int8/int4": (8, 4, False),
    "int4 rotated": (4, 4, True),
}
TASKS = ("needle", "one of four", "completion", "what follows")
SOLVED = 0.8
REPEAT = "\nRepeat the text:\n"
NAMES = ("Anton", "Berta", "Cesar", "Dora", "Emil", "Frieda", "Gustav", "Helga")


@dataclass(frozen=True, slots=True)
class Task:
    """A text, a question behind it, and how a greedy continuation must begin."""

    kind: str
    text: str
    question: str
    answer: str


def main() -> None:
    """Run the measurement."""
    parser = argparse.ArgumentParser(prog="docqa.bench.torch_quality", description=__doc__)
    parser.add_argument("text", type=Path)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--length", type=int, default=4_096, help="tokens")
    parser.add_argument("--n", type=int, default=20, help="texts of each task")
    parser.add_argument("--only", choices=("perplexity", "eviction"))
    parser.add_argument("--tasks", nargs="*", choices=TASKS, default=list(TASKS))
    parser.add_argument("--keeps", nargs="*", type=float, default=[0.5, 0.25, 0.125])
    parser.add_argument("--methods", nargs="*", help="of eviction; none named: all")
    parser.add_argument("--forms", nargs="*", choices=FORMS, default=list(FORMS), help="of KV")
    parser.add_argument("--chunk", type=int, default=64, help="tokens read at a time, perplexity")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    quality = Quality(arguments)
    if arguments.only != "eviction":
        quality.perplexity()
    if arguments.only != "perplexity":
        quality.eviction()


class Quality:
    """A loaded model and the two tables."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        import torch

        from models.catalog import resolve
        from models.llama_context import LogTail
        from models.llama_vocabulary import LlamaVocabulary
        from models.settings import LoadSettings

        self.arguments = arguments
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        if self.device.type == "cpu":
            torch.set_num_threads(arguments.threads)
        self.model = load_model(resolve(arguments.model), self.device)
        self.shape = self.model.shape
        settings = LoadSettings(path=str(self.model.file.path), context_length=arguments.length)
        self.vocabulary = LlamaVocabulary(settings, LogTail())
        self.text = arguments.text.read_text(encoding="utf-8", errors="replace")

    def note(self, **figures: Any) -> None:
        """Print a row and keep it."""
        print(
            "  ".join(
                f"{k} {v:.4g}" if isinstance(v, float) else f"{v}" for k, v in figures.items()
            ),
            flush=True,
        )
        if self.arguments.out:
            with self.arguments.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(figures) + "\n")

    def ids(self, text: str) -> list[int]:
        """Return the tokens of a text."""
        return self.vocabulary.tokenize(text.encode(), False)

    def reader(self, form: tuple[int, int, bool]) -> tuple[Any, Any]:
        """Return a decoder and an empty cache of a KV format."""
        from kernels.kv_pages import hadamard
        from models.kv_cache import KvCache, KvFormat, PagePool

        kv = KvFormat(*form)
        rotation = hadamard(self.shape.head_dim, self.device) if kv.rotation else None
        length = self.arguments.length + 1024
        decoder = self.model.decoder(length, rotation=rotation)
        n_pages = (length // 64 + 2) * 2 * self.shape.n_layers * self.shape.n_kv_heads
        return decoder, KvCache(PagePool(n_pages, self.shape.head_dim, kv, self.device), self.shape)

    # -- perplexity -------------------------------------------------------------------------------

    def perplexity(self) -> None:
        """Print perplexity by quarter of the text, each KV type beside f16."""
        ids = self.ids(self.text)[: self.arguments.length]
        base: list[float] = []
        for name in self.arguments.forms:
            form = FORMS[name]
            losses = self._losses(form, ids)
            size = len(losses) // 4
            quarters = [sum(losses[i * size : (i + 1) * size]) / size for i in range(4)]
            mean = sum(losses) / len(losses)
            base = base or [mean]
            self.note(
                what="perplexity",
                kv=name,
                tokens=len(ids),
                by_quarter=" ".join(f"{math.exp(q):.3f}" for q in quarters),
                all=math.exp(mean),
                more_percent=100 * (math.exp(mean - base[0]) - 1),
            )

    def _losses(self, form: tuple[int, int, bool], ids: Sequence[int]) -> list[float]:
        """Return the negative log-likelihood of each token but the first."""
        import torch

        n_chunk = self.arguments.chunk
        decoder, cache = self.reader(form)
        found: list[float] = []
        for at in range(0, len(ids) - 1, n_chunk):
            chunk = decoder.compute(torch.tensor(ids[at : at + n_chunk]), cache)
            cache.append(chunk.k, chunk.v)
            targets = torch.tensor(ids[at + 1 : at + 1 + n_chunk], device=self.device)
            scores = decoder.logits(chunk.hidden[: len(targets)]).log_softmax(-1)
            found += (-scores.gather(1, targets[:, None])[:, 0]).tolist()
        return found

    # -- eviction ---------------------------------------------------------------------------------

    def eviction(self) -> None:
        """Print, for each task that f16 solves, what each method leaves of it."""
        from models.compression.evict import METHODS

        methods = self.arguments.methods or METHODS
        for kind in self.arguments.tasks:
            if kind == "what follows":
                continue
            tasks = [self._task(kind, seed) for seed in range(self.arguments.n)]
            whole = self._score(tasks, "streaming", 1.0, shown=False)
            self.note(what=kind, method="f16, all", score=whole)
            if whole < SOLVED:
                self.note(what=kind, method="not solved with f16: left out")
                continue
            for method in methods:
                for keep in self.arguments.keeps:
                    hidden, shown = (
                        self._score(tasks, method, keep, shown=s) for s in (False, True)
                    )
                    self.note(what=kind, method=method, times=1 / keep, hidden=hidden, shown=shown)
        for method in methods if "what follows" in self.arguments.tasks else ():
            keeps = self.arguments.keeps
            losses = [self._continuation(method, keep) for keep in (1.0, *keeps)]
            for keep, loss in zip(keeps, losses[1:], strict=True):
                more = 100 * (math.exp(loss - losses[0]) - 1)
                self.note(what="what follows", method=method, times=1 / keep, more_percent=more)

    def _task(self, kind: str, seed: int) -> Task:
        rng = random.Random(seed)
        sentences = re.split(r"(?<=[.!?])\s+", self.text)
        start = rng.randrange(max(1, len(sentences) // 2))
        part: list[str] = []
        n_tokens = 0
        for sentence in sentences[start:]:
            n_tokens += len(self.ids(sentence)) + 1
            if n_tokens > self.arguments.length - 256:
                break
            part.append(sentence)
        if kind == "completion":
            long = [s for s in part[2:-2] if 12 <= len(s.split()) <= 40]
            words = rng.choice(long or part).split()
            return Task(
                kind,
                " ".join(part),
                "\n\nA sentence of the text again: " + " ".join(words[:8]),
                " " + " ".join(words[8:12]),
            )
        names = rng.sample(NAMES, 4 if kind == "one of four" else 1)
        numbers = {name: rng.randrange(10_000, 99_999) for name in names}
        for name, number in numbers.items():
            at = rng.randrange(len(part) + 1)
            part.insert(at, f"The secret number of {name} is {number}.")
        return Task(
            kind,
            " ".join(part),
            f"\n\nThe secret number of {names[0]} is",
            f" {numbers[names[0]]}",
        )

    def _score(self, tasks: Sequence[Task], method: str, keep: float, *, shown: bool) -> float:
        return sum(self._solves(task, method, keep, shown) for task in tasks) / len(tasks)

    def _solves(self, task: Task, method: str, keep: float, shown: bool) -> bool:
        """Compress the text (with the question, if shown), then continue greedily."""
        import torch

        decoder, cache = self.reader(FORMS["f16"])
        text, question = self.ids(task.text), self.ids(task.question)
        hidden = self._read(decoder, cache, text + question if shown else text, method, keep)
        if not shown:
            chunk = decoder.compute(torch.tensor(question), cache)
            cache.append(chunk.k, chunk.v)
            hidden = chunk.hidden[-1:]
        found: list[int] = []
        for _ in range(len(self.ids(task.answer)) + 2):
            found.append(int(decoder.logits(hidden)[0].argmax()))
            chunk = decoder.compute(torch.tensor(found[-1:]), cache)
            cache.append(chunk.k, chunk.v)
            hidden = chunk.hidden
        said = b"".join(self.vocabulary.piece(token) for token in found).decode("utf-8", "replace")
        return said.strip().startswith(task.answer.strip())

    def _read(self, decoder: Any, cache: Any, ids: list[int], method: str, keep: float) -> Any:
        from models.compression.evict import read_and_compress

        repeat = self.ids(REPEAT)
        return read_and_compress(decoder, cache, ids, method, keep, repeat_prompt=repeat)

    def _continuation(self, method: str, keep: float, n: int = 256) -> float:
        """Return the mean loss of the `n` tokens that follow a compressed text."""
        import torch

        ids = self.ids(self.text)[: self.arguments.length]
        decoder, cache = self.reader(FORMS["f16"])
        self._read(decoder, cache, ids[:-n], method, keep)
        chunk = decoder.compute(torch.tensor(ids[-n:]), cache)
        scores = decoder.logits(chunk.hidden[:-1]).log_softmax(-1)
        targets = torch.tensor(ids[-n + 1 :], device=self.device)
        return float(-scores.gather(1, targets[:, None]).mean())


if __name__ == "__main__":
    main()
