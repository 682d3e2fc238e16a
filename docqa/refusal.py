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
from docqa.odds import log_odds
from docqa.protocols import TellsLikelihood
from docqa.types import PackedPrompt

LEAST = 1.0


def doubt(p_refuses: float, p_answers: float | None) -> float:
    """Return how much both doubt that the sources answer; at `LEAST` or more it is refused.

    Args:
        p_refuses: how likely the model's answer is the refusal.
        p_answers: how likely the best passage answers; None where nothing was read.
    """
    return log_odds(p_refuses) - (0.0 if p_answers is None else log_odds(p_answers))


def refuses(prompt: PackedPrompt, engine: TellsLikelihood) -> bool:
    """Whether model and reader together take the sources for no answer.

    Args:
        prompt: with at least one source, as the model read it.
        engine: with the adapter, which is trained to refuse.

    Raises:
        ModelError: as the engine does.
    """
    (log_p,) = engine.log_probs(prompt.tokens, [prompts.NOT_FOUND])
    read = [one.read_score for one in prompt.evidence if one.read_score is not None]
    return doubt(math.exp(log_p), max(read, default=None)) >= LEAST
