"""Training data of the reader: marks point at the answers, pairs are laid out as promised."""

import itertools
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from models.embedder import packaged_folder
from models.reader_pairs import (
    CLS,
    MAX_CONTEXT_TOKENS,
    MAX_QUESTION_TOKENS,
    MAX_TOKENS,
    SEP,
    layout,
    padded,
    room,
    windows,
)
from models.training import reader_made, reader_news
from models.training.reader_batches import Sampler, Sizes
from models.training.reader_records import (
    KINDS,
    PassagePool,
    Query,
    Right,
    held_out,
    pack,
    subset,
    token_span,
)

FACTS = [(f"pump {name}", f"{n} bar") for n, name in enumerate("ABCDEFGHIJKL", 11)]
_TOKENS = st.lists(st.integers(1000, 2000), max_size=120)


@pytest.fixture(scope="module")
def tokenizer():
    found = Tokenizer.from_file(str(packaged_folder() / "tokenizer.json"))
    found.no_padding()
    found.no_truncation()
    return found


@pytest.fixture(scope="module")
def arrays(tokenizer):
    pool = PassagePool()
    queries = []
    for i, (thing, value) in enumerate(FACTS):
        text = f"The {thing} stands in hall {i}. Its pressure is {value} when it runs."
        passage = pool.add(text, f"Manual > {thing}", pool.new_document(), "squad", i % 4 == 3)
        at = text.index(value)
        queries.append(
            Query(
                "squad",
                f"What is the pressure of {thing}?",
                (Right(passage, at, at + len(value)),),
                ("squad",),
                dev=i % 4 == 3,
                answer=value,
            )
        )
    queries.append(Query("squad", "Who painted the hall?", (), ("squad",), wrong=(0, 1)))
    return pack(pool, queries, tokenizer)


@settings(max_examples=60)
@given(_TOKENS, _TOKENS, st.integers(0, 300))
def test_a_row_holds_all_parts_in_order(question, context, n_text):
    n_text = min(n_text, room(len(question), len(context)))
    text = list(range(3000, 3000 + n_text))
    ids, n_first, begin = layout(question, context, text)
    assert len(ids) <= MAX_TOKENS
    assert ids[0] == CLS and ids[-1] == SEP and ids[n_first - 1] == SEP
    assert ids[1 : n_first - 1].tolist() == question[:MAX_QUESTION_TOKENS]
    told = ids[n_first : begin - 1].tolist() if context else []
    assert told == context or len(told) == MAX_CONTEXT_TOKENS < len(context)
    assert ids[begin:-1].tolist() == text


@given(st.integers(0, 5000), st.integers(80, 300))
def test_windows_cover_everything_and_overlap(n_tokens, size):
    found = windows(n_tokens, size)
    assert found[0][0] == 0 and found[-1][1] == n_tokens
    assert all(b - a <= size for a, b in found)
    assert all(a2 < b1 and a1 < a2 for (a1, b1), (a2, _) in itertools.pairwise(found))


def test_padding_is_on_the_right_and_has_no_type():
    ids, types, lengths = padded(
        [np.array([5, 6, 7], np.int32), np.array([5], np.int32)], [2, 1], multiple=4
    )
    assert ids.tolist() == [[5, 6, 7, 0], [5, 0, 0, 0]]
    assert types.tolist() == [[0, 0, 1, 0], [0, 0, 0, 0]]
    assert lengths.tolist() == [3, 1]


def test_token_span_is_the_tokens_that_overlap():
    offsets = [(0, 3), (4, 8), (8, 10), (11, 15)]
    assert token_span(offsets, 5, 10) == (1, 2)
    assert token_span(offsets, -1, -1) == (-1, -1)
    assert token_span([(i, i + 1) for i in range(60)], 0, 60) == (-1, -1)


def test_marks_decode_to_the_answers(arrays, tokenizer):
    for i, (_, value) in enumerate(FACTS):
        passage, first, last = arrays["right"][arrays["right_at"][i]]
        text = arrays["text"][arrays["text_at"][passage] : arrays["text_at"][passage + 1]]
        assert tokenizer.decode(text[first : last + 1].tolist()) == value


def test_a_step_marks_the_answer_in_every_row_that_has_one(arrays, tokenizer):
    mined = np.tile(np.arange(len(FACTS), dtype=np.int32), (len(FACTS) + 1, 1))
    sizes = Sizes(n_groups=6, n_wrong=3, n_lone=6, n_micro=3)
    step = Sampler(arrays, mined, sizes, seed=3).step(is_warm=False)
    rows = {int(r): m.ids[i] for m in step.micros for i, r in enumerate(m.row)}
    assert sorted(rows) == list(range(6 * 4 + 6)) == list(range(len(step.spans)))
    values = {value for _, value in FACTS}
    for row, (first, last) in enumerate(step.spans.tolist()):
        is_first = row < 24 and row % 4 == 0
        expected = step.has_right[row // 4] if is_first else row >= 24
        assert (first >= 0) == expected
        if first >= 0:
            assert tokenizer.decode(rows[row][first : last + 1].tolist()) in values


def test_groups_hold_no_right_passage_among_the_wrong_and_no_development_one(arrays):
    mined = np.tile(np.arange(len(FACTS), dtype=np.int32), (len(FACTS) + 1, 1))
    mined[:, 3::4] = -1  # as mining leaves development passages out
    sampler = Sampler(arrays, mined, Sizes(n_wrong=4), seed=0)
    for query in range(len(FACTS)):
        right, wrong = sampler.group(query)
        assert right[0] == query and query not in wrong
        assert len(set(wrong)) == 4 and not any(p % 4 == 3 for p in wrong)
    right, wrong = sampler.group(len(FACTS))
    assert right is None and len(wrong) == 5 and {0, 1} & set(wrong)


def test_a_subset_keeps_questions_and_their_passages(arrays, tokenizer):
    small, chosen = subset(arrays, n_each=2, n_others=1, seed=1)
    assert len(chosen) == 4
    for i, query in enumerate(chosen):
        asked = small["question"][small["question_at"][i] : small["question_at"][i + 1]]
        at = arrays["question_at"]
        assert asked.tolist() == arrays["question"][at[query] : at[query + 1]].tolist()
        if query < len(FACTS):
            passage, first, last = small["right"][small["right_at"][i]]
            text = small["text"][small["text_at"][passage] :]
            assert tokenizer.decode(text[first : last + 1].tolist()) == FACTS[query][1]


def test_gaps_ask_for_what_the_sentence_says():
    text = (
        "The minister opened the bridge near Lyon on 4 March 2011 after long delays. "
        "About 2,300 people watched as Elena Kovac cut the ribbon with a pair of scissors."
    )
    found = list(reader_news.gaps(text, random.Random(4), 20))
    answers = {text[a:b] for _, a, b in found}
    assert {"4 March 2011", "2,300", "Elena Kovac"} <= answers
    for question, a, b in found:
        assert text[a:b] not in question and question.endswith("?")


def test_generated_queries_mark_their_answer():
    pool = PassagePool()
    made = reader_made.generated(pool, 120, 60, 5, False, None)
    assert {"table", "log"} <= {q.kind for q in made} <= set(KINDS)
    for query in made:
        for right in query.right:
            assert pool.texts[right.passage][right.start : right.end] == query.answer
            assert right.passage not in query.wrong
        assert query.right or query.wrong


def test_the_development_tenth_is_a_tenth():
    share = sum(held_out(f"passage {i}") for i in range(2000)) / 2000
    assert 0.07 < share < 0.13
