from dataclasses import replace

import pytest

from docqa.support import best_sentences, cite, find_support, markers_in, without_markers
from docqa.types import Mark
from tests.docqa.make import evidence

TEXT = (
    "The casing bolts are tightened to 45 Nm in a cross pattern. The cover bolts take 25 Nm. "
    "Replace the seal after 2,000 hours of operation."
)


def quote(claim, question, *sources):
    support = find_support(claim, question, sources or (evidence(TEXT),))
    return None if support is None else support.evidence.chunk.text[support.start : support.end]


@pytest.mark.parametrize(
    ("claim", "expected"),
    [
        ("45 Nm", "The casing bolts are tightened to 45 Nm in a cross pattern."),
        ("The cover bolts take 25 Nm.", "The cover bolts take 25 Nm."),
        (
            "The seal is replaced after 2000 hours.",
            "Replace the seal after 2,000 hours of operation.",
        ),
        ("46 Nm", None),
        ("Replace the seal after 2,000 hours of rotation.", None),
        ("The casing bolts are made of titanium.", None),
        ("The bolts take 25 Nm after 3000 hours.", None),
    ],
)
def test_a_claim_is_quoted_or_not_supported(claim, expected):
    assert quote(claim, "What torque do the casing bolts need?") == expected


def test_repeating_the_question_proves_nothing_that_is_not_there():
    assert (
        quote("The impeller bolts need torque.", "What torque do the impeller bolts need?") is None
    )


def test_the_marker_does_not_matter_where_the_words_stand():
    other = evidence("Nothing of the kind.", marker=2)
    support = find_support("45 Nm", "To what are the bolts tightened?", (other, evidence(TEXT)))
    assert support is not None and support.evidence.marker == 1


def test_a_quote_that_crosses_a_page_has_both_pages():
    crossing = evidence("One two three. Four five six.", page=7, breaks=((9, 8),), start=100)
    citation = cite(crossing, 0, 14)
    assert (citation.page, citation.page_last, citation.line) == (7, 8, None)
    assert (citation.char_start, citation.char_end) == (100, 114)
    assert cite(crossing, 15, 29).page == 8


def test_lines_of_a_log_are_exact():
    log = evidence("a\nb\nc\nd", line=41)
    citation = cite(log, 4, 7)
    assert (citation.line, citation.line_last, citation.page) == (43, 44, None)


def test_markers():
    assert markers_in("So it is [2][1], and [3, 4] too [2].") == [2, 1, 3, 4]
    assert without_markers("So it is [2].") == "So it is."
    assert markers_in("array[0] and [x]") == [0]


def test_a_number_is_of_the_clause_that_it_stands_in():
    text = "14 were caused by cavitation in the suction tank, eight by a loose sensor."
    question = "How many false alarms were caused by cavitation?"
    assert quote("14", question, evidence(text)) == text
    assert quote("eight", question, evidence(text)) is None
    assert quote("eight", "How many false alarms came from a sensor?", evidence(text)) == text


def test_the_sentence_of_the_reader_wins():
    question = "How often is the seal replaced?"
    [likest] = best_sentences(question, evidence(TEXT))
    assert TEXT[likest.start : likest.end].startswith("Replace the seal")
    at = TEXT.index("25 Nm")
    marked = replace(evidence(TEXT), marks=(Mark(at, at + 5, 2.0), Mark(0, 3, 1.0)))
    best, second = best_sentences(question, marked)
    assert TEXT[best.start : best.end] == "The cover bolts take 25 Nm." and best.score == 2.0
    assert TEXT[second.start : second.end].startswith("The casing bolts are")


TWO = (
    "The impeller has six vanes on the TWX 40 and seven vanes on the TWX 65. "
    "The TWX 40 has type 6306 on the drive side and 6305 on the pump side; the TWX 65 has 6308 "
    "on the drive side and 6307 on the pump side."
)
ROW = "Joint: Casing cover bolts | TWX 40: 38 Nm | TWX 65: 66 Nm"


@pytest.mark.parametrize(
    ("claim", "question", "text", "is_supported"),
    [
        ("seven vanes", "How many vanes has the impeller of the TWX 65?", TWO, True),
        ("six vanes", "How many vanes has the impeller of the TWX 65?", TWO, False),
        ("six vanes", "How many vanes has the impeller of the TWX 40?", TWO, True),
        ("6305", "Which bearing is on the pump side of the TWX 40?", TWO, True),
        ("6308", "Which bearing is on the drive side of the TWX 40?", TWO, False),
        ("38 Nm", "torque of the casing cover bolts of the TWX 40", ROW, True),
        ("38 Nm", "torque of the casing cover bolts of the TWX 65", ROW, False),
        ("38 Nm", "torque of the casing cover bolts", ROW, True),
    ],
)
def test_a_value_belongs_to_the_code_beside_it(claim, question, text, is_supported):
    assert (find_support(claim, question, (evidence(text),)) is not None) is is_supported


def test_a_value_of_another_row_is_no_support():
    table = (
        "Table 16: Tightening torques\nJoint: Casing cover bolts | TWX 40: 38 Nm | TWX 65: 66 Nm\n"
        "Joint: Seal gland nuts | TWX 40: 14 Nm | TWX 65: 17 Nm"
    )
    question = "Which torque do I use for the seal gland nuts on the TWX 65?"
    assert find_support("66 Nm", question, (evidence(table),)) is None
    support = find_support("17 Nm", question, (evidence(table),))
    assert support is not None
    assert table[support.start : support.end].startswith("Joint: Seal gland nuts")


def test_a_bare_number_answers_only_how_many():
    text = "The maximum working pressure is 16 bar. The impeller has 7 vanes."
    assert find_support("16", "What is the maximum working pressure?", (evidence(text),)) is None
    assert find_support("16 bar", "What is the maximum working pressure?", (evidence(text),))
    assert find_support("7", "How many vanes has the impeller?", (evidence(text),))


def test_a_heading_is_no_quote():
    titled = evidence(
        "9.4 Replacing the seal\nWorn seals leak\nThe mechanical seal is drawn off with the tool "
        "TW-7.",
        headings=("9 Maintenance", "9.4 Replacing the seal"),
    )
    [best] = best_sentences("Which tool is for replacing the worn seal?", titled)
    assert titled.chunk.text[best.start : best.end].startswith("The mechanical seal is drawn off")
    on_heading = replace(titled, marks=(Mark(0, 8, 1.0),))
    [again] = best_sentences("Which tool is for replacing the worn seal?", on_heading)
    assert titled.chunk.text[again.start : again.end].startswith("The mechanical seal is drawn")
