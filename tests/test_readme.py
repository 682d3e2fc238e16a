"""The README's promises: its commands exist and its two commands do what it says."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from docqa.cli.parser import build_parser
from docqa.errors import ExitCode

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```console\n(.*?)```", README, re.DOTALL)


def shell_words(line):
    import shlex

    return shlex.split(line)


def documented_commands():
    lines = [line[2:] for block in BLOCKS for line in block.splitlines() if line.startswith("$ ")]
    parts = [part.strip() for line in lines for part in line.partition("#")[0].split("|")]
    return [part for part in parts if re.match(r"docqa\b(?!\.)", part)]


@pytest.mark.parametrize("command", documented_commands())
def test_every_documented_command_is_understood(command):
    assert build_parser().parse_args(shell_words(command)[1:]) is not None


def test_there_are_documented_commands():
    assert len(documented_commands()) >= 8


def test_the_documented_exit_codes_are_the_real_ones():
    rows = dict(re.findall(r"^\| (\d+) \| (\w+)", README, re.MULTILINE))
    assert {int(code) for code in rows} == {code.value for code in ExitCode}


def test_make_targets_of_the_readme_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"\$ make (\w+)", README):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def demo_questions():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    return re.findall(r'docqa ask "([^"]+)"', makefile)


def ask(question, library):
    arguments = [sys.executable, "-m", "docqa", "ask", question, "sample_docs"]
    return subprocess.run(
        [*arguments, "--library", str(library)], cwd=ROOT, capture_output=True, text=True
    )


@pytest.mark.timeout(600)
def test_the_demo_answers_one_question_and_refuses_the_other(tmp_path, monkeypatch):
    monkeypatch.setenv("DOCQA_MODEL_KEEP_ALIVE_S", "0")
    known, unknown = demo_questions()
    answered = ask(known, tmp_path / "library")
    assert answered.returncode == ExitCode.DONE, answered.stderr
    assert "38 Nm" in answered.stdout and "pump_manual.pdf, page 20" in answered.stdout
    refused = ask(unknown, tmp_path / "library")
    assert refused.returncode == ExitCode.NOT_FOUND, refused.stdout + refused.stderr
    assert refused.stdout.startswith("Not found")
