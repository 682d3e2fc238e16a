"""`.docqaignore` and `.gitignore`: which files of a folder the user does not want read.

Both have git's syntax. A file in any folder speaks for what is below it; the deeper one wins, and
in one folder `.docqaignore` over `.gitignore`. What is below an ignored folder cannot be wanted
again, as in git. Files above the folder that was named speak too (`.gitignore` up to its
repository), so that it makes no difference at which folder a walk begins, unless they ignore that
folder itself: naming it is the stronger word.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pathspec

OWN_FILE = ".docqaignore"
GIT_FILE = ".gitignore"
IGNORE_FILES = (OWN_FILE, GIT_FILE)  # the first has the last word
MAX_FILE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class _Rules:
    """One ignore file: patterns for what is below `folder`."""

    folder: str
    spec: pathspec.GitIgnoreSpec

    def verdict(self, path: str, is_folder: bool) -> bool | None:
        """Whether the last pattern that matches ignores the path; None: no pattern does."""
        relative = path[len(self.folder.rstrip(os.sep)) + 1 :]
        if os.sep != "/":
            relative = relative.replace(os.sep, "/")
        return self.spec.check_file(relative + "/" if is_folder else relative).include


@dataclass(frozen=True, slots=True)
class Ignored:
    """The rules in force in one folder, the strongest first."""

    rules: tuple[_Rules, ...] = ()

    def __call__(self, path: str, is_folder: bool) -> bool:
        """Whether a file or folder directly in this folder is ignored."""
        for rules in self.rules:
            verdict = rules.verdict(path, is_folder)
            if verdict is not None:
                return verdict
        return False

    def entering(self, folder: str, names: Iterable[str]) -> Ignored:
        """Return the rules inside `folder`, which holds `names`."""
        present = set(names)
        found = [_read(folder, name) for name in IGNORE_FILES if name in present]
        fresh = tuple(rules for rules in found if rules is not None)
        return Ignored(fresh + self.rules) if fresh else self


NOTHING_IGNORED = Ignored()


def ignored_above(folder: str) -> Ignored:
    """Return the rules that the folders above `folder` set for what is in it."""
    rules: list[_Rules] = []
    repository = _repository_of(folder)
    below = folder
    while (above := os.path.dirname(below)) != below:  # noqa: PTH120
        is_in_repository = repository is not None and len(above) >= len(repository)
        for name in IGNORE_FILES if is_in_repository else (OWN_FILE,):
            found = _read(above, name)
            if found is not None:
                rules.append(found)
        below = above
    if Ignored(tuple(rules))(folder, is_folder=True):
        rules = [r for r in rules if not r.verdict(folder, is_folder=True)]
    return Ignored(tuple(rules))


def ignored_between(root: str, folder: str) -> Ignored | None:
    """Return the rules that come into `folder` in a walk from `root`; None: it is never entered."""
    rules = ignored_above(root)
    here = root
    for name in Path(os.path.relpath(folder, root)).parts:
        rules = rules.entering(here, IGNORE_FILES)
        here = os.path.join(here, name)  # noqa: PTH118
        if rules(here, is_folder=True):
            return None
    return rules


def is_ignored_below(root: str, path: str) -> bool:
    """Whether the rules ignore `path` or a folder between it and `root`."""
    folder = os.path.dirname(path)  # noqa: PTH120
    rules = ignored_between(root, folder)
    return rules is None or rules.entering(folder, IGNORE_FILES)(path, is_folder=False)


def _repository_of(folder: str) -> str | None:
    """Return the nearest folder at or above `folder` that git keeps."""
    while not os.path.lexists(os.path.join(folder, ".git")):  # noqa: PTH118
        above = os.path.dirname(folder)  # noqa: PTH120
        if above == folder:
            return None
        folder = above
    return folder


def _read(folder: str, name: str) -> _Rules | None:
    """Return the rules of an ignore file; None where it says nothing or cannot be read."""
    import pathspec

    path = os.path.join(folder, name)  # noqa: PTH118
    try:
        if not os.path.isfile(path):  # noqa: PTH113 (a FIFO of this name must not block)
            return None
        with open(path, "rb") as file:  # noqa: PTH123
            text = file.read(MAX_FILE_BYTES).decode("utf-8-sig", "surrogateescape")
    except OSError:
        return None
    spec = pathspec.GitIgnoreSpec.from_lines(_valid(text.splitlines()), backend="simple")
    return _Rules(folder, spec) if spec.patterns else None


def _valid(lines: Sequence[str]) -> list[str]:
    """Return the lines that are patterns: one bad line must not void the file."""
    import pathspec

    kept = []
    for line in lines:
        if not line.strip() or line.startswith("#"):
            continue
        try:
            pathspec.GitIgnoreSpec.from_lines([line], backend="simple")
        except ValueError:
            continue
        kept.append(line)
    return kept
