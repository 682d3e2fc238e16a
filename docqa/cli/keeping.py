"""`docqa check`, `docqa backup` and `docqa restore`: keeping a library whole."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from docqa.cli import render
from docqa.config import Config
from docqa.errors import ExitCode
from docqa.sanitize import sanitize, sanitize_line


def run_check(arguments: argparse.Namespace, config: Config) -> int:
    """Print what is wrong with the library, a line a finding; return the exit code."""
    from docqa.wiring import check_library

    findings = check_library(config, is_repaired=arguments.repair)
    for finding in findings:
        if arguments.json:
            render.print_json({"finding": finding})
        else:
            print(sanitize_line(finding))
    if not findings:
        _note(arguments, "the library is sound")
    return ExitCode.LIBRARY if findings else ExitCode.DONE


def run_backup(arguments: argparse.Namespace, config: Config) -> int:
    """Copy the library to a file; return the exit code."""
    from docqa.wiring import back_up_library

    file = Path(arguments.file)
    n = back_up_library(config, file, is_replaced=arguments.force)
    if arguments.json:
        render.print_json({"path": str(file.absolute()), "n_documents": n})
    _note(arguments, f"{_documents(n)} saved to {file}; `docqa restore {file}` puts them back")
    return ExitCode.DONE


def run_restore(arguments: argparse.Namespace, config: Config) -> int:
    """Put a backup in place of the library; return the exit code."""
    from docqa.wiring import restore_library

    n = restore_library(config, Path(arguments.file), is_replaced=arguments.force)
    if arguments.json:
        render.print_json({"n_documents": n})
    _note(arguments, f"{_documents(n)} restored; `docqa sync` compares them with their files")
    return ExitCode.DONE


def _documents(n: int) -> str:
    return f"{n} document{'' if n == 1 else 's'}"


def _note(arguments: argparse.Namespace, text: str) -> None:
    if not arguments.quiet:
        print(sanitize(text), file=sys.stderr)
