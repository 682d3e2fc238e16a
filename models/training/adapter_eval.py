r"""Answer the development prompts through llama.cpp, as docqa does, and write figures and plots.

    python -m models.training.adapter_eval --data data.npz.xz --base BASE.gguf \\
        --adapter ADAPTER.gguf --kv q8_0 --out DIR --limit 400

The prompts are those that the training script asks on the GPU, so the two reports can be compared
line by line (`--against metrics' answers.jsonl.xz` prints the difference on the common prompts).
With `--choose` the trained reader has its say in each answer, as in docqa (`docqa.choose`); the
figures of what was shown then follow those of what was written.
"""

from __future__ import annotations

import argparse
import json
import lzma
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from docqa.choose import better_answer
from docqa.config import AnswerConfig
from docqa.protocols import Passage
from docqa.support import markers_in
from docqa.types import PackedPrompt
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
        self, prompt: list[int], end: int, banned: int
    ) -> tuple[list[int], npt.NDArray[np.float32]]:
        """Return the greedy answer that does not begin with `banned`, and the first scores."""
        first = self.read(prompt)
        scores = first.copy()
        scores[banned] = -np.inf
        said: list[int] = []
        while len(said) < N_NEW:
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
        found = []
        for text in texts:
            ids = self.model.tokenize(text.encode(), add_bos=False, special=False)
            total = 0.0
            for i, token in enumerate(ids):
                scores = self.read([*tokens, *ids[:i]])
                total += float(np.log(softmax(scores.astype(np.float64))[token]))
            found.append(total)
        return found


class Chooser:
    """Weighs the shipped reader's spans against what was answered (`docqa.choose`)."""

    def __init__(self, data: Dataset, reader: Reader, n_threads: int) -> None:
        self._data, self._reader = data, reader
        self._marks = PassageReader.open(packaged_folder(), n_threads=n_threads)

    def better(self, placed: dict[str, Any], prompt: list[int], said: str) -> str:
        """Return the answer that is shown."""
        if len(markers_in(said)) > 1:
            return said
        data, question = self._data, self._data.question(placed)
        texts = [inner(source) for source in data.sources(placed)]
        looks = self._marks.look(
            question, [Passage("", text) for text in texts], [[] for _ in texts]
        )
        numbers, markers = data.numbers(placed), placed["markers"]
        first = 1 + (numbers[0] - markers[0] if markers else 0)
        sources = tuple(
            replace(
                evidence(Source(text, ""), first + i),
                answers=tuple(look.answers),
                read_score=look.score,
            )
            for i, (text, look) in enumerate(zip(texts, looks, strict=True))
        )
        packed = PackedPrompt((), tuple(prompt), sources, ())
        return better_answer(said, question, packed, self._reader) or said


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
    data: Dataset, reader: Reader, sets: list[str], limit: int, chooser: Chooser | None = None
) -> Iterator[tuple[Outcome, Outcome]]:
    """Yield the outcome of each chosen prompt as it was written, and as it is shown."""
    refusal, end = int(data.frame["refusal"][0]), int(data.frame["end"][0])
    for _, p in chosen(data.meta["sets"], sets, limit):
        prompt = [int(i) for i in data.arranged(p)[0]]
        if len(prompt) + N_NEW > N_CONTEXT:
            continue
        said, scores = reader.answer(prompt, end, refusal)
        chance, refuses = float(softmax(scores)[refusal]), int(scores.argmax()) == refusal
        text = data.text(said)
        written = outcome(p, data.numbers(p), data.sources(p), text, chance, refuses)
        shown = written
        if chooser is not None and p["references"]:
            shown = replace(written, text=chooser.better(p, prompt, text))
        yield written, shown


def main() -> None:
    """Parse the command line, answer, report."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--adapter", type=Path)
    parser.add_argument("--kv", choices=sorted(KV_TYPES), default="q8_0")
    parser.add_argument("--threads", type=int, default=2)
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
    data = Dataset(args.data)
    started, found, shown = time.monotonic(), [], []
    reader = Reader(args.base, args.adapter, args.kv, args.threads)
    chooser = Chooser(data, reader, args.threads) if args.choose else None
    for one, better in outcomes(data, reader, args.sets, args.limit, chooser):
        found.append(one)
        shown.append(better)
        if len(found) % 25 == 0:
            print(f"{len(found)} prompts, {time.monotonic() - started:.0f} s", flush=True)
    about = {"kv": args.kv, "adapter": str(args.adapter and args.adapter.name)}
    draw(args.out, args.kv, adapter_metrics.write(args.out, f"-{args.kv}", found, about))
    if args.choose:
        print("with the reader's say:")
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
