"""What a session saves: ten turns over two pinned documents, and going on after a restart.

    python -m docqa.bench.session                          # sample_docs, the default model
    python -m docqa.bench.session --docs A B --model 8b.gguf --context 32768 --turns 10

Each turn: tokens of the prompt, those that did not change since the turn before (what every next
prompt begins with), those that were reused (measured by the engine), computed, and seconds of
prefill. Then the engine is closed and opened again: the saved KV is restored and the last question
asked once more, beside the same prompt computed from nothing. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from docqa.config import AnswerConfig, Config, LibraryConfig, ModelConfig, SessionConfig
from docqa.eval.questions import load_questions
from docqa.events import Answered
from docqa.history import History, prefix_tokens
from docqa.types import Answer
from docqa.wiring import build
from docqa.workspace import AskOptions, Workspace

SAMPLES = Path(__file__).parents[2] / "sample_docs"
NAME = "bench"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what the command line asks for."""
    options = _parser().parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        config = Config(
            library=LibraryConfig(Path(folder)),
            model=ModelConfig(path=options.model, context_length=options.context, keep_alive_s=0.0),
            answer=AnswerConfig(max_tokens=options.tokens),
            session=SessionConfig(history_tokens=options.history),
        )
        questions = _questions(options)
        with build(config) as workspace:
            list(workspace.sync(options.docs))
            turns = list(_turns(workspace, questions, options.docs))
        restart = _restarted(config, questions[0])
    changed = turns[1:]
    unchanged = sum(turn["unchanged"] for turn in changed)
    share = sum(min(turn["unchanged"], turn["reused"]) for turn in changed) / max(1, unchanged)
    print(f"reused of the unchanged prefix: {share:.1%}")
    print(
        f"restart: {restart['restored']} tokens restored, first token after "
        f"{restart['restore_s']:.2f} s; computed from nothing {restart['compute_s']:.2f} s "
        f"({restart['ratio']:.1f} x)"
    )
    print(json.dumps({"turns": turns, "reused_share": round(share, 4), "restart": restart}))


def _questions(options: argparse.Namespace) -> list[str]:
    """Return answerable questions about the documents."""
    names = {path.name for path in options.docs}
    asked = [q for q in load_questions(options.questions) if not q.is_unanswerable]
    about = [q.question for q in asked if q.file in names]
    return (about or [q.question for q in asked])[: options.turns]


def _turns(
    workspace: Workspace, questions: Sequence[str], docs: Sequence[Path]
) -> Iterator[dict[str, Any]]:
    print(
        f"{'turn':>4} {'prompt':>7} {'unchanged':>9} {'reused':>7} {'computed':>8} {'prefill':>8}"
    )
    for n, question in enumerate(questions):
        unchanged = _n_unchanged(workspace) if n else 0
        usage = _asked(workspace, question, tuple(docs) if n == 0 else ()).usage
        turn = {
            "prompt": usage.prompt_tokens,
            "unchanged": unchanged,
            "reused": usage.reused_tokens,
            "computed": usage.prefilled_tokens,
            "prefill_s": round(usage.prefill_s, 3),
        }
        print(
            f"{n + 1:>4} {turn['prompt']:>7} {unchanged:>9} {turn['reused']:>7} "
            f"{turn['computed']:>8} {turn['prefill_s']:>7.2f}s"
        )
        sys.stdout.flush()
        yield turn


def _n_unchanged(workspace: Workspace) -> int:
    """Return how many tokens the next prompt begins with, whatever is asked."""
    session = workspace.desk.sessions.get(NAME)
    history = History(workspace.library.store, workspace.desk.sessions, session.session_id)
    view = history.view(workspace.engine, workspace.config.answer, workspace.config.session)
    return len(prefix_tokens(workspace.engine, view.frame))


def _asked(workspace: Workspace, question: str, pins: tuple[Path, ...] = ()) -> Answer:
    answer = None
    for event in workspace.ask(question, AskOptions(session=NAME, pins=pins)):
        if isinstance(event, Answered):
            answer = event.answer
    assert answer is not None
    return answer


def _restarted(config: Config, question: str) -> dict[str, Any]:
    """Ask once more in a new engine, with the saved KV and without it; the model is loaded."""
    with _loaded(config) as workspace:
        restore_s, answer = _timed(workspace, question)
    with _loaded(replace(config, session=replace(config.session, keep_kv=False))) as workspace:
        compute_s, _ = _timed(workspace, question)
    return {
        "restored": answer.usage.restored_tokens,
        "reused": answer.usage.reused_tokens,
        "restore_s": round(restore_s, 3),
        "compute_s": round(compute_s, 3),
        "ratio": round(compute_s / restore_s, 1),
    }


@contextmanager
def _loaded(config: Config) -> Iterator[Workspace]:
    with closing(build(config)) as workspace:
        workspace.engine.tokenize([])
        workspace.search("warm up", 1)
        yield workspace


def _timed(workspace: Workspace, question: str) -> tuple[float, Answer]:
    """Return seconds from the question to its answer's first token, retrieval left out."""
    began = time.perf_counter()
    answer: Answer | None = None
    for event in workspace.ask(question, AskOptions(session=NAME)):
        if isinstance(event, Answered):
            answer = event.answer
            spent = time.perf_counter() - began
            break
    assert answer is not None
    usage = answer.usage
    return spent - usage.retrieve_s - usage.rerank_s - usage.decode_s, answer


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=ModelConfig().path)
    parser.add_argument(
        "--docs", nargs="+", type=Path, default=[SAMPLES / "paper.pdf", SAMPLES / "README.md"]
    )
    parser.add_argument("--questions", type=Path, default=SAMPLES / "questions.jsonl")
    parser.add_argument("--context", type=int, default=8192)
    parser.add_argument("--history", type=int, default=0)
    parser.add_argument("--turns", type=int, default=10)
    parser.add_argument("--tokens", type=int, default=16, help="of an answer")
    return parser


if __name__ == "__main__":
    main()
