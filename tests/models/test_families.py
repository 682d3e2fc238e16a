"""The user's own model, whatever its family: a question is asked, asked again, left, overflows.

Through the whole path, from a file to a checked answer. The weights are random, so what is written
means nothing; that everything around it is right can still be seen. Resume: `test_kv_restore`.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from docqa import wiring
from docqa.config import AnswerConfig, Config, EmbedConfig, LibraryConfig, ModelConfig
from docqa.errors import ContextOverflow
from docqa.events import Answered, Packed, PrefillProgress
from docqa.types import Answer, PackedPrompt
from docqa.workspace import Workspace
from tests.models.tiny import NAMES

QUESTION = "What is the pressure of the seal water?"
TEXT = (
    "Pumps of line 7.\n\nThe pressure of the seal water is 2.5 bar.\n\nThe oil is changed yearly.\n"
)
RECURRENT = ("lfm2", "qwen35", "granite")


def model(path: Path, **changes: object) -> ModelConfig:
    """Three times the trained length: YaRN, since every byte is a token of these models."""
    settings = ModelConfig(
        path=str(path), context_length=1536, n_threads=1, adapter="none", keep_alive_s=0
    )
    return dataclasses.replace(settings, **changes)


@pytest.fixture(scope="module")
def workspace(
    tmp_path_factory: pytest.TempPathFactory, tiny_models: dict[str, Path]
) -> Iterator[Workspace]:
    folder = tmp_path_factory.mktemp("families")
    document = folder / "pumps.txt"
    document.write_text(TEXT)
    config = Config(
        library=LibraryConfig(folder / "library"),
        model=model(tiny_models["llama3"]),
        embed=EmbedConfig(),
        answer=AnswerConfig(max_tokens=24, evidence_tokens=400),
    )
    with wiring.build(config) as workspace:
        list(workspace.sync([document]))
        yield workspace


def asked(workspace: Workspace) -> tuple[PackedPrompt, Answer]:
    events = list(workspace.ask(QUESTION))
    (prompt,) = [e.prompt for e in events if isinstance(e, Packed)]
    assert isinstance(events[-1], Answered)
    return prompt, events[-1].answer


@pytest.mark.parametrize("name", NAMES)
def test_a_question_of_a_file(
    workspace: Workspace, tiny_models: dict[str, Path], name: str
) -> None:
    wiring.change_model(workspace, model(tiny_models[name]))
    prompt, first = asked(workspace)
    assert first.engine is not None
    assert (first.engine.model, first.engine.context_length) == (name, 1536)
    # Random words are no answer: what is shown is verbatim of the source.
    assert "2.5 bar" in first.text
    assert first.citations[0].quote in TEXT
    assert len(prompt.tokens) + 24 <= 1536
    assert (first.usage.prompt_tokens, first.usage.reused_tokens) == (len(prompt.tokens), 0)
    assert first.usage.generated_tokens > 0

    again = asked(workspace)[1]
    assert again.text == first.text
    if name in RECURRENT:  # a state has no past to go back to
        assert again.usage.reused_tokens == 0
    else:
        assert again.usage.reused_tokens == len(prompt.tokens) - 1

    # Left while the model reads another prompt; the question then gives what it gave.
    cancel = threading.Event()
    for event in workspace.ask(QUESTION.replace("seal", "hot"), cancel=cancel):
        if isinstance(event, PrefillProgress):
            cancel.set()
    assert asked(workspace)[1].text == first.text


@pytest.mark.parametrize("name", ["mistral", "granite"])
def test_a_context_too_short_for_the_prompt_is_said(
    workspace: Workspace, tiny_models: dict[str, Path], name: str
) -> None:
    wiring.change_model(workspace, model(tiny_models[name], context_length=256))
    with pytest.raises(ContextOverflow, match="256"):
        list(workspace.ask(QUESTION))
    wiring.change_model(workspace, model(tiny_models[name]))
    assert "2.5 bar" in asked(workspace)[1].text
