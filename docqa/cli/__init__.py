"""The command line: `docqa add`, `ask`, `search`, `list` … over `docqa.workspace`.

stdout is data, everything else goes to stderr; exit codes are `docqa.errors.ExitCode`. Nothing
heavy is imported before a command needs it: `docqa --help` costs what Python and argparse cost.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code. Errors are one sentence on stderr."""
    from docqa.cli.parser import build_parser

    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, OSError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    words = sys.argv[1:] if argv is None else argv
    arguments = build_parser(words).parse_args(words)
    from docqa.errors import DocqaError, ExitCode
    from docqa.offline import go_offline

    go_offline()  # before anything that could talk is imported
    try:
        from docqa.cli.commands import run

        code = run(arguments)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        print("docqa: interrupted; what was committed is kept", file=sys.stderr)
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has gone (`docqa list | head`): not an error of ours.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.DONE
    except DocqaError as error:
        from docqa.sanitize import sanitize

        print(f"docqa: {sanitize(str(error))}", file=sys.stderr)
        return error.exit_code
