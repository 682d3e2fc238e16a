"""Question → candidates: search both indexes, fuse ranks, rerank, drop what is no evidence.

Every candidate leaves with all its ranks and scores, and those that are not evidence with the
reason: `docqa ask --explain` shows exactly what happened here.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from docqa.config import RetrieveConfig
from docqa.named import Heads, named_documents, within
from docqa.narrow import narrowed, rarity
from docqa.protocols import Passage, Relevance, Reranker, SearchIndex
from docqa.types import Candidate, Chunk, Document, Hit, Scope
from docqa.wording import (
    codes,
    content_words,
    family,
    has_identifier,
    identifiers,
    similarity,
)

DUPLICATE_SIMILARITY = 0.9  # of the word sets of two passages
MIN_DUPLICATE_WORDS = 8  # two short table rows are not the same passage

N_PARTED = 12  # log chunks, the first, of which more than one part is read …
N_PARTS = 2  # … so many
N_CODES = 20  # passages that only the codes of a question bring
CODE_RANK = 5  # so far down a passage with the question's codes is evidence whatever its score
MIN_CODE_READ = 0.1  # … unless the trained reader gives it less: the code alone answers nothing
MIN_DOUBTFUL = 0.004  # of a score: less than that nothing reads as an answer
N_DOUBTFUL = 3
MIN_LEADERS = 3  # "Seals . . . . . . 14"
_LEADERS = re.compile(r"(?:(?:\. ?){5,}|…+)\s*\d+")

NO_EVIDENCE = "below the threshold of relevance"
NOT_RERANKED = "fused rank too low to be reranked"
CONTENTS = "a table of contents"
OTHER_THING = "lacks what the question names"
OTHER_DOCUMENT = "of another document than the question names"
DUPLICATE = "same text as a better candidate"


Load = Callable[[Sequence[int]], list[tuple[Chunk, Document]]]
"""Chunk ids → (chunk, its document), in the order asked; ids that are gone are left out."""


@dataclass(frozen=True, slots=True)
class Retrieval:
    """All candidates, best first. Those with `dropped` None are evidence."""

    candidates: tuple[Candidate, ...]
    retrieve_s: float
    rerank_s: float

    @property
    def kept(self) -> tuple[Candidate, ...]:
        """The candidates that are evidence, best first."""
        return tuple(c for c in self.candidates if c.dropped is None)

    def with_doubtful(self) -> Retrieval:
        """Return the same with the best of those below the threshold as evidence, where none is.

        For a model that refuses as far as the reader doubts (`docqa.refusal`): on JSON and other
        machine-written lines the scores are low for what answers, too.
        """
        doubtful = [
            i
            for i, c in enumerate(self.candidates)
            if c.dropped == NO_EVIDENCE and (c.rerank_score or 0.0) >= MIN_DOUBTFUL
        ][:N_DOUBTFUL]
        if self.kept or not doubtful:
            return self
        kept = {i: replace(self.candidates[i], dropped=None) for i in doubtful}
        return replace(
            self, candidates=tuple(kept.get(i, c) for i, c in enumerate(self.candidates))
        )


def reciprocal_rank_fusion(rankings: Sequence[Sequence[Hit]], rrf_k: int) -> dict[int, float]:
    """Return chunk_id → sum over rankings of 1 / (rrf_k + rank), ranks from 1.

    Source: Cormack, Clarke, Büttcher, "Reciprocal rank fusion outperforms Condorcet", SIGIR 2009.
    """
    fused: dict[int, float] = {}
    for ranking in rankings:
        for rank, hit in enumerate(ranking, start=1):
            fused[hit.chunk_id] = fused.get(hit.chunk_id, 0.0) + 1.0 / (rrf_k + rank)
    return fused


def retrieve(
    question: str,
    *,
    lexical: SearchIndex | None,
    dense: SearchIndex | None,
    load: Load,
    reranker: Reranker | None,
    scope: Scope,
    settings: RetrieveConfig,
    heads: Heads | None = None,
) -> Retrieval:
    """Return the candidates for `question` inside `scope`.

    With `heads`, a question that names a document (docqa/named.py) is asked of that one;
    only where it has no evidence, of all.

    An index that is None, or of which no hits are wanted (`n_lexical`, `n_dense` of 0), is left out
    (ablation, or a library without vectors yet). Without a reranker the order is that of the fused
    ranks and nothing falls below a threshold.
    """
    started = time.perf_counter()

    def search(query: str, limits: Scope) -> list[Candidate]:
        n_lexical, n_dense = settings.n_lexical, settings.n_dense
        lexical_hits = lexical.search(query, n_lexical, limits) if lexical and n_lexical else []
        dense_hits = dense.search(query, n_dense, limits) if dense and n_dense else []
        # Among many words a path or a host is one of many; it may be all that matters.
        named = " ".join(codes(query))
        code_hits = (
            lexical.search(named, N_CODES, limits) if lexical and n_lexical and named else []
        )
        return _fused(lexical_hits, dense_hits, code_hits, load, settings.rrf_k)

    def judge(queries: Sequence[str], candidates: list[Candidate]) -> list[Candidate]:
        """Read with each query: the question itself last, before it the one without names."""
        read, unread = candidates[: settings.n_rerank], candidates[settings.n_rerank :]
        rare = rarity(question, [c.chunk.text for c in candidates])
        n_parted = N_PARTED if reranker is not None else 0
        parts = [
            [
                replace(c, chunk=part)
                for part in narrowed(c.chunk, question, rare, N_PARTS if i < n_parted else 1)
            ]
            for i, c in enumerate(read)
        ]
        if reranker is None:
            candidates = [best for best, *_ in parts] + unread
        else:
            candidates = _reranked(queries, parts, reranker, settings)
            candidates += [replace(c, dropped=NOT_RERANKED) for c in unread]
        return _without_duplicates(_without_strangers(queries[0], candidates))

    found = search(question, scope)
    named = named_documents(question, found, heads, scope) if heads else None
    inside = search(named.question, within(scope, named)) if named else []
    retrieved = time.perf_counter()
    # A passage may repeat the name or not: it is read with it and without.
    candidates = judge(list(dict.fromkeys((named.question, question))), inside) if named else []
    if named and any(c.dropped is None for c in candidates):
        others = (c for c in found if c.chunk.span.doc_id not in named.doc_ids)
        candidates += [replace(c, dropped=OTHER_DOCUMENT) for c in others]
    else:
        candidates = judge([question], found)
    finished = time.perf_counter()
    return Retrieval(tuple(candidates), retrieved - started, finished - retrieved)


def _fused(
    lexical_hits: Sequence[Hit],
    dense_hits: Sequence[Hit],
    code_hits: Sequence[Hit],
    load: Load,
    rrf_k: int,
) -> list[Candidate]:
    fused = reciprocal_rank_fusion([lexical_hits, dense_hits, code_hits], rrf_k)
    order = sorted(fused, key=lambda chunk_id: (-fused[chunk_id], chunk_id))
    lexical_of = {hit.chunk_id: (rank, hit.score) for rank, hit in enumerate(lexical_hits, 1)}
    dense_of = {hit.chunk_id: (rank, hit.score) for rank, hit in enumerate(dense_hits, 1)}
    found = []
    for chunk, document in load(order):
        lexical_rank, lexical_score = lexical_of.get(chunk.chunk_id, (None, None))
        dense_rank, dense_score = dense_of.get(chunk.chunk_id, (None, None))
        found.append(
            Candidate(
                chunk=chunk,
                path=document.path,
                title=document.title,
                modified_s=document.mtime_ns / 1e9,
                lexical_rank=lexical_rank,
                dense_rank=dense_rank,
                lexical_score=lexical_score,
                dense_score=dense_score,
                rrf_score=fused[chunk.chunk_id],
            )
        )
    return found


def passage_of(candidate: Candidate) -> Passage:
    """Return what a reranker reads of a candidate."""
    return Passage(" > ".join((candidate.title, *candidate.chunk.headings)), candidate.chunk.text)


def _reranked(
    queries: Sequence[str],
    parted: Sequence[Sequence[Candidate]],
    reranker: Reranker,
    settings: RetrieveConfig,
) -> list[Candidate]:
    """Return the best part of each candidate, judged, best first."""
    passages = [passage_of(part) for parts in parted for part in parts]
    scored_by = [reranker.score(query, passages) for query in queries]
    verdicts = (_better(of_one) for of_one in zip(*scored_by, strict=True))
    threshold = settings.min_relevance if settings.min_relevance >= 0 else reranker.threshold
    wanted = identifiers(queries[-1])
    scored = []
    for parts in parted:
        judged = [_judged(part, next(verdicts), threshold, wanted) for part in parts]
        scored.append(max(judged, key=lambda c: c.rerank_score or 0.0))
    scored.sort(key=lambda c: (-(c.rerank_score or 0.0), -c.rrf_score, c.chunk.chunk_id))
    return scored


def _better(verdicts: Sequence[Relevance]) -> Relevance:
    """Return the verdict whose best mark is best, with the best score of all."""
    best = max(verdicts, key=lambda v: max((m.score for m in v.marks), default=v.score))
    return replace(best, score=max(v.score for v in verdicts))


def _judged(
    candidate: Candidate, verdict: Relevance, threshold: float, wanted: set[str]
) -> Candidate:
    """Return the candidate with its score; with every code asked for, at least the threshold.

    Not where the trained reader doubts it.
    """
    is_doubted = verdict.read_score is not None and verdict.read_score < MIN_CODE_READ
    has_codes = not is_doubted and _has_all_codes(candidate, wanted)
    score = max(verdict.score, threshold) if has_codes else verdict.score
    return replace(
        candidate,
        rerank_score=score,
        marks=verdict.marks,
        answers=verdict.answers,
        read_score=verdict.read_score,
        dropped=NO_EVIDENCE if score < threshold else None,
    )


def _has_all_codes(candidate: Candidate, wanted: set[str]) -> bool:
    """Return whether the words found a passage that has every code of the question (`E13`)."""
    rank = candidate.lexical_rank
    if not wanted or rank is None or rank > CODE_RANK:
        return False
    return all(has_identifier(code, candidate.chunk.text) for code in wanted)


def _without_strangers(question: str, candidates: list[Candidate]) -> list[Candidate]:
    """Mark contents pages, and passages about another thing than a code of the question names.

    A question about the TWX 80 is not answered by what is true of the TWX 40, however alike they
    read. A passage need not have the code itself, a manual names its model once; but then its
    document must have it, and the passage may not name a sibling of it.
    """
    wanted = identifiers(question)
    documents = {
        code: {c.chunk.span.doc_id for c in candidates if has_identifier(code, _all_text(c))}
        for code in wanted
    }
    marked = []
    for candidate in candidates:
        if candidate.dropped is None:
            if len(_LEADERS.findall(candidate.chunk.text)) >= MIN_LEADERS:
                candidate = replace(candidate, dropped=CONTENTS)
            elif any(_is_stranger(candidate, code, docs) for code, docs in documents.items()):
                candidate = replace(candidate, dropped=OTHER_THING)
        marked.append(candidate)
    return marked


def _all_text(candidate: Candidate) -> str:
    stem = Path(candidate.path).stem
    return " ".join((candidate.title, stem, *candidate.chunk.headings, candidate.chunk.text))


def _is_stranger(candidate: Candidate, code: str, documents: set[int]) -> bool:
    if candidate.chunk.span.doc_id not in documents:
        return True
    text = " ".join((*candidate.chunk.headings, candidate.chunk.text))
    if has_identifier(code, text):
        return False
    return any(family(other) == family(code) for other in identifiers(text))


def _without_duplicates(candidates: list[Candidate]) -> list[Candidate]:
    """Mark passages that say what a better one says (copies of a file, repeated boilerplate)."""
    kept: list[frozenset[str]] = []
    marked = []
    for candidate in candidates:
        if candidate.dropped is None:
            words = frozenset(content_words(candidate.chunk.text))
            is_long = len(words) >= MIN_DUPLICATE_WORDS
            if is_long and any(similarity(words, other) >= DUPLICATE_SIMILARITY for other in kept):
                candidate = replace(candidate, dropped=DUPLICATE)
            else:
                kept.append(words)
        marked.append(candidate)
    return marked
