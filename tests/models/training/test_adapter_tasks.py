import random
import re
from itertools import pairwise

import pytest

from models.training import adapter_fields, adapter_logs, adapter_sources, adapter_tasks
from models.training.adapter_bm25 import Bm25
from models.training.adapter_records import answer_text, held_out, turn
from models.training.adapter_sheets import Words


def squeezed(text):
    return " ".join(text.split()).lower()


@pytest.mark.parametrize("dev", [False, True])
def test_answers_stand_in_their_own_source(dev):
    made = adapter_tasks.generate(600, 3, dev) + adapter_logs.generate(300, 4, dev)
    made += adapter_fields.generate(600, 5, dev)
    assert len(made) == 1500
    for example in made:
        assert example.dev is dev
        texts = [p.text.lower() for p in example.gold]
        for piece, index in zip(example.answer[::2], example.answer[1::2], strict=True):
            words = piece.removeprefix(" and ").lower()
            if words.isdigit() and example.kind == "log":  # a count
                continue
            assert words in texts[index], (example.question, words)


def test_twins_have_no_answer_and_still_sources():
    twins = [e for e in adapter_tasks.generate(800, 5, False) if e.kind.endswith("twin")]
    assert len(twins) > 50
    assert all(e.answer == () and e.gold for e in twins)


def test_counts_are_right():
    counted = 0
    for example in adapter_logs.generate(900, 6, False):
        asked = re.match(
            r"(?:How many times does|How often was) (.+?) (?:occur|logged)\?", example.question
        )
        if asked and example.answer:
            phrase = asked[1].strip("'\"")
            assert int(example.answer[0]) == example.gold[0].text.count(phrase)
            counted += 1
    assert counted > 20


def test_questions_about_fields_tell_one_line_and_do_not_say_the_answer():
    made = [e for e in adapter_fields.generate(600, 7, False) if e.kind == "field"]
    assert len(made) > 300
    for example in made:
        assert example.words not in example.question.split()
        assert len(example.gold[0].text) < 2 * adapter_fields.MAX_CHARS


def test_a_field_that_was_not_logged_has_no_answer():
    made = adapter_fields.generate(600, 8, False)
    twins = [e for e in made if e.kind == "field-twin"]
    assert len(twins) > 30 and all(not e.answer for e in twins)
    by_source = {e.gold[0].text: e for e in made if e.kind == "field"}
    asked = [(by_source[t.gold[0].text].question, t.question) for t in twins
             if t.gold[0].text in by_source]  # fmt: skip
    assert all(answerable != absent for answerable, absent in asked)


def test_generation_follows_from_the_seed():
    assert adapter_tasks.generate(50, 9, False) == adapter_tasks.generate(50, 9, False)
    assert adapter_tasks.generate(50, 9, False) != adapter_tasks.generate(50, 10, False)


def test_development_uses_other_names():
    train, dev = (Words(random.Random(1), flag) for flag in (False, True))
    names = tuple("abcdefghij")
    assert not {train.pick(names) for _ in range(300)} & {dev.pick(names) for _ in range(300)}


def test_a_hidden_instruction_leaves_question_and_answer():
    w = Words(random.Random(2), False)
    example = adapter_tasks.generate(1, 2, False)[0]
    hidden = adapter_tasks.inject(example, w)
    assert (hidden.question, hidden.answer) == (example.question, example.answer)
    assert any(hidden.forbidden in p.text for p in (*hidden.gold, *hidden.other))
    assert hidden.gold != example.gold or hidden.other != example.other


def test_turn_and_target_use_the_same_numbers():
    example = next(e for e in adapter_tasks.generate(300, 4, False) if e.kind == "two")
    segments = turn(example.question, [*example.other[:1], *example.gold], first_marker=11)
    first = 11 + len(example.other[:1])
    assert [s.text.split("]")[0] for s in segments[1:-1]][-2:] == [f"[{first}", f"[{first + 1}"]
    said = answer_text(example, [first, first + 1])
    assert f"[{first}] and " in said and said.endswith(f"[{first + 1}]")


def test_chunks_tile_the_text():
    text = "One is here. Two follows it! Is three next? " * 60 + "x" * 5000
    spans = adapter_sources.chunks(text, random.Random(1))
    assert spans[0][0] == 0 and spans[-1][1] == len(text)
    assert all(a[1] == b[0] for a, b in pairwise(spans))
    assert max(b - a for a, b in spans) <= 2 * adapter_sources.MAX_CHARS


def test_window_keeps_the_answer():
    text = "First sentence here. " * 40 + "The answer is 42 today. " + "Later words come. " * 40
    at = text.index("42")
    for seed in range(20):
        cut, start = adapter_sources.window(text, at, at + 2, random.Random(seed), 300)
        assert "42" in cut and len(cut) <= 600 and text[start : start + len(cut)] == cut


def test_detokenised():
    assert (
        adapter_sources.detokenised("Ca n't You See , he said ( 1977 ) .")
        == "Can't You See, he said (1977)."
    )


def test_bm25_ranks_the_rare_word_first():
    index = Bm25(["the pump runs", "the seal leaks", "pump and seal and valve", "a valve"])
    assert index.top("which seal leaks?", 2) == [1, 2]
    assert Bm25([]).top("x", 3) == []


def test_held_out_is_about_a_tenth():
    assert 60 < sum(held_out(f"text {i}") for i in range(1000)) < 140
