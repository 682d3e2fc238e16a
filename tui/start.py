"""Starts the app in the user's terminal."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from docqa.config import Config
from tui.terminal import Answers, asked_terminal


def run_app(config: Config, paths: Sequence[Path] = ()) -> int:
    """Run the app until the user leaves; return the exit code.

    Raises:
        DocqaError: the library cannot be opened.
    """
    is_plain = config.tui.mode == "plain" or os.environ.get("TERM") == "dumb"
    # With NO_COLOR everything is grey, and only what Textual draws can be made so.
    is_drawn_by_us = is_plain or "NO_COLOR" in os.environ
    with ExitStack() as stack:
        asked = None if is_drawn_by_us else stack.enter_context(asked_terminal())
        # Imported while the answers are on their way.
        from docqa.wiring import build
        from tui.app import DocqaApp
        from tui.locale_signs import use_locale
        from tui.page_view import graphics_of

        use_locale()
        workspace = stack.enter_context(build(config, reads_elsewhere=True))
        answers = asked.answers() if asked else Answers()
        app = DocqaApp(workspace, paths, graphics_of(answers), answers.typed)
        app.run()
        return app.return_code or 0
