"""`docqa ask --json-schema FILE` and `--grammar FILE`: one `docqa.structured/1` object."""

from __future__ import annotations

import argparse
from pathlib import Path

from docqa.answer_json import evidence_json
from docqa.cli.render import print_json
from docqa.errors import ExitCode, UsageError
from docqa.structured import ask_structured
from docqa.workspace import AskOptions, Workspace


def run_structured(arguments: argparse.Namespace, workspace: Workspace, options: AskOptions) -> int:
    """Answer in the form that was asked for; return the exit code: 1 where it was cut off."""
    found = ask_structured(
        workspace,
        arguments.question,
        options,
        json_schema=_text(arguments.json_schema),
        grammar=_text(arguments.grammar),
    )
    print_json(
        {
            "schema": "docqa.structured/1",
            "question": found.question,
            "found": found.found,
            "value": found.value,
            "text": found.text,
            "is_complete": found.is_complete,
            "unsupported": list(found.unsupported),
            "evidence": [evidence_json(e) for e in found.evidence],
            "usage": {"prompt_tokens": found.n_prompt, "generated_tokens": found.n_generated},
        }
    )
    if not found.found:
        return ExitCode.NOT_FOUND
    return ExitCode.DONE if found.is_complete else ExitCode.FAILED


def _text(file: str | None) -> str | None:
    if file is None:
        return None
    try:
        return Path(file).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file}: cannot be read: {error}") from error
