import pytest

from docqa.wording import content_words, coverage, numbers, sentences


def split(text):
    return [text[start:end] for start, end in sentences(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two.", ["One.", "Two."]),
        (
            "See Fig. 3, e.g. the seal. Then stop.",
            ["See Fig. 3, e.g. the seal.", "Then stop."],
        ),
        ("Torque 4.5 Nm is set by Dr. Smith.", ["Torque 4.5 Nm is set by Dr. Smith."]),
        ("a hard\nwrapped line. Next", ["a hard\nwrapped line.", "Next"]),
        ("- item one\n- item two", ["- item one", "- item two"]),
        ("Head | Value\nP1 | 3 bar", ["Head | Value", "P1 | 3 bar"]),
        ("", []),
        ("  \n ", []),
    ],
)
def test_sentences(text, expected):
    assert split(text) == expected


def test_numbers_are_compared_plain():
    assert numbers("1,450 rpm, 0.50 bar and 12") == {"1450", "0.5", "12"}
    assert numbers("100") == {"100"}


def test_content_words():
    assert content_words("Which seals were replaced?") == content_words("the seal replaces")


def test_coverage():
    assert coverage("rated flow", "The flow is rated at 5.") == 1.0
    assert coverage("rated pressure", "The flow is rated at 5.") == 0.5
    assert coverage("the of", "anything") == 1.0
