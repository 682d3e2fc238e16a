"""Loads the model files that it is told of and computes a few tokens: run by test_mutated_gguf.py.

    python -m tests.hostile.gguf_loader

A path a line on standard input, a word a line on standard output: loaded, refused. It may die; the
program that asks must not.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from docqa.config import ModelConfig
from docqa.errors import DocqaError
from models.load_plan import load_settings
from models.model_file import read_model
from models.processes import seal


def load(path: Path) -> str:
    """Return what llama.cpp makes of a file that the header check let pass."""
    from models.llama_context import LlamaContext, LogTail

    config = ModelConfig(path=str(path), context_length=256, n_threads=1, kv_type_k="f16",
                         kv_type_v="f16", adapter="none", force=True)  # fmt: skip
    try:
        settings = load_settings(config, read_model(path), None, lambda _: None)
        context = LlamaContext(settings, LogTail())
        try:
            tokens = context.tokenize(b"the pump and the valve", True)[:32] or [0]
            context.decode(tokens, 0, 0)
        finally:
            context.close()
    except DocqaError as error:
        return f"refused {str(error)[:200]!r}"
    return "loaded"


def main() -> None:
    """Answer until standard input ends."""
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    seal()
    for line in sys.stdin:
        out.write(load(Path(line.rstrip("\n"))) + "\n")


if __name__ == "__main__":
    main()
