"""Draws training batches: groups of one right and several wrong passages, and answers alone.

A step has groups (ranking, calibration and spans) and lone pairs of a question and its right
passage (spans alone, a tenth of the cost). Rows are sorted by length and cut into micro-batches, so
that almost nothing is padded. Worker processes fill a queue while the accelerator works.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.queues
import multiprocessing.sharedctypes
import traceback
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.reader_pairs import Ids, layout, padded, room
from models.training.reader_records import KINDS, Arrays

GROUP_SHARES = {
    "squad": 26, "nq": 20, "policy": 1, "hotpot": 1, "contract": 10, "contract-named": 3,
    "meeting": 5, "medical": 8, "title": 6, "cloze": 5, "table": 6, "check": 1, "manual": 3,
    "log": 5, "invented": 16, "field": 9,
}  # fmt: skip
LONE_SHARES = {
    "squad": 34, "nq": 30, "policy": 4, "hotpot": 1, "contract": 6, "meeting": 2, "cloze": 10,
    "table": 4, "check": 1, "manual": 3, "log": 5, "invented": 120, "field": 10,
}  # fmt: skip
WARM_LONE_SHARES = LONE_SHARES | {"cloze": 90}  # while the heads are new
NO_CONTEXT = 0.2  # of the rows lose their context, as passages without a title
JOINED = 0.35  # of the lone rows: the passage stands among others
WIDE_KINDS = {KINDS.index(k) for k in ("policy", "hotpot")}  # wrong ones are drawn from anywhere


@dataclass(frozen=True, slots=True)
class Sizes:
    """How large a step is."""

    n_groups: int = 48
    n_wrong: int = 9
    n_lone: int = 32
    n_micro: int = 6


@dataclass(frozen=True, slots=True)
class Micro:
    """Rows of similar length: ids, types (B, T), lengths (B,), and each one's place in the step."""

    ids: Ids
    types: Ids
    lengths: Ids
    row: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Step:
    """A step's rows: first `n_groups` groups of 1 + n_wrong rows, then the lone ones.

    Attributes:
        micros: the rows, by length.
        has_right: (G,) whether row 0 of the group answers; else all rows are wrong.
        spans: (R, 2) first and last token of the answer in the row; -1: not marked.
    """

    micros: tuple[Micro, ...]
    has_right: npt.NDArray[np.bool_]
    spans: npt.NDArray[np.int64]


class Sampler:
    """Draws the rows of a step. One a thread: it holds its own random state."""

    def __init__(
        self, arrays: Arrays, mined: npt.NDArray[np.int32], sizes: Sizes, seed: int
    ) -> None:
        self._a, self._mined, self._sizes = arrays, mined, sizes
        self._rng = np.random.default_rng(seed)
        train = arrays["split"] == 0
        marked = self._marked()
        n_right = np.diff(arrays["right_at"])
        usable = train & ((n_right > 0) | (np.diff(arrays["wrong_at"]) > 0))
        self._groups = _by_kind(arrays["kind"], usable, GROUP_SHARES)
        self._lone = _by_kind(arrays["kind"], train & marked, LONE_SHARES)
        self._warm = _by_kind(arrays["kind"], train & marked, WARM_LONE_SHARES)
        self._anywhere = np.flatnonzero(arrays["is_dev"] == 0)

    def step(self, *, is_warm: bool) -> Step:
        """Return one step. While `is_warm` most lone rows are clozes."""
        rows: list[tuple[Ids, int]] = []
        spans: list[tuple[int, int]] = []
        has_right = []
        for query in self._draw(self._groups, self._sizes.n_groups):
            right, wrong = self.group(int(query))
            has_right.append(right is not None)
            first = [right] if right is not None else []
            for passage, start, end in first + [(p, -1, -1) for p in wrong]:
                row, n_first, begin = self._row(int(query), passage, start, end)
                inside = start >= 0 and end + begin < len(row) - 1
                at = (start + begin, end + begin) if inside else (-1, -1)
                rows.append((row, n_first))
                spans.append(at)
        for query in self._draw(self._warm if is_warm else self._lone, self._sizes.n_lone):
            row, n_first, span = self._alone(int(query))
            rows.append((row, n_first))
            spans.append(span)
        micros = tuple(_micros(rows, self._sizes.n_micro))
        return Step(micros, np.array(has_right), np.array(spans, np.int64))

    def group(self, query: int) -> tuple[tuple[int, int, int] | None, list[int]]:
        """Return the right passage (id, first, last token) or None, and the wrong ones.

        n_wrong where there is a right one, else one more. Half of the wrong ones are from the
        first ten that search brings, the rest from all that it brings and those given.
        """
        a, rng = self._a, self._rng
        rights = a["right"][a["right_at"][query] : a["right_at"][query + 1]]
        right = rights[rng.integers(len(rights))] if len(rights) else None
        n_wanted = self._sizes.n_wrong + (right is None)
        given = a["wrong"][a["wrong_at"][query] : a["wrong_at"][query + 1]].tolist()
        banned = set(rights[:, 0].tolist()) | set(
            a["excluded"][a["excluded_at"][query] : a["excluded_at"][query + 1]].tolist()
        )
        mined = [p for p in self._mined[query].tolist() if p >= 0]
        near, far = mined[:10], mined[10:]
        rng.shuffle(near)
        rng.shuffle(given)
        rng.shuffle(far)
        n_given = n_wanted if not mined else (1 + n_wanted // 4)
        order = given[:n_given] + near[: n_wanted // 2] + far + near[n_wanted // 2 :]
        wrong: list[int] = []
        for passage in order:
            if len(wrong) == n_wanted:
                break
            if passage not in banned and not self._also_answers(query, right, passage):
                banned.add(passage)
                wrong.append(passage)
        while len(wrong) < n_wanted:
            other = int(self._anywhere[rng.integers(len(self._anywhere))])
            if other not in banned:
                wrong.append(other)
        chosen = (int(right[0]), int(right[1]), int(right[2])) if right is not None else None
        return chosen, wrong

    def _also_answers(self, query: int, right: npt.NDArray[np.int32] | None, passage: int) -> bool:
        """Whether the passage holds the answer's words, where they are not a common short word."""
        if right is None or right[1] < 0:
            return False
        n_tokens = int(right[2] - right[1] + 1)
        kind = KINDS[self._a["kind"][query]]
        if n_tokens < (3 if kind == "squad" else 2) or kind not in (
            "squad",
            "nq",
            "cloze",
            "invented",
        ):
            return False
        words = self._text(int(right[0]))[right[1] : right[2] + 1].tobytes()
        body = self._text(passage).tobytes()
        at = body.find(words)
        while at >= 0 and at % 2:
            at = body.find(words, at + 1)
        return at >= 0

    def _alone(self, query: int) -> tuple[Ids, int, tuple[int, int]]:
        """Return a row of the right passage, at times joined with others, and its span."""
        a, rng = self._a, self._rng
        rights = a["right"][a["right_at"][query] : a["right_at"][query + 1]]
        rights = rights[rights[:, 1] >= 0]
        passage, start, end = (int(x) for x in rights[rng.integers(len(rights))])
        if rng.random() >= JOINED:
            row, n_first, begin = self._row(query, passage, start, end)
        else:
            text = self._text(passage)
            before = self._piece() if rng.random() < 0.6 else text[:0]
            after = self._piece() if rng.random() < 0.6 else text[:0]
            start, end = start + len(before), end + len(before)
            joined = np.concatenate([before, text, after])
            row, n_first, begin = self._row(query, passage, start, end, joined)
        inside = start + begin >= 0 and end + begin < len(row) - 1
        return row, n_first, (start + begin, end + begin) if inside else (-1, -1)

    def _piece(self) -> npt.NDArray[np.uint16]:
        other = self._text(int(self._anywhere[self._rng.integers(len(self._anywhere))]))
        cut = int(self._rng.integers(10, 90))
        return other[-cut:]

    def _row(
        self,
        query: int,
        passage: int,
        start: int,
        end: int,
        text: npt.NDArray[np.uint16] | None = None,
    ) -> tuple[Ids, int, int]:
        """Return the row and where the text's token 0 is in it (negative: before the window).

        Of a text that does not fit, a drawn window is read; with the answer, if it is marked.
        """
        keep = KINDS[self._a["kind"][query]] == "contract-named" or self._rng.random() >= NO_CONTEXT
        if text is None:
            text = self._text(passage)
        spare = len(text) - pair_room(self._a, query, passage, has_context=keep)
        cut = 0
        if spare > 0:
            low = 0 if start < 0 else max(0, end + 1 - (len(text) - spare))
            high = spare if start < 0 else min(spare, start)
            cut = int(self._rng.integers(low, high + 1)) if low <= high else low
        row, n_first, begin = pair_row(self._a, query, passage, text[cut:], has_context=keep)
        return row, n_first, begin - cut

    def _text(self, passage: int) -> npt.NDArray[np.uint16]:
        found: npt.NDArray[np.uint16] = passage_text(self._a, passage)
        return found

    def _draw(
        self, kinds: list[tuple[npt.NDArray[np.int64], float]], n: int
    ) -> npt.NDArray[np.int64]:
        shares = np.array([share for _, share in kinds])
        counts = self._rng.multinomial(n, shares / shares.sum())
        drawn = [
            self._rng.choice(members, count)
            for (members, _), count in zip(kinds, counts, strict=True)
            if count
        ]
        return np.concatenate(drawn)

    def _marked(self) -> npt.NDArray[np.bool_]:
        at, right = self._a["right_at"], self._a["right"]
        marks = np.concatenate([[0], np.cumsum(right[:, 1] >= 0)])
        found: npt.NDArray[np.bool_] = marks[at[1:]] > marks[at[:-1]]
        return found


def passage_text(arrays: Arrays, passage: int) -> npt.NDArray[np.uint16]:
    """Return the passage's token ids."""
    at = arrays["text_at"]
    found: npt.NDArray[np.uint16] = arrays["text"][at[passage] : at[passage + 1]]
    return found


def pair_row(
    arrays: Arrays,
    query: int,
    passage: int,
    text: npt.NDArray[np.uint16] | None = None,
    *,
    has_context: bool = True,
) -> tuple[Ids, int, int]:
    """Return `layout` of a query and a passage; a text that does not fit is cut."""
    if text is None:
        text = passage_text(arrays, passage)
    question, context = _beside(arrays, query, passage, has_context=has_context)
    return layout(question, context, text[: room(len(question), len(context))])


def pair_room(arrays: Arrays, query: int, passage: int, *, has_context: bool) -> int:
    """Return how many tokens of text fit beside the query and the passage's context."""
    question, context = _beside(arrays, query, passage, has_context=has_context)
    return room(len(question), len(context))


def _beside(
    arrays: Arrays, query: int, passage: int, *, has_context: bool
) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint16]]:
    at = arrays["question_at"]
    question = arrays["question"][at[query] : at[query + 1]]
    c, told_at = arrays["context_of"][passage], arrays["context_at"]
    context = arrays["context"][told_at[c] : told_at[c + 1]] if has_context else question[:0]
    return question, context


def _by_kind(
    kind: npt.NDArray[np.uint8], usable: npt.NDArray[np.bool_], shares: dict[str, int]
) -> list[tuple[npt.NDArray[np.int64], float]]:
    found = []
    for name, share in shares.items():
        members = np.flatnonzero(usable & (kind == KINDS.index(name)))
        if len(members):
            found.append((members, float(share)))
    return found


def _micros(rows: list[tuple[Ids, int]], n_micro: int) -> Iterator[Micro]:
    """Yield the rows sorted by length, cut where each part has about as many tokens."""
    order = np.argsort([len(row) for row, _ in rows], kind="stable")
    totals = np.cumsum([len(rows[i][0]) for i in order])
    edges = np.searchsorted(totals, totals[-1] * np.arange(1, n_micro) / n_micro)
    for part in np.split(order, edges):
        if len(part):
            ids, types, lengths = padded(
                [rows[i][0] for i in part], [rows[i][1] for i in part], multiple=16
            )
            yield Micro(ids, types, lengths, part.astype(np.int64))


class Prefetch:
    """Steps from samplers in processes of their own, made ahead of their use.

    Use as a context manager. `warm` is shared with the processes.
    """

    def __init__(
        self,
        arrays: Arrays,
        mined: npt.NDArray[np.int32],
        sizes: Sizes,
        *,
        n_workers: int,
        seed: int,
    ) -> None:
        context = multiprocessing.get_context("spawn")
        self.warm = context.Value("b", True)
        self._queue = context.Queue(maxsize=4 * n_workers)
        self._workers = [
            context.Process(
                target=_fill,
                args=(arrays, mined, sizes, seed + i, self._queue, self.warm),
                daemon=True,
            )
            for i in range(n_workers)
        ]

    def __enter__(self) -> Prefetch:
        """Start the processes."""
        for worker in self._workers:
            worker.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End the processes."""
        for worker in self._workers:
            worker.terminate()
        for worker in self._workers:
            worker.join()

    def next(self) -> Step:
        """Return the next step; raises RuntimeError with what a worker died of."""
        found = self._queue.get(timeout=300)
        if isinstance(found, str):
            raise RuntimeError(f"a sampler died: {found}")
        assert isinstance(found, Step)
        return found


def _fill(
    arrays: Arrays,
    mined: npt.NDArray[np.int32],
    sizes: Sizes,
    seed: int,
    steps: multiprocessing.queues.Queue[Step | str],
    warm: multiprocessing.sharedctypes.Synchronized[bool],
) -> None:
    """Run in a worker: put steps until terminated."""
    try:
        sampler = Sampler(arrays, mined, sizes, seed)
        while True:
            steps.put(sampler.step(is_warm=bool(warm.value)))
    except Exception:
        steps.put(traceback.format_exc())
