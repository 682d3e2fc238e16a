"""Invented questions: taken apart, judged, and made rows like the real ones."""

from __future__ import annotations

import json
import lzma

import numpy as np
import pytest
import torch

from models.training import adapter_data
from models.training.adapter_attention import one_by_one
from models.training.adapter_batches import Dataset, Sampler
from models.training.adapter_invent import (
    KIND,
    Invented,
    Inventor,
    Source,
    add,
    recalled,
    sources,
    told,
)
from models.training.adapter_llama import Adapter, Llama
from models.training.adapter_records import Example, Passage
from tests.models.training.test_adapter_training import RANKS, ByteTokenizer, base

TEXT = "The pump number {i} was built in the year 19{i:02} by the works at Kassel, near the river."


def passage(i: int) -> Passage:
    return Passage(TEXT.format(i=i), f"pump-{i}.pdf", "page", i + 1, i + 1)


@pytest.fixture
def data(tmp_path):
    examples = [
        Example(
            "squad",
            f"In which year was the pump number {i} built?",
            (f"19{i:02}", 0),
            (passage(i),),
            tuple(passage(j) for j in range(12) if j != i),
            dev=i == 11,
        )
        for i in range(12)
    ]
    unasked = [[passage(20), passage(21)], [passage(22)]]
    out = tmp_path / "data.npz.xz"
    adapter_data.build(examples, ByteTokenizer(), None, out, unasked=unasked)
    return Dataset(out)


@pytest.fixture
def inventor(data):
    tiny = base()
    llama = Llama(tiny, one_by_one, torch.float32)
    return Inventor(data, llama, Adapter(tiny, RANKS), 4096, 1)


def real_rows(data):
    return [i for i in range(len(data.rows)) if data.rows[i, 6] == 0]


def as_invented(data, inventor, row):
    question = data.piece(data.rows[row, 2])[len(inventor.prefix) :]
    source = Source(data.gold(row)[0], tuple(data.other(row)))
    return Invented(source, inventor._answer(row), question)


def test_a_row_made_of_a_real_question_is_the_real_row(data, inventor):
    rows = real_rows(data)
    n_before = len(data.rows)
    add(data, [as_invented(data, inventor, row) for row in rows])
    assert len(data.rows) == n_before + len(rows)
    for at, row in enumerate(rows):
        made = n_before + at
        assert data.kind(made) == KIND
        for column in (1, 2, 3):
            real, new = (data.piece(data.rows[i, column]) for i in (row, made))
            assert np.array_equal(real, new)
        assert data.gold(made) == data.gold(row)
        assert set(data.other(made)) <= set(data.other(row))
    add(data, [as_invented(data, inventor, row) for row in rows[:2]])  # a second time
    assert [data.gold(n_before + len(rows) + i) for i in range(2)] == [
        data.gold(r) for r in rows[:2]
    ]
    drawn = {s.kind for s, _ in zip(Sampler(data, 1).samples(), range(60), strict=False)}
    assert KIND in drawn


def test_what_is_written_is_taken_apart_and_nonsense_is_dropped(data, inventor):
    row = real_rows(data)[0]
    source = Source(data.gold(row)[0], ())
    text = data.text(data.piece(source.passage))
    answer = data.text(inventor._answer(row))

    def parsed(written):
        return inventor.parsed(source, list(written.encode()), text)

    good = parsed(f"{answer}\n When was it built?")
    assert good is not None and data.text(good.question) == " When was it built?"
    assert parsed(f"{answer} When was it built?") is None  # no line between them
    assert parsed("in 2044\n When was it built?") is None  # not in the passage
    assert parsed(f"{answer}\n When?") is None  # hardly a question
    assert parsed(f"{answer}\n Was it {answer} or not?") is None  # says its answer
    assert parsed("pump-\n Which file is it in?") is None  # of the source's header


def test_what_an_earlier_run_invented_is_recalled(data, inventor, tmp_path):
    made = [as_invented(data, inventor, row) for row in real_rows(data)[:3]]
    file = tmp_path / "invented.jsonl.xz"
    gone = json.dumps({"question": "Who?", "answer": "Ann", "passage": "not in the data"})
    file.write_bytes(lzma.compress("\n".join([*(told(data, m) for m in made), gone]).encode()))
    again = recalled(data, file, ByteTokenizer())
    assert [(m.source, m.answer.tolist(), m.question.tolist()) for m in again] == [
        (m.source, m.answer.tolist(), m.question.tolist()) for m in made
    ]


def test_distractors_that_hold_the_answer_are_left_out(data, inventor):
    row = real_rows(data)[0]
    one = as_invented(data, inventor, row)
    twin = Source(one.source.passage, (one.source.passage, *one.source.similar))
    add(data, [Invented(twin, one.answer, one.question)])
    assert one.source.passage not in data.other(len(data.rows) - 1)


def test_those_that_are_answered_alike_are_kept(data, inventor, monkeypatch):
    made = [as_invented(data, inventor, row) for row in real_rows(data)]
    first = {m.answer.tobytes(): int(m.answer[0]) for m in made}
    right = {m.answer.tobytes() for m in made[::2]}

    def logits(hidden):
        """A reader that is sure of the answers in `right` and of nothing else."""
        scores = torch.zeros(len(hidden), 258)
        at = 0
        for group in inventor.last:
            for token in group.answer.tolist():
                scores[at, token if group.answer.tobytes() in right else 0] = 20.0
                at += 1
        return scores

    packed = adapter_invent_pack(inventor)
    monkeypatch.setattr("models.training.adapter_invent.pack", packed)
    monkeypatch.setattr(inventor.llama, "logits", logits)
    merged = inventor.adapter.merge(inventor.llama.base, torch.float32)
    kept = inventor.agreed(made, merged, lambda: False)
    assert {m.answer.tobytes() for m in kept} == right
    assert first
    assert inventor.agreed(made, merged, lambda: True) == []


def adapter_invent_pack(inventor):
    """`pack`, which also remembers what is in the batch."""
    from models.training.adapter_batches import pack

    def packed(samples, n_tokens):
        inventor.last = [Invented(None, s.target, None) for s in samples]
        return pack(samples, n_tokens)

    return packed


def test_the_writing_adapter_writes_with_its_passage_before_it(data, inventor):
    asked = sources(data, 2)
    held = {p for i in range(len(data.rows)) if data.rows[i, 6] for p in data.gold(i)}
    assert asked and not held & {s.passage for s in asked}
    assert len([s for s in asked if s.passage in data.extra()[0]]) == 2
    lesson = next(inventor.lessons())
    assert len(lesson.tokens) == 4096 and len(lesson.wanted) > 100
    made = inventor.written(asked[:6], torch.float32, lambda: False)
    assert all(m.source in asked for m in made)  # an untrained one writes nonsense: mostly none
