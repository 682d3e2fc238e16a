"""Guessing the next tokens by looking up what followed the last ones before.

Answers about documents copy from the prompt, so the tokens after an earlier occurrence of the last
few are often the next ones (prompt lookup: Saxena 2023, a form of speculative decoding, Leviathan
et al. 2022, arXiv:2211.17192). A guess is checked by the model itself in one decode.
"""

from __future__ import annotations

from array import array

MATCH_TOKENS = (4, 3)  # longest first: a longer match is more often right


class PromptLookup:
    """An index of where each run of tokens was last followed by something."""

    def __init__(self, tokens: array[int]) -> None:
        self.tokens = tokens[:]
        self._seen: dict[int, dict[tuple[int, ...], int]] = {n: {} for n in MATCH_TOKENS}
        for n in MATCH_TOKENS:
            seen = self._seen[n]
            for end in range(n, len(tokens)):
                seen[tuple(tokens[end - n : end])] = end

    def add(self, token: int) -> None:
        """Note the next token."""
        end = len(self.tokens)
        for n in MATCH_TOKENS:
            if end >= n:
                self._seen[n][tuple(self.tokens[end - n :])] = end
        self.tokens.append(token)

    def guess(self, n_most: int) -> list[int]:
        """Return up to `n_most` tokens that followed the last occurrence of the last tokens."""
        end = len(self.tokens)
        for n in MATCH_TOKENS:
            if end < n:
                continue
            at = self._seen[n].get(tuple(self.tokens[end - n :]))
            if at is not None and at < end:
                return list(self.tokens[at : min(end, at + n_most)])
        return []


class GuessMeter:
    """Whether guessing pays on this machine: seconds a token with it and without, lately.

    A GPU reads its weights once for all tokens of a decode, so guesses are nearly free; a CPU that
    computes a token as slowly as it can gains nothing from computing eight.
    """

    KEEPS = 0.8  # of the old average at each new measurement
    TRIES = 4  # before judging
    PROBE_EVERY = 96  # tokens without guessing before it is tried again

    def __init__(self) -> None:
        self._alone_s = self._guessing_s = 0.0
        self._n_tries = self._n_since = 0

    def note(self, seconds: float, n_tokens: int, *, guessed: bool) -> None:
        """Note a decode that gave `n_tokens`."""
        each = seconds / n_tokens
        if guessed:
            self._guessing_s = self._mean(self._guessing_s, each)
            self._n_tries, self._n_since = self._n_tries + 1, 0
        else:
            self._alone_s = self._mean(self._alone_s, each)
            self._n_since += 1

    def _mean(self, old: float, new: float) -> float:
        return new if old == 0.0 else self.KEEPS * old + (1 - self.KEEPS) * new

    @property
    def pays(self) -> bool:
        """Whether to guess now."""
        if self._n_tries < self.TRIES or self._alone_s == 0.0:
            return True
        return self._guessing_s < self._alone_s or self._n_since >= self.PROBE_EVERY
