import pytest

from docqa.followup import effective_query, refers_back

FIRST = "What torque do the casing bolts of the KP-40 need?"


@pytest.mark.parametrize(
    "question",
    [
        "Why?",
        "And the KP-60?",
        "How often must it be replaced?",
        "What about the cover?",
        "Who signed it?",
        "Is that also true for oil?",
    ],
)
def test_follow_ups(question):
    assert refers_back(question)


@pytest.mark.parametrize(
    "question",
    [
        FIRST,
        "Which pump that is sold in Europe has a carbon seal ring?",
        "How many errors did the billing service log on 3 March?",
    ],
)
def test_questions_that_stand_alone_are_not_touched(question):
    assert not refers_back(question)
    assert effective_query(question, [FIRST]) == question


def test_words_that_are_missing_are_carried():
    assert effective_query("And the KP-60?", [FIRST]) == (
        "And the KP-60? (torque casing bolts KP-40 need)"
    )


def test_a_chain_of_follow_ups_reaches_the_subject():
    query = effective_query("Why?", [FIRST, "And the cover?"])
    assert "torque" in query and "cover" in query


def test_nothing_to_carry():
    assert effective_query("Why?", []) == "Why?"
    assert effective_query("And these bolts?", ["bolts?"]) == "And these bolts?"
