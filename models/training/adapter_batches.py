"""Draw prompts from the data set of `adapter_data` and pack them into batches. NumPy only.

How many sources a prompt has, which distractors, in which order and under which numbers, whether
the right passage is left out, and whether a turn comes before it: all drawn anew each time.
"""

from __future__ import annotations

import io
import json
import lzma
import queue
import random
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.uint16]
MARK = 60_000  # token `MARK + g` of a target: the number that gold passage g has in the prompt
N_SOURCES = (0.22, 0.14, 0.12, 0.15, 0.08, 0.12, 0.04, 0.03, 0.03, 0.02, 0.02, 0.03)  # 1 … 12
# Generated tasks are soon learnt: an epoch has only so many of them.
KEPT = {
    "squad-twin": 0.7,
    "table": 0.6,
    "table-twin": 0.6,
    "log": 0.5,
    "log-twin": 0.6,
    "field": 0.6,
    "field-twin": 0.6,
    "manual": 0.7,
    "check": 0.7,
}
# Only where questions name what they are about may any passage fill up a prompt: another contract
# or another drawn table would answer as well, and otherwise.
FILLED = frozenset(("squad", "squad-twin", "qed", "nq", "hotpotqa", "medical", "prose", "invented"))
P_DROPPED = {
    "log": 0.04,
    "table": 0.04,
    "manual": 0.04,
    "check": 0.04,
    "follow": 0.04,
    "inject": 0.04,
}
P_DROPPED_REAL = 0.1
MAX_TOKENS = 4096


@dataclass(frozen=True, slots=True)
class Sample:
    """A prompt and what is to be said. `weight` is of the whole target in the loss."""

    prompt: Ids
    target: Ids
    kind: str
    weight: float = 1.0


class Dataset:
    """The arrays of the file, and prompts made from them."""

    def __init__(self, path: Path) -> None:
        raw = path.read_bytes()
        if path.suffix == ".xz":
            raw = lzma.decompress(raw)
        held = np.load(io.BytesIO(raw), allow_pickle=False)
        self.arrays: dict[str, npt.NDArray[Any]] = {name: held[name] for name in held.files}
        self.meta: dict[str, Any] = json.loads(self.arrays["meta"].tobytes())
        self.kinds: list[str] = self.meta["kinds"]
        self.frame: dict[str, Ids] = {
            k: np.array(v, np.uint16) for k, v in self.meta["frame"].items()
        }
        self.rows = self.arrays["rows"]
        self._spare: dict[int, list[int]] = {}
        self._added: list[Ids] = []  # pieces of rows that were added
        self._links: dict[int, tuple[int, list[int]]] = {}  # their passage and distractors
        self._rows_added: list[list[int]] = []

    def piece(self, i: int) -> Ids:
        """Return the tokens of piece `i`."""
        ends = self.arrays["token_ends"]
        if i >= len(ends) - 1:
            return self._added[i - len(ends) + 1]
        return self.arrays["tokens"][ends[i] : ends[i + 1]]

    def add(
        self, kind: str, head: Ids, tail: Ids, target: Ids, gold: int, other: list[int]
    ) -> None:
        """Add a training row on passages that are there. Call `settle` when all are added."""
        if kind not in self.kinds:
            self.kinds.append(kind)
        first = len(self.arrays["token_ends"]) - 1 + len(self._added)
        self._added += [head, tail, np.asarray(target, np.uint16)]
        row = [self.kinds.index(kind), first, first + 1, first + 2, -1, 1, 0]
        self._links[len(self.rows) + len(self._rows_added)] = (gold, other)
        self._rows_added.append(row)

    def settle(self) -> None:
        """Make the rows that were added part of `rows`."""
        made = np.array(self._rows_added, self.rows.dtype).reshape(-1, self.rows.shape[1])
        self.rows = np.concatenate([self.rows, made])
        self._rows_added = []

    def extra(self) -> list[list[int]]:
        """Return passages without a question, those of one text together."""
        if "extra" not in self.arrays:
            return []
        ends = self.arrays["extra_ends"]
        return [self.arrays["extra"][a:b].tolist() for a, b in pairwise(ends.tolist())]

    def kind(self, row: int) -> str:
        """Return the row's kind."""
        return self.kinds[int(self.rows[row, 0])]

    def _listed(self, name: str, row: int) -> list[int]:
        ends = self.arrays[f"{name}_ends"]
        return [int(i) for i in self.arrays[name][ends[row] : ends[row + 1]]]

    def gold(self, row: int) -> list[int]:
        """Return the passages that answer the row, or mislead where nothing does."""
        if row in self._links:
            return [self._links[row][0]]
        return self._listed("gold", row)

    def other(self, row: int) -> list[int]:
        """Return the row's distractors, the most similar first."""
        if row in self._links:
            return self._links[row][1]
        return self._listed("other", row)

    def is_refusal(self, row: int) -> bool:
        """Return whether the row's target is the not-found sentence."""
        return bool(np.array_equal(self.piece(self.rows[row, 3]), self.frame["refusal"]))

    def text(self, ids: Sequence[int] | Ids) -> str:
        """Return the text of token ids; bytes that are not UTF-8 are replaced."""
        words, ends = self.arrays["words"], self.arrays["word_ends"]
        return b"".join(words[ends[i] : ends[i + 1]].tobytes() for i in ids).decode(
            "utf-8", "replace"
        )

    def number(self, marker: int) -> Ids:
        """Return the digits of a source's number."""
        return self.frame["digits"][[int(d) for d in str(marker)]]

    def user(self, row: int, sources: Sequence[int], first: int) -> Ids:
        """Return the user's message on these sources, numbered from `first`."""
        parts = [self.piece(self.rows[row, 1])]
        for i, source in enumerate(sources):
            parts += [self.frame["mark"], self.number(first + i), self.piece(source)]
        return np.concatenate([*parts, self.piece(self.rows[row, 2])])

    def target(self, row: int, markers: Sequence[int]) -> Ids:
        """Return the row's answer; `markers[g]` is the number of gold passage g."""
        parts: list[Ids] = []
        for token in self.piece(self.rows[row, 3]):
            known = token < MARK
            parts.append(
                np.array([token], np.uint16) if known else self.number(markers[token - MARK])
            )
        return np.concatenate(parts)

    def prompt(
        self,
        row: int,
        sources: Sequence[int],
        first: int = 1,
        turns: Sequence[tuple[Ids, Ids]] = (),
    ) -> Ids:
        """Return the whole prompt; `turns` are the (message, answer) pairs before it."""
        parts = [self.frame["open"]]
        for message, answer in turns:
            parts += [self.frame["user"], message, self.frame["assistant"], answer]
        parts += [self.frame["user"], self.user(row, sources, first), self.frame["assistant"]]
        return np.concatenate(parts)

    def numbers(self, placed: dict[str, Any]) -> list[int]:
        """Return the numbers that the right sources of a development prompt have in it."""
        before = int(self.rows[placed["row"], 4])
        n_before = len(self.gold(before)) + len(self.other(before)[:1]) if before >= 0 else 0
        return [m + n_before for m in placed["markers"]]

    def question(self, placed: dict[str, Any]) -> str:
        """Return the question of a development prompt."""
        return self.text(self.piece(self.rows[placed["row"], 2])).removeprefix("Question: ")

    def sources(self, placed: dict[str, Any]) -> list[str]:
        """Return the texts of a development prompt's sources as they stand in it."""
        return [self.text(self.piece(source)) for source in placed["sources"]]

    def arranged(self, placed: dict[str, Any]) -> tuple[Ids, Ids]:
        """Return (prompt, target) of a development prompt; the target is without end token."""
        row, sources, first = placed["row"], placed["sources"], 1
        turns: list[tuple[Ids, Ids]] = []
        before = int(self.rows[row, 4])
        if before >= 0:
            shown = self.gold(before) + self.other(before)[:1]
            markers = list(range(1, 1 + len(shown)))
            turns = [(self.user(before, shown, 1), self.target(before, markers))]
            first += len(shown)
        markers = self.numbers(placed)
        absent = not placed["markers"]
        target = self.frame["refusal"] if absent else self.target(row, markers)
        return self.prompt(row, sources, first, turns), target

    def spare(self, kind: int) -> list[int]:
        """Return training passages of the same kind, to fill up with."""
        if kind not in self._spare:
            rows = np.flatnonzero((self.rows[:, 0] == kind) & (self.rows[:, 6] == 0))
            self._spare[kind] = [p for r in rows[:4000] for p in self.gold(int(r))]
        return self._spare[kind]


def trained_on(data: Dataset) -> list[int]:
    """Return the rows to draw from: not the development tenth, and no turn before another."""
    before = set(data.rows[:, 4].tolist())
    return [i for i in range(len(data.rows)) if data.rows[i, 6] == 0 and i not in before]


class Sampler:
    """Draws training samples, epoch after epoch."""

    def __init__(self, data: Dataset, seed: int, p_plain: float = 0.03) -> None:
        self.data, self.rng, self.p_plain = data, random.Random(seed), p_plain
        self.train = trained_on(data)
        self.plain = [row for row in data.arrays["plain"].tolist() if not row[2]]
        self.n_drawn = 0
        self.kept = dict(KEPT)

    def samples(self) -> Iterator[Sample]:
        """Yield samples without end; every epoch in another order."""
        while True:
            order = self.rng.sample(self.train, len(self.train))
            for row in order:
                self.n_drawn += 1
                if self.rng.random() > self.kept.get(self.data.kind(row), 1.0):
                    continue
                yield self.draw(row)
                if self.plain and self.rng.random() < self.p_plain:
                    prompt, reply, _ = self.rng.choice(self.plain)
                    yield Sample(self.data.piece(prompt), self.data.piece(reply), "plain")

    def draw(self, row: int) -> Sample:
        """Return one arrangement of `row`."""
        data, rng = self.data, self.rng
        kind = data.kind(row)
        gold, other = data.gold(row), data.other(row)
        droppable = bool(data.rows[row, 5]) and not data.is_refusal(row) and len(other) > 0
        dropped = droppable and rng.random() < P_DROPPED.get(kind, P_DROPPED_REAL)
        n = rng.choices(range(1, 13), N_SOURCES)[0]
        kept = [] if dropped else list(gold)
        first, turns = self._history(row)
        room = MAX_TOKENS - 420 - sum(len(m) + len(a) for m, a in turns)
        sources = self._filled(row, kept, other, max(n, len(kept), 1), room)
        rng.shuffle(sources)
        answer = data.frame["refusal"]
        if not dropped:
            answer = data.target(row, [first + sources.index(p) for p in gold])
        prompt = data.prompt(row, sources, first, turns)
        return Sample(prompt, np.concatenate([answer, data.frame["end"]]), kind)

    def _history(self, row: int) -> tuple[int, list[tuple[Ids, Ids]]]:
        """Return the first free number and the turns before this one."""
        data, rng = self.data, self.rng
        before = int(data.rows[row, 4])
        if before < 0:
            return (1 if rng.random() < 0.94 else rng.randint(2, 24)), []
        shown = data.gold(before) + data.other(before)[: rng.randint(0, 2)]
        rng.shuffle(shown)
        first = 1 if rng.random() < 0.8 else rng.randint(2, 12)
        answer = data.target(before, [first + shown.index(p) for p in data.gold(before)])
        return first + len(shown), [(data.user(before, shown, first), answer)]

    def _filled(self, row: int, kept: list[int], other: list[int], n: int, room: int) -> list[int]:
        """Return `kept` and distractors up to `n` sources and `room` tokens."""
        data, rng = self.data, self.rng
        held = list(dict.fromkeys(kept))
        # Mostly the most similar ones, as retrieval brings them; never the right passage again.
        ranked = sorted((i + rng.expovariate(1 / 4), p) for i, p in enumerate(other))
        queue = [p for _, p in ranked]
        gold = set(data.gold(row))
        spare = data.spare(int(data.rows[row, 0])) if data.kind(row) in FILLED else []
        used = sum(len(data.piece(p)) for p in held)
        while len(held) < n:
            if queue and (not spare or rng.random() < 0.9):
                passage = queue.pop(0)
            elif spare:
                passage = rng.choice(spare)
            else:
                break
            used += len(data.piece(passage)) + 3
            if used > room:
                break
            if passage not in held and passage not in gold:
                held.append(passage)
            elif not queue and rng.random() < 0.2:
                break
        return held


@dataclass(frozen=True, slots=True)
class Batch:
    """Sequences one after the other, exactly `n_tokens` long with padding at the end.

    `ends` are the cumulative lengths (first 0), the padding is the last sequence. `wanted[j]` is
    the token that is to follow position `at[j]`, `weight[j]` its share of the loss.
    """

    tokens: npt.NDArray[np.int64]
    places: npt.NDArray[np.int64]  # of each token in its own sequence
    ends: npt.NDArray[np.int32]
    longest: int
    at: npt.NDArray[np.int64]
    wanted: npt.NDArray[np.int64]
    weight: npt.NDArray[np.float32]


def pack(samples: Sequence[Sample], n_tokens: int) -> Batch:
    """Return one batch of `samples`, which fit into `n_tokens`.

    A sample's loss is its tokens' mean times the square root of their number, so that a long
    sentence counts for more than a date, but not twenty times more.
    """
    tokens = np.zeros(n_tokens, np.int64)
    places = np.zeros(n_tokens, np.int64)
    ends, at, wanted, weight = [0], [], [], []
    for sample in samples:
        start, n_prompt, n_target = ends[-1], len(sample.prompt), len(sample.target)
        stop = start + n_prompt + n_target
        tokens[start:stop] = np.concatenate([sample.prompt, sample.target])
        places[start:stop] = np.arange(stop - start)
        at.append(np.arange(start + n_prompt - 1, stop - 1))
        wanted.append(sample.target.astype(np.int64))
        weight.append(np.full(n_target, sample.weight / np.sqrt(n_target), np.float32))
        ends.append(stop)
    # The rest is padding in pieces of at most 4,096, so that attention never meets a longer row.
    while ends[-1] < n_tokens:
        stop = min(n_tokens, ends[-1] + MAX_TOKENS)
        places[ends[-1] : stop] = np.arange(stop - ends[-1])
        ends.append(stop)
    spans = np.diff(ends)
    share = np.concatenate(weight)
    return Batch(
        tokens, places, np.array(ends, np.int32), int(spans.max()),
        np.concatenate(at), np.concatenate(wanted), share / share.sum(),
    )  # fmt: skip


def batches(samples: Iterator[Sample], n_tokens: int, n_pool: int = 256) -> Iterator[Batch]:
    """Yield packed batches: of a pool of samples, in the order drawn, all that still fit.

    Samples that no batch could hold are left out.
    """
    pool: list[Sample] = []
    while True:
        while len(pool) < n_pool:
            sample = next(samples)
            if len(sample.prompt) + len(sample.target) <= n_tokens:
                pool.append(sample)
        room, chosen, rest = n_tokens, [], []
        for sample in pool:  # in the order drawn, so that no sample waits for long
            size = len(sample.prompt) + len(sample.target)
            if size <= room:
                chosen.append(sample)
                room -= size
            else:
                rest.append(sample)
        pool = rest
        yield pack(chosen, n_tokens)


class Prefetch:
    """Batches packed ahead in a thread."""

    def __init__(self, source: Iterator[Batch], n_ahead: int = 6) -> None:
        self.queue: queue.Queue[Batch] = queue.Queue(n_ahead)
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self._run, args=(source,), daemon=True)
        self.thread.start()

    def _run(self, source: Iterator[Batch]) -> None:
        for batch in source:
            while not self.stopped.is_set():
                try:
                    self.queue.put(batch, timeout=0.2)
                    break
                except queue.Full:
                    continue
            if self.stopped.is_set():
                return

    def next(self) -> Batch:
        """Return the next batch."""
        return self.queue.get(timeout=120)

    def close(self) -> None:
        """Stop the thread."""
        self.stopped.set()
        self.thread.join(timeout=10)
