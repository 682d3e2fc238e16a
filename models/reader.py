"""The reader: one pass over question and passage says whether it answers, and where.

    Reader.open(packaged_folder(), interim) -> Reader      # a docqa.protocols.Reranker
    PassageReader(packaged_folder()).read(question, passages) -> list[Reading]

all-MiniLM-L6-v2, trained further (`models/training/reader_train.py`), with a relevance head on
[CLS] and start and end heads on every token; both come out of one run of ONNX Runtime on the CPU.
The word embeddings are the packaged embedder's own and are read from there, so the weights here fit
that base alone: `reader.json` names it by its hash. What goes in is laid out by
`models.reader_pairs`, as in training.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from docqa.errors import ModelNotFound, ModelRefused
from docqa.protocols import Passage, Relevance
from docqa.token_count import open_tokenizer
from docqa.types import Mark
from models.minilm import (
    FLOAT,
    INT32,
    POOL,
    BertSession,
    BertShape,
    Value,
    check_shapes,
    encoder_nodes,
    fused_weights,
    model,
    node,
    read_weights,
)
from models.reader_pairs import FORMAT, Ids, layout, padded, room, windows

if TYPE_CHECKING:
    from tokenizers import Encoding

    from models.interim import InterimReranker

Floats = npt.NDArray[np.float32]

WEIGHTS = Path(__file__).parent / "weights" / "reader.safetensors"
ABOUT = WEIGHTS.with_suffix(".json")
MAX_SPAN_TOKENS = 40  # the longest answer that training marked
N_ANSWERS = 8  # of a passage that are named
N_BATCH_TOKENS = 1024  # as the embedder's: more does not fit the caches
N_BATCH_ROWS = 32
_RENAMED = {"head.out": "head.score", "head.out.bias": "head.score.bias"}


@dataclass(frozen=True, slots=True)
class Calibration:
    """P(relevant) = sigmoid(scale · logit + offset); below `threshold` there is no evidence."""

    scale: float
    offset: float
    threshold: float

    @classmethod
    def of(cls, about: dict[str, Any]) -> Calibration:
        """Return what `reader.json` holds. Raises KeyError or ValueError."""
        return cls(float(about["scale"]), float(about["offset"]), float(about["threshold"]))

    def probability(self, logit: float) -> float:
        """Return the calibrated probability of a relevance logit."""
        z = max(-60.0, min(60.0, self.scale * logit + self.offset))
        return 1.0 / (1.0 + math.exp(-z))


@dataclass(frozen=True, slots=True)
class Reading:
    """What the reader says of one passage.

    `start`, `end` are characters of its text, None where it has no token; `confidence` is the
    probability of that span among all spans of its window, starts and ends taken as independent.
    """

    logit: float
    start: int | None
    end: int | None
    confidence: float | None


@dataclass(frozen=True, slots=True)
class Look:
    """What the reader says of a passage whose sentences are known.

    `score` is the calibrated P(it answers); `sentences` are log P(the answer begins and ends in
    it) of each sentence, -inf where it has no token; `answers` are its likeliest spans, best first,
    their score log P of the span.
    """

    score: float
    sentences: list[float]
    answers: list[Mark]


class ReaderNet:
    """The network alone: rows of tokens to relevance logits and spans."""

    def __init__(self, base: Path, weights: Path, n_threads: int) -> None:
        """Load; `base` is the packaged embedder's folder, `weights` a file as training wrote it.

        Raises:
            ModelRefused: they cannot be read or do not fit each other.
        """
        try:
            shape = BertShape.read(base)
            if shape is None:
                raise ValueError("the base is no BERT encoder")
            self.shape = shape
            self._session = BertSession(*_graph(base, weights, shape), n_threads)
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise ModelRefused(f"{weights.name}: the reader does not load: {error!r}") from error

    def forward(self, ids: Ids, types: Ids, lengths: Ids) -> tuple[Floats, Floats]:
        """Return relevance (B,), start and end logits (B, T, 2) of ids, types (B, T), lengths."""
        pool = np.zeros((len(ids), 1, ids.shape[1]), np.float32)
        pool[:, :, 0] = 1.0  # [CLS]
        relevance, spans = self._session.run(ids=ids, types=types, lengths=lengths, pool=pool)
        return relevance[:, 0, 0], spans


def _graph(base: Path, file: Path, shape: BertShape) -> tuple[bytes, dict[str, Floats]]:
    """Return the ModelProto and the weights, by the names of `models.training.reader_model`."""
    word = fused_weights(read_weights(base / "model.safetensors"), shape)["word"]
    weights = {_RENAMED.get(n, n): value for n, value in read_weights(file).items()}
    weights["word"] = word
    check_shapes(weights, shape)
    last = f"h{shape.n_layers}"
    nodes = [
        *encoder_nodes(shape, has_types=True),
        node("MatMul", ["pool", last], ["first"], domain=""),
        node("MatMul", ["first", "head.dense"], ["dense"], domain=""),
        node("BiasGelu", ["dense", "head.dense.bias"], ["active"]),
        node("MatMul", ["active", "head.score"], ["scored"], domain=""),
        node("Add", ["scored", "head.score.bias"], ["relevance"], domain=""),
        node("MatMul", [last, "span"], ["marked"], domain=""),
        node("Add", ["marked", "span.bias"], ["spans"], domain=""),
    ]
    row = ("B", "T")
    inputs: list[Value] = [("ids", INT32, row), ("types", INT32, row), ("lengths", INT32, ("B",))]
    outputs: list[Value] = [("relevance", FLOAT, ("B", 1, 1)), ("spans", FLOAT, ("B", "T", 2))]
    return model(nodes, weights, [*inputs, ("pool", FLOAT, POOL)], outputs), weights


@dataclass(frozen=True, slots=True)
class _Row:
    """A window of a passage as the network reads it."""

    passage: int
    ids: Ids
    n_first: int  # tokens of type 0
    begin: int  # index of the window's first token in `ids`
    offset: int  # index of that token in the passage


def best_span(start: Floats, end: Floats) -> tuple[int, int, float]:
    """Return (first, last, confidence) of the best span of at most MAX_SPAN_TOKENS tokens.

    Both are logits (N,) of the tokens of a window, N >= 1.
    """
    first, last, _ = best_spans(start, end, 1)[0]
    confidence = _softmax(start)[first] * _softmax(end)[last]
    return first, last, float(confidence)


def best_spans(start: Floats, end: Floats, n: int) -> list[tuple[int, int, float]]:
    """Return (first, last, sum of the two logits) of the `n` best spans, best first."""
    open_end = np.concatenate([end, np.full(MAX_SPAN_TOKENS - 1, -np.inf, np.float32)])
    ends = np.lib.stride_tricks.sliding_window_view(open_end, MAX_SPAN_TOKENS)
    total = (start[:, None] + ends).ravel()
    best = np.argpartition(-total, min(n, len(total)) - 1)[:n]
    best = best[np.argsort(-total[best], kind="stable")]
    found = []
    for at in best.tolist():
        first, more = divmod(at, MAX_SPAN_TOKENS)
        if np.isfinite(total[at]):
            found.append((first, first + more, float(total[at])))
    return found


def _log_sum(logits: Floats) -> float:
    """Return log Σ exp."""
    top = float(logits.max())
    return top + math.log(float(np.exp(logits.astype(np.float64) - top).sum()))


def _softmax(logits: Floats) -> npt.NDArray[np.float64]:
    powers: npt.NDArray[np.float64] = np.exp(logits.astype(np.float64) - float(logits.max()))
    powers /= powers.sum()
    return powers


class PassageReader:
    """Questions and passages in characters to `Reading`s; long passages are read in windows."""

    def __init__(
        self,
        base: Path,
        weights: Path = WEIGHTS,
        *,
        calibration: Calibration | None = None,
        n_threads: int = 0,
    ) -> None:
        """Load; `n_threads` 0: one a physical core. Raises ModelRefused."""
        from models.embedder import digest, n_physical_cores

        self._digest = digest(weights)
        self._calibration = calibration or Calibration(1.0, 0.0, 0.5)
        self._net = ReaderNet(base, weights, n_threads or n_physical_cores())
        self._tokenizer = open_tokenizer(base / "tokenizer.json")

    @classmethod
    def open(cls, base: Path, weights: Path | None = None, *, n_threads: int = 0) -> PassageReader:
        """Return the reader of `weights` (default: the shipped ones) on the embedder in `base`.

        Raises:
            ModelNotFound: the weights or their description are not there.
            ModelRefused: they are for another base or another layout of rows, or torn.
        """
        weights = weights or WEIGHTS
        calibration = Calibration.of(_described(weights, base))
        return cls(base, weights, calibration=calibration, n_threads=n_threads)

    @property
    def name(self) -> str:
        """Hash of the weights."""
        return f"reader:{self._digest}"

    def look(
        self, question: str, passages: Sequence[Passage], spans: Sequence[Sequence[tuple[int, int]]]
    ) -> list[Look]:
        """Return for each passage how likely it answers, and in which of its sentences.

        Args:
            question: the user's.
            passages: to read.
            spans: of each passage, the sentences in characters of its text.
        """
        texts = self._tokenizer.encode_batch([p.text for p in passages], add_special_tokens=False)
        found = [[-math.inf] * len(read) for read in spans]
        best_logit = [-math.inf] * len(passages)
        answers: list[list[Mark]] = [[] for _ in passages]
        for row, logit, logits in self._run(self._rows(question, passages, texts)):
            best_logit[row.passage] = max(best_logit[row.passage], logit)
            if not len(logits):
                continue
            offsets = texts[row.passage].offsets[row.offset :][: len(logits)]
            starts = np.array([a for a, _ in offsets])
            total = _log_sum(logits[:, 0]) + _log_sum(logits[:, 1])
            answers[row.passage] += [
                Mark(offsets[first][0], offsets[last][1], value - total)
                for first, last, value in best_spans(logits[:, 0], logits[:, 1], N_ANSWERS)
            ]
            for i, (begin, end) in enumerate(spans[row.passage]):
                first, last = np.searchsorted(starts, (begin, end))
                if first < last:
                    *_, best = best_spans(logits[first:last, 0], logits[first:last, 1], 1)[0]
                    scores = found[row.passage]
                    scores[i] = max(scores[i], best - total)
        return [
            Look(
                self._calibration.probability(logit),
                scores,
                sorted(spans_of_one, key=lambda mark: -mark.score)[:N_ANSWERS],
            )
            for logit, scores, spans_of_one in zip(best_logit, found, answers, strict=True)
        ]

    def read(self, question: str, passages: Sequence[Passage]) -> list[Reading]:
        """Return one Reading a passage, of the window that answers best."""
        texts = self._tokenizer.encode_batch([p.text for p in passages], add_special_tokens=False)
        rows = self._rows(question, passages, texts)
        best: list[Reading | None] = [None] * len(passages)
        for row, logit, spans in self._run(rows):
            held = best[row.passage]
            if held is None or logit > held.logit:
                best[row.passage] = _reading(row, logit, spans, texts[row.passage])
        return [reading for reading in best if reading is not None]

    def _rows(
        self, question: str, passages: Sequence[Passage], texts: Sequence[Encoding]
    ) -> list[_Row]:
        contexts = list(dict.fromkeys(p.context for p in passages))
        short = self._tokenizer.encode_batch_fast([question, *contexts], add_special_tokens=False)
        asked = short[0].ids
        context_ids = {c: e.ids for c, e in zip(contexts, short[1:], strict=True)}
        rows = []
        for number, (passage, text) in enumerate(zip(passages, texts, strict=True)):
            context, ids = context_ids[passage.context], text.ids
            for start, end in windows(len(ids), room(len(asked), len(context))):
                row, n_first, begin = layout(asked, context, ids[start:end])
                rows.append(_Row(number, row, n_first, begin, start))
        return rows

    def _run(self, rows: Sequence[_Row]) -> list[tuple[_Row, float, Floats]]:
        """Return each row with its relevance logit and the (N, 2) span logits of its text."""
        from models.embedder import batches

        found = []
        for chosen in batches([len(row.ids) for row in rows], N_BATCH_TOKENS, N_BATCH_ROWS):
            batch = [rows[i] for i in chosen]
            ids, types, lengths = padded([r.ids for r in batch], [r.n_first for r in batch])
            logits, spans = self._net.forward(ids, types, lengths)
            for row, logit, span in zip(batch, logits.tolist(), spans, strict=True):
                found.append((row, logit, span[row.begin : len(row.ids) - 1]))
        return found


def _reading(row: _Row, logit: float, spans: Floats, text: Encoding) -> Reading:
    if not len(spans):
        return Reading(logit, None, None, None)
    first, last, confidence = best_span(spans[:, 0], spans[:, 1])
    offsets = text.offsets
    start, end = offsets[row.offset + first][0], offsets[row.offset + last][1]
    return Reading(logit, start, end, confidence)


def _described(weights: Path, base: Path) -> dict[str, Any]:
    """Return what stands beside `weights` about them, checked against `base`."""
    from models.embedder import digest

    file = weights.with_suffix(".json")
    if not weights.is_file() or not file.is_file():
        raise ModelNotFound(f"no reader: {weights.name} is not shipped here")
    try:
        about: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        Calibration.of(about)
        held, wanted = digest(base / "model.safetensors"), str(about["base"])
        layout_of_rows = about["format"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelRefused(f"{file.name}: the reader does not load: {error!r}") from error
    if wanted.rpartition(":")[2] != held:
        raise ModelRefused(f"{weights.name} is for another base: {wanted}, not {held}")
    if layout_of_rows != FORMAT:
        raise ModelRefused(f"{weights.name} reads {layout_of_rows}, not {FORMAT}")
    return about


class Reader:
    """The reader as a reranker: a score is P(the passage answers).

    The span is the reader's where it is sure of it, else the best sentence of `interim`, which
    looks at words and cosines and is run for those passages alone.
    Measured against `interim` and against mixtures of the two: reader.md.
    """

    MIN_CONFIDENCE = 0.1

    def __init__(
        self,
        passages: PassageReader,
        calibration: Calibration,
        interim: InterimReranker,
        label: str,
    ) -> None:
        self._passages = passages
        self._calibration = calibration
        self._interim = interim
        self._label = label

    @classmethod
    def open(
        cls,
        base: Path,
        interim: InterimReranker,
        weights: Path | None = None,
        *,
        n_threads: int = 0,
    ) -> Reader:
        """Return the reader of `weights` (default: the shipped ones) on the embedder in `base`.

        Raises:
            ModelNotFound: the weights or their description are not there.
            ModelRefused: they are for another base or another layout of rows, or torn.
        """
        weights = weights or WEIGHTS
        about = _described(weights, base)
        passages = PassageReader(base, weights, n_threads=n_threads)
        label = f"{passages.name} on {about['base']}"
        return cls(passages, Calibration.of(about), interim, label)

    @property
    def name(self) -> str:
        """Hash of the weights, and the base."""
        return self._label

    @property
    def is_calibrated(self) -> bool:
        """True: fitted on development questions."""
        return True

    @property
    def threshold(self) -> float:
        """Measured: `reader.json`."""
        return self._calibration.threshold

    def score(self, question: str, passages: Sequence[Passage]) -> list[Relevance]:
        """Return one Relevance a passage, with one mark that scores as its passage does."""
        if not passages:
            return []
        read = self._passages.read(question, passages)
        unsure = {i for i, r in enumerate(read) if (r.confidence or 0.0) < self.MIN_CONFIDENCE}
        spans = self._interim.features(question, passages, only=unsure)[1]
        found = []
        for i, reading in enumerate(read):
            span = spans[i] if i in unsure else (reading.start, reading.end)
            score = self._calibration.probability(reading.logit)
            marks: tuple[Mark, ...] = ()
            if span is not None and span[0] is not None and span[1] is not None:
                marks = (Mark(span[0], span[1], score),)
            found.append(Relevance(score, marks))
        return found
