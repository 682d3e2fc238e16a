from dataclasses import replace

from docqa.answer import DOUBTED, UNSUPPORTED, Draft, generate_answer, quote_answer
from docqa.config import AnswerConfig
from docqa.events import AnswerText
from docqa.prompts import NOT_FOUND
from docqa.support import is_field_asked_for
from docqa.types import AnswerKind, Mark, PackedPrompt
from tests.docqa.make import evidence
from tests.fakes import ScriptedEngine

TEXT = "The casing bolts are tightened to 45 Nm. The cover bolts take 25 Nm."
QUESTION = "What torque do the casing bolts need?"


def run(reply, sources=None, question=QUESTION, max_tokens=160, quote_score=0.5):
    sources = (evidence(TEXT),) if sources is None else sources
    prompt = PackedPrompt((), (1, 2, 3), tuple(sources), ())
    engine = ScriptedEngine([reply])
    events = list(
        generate_answer(
            question, prompt, engine, AnswerConfig(max_tokens=max_tokens), quote_score=quote_score
        )
    )
    draft = events[-1]
    assert isinstance(draft, Draft)
    shown = "".join(e.text for e in events if isinstance(e, AnswerText))
    return draft, shown


def test_a_supported_answer_is_cited_with_its_sentence():
    draft, shown = run("The casing bolts need 45 Nm [1].")
    assert draft.kind is AnswerKind.MODEL
    assert shown == draft.text == "The casing bolts need 45 Nm. [1]"
    assert draft.citations[0].quote == "The casing bolts are tightened to 45 Nm."
    assert draft.usage.generated_tokens > 0


def test_a_missing_or_invented_marker_is_replaced_by_the_true_one():
    assert run("45 Nm")[1] == "45 Nm [1]"
    assert run("45 Nm [7]")[1] == "45 Nm [1]"


def test_what_no_source_supports_is_not_shown():
    draft, shown = run("The casing bolts need 45 Nm. They are made of gold. [1]")
    assert shown == "The casing bolts need 45 Nm. [1]"
    assert draft.notes


def test_nothing_supported_becomes_a_labelled_quote():
    draft, shown = run("The casing bolts need 90 Nm. [1]")
    assert draft.kind is AnswerKind.QUOTE
    assert draft.notes == (UNSUPPORTED,)
    assert shown == "“The casing bolts are tightened to 45 Nm.” [1]"


def test_a_weak_source_is_no_quote():
    draft, shown = run("The casing bolts need 90 Nm.", quote_score=0.95)
    assert draft.kind is AnswerKind.NOT_FOUND and shown == ""


def test_strong_evidence_is_quoted_although_the_model_refused():
    assert run(NOT_FOUND)[0].kind is AnswerKind.QUOTE


def test_the_refusal_is_a_state():
    draft, shown = run(NOT_FOUND, sources=(evidence(TEXT, score=0.05),), quote_score=0.03)
    assert draft.kind is AnswerKind.NOT_FOUND
    assert shown == "" and draft.text == NOT_FOUND


def test_a_tail_that_was_cut_off_is_not_shown_after_a_whole_sentence():
    draft, _ = run("The casing bolts need 45 Nm [1]. The cover bolts take 25", max_tokens=20)
    assert draft.text == "The casing bolts need 45 Nm. [1]"


def test_a_repeated_sentence_is_shown_once():
    assert run("It is 45 Nm. It is 45 Nm. It is 45 Nm.")[1] == "It is 45 Nm. [1]"


def test_a_repeated_number_is_shown_once_with_what_it_counts():
    sources = (evidence("The rule drew 358 public comments in May."),)
    shown = run("358 [1]\n358 [1]\n358 [1]", sources, "How many comments were there?")[1]
    assert shown == "358 public comments [1]"


def test_an_empty_reply_is_no_answer_of_the_model():
    assert run("")[0].kind is AnswerKind.QUOTE


def marked(text, *marks, score=0.9):
    found = (Mark(text.index(t), text.index(t) + len(t), value) for t, value in marks)
    return replace(evidence(text, score=score), marks=tuple(found))


def test_a_second_quote_is_shown_only_where_it_is_nearly_as_good():
    near = marked(TEXT, ("The casing bolts", 2.0), ("The cover bolts", 1.7))
    assert quote_answer(QUESTION, [near], 0.5).text == (
        "“The casing bolts are tightened to 45 Nm.” [1]\n“The cover bolts take 25 Nm.” [1]"
    )
    other = replace(marked(TEXT, ("The cover bolts", 1.7)), marker=2, path="/docs/other.pdf")
    best = marked(TEXT, ("The casing bolts", 2.0))
    assert quote_answer(QUESTION, [best, other], 0.5).text.count("“") == 1
    far = marked(TEXT, ("The casing bolts", 2.0), ("The cover bolts", 1.0))
    assert quote_answer(QUESTION, [far], 0.5).text.count("“") == 1


def test_the_model_is_shown_where_it_answers_from_the_best_sentence():
    source = marked(TEXT, ("The casing bolts", 2.0), ("The cover bolts", 1.0))
    draft, shown = run("45 Nm [1]", sources=(source,))
    assert draft.kind is AnswerKind.MODEL and shown == "45 Nm [1]"


def test_where_the_model_answers_from_another_sentence_both_are_quoted():
    source = marked(TEXT, ("The casing bolts", 2.0), ("The cover bolts", 1.0))
    draft, shown = run("25 Nm [1]", sources=(source,), question="What torque for the bolts?")
    assert draft.kind is AnswerKind.QUOTE and draft.notes == (DOUBTED,)
    assert shown == (
        "“The casing bolts are tightened to 45 Nm.” [1]\n“The cover bolts take 25 Nm.” [1]"
    )
    assert [c.quote for c in draft.citations] == [
        "The casing bolts are tightened to 45 Nm.",
        "The cover bolts take 25 Nm.",
    ]


def test_a_claim_without_the_number_asked_for_is_not_shown():
    text = "The casing bolts are made of steel. The casing bolts are tightened to 45 Nm."
    source = marked(text, ("The casing bolts are tightened", 2.0))
    draft, _ = run("made of steel [1]", sources=(source,))
    assert draft.kind is AnswerKind.QUOTE and "45 Nm" in draft.text


def test_the_same_words_are_not_quoted_twice():
    one = marked(TEXT, ("The casing bolts", 2.0))
    other = replace(marked(TEXT, ("The casing bolts", 1.9)), marker=2)
    assert quote_answer(QUESTION, [one, other], 0.5).text.count("“") == 1


def test_what_the_trained_reader_sees_no_answer_in_is_not_quoted():
    source = marked(TEXT, ("The casing bolts", 2.0))
    assert quote_answer(QUESTION, [replace(source, read_score=0.001)], 0.5) is None
    assert quote_answer(QUESTION, [replace(source, read_score=0.1)], 0.5) is not None


def test_a_field_that_is_asked_for_is_quoted_before_what_only_speaks_of_it():
    text = "Ask the chief investigator first. Chief investigator: Ann Lee. Chief: Bo."
    source = marked(text, ("Ask the", 1.0), ("Chief investigator:", 0.7), ("Chief: Bo", 0.9))
    quote = quote_answer("Who is the chief investigator of NCT06149832?", [source], 0.5)
    assert quote.text.startswith("“Chief investigator: Ann Lee.” [1]")
    assert not is_field_asked_for("Chief: Bo.", "Who is the chief investigator of the large trial?")
    assert not is_field_asked_for("Chief investigator", "Who is the chief investigator?")


def test_a_sentence_without_the_kind_of_value_asked_for_is_no_answer():
    text = "The bolts are greased before use. They are made of steel."
    source = marked(text, ("The bolts", 2.0))
    assert quote_answer("How many bolts are there?", [source], 0.5) is None
    assert quote_answer("What about the bolts?", [source], 0.5).text.startswith("“The bolts")
