"""Any model folder that a user names, through sentence-transformers, which is slow to import."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from docqa.config import EmbedConfig
from docqa.errors import Interrupted, ModelRefused
from models.embedder import Vector, Vectors, digest


class SentenceTransformerEmbedder:
    """Any other model folder, through sentence-transformers, with the folder's own prompts.

    Local files only: the hub is switched off before the import, code in the folder is not run, and
    weights that are not safetensors are refused.
    """

    def __init__(self, folder: Path, config: EmbedConfig) -> None:
        os.environ["HF_HUB_OFFLINE"] = "1"  # read when huggingface_hub is imported
        os.environ["TRANSFORMERS_OFFLINE"] = "1"
        from sentence_transformers import SentenceTransformer
        from transformers.utils import logging as transformers_logging

        transformers_logging.disable_progress_bar()
        device = None if config.device == "auto" else config.device
        weights = sorted(folder.rglob("*.safetensors"))
        if not weights:
            raise ModelRefused(f"{folder}: no .safetensors file; other formats can run code")
        try:
            self._model: Any = SentenceTransformer(
                str(folder),
                device=device,
                local_files_only=True,
                trust_remote_code=False,
                model_kwargs={"use_safetensors": True},
            )
        except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
            raise ModelRefused(f"{folder}: the model does not load: {error}") from error
        self._batch_size = config.batch_size
        self._name = f"{folder.name}:{'+'.join(digest(file) for file in weights)}"
        self.backend = f"sentence-transformers {self._model.device}"
        self.fallback_reason: str | None = None

    @property
    def name(self) -> str:
        """Folder name and the hashes of its weight files."""
        return self._name

    @property
    def dim(self) -> int:
        """D."""
        return int(self._model.get_embedding_dimension())

    @property
    def max_tokens(self) -> int:
        """The longest text that is read whole, special tokens included, the prompt taken off."""
        limit = int(self._model.max_seq_length or 512)
        prompts = list(self._model.prompts.values()) or [""]
        return limit - max(self.count_tokens(prompts))

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Return the number of tokens of each text, special tokens not counted."""
        if not texts:
            return []
        found = self._model.tokenizer(list(texts), add_special_tokens=False, verbose=False)
        return [len(ids) for ids in found["input_ids"]]

    def embed_documents(
        self, texts: Sequence[str], is_cancelled: Callable[[], bool] = lambda: False
    ) -> Vectors:
        """Return (N, D) float32, rows of unit length, in the order of `texts`.

        Raises:
            Interrupted: `is_cancelled` said so; it is asked between batches.
        """
        vectors = np.empty((len(texts), self.dim), np.float32)
        # Longest first, as the library itself does: its own batches would be padded by chance.
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]), reverse=True)
        for first in range(0, len(texts), self._batch_size):
            if is_cancelled():
                raise Interrupted("embedding was stopped")
            rows = order[first : first + self._batch_size]
            vectors[rows] = self._run(self._model.encode_document, [texts[i] for i in rows])
        return vectors

    def embed_query(self, text: str) -> Vector:
        """Return (D,) float32 of unit length."""
        first: Vector = self._run(self._model.encode_query, [text])[0]
        return first

    def _run(self, encode: Any, texts: list[str]) -> Vectors:
        vectors: Vectors = encode(
            texts,
            batch_size=self._batch_size,
            normalize_embeddings=True,
            show_progress_bar=False,
            convert_to_numpy=True,
        )
        return vectors.astype(np.float32, copy=False)
