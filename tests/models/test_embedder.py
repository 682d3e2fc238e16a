import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from docqa.config import EmbedConfig
from docqa.errors import Interrupted, ModelNotFound, ModelRefused
from docqa.token_count import TokenCounter
from models.embedder import (
    BertFiles,
    BertTokens,
    BulkOnGpu,
    OnnxMiniLM,
    TorchMiniLM,
    batches,
    chunk_options,
    open_embedder,
    packaged_folder,
)
from models.sentence_embedder import SentenceTransformerEmbedder

TEXTS = [
    "The pump's seal must be replaced every 2,000 hours.",
    "",
    "ERR-1042 at java.lang.NullPointerException (10.0.0.1:8080) foo_bar",
    "Größe, naïve café – 日本語のテキスト 👍🏽 ﬁne\x1cjoined\x85up",
    "word " * 600,  # beyond the 256 tokens
    "a",
    "x" * 300 + " [CLS] [SEP] <|im_start|>",
]


@pytest.fixture(scope="module")
def files() -> BertFiles:
    found = BertFiles.read(packaged_folder())
    assert found is not None
    return found


@pytest.fixture(scope="module")
def onnx(files: BertFiles) -> OnnxMiniLM:
    return OnnxMiniLM(files, n_threads=1)


@pytest.fixture(scope="module")
def reference():
    embedder = SentenceTransformerEmbedder(packaged_folder(), EmbedConfig(device="cpu"))
    return embedder


def test_onnx_equals_sentence_transformers(onnx, reference):
    ours, theirs = onnx.embed_documents(TEXTS), reference.embed_documents(TEXTS)
    assert ours.shape == (len(TEXTS), 384)
    assert ours.dtype == np.float32
    assert np.abs(ours - theirs).max() < 1e-5
    assert (ours * theirs).sum(1).min() > 0.99999
    assert np.abs(onnx.embed_query(TEXTS[0]) - reference.embed_query(TEXTS[0])).max() < 1e-5


def test_identity(onnx, reference):
    assert (onnx.dim, onnx.max_tokens) == (reference.dim, reference.max_tokens) == (384, 256)
    assert onnx.name.startswith("all-MiniLM-L6-v2:")
    assert onnx.name.split(":")[1] == reference.name.split(":")[1]


def test_vectors_do_not_depend_on_the_batch(onnx):
    alone = np.stack([onnx.embed_documents([text])[0] for text in TEXTS])
    assert np.abs(alone - onnx.embed_documents(TEXTS)).max() < 1e-5
    assert np.abs(np.linalg.norm(alone, axis=1) - 1).max() < 1e-5
    assert onnx.embed_documents([]).shape == (0, 384)


def test_a_stop_is_heard_between_two_runs_of_the_model(onnx, reference):
    texts = ["word " * 200] * 200
    for embedder in (onnx, reference):
        asked = iter([False, False, True])
        with pytest.raises(Interrupted):
            embedder.embed_documents(texts, lambda asked=asked: next(asked))
        assert next(asked, None) is None


def test_torch_backend_is_interchangeable(files, onnx):
    torch_embedder = TorchMiniLM(files, device="cpu")
    assert torch_embedder.name == onnx.name
    difference = torch_embedder.embed_documents(TEXTS) - onnx.embed_documents(TEXTS)
    assert np.abs(difference).max() < 1e-5


@pytest.mark.gpu
def test_torch_fp16_on_a_gpu(files, onnx):
    texts = TEXTS * 20
    ours = TorchMiniLM(files).embed_documents(texts)
    assert (ours * onnx.embed_documents(texts)).sum(1).min() > 0.9999


def test_bulk_falls_back_with_a_reason(onnx, monkeypatch):
    def no_device(*_: object, **__: object) -> None:
        raise ModelRefused("no CUDA device")

    monkeypatch.setattr("models.embedder.TorchMiniLM", no_device)
    bulk = BulkOnGpu(onnx)
    few = bulk.embed_documents(TEXTS[:2])
    assert bulk.fallback_reason is None
    many = bulk.embed_documents(TEXTS[:2] * 40)
    assert bulk.fallback_reason == "no CUDA device"
    assert bulk.backend == onnx.backend
    assert np.abs(many[:2] - few).max() < 1e-5


def test_counts_equal_the_tokenizer(files, onnx, reference):
    assert onnx.count_tokens(TEXTS) == reference.count_tokens(TEXTS)
    assert onnx.count_tokens([]) == []


@given(st.lists(st.text(max_size=80), max_size=5))
def test_counts_equal_the_tokenizer_on_any_text(texts):
    tokens = _tokens()
    whole = tokens._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
    assert tokens.count(texts) == [len(encoding.ids) for encoding in whole]


_CACHE: dict[str, BertTokens] = {}


def _tokens() -> BertTokens:
    if not _CACHE:
        found = BertFiles.read(packaged_folder())
        assert found is not None
        _CACHE["tokens"] = BertTokens(found)
    return _CACHE["tokens"]


def test_counter_stays_right_when_its_memory_is_emptied():
    tokenizer = _tokens()._tokenizer
    counter = TokenCounter(tokenizer, limit=5)
    texts = ["alpha beta gamma", "beta delta epsilon zeta", "alpha eta theta iota kappa"]
    expected = [len(tokenizer.encode(text, add_special_tokens=False).ids) for text in texts]
    for _ in range(3):
        assert [counter([text])[0] for text in texts] == expected
        assert counter(texts) == expected


@given(st.lists(st.integers(0, 300), max_size=60), st.integers(1, 2000), st.integers(1, 40))
def test_batches_hold_every_row_once_within_the_budget(lengths, n_tokens, n_rows):
    found = list(batches(lengths, n_tokens, n_rows))
    assert sorted(i for batch in found for i in batch) == list(range(len(lengths)))
    for batch in found:
        assert len(batch) <= n_rows
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= n_tokens


def test_open_embedder_takes_the_packaged_one():
    embedder = open_embedder(EmbedConfig(device="cpu"))
    assert isinstance(embedder, OnnxMiniLM)


def test_open_embedder_names_what_is_wrong(tmp_path: Path):
    with pytest.raises(ModelNotFound, match="no-such-folder"):
        open_embedder(EmbedConfig(model=str(tmp_path / "no-such-folder")))
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ModelRefused, match="safetensors"):
        open_embedder(EmbedConfig(model=str(tmp_path)))


def test_cuda_where_there_is_none(monkeypatch):
    monkeypatch.setattr("models.embedder._no_cuda_reason", lambda: "torch is a CPU build")
    with pytest.raises(ModelRefused, match="CPU build"):
        open_embedder(EmbedConfig(device="cuda"))
    auto = open_embedder(EmbedConfig(device="auto"))
    assert isinstance(auto, OnnxMiniLM)
    assert auto.fallback_reason == "torch is a CPU build"


def _folder_with(tmp_path: Path, **changed: object) -> Path:
    source, folder = packaged_folder(), tmp_path / "my-model"
    folder.mkdir()
    for file in source.rglob("*"):
        target = folder / file.relative_to(source)
        if file.is_dir():
            target.mkdir()
        elif file.stat().st_size > 1_000_000:
            target.symlink_to(file)
        else:
            target.write_bytes(file.read_bytes())
    for name, value in changed.items():
        file = folder / f"{name}.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **value}))
    return folder


def test_a_folder_of_the_users_with_prompts(tmp_path: Path, onnx):
    prompts = {"prompts": {"query": "query: ", "document": "passage: "}}
    folder = _folder_with(tmp_path, config_sentence_transformers=prompts)
    ours = open_embedder(EmbedConfig(model=str(folder), device="cpu"))
    assert isinstance(ours, OnnxMiniLM)
    assert ours.name.startswith("my-model:")
    assert ours.max_tokens == 254  # "query" and ":"
    theirs = SentenceTransformerEmbedder(folder, EmbedConfig(device="cpu"))
    assert theirs.max_tokens == 254
    pairs = (
        (ours.embed_query("seal"), theirs.embed_query("seal")),
        (ours.embed_documents(["seal"])[0], theirs.embed_documents(["seal"])[0]),
    )
    for mine, other in pairs:
        assert np.abs(mine - other).max() < 1e-5
    assert np.abs(pairs[0][0] - onnx.embed_query("seal")).max() > 1e-3


def test_another_architecture_goes_to_its_own_library(tmp_path: Path):
    folder = _folder_with(tmp_path, config={"hidden_act": "relu"})
    assert BertFiles.read(folder) is None


def test_broken_weights_are_refused(tmp_path: Path):
    folder = _folder_with(tmp_path)
    weights = folder / "model.safetensors"
    weights.unlink()
    weights.write_bytes((packaged_folder() / "model.safetensors").read_bytes()[:100_000])
    with pytest.raises(ModelRefused, match="my-model"):
        open_embedder(EmbedConfig(model=str(folder), device="cpu"))


def test_import_and_a_query_load_no_torch():
    code = (
        "import sys; from docqa.config import EmbedConfig; "
        "from models.embedder import open_embedder; "
        "open_embedder(EmbedConfig()).embed_query('x'); "
        "print([m for m in ('torch','transformers','sentence_transformers','onnx') "
        "if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_chunk_options_leave_room_for_the_prompt(tmp_path: Path):
    packaged = chunk_options(EmbedConfig())
    assert (packaged.max_tokens, Path(packaged.tokenizer).name) == (240, "tokenizer.json")
    prompts = {"prompts": {"query": "", "document": "a " * 50}}
    folder = _folder_with(tmp_path, config_sentence_transformers=prompts)
    assert chunk_options(EmbedConfig(model=str(folder))).max_tokens == 256 - 2 - 50
