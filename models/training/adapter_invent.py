"""Questions that the model invents about passages, to train on beside the real ones.

There are few real questions, and more rounds over them only teach them by heart. So a second
adapter learns to write an answer and a question from a passage, writes them for many passages, and
those are kept whose question leads the reading adapter, as far as it is trained, back to the same
words (Alberti et al. 2019, arXiv:1906.05416). All of it works on token ids: the invented rows are
made of the same pieces as the real ones.

    passages -> written() -> parsed() -> agreed() -> Dataset.add -> Sampler
"""

from __future__ import annotations

import json
import lzma
import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from models.training.adapter_batches import MARK, Batch, Dataset, Ids, Sample, batches, pack
from models.training.adapter_llama import Adapter, Llama, Merged

KIND = "invented"
REAL = ("squad", "qed", "nq", "hotpotqa")
OTHERS = ("contract", "contract-twin", "meeting", "policyqa", "medical", "prose")
N_WRITTEN = 44  # tokens of an answer and a question
N_ROWS = 1024  # written at a time
TEMPERATURE = 0.8
MAX_ANSWER = 90  # characters
MIN_PASSAGE = 40  # tokens
MIN_CHANCE = 0.5  # of each answer token, in the mean, when the question is read again
WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Source:
    """A passage to ask about, and passages that look like it, the most similar first."""

    passage: int
    similar: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Invented:
    """A question with its answer, as token ids, about a source."""

    source: Source
    answer: Ids
    question: Ids


class Inventor:
    """Learns to write questions, writes them, and keeps those that are answered alike."""

    def __init__(
        self, data: Dataset, llama: Llama, adapter: Adapter, n_tokens: int, seed: int
    ) -> None:
        self.data, self.llama, self.adapter, self.n_tokens = data, llama, adapter, n_tokens
        self.rng = random.Random(seed)
        self.prefix, self.suffix, _ = affixes(data)
        ids = range(len(data.arrays["word_ends"]) - 1)
        self.newline = np.array([next(i for i in ids if data.text([i]) == "\n")], np.uint16)

    # -- learning ---------------------------------------------------------------------------------

    def lessons(self) -> Iterator[Batch]:
        """Yield batches of (passage → answer, newline, question), without end."""
        data = self.data
        rows = [i for i in range(len(data.rows)) if data.rows[i, 6] == 0 and data.kind(i) in REAL]

        def samples() -> Iterator[Sample]:
            while True:
                for row in self.rng.sample(rows, len(rows)):
                    tail = data.piece(data.rows[row, 2])[len(self.prefix) :]
                    said = (self._answer(row), self.newline, tail, data.frame["end"])
                    yield Sample(self.prompt(data.gold(row)[0]), np.concatenate(said), KIND)

        return batches(samples(), self.n_tokens)

    def _answer(self, row: int) -> Ids:
        """Return the row's answer without its marker."""
        target = self.data.piece(self.data.rows[row, 3])
        return target[: int(np.flatnonzero(target >= MARK)[0]) - 1]

    def prompt(self, passage: int) -> Ids:
        """Return the prompt that asks for a question about `passage`."""
        data = self.data
        parts = [data.frame["user"], data.frame["mark"], data.number(1), data.piece(passage)]
        return np.concatenate([*parts, data.frame["assistant"]])

    # -- writing ----------------------------------------------------------------------------------

    def written(
        self, sources: Sequence[Source], dtype: torch.dtype, is_over: Callable[[], bool]
    ) -> list[Invented]:
        """Return questions about `sources`, drawn until the time is over; no two alike."""
        merged = self.adapter.merge(self.llama.base, dtype)
        end = int(self.data.frame["end"][0])
        found: dict[tuple[int, bytes], Invented] = {}
        texts: dict[int, str] = {}
        order = sorted(sources, key=lambda s: len(self.data.piece(s.passage)))
        groups = [order[i : i + N_ROWS] for i in range(0, len(order), N_ROWS)]
        for group in self.rng.sample(groups, len(groups)):
            if is_over():
                break
            prompts = [self.prompt(s.passage) for s in group]
            said, _ = self.llama.generate(merged, prompts, end, N_WRITTEN, temperature=TEMPERATURE)
            for source, ids in zip(group, said, strict=True):
                if source.passage not in texts:
                    texts[source.passage] = self.data.text(self.data.piece(source.passage))
                made = self.parsed(source, ids, texts[source.passage])
                if made is not None:
                    found.setdefault((source.passage, made.question.tobytes()), made)
        return list(found.values())

    def parsed(self, source: Source, ids: Sequence[int], text: str) -> Invented | None:
        """Return what was written, None where it is no question with an answer of the passage."""
        newline = int(self.newline[0])
        if newline not in ids or len(ids) >= N_WRITTEN:
            return None
        at = list(ids).index(newline)
        answer, question = self.data.text(ids[:at]), self.data.text(ids[at + 1 :])
        asked = [w.casefold() for w in WORD.findall(question)]
        body = text.split('"""')[1] if text.count('"""') >= 2 else text
        is_there = 0 < len(answer) <= MAX_ANSWER and answer in body and "\n" not in question
        given = [w.casefold() for w in WORD.findall(answer)]
        if not is_there or len(asked) < 4 or not given or all(w in asked for w in given):
            return None
        return Invented(source, np.array(ids[:at], np.uint16), np.array(ids[at + 1 :], np.uint16))

    # -- checking ---------------------------------------------------------------------------------

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def agreed(
        self, made: Sequence[Invented], merged: Merged, is_over: Callable[[], bool]
    ) -> list[Invented]:
        """Return those that the reading adapter answers alike, shown the passage alone."""
        kept: list[Invented] = []
        device = self.llama.base.embedding.device
        order = sorted(made, key=lambda m: len(self.data.piece(m.source.passage)))
        groups = list(_filling(order, self._reading_size, self.n_tokens))
        for group in self.rng.sample(groups, len(groups)):
            if is_over():
                break
            samples = [Sample(self._reading(m), m.answer, KIND) for m in group]
            batch = pack(samples, self.n_tokens)
            tokens, places, ends, at, wanted = (
                torch.from_numpy(x).to(device)
                for x in (batch.tokens, batch.places, batch.ends, batch.at, batch.wanted)
            )
            hidden = self.llama.hidden(merged, tokens, places, ends, batch.longest, fused=False)
            scores = self.llama.logits(hidden[at])
            sizes = torch.tensor([len(m.answer) for m in group], device=device)
            firsts = sizes.cumsum(0) - sizes
            scores[firsts, int(self.data.frame["refusal"][0])] = -torch.inf
            each = scores.log_softmax(-1).gather(1, wanted[:, None])[:, 0]
            owner = torch.repeat_interleave(torch.arange(len(group), device=device), sizes)
            means = torch.zeros(len(group), device=device).index_add_(0, owner, each) / sizes
            good = (means.exp() >= MIN_CHANCE).tolist()
            kept += [m for m, is_good in zip(group, good, strict=True) if is_good]
        return kept

    def _reading(self, made: Invented) -> Ids:
        return reading(self.data, made, self.prefix, self.suffix)

    def _reading_size(self, made: Invented) -> int:
        return len(self._reading(made)) + len(made.answer)


def reading(data: Dataset, made: Invented, prefix: Ids, suffix: Ids) -> Ids:
    """Return docqa's prompt of an invented question with its passage alone; see `affixes`."""
    parts = [data.frame["open"], data.frame["user"], prefix, made.question, suffix]
    parts += [data.frame["mark"], data.number(1), data.piece(made.source.passage)]
    return np.concatenate([*parts, prefix, made.question, data.frame["assistant"]])


def add(data: Dataset, made: Sequence[Invented]) -> None:
    """Add rows to the data set; a similar passage that holds the answer is no distractor."""
    prefix, suffix, closing = affixes(data)
    texts: dict[int, str] = {}
    for one in made:
        answer = data.text(one.answer).casefold()
        for passage in one.source.similar:
            if passage not in texts:
                texts[passage] = data.text(data.piece(passage)).casefold()
        other = [p for p in one.source.similar if answer not in texts[p]]
        data.add(
            KIND,
            np.concatenate([prefix, one.question, suffix]),
            np.concatenate([prefix, one.question]),
            np.concatenate([one.answer, closing[:1], [MARK], closing[1:]]),
            one.source.passage,
            other,
        )
    data.settle()


def affixes(data: Dataset) -> tuple[Ids, Ids, Ids]:
    """Return the tokens before a question, after it, and around the marker that ends an answer.

    They are read off the real rows, which all have them alike.
    """
    heads: list[Ids] = []
    tails: list[Ids] = []
    closings: list[Ids] = []
    for row in range(len(data.rows)):
        if data.kind(row) != "squad" or len(heads) == 200:
            continue
        head, tail = data.piece(data.rows[row, 1]), data.piece(data.rows[row, 2])
        target = data.piece(data.rows[row, 3])
        at = int(np.flatnonzero(target >= MARK)[0])
        assert np.array_equal(head[: len(tail)], tail), "a question is written the same twice"
        heads.append(head[len(tail) :])
        tails.append(tail)
        closings.append(np.concatenate([target[at - 1 : at], target[at + 1 :]]))
    same = 0
    while all(len(t) > same and t[same] == tails[0][same] for t in tails):
        same += 1
    assert all(np.array_equal(h, heads[0]) for h in heads)
    assert all(np.array_equal(c, closings[0]) for c in closings)
    return tails[0][:same], heads[0], closings[0]


def sources(data: Dataset, n_each: int) -> list[Source]:
    """Return what to ask about: passages of real questions `n_each` times, others half as often.

    Passages of development questions are left out.
    """
    held = {p for i in range(len(data.rows)) if data.rows[i, 6] for p in data.gold(i)}
    found: dict[int, tuple[Source, int]] = {}
    for row in range(len(data.rows)):
        kind = data.kind(row)
        if data.rows[row, 6] == 0 and kind in (*REAL, "squad-twin", *OTHERS):
            gold = data.gold(row)[0]
            n_times = max(1, n_each // 2) if kind in OTHERS else n_each
            found.setdefault(gold, (Source(gold, tuple(data.other(row))), n_times))
    for group in data.extra():
        for passage in group:
            near = tuple(p for p in group if p != passage)
            found.setdefault(passage, (Source(passage, near), max(1, n_each // 2)))
    return [
        source
        for source, n_times in found.values()
        for _ in range(n_times)
        if source.passage not in held and len(data.piece(source.passage)) >= MIN_PASSAGE
    ]


def told(data: Dataset, one: Invented) -> str:
    """Return an invented question in words, as a line of JSON."""
    passage = data.text(data.piece(one.source.passage))
    about = {"question": data.text(one.question), "answer": data.text(one.answer)}
    return json.dumps({**about, "passage": passage}, ensure_ascii=False)


def recalled(data: Dataset, file: Path, tokenize: Callable[[str], Sequence[int]]) -> list[Invented]:
    """Return what an earlier run invented, as `told`, about passages that `data` still has."""
    by_text = {data.text(data.piece(s.passage)): s for s in sources(data, 1)}
    with lzma.open(file, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines if line.strip()]
    return [
        Invented(
            by_text[row["passage"]],
            np.array(tokenize(row["answer"]), np.uint16),
            np.array(tokenize(row["question"]), np.uint16),
        )
        for row in rows
        if row["passage"] in by_text
    ]


def _filling(
    made: Sequence[Invented], size: Callable[[Invented], int], room: int
) -> Iterator[list[Invented]]:
    """Yield runs of `made` that fit into `room` tokens together."""
    run: list[Invented] = []
    used = 0
    for one in made:
        n = size(one)
        if n > room:
            continue
        if used + n > room:
            yield run
            run, used = [], 0
        run.append(one)
        used += n
    if run:
        yield run
