"""One C++ library in the process, whatever llama.cpp has linked in and whatever else is loaded."""

from __future__ import annotations

import ctypes.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# A library as such builds of llama.cpp are: it splits text by std::regex of a C++ library within.
SOURCE = r"""
#include <regex>
extern "C" int count(const char *text) {
    std::string s(text);
    std::wstring w(s.begin(), s.end());
    std::wregex words(L"\\s+(?!\\S)|\\w+");
    int n = 0;
    for (std::wsregex_iterator i(w.begin(), w.end(), words), end; i != end; ++i) n++;
    return n;
}
"""
COUNT = "print(ctypes.CDLL({library!r}).count(b'split these words'))"


def _run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", f"import ctypes, sys\n{code}"],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
    )


@pytest.mark.skipif(sys.platform != "linux", reason="where libraries share their symbols")
@pytest.mark.parametrize("first", ["", "import torch\n"])
def test_a_library_with_cpp_linked_in_works_beside_others(tmp_path: Path, first: str) -> None:
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no C++ compiler")
    source, library = tmp_path / "split.cpp", tmp_path / "libsplit.so"
    source.write_text(SOURCE)
    command = [compiler, "-shared", "-fPIC", "-static-libstdc++", "-o", str(library), str(source)]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("the compiler has no C++ library to link in")
    count = COUNT.format(library=str(library))
    found = _run(f"{first}import models.llama_library\n{count}\nimport torch\n{count}")
    assert (found.stdout.split(), found.returncode) == (["3", "3"], 0), found.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="where libraries share their symbols")
def test_the_systems_is_found_first() -> None:
    if ctypes.util.find_library("stdc++") is None:
        pytest.skip("a system without it")
    name = "_ZNSt6locale7classicEv"
    found = _run(f"import models.llama_library\nctypes.CDLL(None).{name}\nprint('yes')")
    assert found.stdout == "yes\n", found.stderr


def test_nobody_loads_it_another_way() -> None:
    # Of training, which is no part of a running docqa, nothing is loaded beside it.
    files = [f for f in (ROOT / "models").glob("*.py") if f.name != "llama_library.py"]
    assert files
    wanted = re.compile(r"^\s*(import llama_cpp|from llama_cpp import)", re.M)
    assert [f.name for f in files if wanted.search(f.read_text("utf-8"))] == []
