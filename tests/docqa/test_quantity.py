"""A number, and what it counts."""

import pytest

from docqa.asked import asked_for
from docqa.quantity import with_unit


@pytest.mark.parametrize(
    ("question", "claim", "quote", "expected"),
    [
        (
            "How much money went to the Chilean vaccine?",
            "310 million",
            "FONDEF gave 310 million Chilean pesos to it",
            "310 million Chilean pesos",
        ),
        ("How many pages?", "500 million", "scan 500 million pages of it", "500 million pages"),
        (
            "how many comments came from the public",
            "358",
            "It received 358 public comments on the rule",
            "358 public comments",
        ),
        (
            "How many staff?",
            "163",
            "163 Full-Time Equivalent (FTE) staff",
            "163 Full-Time Equivalent",
        ),
        ("How many carers?", "two", "for up to two caregivers per patient", "two caregivers"),
        (
            "Above what share of revenue?",
            "more than twenty percent",
            "where more than twenty percent (20%) of it",
            "more than twenty percent (20%)",
        ),
        (
            "What percentage is it?",
            "twenty percent",
            "is twenty percent (20%) of it",
            "twenty percent (20%)",
        ),
        (
            "How much does it pay?",
            "Two Thousand Five Hundred Dollars",
            "a fee of Two Thousand\nFive Hundred Dollars ($2,500) each",
            "Two Thousand Five Hundred Dollars ($2,500)",
        ),
        (
            "How long does it take?",
            "fifteen",
            "within fifteen (15) days of it",
            "fifteen (15) days",
        ),
        ("How many were left?", "17,719", "17,719 cases – a 71 percent less", "17,719 cases"),
        ("How many vanes?", "3", "13 vanes and 3 rotors", "3 rotors"),
        ("How many vanes?", "six", "six | 7 | eight", "six"),
        ("How many vanes?", "six", "has six\nTable 3: Vanes", "six"),
        ("How many vanes?", "six", "has six\nvanes", "six vanes"),
        ("How many vanes?", "six vanes", "it has six vanes of steel", "six vanes"),
        ("When did it open?", "2008", "in 2008 Berkshire bought it", "2008"),
        ("How many vanes?", "9", "it has six vanes of steel", "9"),
    ],
)
def test_a_number_gets_its_unit(question, claim, quote, expected):
    assert with_unit(claim, quote, question, asked_for(question)) == expected
