"""What is shown of an answer, and how it is weighed, with a model and a reader that are told."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from docqa.prompts import NOT_FOUND
from models.training.adapter_eval import outcomes
from tests.docqa.make import evidence

REFUSAL, END = 1, 2
ANSWERABLE = {"name": "contract", "references": ["12 bar"], "markers": [1], "forbidden": "",
              "position": 0}  # fmt: skip
ABSENT = ANSWERABLE | {"name": "contract-absent", "references": [], "markers": []}
DATA = SimpleNamespace(
    frame={"refusal": [REFUSAL, 3], "end": [END]},
    arranged=lambda placed: (np.array([7, 8]), 0),
    numbers=lambda placed: placed["markers"],
    sources=lambda placed: [],
    text=lambda ids: "41 kg [1]" if ids else "",
    question=lambda placed: "What is the P-7 rated for?",
)


class Reader:
    """The first token refuses with 0.6, the whole refusal has 0.45."""

    def answer(self, prompt, end, banned, n_new):
        return [5][:n_new], np.log(np.array([0.4, 0.6, 1e-9, 1e-9], np.float32))

    def log_probs(self, tokens, texts):
        assert (tokens, texts) == ([7, 8], [NOT_FOUND])
        return [math.log(0.45)]


class Chooser:
    def sources(self, placed):
        return tuple(replace(evidence("12 bar"), read_score=score) for score in (0.2, 0.7, 0.1))

    def better(self, question, prompt, sources, said):
        return "12 bar [1]"


def test_what_is_shown_is_weighed_by_the_whole_refusal_and_the_best_passage():
    ((_, written, shown),) = outcomes(DATA, Reader(), [(4, ANSWERABLE)], Chooser())
    assert (written.text, written.read) == ("41 kg [1]", None)
    assert written.p_refusal == pytest.approx(0.6) and written.refuses
    assert (shown.text, shown.read) == ("12 bar [1]", 0.7)
    assert shown.p_refusal == pytest.approx(0.45)


def test_where_nothing_answers_both_are_asked_and_nothing_is_written():
    ((number, written, shown),) = outcomes(DATA, Reader(), [(4, ABSENT)], Chooser())
    assert (number, written.text, shown.text) == (4, "", "")
    assert (shown.p_refusal, shown.read) == (pytest.approx(0.45), 0.7)


def test_without_the_readers_say_what_is_shown_is_what_was_written():
    ((_, written, shown),) = outcomes(DATA, Reader(), [(4, ANSWERABLE)])
    assert shown is written and shown.read is None
