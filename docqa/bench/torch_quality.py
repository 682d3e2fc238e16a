"""What quantised KV and evicted tokens cost, on a model and a text of one's own.

    python -m docqa.bench.torch_quality TEXT [--model GGUF] [--length 4096] [--n 20] [--out F.jsonl]

Three tables. Perplexity by position for each KV type beside f16, the text read 64 tokens at a time
so that nearly everything is read from pages. The tasks below with each KV type. Each eviction at
2, 4 and 8 times, the question hidden from it (it comes after the compression) and shown (it is
compressed with the text), on tasks that the model solves with f16 (at least 0.8): two needles, two
questions about the book's own sentences with four answers each (`docqa.bench.eviction_tasks`), and
the perplexity of what follows.
"""

from __future__ import annotations

import argparse
import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from docqa.bench.eviction_tasks import TASKS, Question, Task, make_task, sentences
from docqa.bench.torch_model import load_model

FORMS = {
    "f16": (16, 16, False),
    "int8": (8, 8, False),
    "int4": (4, 4, False),
    "int8/int4": (8, 4, False),
    "int4 rotated": (4, 4, True),
}
WHAT_FOLLOWS = "what follows"
EVERY_TASK = (*TASKS, WHAT_FOLLOWS)
SOLVED = 0.8
CHUNK = 512  # tokens read at a time
REPEAT = "\nRepeat the text:\n"


def main() -> None:
    """Run the measurement."""
    parts = {
        "perplexity": Quality.perplexity,
        "tasks": Quality.by_form,
        "eviction": Quality.eviction,
    }
    parser = argparse.ArgumentParser(prog="docqa.bench.torch_quality", description=__doc__)
    parser.add_argument("text", type=Path)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--length", type=int, default=4_096, help="tokens")
    parser.add_argument("--n", type=int, default=20, help="texts of each task")
    parser.add_argument("--only", choices=tuple(parts))
    parser.add_argument("--tasks", nargs="*", choices=EVERY_TASK, default=list(EVERY_TASK))
    parser.add_argument("--keeps", nargs="*", type=float, default=[0.5, 0.25, 0.125])
    parser.add_argument("--methods", nargs="*", help="of eviction; none named: all")
    parser.add_argument("--forms", nargs="*", choices=FORMS, default=list(FORMS), help="of KV")
    parser.add_argument("--chunk", type=int, default=64, help="tokens read at a time, perplexity")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    quality = Quality(arguments)
    for name, part in parts.items():
        if arguments.only in (None, name):
            part(quality)


class Quality:
    """A loaded model and the three tables."""

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

    # -- tasks ------------------------------------------------------------------------------------

    def by_form(self) -> None:
        """Print, for each task, the part of its questions that is answered with each KV type."""
        for kind, tasks, n in self._asked():
            for name in self.arguments.forms:
                right = sum(self._uncompressed(task, form=FORMS[name]) for task in tasks)
                self.note(what=kind, kv=name, questions=n, score=right / n)

    def _asked(self) -> Iterator[tuple[str, list[Task], int]]:
        """Yield each kind of task with questions, its tasks, and how many questions they have."""
        book, length = sentences(self.text), self.arguments.length
        for kind in self.arguments.tasks:
            if kind != WHAT_FOLLOWS:
                tasks = [
                    make_task(kind, book, length, seed, lambda text: len(self.ids(text)))
                    for seed in range(self.arguments.n)
                ]
                yield kind, tasks, sum(len(task.questions) for task in tasks)

    def _uncompressed(
        self, task: Task, *, reads: bool = True, form: tuple[int, int, bool] = FORMS["f16"]
    ) -> int:
        """Return how many questions are answered with the whole text, or with none of it."""
        decoder, cache = self.reader(form)
        if reads:
            self._append(decoder, cache, self.ids(task.text))
        return sum(self._solves(decoder, cache, question) for question in task.questions)

    # -- eviction ---------------------------------------------------------------------------------

    def eviction(self) -> None:
        """Print, for each task that f16 solves, what each method leaves of it."""
        from models.compression.evict import METHODS

        methods = self.arguments.methods or METHODS
        keeps = self.arguments.keeps
        for kind, tasks, n in self._asked():
            without, whole = (
                sum(self._uncompressed(task, reads=reads) for task in tasks) / n
                for reads in (False, True)
            )
            self.note(what=kind, method="without the text", questions=n, score=without)
            self.note(what=kind, method="f16, all", questions=n, score=whole)
            if whole < SOLVED:
                self.note(what=kind, method="not solved with f16: left out")
                continue
            for method in methods:
                right = Counter[tuple[float, str]]()
                for task in tasks:
                    right.update(self._compressed(task, method))
                for keep in keeps:
                    hidden, shown = right[keep, "hidden"] / n, right[keep, "shown"] / n
                    self.note(what=kind, method=method, times=1 / keep, hidden=hidden, shown=shown)
        for method in methods if WHAT_FOLLOWS in self.arguments.tasks else ():
            losses = [self._continuation(method, keep) for keep in (1.0, *keeps)]
            for keep, loss in zip(keeps, losses[1:], strict=True):
                more = 100 * (math.exp(loss - losses[0]) - 1)
                self.note(what=WHAT_FOLLOWS, method=method, times=1 / keep, more_percent=more)

    def _compressed(self, task: Task, method: str) -> Counter[tuple[float, str]]:
        """Return how many questions are answered, by the share kept and hidden or shown.

        The text is read once for all shares and questions, but by StreamingLLM, which drops while
        it reads.
        """
        from models.compression.evict import Observed, read_and_compress

        text = self.ids(task.text)
        right = Counter[tuple[float, str]]()
        keeps = self.arguments.keeps
        if method == "streaming":
            for keep in keeps:
                decoder, cache = self.reader(FORMS["f16"])
                read_and_compress(decoder, cache, text, method, keep)
                for question in task.questions:
                    right[keep, "hidden"] += self._solves(decoder, cache, question)
                    self._shown(right, decoder, cache, Observed(method), text, question, [keep])
            return right
        decoder, cache = self.reader(FORMS["f16"])
        observed = Observed(method)
        self._append(decoder, cache, text, observed)
        for keep, small in self._shrunk(decoder, cache, observed, text, keeps):
            for question in task.questions:
                right[keep, "hidden"] += self._solves(decoder, small, question)
        for question in task.questions:
            self._shown(right, decoder, cache, observed, text, question, keeps)
        return right

    def _shown(
        self,
        right: Counter[tuple[float, str]],
        decoder: Any,
        cache: Any,
        observed: Any,
        text: list[int],
        question: Question,
        keeps: Sequence[float],
    ) -> None:
        """Count a question that is compressed together with the text that the cache holds."""
        words = self.ids(question.words)[:-1]
        both = cache.fork(cache.n_tokens)
        looked = replace(observed, layers=dict(observed.layers))
        self._append(decoder, both, words, looked)
        for keep, small in self._shrunk(decoder, both, looked, text + words, keeps):
            right[keep, "shown"] += self._solves(decoder, small, question, is_read=True)
        both.clear()

    def _shrunk(
        self, decoder: Any, cache: Any, observed: Any, ids: list[int], keeps: Sequence[float]
    ) -> Iterator[tuple[float, Any]]:
        """Yield a cache of each share, compressed; each is gone when the next is asked for."""
        from models.compression.evict import choose, compress, drop, importance

        method = observed.method
        found = None
        if method != "streaming":
            found = importance(decoder, cache, ids, observed, self.ids(REPEAT))
        for keep in keeps:
            small = cache.fork(cache.n_tokens)
            if found is None:
                compress(decoder, small, ids, observed, keep)
            else:
                drop(decoder, small, choose(method, found, keep))
            yield keep, small
            small.clear()

    def _append(self, decoder: Any, cache: Any, ids: list[int], observed: Any = None) -> None:
        import torch

        observe = observed if observed is not None and observed.is_needed else None
        for at in range(0, len(ids), CHUNK):
            chunk = decoder.compute(torch.tensor(ids[at : at + CHUNK]), cache, observe=observe)
            cache.append(chunk.k, chunk.v)

    def _solves(
        self, decoder: Any, cache: Any, question: Question, *, is_read: bool = False
    ) -> bool:
        """Return whether a question is answered behind what a cache holds; that stays as it is.

        `is_read`: all of the question but its last token is in there. The last is read behind the
        compression, shown or hidden: what chooses the answer must not have seen the whole text.
        """
        words = self.ids(question.words)
        own = cache.fork(cache.n_tokens)
        if not is_read:
            self._append(decoder, own, words[:-1])
        if len(question.answers) == 1:
            said = self._said(decoder, own, words[-1], len(self.ids(question.answers[0])) + 2)
            solved = said.strip().startswith(question.answers[0].strip())
        else:
            scores = [self._likelihood(decoder, own, words[-1], a) for a in question.answers]
            solved = scores[0] > max(scores[1:])
        own.clear()
        return solved

    def _said(self, decoder: Any, cache: Any, token: int, n: int) -> str:
        """Return `n` tokens of greedy text behind a token."""
        import torch

        found = [token]
        for _ in range(n):
            chunk = decoder.compute(torch.tensor(found[-1:]), cache)
            cache.append(chunk.k, chunk.v)
            found.append(int(decoder.logits(chunk.hidden)[0].argmax()))
        said = b"".join(self.vocabulary.piece(token) for token in found[1:])
        return said.decode("utf-8", "replace")

    def _likelihood(self, decoder: Any, cache: Any, token: int, answer: str) -> float:
        """Return the mean log-likelihood of an answer's tokens behind a token."""
        import torch

        ids = self.ids(answer)
        chunk = decoder.compute(torch.tensor([token, *ids[:-1]]), cache)
        scores = decoder.logits(chunk.hidden).log_softmax(-1)
        targets = torch.tensor(ids, device=self.device)
        return float(scores.gather(1, targets[:, None]).mean())

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
