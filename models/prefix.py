"""How much of a prompt is already there."""

from __future__ import annotations

from array import array

import numpy as np


def shared_prefix(left: array[int], right: array[int]) -> int:
    """Return the length of the longest common prefix of two arrays of token ids."""
    n = min(len(left), len(right))
    if n == 0 or left[0] != right[0]:
        return 0
    differs = np.frombuffer(left, np.int32)[:n] != np.frombuffer(right, np.int32)[:n]
    first = int(differs.argmax())
    return first if differs[first] else n
