"""A refusal that the model and the evidence agree on."""

import math
from dataclasses import replace

import pytest

from docqa.answer import BOTH_DOUBT, Draft, generate_answer
from docqa.config import AnswerConfig
from docqa.prompts import NOT_FOUND
from docqa.refusal import doubt, refuses
from docqa.types import AnswerKind, PackedPrompt
from tests.docqa.make import evidence
from tests.fakes import ScriptedEngine

TEXT = "The casing bolts are tightened to 45 Nm. The cover bolts take 25 Nm."
QUESTION = "What torque do the casing bolts need?"


def prompt_of(*read_scores):
    """One source a score, the passage of each."""
    sources = [
        replace(evidence(TEXT, marker=n), score=0.5, read_score=score)
        for n, score in enumerate(read_scores, 1)
    ]
    return PackedPrompt((), (1, 2, 3), tuple(sources), ())


def engine_of(chance, reply="45 Nm [1]", refusal_threshold=0.2):
    engine = ScriptedEngine([reply])
    engine.likely = {NOT_FOUND: math.log(chance)}
    engine.info = replace(engine.info, adapter="cite", refusal_threshold=refusal_threshold)
    return engine


@pytest.mark.parametrize(
    ("chance", "read", "is_refused"),
    [
        (0.9, [0.5], True),
        (0.9, [0.99], False),  # the reader is surer
        (0.9, [0.1, 0.99], False),  # of one of them
        (0.1, [0.5], False),
        (0.3, [0.005], True),  # hardly any evidence: a small doubt is enough
        (0.01, [0.05], False),
        (0.6, [None], False),  # the reader read nothing
        (0.9, [None], True),
    ],
)
def test_doubt_is_weighed_against_what_the_reader_finds(chance, read, is_refused):
    assert refuses(prompt_of(*read), engine_of(chance)) is is_refused


def test_doubt_is_the_difference_of_the_log_odds():
    assert doubt(0.9, 0.5) == pytest.approx(math.log(9))
    assert doubt(0.5, 0.8) == pytest.approx(-math.log(4))
    assert doubt(0.9, 0.1) == pytest.approx(2 * math.log(9))
    assert doubt(0.9, None) == pytest.approx(math.log(9))


def draft_of(engine, score, **settings):
    events = list(
        generate_answer(
            QUESTION, prompt_of(score), engine, AnswerConfig(**settings), quote_score=0.04
        )
    )
    assert isinstance(events[-1], Draft)
    return events[-1]


def test_what_both_doubt_is_not_found_whatever_was_written():
    draft = draft_of(engine_of(0.9), 0.3)
    assert (draft.kind, draft.text, draft.citations) == (AnswerKind.NOT_FOUND, NOT_FOUND, ())
    assert draft.notes == (BOTH_DOUBT,)


def test_a_refusal_that_the_evidence_outweighs_becomes_a_quote():
    draft = draft_of(engine_of(0.6, reply=NOT_FOUND), 0.9)
    assert draft.kind is AnswerKind.QUOTE and "45 Nm" in draft.text


def test_only_a_model_that_was_trained_to_refuse_is_weighed():
    assert draft_of(engine_of(0.9, refusal_threshold=None), 0.3).kind is AnswerKind.MODEL
    assert draft_of(engine_of(0.9), 0.3, choose=False).kind is AnswerKind.MODEL
