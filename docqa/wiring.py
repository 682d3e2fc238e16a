"""The composition root: Config → Workspace. The only module of the core that imports models."""

from __future__ import annotations

from pathlib import Path

from docqa.config import Config
from docqa.library import Library
from docqa.paths import LibraryPaths
from docqa.protocols import Embedder, Engine, Reranker
from docqa.workspace import Workspace


def build(config: Config) -> Workspace:
    """Return a workspace over the library of `config`; models are loaded when first needed."""

    def open_embedder() -> Embedder:
        from models.embedder import open_embedder

        return open_embedder(config.embed)

    def open_engine() -> Engine:
        from models.host import open_engine

        return open_engine(config.model)

    def tokenizer_file() -> Path:
        from models.embedder import PACKAGED, packaged_folder

        is_packaged = config.embed.model == PACKAGED
        folder = packaged_folder() if is_packaged else Path(config.embed.model).expanduser()
        return folder / "tokenizer.json"

    library = Library(
        LibraryPaths(config.library.dir),
        config,
        open_embedder=open_embedder,
        tokenizer_file=tokenizer_file,
    )

    def open_reranker() -> Reranker | None:
        from models.reranker import open_reranker

        if config.retrieve.reranker == "none":
            return None
        return open_reranker(config.retrieve, library.embedder)

    return Workspace(library, config, open_engine=open_engine, open_reranker=open_reranker)
