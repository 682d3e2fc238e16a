"""GGUF headers with a few bytes changed: refused by name, or loaded; the caller never dies."""

from __future__ import annotations

import json
import os
import random
import select
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from docqa.config import ModelConfig
from docqa.errors import ModelError, ModelNotFound, ModelRefused
from docqa.types import Segment
from models.catalog import list_models, read_adapter
from models.gguf import read_header
from models.host import open_engine
from models.model_file import read_model
from tests.hostile.mutate import GGUF, mutated
from tests.models.tiny import FAMILIES, write_model

ROOT = Path(__file__).parents[2]
LOAD_S = 60.0


class Loader:
    """A process that loads files; replaced when it dies or hangs."""

    def __init__(self) -> None:
        self.n_dead = self.n_hung = 0
        self._process: subprocess.Popen[bytes] | None = None

    def load(self, path: Path) -> str:
        process = self._process or self._start()
        process.stdin.write(os.fsencode(path) + b"\n")
        process.stdin.flush()
        if not select.select([process.stdout], [], [], LOAD_S)[0]:
            self.n_hung += 1
            self.close()
            return "hung"
        line = process.stdout.readline()
        if line:
            return line.decode().strip()
        code = process.wait()
        self.n_dead += 1
        self.close()
        return f"died {code}"

    def _start(self) -> subprocess.Popen[bytes]:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.hostile.gguf_loader"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=ROOT,
            bufsize=0,
        )
        return self._process

    def close(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            process.stdin.close()
            process.stdout.close()


def run(n: int, seed: int, folder: Path, loader: Loader | None) -> Counter[str]:
    """Check `n` mutated headers, load what passes; return what became of them."""
    rng = random.Random(seed)
    wholes = []
    for name in FAMILIES:
        path = write_model(folder / f"{name}.gguf", name)
        wholes.append((path.read_bytes(), min(t.offset for t in read_header(path).tensors)))
    outcomes: Counter[str] = Counter()
    for number in range(n):
        whole, n_header = rng.choice(wholes)
        path = folder / "mutated.gguf"
        path.unlink(missing_ok=True)
        path.write_bytes(mutated(whole, rng, GGUF, n_header))
        try:
            read_model(path)
        except ModelRefused as error:
            assert str(path) in str(error) and len(str(error)) < 1000, number
            outcomes["refused before the library"] += 1
            continue
        word = loader.load(path) if loader else "passed"
        outcomes[word.partition(" ")[0]] += 1
        if word.startswith(("died", "hung")):
            kept = os.environ.get("DOCQA_KEEP_MUTATED")
            if kept:
                (Path(kept) / f"{seed}-{number}-{word.replace(' ', '')}.gguf").write_bytes(
                    path.read_bytes()
                )
    return outcomes


def test_mutated_headers_are_refused_or_described(tmp_path: Path) -> None:
    """No other error, whatever stands there."""
    outcomes = run(150, 1, tmp_path, None)
    assert outcomes["refused before the library"] > 30 and outcomes["passed"] > 10, outcomes


@pytest.mark.timeout(300)
def test_the_caller_outlives_the_engine(tmp_path: Path) -> None:
    """The real way: what the check lets pass is loaded in a process of its own, and asked."""
    rng = random.Random(3)
    whole = write_model(tmp_path / "whole.gguf", "llama3")
    n_header = min(t.offset for t in read_header(whole).tensors)
    asked = 0
    for _ in range(200):
        path = tmp_path / "mutated.gguf"
        path.unlink(missing_ok=True)
        path.write_bytes(mutated(whole.read_bytes(), rng, GGUF, n_header))
        config = ModelConfig(path=str(path), context_length=256, n_threads=1, keep_alive_s=0,
                             adapter="none", kv_type_k="f16", kv_type_v="f16")  # fmt: skip
        try:
            with open_engine(config) as engine:
                asked += 1
                (tokens,) = engine.tokenize([Segment("the pump", False)])
                for _event in engine.generate(tokens or [1], max_tokens=2):
                    pass
        except ModelError as error:
            assert str(error)
        if asked >= 6:
            break
    assert asked >= 6


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_five_thousand_mutated_headers(tmp_path: Path) -> None:
    loader = Loader()
    outcomes = run(5_000, 2, tmp_path, loader)
    loader.close()
    print(json.dumps(outcomes))
    assert sum(outcomes.values()) == 5_000  # the caller is alive
    assert not outcomes["hung"], outcomes
    # Each death is the engine's process, never the caller's; the check keeps them rare.
    assert outcomes["died"] <= 10, outcomes


def test_adapters_are_checked_the_same_way(tmp_path: Path) -> None:
    rng = random.Random(4)
    whole = next((ROOT / "models/weights").glob("*.gguf")).read_bytes()
    n_header = 40_000
    refused = 0
    for _ in range(30):
        path = tmp_path / "adapter.gguf"
        path.write_bytes(mutated(whole[:n_header], rng, GGUF))
        os.truncate(path, len(whole))
        try:
            read_adapter(path)
        except ModelRefused as error:
            assert str(path) in str(error)
            refused += 1
    assert refused > 5


@pytest.mark.parametrize("content", [b"", b"GGUF", b"\0" * 4096, b"PK\x03\x04" + b"x" * 500])
def test_what_is_no_model_is_listed_with_its_problem(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "odd.gguf").write_bytes(content)
    entries = [e for e in list_models(tmp_path) if e.source == "folder"]
    assert [bool(e.problem) for e in entries] == [True]


@pytest.mark.skipif(sys.platform != "linux", reason="nodes of POSIX")
def test_a_model_that_is_no_regular_file_is_refused_and_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.gguf")
    for path in (tmp_path / "pipe.gguf", Path("/dev/zero"), Path("/proc/self/mem")):
        with pytest.raises((ModelRefused, ModelNotFound)):
            read_header(path)


def test_a_sparse_file_of_a_terabyte_is_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "huge.gguf"
    with path.open("wb") as file:
        file.write(b"GGUF\x03\0\0\0" + (1).to_bytes(8, "little") * 2)
        file.truncate(1 << 40)
    with pytest.raises(ModelRefused):
        read_header(path)
