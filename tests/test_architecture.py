"""The rules that a team would forget: who imports what, how a cold start looks, how files grow."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("docqa", "tui", "models", "kernels")
HEAVY = {
    "torch",
    "llama_cpp",
    "faiss",
    "pymupdf",
    "fitz",
    "textual",
    "onnxruntime",
    "tantivy",
    "transformers",
    "sentence_transformers",
    "rich",
    "numpy",
}
MAX_LINES = 450


def sources():
    return [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]


def modules_after(*arguments):
    code = (
        "import sys, runpy\n"
        f"sys.argv = ['docqa', *{list(arguments)!r}]\n"
        "try:\n    runpy.run_module('docqa', run_name='__main__')\n"
        "except SystemExit:\n    pass\n"
        "print('\\n'.join(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return {name.partition(".")[0] for name in done.stderr.split()}


@pytest.mark.parametrize("arguments", [("--help",), ("ask", "--help"), ("--version",)])
def test_help_loads_nothing_heavy(arguments):
    assert not modules_after(*arguments) & HEAVY


def test_kernels_package_imports_nothing_and_has_a_version_no_probe_accepts():
    tree = ast.parse((ROOT / "kernels/__init__.py").read_text(encoding="utf-8"))
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    assert '__version__ = "0.0.0"' in (ROOT / "kernels/__init__.py").read_text(encoding="utf-8")


def test_no_file_outgrows_one_sitting():
    long = {
        str(p.relative_to(ROOT)): n
        for p in sources()
        if (n := len(p.read_text(encoding="utf-8").splitlines())) > MAX_LINES
    }
    assert not long


def test_no_nameless_modules():
    assert not [
        p
        for p in sources()
        if p.stem in {"utils", "helpers", "common", "base", "manager", "core", "misc"}
    ]


def test_nothing_unpickles_or_evaluates():
    forbidden = {("pickle", None), ("shelve", None), ("joblib", None)}
    calls = {"eval", "exec"}
    found = []
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found += [(path, a.name) for a in node.names if (a.name, None) in forbidden]
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                found += [(path, node.func.id)] if node.func.id in calls else []
            elif isinstance(node, ast.keyword) and node.arg == "allow_pickle":
                found += [(path, "allow_pickle")] if getattr(node.value, "value", 0) else []
    assert not found


def test_the_core_prints_nowhere_but_at_its_edges():
    allowed = ("docqa/cli/", "docqa/bench/", "docqa/eval/", "models/training/")
    found = []
    for path in sources():
        name = path.relative_to(ROOT).as_posix()
        if name.startswith(allowed):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id == "print"
            ):
                found.append(f"{name}:{node.lineno}")
    assert not found
