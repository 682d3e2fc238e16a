"""Configuration: defaults < file < environment < command line. An unknown key is an error.

The file is TOML with one table a section:

    [model]
    path = "/models/qwen3-8b-q4_k_m.gguf"
    context_length = 16384

The environment names the same keys in capitals: `DOCQA_MODEL_PATH`, `DOCQA_RETRIEVE_K`. Two short
forms exist: `DOCQA_LIBRARY` (`library.dir`) and `DOCQA_MODEL` (`model.path`).
"""

from __future__ import annotations

import dataclasses
import difflib
import tomllib
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from docqa import paths
from docqa.errors import ConfigError


@dataclass(frozen=True, slots=True)
class LibraryConfig:
    """Where the library is."""

    dir: Path = field(default_factory=paths.default_library_dir)


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """The language model and how it is loaded."""

    path: str = "smollm2-135m-instruct"  # a name of `docqa models`, a GGUF file, none
    engine: str = "llama"  # llama | torch
    adapter: str = "auto"  # auto: ours where its base is loaded; none; or a GGUF adapter
    context_length: int = 0  # tokens; 0: as trained, 8192 at most. Beyond: see `rope`
    rope: str = "auto"  # auto: YaRN beyond the trained length; none | linear | ntk | yarn
    force: bool = False  # more than 8 times the trained length
    memory_gib: float = 0.0  # the dial: RAM, or VRAM with a GPU; 0: nine tenths of what is free
    n_gpu_layers: int = -1  # -1: as many as fit, where the build has a GPU
    n_threads: int = 0  # 0: as many as there are physical cores
    kv_type_k: str = "q8_0"  # f16 | q8_0 | q4_0 | bf16; both auto: the planner's choice
    kv_type_v: str = "q8_0"
    evict: str = "none"  # torch engine: METHOD:TIMES, a prompt's KV made so many times smaller
    keep_alive_s: float = 300.0  # a shared engine stays so long without a question; 0: none is kept


@dataclass(frozen=True, slots=True)
class ParseConfig:
    """Limits of the parse worker and what it reads."""

    memory_bytes: int = 2_000_000_000
    page_timeout_s: float = 30.0  # without progress
    file_timeout_s: float = 600.0  # plus 0.2 s a page
    ocr: str = "auto"  # auto | never
    ocr_language: str = "eng"


@dataclass(frozen=True, slots=True)
class EmbedConfig:
    """The embedder."""

    model: str = "all-MiniLM-L6-v2"  # the packaged one, or a sentence-transformers folder
    device: str = "auto"  # auto | cpu | cuda
    batch_size: int = 32


@dataclass(frozen=True, slots=True)
class RetrieveConfig:
    """How many candidates, how they are fused, and where evidence begins."""

    n_lexical: int = 100
    n_dense: int = 100
    rrf_k: int = 20
    n_rerank: int = 24
    min_relevance: float = -1.0  # -1: the reranker's own calibrated threshold
    reranker: str = "auto"  # auto | reader | interim | none | a cross-encoder folder


@dataclass(frozen=True, slots=True)
class AnswerConfig:
    """The prompt's budget and the sampling."""

    k: int = 5  # at most so many sources in the prompt
    evidence_tokens: int = 1280
    max_tokens: int = 160
    choose: bool = True  # whether the trained reader has a say in short answers (docqa.choose)
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class SessionConfig:
    """What a session keeps before the model's eyes, and on disk."""

    history_tokens: int = 0  # of earlier turns in the prompt; 0: at most half of the context
    note_tokens: int = 256  # of the note that stands for turns that were dropped
    keep_kv: bool = True  # on disk, so that reopening restores instead of computing again
    kv_quota_gib: float = 4.0  # of all saved KV; the least recently used goes first


@dataclass(frozen=True, slots=True)
class TuiConfig:
    """How the terminal UI looks."""

    theme: str = "docqa-dark"  # docqa-dark | docqa-light | any theme of Textual
    mode: str = "auto"  # auto | plain: no borders, no images, one pane: for screen readers


@dataclass(frozen=True, slots=True)
class Config:
    """All settings. `sources` says where each value that is not a default came from."""

    library: LibraryConfig = field(default_factory=LibraryConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    parse: ParseConfig = field(default_factory=ParseConfig)
    embed: EmbedConfig = field(default_factory=EmbedConfig)
    retrieve: RetrieveConfig = field(default_factory=RetrieveConfig)
    answer: AnswerConfig = field(default_factory=AnswerConfig)
    session: SessionConfig = field(default_factory=SessionConfig)
    tui: TuiConfig = field(default_factory=TuiConfig)
    sources: Mapping[str, str] = field(default_factory=dict)

    def values(self) -> dict[str, tuple[object, str]]:
        """Return `section.key` → (value, where it comes from), in declared order."""
        found: dict[str, tuple[object, str]] = {}
        for section in _sections():
            table = getattr(self, section)
            for entry in dataclasses.fields(table):
                name = f"{section}.{entry.name}"
                found[name] = (getattr(table, entry.name), self.sources.get(name, "default"))
        return found


BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
ENVIRONMENT_SHORT = {"DOCQA_LIBRARY": "library.dir", "DOCQA_MODEL": "model.path"}


def load(
    file: Path | None = None,
    environ: Mapping[str, str] | None = None,
    flags: Mapping[str, object] | None = None,
) -> Config:
    """Return the effective configuration.

    Args:
        file: the TOML file; None: the user's own, if there is one.
        environ: environment variables; only those that begin with `DOCQA_` are looked at.
        flags: `section.key` → value, as typed on the command line; None values are not set.

    Raises:
        ConfigError: unknown key (the nearest right one is named) or a value of the wrong type.
    """
    layers: list[tuple[str, dict[str, object]]] = []
    chosen = file or paths.config_file()
    if file is not None or chosen.is_file():
        layers.append((str(chosen), _from_file(chosen)))
    layers.append(("environment", _from_environment(environ or {})))
    layers.append(("command line", {k: v for k, v in (flags or {}).items() if v is not None}))

    values: dict[str, object] = {}
    sources: dict[str, str] = {}
    kinds = _kinds()
    for origin, layer in layers:
        for name, raw in layer.items():
            if name not in kinds:
                raise ConfigError(_unknown(name, origin, kinds))
            values[name] = _typed(raw, kinds[name], name, origin)
            sources[name] = origin
    tables = {
        section: kind(
            **{n.split(".")[1]: v for n, v in values.items() if n.startswith(section + ".")}
        )
        for section, kind in _sections().items()
    }
    return Config(**tables, sources=sources)


def _sections() -> dict[str, type]:
    hints = typing.get_type_hints(Config)
    return {f.name: hints[f.name] for f in dataclasses.fields(Config) if f.name != "sources"}


def _kinds() -> dict[str, type]:
    return {
        f"{section}.{name}": kind
        for section, table in _sections().items()
        for name, kind in typing.get_type_hints(table).items()
    }


def _from_file(file: Path) -> dict[str, object]:
    try:
        tables = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: not valid TOML: {error}") from error
    found: dict[str, object] = {}
    for section, table in tables.items():
        if not isinstance(table, dict):
            raise ConfigError(f"{file}: '{section}' stands outside a [section]")
        found.update({f"{section}.{key}": value for key, value in table.items()})
    return found


def _from_environment(environ: Mapping[str, str]) -> dict[str, object]:
    found: dict[str, object] = {}
    for variable, raw in environ.items():
        if variable in ENVIRONMENT_SHORT:
            found[ENVIRONMENT_SHORT[variable]] = raw
        elif variable.startswith("DOCQA_"):
            section, _, key = variable.removeprefix("DOCQA_").lower().partition("_")
            found[f"{section}.{key}"] = raw
    return found


def _unknown(name: str, origin: str, kinds: Mapping[str, type]) -> str:
    near = difflib.get_close_matches(name, kinds, n=1, cutoff=0.0)
    return f"{origin}: unknown setting '{name}'; did you mean '{near[0]}'?"


def _typed(raw: object, kind: type | types.UnionType, name: str, origin: str) -> object:
    """Return `raw` as `kind`; strings (from the environment) are converted."""
    try:
        if kind is Path and isinstance(raw, str | Path):
            return Path(raw).expanduser().absolute()
        if kind is bool and isinstance(raw, bool):
            return raw
        if kind is bool and isinstance(raw, str) and raw.lower() in BOOLEANS:
            return BOOLEANS[raw.lower()]
        if kind is float and isinstance(raw, int | float | str) and not isinstance(raw, bool):
            return float(raw)
        if kind is int and isinstance(raw, int | str) and not isinstance(raw, bool):
            return int(raw)
        if kind is str and isinstance(raw, str):
            return raw
    except ValueError:
        pass
    expected = getattr(kind, "__name__", str(kind))
    raise ConfigError(f"{origin}: '{name}' must be of type {expected}, not {raw!r}")
