"""Contexts longer than a model was trained for: which rotary settings, and when to say no.

`plan_rope` turns a wished context and `[model] rope` into llama.cpp's parameters. What a file says
of itself is respected: a model that is extended already is used as it is up to its own length, and
never extended a second time on top.

YaRN: Peng et al. 2023, arXiv:2309.00071. NTK-aware base: base · s^(d / (d − 2)) for a stretch s.
"""

from __future__ import annotations

from dataclasses import dataclass

from docqa.errors import ModelRefused
from models.model_file import ModelFile
from models.settings import RopeSettings

METHODS = ("auto", "none", "linear", "ntk", "yarn")
AUTO_CONTEXT = 8192  # tokens, where the model has as many and nothing is wished
WARN_STRETCH, MOST_STRETCH = 4.0, 8.0
_NONE, _LINEAR, _YARN = 0, 1, 2


@dataclass(frozen=True, slots=True)
class RopePlan:
    """A context and the rotary settings for it. `stretch` is 1 within the trained length."""

    context_length: int
    method: str  # of METHODS; "file" where the file's own settings are used
    stretch: float
    settings: RopeSettings
    warnings: tuple[str, ...] = ()

    @property
    def is_yarn(self) -> bool:
        """Whether YaRN is on: positions must then not be shifted (see `models.llama_engine`)."""
        return self.settings.scaling == _YARN


def plan_rope(
    model: ModelFile, context_length: int, method: str = "auto", *, force: bool = False
) -> RopePlan:
    """Return the settings for `context_length` tokens; 0: the trained length, 8192 at most.

    Raises:
        ModelRefused: no such method, more than 8 times the trained length without `force`, or a
            model that cannot be extended (again).
    """
    if method not in METHODS:
        raise ModelRefused(f"rope '{method}': choose one of {', '.join(METHODS)}")
    trained = model.context_length
    wished = context_length or min(trained, AUTO_CONTEXT)
    if wished <= trained:
        return _within(model, wished, method)
    stretch = wished / trained
    if model.rope.has_factors:
        raise ModelRefused(
            f"{model.path.name}: its positions are already extended to {trained} tokens by factors "
            f"of its own, and are not extended twice; ask for a context of {trained} at most"
        )
    if stretch > MOST_STRETCH and not force:
        raise ModelRefused(
            f"a context of {wished} is {stretch:.1f} times the {trained} tokens that "
            f"{model.path.name} was trained for: beyond {MOST_STRETCH:.0f} times, answers are not "
            "about the text any more. Ask for less, or add --force"
        )
    chosen = "yarn" if method == "auto" else method
    warnings = []
    if chosen == "none":
        warnings.append(
            f"positions beyond the trained {trained} tokens are unknown to the model; without "
            "scaling (rope none) the text there is as good as unread"
        )
    elif stretch > WARN_STRETCH:
        warnings.append(
            f"the context is {stretch:.1f} times the trained {trained} tokens; beyond "
            f"{WARN_STRETCH:.0f} times models without long-context training lose facts: check "
            "answers against their sources"
        )
    # A file with YaRN or linear scaling of its own: one stretch from its original length replaces
    # the file's, instead of a second one on top.
    original = trained
    if model.rope.is_extended and model.rope.original_context_length:
        original = model.rope.original_context_length
    settings = _settings(model, chosen, wished / original, original)
    return RopePlan(wished, chosen, stretch, settings, tuple(warnings))


def _within(model: ModelFile, wished: int, method: str) -> RopePlan:
    """Return the plan of a context that the model was trained for: what the file says."""
    if method in ("auto", "none") or not model.rope.is_extended:
        note: tuple[str, ...] = ()
        if method not in ("auto", "none"):
            note = (
                f"{wished} tokens are within the trained length: rope {method} changes nothing",
            )
        return RopePlan(wished, "file", 1.0, RopeSettings(), note)
    raise ModelRefused(
        f"{model.path.name}: extends its positions itself ({model.rope.scaling or 'by factors'}); "
        f"rope {method} on top would extend them twice. Leave rope at auto"
    )


def _settings(model: ModelFile, method: str, factor: float, original: int) -> RopeSettings:
    if method == "none":
        return RopeSettings(scaling=_NONE)
    if method == "linear":
        return RopeSettings(scaling=_LINEAR, freq_scale=1 / factor)
    if method == "ntk":
        dim = model.rope.dimension_count or model.head_dim_k
        base = model.rope.freq_base * factor ** (dim / (dim - 2))
        return RopeSettings(scaling=_NONE, freq_base=base)
    return RopeSettings(scaling=_YARN, freq_scale=1 / factor, original_context=original)
