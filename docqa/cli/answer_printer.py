"""Prints an answer as it comes: its text to stdout, its explanation and progress to stderr."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from docqa.answer_json import answer_json
from docqa.cli import render
from docqa.events import Answered, AnswerText, Packed, PrefillProgress, Retrieved
from docqa.sanitize import sanitize
from docqa.types import Answer, Candidate, PackedPrompt

STDIN_SHOWN_AS = "/dev/stdin"


def note_to_user(arguments: argparse.Namespace, text: str) -> None:
    """Print a note to stderr, unless `--quiet`."""
    if not arguments.quiet:
        print(sanitize(text), file=sys.stderr)


def style_of(arguments: argparse.Namespace) -> render.Style:
    """Return the style that `--color`, NO_COLOR and the terminal ask for."""
    if arguments.color == "auto":
        is_plain = "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb"
        return render.Style(sys.stdout.isatty() and not is_plain)
    return render.Style(arguments.color == "always")


class AnswerPrinter:
    """Streams an answer to stdout, its explanation and progress to stderr."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._arguments = arguments
        self._is_streaming = not (arguments.json or arguments.no_stream)
        self._style = style_of(arguments)
        self._has_text = False
        self._has_progress = False
        self._candidates: tuple[Candidate, ...] = ()
        self._prompt: PackedPrompt | None = None
        self.answer: Answer | None = None

    def show(self, event: object) -> None:
        """Show one event of `Workspace.ask`."""
        if isinstance(event, Retrieved):
            self._candidates = event.candidates
        elif isinstance(event, Packed):
            self._prompt = event.prompt
        elif isinstance(event, PrefillProgress):
            self._show_prefill(event)
        elif isinstance(event, AnswerText) and self._is_streaming:
            self._clear_progress()
            print(sanitize(event.text), end="", flush=True)
            self._has_text = True
        elif isinstance(event, Answered):
            self._clear_progress()
            self.answer = event.answer

    def finish(self, spool: Path | None) -> None:
        """Print what follows the streamed text."""
        assert self.answer is not None
        arguments, answer = self._arguments, self.answer
        if arguments.json:
            value = answer_json(answer)
            if arguments.session:
                value["session"] = arguments.session
            if arguments.explain:
                value["candidates"] = [render.candidate_json(c) for c in self._candidates]
            if spool is not None:
                for row in (*value["citations"], *value["evidence"]):
                    row["path"] = STDIN_SHOWN_AS if row["path"] == str(spool) else row["path"]
            render.print_json(value)
            return
        print("" if self._has_text else sanitize(answer.text))
        tail = render.answer_tail(answer, self._style)
        if tail:
            print("\n" + (tail.replace(str(spool), STDIN_SHOWN_AS) if spool else tail))
        for note in answer.notes:
            note_to_user(arguments, f"note: {note}")
        if answer.query != answer.question:
            note_to_user(arguments, f"searched for: {answer.query}")
        if arguments.explain:
            print(render.explain_text(self._candidates, self._prompt), file=sys.stderr)
            usage = answer.usage
            note_to_user(
                arguments,
                f"retrieve {usage.retrieve_s:.2f} s, rerank {usage.rerank_s:.2f} s, prefill "
                f"{usage.prefill_s:.2f} s ({usage.prompt_tokens} tokens, {usage.reused_tokens} "
                f"reused), decode {usage.decode_s:.2f} s ({usage.generated_tokens} tokens), "
                + (f"choose {usage.choose_s:.2f} s, " if usage.choose_s else "")
                + f"KV {usage.kv_bytes / 1e6:.1f} MB",
            )

    def _show_prefill(self, event: PrefillProgress) -> None:
        if sys.stderr.isatty() and not self._arguments.quiet and event.n_done < event.n_total:
            print(f"\rreading {event.n_done}/{event.n_total} tokens", end="", file=sys.stderr)
            sys.stderr.flush()
            self._has_progress = True

    def _clear_progress(self) -> None:
        if self._has_progress:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
            self._has_progress = False
