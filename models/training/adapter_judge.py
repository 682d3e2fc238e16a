r"""Answers to invented questions that the adapter and the reader find likely together.

    python -m models.training.adapter_judge --data data.npz.xz --base BASE.gguf \\
        --adapter ADAPTER.gguf --reader reader.safetensors --reader-base base.safetensors \\
        --tokenizer tokenizer.json --invented invented.jsonl.xz --out judged.jsonl.xz

The two models err in different places, and `docqa.choose` is right more often than either
(`models/weights/smollm2-135m-instruct-cite.md`). What both find likely is therefore a better
teacher of each than its own agreement with itself: of each question, the answer that it was
written for and the reader's likeliest spans are weighed by the formula of `docqa.choose`, and the
question is kept where they do not doubt that the passage answers (`docqa.refusal`) and one answer
has most of the probability (co-training: Blum & Mitchell 1998; a student of several models: Hinton
et al. 2015, arXiv:1503.02531). `adapter_train --invented` and `reader_train --invented` both train
on the result. `reader.json`, beside the reader, calibrates it.

    invented -> spans (reader) -> chances (adapter) -> Judgement -> judged.jsonl.xz
"""

from __future__ import annotations

import argparse
import json
import lzma
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from docqa import refusal
from docqa.choose import LENGTH, READER
from docqa.wording import content_words
from models.reader_pairs import layout, padded, room, windows
from models.training.adapter_batches import Dataset, Ids
from models.training.adapter_data import Tokenizer
from models.training.adapter_export import exported
from models.training.adapter_invent import MAX_ANSWER, Invented, affixes, reading, recalled
from models.training.adapter_llama import Adapter, Llama, Merged, by_projection, load_base
from models.training.reader_invented import parted
from models.training.reader_model import cast, encode, heads
from models.training.reader_model import load_base as load_reader_base

if TYPE_CHECKING:
    from tokenizers import Encoding

T = TypeVar("T")
N_SPANS = 8  # of the reader, as docqa names
MOST = 6  # answers of which the adapter is asked
MAX_SPAN_TOKENS = 40
WRITTEN_FOR = 1.0  # added to the answer that the question was written for, in logs
MIN_SHARE = 0.6  # of the probability of all candidates
N_READ_TOKENS, N_ASK_TOKENS = 65_536, 32_768  # of a batch


@dataclass(slots=True)
class Candidate:
    """An answer: characters of the passage's text, and log P of both models."""

    start: int
    end: int
    read: float
    is_written_for: bool = False
    log_p: float = 0.0

    def score(self, text: str) -> float:
        """Return the sum that `docqa.choose` takes."""
        words = text[self.start : self.end].split()
        n_words = max(1, sum(any(c.isalnum() for c in word) for word in words))
        likely = self.log_p / math.pow(n_words, LENGTH) + READER * self.read
        return likely + WRITTEN_FOR * self.is_written_for


@dataclass(slots=True)
class Case:
    """A question, its passage in words, and the candidates."""

    made: Invented
    question: str
    context: str
    text: str
    given: str  # the answer that the question was written for
    passage: str
    candidates: list[Candidate] = field(default_factory=list)
    p_answers: float = 0.0  # by the reader
    p_refuses: float = 1.0  # by the adapter


def cases(data: Dataset, made: Sequence[Invented]) -> list[Case]:
    """Return the questions in words; two alike are one."""
    found: dict[tuple[int, str], Case] = {}
    for one in made:
        passage = data.text(data.piece(one.source.passage))
        context, text = parted(passage)
        question = data.text(one.question).strip()
        given = data.text(one.answer).strip()
        if given in text:
            case = Case(one, question, context, text, given, passage)
            found.setdefault((one.source.passage, question), case)
    return list(found.values())


# -- the reader -----------------------------------------------------------------------------------


class SpanReader:
    """The reader in torch, for many questions at once."""

    def __init__(self, base: Path, weights: Path, tokenizer: Path, device: str) -> None:
        from safetensors.torch import load_file
        from tokenizers import Tokenizer as WordPieces

        held = load_reader_base(base, device)
        held |= {n: v.float().to(device) for n, v in load_file(str(weights)).items()}
        about = json.loads(weights.with_suffix(".json").read_text(encoding="utf-8"))
        self.scale, self.offset = float(about["scale"]), float(about["offset"])
        self.device = device
        self.weights = cast(held, torch.float32 if device == "cpu" else torch.float16)
        self.tokenizer = WordPieces.from_file(str(tokenizer))
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()

    def _encoded(self, texts: Sequence[str]) -> dict[str, Encoding]:
        found: dict[str, Encoding] = {}
        each = list(dict.fromkeys(texts))
        for start in range(0, len(each), 4096):
            some = each[start : start + 4096]
            found |= zip(
                some, self.tokenizer.encode_batch(some, add_special_tokens=False), strict=True
            )
        return found

    def mark(self, asked: Sequence[Case]) -> None:
        """Give each case its likeliest spans and the answer that it was written for."""
        texts = self._encoded([case.text for case in asked])
        short = self._encoded([t for case in asked for t in (case.question, case.context)])
        rows = []
        for number, case in enumerate(asked):
            question, context = short[case.question].ids, short[case.context].ids
            ids = texts[case.text].ids
            for start, end in windows(len(ids), room(len(question), len(context))):
                rows.append((number, start, *layout(question, context, ids[start:end])))
        rows.sort(key=lambda row: len(row[2]))
        spans: list[list[Candidate]] = [[] for _ in asked]
        for group in _filling(rows, lambda row: len(row[2]), N_READ_TOKENS):
            for (number, offset, *_), chance, found in zip(group, *self._spans(group), strict=True):
                asked[number].p_answers = max(asked[number].p_answers, chance)
                offsets = texts[asked[number].text].offsets
                spans[number] += [
                    Candidate(offsets[offset + first][0], offsets[offset + last][1], score)
                    for first, last, score in found
                ]
        for case, found in zip(asked, spans, strict=True):
            case.candidates = _distinct(case, found)

    @torch.inference_mode()  # type: ignore[untyped-decorator]
    def _spans(self, rows: Sequence[Any]) -> tuple[list[float], list[list[tuple[int, int, float]]]]:
        """Return P(it answers) of each row, and its best spans.

        A span is (first, last token of the window, log P).
        """
        ids, types, lengths = padded([r[2] for r in rows], [r[3] for r in rows])
        given = [torch.from_numpy(x).to(self.device) for x in (ids, types, lengths)]
        relevance, logits = heads(self.weights, encode(self.weights, *given))
        places = torch.arange(logits.shape[1], device=self.device)
        begin = torch.tensor([r[4] for r in rows], device=self.device)
        inside = (places >= begin[:, None]) & (places < given[2][:, None] - 1)
        logits = logits.masked_fill(~inside[..., None], -torch.inf).log_softmax(1)
        ends = F.pad(logits[..., 1], (0, MAX_SPAN_TOKENS - 1), value=-torch.inf)
        total = logits[..., :1] + ends.unfold(1, MAX_SPAN_TOKENS, 1)
        best = total.flatten(1).topk(N_SPANS)
        found = []
        for at, scores, first in zip(
            best.indices.tolist(), best.values.tolist(), begin.tolist(), strict=True
        ):
            spans = [(i // MAX_SPAN_TOKENS - first, i % MAX_SPAN_TOKENS) for i in at]
            marks = [(a, a + more, score) for (a, more), score in zip(spans, scores, strict=True)]
            found.append([mark for mark in marks if np.isfinite(mark[2])])
        return (self.scale * relevance + self.offset).sigmoid().tolist(), found


def _distinct(case: Case, spans: list[Candidate]) -> list[Candidate]:
    """Return the answer that the question was written for, then spans of other words."""
    at = case.text.find(case.given)
    own = Candidate(at, at + len(case.given), -np.inf, is_written_for=True)
    own_words, found, seen = _words(case, own), [own], set()
    for span in sorted(spans, key=lambda span: -span.read):
        words = _words(case, span)
        if words == own_words:
            if span.read > own.read:
                own.start, own.end, own.read = span.start, span.end, span.read
        elif words and words not in seen and span.end - span.start <= MAX_ANSWER:
            seen.add(words)
            found.append(span)
    if not np.isfinite(own.read):  # as docqa.choose: less likely than the last that was named
        own.read = min((span.read for span in spans), default=-20.0) - 1.0
    return found[: 1 + MOST]


def _words(case: Case, span: Candidate) -> tuple[str, ...]:
    text = case.text[span.start : span.end]
    return tuple(content_words(text)) or (text.rstrip(".").casefold(),)


# -- the adapter ----------------------------------------------------------------------------------


class Branching:
    """Attention over packed sequences that branch: a prompt, then answers side by side.

    `branches` (N,) is 0 in the prompt and the answer's number in an answer, which sees the prompt
    and itself.
    """

    branches: Tensor

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, ends: Tensor, longest: int) -> Tensor:
        """Return (N, H, d), as `adapter_attention`'s ways do."""
        group = q.shape[1] // k.shape[1]
        lengths = (ends[1:] - ends[:-1]).long()
        n = len(lengths)
        owner = torch.repeat_interleave(
            torch.arange(n, device=q.device), lengths, output_size=len(q)
        )
        slot = owner * longest + torch.arange(len(q), device=q.device) - ends[:-1].long()[owner]

        def spread(x: Tensor) -> Tensor:
            wide = x.new_zeros((n * longest, *x.shape[1:])).index_copy(0, slot, x)
            return wide.view(n, longest, *x.shape[1:])

        branch = spread(self.branches)
        same = branch[:, :, None] == branch[:, None, :]
        mask = (same | (branch[:, None, :] == 0)).tril()[:, None]
        keys, values = (spread(z).transpose(1, 2).repeat_interleave(group, 1) for z in (k, v))
        y = F.scaled_dot_product_attention(spread(q).transpose(1, 2), keys, values, attn_mask=mask)
        return y.transpose(1, 2).reshape(n * longest, *q.shape[1:])[slot]


class Asker:
    """The adapter, asked how likely it writes each candidate with its marker."""

    def __init__(self, data: Dataset, llama: Llama, merged: Merged, tokenize: Tokenizer) -> None:
        assert isinstance(llama.attend, Branching)
        self.llama, self.merged, self.tokenize = llama, merged, tokenize
        self.branching = llama.attend
        self.data, (self.prefix, self.suffix, _) = data, affixes(data)
        self.refusal = int(data.frame["refusal"][0])

    def ask(self, asked: Sequence[Case], note: Callable[[str], None]) -> None:
        """Give each candidate its log P."""
        held = []
        for case in asked:
            said = [f"{case.text[c.start : c.end]} [1]" for c in case.candidates]
            tokens = [np.array(self.tokenize(text), np.uint16) for text in said]
            held.append((case, reading(self.data, case.made, self.prefix, self.suffix), tokens))
        held.sort(key=_size)
        for i, group in enumerate(_filling(held, _size, N_ASK_TOKENS)):
            self._ask(group)
            if i % 200 == 0:
                note(f"asked {i} batches")

    @torch.inference_mode()  # type: ignore[untyped-decorator]
    def _ask(self, group: Sequence[tuple[Case, Ids, list[Ids]]]) -> None:
        device = self.llama.base.embedding.device
        parts: list[list[npt.NDArray[Any]]] = [[] for _ in range(6)]
        tokens, places, branches, at, wanted, owner = parts
        ends, first, n_answers = [0], [], 0
        for _, prompt, answers in group:
            n = len(prompt)
            tokens.append(prompt)
            places.append(np.arange(n))
            branches.append(np.zeros(n, np.int64))
            start = ends[-1] + n
            first.append(sum(map(len, at)))
            for number, answer in enumerate(answers, 1):
                m = len(answer)
                tokens.append(answer)
                places.append(np.arange(n, n + m))
                branches.append(np.full(m, number))
                at.append(np.r_[ends[-1] + n - 1, np.arange(start, start + m - 1)])
                wanted.append(answer)
                owner.append(np.full(m, n_answers))
                n_answers += 1
                start += m
            ends.append(start)

        def send(arrays: Sequence[npt.NDArray[Any]]) -> Tensor:
            return torch.from_numpy(np.concatenate(arrays).astype(np.int64)).to(device)

        self.branching.branches = send(branches)
        edges = torch.tensor(ends, dtype=torch.int32, device=device)
        longest = max(b - a for a, b in pairwise(ends))
        hidden = self.llama.hidden(
            self.merged, send(tokens), send(places), edges, longest, fused=False
        )
        likely = self.llama.logits(hidden[send(at)]).log_softmax(-1)
        each = likely.gather(1, send(wanted)[:, None])[:, 0]
        sums = torch.zeros(n_answers, device=device).index_add_(0, send(owner), each).tolist()
        no = likely[torch.tensor(first, device=device), self.refusal].exp().tolist()
        for (case, _, _), chance in zip(group, no, strict=True):
            case.p_refuses = chance
        candidates = [c for case, _, _ in group for c in case.candidates]
        for candidate, log_p in zip(candidates, sums, strict=True):
            candidate.log_p = log_p


def _size(held: tuple[Case, Ids, list[Ids]]) -> int:
    return len(held[1]) + sum(len(answer) for answer in held[2])


# -- the judgement --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Judgement:
    """The likeliest answer of a case, and its share of the probability of all candidates."""

    case: Case
    best: Candidate
    share: float

    @classmethod
    def of(cls, case: Case) -> Judgement:
        """Weigh the candidates."""
        scores = np.array([c.score(case.text) for c in case.candidates])
        powers = np.exp(scores - scores.max())
        best = int(scores.argmax())
        return cls(case, case.candidates[best], float(powers[best] / powers.sum()))

    def holds(self, min_share: float) -> bool:
        """Whether both believe that the passage answers, and which answer it is."""
        doubt = refusal.doubt(self.case.p_refuses, self.case.p_answers)
        return doubt < refusal.LEAST and self.share >= min_share

    def told(self) -> str:
        """Return a line of JSON, as `adapter_invent.told`, with the answer's place in the text."""
        case, best = self.case, self.best
        answer = case.text[best.start : best.end]
        about = {"question": case.question, "answer": answer, "at": best.start}
        about |= {"share": round(self.share, 3), "passage": case.passage}
        return json.dumps(about, ensure_ascii=False)


def _filling(held: Sequence[T], size: Callable[[T], int], room: int) -> Iterator[list[T]]:
    """Yield runs of `held`, sorted by size, that fit into `room` when padded to the longest."""
    run: list[T] = []
    for one in held:
        if run and (len(run) + 1) * size(one) > room:
            yield run
            run = []
        run.append(one)
    if run:
        yield run


def main() -> None:
    """Parse the command line, judge, write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--adapter", type=Path, required=True, help="as exported")
    parser.add_argument("--reader", type=Path, required=True, help="reader.safetensors")
    parser.add_argument("--reader-base", type=Path, required=True, help="base.safetensors")
    parser.add_argument("--tokenizer", type=Path, required=True, help="of the reader")
    parser.add_argument("--invented", type=Path, required=True, nargs="+")
    parser.add_argument("--min-share", type=float, default=MIN_SHARE)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--smoke", action="store_true", help="in small, on a CPU")
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() and not args.smoke else "cpu"
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    torch.set_float32_matmul_precision("high")
    began = time.monotonic()

    def note(text: str) -> None:
        print(f"{time.monotonic() - began:6.1f} s  {text}", flush=True)

    data, base = Dataset(args.data), load_base(args.base)
    tokenize = Tokenizer(args.base)
    made = [one for file in args.invented for one in recalled(data, file, tokenize)]
    if args.smoke:
        base, made = base.lowest(2), made[:12]
    asked = cases(data, made)
    note(f"{len(made)} questions, {len(asked)} different ones")
    SpanReader(args.reader_base, args.reader, args.tokenizer, device).mark(asked)
    note("read")
    base = base.to(device)
    arrays = exported(args.adapter)
    ranks = by_projection(arrays["attn_q.a"].shape[1], arrays["attn_k.a"].shape[1])
    adapter = Adapter(base, ranks).to(device)
    adapter.begin_with(arrays)
    with torch.no_grad():
        merged = adapter.merge(base, dtype)
    Asker(data, Llama(base, Branching(), dtype), merged, tokenize).ask(asked, note)
    judged = [Judgement.of(case) for case in asked]
    kept = [one for one in judged if one.holds(args.min_share)]
    changed = sum(not one.best.is_written_for for one in kept)
    lines = "\n".join(one.told() for one in kept)
    args.out.write_bytes(lzma.compress(lines.encode("utf-8"), preset=1))
    note(f"kept {len(kept)} of {len(judged)}, {changed} with another answer than written for")


if __name__ == "__main__":
    main()
