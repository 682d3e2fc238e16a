"""A session with the real default model: what was read once is not read again, restart or not.

The project's own promise: ten turns over two pinned documents reuse at least 90 % of the prefix
that did not change. Documents and answers are short: what is counted does not depend on it.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from docqa.config import AnswerConfig, Config, LibraryConfig, ModelConfig, SessionConfig
from docqa.events import Answered
from docqa.history import History, prefix_tokens
from docqa.library import Library
from docqa.paths import LibraryPaths
from docqa.types import Answer
from docqa.workspace import AskOptions, Workspace
from models.embedder import packaged_folder
from models.host import open_engine
from models.kv_file import enforce_quota
from tests.fakes import HashEmbedder, OverlapReranker

PUMP = "The casing bolts need 38 Nm. The seal is replaced after 4000 hours.\n"
MOTOR = "The bearings are greased every 2500 hours. The winding has 1.8 ohm.\n"
QUESTIONS = (
    "What do the casing bolts need?",
    "When is the seal replaced?",
    "When are the bearings greased?",
    "How many ohm has the winding?",
    "How many Nm do the casing bolts need?",
    "What is replaced after 4000 hours?",
    "What is greased every 2500 hours?",
    "What has 1.8 ohm?",
    "Which bolts need 38 Nm?",
    "After how many hours is the seal replaced?",
)
SHARE = 0.9


def opened(folder: Path) -> Workspace:
    config = Config(
        library=LibraryConfig(folder / "library"),
        model=ModelConfig(context_length=2048, keep_alive_s=0.0, n_threads=1),
        answer=AnswerConfig(max_tokens=3),
        session=SessionConfig(history_tokens=1200),
    )
    library = Library(
        LibraryPaths(config.library.dir),
        config,
        open_embedder=HashEmbedder,
        tokenizer_file=lambda: packaged_folder() / "tokenizer.json",
    )
    return Workspace(
        library,
        config,
        open_engine=lambda: open_engine(config.model),
        open_reranker=OverlapReranker,
        evict_kv=enforce_quota,
    )


def ask(workspace: Workspace, question: str, pins: tuple[Path, ...] = ()) -> Answer:
    events = list(workspace.ask(question, AskOptions(session="talk", pins=pins)))
    assert isinstance(events[-1], Answered)
    return events[-1].answer


def n_unchanged(workspace: Workspace) -> int:
    """Return the tokens with which the next prompt begins, whatever is asked."""
    session = workspace.desk.sessions.get("talk")
    history = History(workspace.library.store, workspace.desk.sessions, session.session_id)
    config = workspace.config
    view = history.view(workspace.engine, config.answer, config.session)
    return len(prefix_tokens(workspace.engine, view.frame))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name in ("DATA", "CACHE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name.lower()))
    (tmp_path / "pump.md").write_text(PUMP)
    (tmp_path / "motor.md").write_text(MOTOR)
    return tmp_path


def test_ten_turns_over_two_pinned_documents_and_a_restart(folder):
    pins = (folder / "pump.md", folder / "motor.md")
    with opened(folder) as workspace:
        list(workspace.sync(pins))
        first = ask(workspace, QUESTIONS[0], pins)
        # The documents were read, and saved, before the question was.
        assert first.usage.prefilled_tokens >= first.usage.layer_tokens["pinned"]
        assert any(path.name.startswith("pinned-") for path in workspace.desk.kv.folder.iterdir())
        reused = unchanged = 0
        for question in QUESTIONS[1:]:
            n = n_unchanged(workspace)
            usage = ask(workspace, question).usage
            reused, unchanged = reused + min(n, usage.reused_tokens), unchanged + n
            assert usage.reused_tokens <= usage.prompt_tokens
        assert reused >= SHARE * unchanged
        n = n_unchanged(workspace)
        shown = ask(workspace, QUESTIONS[0]).text
        workspace.desk.sessions.rename("talk", "old")
    with opened(folder) as workspace:
        assert workspace.desk.sessions.get("old").n_turns == 11
        saved = workspace.desk.kv.session_path(workspace.desk.sessions.get("old").session_id)
        assert saved.stat().st_mode & 0o777 == 0o600
        workspace.desk.sessions.rename("old", "talk")
        n = n_unchanged(workspace)
        again = ask(workspace, QUESTIONS[0])
        assert again.usage.restored_tokens == again.usage.reused_tokens == n
        assert again.text == shown and "38 Nm" in shown
        assert [
            t.answer.question for t in workspace.desk.turns(workspace.desk.sessions.get("talk"))
        ]
        workspace.remove([folder / "pump.md"])
        assert not saved.exists()
        after = ask(workspace, QUESTIONS[2])
        assert after.usage.restored_tokens == 0 and after.usage.prompt_tokens > 0
