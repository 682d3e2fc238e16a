"""What kind of value a question asks for, and which sentences have one."""

import pytest

from docqa.asked import asked_for


@pytest.mark.parametrize(
    ("question", "fits", "fails"),
    [
        ("How many valves are there?", "There are twelve valves.", "There are valves."),
        ("How many cases are left?", "17,719 cases, 71 percent less.", "90 percent of all cases."),
        ("How many percent are closed?", "90 percent of all cases.", "17,719 cases."),
        ("How old was the pilot?", "The pilot, age 85, was alone.", "The pilot was alone."),
        ("How strong was the wind?", "A wind of 8 knots blew.", "A strong wind blew."),
        ("What share of glycol is allowed?", "Up to 40 % glycol.", "Up to 40 litres of glycol."),
        ("How much money went to the fund?", "It got $1 billion.", "It got 14 new members."),
        ("What did EPA spend on vaccines?", "It spent 3 million dollars.", "2,300 products."),
        ("How long did it need to start?", "Started in 13.531 seconds", "Starting v3.0.7 using 21"),
        ("Which torque does the nut need?", "Tighten it to 55 Nm.", "Tighten it, see section 9.3."),
        ("When was it built?", "It was built in 1978.", "It was built by hand."),
        ("Who signed?", "It was signed by Elena Kovac.", "it was signed yesterday."),
        ("Why did it stop?", "It stopped because of heat.", "It stopped."),
    ],
)
def test_the_kind_of_answer(question, fits, fails):
    asked = asked_for(question)
    assert asked is not None
    assert asked.fits(fits) and not asked.fits(fails)


def test_numbers_that_are_no_values():
    asked = asked_for("How many vanes has the TWX 40?")
    assert asked.codes == frozenset({"twx40"})
    assert not asked.fits("The TWX 40 has vanes of steel.")
    assert asked.fits("The TWX 40 has six vanes.")
    assert not asked.fits("9.4 Replacing the vanes")
    assert not asked.fits("2026-03-12T10:31:09.731Z vanes replaced")
    assert not asked.fits("The works were founded in 1934, and moved on May 3, 1960.")
    assert asked.fits("In 1934 it had 2000 vanes.")
    assert asked.fits("45 Nm") and asked.fits("3.9 days") and not asked.fits("2. Check the vanes")


@pytest.mark.parametrize(
    "question",
    [
        "Which airport was the plane bound for when it crashed?",
        "What fuse protects the unit and where is it?",
        "describe the seal",
        "",
    ],
)
def test_the_first_word_that_asks_decides(question):
    assert asked_for(question) is None


@pytest.mark.parametrize(
    ("question", "is_strict"),
    [
        ("How many pumps?", True),
        ("number of contractors", True),
        ("average days to pay claims", False),
        ("Until when is it certified?", False),
    ],
)
def test_only_some_kinds_are_sure(question, is_strict):
    assert asked_for(question).is_strict is is_strict
