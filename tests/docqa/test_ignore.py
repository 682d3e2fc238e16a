"""`.docqaignore` and `.gitignore` decide as git does; git itself is the reference where it is."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest

from docqa.discover import Findings, discover
from docqa.ignore import is_ignored_below
from tests.docqa.librarian import write

ROOT = Path(__file__).parents[2]


def names(root, findings=None):
    found = discover([root], findings or Findings())
    return [os.path.relpath(file.path, root) for file in found]


def test_the_sample_documents_are_what_a_user_asks_about():
    assert names(ROOT / "sample_docs") == [
        "paper.pdf",
        "pump_manual.pdf",
        "scanned_note.pdf",
        "service.log",
    ]


def test_own_rules_beat_gits_and_deeper_ones_the_upper(tmp_path):
    for name in ("a.log", "b.log", "in/a.log", "in/b.log", "old/c.txt", "c.txt"):
        write(tmp_path / name, "x")
    write(tmp_path / ".gitignore", "*.log\n/old/\n[bad\n")
    write(tmp_path / ".docqaignore", "\ufeff!b.log\n")
    write(tmp_path / "in" / ".gitignore", "!a.log\n")
    findings = Findings()
    assert names(tmp_path, findings) == ["b.log", "c.txt", "in/a.log", "in/b.log"]
    assert findings.n_skipped == 4  # a.log and the three files of rules


def test_a_walk_that_begins_below_finds_the_same(tmp_path):
    for name in ("repo/docs/a.txt", "repo/docs/build/b.txt", "repo/docs/c.log"):
        write(tmp_path / name, "x")
    write(tmp_path / ".gitignore", "*.txt")  # above the repository: not git's
    write(tmp_path / "repo" / ".gitignore", "build/\n*.log")
    (tmp_path / "repo" / ".git").mkdir()
    assert names(tmp_path / "repo") == ["docs/a.txt"]
    assert names(tmp_path / "repo" / "docs") == ["a.txt"]
    assert names(tmp_path / "repo" / "docs" / "build") == ["b.txt"]  # named: the stronger word
    (named,) = discover([tmp_path / "repo" / "docs" / "c.log"], Findings())
    assert named.is_named


def test_rules_that_cannot_be_read_ignore_nothing(tmp_path):
    write(tmp_path / "a.txt", "x")
    os.mkfifo(tmp_path / ".docqaignore")
    (tmp_path / ".gitignore").mkdir()
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.skipif(not shutil.which("git"), reason="git is not installed")
def test_git_decides_the_same(tmp_path):
    rng = random.Random(5)
    parts = ["a", "b", "build", "x.txt", "y.log", "*.txt", "*", "**", "?.log", "[xy].*"]
    files = [f"{a}{b}{f}" for a in ("", "a/", "build/") for b in ("", "b/") for f in parts[3:5]]
    for name in files:
        write(tmp_path / name, "x")
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    for _ in range(40):
        for where in ("", "a/"):
            lines = [
                rng.choice(["", "", "!"])
                + rng.choice(["", "/"])
                + "/".join(rng.choices(parts, k=rng.randint(1, 2)))
                + rng.choice(["", "", "/"])
                for _ in range(rng.randint(0, 4))
            ]
            (tmp_path / where / ".gitignore").write_text("\n".join(lines) + "\n")
        said = subprocess.run(
            ["git", "ls-files", "-o", "--exclude-standard"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
        kept = sorted(name for name in said if not name.endswith(".gitignore"))
        assert sorted(names(tmp_path)) == kept
        by_path = [f for f in files if not is_ignored_below(str(tmp_path), str(tmp_path / f))]
        assert sorted(by_path) == kept
