"""The command line over a real library, with fakes for the models."""

import io
import json
import sys

import pytest

from docqa import wiring
from docqa.cli import main
from docqa.errors import ExitCode
from docqa.library import Library
from docqa.paths import LibraryPaths
from docqa.workspace import Workspace
from models.embedder import packaged_folder
from tests.fakes import HashEmbedder, OverlapReranker, ScriptedEngine

MANUAL = """# Pump

## Torque

The casing bolts are tightened to 45 Nm in a cross pattern.

## Seal

Replace the mechanical seal after 2,000 hours of operation.
"""
LOG = "".join(
    f"2026-03-01T10:00:{i:02d}Z {'ERROR' if i % 10 == 3 else 'INFO'} worker {i}: \x1b[31mhello\n"
    for i in range(60)
)


@pytest.fixture
def docs(tmp_path, monkeypatch):
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "pump.md").write_text(MANUAL)
    (folder / "service.log").write_text(LOG)
    monkeypatch.setenv("DOCQA_LIBRARY", str(tmp_path / "library"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return folder


@pytest.fixture
def engine(monkeypatch):
    scripted = ScriptedEngine(["The casing bolts need 45 Nm [1]."])

    def build(config, **_):
        library = Library(
            LibraryPaths(config.library.dir),
            config,
            open_embedder=HashEmbedder,
            tokenizer_file=lambda: packaged_folder() / "tokenizer.json",
        )
        return Workspace(
            library, config, open_engine=lambda: scripted, open_reranker=OverlapReranker
        )

    monkeypatch.setattr(wiring, "build", build)
    return scripted


def run(capsys, *arguments):
    code = main([str(a) for a in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def rows(text):
    return [json.loads(line) for line in text.splitlines()]


def test_a_question_names_the_first_few_files_that_could_not_be_read(docs, engine, capsys):
    for i in range(5):
        (docs / f"broken-{i}.pdf").write_bytes(b"%PDF-1.7 nothing")
    for _ in range(2):
        code, out, err = run(capsys, "ask", "Which torque do the casing bolts need?", docs)
        assert code == 0 and "45 Nm" in out
        assert [f"broken-{i}.pdf" in err for i in range(5)] == [True] * 3 + [False] * 2
        assert "2 more were not or partly read: docqa list" in err


def test_the_log_that_a_question_names_is_counted_and_no_line_that_has_its_name(
    docs, engine, capsys
):
    line = '10.0.0.{i} - - [17/May/2015:10:05:{i:02d} +0000] "GET /{i} HTTP/1.1" {status} 17\n'
    lines = [line.format(i=i, status=404 if i % 4 == 0 else 200) for i in range(40)]
    (docs / "apache_logs").write_text("".join(lines).replace("/8 ", "/apache-cache "))
    (docs / "shop_access.log").write_text("".join(lines) * 2)
    code, out, _ = run(capsys, "ask", "How many requests returned 404 in the apache log?", docs)
    assert code == 0 and out.startswith("10 records") and "in apache_logs." in out
    _, out, _ = run(capsys, "ask", "How many 404s are in the apache access log?", docs)
    assert out.startswith("10 records")
    # Those of another log are not shown for it.
    _, out, _ = run(capsys, "ask", "How many errors are in the apache log?", docs)
    assert out.startswith("Not found")


def test_a_quote_that_is_the_answer_is_not_printed_again(docs, engine, capsys):
    run(capsys, "add", docs)
    engine.replies = ["The casing bolts need 45 Nm [1]."]
    _, out, _ = run(capsys, "ask", "Which torque do the casing bolts need?")
    quote = "The casing bolts are tightened to 45 Nm in a cross pattern."
    assert out.count(quote) == 1
    _, quoted, _ = run(capsys, "ask", "Which torque do the casing bolts need?", "--model", "none")
    assert quoted.count(quote) == 1 and "pump.md, line" in quoted


def test_add_list_remove(docs, engine, capsys):
    code, out, _ = run(capsys, "add", docs, "--json")
    assert code == 0
    added = {row["path"].rpartition("/")[2]: row for row in rows(out)}
    assert added["pump.md"]["state"] == "indexed" and added["pump.md"]["n_lines"] == 9
    assert added["service.log"]["n_lines"] == 60
    assert set(added["pump.md"]) >= {"path", "state", "n_pages", "n_lines", "n_chunks", "error"}

    again = rows(run(capsys, "add", docs, "--json")[1])
    assert {row["state"] for row in again} == {"unchanged"}
    assert len(rows(run(capsys, "list", "--json")[1])) == 2

    code, out, _ = run(capsys, "remove", docs / "pump.md", "--json")
    assert code == 0 and rows(out)[0]["state"] == "removed"
    assert [row["path"] for row in rows(run(capsys, "list", "--json")[1])] == [
        str(docs / "service.log")
    ]
    assert run(capsys, "remove", docs / "pump.md")[0] == ExitCode.FAILED


def test_ask_has_the_promised_fields(docs, engine, capsys):
    question = "What torque do the casing bolts need?"
    code, out, _ = run(capsys, "ask", question, docs / "pump.md", "--json")
    assert code == 0
    (answer,) = rows(out)
    assert answer["schema"] == "docqa.answer/1"
    assert answer["question"] == answer["query"] == question
    assert answer["found"] is True and answer["answer"] == "The casing bolts need 45 Nm. [1]"
    (citation,) = answer["citations"]
    assert citation["path"] == str(docs / "pump.md")
    assert citation["page"] is None and citation["line"] == 5
    assert citation["quote"] == "The casing bolts are tightened to 45 Nm in a cross pattern."
    (text,) = rows(run(capsys, "text", docs / "pump.md", "--json")[1])
    assert text["text"][citation["char_start"] : citation["char_end"]] == citation["quote"]
    assert set(answer["evidence"][0]) >= {"marker", "path", "page", "line", "score", "n_tokens"}
    assert set(answer["usage"]) >= {
        "prompt_tokens",
        "reused_tokens",
        "generated_tokens",
        "retrieve_s",
        "rerank_s",
        "prefill_s",
        "decode_s",
    }
    assert set(answer["engine"]) >= {
        "name",
        "model",
        "context_length",
        "kv_type_k",
        "kv_type_v",
    }


def test_ask_streams_the_answer_to_stdout_and_the_rest_to_stderr(docs, engine, capsys):
    code, out, err = run(capsys, "ask", "What torque do the casing bolts need?", docs, "--explain")
    assert code == 0
    assert out.startswith("The casing bolts need 45 Nm. [1]\n")
    assert "pump.md, line 5" in out
    assert "prompt:" in err and "rerank" in err and "prompt:" not in out


def test_not_found_is_an_exit_code_and_shows_what_came_nearest(docs, engine, capsys):
    run(capsys, "add", docs)
    code, out, _ = run(capsys, "ask", "Who painted the ceiling of the chapel?")
    assert code == ExitCode.NOT_FOUND and out.startswith("Not found")
    code, out, _ = run(capsys, "ask", "Who painted the ceiling of the chapel?", "--json")
    assert code == ExitCode.NOT_FOUND
    assert rows(out)[0]["found"] is False and rows(out)[0]["citations"] == []


def test_counts_are_scanned(docs, engine, capsys):
    run(capsys, "add", docs)
    code, out, _ = run(capsys, "ask", "How many ERROR lines are there?", "--json")
    (answer,) = rows(out)
    assert code == 0 and answer["kind"] == "scan" and answer["answer"].startswith("6 records")
    assert answer["citations"][0]["line"] == 4
    assert engine.prompts == []


def test_a_log_from_standard_input_is_answered_and_forgotten(docs, engine, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(LOG.encode())))
    code, out, _ = run(capsys, "ask", "How many ERROR lines are there?", "-", "--json")
    assert code == 0
    assert rows(out)[0]["citations"][0]["path"] == "/dev/stdin"
    assert run(capsys, "list", "--json")[1] == ""


def test_search(docs, engine, capsys):
    run(capsys, "add", docs)
    code, out, _ = run(capsys, "search", "mechanical seal", "--json", "--k", "1")
    (found,) = rows(out)
    assert code == 0 and found["schema"] == "docqa.search/1"
    (hit,) = found["hits"]
    assert (
        hit["rank"] == 1
        and hit["line_first"] <= 7 <= hit["line_last"]
        and "mechanical seal" in hit["text"]
    )


def test_times_and_levels_limit_a_search(docs, engine, capsys):
    run(capsys, "add", docs)
    arguments = ("search", "worker hello", "--json", "--since")
    assert run(capsys, *arguments, "2026-03-01T09:00")[0] == 0
    assert run(capsys, *arguments, "2026-03-02")[0] == ExitCode.NOT_FOUND
    code, _, err = run(capsys, *arguments, "yesterday-ish")
    assert code == ExitCode.USAGE and "yesterday-ish" in err


def test_what_a_terminal_obeys_never_reaches_it(docs, engine, capsys):
    hostile = "The valve \x1b]52;c;ZXZpbA==\x07 opens \u202eat\u202c 9 bar. "
    (docs / "evil.md").write_text(hostile + "Filler words. " * 40)
    run(capsys, "add", docs)
    for command in (("search", "valve opens"), ("ask", "At how many bar opens the valve?")):
        _, out, err = run(capsys, *command)
        assert "evil.md" in out and "opens \ufffdat" in out
        assert not {"\x1b", "\x07", "\u202e"} & set(out + err)


def test_a_bad_file_is_named_and_the_others_are_indexed(docs, engine, capsys):
    (docs / "broken.pdf").write_bytes(b"%PDF-1.7 nothing")
    code, out, _ = run(capsys, "add", docs, "--json")
    states = {row["path"].rpartition("/")[2]: row for row in rows(out)}
    assert code == ExitCode.FAILED
    assert states["broken.pdf"]["state"] == "failed" and states["broken.pdf"]["error"]
    assert states["pump.md"]["state"] == "indexed"


def test_usage_errors(docs, engine, capsys, tmp_path):
    config = tmp_path / "bad.toml"
    config.write_text("[answer]\nmax_token = 5\n")
    code, _, err = run(capsys, "list", "--config", config)
    assert code == ExitCode.USAGE and "answer.max_tokens" in err and str(config) in err
    assert run(capsys, "ask", "   ")[0] == ExitCode.USAGE
    with pytest.raises(SystemExit) as stop:
        main(["ask"])
    assert stop.value.code == ExitCode.USAGE
    assert run(capsys)[0] == ExitCode.USAGE


def test_a_missing_path_is_an_error_that_names_it(docs, engine, capsys):
    code, out, err = run(capsys, "ask", "anything?", docs / "gone.pdf")
    assert code == ExitCode.FAILED and "gone.pdf" in out + err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completions(capsys, shell):
    code, out, _ = run(capsys, "completions", shell)
    assert code == 0 and "ask" in out and "docqa" in out


def test_without_a_model_the_best_sentence_answers(docs, engine, capsys):
    arguments = ("ask", "What torque do the casing bolts need?", docs / "pump.md", "--json")
    code, out, _ = run(capsys, *arguments, "--model", "none")
    (answer,) = rows(out)
    assert code == 0 and answer["kind"] == "quote" and answer["engine"] is None
    assert answer["citations"][0]["quote"].startswith("The casing bolts are tightened to 45 Nm")
    assert answer["notes"] and engine.prompts == []


def test_options_may_stand_before_the_command_or_after_it(docs, engine, tmp_path, capsys):
    other = str(tmp_path / "other")
    assert main(["--library", other, "--quiet", "add", str(docs / "pump.md")]) == ExitCode.DONE
    capsys.readouterr()
    assert main(["--json", "list", "--library", other]) == ExitCode.DONE
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["path"].endswith("pump.md")
    assert main(["--library", other, "list", "--json", "--library", str(tmp_path / "none")]) == 0
    assert capsys.readouterr().out == ""
