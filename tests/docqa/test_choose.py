"""The answer that the model and the reader agree on."""

from dataclasses import replace

import pytest

from docqa.answer import UNSURE, Draft, generate_answer
from docqa.choose import MOST, best_answer
from docqa.config import AnswerConfig
from docqa.events import AnswerText
from docqa.prompts import NOT_FOUND
from docqa.types import AnswerKind, BlockKind, Mark, PackedPrompt
from tests.docqa.make import evidence
from tests.fakes import ScriptedEngine

TEXT = "Ware sacked Newton, who was coached by Rivera. Ealy tipped a pass."
QUESTION = "Who sacked Newton?"


def source(text=TEXT, answers=(), marker=1, read_score=0.6):
    marks = tuple(Mark(text.index(a), text.index(a) + len(a), score) for a, score in answers)
    made = evidence(text, marker=marker)
    return replace(made, answers=marks, read_score=read_score)


def engine_of(reply, likely, refusal_threshold=0.2):
    engine = ScriptedEngine([reply])
    engine.likely = likely
    engine.info = replace(engine.info, adapter="cite", refusal_threshold=refusal_threshold)
    return engine


def better(written, sources, likely, question=QUESTION):
    engine = engine_of(written, likely)
    prompt = PackedPrompt((), (1, 2, 3), tuple(sources), ())
    choice = best_answer(written, question, prompt, engine)
    return (None if choice is None or choice.text == written else choice.text), engine


def test_what_both_find_likely_wins_over_what_one_finds_likeliest():
    read = source(answers=[("Ware", -0.2), ("Newton, who", -1.0)])
    likely = {"Ealy [1]": -0.5, "Ware [1]": -1.5, "Newton, who [1]": -12.0}
    assert better("Ealy [1]", [read], likely)[0] == "Ware [1]"
    likely["Ealy [1]"], likely["Ware [1]"] = -0.1, -19.0
    assert better("Ealy [1]", [read], likely)[0] is None  # the model would never say so


def test_what_the_reader_marks_too_is_not_asked_about_twice():
    found, engine = better(
        "ware. [1]", [source(answers=[("Ware", -0.2)])], {"ware. [1]": -1.0, "Ware [1]": -1.5}
    )
    assert found is None
    assert engine.asked_about == [["ware. [1]"]]


def test_what_the_model_wrote_without_the_number_asked_for_is_no_candidate():
    read = source("In all 17,719 cases were left, 90 percent of them old.", [("17,719", -0.5)])
    likely = {"90 percent [1]": -0.1, "17,719 [1]": -9.0}
    found, engine = better("90 percent [1]", [read], likely, "How many cases were left?")
    assert found == "17,719 [1]"
    assert engine.asked_about == [["17,719 [1]"]]


def test_an_article_more_is_the_same_answer():
    read = source("They found a 3-inch crack.", [("a 3-inch crack", -0.3), ("They", -0.4)])
    likely = {"3-inch crack [1]": -0.5, "a 3-inch crack [1]": -9.0, "They [1]": -0.6}
    found, engine = better("3-inch crack [1]", [read], likely, "What did they find?")
    assert found is None
    assert engine.asked_about == [["3-inch crack [1]", "They [1]"]]


def test_a_passage_that_hardly_answers_lends_no_span():
    good, poor = (
        source(answers=[("Ware", -1.0)], read_score=0.7),
        source("Brady sacked nobody.", [("Brady", -0.1)], marker=2, read_score=0.02),
    )
    likely = {"Ealy [1]": -4.0, "Ware [1]": -2.0, "Brady [2]": -1.5}
    assert better("Ealy [1]", [good, poor], likely)[0] == "Ware [1]"


def test_a_long_clause_may_be_less_likely_than_one_word():
    clause = (
        "the Supplier may end this Agreement with ninety days of notice to all of its customers"
    )
    read = source(f"Here {clause}.", [(clause, -1.0)])
    likely = {"Ealy [1]": -9.0, f"{clause} [1]": -16.0}
    assert better("Ealy [1]", [read], likely, "Who may end it?")[0] == f"{clause} [1]"
    likely[f"{clause} [1]"] = -25.0
    assert better("Ealy [1]", [read], likely, "Who may end it?")[0] is None


def test_spans_without_the_number_that_is_asked_for_are_no_candidates():
    text = "Newton threw 41 passes for Rivera."
    read = source(text, [("Rivera", -0.1), ("41 passes", -2.0)])
    engine = better("3 [1]", [read], {}, "How many passes did Newton throw?")[1]
    assert engine.asked_about == [["3 [1]", "41 passes [1]"]]
    assert not better("3 [1]", [source(text, [("Rivera", -0.1)])], {}, "How many?")[1].asked_about


def test_the_number_of_a_thread_is_no_torque():
    read = source(
        "Bolts: M10 / M12 | TWX 40: 38 Nm", [("M10 / M12", -0.1), ("TWX 40: 38 Nm", -0.2)]
    )
    likely = {"38 Nm [1]": -0.1, "M10 / M12 [1]": -0.2, "TWX 40: 38 Nm [1]": -9.0}
    found, engine = better("38 Nm [1]", [read], likely, "Which torque do the bolts need?")
    assert found is None
    assert engine.asked_about == [["38 Nm [1]", "TWX 40: 38 Nm [1]"]]
    _, engine = better("38 Nm [1]", [read], likely, "Which thread do the bolts have?")
    assert "M10 / M12 [1]" in engine.asked_about[0]


def test_a_sign_is_no_word():
    read = source("It rose by 30 % or a lot.", [("30 %", -0.2), ("a lot", -0.2)])
    likely = {"it rose [1]": -9.0, "30 % [1]": -2.0, "a lot [1]": -2.1}
    assert better("it rose [1]", [read], likely, "Did it rise?")[0] == "a lot [1]"


def test_the_model_is_asked_about_few_spans():
    words = [f"w{i}" for i in range(12)]
    read = source(" ".join(words), [(w, -float(i)) for i, w in enumerate(words)])
    engine = better("x [1]", [read], {})[1]
    assert engine.asked_about == [["x [1]", *(f"w{i} [1]" for i in range(MOST))]]


def test_without_marked_answers_nothing_is_asked():
    found, engine = better("Ealy [1]", [source()], {})
    assert found is None
    assert not engine.asked_about


# -- in an answer ---------------------------------------------------------------------------------

READ = [("Ware", -0.2)]
LIKELY = {"Ealy [1]": -0.5, "Ware [1]": -1.0}


def answer(
    reply, likely=LIKELY, sources=None, refusal_threshold=0.2, question=QUESTION, **settings
):
    engine = engine_of(reply, likely, refusal_threshold)
    prompt = PackedPrompt((), (1, 2, 3), tuple(sources or [source(answers=READ)]), ())
    config = AnswerConfig(**settings)
    events = list(generate_answer(question, prompt, engine, config, quote_score=0.5))
    draft = events[-1]
    assert isinstance(draft, Draft)
    assert "".join(e.text for e in events if isinstance(e, AnswerText)) == (
        draft.text if draft.kind is not AnswerKind.NOT_FOUND else ""
    )
    return draft, engine


def test_the_better_answer_is_shown_with_its_citation():
    draft, _ = answer("Ealy [1]")
    assert draft.text == "Ware [1]"
    assert draft.citations[0].quote == "Ware sacked Newton, who was coached by Rivera."
    assert draft.notes == ()
    assert draft.usage.choose_s > 0


def test_an_answer_that_both_prefer_stays():
    assert answer("Ealy [1]", {"Ealy [1]": -0.1})[0].text == "Ealy [1]"


@pytest.mark.parametrize(
    ("reply", "changed"),
    [
        ("Ealy [1]", {"refusal_threshold": None}),  # not docqa's adapter: it was not measured
        ("Ealy [1]", {"temperature": 0.7}),
        ("Ealy [1]", {"choose": False}),
        ("Ealy [1]", {"max_tokens": 1}),  # stopped before its end
        ("Not found in the sources.", {}),
        ("Ealy tipped a pass [1]. Rivera coached Newton [1].", {}),  # two claims
        ("Ware and Ealy [1] [2]", {}),  # of two sources
    ],
)
def test_where_nothing_is_chosen(reply, changed):
    asked = answer(reply, **changed)[1].asked_about
    assert all(texts == [NOT_FOUND] for texts in asked)  # only how likely a refusal is


FAILED = "Whose handshake failed?"
LINES = "10:00 sshd[3]: up\n10:04 ktest: handshake of 95.216.197.33 failed\n10:09 sshd[3]: down"


def of_a_log(answers):
    read = source(LINES, answers)
    return replace(read, chunk=replace(read.chunk, kind=BlockKind.RECORD))


@pytest.mark.parametrize("likely", [{"ktest [1]": -0.2}, {"95.216.197.33 [1]": -0.2}])
def test_of_a_log_the_line_is_shown_where_the_models_do_not_agree(likely):
    draft, _ = answer("ktest [1]", likely, [of_a_log([("95.216.197.33", -3.0)])], question=FAILED)
    assert draft.kind is AnswerKind.QUOTE and draft.notes == (UNSURE,)
    assert "“10:04 ktest: handshake of 95.216.197.33 failed” [1]" in draft.text


def test_of_a_log_a_few_words_are_shown_where_both_agree():
    draft, _ = answer(
        "ktest [1]", {"ktest [1]": -0.2}, [of_a_log([("ktest", 0.5)])], question=FAILED
    )
    assert (draft.kind, draft.text, draft.notes) == (AnswerKind.MODEL, "ktest [1]", ())


def test_a_choice_that_the_check_refuses_gives_way_to_the_model():
    text = "Serial numbers: 2, 3. The pump weighs 45 kg."
    read = source(text, [("2", -0.1)])
    engine = engine_of("45 kg [1]", {"45 kg [1]": -3.0, "2 [1]": -0.1})
    prompt = PackedPrompt((), (1, 2, 3), (read,), ())
    *_, draft = generate_answer(
        "What does the pump weigh?", prompt, engine, AnswerConfig(), quote_score=0.5
    )
    assert draft.text == "45 kg [1]"
    assert draft.notes == ()
