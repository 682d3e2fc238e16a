"""Chances as log-odds, in which the doubts of several models add up."""

from __future__ import annotations

import math


def log_odds(chance: float, least: float = 1e-4) -> float:
    """Return log(p / (1 - p)); chances nearer to 0 or 1 than `least` are not told apart."""
    clipped = min(max(chance, least), 1.0 - least)
    return math.log(clipped / (1.0 - clipped))
