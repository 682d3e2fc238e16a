"""`docqa doctor`: what works here, or with `--offline-proof` that nothing leaves the machine."""

from __future__ import annotations

import argparse
from collections.abc import Iterable

from docqa.cli import render
from docqa.config import Config
from docqa.doctor import Finding
from docqa.errors import ExitCode
from docqa.sanitize import sanitize_line


def run_doctor(arguments: argparse.Namespace, config: Config) -> int:
    """Print the findings as they come; return the exit code: FAILED where one is bad."""
    found: list[Finding] = []
    for finding in _findings(arguments, config):
        found.append(finding)
        if not arguments.json:
            print(sanitize_line(finding.as_text()), flush=True)
    if arguments.json:
        render.print_json({"schema": "docqa.doctor/1", "findings": [f.as_dict() for f in found]})
    return ExitCode.FAILED if any(f.is_bad for f in found) else ExitCode.DONE


def _findings(arguments: argparse.Namespace, config: Config) -> Iterable[Finding]:
    if not arguments.offline_proof:
        from docqa.wiring import diagnose

        return diagnose(config)
    from docqa.offline_proof import prove

    return prove(config.model.path)
