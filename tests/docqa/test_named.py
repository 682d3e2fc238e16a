"""A question that names a document is asked of that one, with the name and without it."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from docqa import retrieve as r
from docqa.config import RetrieveConfig
from docqa.named import Named, file_words, named_documents, within
from docqa.types import Candidate, Document, Hit, Kind, Scope, State
from tests.docqa.make import chunk
from tests.fakes import OverlapReranker

CAUSE = "The probable cause of this accident was the {} of the pilot."
TEXTS = {  # by document: what its passages say
    1: ["Location: Venice, FL. Accident NYC08CA047", CAUSE.format("improper recovery")],
    2: ["Location: Elyria, OH. Accident CHI08CA048", CAUSE.format("loss of control")],
    3: [
        "Location: Death Valley, CA. Accident",
        CAUSE.format("improper flare"),
        "Seen from Elyria, OH.",
    ],
}
TEXTS[4] = ["An Accident insurance agreement made in Florida.", "The term is five years."]
FILES = {1: "NYC08.pdf", 2: "report.pdf", 3: "NARA2022.pdf", 4: "insurance.pdf"}


@dataclass
class Reports:
    """Three short reports: an index over them, their heads, and their passages."""

    def ids(self):
        return [(d, i) for d, texts in TEXTS.items() for i in range(len(texts))]

    def load(self, chunk_ids):
        found = []
        for chunk_id in chunk_ids:
            doc, i = divmod(chunk_id, 10)
            path = f"/docs/{FILES[doc]}"
            document = Document(doc, path, "0", Kind.PDF, "Report", 1, 0, State.INDEXED, 9)
            found.append((chunk(TEXTS[doc][i], chunk_id=chunk_id, doc_id=doc), document))
        return found

    def search(self, query, k, scope):
        inside = [(d, i) for d, i in self.ids() if scope.doc_ids is None or d in scope.doc_ids]
        return [Hit(10 * d + i, 1.0 / n) for n, (d, i) in enumerate(inside, 1)][:k]

    def heads(self, words, scope):
        return frozenset(d for d, texts in TEXTS.items() if words.lower() in texts[0].lower())


def candidates():
    return [
        Candidate(c, document.path, document.title, 0.0, 1, None, 1.0, None, 1.0)
        for c, document in Reports().load([10 * d + i for d, i in Reports().ids()])
    ]


@pytest.mark.parametrize(
    ("question", "doc_ids", "asked"),
    [
        (
            "What was the probable cause of the accident in Venice, Florida?",
            {1},
            "What was the probable cause of the accident?",
        ),
        (
            "What was the probable cause at Elyria, OH?",
            {2},
            "What was the probable cause?",
        ),
        ("probable cause in Death Valley", {3}, "probable cause"),
        ("Probable cause of the accident NYC08CA047", {1}, "Probable cause of the accident"),
        ("What is NARA's main goal?", {3}, "What is main goal?"),
        ("Where is Venice?", {1}, "Where is Venice?"),  # nothing would be left to ask
        # in small letters: a name has its capital wherever the passages have it
        ("probable cause of the accident in venice", {1}, "probable cause of the accident"),
        ("what was the probable cause in death valley?", {3}, "what was the probable cause?"),
        ("what was the probable cause of NYC08CA047", {1}, "what was the probable cause"),
    ],
)
def test_the_named_document_is_found_and_the_name_cut(question, doc_ids, asked):
    named = named_documents(question, candidates(), Reports().heads, Scope())
    assert named == Named(frozenset(doc_ids), asked)


@pytest.mark.parametrize(
    "question",
    [
        "What was the probable cause?",
        "Probable cause of the accident",
        "What was the probable cause in Maui?",  # of no document
        "Is Venice or Elyria the worse accident?",  # of two
        "What Was The Probable Cause Of The Venice Accident Really?",  # capitals mean nothing
        "Which Accident happened in March?",  # of all, and a month
        "which recovery was improper",  # words that are no names
        "which accident was seen from venice or elyria",
    ],
)
def test_no_document_is_named(question):
    assert named_documents(question, candidates(), Reports().heads, Scope()) is None


def test_two_names_to_one_are_enough():
    question = "Was the cause of CHI08CA048 at Elyria that of Venice?"
    named = named_documents(question, candidates(), Reports().heads, Scope())
    assert named is not None and named.doc_ids == {2}


def test_a_code_with_siblings_in_its_document_tells_passages_apart(monkeypatch):
    monkeypatch.setitem(TEXTS, 1, ["The TWX 40 and the TWX 65", "TWX 65: 66 Nm"])
    question = "Which torque does the cover of the TWX 40 need?"
    assert named_documents(question, candidates(), Reports().heads, Scope()) is None


def test_one_document_needs_no_narrowing():
    alone = [c for c in candidates() if c.chunk.span.doc_id == 1]
    assert named_documents("the cause in Venice", alone, Reports().heads, Scope()) is None


def test_a_scope_is_only_made_narrower():
    named = Named(frozenset({1, 2}), "q")
    assert within(Scope(), named).doc_ids == {1, 2}
    assert within(Scope(frozenset({2, 3}), since=1.0), named) == Scope(frozenset({2}), since=1.0)


def retrieve(question, reranker):
    reports = Reports()
    return r.retrieve(
        question,
        lexical=reports,
        dense=None,
        load=reports.load,
        reranker=reranker,
        scope=Scope(),
        settings=RetrieveConfig(min_relevance=0.6),
        heads=reports.heads,
    )


def test_the_passage_of_the_named_document_wins_though_it_lacks_the_name():
    found = retrieve("probable cause of the accident in Elyria", OverlapReranker())
    assert found.kept[0].chunk.text == CAUSE.format("loss of control")
    assert {c.chunk.span.doc_id for c in found.kept} == {2}
    others = {c.dropped for c in found.candidates if c.chunk.span.doc_id != 2}
    assert others == {r.OTHER_DOCUMENT}


def test_where_the_named_document_has_no_evidence_all_are_asked():
    found = retrieve("who was seen from Elyria", OverlapReranker())
    assert [c.chunk.text for c in found.kept] == ["Seen from Elyria, OH."]


@pytest.mark.parametrize(
    ("path", "called"),
    [
        ("/d/PfHospitalityGroupInc_20150923_EX-10.1.pdf", {"pfhospitality", "hospitality", "pf"}),
        ("/d/NARA2022.pdf", {"nara", "2022", "nara2022"}),
        ("/d/pump_manual TWX65-v2.pdf", {"pumpmanual", "twx65", "manual"}),
        ("/d/Prüfbericht Köln.pdf", {"prüfbericht", "köln"}),
    ],
)
def test_a_file_is_called_by_the_words_of_its_name(path, called):
    assert called <= file_words(path)
    assert not file_words(path) & {"p", "group inc", "hospitalityinc", "anual"}
