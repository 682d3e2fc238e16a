"""One loaded engine and one set of tiny models for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from docqa.config import ModelConfig
from models.catalog import DEFAULT_MODEL, resolve
from models.host import HostEngine, open_engine
from models.model_file import ModelFile, read_model
from tests.models.tiny import FAMILIES, write_model


@pytest.fixture(scope="session", autouse=True)
def own_folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The key of saved KV, hashes and sockets of a test run are its own."""
    root = tmp_path_factory.mktemp("u")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("DATA", "CACHE", "RUNTIME"):
            variable = "XDG_RUNTIME_DIR" if name == "RUNTIME" else f"XDG_{name}_HOME"
            patch.setenv(variable, str(root / name.lower()))
            (root / name.lower()).mkdir(mode=0o700)
        yield


@pytest.fixture(scope="session")
def default_model() -> ModelFile:
    return read_model(resolve(DEFAULT_MODEL))


@pytest.fixture(scope="session")
def default_engine(own_folders: None) -> Iterator[HostEngine]:
    with open_engine(
        ModelConfig(n_threads=1, context_length=4096, adapter="none", keep_alive_s=0)
    ) as engine:
        yield engine


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {name: write_model(folder / f"{name}.gguf", name) for name in FAMILIES}
