"""Variants of the pipeline for before-and-after tables: a name and the settings that differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from docqa import config
from docqa.config import Config
from docqa.errors import UsageError

Value = str | int | float


@dataclass(frozen=True, slots=True)
class Variant:
    """A pipeline that differs from the configured one in `settings` (`section.key` → value)."""

    name: str
    settings: Mapping[str, Value]


RETRIEVAL = (
    Variant("lexical only", {"retrieve.n_dense": 0, "retrieve.reranker": "none"}),
    Variant("dense only", {"retrieve.n_lexical": 0, "retrieve.reranker": "none"}),
    Variant("hybrid", {"retrieve.reranker": "none"}),
    Variant("hybrid + rerank", {}),
)
ANSWERS = (
    Variant("base", {"model.adapter": "none", "retrieve.reranker": "none"}),
    Variant("adapter", {"retrieve.reranker": "none"}),
    Variant("adapter + reader", {}),
)
OF = {"answers": ANSWERS, "retrieval": RETRIEVAL}


def applied(base: Config, variant: Variant) -> Config:
    """Return `base` with the settings of `variant`.

    Raises:
        ConfigError: an unknown setting, or a value of the wrong type.
    """
    changed = config.load(flags=dict(variant.settings))
    result = base
    for name in variant.settings:
        section, key = name.split(".", 1)
        table = replace(getattr(result, section), **{key: getattr(getattr(changed, section), key)})
        sources = {**result.sources, name: f"variant '{variant.name}'"}
        result = replace(result, **{section: table}, sources=sources)
    return result


def parse_variant(text: str) -> Variant:
    """Return the variant that `NAME:section.key=value,…` describes; no settings: as configured.

    Raises:
        UsageError: it is not of that form.
    """
    name, _, rest = text.partition(":")
    pairs = [pair.partition("=") for pair in rest.split(",") if pair]
    if not name or any(not key or not sep for key, sep, _ in pairs):
        raise UsageError(f"'{text}' is no variant: NAME:section.key=value,section.key=value")
    return Variant(name, {key: value for key, _, value in pairs})
