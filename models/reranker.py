"""Opens the reranker that the configuration names, and holds the two that are not our own model.

    open_reranker(config.retrieve, embedder) -> Reranker

`reader` is the trained reader of `models.reader`, where its weights are shipped and fit. `interim`,
which is also what stands in for it and what `auto` is (see DEFAULT), is the scorer below, which
needs no training; a folder is a sentence-transformers cross-encoder. The caller handles `none`:
nothing is reranked then and nothing is opened.
"""

from __future__ import annotations

import math
import re
from collections.abc import Container, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from docqa.config import RetrieveConfig
from docqa.errors import ModelNotFound, ModelRefused
from docqa.protocols import Embedder, Passage, Relevance, Reranker
from docqa.wording import content_words, sentences

# What `auto` is. The reader ranks a little better, but picks wrong table rows and costs more than
# twice as much (models/weights/reader.md): it has to be asked for.
DEFAULT = "interim"


def open_reranker(config: RetrieveConfig, embedder: Embedder) -> Reranker:
    """Return the reranker that `config.reranker` names.

    Args:
        config: `reranker` is `auto`, `reader`, `interim` or the path of a cross-encoder folder.
        embedder: runs the interim scorer.

    Raises:
        ModelNotFound: the folder does not exist.
        ModelRefused: the folder holds no cross-encoder with a single score.
    """
    wanted = DEFAULT if config.reranker == "auto" else config.reranker
    if wanted == "reader":
        return _reader_or_interim(embedder)
    if wanted == "interim":
        return InterimReranker(embedder)
    return CrossEncoderReranker(Path(config.reranker).expanduser())


def _reader_or_interim(embedder: Embedder) -> Reranker:
    """Return the reader, or, where its weights are not there or do not fit, the interim scorer."""
    from models.embedder import packaged_folder
    from models.reader import Reader

    try:
        return Reader.open(packaged_folder(), InterimReranker(embedder))
    except (ModelNotFound, ModelRefused) as error:
        return InterimReranker(embedder, reason=str(error))


# ------------------------------------------------------------------ what kind of answer is asked

_DIGIT = re.compile(r"\d|\b(?:one|two|three|four|five|six|seven|eight|nine|ten|dozen|hundred)\b")
_DATE = re.compile(
    r"\b(?:1[0-9]|20)\d\d\b|\b\d{1,2}[:/.]\d\d\b|\b(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|"
    r"dec)[a-z]*\.? \d|\b(?:century|monday|tuesday|wednesday|thursday|friday|saturday|sunday)\b",
    re.IGNORECASE,
)
_NAME = re.compile(r"(?<=[^.!?\s] )[A-Z][\w.\-]+|\A[A-Z]\w+ [A-Z]\w+")
_REASON = re.compile(
    r"\b(?:because|due to|caused?|causes|so that|in order|reason|result|led to|since|therefore)\b",
    re.IGNORECASE,
)
_ASKED: tuple[tuple[re.Pattern[str], re.Pattern[str]], ...] = (
    (re.compile(r"\b(?:when|(?:what|which) (?:year|date|day|month|time|century))\b", re.I), _DATE),
    (
        re.compile(
            r"\bhow (?:many|much|long|often|far|old|tall|high|large|big|fast|deep|heavy|hot)\b|"
            r"\b(?:percent|percentage|number of|temperature|torque|pressure|price|cost)\b",
            re.I,
        ),
        _DIGIT,
    ),
    (re.compile(r"\b(?:who|whose|whom|where|(?:what|which) \w+'?s? name)\b", re.I), _NAME),
    (re.compile(r"\bwhy\b|\bwhat (?:caused?|causes|led)\b", re.I), _REASON),
)


def answer_pattern(question: str) -> re.Pattern[str] | None:
    """Return what an answer to `question` must contain; None where the question does not say."""
    for asked, expected in _ASKED:
        if asked.search(question):
            return expected
    return None


# ------------------------------------------------------------------ the interim scorer


@dataclass(frozen=True, slots=True)
class _Scored:
    """A sentence as the first, cheap look found it."""

    start: int
    end: int
    coverage: float  # 0 … 1: share of the question's idf that the sentence contains
    fits: float  # 1: the kind of answer asked for occurs; -1: not; 0: not known


class InterimReranker:
    """Scores without training: rare terms covered, nearest sentence, kind of answer.

    score = sigmoid(b + w · (coverage of the best sentence, coverage of passage and context,
    cosine of the question and its nearest sentence, does the answer's kind occur)), the weights
    fitted by logistic regression. Only the `N_EMBEDDED` sentences that cover most are embedded,
    so that 50 passages cost one batch of short texts. Scores rank; they are no probabilities.

    Measured (250 SQuAD questions of the development tenth, hybrid top 20 of 429 passages): R@1
    0.944 by fused rank -> 0.976, MRR@10 0.965 -> 0.986; the best sentence holds the answer in
    83 %. At `threshold` 2 % of the answerable questions are refused, 60 % of those whose passage
    is absent, and 6 % where a passage misleads: this is no judge of evidence.
    """

    N_EMBEDDED = 3
    BIAS = -10.9
    WEIGHTS = (2.6, 5.3, 11.2, 0.2)
    THRESHOLD = 0.03

    def __init__(self, embedder: Embedder, *, reason: str = "") -> None:
        """`reason`: why it stands in for the reader, if it does."""
        self._embedder = embedder
        self._reason = reason

    @property
    def name(self) -> str:
        """Identity of the formula and of the embedder under it, and why it is used."""
        suffix = f" ({self._reason})" if self._reason else ""
        return f"interim/1 on {self._embedder.name}{suffix}"

    @property
    def is_calibrated(self) -> bool:
        """False: the weights were fitted on one domain."""
        return False

    @property
    def threshold(self) -> float:
        """Measured: see the class."""
        return self.THRESHOLD

    def score(self, question: str, passages: Sequence[Passage]) -> list[Relevance]:
        """Return one Relevance a passage; the answer span is its best sentence."""
        if not passages:
            return []
        features, spans = self.features(question, passages)
        found = []
        for row, span in zip(features, spans, strict=True):
            logit = self.BIAS + sum(w * f for w, f in zip(self.WEIGHTS, row, strict=True))
            score = 1.0 / (1.0 + math.exp(-logit))
            start, end = span if span else (None, None)
            found.append(Relevance(score, start, end, row[0] if span else None))
        return found

    def features(
        self, question: str, passages: Sequence[Passage], only: Container[int] | None = None
    ) -> tuple[list[tuple[float, float, float, float]], list[tuple[int, int] | None]]:
        """Return the four features of each passage and the span of its best sentence.

        With `only`, sentences are looked for in the passages of those indices; all weigh the words.
        """
        asked = set(content_words(question))
        bags = [set(content_words(f"{p.context}\n{p.text}")) for p in passages]
        idf = {
            t: math.log(1.0 + (len(bags) + 1) / (0.5 + sum(t in b for b in bags))) for t in asked
        }
        total = sum(idf.values()) or 1.0
        expected = answer_pattern(question)
        looked = [
            _look(p.text, idf, total, expected)[: self.N_EMBEDDED]
            if only is None or i in only
            else []
            for i, p in enumerate(passages)
        ]
        cosines = self._cosines(question, passages, looked)

        features: list[tuple[float, float, float, float]] = []
        spans: list[tuple[int, int] | None] = []
        for bag, read, near in zip(bags, looked, cosines, strict=True):
            whole = sum(weight for term, weight in idf.items() if term in bag) / total
            if not read:
                features.append((0.0, whole, 0.0, 0.0))
                spans.append(None)
                continue
            merit = [s.coverage + c + 0.1 * s.fits for s, c in zip(read, near, strict=True)]
            best = read[max(range(len(merit)), key=merit.__getitem__)]
            features.append((read[0].coverage, whole, max(near), best.fits))
            spans.append((best.start, best.end))
        return features, spans

    def _cosines(
        self, question: str, passages: Sequence[Passage], looked: Sequence[Sequence[_Scored]]
    ) -> list[list[float]]:
        """Return, aligned with `looked`, the cosine of question and sentence."""
        texts = [
            passage.text[s.start : s.end]
            for passage, read in zip(passages, looked, strict=True)
            for s in read
        ]
        if not texts:
            return [[] for _ in looked]
        unique = list(dict.fromkeys(texts))
        near = self._embedder.embed_documents(unique) @ self._embedder.embed_query(question)
        cosine = dict(zip(unique, near.tolist(), strict=True))
        following = iter(texts)
        return [[cosine[next(following)] for _ in read] for read in looked]


def _look(
    text: str, idf: dict[str, float], total: float, expected: re.Pattern[str] | None
) -> list[_Scored]:
    """Return the sentences of `text`, those that cover most of the question first."""
    found = []
    for start, end in sentences(text):
        sentence = text[start:end]
        terms = set(content_words(sentence))
        coverage = sum(weight for term, weight in idf.items() if term in terms) / total
        fits = 0.0 if expected is None else (1.0 if expected.search(sentence) else -1.0)
        found.append(_Scored(start, end, coverage, fits))
    return sorted(found, key=lambda s: (-s.coverage - 0.1 * s.fits, s.start))


# ------------------------------------------------------------------ a cross-encoder by folder


class CrossEncoderReranker:
    """Any sentence-transformers cross-encoder with one output, from a folder on this machine.

    Its scores rank. They are no probabilities of ours, so `threshold` lets everything pass unless
    the configuration sets `retrieve.min_relevance`.
    """

    def __init__(self, folder: Path, batch_size: int = 32) -> None:
        if not folder.is_dir():
            raise ModelNotFound(
                f"reranker '{folder}': no such folder; "
                "set retrieve.reranker to auto, none or a cross-encoder folder"
            )
        self._folder = folder
        self._batch_size = batch_size
        self._model = _load_cross_encoder(folder)

    @property
    def name(self) -> str:
        """The folder's name."""
        return f"cross-encoder {self._folder.name}"

    @property
    def is_calibrated(self) -> bool:
        """False: nothing is known of the scale."""
        return False

    @property
    def threshold(self) -> float:
        """Below every score."""
        return -math.inf

    def score(self, question: str, passages: Sequence[Passage]) -> list[Relevance]:
        """Return one Relevance a passage, without spans."""
        if not passages:
            return []
        pairs = [(question, f"{p.context}\n{p.text}" if p.context else p.text) for p in passages]
        scores = self._model.predict(
            pairs, batch_size=self._batch_size, show_progress_bar=False, convert_to_numpy=True
        )
        return [Relevance(float(score)) for score in scores]


def _load_cross_encoder(folder: Path) -> Any:
    """Return the model of `folder`, read from the disk alone. Imports torch: seconds."""
    from sentence_transformers import CrossEncoder

    try:
        model = CrossEncoder(str(folder), local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise ModelRefused(f"reranker '{folder}': not a cross-encoder folder: {error}") from error
    if model.num_labels != 1:
        raise ModelRefused(
            f"reranker '{folder}': it has {model.num_labels} outputs; one score is needed"
        )
    return model
