"""An endless chat, through the whole path: what is old goes, what is recent is not read again."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from docqa import wiring
from docqa.config import AnswerConfig, Config, LibraryConfig, ModelConfig, SessionConfig
from docqa.events import Answered
from docqa.protocols import Engine, Stop
from docqa.types import Usage
from docqa.workspace import AskOptions
from tests.models import tiny

SUBJECTS = ("seal", "pump", "valve", "oil", "table", "page", "line", "motor")


def text() -> str:
    return "\n\n".join(
        f"The {name} number of hall {n} is {n * 37}." for n, name in enumerate(SUBJECTS)
    )


@pytest.mark.parametrize(("trained", "shifts"), [(4096, True), (1024, False)])
def test_dropped_turns_are_not_paid_for_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained: int, shifts: bool
) -> None:
    """Under YaRN, where a shift would be wrong, the recent turns are computed again instead."""
    monkeypatch.setattr(tiny, "N_CONTEXT", trained)
    model = tiny.write_model(tmp_path / "tiny.gguf", "qwen3")
    document = tmp_path / "numbers.txt"
    document.write_text(text())
    config = Config(
        library=LibraryConfig(tmp_path / "library"),
        model=ModelConfig(
            path=str(model), context_length=4096, n_threads=1, adapter="none", keep_alive_s=0
        ),
        answer=AnswerConfig(max_tokens=16, evidence_tokens=300, k=2),
        session=SessionConfig(history_tokens=700),
    )
    used: list[Usage] = []
    stops: list[Stop] = []
    with wiring.build(config) as workspace:
        list(workspace.sync([document]))
        monkeypatch.setattr(workspace.engine, "generate", _noting(workspace.engine, stops))
        for n, name in enumerate(SUBJECTS):
            question = f"What is the {name} number of hall {n}?"
            *_, last = workspace.ask(question, AskOptions(session="endless"))
            assert isinstance(last, Answered)
            assert str(n * 37) in last.answer.text
            used.append(last.answer.usage)
    history = [usage.layer_tokens.get("history", 0) for usage in used]
    assert any(
        after < before for before, after in itertools.pairwise(history)
    )  # turns were dropped
    assert (max(stop.n_shifted for stop in stops) >= 64) == shifts
    assert all(stop.n_shifted <= stop.n_reused for stop in stops)


def _noting(engine: Engine, stops: list[Stop]) -> Callable[..., Iterator[object]]:
    """Return the engine's `generate` that also keeps what each call cost, settling included."""
    generate = engine.generate

    def noting(*arguments: object, **options: object) -> Iterator[object]:
        for event in generate(*arguments, **options):
            if isinstance(event, Stop):
                stops.append(event)
            yield event

    return noting
