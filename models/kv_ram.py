"""KV of conversations that had to leave the context, kept in RAM: bounded, least recently used out.

The middle of three tiers: the context itself, RAM, disk (`models.kv_file`). What is here was
computed by this process with these settings, so nothing has to be verified.

Two conversations that take turns change places here. Gigabytes of fresh memory, locked for the GPU,
take several times as long as the copy, so the memory of one that went back is kept for the next.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.prefix import shared_prefix

MIN_TOKENS = 256  # below, computing again is as fast


@dataclass(frozen=True, slots=True)
class Parked:
    """A conversation that left the context."""

    tokens: array[int]
    state: npt.NDArray[np.uint8]


class ParkedKv:
    """Conversations by their tokens, at most `limit_bytes` of them."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self._entries: list[Parked] = []  # least recently used first
        self._spare: npt.NDArray[np.uint8] | None = None

    @property
    def n_bytes(self) -> int:
        """What is held, memory kept for the next included."""
        spare = 0 if self._spare is None else self._spare.nbytes
        return spare + sum(entry.state.nbytes for entry in self._entries)

    def park(
        self, tokens: array[int], bytes_per_token: float, state: Callable[[], npt.NDArray[np.uint8]]
    ) -> None:
        """Keep a conversation. `state` is called only where there is a use for it."""
        if len(tokens) < MIN_TOKENS or len(tokens) * bytes_per_token > self.limit_bytes:
            return
        if any(shared_prefix(entry.tokens, tokens) == len(tokens) for entry in self._entries):
            return
        entry = Parked(tokens[:], state())
        if not 0 < entry.state.nbytes <= self.limit_bytes:
            return
        # What it continues is contained in it.
        self._entries = [
            e for e in self._entries if shared_prefix(e.tokens, tokens) < len(e.tokens)
        ]
        self._entries.append(entry)
        while self.n_bytes > self.limit_bytes:
            del self._entries[0]

    def best(self, prompt: array[int], *, whole: bool) -> tuple[Parked | None, int]:
        """Return the entry that shares most with `prompt`, and how much.

        `whole`: only entries that the prompt continues (a recurrent state cannot be cut).
        """
        best: Parked | None = None
        most = 0
        for entry in self._entries:
            n = shared_prefix(entry.tokens, prompt)
            if n > most and not (whole and n < len(entry.tokens)):
                best, most = entry, n
        return best, most

    def take(self, entry: Parked) -> None:
        """Forget an entry that is in the context again."""
        self._entries = [e for e in self._entries if e is not entry]

    def lend(self) -> npt.NDArray[np.uint8] | None:
        """Return the memory that is kept for the next conversation, once."""
        spare, self._spare = self._spare, None
        return spare

    def reuse(self, memory: npt.NDArray[np.uint8]) -> None:
        """Keep the memory of a conversation that is in the context again, if there is room."""
        self._spare = None
        if self.n_bytes + memory.nbytes <= self.limit_bytes:
            self._spare = memory

    def clear(self) -> None:
        """Forget everything."""
        self._entries, self._spare = [], None
