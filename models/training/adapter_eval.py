r"""Answer the development prompts through llama.cpp, as docqa does, and write figures and plots.

    python -m models.training.adapter_eval --data data.npz.xz --base BASE.gguf \\
        --adapter ADAPTER.gguf --kv q8_0 --out DIR --limit 400

The prompts are those that the training script asks on the GPU, so the two reports can be compared
line by line (`--against metrics' answers.jsonl.xz` prints the difference on the common prompts).
With `--choose` the trained reader has its say in each answer, as in docqa (`docqa.choose`); the
figures of what was shown then follow those of what was written, and those of refusals by both
models (`docqa.refusal`) beside those of either alone. `--processes` share the prompts: on a GPU one
leaves most of it idle.
"""

from __future__ import annotations

import argparse
import json
import lzma
import math
import multiprocessing
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from docqa.choose import best_answer
from docqa.config import AnswerConfig
from docqa.prompts import NOT_FOUND
from docqa.protocols import Passage
from docqa.support import markers_in
from docqa.types import Evidence, PackedPrompt
from models.embedder import packaged_folder
from models.reader import PassageReader
from models.training import adapter_metrics
from models.training.adapter_batches import Dataset
from models.training.adapter_metrics import Outcome, inner, outcome
from models.training.adapter_plot import plots
from models.training.adapter_records import Passage as Source
from models.training.adapter_records import evidence

KV_TYPES = {"f16": 1, "q8_0": 8, "q4_0": 2}  # ggml's numbers
N_CONTEXT = 4608
N_NEW = AnswerConfig().max_tokens


class Reader:
    """llama.cpp with base and adapter; the prefix that two prompts share is not read again."""

    def __init__(self, base: Path, adapter: Path | None, kv: str, n_threads: int) -> None:
        import llama_cpp

        self.lib = llama_cpp
        self.model = llama_cpp.Llama(
            str(base), n_ctx=N_CONTEXT, n_batch=512, n_threads=n_threads, n_threads_batch=n_threads,
            lora_path=str(adapter) if adapter else None, type_k=KV_TYPES[kv], type_v=KV_TYPES[kv],
            flash_attn=True, n_gpu_layers=-1, verbose=False,
        )  # fmt: skip
        self.held: list[int] = []

    def scores(self) -> npt.NDArray[np.float32]:
        """Return the scores of the next token."""
        pointer = self.lib.llama_get_logits_ith(self.model._ctx.ctx, -1)
        return np.ctypeslib.as_array(pointer, (self.model.n_vocab(),)).copy()

    def read(self, ids: list[int]) -> npt.NDArray[np.float32]:
        """Bring the cache to `ids` and return the scores of the token after them."""
        same = 0
        while same < min(len(ids) - 1, len(self.held)) and ids[same] == self.held[same]:
            same += 1
        self.lib.llama_memory_seq_rm(self.lib.llama_get_memory(self.model._ctx.ctx), 0, same, -1)
        self.model.n_tokens = same
        self.model.eval(ids[same:])
        self.held = list(ids)
        return self.scores()

    def answer(
        self, prompt: list[int], end: int, banned: int, n_new: int = N_NEW
    ) -> tuple[list[int], npt.NDArray[np.float32]]:
        """Return the greedy answer that does not begin with `banned`, and the first scores."""
        first = self.read(prompt)
        scores = first.copy()
        scores[banned] = -np.inf
        said: list[int] = []
        while len(said) < n_new:
            token = int(scores.argmax())
            if token == end:
                break
            said.append(token)
            self.model.eval([token])
            self.held.append(token)
            scores = self.scores()
        return said, first

    def log_probs(self, tokens: Sequence[int], texts: Sequence[str]) -> list[float]:
        """Return log P of each text after `tokens`, as `docqa.protocols.Engine` does."""
        first = _log_shares(self.read(list(tokens)))
        found = []
        for text in texts:
            ids = self.model.tokenize(text.encode(), add_bos=False, special=False)
            after = self._after(len(tokens), ids[:-1])
            total = sum(float(row[i]) for row, i in zip(after, ids[1:], strict=True))
            found.append(float(first[ids[0]]) + total if ids else 0.0)
        return found

    def _after(self, n_held: int, ids: Sequence[int]) -> list[npt.NDArray[np.float64]]:
        """Return log P of what follows each of `ids`, read behind `n_held` tokens and dropped."""
        if not ids:
            return []
        context, batch = self.model._ctx, self.model._batch
        batch.set_batch(batch=ids, n_past=n_held, logits_all=True)
        context.decode(batch)
        shape = (len(ids), self.model.n_vocab())
        scores = np.ctypeslib.as_array(self.lib.llama_get_logits(context.ctx), shape)
        rows = [_log_shares(row) for row in scores]
        self.lib.llama_memory_seq_rm(self.lib.llama_get_memory(context.ctx), 0, n_held, -1)
        return rows


class Chooser:
    """Weighs the shipped reader's spans against what was answered (`docqa.choose`)."""

    def __init__(self, data: Dataset, reader: Reader, n_threads: int) -> None:
        self._data, self._reader = data, reader
        self._marks = PassageReader.open(packaged_folder(), n_threads=n_threads)

    def sources(self, placed: dict[str, Any]) -> tuple[Evidence, ...]:
        """Return a prompt's sources as the reader sees them: where each answers, and how surely."""
        data = self._data
        texts = [inner(source) for source in data.sources(placed)]
        passages = [Passage("", text) for text in texts]
        looks = self._marks.look(data.question(placed), passages, [[] for _ in texts])
        numbers, markers = data.numbers(placed), placed["markers"]
        first = 1 + (numbers[0] - markers[0] if markers else 0)
        return tuple(
            replace(
                evidence(Source(text, ""), first + i),
                answers=tuple(look.answers),
                read_score=look.score,
            )
            for i, (text, look) in enumerate(zip(texts, looks, strict=True))
        )

    def better(
        self, question: str, prompt: list[int], sources: tuple[Evidence, ...], said: str
    ) -> str:
        """Return the answer that is shown."""
        if len(markers_in(said)) > 1:
            return said
        packed = PackedPrompt((), tuple(prompt), sources, ())
        choice = best_answer(said, question, packed, self._reader)
        return said if choice is None else choice.text


def _log_shares(scores: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    grown = scores.astype(np.float64) - float(scores.max())
    return grown - np.log(np.exp(grown).sum())  # type: ignore[no-any-return]


def softmax(scores: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the probabilities of scores."""
    grown = np.exp(scores - scores.max())
    return grown / grown.sum()  # type: ignore[no-any-return]


def chosen(
    placed: list[dict[str, Any]], sets: list[str], limit: int
) -> list[tuple[int, dict[str, Any]]]:
    """Return (number, prompt) of evenly spaced prompts of the wanted sets; limit 0: all."""
    wanted = [(i, p) for i, p in enumerate(placed) if not sets or p["name"] in sets]
    return wanted[:: max(1, len(wanted) // limit)] if limit else wanted


def outcomes(
    data: Dataset,
    reader: Reader,
    prompts: Sequence[tuple[int, dict[str, Any]]],
    chooser: Chooser | None = None,
) -> Iterator[tuple[int, Outcome, Outcome]]:
    """Yield each prompt's number, and its outcome as it was written and as it is shown.

    What is shown is refused as in `docqa.refusal`, by the chance of the whole refusal.
    What is not scored is not written: answers where there is none, unless they may obey a source.
    """
    refusal, end = int(data.frame["refusal"][0]), int(data.frame["end"][0])
    for i, p in prompts:
        prompt = [int(token) for token in data.arranged(p)[0]]
        if len(prompt) + N_NEW > N_CONTEXT:
            continue
        is_scored = bool(p["references"] or p["forbidden"])
        said, scores = reader.answer(prompt, end, refusal, N_NEW if is_scored else 0)
        chance, refuses = float(softmax(scores)[refusal]), int(scores.argmax()) == refusal
        text = data.text(said)
        written = outcome(p, data.numbers(p), data.sources(p), text, chance, refuses)
        shown = written
        if chooser is not None:
            sources = chooser.sources(p)
            (log_p,) = reader.log_probs(prompt, [NOT_FOUND])  # not of "Notwithstanding"
            read = max(s.read_score or 0.0 for s in sources)
            shown = replace(written, p_refusal=math.exp(log_p), read=read)
            if p["references"]:
                better = chooser.better(data.question(p), prompt, sources, text)
                shown = replace(shown, text=better)
        yield i, written, shown


@dataclass(frozen=True, slots=True)
class Job:
    """What each process is told; it takes every `n_processes`-th prompt."""

    data: Path
    base: Path
    adapter: Path | None
    kv: str
    n_threads: int
    sets: list[str]
    limit: int
    choose: bool
    n_processes: int

    def run(self, part: int) -> list[tuple[int, Outcome, Outcome]]:
        """Answer this part of the prompts."""
        data = Dataset(self.data)
        reader = Reader(self.base, self.adapter, self.kv, self.n_threads)
        chooser = Chooser(data, reader, self.n_threads) if self.choose else None
        prompts = chosen(data.meta["sets"], self.sets, self.limit)[part :: self.n_processes]
        started, found = time.monotonic(), []
        for one in outcomes(data, reader, prompts, chooser):
            found.append(one)
            if len(found) % 100 == 0:
                spent = time.monotonic() - started
                print(f"{part}: {len(found)} of {len(prompts)}, {spent:.0f} s", flush=True)
        return found

    def run_all(self) -> list[tuple[int, Outcome, Outcome]]:
        """Answer all prompts, in their order."""
        if self.n_processes == 1:
            return self.run(0)
        spawn = multiprocessing.get_context("spawn")  # CUDA does not outlive a fork
        with ProcessPoolExecutor(self.n_processes, spawn) as pool:
            parts = pool.map(self.run, range(self.n_processes))
            return sorted((one for part in parts for one in part), key=lambda one: one[0])


def main() -> None:
    """Parse the command line, answer, report."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--adapter", type=Path)
    parser.add_argument("--kv", choices=sorted(KV_TYPES), default="q8_0")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--sets", nargs="*", default=[])
    parser.add_argument("--limit", type=int, default=0)
    parser.add_argument("--choose", action="store_true", help="with the reader's say")
    parser.add_argument("--against", type=Path, help="answers.jsonl.xz of the GPU run")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    for file in (args.data, args.base, args.adapter):
        if file is not None and not file.is_file():
            parser.error(f"{file}: no such file")  # llama.cpp would crash
    args.out.mkdir(parents=True, exist_ok=True)
    job = Job(
        args.data, args.base, args.adapter, args.kv, args.threads, args.sets, args.limit,
        args.choose, args.processes,
    )  # fmt: skip
    answered = job.run_all()
    found = [written for _, written, _ in answered]
    about = {"kv": args.kv, "adapter": str(args.adapter and args.adapter.name)}
    draw(args.out, args.kv, adapter_metrics.write(args.out, f"-{args.kv}", found, about))
    if args.choose:
        print("with the reader's say:")
        shown = [better for _, _, better in answered]
        name = f"{args.kv}-chosen"
        draw(args.out, name, adapter_metrics.write(args.out, f"-{name}", shown, about))
    if args.against:
        compare(found, args.against)


def draw(out: Path, name: str, report: dict[str, Any]) -> None:
    """Write the plots of a report."""
    for kind, drawing in plots(report).items():
        (out / f"{kind}-{name}.svg").write_text(drawing, encoding="utf-8")


def compare(found: list[Outcome], file: Path) -> None:
    """Print the other run's figures on the prompts of `found`."""
    held: dict[tuple[Any, ...], list[Outcome]] = {}
    for line in lzma.decompress(file.read_bytes()).decode("utf-8").splitlines():
        other = Outcome(**json.loads(line))
        held.setdefault(_key(other), []).append(other)
    common = [held[_key(o)].pop() for o in found if held.get(_key(o))]
    print(f"the other run on {len(common)} of these prompts:")
    print(adapter_metrics.table(adapter_metrics.summary(common)))


def _key(o: Outcome) -> tuple[Any, ...]:
    return (o.set, tuple(o.references), tuple(o.markers), o.position, o.forbidden)


if __name__ == "__main__":
    main()
