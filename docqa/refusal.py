"""Whether the sources answer at all: what two models doubt together.

The adapter was trained to refuse and says how likely a refusal is; the trained reader says how
likely each passage answers. Passages on the same matter fool each alone, and in different cases.
The question is refused where

    logit P(the model refuses) - logit P(the best passage answers) >= LEAST

The second term is left out where the trained reader read nothing. Figures:
models/weights/smollm2-135m-instruct-cite.md, "Refused by both".
"""

from __future__ import annotations

import math

from docqa import prompts
from docqa.protocols import TellsLikelihood
from docqa.types import PackedPrompt

LEAST = 1.75
_CERTAIN = 1e-4  # chances nearer to 0 or 1 than this are not told apart


def refuses(prompt: PackedPrompt, engine: TellsLikelihood) -> bool:
    """Whether model and reader together take the sources for no answer.

    Args:
        prompt: with at least one source, as the model read it.
        engine: with the adapter, which is trained to refuse.

    Raises:
        ModelError: as the engine does.
    """
    (log_p,) = engine.log_probs(prompt.tokens, [prompts.NOT_FOUND])
    read = [_logit(one.read_score) for one in prompt.evidence if one.read_score is not None]
    return _logit(math.exp(log_p)) - max(read, default=0.0) >= LEAST


def _logit(chance: float) -> float:
    clipped = min(max(chance, _CERTAIN), 1.0 - _CERTAIN)
    return math.log(clipped / (1.0 - clipped))
