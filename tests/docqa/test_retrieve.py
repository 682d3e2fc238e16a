from dataclasses import replace

from docqa import retrieve as r
from docqa.config import RetrieveConfig
from docqa.protocols import Relevance
from docqa.types import BlockKind, Document, Hit, Kind, Scope, State
from tests.docqa.make import chunk
from tests.fakes import OverlapReranker


class FixedIndex:
    def __init__(self, *ids):
        self.ids = ids

    def add(self, chunks):
        raise AssertionError

    def remove(self, doc_id):
        raise AssertionError

    def search(self, query, k, scope):
        return [Hit(i, 1.0 / n) for n, i in enumerate(self.ids[:k], 1)]


DOCUMENT = Document(1, "/docs/pump.pdf", "0", Kind.PDF, "Pump", 1, 2_000_000_000, State.INDEXED, 9)


def load(texts):
    return lambda ids: [(chunk(texts[i], chunk_id=i), DOCUMENT) for i in ids if i in texts]


def test_fusion_equals_the_formula_and_ties_go_by_id():
    fused = r.reciprocal_rank_fusion([[Hit(1, 9), Hit(2, 8)], [Hit(2, 1), Hit(3, 0)]], 60)
    assert fused == {1: 1 / 61, 2: 1 / 62 + 1 / 61, 3: 1 / 62}


def run(question, lexical, dense, texts, reranker=None, **settings):
    return r.retrieve(
        question,
        lexical=FixedIndex(*lexical) if lexical is not None else None,
        dense=FixedIndex(*dense) if dense is not None else None,
        load=load(texts),
        reranker=reranker,
        scope=Scope(),
        settings=replace(RetrieveConfig(), **settings),
    )


def test_ranks_of_both_indexes_are_kept():
    found = run("q", [1, 2], [2], {1: "a", 2: "b"}).candidates
    assert [(c.chunk.chunk_id, c.lexical_rank, c.dense_rank) for c in found] == [
        (2, 2, 1),
        (1, 1, None),
    ]
    assert found[0].path == "/docs/pump.pdf" and found[0].modified_s == 2.0


def test_one_index_alone_works_and_gone_chunks_are_left_out():
    assert [c.chunk.chunk_id for c in run("q", [7, 1], None, {1: "a"}).candidates] == [1]


def test_reranking_orders_and_cuts():
    texts = {1: "nothing here", 2: "seal torque table", 3: "the seal"}
    found = run("seal torque", [1, 2, 3], [], texts, OverlapReranker())
    assert [c.chunk.chunk_id for c in found.kept] == [2, 3]
    assert found.candidates[-1].dropped == r.NO_EVIDENCE
    strict = run("seal torque", [1, 2, 3], [], texts, OverlapReranker(), min_relevance=0.9)
    assert [c.chunk.chunk_id for c in strict.kept] == [2]


def test_only_the_first_are_reranked_and_the_rest_says_so():
    texts = {1: "seal torque", 2: "seal torque again"}
    found = run("seal torque", [1, 2], [], texts, OverlapReranker(), n_rerank=1)
    assert [c.dropped for c in found.candidates] == [None, r.NOT_RERANKED]


def test_copies_are_dropped_but_short_rows_are_not():
    long = "the mechanical seal must be replaced after two thousand hours of continuous operation"
    texts = {1: long, 2: long + ".", 3: "A | 1", 4: "A | 1"}
    found = run("seal", [1, 2, 3, 4], [], texts)
    assert [c.dropped for c in found.candidates] == [None, r.DUPLICATE, None, None]


def test_a_passage_about_a_sibling_of_what_the_question_names_is_no_evidence():
    texts = {
        1: "Rated power TWX 40: 3.0 kW, TWX 65: 7.5 kW",
        2: "The TWX 80 is described in a manual of its own.",
        3: "The rated power is given on the plate.",
    }
    found = run("rated power of the TWX 80", [1, 2, 3], [], texts)
    assert {c.chunk.chunk_id: c.dropped for c in found.candidates} == {
        1: r.OTHER_THING,
        2: None,
        3: None,
    }
    nowhere = run("rated power of the TWX 25", [1, 3], [], texts)
    assert {c.dropped for c in nowhere.candidates} == {r.OTHER_THING}


def test_a_contents_page_is_no_evidence():
    contents = "Seals . . . . . . 14\nBearings . . . . . . 15\nTorques . . . . . . . 20"
    found = run("seals", [1, 2], [], {1: contents, 2: "Seals are replaced."})
    assert [c.dropped for c in found.candidates] == [r.CONTENTS, None]
    short = run("seals", [1], [], {1: "Seals … 14 1.1 Bearings … 15 1.2 Torques … 20"})
    assert [c.dropped for c in short.candidates] == [r.CONTENTS]


def test_a_passage_with_the_code_asked_for_is_evidence_whatever_its_score():
    texts = {1: "Fault: E13 | Remedy: replace the sensor", 2: "Fault: E14 | Remedy: wait"}
    question = "The display shows E13, so what is wrong and what should I do now?"
    found = run(question, [1, 2], [], texts, OverlapReranker(), min_relevance=0.9)
    assert [c.chunk.chunk_id for c in found.kept] == [1]


class Doubts(OverlapReranker):
    """Scores as the other, with a trained reader's word on it."""

    def __init__(self, read_score):
        self.read_score = read_score

    def score(self, question, passages):
        return [replace(v, read_score=self.read_score) for v in super().score(question, passages)]


def test_the_code_alone_is_no_evidence_where_the_reader_doubts_it():
    texts = {1: "Fault: E13 | Remedy: replace the sensor"}
    question = "Which password does the display that shows E13 have?"
    for chance, n_kept in ((0.5, 1), (0.01, 0), (None, 1)):
        found = run(question, [1], [], texts, Doubts(chance), min_relevance=0.9)
        assert len(found.kept) == n_kept, chance


class Queried(FixedIndex):
    """Gives the second of its hits first where it is asked for codes alone."""

    def __init__(self, *ids):
        super().__init__(*ids)
        self.asked = []

    def search(self, query, k, scope):
        self.asked.append((query, k))
        ids = self.ids if " " in query else self.ids[::-1]
        return [Hit(i, 1.0 / n) for n, i in enumerate(ids[:k], 1)]


def test_a_path_in_a_question_is_searched_for_alone_too():
    texts = {i: f"passage {i}" for i in range(1, 31)}

    def ranked(question):
        index = Queried(*texts)
        found = r.retrieve(
            question, lexical=index, dense=None, load=load(texts), reranker=None, scope=Scope(),
            settings=RetrieveConfig(),
        )  # fmt: skip
        return [c.chunk.chunk_id for c in found.candidates], index.asked

    plain, asked = ranked("which agent asked for the page")
    assert plain == list(texts) and len(asked) == 1
    coded, asked = ranked("which agent asked for /a/b.html")
    assert asked[1] == ("/a/b.html", r.N_CODES)
    assert coded.index(30) < plain.index(30)


def test_of_a_log_chunk_the_part_that_reads_best_is_kept():
    lines = [f"2026-03-01T10:00:{i:02}Z INFO request {i} of the seal press done" for i in range(50)]
    lines[3] = "2026-03-01T10:00:03Z INFO seal press torque torque torque unknown reason"
    lines[45] = "2026-03-01T10:00:45Z INFO torque 45 Nm"
    record = chunk("\n".join(lines), chunk_id=1, line=1, kind=BlockKind.RECORD)

    class Reads:
        threshold = 0.1

        def score(self, query, passages):
            self.n_read = len(passages)
            return [Relevance(0.9 if "45 Nm" in p.text else 0.2, ()) for p in passages]

    reads = Reads()
    found = r.retrieve(
        "press torque reason",
        lexical=FixedIndex(1),
        dense=None,
        load=lambda ids: [(record, DOCUMENT)],
        reranker=reads,
        scope=Scope(),
        settings=RetrieveConfig(),
    )
    (one,) = found.candidates
    assert reads.n_read == 2 and "45 Nm" in one.chunk.text and one.rerank_score == 0.9
    assert one.chunk.span.locator.first <= 46 <= one.chunk.span.locator.last


def test_doubtful_passages_are_evidence_only_where_there_is_no_other():
    def judged(*scores):
        candidates = run("q", range(1, len(scores) + 1), None, dict.fromkeys(range(1, 9), "a"))
        return r.Retrieval(
            tuple(
                replace(c, rerank_score=s, dropped=r.NO_EVIDENCE if s < 0.04 else None)
                for c, s in zip(candidates.candidates, scores, strict=True)
            ),
            0.0,
            0.0,
        )

    assert len(judged(0.03, 0.02, 0.01, 0.006, 0.001).with_doubtful().kept) == r.N_DOUBTFUL
    assert len(judged(0.006, 0.001).with_doubtful().kept) == 1
    assert judged(0.001).with_doubtful().kept == ()
    assert len(judged(0.05, 0.03).with_doubtful().kept) == 1
    cut = judged(0.03)
    others = tuple(replace(c, dropped=r.DUPLICATE) for c in cut.candidates)
    assert replace(cut, candidates=others).with_doubtful().kept == ()
