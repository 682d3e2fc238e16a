"""What takes memory beside a language model's weights and KV: adapter, embedder, reranker, process.

Measured on Linux and stated where it is added; files count with their size, since what is read from
them is kept as it is. The adapter is where the model is, the others are always in RAM.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from docqa.config import EmbedConfig, RetrieveConfig
from docqa.errors import ModelNotFound

# The engine's process with an empty model: Python, llama.cpp's libraries, the vocabulary's table.
PROCESS_BYTES = 62 << 20
# The caller's ONNX Runtime with MiniLM loaded, less its weights: libraries, arena, tokenizer.
ONNX_BYTES = 80 << 20
WEIGHTS = ("*.safetensors", "*.onnx", "pytorch_model.bin")


@dataclass(frozen=True, slots=True)
class Beside:
    """Bytes of everything that is not the language model."""

    adapter: int = 0
    embedder: int = 0
    reranker: int = 0
    process: int = PROCESS_BYTES

    @property
    def in_ram(self) -> int:
        """What is in RAM even where the model is on a GPU."""
        return self.embedder + self.reranker + self.process

    def reserved(self, *, on_gpu: bool) -> int:
        """Return what is to be taken off the memory that the model may use."""
        return self.adapter if on_gpu else self.adapter + self.in_ram


def beside(adapter: Path | None, embed: EmbedConfig, retrieve: RetrieveConfig) -> Beside:
    """Return what these settings take beside the model; files that are missing count nothing."""
    from models.embedder import PACKAGED, packaged_folder

    is_packaged = embed.model == PACKAGED
    embedder = 0
    with contextlib.suppress(ModelNotFound):  # then there is none, and this is not about it
        folder = packaged_folder() if is_packaged else Path(embed.model).expanduser()
        embedder = _weights(folder) + ONNX_BYTES
    reranker = 0
    if retrieve.reranker == "reader":
        reranker = _weights(Path(__file__).parent / "weights")
    elif retrieve.reranker not in ("auto", "interim", "none"):
        reranker = _weights(Path(retrieve.reranker).expanduser())
    return Beside(
        adapter=adapter.stat().st_size if adapter else 0,
        embedder=embedder,
        reranker=reranker,
    )


def _weights(folder: Path) -> int:
    """Return the bytes of the weights in a folder; one format of them, where there are several."""
    if not folder.is_dir():
        return 0
    return max(sum(file.stat().st_size for file in folder.glob(kind)) for kind in WEIGHTS)
