"""Judged questions: both models are asked as docqa asks them, and the likelier answer is kept."""

from __future__ import annotations

import json
import lzma
import math

import numpy as np
import pytest
import torch

from docqa.protocols import Passage as ReaderPassage
from models.embedder import packaged_folder
from models.reader import WEIGHTS, PassageReader
from models.training import adapter_data, adapter_judge
from models.training.adapter_attention import one_by_one
from models.training.adapter_batches import Dataset
from models.training.adapter_invent import Invented, Source, affixes, reading, recalled
from models.training.adapter_judge import Asker, Branching, Candidate, Case, Judgement, SpanReader
from models.training.adapter_llama import Adapter, Llama
from models.training.adapter_records import Example, Passage
from models.training.reader_invented import queries
from tests.models.training.test_adapter_training import RANKS, ByteTokenizer, base

TEXT = "The bridge was opened in 1893. Its colour, a light blue, was chosen by painters in 1985."


@pytest.fixture
def data(tmp_path):
    passages = [Passage(f"{TEXT} Number {i}.", "b.pdf", "page", 3, 3, ("Elbe",)) for i in range(4)]
    asked = [
        Example("squad", f"When was bridge {i} opened?", ("1893", 0), (passages[i],), (), dev=False)
        for i in range(4)
    ]
    out = tmp_path / "data.npz.xz"
    adapter_data.build(asked, ByteTokenizer(), None, out)
    return Dataset(out)


def made(data, question, answer, row=0):
    ids = (np.array(list(text.encode()), np.uint16) for text in (answer, question))
    return Invented(Source(data.gold(row)[0], ()), *ids)


@pytest.fixture
def asked(data):
    return adapter_judge.cases(
        data,
        [
            made(data, " Who chose the colour of the bridge?", "painters"),
            made(data, " In which year was the bridge opened?", "1893", 1),
            made(data, " Who chose the colour of the bridge?", "painters"),  # again
            made(data, " Who built it?", "nobody in the text"),
        ],
    )


def test_questions_come_in_words_each_once(asked):
    assert [(c.question, c.given, c.context) for c in asked] == [
        ("Who chose the colour of the bridge?", "painters", "Elbe"),
        ("In which year was the bridge opened?", "1893", "Elbe"),
    ]
    assert asked[0].text.startswith(f"{TEXT} Number ")


def test_spans_and_chances_are_those_of_the_product(asked):
    folder = packaged_folder()
    reader = SpanReader(folder / "model.safetensors", WEIGHTS, folder / "tokenizer.json", "cpu")
    reader.mark(asked)
    product = PassageReader.open(folder)
    for case in asked:
        (look,) = product.look(
            case.question, [ReaderPassage(text=case.text, context=case.context)], [[]]
        )
        assert case.p_answers == pytest.approx(look.score, abs=1e-3)
        spans = {case.text[m.start : m.end]: m.score for m in look.answers}
        found = {case.text[c.start : c.end]: c.read for c in case.candidates}
        assert found[case.given] == pytest.approx(spans[case.given], abs=1e-2)
        assert len(found) > 2
        for text, score in found.items():
            assert score == pytest.approx(spans[text], abs=1e-2)
        assert [c.is_written_for for c in case.candidates] == [True] + [False] * (len(found) - 1)


def test_answers_side_by_side_have_the_chances_of_each_alone(data, asked, monkeypatch):
    monkeypatch.setattr(adapter_judge, "N_ASK_TOKENS", 1500)
    tiny = base()
    adapter = Adapter(tiny, RANKS)
    with torch.no_grad():
        adapter.b["attn_v"].normal_()
        merged = adapter.merge(tiny, torch.float32)
    for case, n in zip(asked, (3, 1), strict=True):
        at = [case.text.index(t) for t in ("painters", "a light blue", "1985")][:n]
        ends = [a + len(t) for a, t in zip(at, ("painters", "a light blue", "1985"), strict=False)]
        case.candidates = [Candidate(a, b, -1.0) for a, b in zip(at, ends, strict=True)]
    asker = Asker(data, Llama(tiny, Branching(), torch.float32), merged, ByteTokenizer())
    asker.ask(asked, lambda _: None)
    alone = Llama(tiny, one_by_one, torch.float32)
    prefix, suffix, _ = affixes(data)
    refusal = int(data.frame["refusal"][0])
    for case in asked:
        prompt = reading(data, case.made, prefix, suffix)
        for candidate in case.candidates:
            answer = list(f"{case.text[candidate.start : candidate.end]} [1]".encode())
            ids = torch.tensor([*prompt.tolist(), *answer])
            ends = torch.tensor([0, len(ids)], dtype=torch.int32)
            with torch.no_grad():
                hidden = alone.hidden(merged, ids, torch.arange(len(ids)), ends, len(ids))
                likely = alone.logits(hidden[len(prompt) - 1 :]).log_softmax(-1)
            expected = sum(float(likely[i, token]) for i, token in enumerate(answer))
            assert candidate.log_p == pytest.approx(expected, abs=1e-3)
            assert case.p_refuses == pytest.approx(float(likely[0, refusal].exp()), abs=1e-5)


def spread(*spans, given="painters"):
    found = [Candidate(TEXT.index(t), TEXT.index(t) + len(t), read) for t, read in spans]
    case = Case(None, "Who?", "", TEXT, given, f'] b.pdf, page 3\n"""\n{TEXT}\n"""\n\n')
    case.candidates = adapter_judge._distinct(case, found)
    return case


def test_one_answer_in_other_words_is_one_candidate():
    case = spread(("by painters", -0.5), ("1893", -2.0), ("painters", -3.0), ("in 1985", -4.0))
    said = [(TEXT[c.start : c.end], c.read) for c in case.candidates]
    assert said == [("by painters", -0.5), ("1893", -2.0), ("in 1985", -4.0)]
    unmarked = spread(("1893", -2.0), ("1985", -3.0))
    assert unmarked.candidates[0].read == -4.0  # less likely than any that was marked


def test_the_likelier_answer_is_kept_where_nobody_doubts():
    case = spread(("painters", -3.0), ("a light blue", -0.2))
    case.p_answers, case.p_refuses = 0.9, 0.1
    for candidate, log_p in zip(case.candidates, (-4.0, -1.0), strict=True):
        candidate.log_p = log_p
    judged = Judgement.of(case)
    other = -1.0 / 3**0.25 + 0.7 * -0.2
    own = -4.0 + 0.7 * -3.0 + 1.0
    assert judged.share == pytest.approx(1 / (1 + math.exp(own - other)))
    assert TEXT[judged.best.start : judged.best.end] == "a light blue"
    assert judged.holds(0.6) and not judged.holds(0.999)
    case.p_answers = 0.01
    assert not judged.holds(0.6)  # the passage hardly answers


def test_what_is_told_both_models_train_on(data, asked, tmp_path):
    case = asked[1]
    at = case.text.rindex("1985")
    case.candidates = [Candidate(at, at + 4, -0.1)]
    case.p_answers, case.p_refuses = 0.9, 0.1
    file = tmp_path / "judged.jsonl.xz"
    line = Judgement.of(case).told()
    again = json.loads(line) | {"question": "When was it painted?", "answer": "18", "at": 25}
    file.write_bytes(lzma.compress(f"{line}\n{json.dumps(again)}".encode()))
    pool, found = queries(file)
    marks = [(q.right[0].start, q.right[0].end) for q in found]
    assert marks == [(at, at + 4), (25, 27)]
    (one, _) = recalled(data, file, ByteTokenizer())
    assert data.text(one.answer) == "1985" and data.text(one.question) == case.question
    assert pool.contexts
