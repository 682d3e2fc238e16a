import pytest

from docqa.wording import (
    FIELDS_CHARS,
    codes,
    content_words,
    field_share,
    has_identifier,
    identifiers,
    numbers,
    sentences,
    without_empty_fields,
)


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
        ('{"a": 1}\n{"b": 2}', ['{"a": 1}', '{"b": 2}']),
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


def test_identifiers_are_codes_not_measures():
    text = "Does fault E25 of the TWX 80 or KP-40 need 45Nm on the 2nd M10 bolt in version v2.1?"
    assert identifiers(text) == {"e25", "twx80", "kp40", "m10", "v21"}
    assert identifiers("What is the rated flow?") == set()


def test_an_identifier_is_found_whatever_its_separators_but_not_inside_another():
    assert has_identifier("twx80", "the TWX-80 pump") and has_identifier("twx80", "twx 80")
    assert not has_identifier("twx80", "TWX 800") and not has_identifier("e2", "E25")


@pytest.mark.parametrize(
    ("row", "left"),
    [
        ("Observation Time: 1654 | Direction from Site:", "Observation Time: 1654 | "),
        ("Visibility: | Ceiling: 900 feet | Wind:", "| Ceiling: 900 feet | "),
        ("Ratio 1:2 | Time: 12:30", "Ratio 1:2 | Time: 12:30"),
        ("Direction from Site:", "Direction from Site:"),  # a line of its own names what follows
    ],
)
def test_fields_that_nobody_filled_in_say_nothing(row, left):
    assert without_empty_fields(row) == left


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("an OPTIONS request for /projects/xdotool/ in May", ["/projects/xdotool/"]),
        ("broker startup zookeeper.connect, prod-02: failed.", ["zookeeper.connect", "prod-02"]),
        ("at 19:02 on 2016-12-19 from 10.0.0.7:443", ["19:02", "2016-12-19", "10.0.0.7:443"]),
        ("a well-known 45Nm, 3.5 mm, 1,000 and/or 2nd co-branding deal of 2007", []),
        ("", []),
    ],
)
def test_codes_are_what_machines_write(text, expected):
    assert codes(text) == expected


def test_a_filled_field_whose_name_is_asked_for():
    row = "Registered Owner: Acme Flying | Rated Power: 160 hp | Last Inspection:"
    assert field_share(row, set(content_words("rated power of the engine"))) == 1.0
    assert field_share(row, set(content_words("who owned the airplane"))) == 0.5
    assert field_share(row, set(content_words("last inspection"))) == 0.0  # nobody filled it in
    assert field_share("It was rated 160: power.", {"power"}) == 0.0
    assert field_share("", {"power"}) == field_share(row, set()) == 0.0


@pytest.mark.parametrize("form", ['"name{0}": "value {0}"', "some.name{0} -> value {0}"])
def test_a_long_record_of_fields_is_several_sentences_and_a_long_sentence_one(form):
    record = "{" + ", ".join(form.format(i) for i in range(60)) + "}"
    pieces = [record[a:b] for a, b in sentences(record)]
    assert len(pieces) > 3 and max(map(len, pieces)) <= FIELDS_CHARS
    assert [p for p in pieces if form.format(31) in p]
    assert "".join(pieces).replace(" ", "") == record.replace(" ", "")
    clause = "The Supplier shall, " + "upon the written request of the Customer, " * 12 + "deliver."
    assert list(sentences(clause)) == [(0, len(clause))]
