"""Sessions: kept whole, resumed in another process' shoes, purged with their documents."""

from __future__ import annotations

import json
import re
import sqlite3
import stat
import threading
from dataclasses import replace

import pytest

from docqa.config import SessionConfig
from docqa.errors import ContextOverflow, UnsupportedFile, UsageError
from docqa.events import AnswerText
from docqa.session_export import session_json, session_markdown
from docqa.session_rows import NewTurn
from docqa.sessions import Sessions
from docqa.stats import stats_json
from docqa.types import Answer, AnswerKind, Citation, EngineInfo, Usage
from docqa.workspace import AskOptions
from tests.docqa.librarian import log_chunks, open_store, put
from tests.docqa.make import evidence
from tests.docqa.session_makers import MOTOR, PUMP, QUESTIONS, Desk

TORQUE, SEAL, STORED = QUESTIONS[:3]


@pytest.fixture
def store(tmp_path):
    with open_store(tmp_path) as opened:
        yield opened


@pytest.fixture
def desk(tmp_path):
    made = Desk(tmp_path)
    yield made
    made.workspace.close()


@pytest.fixture
def pumps(desk):
    desk.write("pump.md", PUMP)
    return desk


def answer(doc_id=0, text="38 Nm [3]", question="How much?", quote="38 Nm") -> Answer:
    source = evidence("The bolts need 38 Nm.", marker=3, doc_id=doc_id, path="/d/a.log", page=4)
    return Answer(
        question=question,
        query=f"{question} (bolts)",
        found=True,
        kind=AnswerKind.MODEL,
        text=text,
        citations=(Citation(3, "/d/a.log", 4, None, quote, 15, 20),),
        evidence=(source,),
        usage=Usage(100, 60, 7, 0.1, 0.2, 0.3, 0.4, {"system": 60, "question": 40}, 5000, 50),
        engine=EngineInfo("llama.cpp", "m", 4096, "q8_0", "q8_0"),
        notes=("a note",),
    )


# -- rows -----------------------------------------------------------------------------------------


def test_a_turn_comes_back_as_it_was_kept(store):
    doc_id = put(store, "/d/a.log", log_chunks(2))
    kept = answer(doc_id, text="odd \udcff text", quote="lone \ud800 surrogate")
    own = kept.evidence
    Sessions(store.db).append("talk", NewTurn(kept, own, (1, 2), True, None, 3, 4))
    session = Sessions(store.db).get("talk")
    (turn,) = Sessions(store.db).turns(session.session_id)
    assert turn.answer.citations == kept.citations and turn.answer.usage == kept.usage
    assert turn.answer.engine == kept.engine and turn.answer.notes == ("a note",)
    assert turn.answer.query == kept.query and turn.answer.kind is AnswerKind.MODEL
    assert turn.answer.evidence == turn.sources
    assert turn.sources[0].chunk.span == own[0].chunk.span
    assert (turn.above, turn.is_read, turn.is_outdated, turn.removed) == ((1, 2), True, False, ())
    assert Sessions(store.db).next_marker(session.session_id) == 4


def test_names_are_unique_and_the_nearest_is_named(store):
    sessions = Sessions(store.db)
    doc_id = put(store, "/d/a.log", log_chunks(1))
    for name in ("pumps", "motors"):
        sessions.append(name, NewTurn(answer(doc_id)))
    assert [s.name for s in sessions.all()] == ["motors", "pumps"]
    assert sessions.fresh_name(" pumps\n") == "pumps (2)"
    with pytest.raises(UsageError, match="did you mean 'pumps'"):
        sessions.get("pump")
    with pytest.raises(UsageError, match="called 'motors' already"):
        sessions.rename("pumps", "motors")
    with pytest.raises(UsageError, match="needs a name"):
        sessions.rename("pumps", " \n")
    assert sessions.rename("pumps", "pumps").n_turns == 1
    sessions.rename("pumps", "valves")
    sessions.delete("motors")
    assert [s.name for s in sessions.all()] == ["valves"]


def test_a_document_that_is_removed_takes_its_words_along(store):
    sessions = Sessions(store.db)
    doc_id = put(store, "/d/a.log", log_chunks(2))
    other = put(store, "/d/b.log", log_chunks(2, "other"), b"other")
    sessions.append("talk", NewTurn(answer(doc_id), answer(doc_id).evidence, is_read=True))
    session = sessions.get("talk")
    sessions.pin("talk", [doc_id, other])
    store.remove([doc_id])
    (turn,) = sessions.turns(session.session_id)
    assert turn.removed == ("a.log",) and turn.sources == () and turn.answer.citations == ()
    assert "38" not in turn.answer.text and "no longer in the library" in turn.answer.text
    assert any("a.log" in note for note in turn.answer.notes)
    assert [pin.doc_id for pin in sessions.pins(session.session_id)] == [other]
    store.close()
    with sqlite3.connect(store.paths.database) as connection:
        connection.execute("VACUUM")
        dumped = "\n".join(connection.iterdump())
    assert "38 Nm" not in dumped


def test_a_document_removed_while_the_question_was_answered_leaves_nothing(store):
    sessions = Sessions(store.db)
    doc_id = put(store, "/d/a.log", log_chunks(2))
    store.remove([doc_id])
    sessions.append("talk", NewTurn(answer(doc_id), answer(doc_id).evidence, is_read=True))
    (turn,) = sessions.turns(sessions.get("talk").session_id)
    assert turn.sources == () and turn.answer.citations == () and "38" not in turn.answer.text


def test_a_changed_document_outdates_its_turns_and_then_takes_them_along(store):
    sessions = Sessions(store.db)
    doc_id = put(store, "/d/a.log", log_chunks(2))
    sessions.append("talk", NewTurn(answer(doc_id), answer(doc_id).evidence, is_read=True))
    sessions.pin("talk", [doc_id])
    session = sessions.get("talk")
    sessions.number_pin(session.session_id, doc_id, 5)
    successor = put(store, "/d/a.log", log_chunks(3), b"changed")
    (turn,) = sessions.turns(session.session_id)
    assert turn.is_outdated and turn.answer.citations and "38 Nm" in turn.answer.text
    assert any("changed since" in note for note in turn.answer.notes)
    (pin,) = sessions.pins(session.session_id)
    assert (pin.doc_id, pin.first_marker) == (successor, None)
    store.remove([successor])
    (turn,) = sessions.turns(session.session_id)
    assert turn.sources == () and turn.answer.citations == ()


def test_of_two_turns_asked_at_once_one_stands_in_later_prompts(store):
    sessions = Sessions(store.db)
    doc_id = put(store, "/d/a.log", log_chunks(2))
    own = answer(doc_id).evidence
    for text in ("first [3]", "second [3]"):
        turn = NewTurn(answer(doc_id, text=text), own, (), True, None, 3, 4)
        sessions.append("talk", turn)
    turns = sessions.turns(sessions.get("talk").session_id)
    assert [(t.answer.text, t.is_read) for t in turns] == [
        ("first [3]", True),
        ("second [3]", False),
    ]


# -- asking ---------------------------------------------------------------------------------------


def test_ten_turns_over_two_pinned_documents_compute_nothing_twice(desk):
    pins = (desk.write("pump.md", PUMP), desk.write("motor.md", MOTOR))
    before = 0
    markers: list[int] = []
    for i, question in enumerate(QUESTIONS):
        found, prompt = desk.asked(question, pins=pins if i == 0 else ())
        assert found.found and found.usage.reused_tokens >= before, question
        assert prompt.layer_tokens["pinned"] > 0
        before = len(desk.engine.read_only[-1])  # all that the next prompt begins with
        assert desk.engine.cached == desk.engine.read_only[-1]
        turn = desk.turns()[-1]
        markers += [s.marker for s in turn.sources]
    assert len(markers) == len(set(markers))
    stats = stats_json(desk.workspace.desk.stats(desk.workspace.desk.sessions.get("pumps")))
    assert stats["questions"] == stats["asked_model"] == 10
    assert stats["reused_share"] > 0.8 and stats["layer_tokens"]["pinned"] > 0
    assert stats["prompt_tokens"] == stats["reused_tokens"] + stats["prefilled_tokens"]
    assert stats["prompt_tokens"] == sum(stats["layer_tokens"].values())


def test_what_stands_in_the_prompt_already_is_pointed_to(pumps):
    first, prompt = pumps.asked(TORQUE)
    assert prompt.above == () and first.citations[0].marker == 1
    again, prompt = pumps.asked("And the pattern of the casing bolts?")
    assert prompt.above and not [e for e in prompt.evidence if e.marker in (7, 8, 9)]
    texts = "".join(s.text for s in prompt.segments)
    assert texts.count("tightened to 38 Nm in a cross pattern.\n") == 1
    assert again.query != again.question and "casing" in again.query
    assert again.citations[0].marker in prompt.above
    assert {c.marker for c in again.citations} <= {e.marker for e in again.evidence}


def test_a_session_goes_on_after_a_restart(pumps):
    pumps.ask(TORQUE)
    prefix = pumps.engine.read_only[-1]
    assert pumps.kv_files() == {"session-1.kv"}
    pumps.restart()
    found = pumps.ask(SEAL)
    assert pumps.engine.n_loaded == 1
    assert found.usage.restored_tokens == found.usage.reused_tokens == len(prefix)
    assert [t.answer.question for t in pumps.turns()] == [TORQUE, SEAL]


def test_pinned_kv_is_shared_by_sessions_and_survives_a_restart(desk):
    pins = (desk.write("pump.md", PUMP),)
    desk.ask(TORQUE, session="one", pins=pins)
    boundary = desk.engine.read_only[0]
    (first,) = desk.turns("one")
    assert first.answer.usage.reused_tokens == 0  # reading what is pinned was this question's cost
    (pinned,) = {name for name in desk.kv_files() if name.startswith("pinned-")}
    desk.restart()
    found = desk.ask(SEAL, session="two", pins=pins)
    assert found.usage.restored_tokens == found.usage.reused_tokens == len(boundary)
    assert desk.kv_files() == {pinned, "session-1.kv", "session-2.kv"}
    alone = desk.ask(STORED, session=None, pins=pins)
    assert alone.usage.reused_tokens >= len(boundary)
    assert [s.name for s in desk.workspace.desk.sessions.all()] == ["two", "one"]


def test_without_kv_on_disk_nothing_is_written(tmp_path):
    desk = Desk(tmp_path, keep_kv=False)
    desk.write("pump.md", PUMP)
    desk.ask(TORQUE)
    assert desk.kv_files() == set() and len(desk.turns()) == 1
    desk.workspace.close()


def test_removing_a_document_purges_answers_kv_and_traces(pumps, tmp_path):
    motor = pumps.write("motor.md", MOTOR)
    pumps.ask(TORQUE)
    pumps.ask(QUESTIONS[3], session="motors", pins=(motor,))
    trace = pumps.workspace.desk.trace(tmp_path / "trace.jsonl")
    for event in pumps.workspace.ask(QUESTIONS[4], AskOptions()):
        trace.note(event)
    trace.close()
    written = (tmp_path / "trace.jsonl").read_text()
    assert "1.8 ohm" in written
    assert stat.S_IMODE((tmp_path / "trace.jsonl").stat().st_mode) == 0o600
    assert pumps.engine.cached
    pumps.workspace.remove([motor])
    assert pumps.engine.cached == [] and pumps.kv_files() == {"session-1.kv"}
    purged = (tmp_path / "trace.jsonl").read_text()
    assert "1.8 ohm" not in purged
    assert {json.loads(line)["event"] for line in purged.splitlines()} <= {"removed", "prefilled"}
    (turn,) = pumps.turns("motors")
    assert "2500" not in json.dumps(
        session_json(pumps.workspace.desk.sessions.get("motors"), [turn])
    )
    assert pumps.turns("pumps")[0].answer.citations
    assert pumps.ask(SEAL).usage.reused_tokens > 0
    after = pumps.ask(QUESTIONS[3], session="motors")  # goes on, without what is gone
    assert not after.found


def test_a_changed_file_is_read_anew_and_its_turns_leave_the_prompt(pumps):
    pumps.ask(TORQUE)
    pumps.ask(SEAL)
    pumps.write("pump.md", PUMP.replace("38 Nm", "45 Nm"))
    assert pumps.kv_files() == set()
    _, prompt = pumps.asked(STORED)
    texts = "".join(s.text for s in prompt.segments)
    assert "38 Nm" not in texts and "history" not in prompt.layer_tokens
    assert [t.is_outdated for t in pumps.turns()] == [True, True, False]


def test_a_pinned_log_that_grows_keeps_markers_apart(desk):
    desk.context_length = 30_000
    desk.restart()

    def line(n):
        return f"2026-03-01T10:{n // 60:02}:{n % 60:02}Z ERROR pump {n}: casing bolts loose\n"

    log = desk.write("pump.log", "".join(map(line, range(120))))
    desk.ask("Why are the casing bolts loose in pump 7?", pins=(log,))
    desk.write("pump.md", PUMP)
    own = desk.ask(SEAL).evidence
    with log.open("a") as file:
        file.write("".join(map(line, range(120, 400))))
    list(desk.workspace.sync([log]))
    _, prompt = desk.asked("Why are the casing bolts loose in pump 390?")
    texts = "".join(s.text for s in prompt.segments if s.layer == "pinned")
    assert "pump 390" in texts
    headers = re.findall(r"^\[(\d+)\] ", "".join(s.text for s in prompt.segments), re.M)
    assert len(headers) == len(set(headers)) > len(own)


def test_what_is_pinned_must_be_there_and_must_fit(pumps, tmp_path):
    with pytest.raises(UnsupportedFile, match="not in the library"):
        pumps.ask(TORQUE, pins=(tmp_path / "absent.md",))
    pumps.context_length = 300
    pumps.restart()
    with pytest.raises(ContextOverflow, match="pinned documents take"):
        pumps.ask(TORQUE, pins=(tmp_path / "docs" / "pump.md",))


def test_an_answer_that_was_stopped_is_not_kept(pumps):
    pumps.ask(TORQUE)
    cancel = threading.Event()
    stopped = []
    for event in pumps.workspace.ask(SEAL, AskOptions(session="pumps"), cancel=cancel):
        if isinstance(event, AnswerText):
            cancel.set()  # as the question line does: what follows is dropped
        stopped.append(event)
    assert any(isinstance(event, AnswerText) for event in stopped)
    assert [t.answer.question for t in pumps.turns()] == [TORQUE]
    prefix = pumps.engine.read_only[-1]
    found = pumps.ask(SEAL)
    assert found.found and found.usage.reused_tokens >= len(prefix)
    assert [t.answer.question for t in pumps.turns()] == [TORQUE, SEAL]


def test_kv_that_is_refused_is_computed_again_and_said(pumps):
    pumps.ask(TORQUE)
    pumps.restart()
    pumps.engine.load_kv = lambda path: 0
    pumps.engine.kv_reason = "saved with kv type k f16 (here: q8_0)"
    found = pumps.ask(SEAL)
    assert found.usage.restored_tokens == 0 and found.found
    assert any("saved with kv type k f16" in note for note in found.notes)


def test_kv_beyond_the_quota_goes_least_recently_used_first(tmp_path):
    desk = Desk(tmp_path)
    desk.write("pump.md", PUMP)
    desk.ask(TORQUE, session="one")
    (path,) = (desk.config.library.dir / "kv").iterdir()
    quota_gib = 2.5 * path.stat().st_size / 2**30
    desk.config = replace(desk.config, session=SessionConfig(kv_quota_gib=quota_gib))
    desk.restart()
    desk.ask(TORQUE, session="two")
    desk.ask(TORQUE, session="three")
    assert desk.kv_files() == {"session-2.kv", "session-3.kv"}
    assert desk.ask(SEAL, session="one").found  # computed again
    desk.workspace.close()


# -- history --------------------------------------------------------------------------------------


def test_old_turns_become_a_note_of_what_was_cited(tmp_path):
    desk = Desk(tmp_path, history_tokens=900, note_tokens=200)
    path = desk.write("pump.md", PUMP)
    desk.write("motor.md", MOTOR)
    text = desk.workspace.text(path) + desk.workspace.text(tmp_path / "docs" / "motor.md")
    desk.ask("What colour is the roof of the building?")
    notes, note_ids = [], set()
    for question in (*QUESTIONS, *QUESTIONS):
        before = desk.engine.read_only[-1] if desk.engine.read_only else []
        found, prompt = desk.asked(question)
        assert found.found and found.usage.reused_tokens >= len(before)
        history = "".join(s.text for s in prompt.segments if s.layer == "history")
        assert prompt.layer_tokens.get("history", 0) <= 900 + 250
        notes.append(history.count("Earlier in this conversation:"))
        if len(desk.turns()) > 2:
            assert desk.turns()[-2].answer.query in history  # the last turn is never dropped
        session = desk.workspace.desk.sessions.get("pumps")
        note = desk.workspace.desk.sessions.note(session.session_id)
        note_ids.add(note.note_id if note else 0)
    assert note.goal == note.open[0] == "What colour is the roof of the building?"
    turns = desk.turns()
    for ordinal, n in note.facts:
        assert ordinal < note.first_turn and turns[ordinal].answer.citations[n].quote in text
    assert note.facts and set(notes) == {0, 1} and notes[-1] == 1
    assert 2 < len(note_ids) <= len(notes) * 2 / 3  # several turns at a time, not one by one
    (session_hit, turn_hit), *_ = desk.workspace.desk.sessions.search("roof colour")
    assert (session_hit.name, turn_hit.ordinal) == ("pumps", 0)  # dropped, and found
    desk.workspace.close()


def test_a_note_loses_the_facts_of_a_removed_document(tmp_path):
    desk = Desk(tmp_path, history_tokens=260, note_tokens=400)
    desk.write("pump.md", PUMP)
    motor = desk.write("motor.md", MOTOR)
    for question in (QUESTIONS[3], TORQUE, SEAL, STORED):
        desk.ask(question)
    _, prompt = desk.asked(QUESTIONS[5])
    assert "2500" in "".join(s.text for s in prompt.segments if s.layer == "history")
    desk.workspace.remove([motor])
    _, prompt = desk.asked(QUESTIONS[6])
    assert "2500" not in "".join(s.text for s in prompt.segments)
    desk.workspace.close()


# -- export ---------------------------------------------------------------------------------------


def test_markdown_and_json_hold_questions_answers_and_places(pumps):
    pumps.ask(TORQUE)
    pumps.ask("And why the casing bolts?")
    session = pumps.workspace.desk.sessions.get("pumps")
    text = session_markdown(session, pumps.turns(), ["/docs/pump.md"])
    assert text.startswith("# pumps\n") and f"## {TORQUE}" in text
    assert "38 Nm" in text and "line 5" in text and "Pinned: /docs/pump.md" in text
    assert "*Searched for: And why the casing bolts? (" in text
    value = session_json(session, pumps.turns())
    assert value["schema"] == "docqa.session/1" and len(value["turns"]) == 2
    assert value["turns"][0]["citations"][0]["line"] == 5
    assert value["turns"][0]["usage"]["layer_tokens"]["system"] > 0
