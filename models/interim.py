"""The interim scorer: what is evidence by words and meaning, and which sentences of it answer.

    InterimReranker(embedder, lambda: PassageReader.open(folder)) -> a docqa.protocols.Reranker

Passages are scored without training, by a formula that was fitted once, and, where the trained
reader is at hand, by what it makes of them: the log-odds of both are averaged. In the few best each
sentence is then looked at: by its words, its meaning, the kind of value that the question asks for
(`docqa.asked`), and by whether the reader would begin an answer in it. The reader knows prose, the
words know table rows and lines of logs; their sum is better at both (models/weights/reader.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from docqa.asked import Asked, asked_for
from docqa.errors import ModelNotFound, ModelRefused
from docqa.odds import log_odds
from docqa.protocols import Embedder, Passage, Relevance
from docqa.types import Mark
from docqa.wording import (
    content_words,
    field_share,
    identifiers,
    sentences,
    without_empty_fields,
    without_identifiers,
)

if TYPE_CHECKING:
    from models.reader import Look, PassageReader

Features = tuple[float, float, float, float]

READ_SHARE = 0.65  # of the reader in the score of a passage
LEAST_LOGIT = -5.0  # of words and meaning: below it a passage is of something else, however read
LEAST_CHANCE = 1e-6  # of the reader's P
N_CLOSE = 4  # passages whose every sentence is looked at: more of them changed no answer
N_MARKS = 3  # sentences marked in a passage
MAX_SENTENCES = 24  # looked at in a passage, those that cover most
MIN_WORDS = 3  # a sentence of fewer content words is a heading
COVERAGE, COSINE, FIT, READER, PASSAGE = 1.0, 1.0, 0.5, 0.1, 0.15
FIELD, MIN_FIELD = 0.5, 0.5  # a weight, and the share below which a name is another field's
UNREAD = -8.0  # log-probability of a sentence in which the reader would begin no answer


@dataclass(frozen=True, slots=True)
class _Sentence:
    """A sentence as the first, cheap look found it."""

    start: int
    end: int
    coverage: float  # 0 … 1: share of the question's idf that the sentence contains
    fits: float  # 1: the kind of value asked for occurs; -1: not; 0: not known
    field: float  # share of a field's name that is asked for: `Rated Power: 160 hp`
    n_words: int


class InterimReranker:
    """Scores without training: rare terms covered, nearest sentence, kind of answer.

    score = sigmoid(b + w · (coverage of the best sentence, coverage of passage and context,
    cosine of the question and its nearest sentence, does the answer's kind occur)), the weights
    fitted by logistic regression. Only the `N_EMBEDDED` sentences that cover most are embedded,
    so that 50 passages cost one batch of short texts. Scores rank; they are no probabilities.

    Measured (250 SQuAD questions of the development tenth, hybrid top 20 of 429 passages): R@1
    0.944 by fused rank -> 0.976, MRR@10 0.965 -> 0.986. At `threshold` 2 % of the answerable
    questions are refused, 60 % of those whose passage is absent, and 6 % where a passage misleads:
    this is no judge of evidence.

    A mark's score is coverage + cosine + FIT · fits + FIELD · field + READER · log P(the reader
    answers here) + PASSAGE · logit(score of the passage); how well that chooses: reader.md.
    """

    N_EMBEDDED = 3
    BIAS = -10.9
    WEIGHTS = (2.6, 5.3, 11.2, 0.2)
    THRESHOLD, JOINT_THRESHOLD = 0.03, 0.075

    def __init__(
        self, embedder: Embedder, open_reader: Callable[[], PassageReader] | None = None
    ) -> None:
        """`open_reader`: opens what marks the answer too, at the first question."""
        self._embedder = embedder
        self._open_reader = open_reader
        self._reason = ""

    @cached_property
    def _reader(self) -> PassageReader | None:
        if self._open_reader is None:
            return None
        try:
            return self._open_reader()
        except (ModelNotFound, ModelRefused) as error:
            self._reason = str(error)
            return None

    @property
    def name(self) -> str:
        """Identity of the formula and of the models under it, and what is missing."""
        read = f", with {self._reader.name}" if self._reader else ""
        suffix = f" ({self._reason})" if self._reason else ""
        return f"interim/3 on {self._embedder.name}{read}{suffix}"

    @property
    def is_calibrated(self) -> bool:
        """False: the weights were fitted on one domain."""
        return False

    @property
    def threshold(self) -> float:
        """Measured: see the class; where the reader has its say, models/weights/reader.md."""
        return self.THRESHOLD if self._reader is None else self.JOINT_THRESHOLD

    def score(self, question: str, passages: Sequence[Passage]) -> list[Relevance]:
        """Return one Relevance a passage; the marks are its best sentences."""
        if not passages:
            return []
        look = _Look(question, passages)
        found_in = [look.sentences(p.text) for p in passages]
        features, spans = self._features(question, passages, look, found_in)
        logits = [
            self.BIAS + sum(w * f for w, f in zip(self.WEIGHTS, row, strict=True))
            for row in features
        ]
        looked = [_without_headings(read[:MAX_SENTENCES]) for read in found_in]
        looks: Sequence[Look | None] = [None] * len(passages)
        if self._reader is not None:
            ends = [[(s.start, s.end) for s in read] for read in looked]
            looks = self._reader.look(question, passages, ends)
            logits = [_joint(logit, seen) for logit, seen in zip(logits, looks, strict=True)]
        best = sorted(range(len(passages)), key=logits.__getitem__, reverse=True)[:N_CLOSE]
        close = {i: (looked[i], looks[i]) for i in best}
        marks = self._marks(question, passages, close, logits)
        found = []
        for i, (logit, row, span, seen) in enumerate(
            zip(logits, features, spans, looks, strict=True)
        ):
            quick = (
                (Mark(*span, _merit(row[0], row[2], row[3], 0.0, UNREAD, logit)),) if span else ()
            )
            relevance = Relevance(1.0 / (1.0 + math.exp(-logit)), marks.get(i) or quick)
            if seen is not None:
                relevance = replace(relevance, read_score=seen.score, answers=tuple(seen.answers))
            found.append(relevance)
        return found

    def features(
        self, question: str, passages: Sequence[Passage], only: Container[int] | None = None
    ) -> tuple[list[Features], list[tuple[int, int] | None]]:
        """Return the four features of each passage and the span of its best sentence.

        With `only`, sentences are looked for in the passages of those indices; all weigh the words.
        """
        look = _Look(question, passages)
        found_in = [
            look.sentences(p.text) if only is None or i in only else []
            for i, p in enumerate(passages)
        ]
        return self._features(question, passages, look, found_in)

    def _features(
        self,
        question: str,
        passages: Sequence[Passage],
        look: _Look,
        found_in: Sequence[list[_Sentence]],
    ) -> tuple[list[Features], list[tuple[int, int] | None]]:
        looked = [read[: self.N_EMBEDDED] for read in found_in]
        cosines = self._cosines(question, passages, looked)
        features: list[Features] = []
        spans: list[tuple[int, int] | None] = []
        for bag, read, near in zip(look.bags, looked, cosines, strict=True):
            whole = look.coverage(bag)
            if not read:
                features.append((0.0, whole, 0.0, 0.0))
                spans.append(None)
                continue
            merit = [s.coverage + c + 0.1 * s.fits for s, c in zip(read, near, strict=True)]
            best = read[max(range(len(merit)), key=merit.__getitem__)]
            features.append((read[0].coverage, whole, max(near), best.fits))
            spans.append((best.start, best.end))
        return features, spans

    def _marks(
        self,
        question: str,
        passages: Sequence[Passage],
        close: Mapping[int, tuple[list[_Sentence], Look | None]],
        logits: Sequence[float],
    ) -> dict[int, tuple[Mark, ...]]:
        """Return the best sentences of the passages in `close`, by their index."""
        chosen = [passages[i] for i in close]
        cosines = self._cosines(question, chosen, [read for read, _ in close.values()])
        found = {}
        for (i, (read, seen)), near in zip(close.items(), cosines, strict=True):
            begins = seen.sentences if seen else [0.0] * len(read)
            marks = [
                Mark(
                    s.start,
                    s.end,
                    _merit(s.coverage, cosine, s.fits, s.field, log_p, logits[i]),
                )
                for s, cosine, log_p in zip(read, near, begins, strict=True)
            ]
            found[i] = tuple(sorted(marks, key=lambda m: (-m.score, m.start))[:N_MARKS])
        return found

    def _cosines(
        self, question: str, passages: Sequence[Passage], looked: Sequence[Sequence[_Sentence]]
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


def _merit(
    coverage: float, cosine: float, fits: float, field: float, log_p: float, logit: float
) -> float:
    """Return the score of a mark: `InterimReranker`."""
    return (
        COVERAGE * coverage
        + COSINE * cosine
        + FIT * fits
        + FIELD * field
        + READER * max(UNREAD, log_p)
        + PASSAGE * logit
    )


def _joint(words: float, seen: Look | None) -> float:
    """Return the log-odds of a passage, of words and meaning, with what the reader says of it."""
    if seen is None or words < LEAST_LOGIT:
        return words
    return (1 - READ_SHARE) * words + READ_SHARE * log_odds(seen.score, LEAST_CHANCE)


class _Look:
    """What a question looks for: its words, weighed by how few of the passages have them."""

    def __init__(self, question: str, passages: Sequence[Passage]) -> None:
        self.bags = [set(content_words(f"{p.context}\n{p.text}")) for p in passages]
        n = len(self.bags)
        self._idf = {
            term: math.log(1.0 + (n + 1) / (0.5 + sum(term in bag for bag in self.bags)))
            for term in set(content_words(question))
        }
        self._total = sum(self._idf.values()) or 1.0
        named = without_identifiers(question, identifiers(question))
        self._wanted = frozenset(content_words(named))
        self._asked: Asked | None = asked_for(question)

    def coverage(self, words: Container[str]) -> float:
        """Return the share of the question's idf that `words` have."""
        return sum(idf for term, idf in self._idf.items() if term in words) / self._total

    def sentences(self, text: str) -> list[_Sentence]:
        """Return the sentences of `text`, those that cover most of the question first."""
        found = []
        for start, end in sentences(text):
            sentence = text[start:end]
            words = content_words(without_empty_fields(sentence))
            fits = 0.0
            if self._asked is not None:
                fits = 1.0 if self._asked.fits(sentence) else -1.0
            share = field_share(sentence, self._wanted)
            field = share if share >= MIN_FIELD else 0.0
            covered = self.coverage(set(words))
            found.append(_Sentence(start, end, covered, fits, field, len(words)))
        return sorted(found, key=lambda s: (-s.coverage - 0.1 * s.fits, s.start))


def _without_headings(read: list[_Sentence]) -> list[_Sentence]:
    return [s for s in read if s.n_words >= MIN_WORDS] or read
