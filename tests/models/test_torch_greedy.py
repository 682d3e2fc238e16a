"""Greedy text of 200 prompts of 256 tokens: torch beside llama.cpp, and llama.cpp beside itself.

Torch reads each prompt with llama.cpp's answer behind it and says, token by token, what it would
have chosen: the first place where it differs is where its own answer would have left llama.cpp's.
With float weights both compute the same numbers but for their last digits. Beside quantised weights
llama.cpp rounds activations to eight bits, and a difference in the last digit is then amplified to
tenths of a logit: its own answer changes with its batch size, and that is the yardstick.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from docqa.bench.torch_greedy import as_float
from models.catalog import DEFAULT_MODEL, resolve
from models.kv_cache import KvCache, PagePool
from models.llama_context import LlamaContext, LogTail
from models.model_file import read_model
from models.settings import LoadSettings
from models.torch_context import TorchContext

N_PROMPTS, N_PROMPT, N_ANSWER = 200, 256, 48
NEAR_TIE = 0.05
ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(7200)]


def settings_for(path, **more):
    return LoadSettings(
        path=str(path),
        context_length=512,
        kv_type_k="f16",
        kv_type_v="f16",
        n_sequences=1,
        n_gpu_layers=0,
        **more,
    )


def prompts(context):
    """Windows of 256 tokens of this repository's own texts."""
    files = sorted(ROOT.glob("docqa/**/*.py")) + sorted(ROOT.glob("*.md"))
    text = "\n".join(path.read_text(encoding="utf-8") for path in files)
    ids = context.tokenize(text[:600_000].encode(), False)
    step = (len(ids) - N_PROMPT) // N_PROMPTS
    return [ids[i * step : i * step + N_PROMPT] for i in range(N_PROMPTS)]


def answer(context, ids):
    """llama.cpp's greedy answer, always of N_ANSWER tokens."""
    context.remove(0, 0)
    context.decode(ids, 0, 0)
    found = []
    for at in range(len(ids), len(ids) + N_ANSWER):
        found.append(int(np.argmax(context.logits())))
        context.decode([found[-1]], at, 0)
    return found


def first_difference(decoder, pool, ids, theirs):
    """(place, gap between the first two logits there), or None."""
    chunk = decoder.compute(torch.tensor(ids + theirs), KvCache(pool, decoder.shape))
    logits = decoder.logits(chunk.hidden[len(ids) - 1 : -1])
    wrong = (logits.argmax(-1) != torch.tensor(theirs)).nonzero()
    if not len(wrong):
        return None
    at = int(wrong[0])
    top = logits[at].topk(2).values
    return at, float(top[0] - top[1])


def measure(path):
    llama = LlamaContext(settings_for(path), LogTail())
    alone = LlamaContext(settings_for(path, n_ubatch=1), LogTail())
    torch_context = TorchContext(settings_for(path), LogTail())
    pool = PagePool(1, torch_context.shape.head_dim, torch_context.form)
    differences, n_self = [], 0
    for ids in prompts(llama):
        theirs = answer(llama, ids)
        n_self += theirs == answer(alone, ids)
        found = first_difference(torch_context.decoder, pool, ids, theirs)
        if found:
            differences.append(found)
    for context in (llama, alone, torch_context):
        context.close()
    return differences, n_self


def report(name, differences, n_self):
    gaps = sorted(round(gap, 3) for _, gap in differences)
    print(
        f"\n{name}: torch writes llama.cpp's text for {N_PROMPTS - len(differences)} of {N_PROMPTS}"
        f" prompts; llama.cpp its own with ubatch 1 for {n_self}; gaps at first differences {gaps}"
    )


def test_float_weights_write_the_same_text(tmp_path):
    path = as_float(read_model(resolve(DEFAULT_MODEL)).path, tmp_path / "f32.gguf")
    differences, n_self = measure(path)
    report("F32", differences, n_self)
    assert all(gap < NEAR_TIE for _, gap in differences)


def test_quantised_weights_write_the_same_text_as_often_as_llama_cpp_does_itself():
    differences, n_self = measure(resolve(DEFAULT_MODEL))
    report("Q4_1", differences, n_self)
    assert N_PROMPTS - len(differences) >= n_self - N_PROMPTS // 20
