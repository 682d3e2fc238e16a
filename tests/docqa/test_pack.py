from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from docqa import pack as p
from docqa.config import AnswerConfig
from docqa.errors import ContextOverflow
from docqa.types import BlockKind, Mark
from tests.docqa.make import candidate, chunk
from tests.fakes import ScriptedEngine

SETTINGS = AnswerConfig(max_tokens=50)


def run(question, candidates, context_length=4096, **settings):
    engine = ScriptedEngine(context_length=context_length)
    return p.pack(question, candidates, engine=engine, settings=replace(SETTINGS, **settings))


def test_strongest_evidence_stands_at_both_ends():
    texts = ["alpha one", "beta two", "gamma three", "delta four"]
    found = run(
        "q", [candidate(t, score=0.9 - i / 10, chunk_id=i, doc_id=i) for i, t in enumerate(texts)]
    )
    assert [e.chunk.text for e in found.evidence] == [texts[0], texts[2], texts[3], texts[1]]
    assert [e.marker for e in found.evidence] == [1, 2, 3, 4]


def test_logs_stand_in_the_order_of_time():
    found = run(
        "q",
        [
            candidate(
                f"event {t}",
                score=s,
                chunk_id=t,
                doc_id=t,
                line=t,
                time=float(t),
                kind=BlockKind.RECORD,
            )
            for t, s in ((5, 0.9), (2, 0.5), (9, 0.7))
        ],
    )
    assert [e.chunk.time_first for e in found.evidence] == [2.0, 5.0, 9.0]


def test_what_is_dropped_is_not_packed_and_the_rest_has_a_reason():
    many = [candidate(f"word{i} text", score=0.9, chunk_id=i, doc_id=i) for i in range(5)]
    found = run("q", [replace(many[0], dropped="x"), *many[1:]], k=2)
    assert len(found.evidence) == 2
    assert [c.dropped for c in found.dropped] == [p.OVER_COUNT, p.OVER_COUNT]
    tight = run("q", many, evidence_tokens=40)
    assert {c.dropped for c in tight.dropped} == {p.OVER_BUDGET}


def test_a_repetition_loses_to_what_covers_the_question():
    first = candidate("the seal is made of carbon", score=0.9, chunk_id=1, doc_id=1)
    again = candidate("the seal is made of carbon too", score=0.8, chunk_id=2, doc_id=2)
    other = candidate("torque of the casing bolts", score=0.7, chunk_id=3, doc_id=3)
    found = run("seal material and bolt torque", [first, again, other], k=2)
    assert {e.chunk.chunk_id for e in found.evidence} == {1, 3}


def test_the_latest_wins_only_where_the_question_asks_for_it():
    old = replace(candidate("limit is 3 bar", score=0.80, chunk_id=1, doc_id=1), modified_s=1.0)
    new = replace(candidate("limit is 4 bar", score=0.75, chunk_id=2, doc_id=2), modified_s=2.0)
    assert run("what is the limit", [old, new], k=1).evidence[0].chunk.chunk_id == 1
    assert run("what is the current limit", [old, new], k=1).evidence[0].chunk.chunk_id == 2


def test_neighbours_are_rejoined_with_exact_offsets():
    left = candidate("first part", chunk_id=1, start=0, ordinal=0, page=3)
    right = replace(
        candidate("second part", chunk_id=2, start=12, ordinal=1, page=4, score=0.95),
        marks=(Mark(0, 6, 1.0),),
        answers=(Mark(7, 11, -0.5),),
    )
    left = replace(left, answers=(Mark(0, 5, -1.0),))
    (only,) = run("part", [left, right]).evidence
    named = [only.chunk.text[mark.start : mark.end] for mark in only.answers]
    assert named == ["part", "first"]
    assert only.chunk.text == "first part\n\nsecond part"
    assert (only.chunk.span.start, only.chunk.span.end) == (0, 23)
    assert only.chunk.text[only.marks[0].start : only.marks[0].end] == "second"
    assert only.chunk.locate(0, 5).first == 3
    assert only.chunk.locate(12, 18).first == 4
    assert (only.chunk.span.locator.first, only.chunk.span.locator.last) == (3, 4)


def test_rejoin_counts_lines():
    left = chunk("a\nb", line=10)
    right = chunk("c\nd", line=13, start=5, ordinal=1)
    joined = p.rejoin(left, right)
    assert joined.text == "a\nb\n\nc\nd"
    assert [joined.locate(i, i + 1).first for i in (0, 2, 5, 7)] == [10, 11, 13, 14]


def test_a_question_that_does_not_fit_says_so():
    with pytest.raises(ContextOverflow, match="shorter question"):
        run("word " * 5000, [])


def test_layers_add_up():
    found = run("what flow", [candidate()])
    assert sum(found.layer_tokens.values()) == len(found.tokens)
    assert found.layer_tokens["evidence"] > 0 and found.layer_tokens["system"] > 0


@given(
    lengths=st.lists(st.integers(1, 400), max_size=12),
    context_length=st.integers(400, 3000),
    budget=st.integers(0, 3000),
    k=st.integers(1, 12),
)
def test_prompt_and_answer_always_fit(lengths, context_length, budget, k):
    many = [
        candidate(f"w{i} " * n, score=1 / (i + 1), chunk_id=i, doc_id=i)
        for i, n in enumerate(lengths)
    ]
    found = run("what is it", many, context_length, evidence_tokens=budget, k=k)
    assert len(found.tokens) + SETTINGS.max_tokens <= context_length
    assert found.layer_tokens.get("evidence", 0) <= budget
    assert len(found.evidence) <= k
