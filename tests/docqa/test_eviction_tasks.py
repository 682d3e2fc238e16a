"""Questions about a text whose KV was made smaller: all answers stand in it, one is right."""

from __future__ import annotations

import random

import pytest

from docqa.bench.eviction_tasks import (
    AGAIN,
    END_TOKENS,
    N_ANSWERS,
    N_ASKED,
    N_WORDS,
    TASKS,
    make_task,
    sentences,
)

PEOPLE = ("Anna", "Bruno", "Clara", "Dorothea", "Edgar", "Flora", "Gregor", "Hilda", "Jonas")
THINGS = ("table", "horse", "letter", "garden", "window", "river", "kettle", "ladder", "basket")
TOLD = ("gave it to", "sold it for", "showed it at", "had lent it by", "lost it again in")


def book(n=400, seed=0):
    """Sentences that differ, on lines of their own."""
    rng = random.Random(seed)
    lines = []
    for at in range(n):
        lines.append(
            f"On day {at} of that month the {rng.choice(THINGS)} was old, and\nso our "
            f"{rng.choice(PEOPLE)} {rng.choice(TOLD)} {rng.choice(PEOPLE)} with the "
            f"{rng.choice(THINGS)} of {rng.choice(PEOPLE)} by the {rng.choice(THINGS)} in number "
            f"{rng.randrange(99)} and the {rng.choice(THINGS)} of {rng.choice(PEOPLE)} that day."
        )
    return "\n".join(lines)


def n_words(text):
    return len(text.split())


def task(kind, seed=3, n_tokens=600):
    return make_task(kind, sentences(book()), n_tokens, seed, n_words)


def test_sentences_end_behind_small_letters_only():
    text = 'He saw M. Dumas and\nMr. Ball.  "Go!" she said. Then Mrs. Ball\ncame. It rained.'
    assert sentences(text) == [
        "He saw M. Dumas and Mr. Ball.",
        '"Go!" she said.',
        "Then Mrs. Ball came.",
        "It rained.",
    ]


@pytest.mark.parametrize("kind", TASKS)
def test_a_seed_makes_one_task_of_the_length_asked_for(kind):
    assert task(kind) == task(kind)
    assert task(kind) != task(kind, seed=4)
    # Not shorter, and not by more than a sentence and the needles longer.
    assert 600 <= n_words(task(kind).text) <= 600 + 2 * 25 + 4 * 7


@pytest.mark.parametrize("kind", N_WORDS)
@pytest.mark.parametrize("seed", range(5))
def test_the_first_answer_stands_behind_the_question_and_no_other(kind, seed):
    asked = task(kind, seed)
    assert len(asked.questions) == N_ASKED
    for question in asked.questions:
        said = question.words.removeprefix(AGAIN)
        assert said != question.words
        assert len(set(question.answers)) == N_ANSWERS
        assert [said + answer in asked.text for answer in question.answers] == [True] + [False] * 3
        at = asked.text.index(said + question.answers[0])
        assert n_words(asked.text[at:]) >= END_TOKENS
        before = said.split()[-1]
        for answer in question.answers:
            # Every answer stands in the text behind the same word, and is as long as the others.
            assert f" {before}{answer}" in asked.text
            assert n_words(answer) == N_WORDS[kind]


@pytest.mark.parametrize("kind", N_WORDS)
def test_no_word_before_an_answer_is_asked_for_twice(kind):
    questions = task(kind).questions
    assert len({question.words.split()[-1] for question in questions}) == len(questions)


def test_needles_are_planted_once():
    for kind, n in (("needle", 1), ("one of four", 4)):
        asked = task(kind)
        (question,) = asked.questions
        assert asked.text.count("The secret number of") == n
        assert question.words.strip() + question.answers[0] + "." in asked.text
        assert len(question.answers) == 1


def test_a_book_that_is_too_short_or_of_one_sentence_is_refused():
    with pytest.raises(ValueError, match="the book ends before 600 tokens"):
        make_task("needle", sentences(book(20)), 600, 0, n_words)
    same = ["so it was said of a small house beside the road and of all that was in it."] * 400
    with pytest.raises(ValueError, match="which word: no 4 answers"):
        make_task("which word", same, 600, 0, n_words)
