"""Answers in a form: what is asked of the engine, and which values no source has."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from docqa import wiring
from docqa.cli import main
from docqa.config import Config, LibraryConfig, ModelConfig
from docqa.errors import UsageError
from docqa.protocols import Piece, Prefill, Sampling, Stop
from docqa.structured import ask_structured
from docqa.workspace import Workspace
from tests.fakes import ScriptedEngine

SCHEMA = json.dumps(
    {"type": "object", "properties": {"torque_nm": {"type": "number"}}, "required": ["torque_nm"]}
)
QUESTION = "Which torque do the cover bolts need?"


class Writer(ScriptedEngine):
    """Writes what it is told to, and remembers what was asked of it."""

    said = '{"torque_nm": 38}'
    reason = "end"

    def generate(
        self, tokens: Sequence[int], **options: object
    ) -> Iterator[Prefill | Piece | Stop]:
        self.prompt, self.options = list(tokens), options
        yield Piece(self.said, 1)
        yield Stop(self.reason, len(tokens), 0, 1, 0.0, 0.0)


@pytest.fixture
def engine() -> Writer:
    return Writer()


@pytest.fixture
def workspace(
    tmp_path: Path, engine: Writer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Workspace]:
    document = tmp_path / "bolts.txt"
    document.write_text("The torque of the cover bolts is 38 Nm.\n\nOil is changed yearly.\n")
    config = Config(library=LibraryConfig(tmp_path / "library"), model=ModelConfig(path="fake"))
    with wiring.build(config) as workspace:
        workspace.change_engine(lambda: engine, config)
        list(workspace.sync([document]))
        yield workspace


def test_json_of_a_schema(workspace: Workspace, engine: Writer) -> None:
    found = ask_structured(workspace, QUESTION, json_schema=SCHEMA)
    assert (found.found, found.value, found.is_complete) == (True, {"torque_nm": 38}, True)
    assert found.unsupported == ()
    assert found.evidence[0].path.endswith("bolts.txt")
    sampling = engine.options["sampling"]
    assert isinstance(sampling, Sampling)
    assert (sampling.json_schema, sampling.grammar) == (SCHEMA, None)


def test_a_value_that_no_source_has_is_named(workspace: Workspace, engine: Writer) -> None:
    engine.said = '{"torque_nm": 3, "who": ["the cover  BOLTS", "Ann"], "is_new": true}'
    found = ask_structured(workspace, QUESTION, json_schema=SCHEMA)
    assert found.unsupported == ("3", "Ann")


def test_what_was_cut_off_is_no_value(workspace: Workspace, engine: Writer) -> None:
    engine.said, engine.reason = '{"torque_nm": ', "length"
    found = ask_structured(workspace, QUESTION, json_schema=SCHEMA)
    assert (found.value, found.is_complete, found.text) == (None, False, '{"torque_nm":')


def test_a_grammar(workspace: Workspace, engine: Writer) -> None:
    engine.said = "38 Nm"
    found = ask_structured(workspace, QUESTION, grammar='root ::= [0-9]+ " Nm"')
    assert (found.text, found.value, found.unsupported) == ("38 Nm", None, ())


def test_what_does_not_fit_together(workspace: Workspace) -> None:
    with pytest.raises(UsageError, match="one of"):
        ask_structured(workspace, QUESTION)
    with pytest.raises(UsageError, match="no JSON"):
        ask_structured(workspace, QUESTION, json_schema="{")
    workspace.config = replace(workspace.config, model=ModelConfig(path="none"))
    with pytest.raises(UsageError, match="language model"):
        ask_structured(workspace, QUESTION, json_schema=SCHEMA)


def test_the_command(
    workspace: Workspace,
    engine: Writer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(wiring, "build", lambda config, **_: workspace)
    monkeypatch.setattr(Workspace, "close", lambda self: None)
    schema = tmp_path / "schema.json"
    assert main(["ask", QUESTION, "--json-schema", str(schema)]) == 2
    assert "schema.json" in capsys.readouterr().err
    schema.write_text(SCHEMA)
    assert main(["ask", QUESTION, "--json-schema", str(schema)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["schema"], found["value"]) == ("docqa.structured/1", {"torque_nm": 38})
    assert found["evidence"][0]["line"] == 1
    engine.reason = "length"
    assert main(["ask", QUESTION, "--json-schema", str(schema)]) == 1
    monkeypatch.undo()
