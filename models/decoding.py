"""The decoding of one answer: token by token, or several at once where a guess was right.

Guesses (`models.lookup`) are used for greedy answers only and are not to change them: a guessed
token counts when the model itself would have chosen it, by a margin that the difference between
computing one token and computing several does not reach. Within that margin the token is computed
alone, and so is first what was computed together before it: its KV differs, too.
"""

from __future__ import annotations

import codecs
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from docqa.protocols import Piece
from models.conversations import Conversation, Conversations
from models.llama_context import N_OUTPUTS, Floats
from models.lookup import GuessMeter, PromptLookup
from models.sampling import Sampler

# By how much the highest logit must lead where tokens were computed together. Other kernels compute
# them then than one alone, in another order and from activations rounded otherwise. On a CPU the
# logits differ by 1e-2 at most (held by a test). On an H200 a margin of 0.1, without computing
# again what came before, gave another text within 128 tokens.
MARGIN = 0.25
LEAST_GUESSES, MOST_GUESSES = 2, N_OUTPUTS - 1
PAUSE_TOKENS = 16  # without guessing, after guesses that were all wrong


class Run:
    """One answer, up to its end, its limit, a stop string or a cancel."""

    def __init__(
        self,
        conversations: Conversations,
        conversation: Conversation,
        sampler: Sampler,
        max_tokens: int,
        stop: Sequence[str],
        is_cancelled: Callable[[], bool],
        *,
        meter: GuessMeter | None = None,
    ) -> None:
        """Prepare an answer. With a `meter` tokens are guessed where that pays."""
        self._all, self._conversation, self._sampler = conversations, conversation, sampler
        self._context = conversations.context
        self._max_tokens, self._is_cancelled = max_tokens, is_cancelled
        self._text = HeldText(stop)
        self._lookup: PromptLookup | None = None
        self._meter = meter or GuessMeter()
        if meter is not None and sampler.is_greedy and not self._context.is_recurrent:
            self._lookup = PromptLookup(conversation.tokens)
        self._n_guesses, self._pause = 4, 0
        self._together_from: int | None = None  # where KV of tokens computed together begins
        self._owed_s = 0.0  # spent on computing them again: a cost of guessing
        self._begun_s = 0.0
        self._last_output = -1
        self.reason = "length"
        self.n_generated = self.n_guessed = self.n_accepted = 0

    def pieces(self) -> Iterator[Piece]:
        """Yield the answer; `reason` then says why it ended."""
        logits = self._context.logits()
        while self.n_generated < self._max_tokens:
            if self._is_cancelled():
                self.reason = "cancelled"
                break
            token = self._sampler.choose(logits)
            accepted = self._accepted_after(token) if self._may_go_on(token) else None
            for chosen in [token, *(accepted or [])]:
                if self._context.is_end(chosen):
                    self.reason = "end"
                    break
                self.n_generated += 1
                piece = Piece(self._text.add(self._context.piece(chosen)), chosen)
                if self._text.is_stopped:
                    self.reason = "end"
                is_last = self._text.is_stopped or self.n_generated == self._max_tokens
                if accepted is None and not is_last:
                    self._begin(token)
                yield piece
                if is_last:
                    break
            if self.reason == "end" or self.n_generated == self._max_tokens:
                break
            if accepted is None:
                logits = self._next_logits()
            else:
                logits = self._context.logits(self._last_output)
        rest = self._text.rest()
        if rest:
            yield Piece(rest, -1)

    def _begin(self, token: int) -> None:
        """Compute what follows a token. A GPU does so while the token's text goes to its reader."""
        began = time.perf_counter()
        self._all.append(self._conversation, (token,))
        self._begun_s = time.perf_counter() - began

    def _next_logits(self) -> Floats:
        """Return what was begun, once it is computed."""
        began = time.perf_counter()
        logits = self._context.logits()
        self._meter.note(self._begun_s + time.perf_counter() - began, 1, guessed=False)
        return self._settled(logits)

    def _may_go_on(self, token: int) -> bool:
        return not self._context.is_end(token) and self.n_generated + 1 < self._max_tokens

    def _accepted_after(self, token: int) -> list[int] | None:
        """Return the guessed tokens that the model confirms; None: nothing was computed.

        Afterwards the cache holds `token` and what is returned, and `_last_output` names the logits
        that follow them.
        """
        self._last_output = -1
        if self._lookup is None:
            return None
        self._lookup.add(token)
        if self._pause > 0 or not self._meter.pays:
            self._pause = max(self._pause - 1, 0)
            return None
        room = self._context.n_context - len(self._conversation.tokens) - 1
        n_most = min(self._n_guesses, self._max_tokens - self.n_generated - 1, room)
        guess = self._lookup.guess(n_most)
        if len(guess) < LEAST_GUESSES:
            return None
        began = time.perf_counter()
        before = len(self._conversation.tokens)
        self._all.append(self._conversation, (token, *guess), all_logits=True)
        accepted = 0
        while accepted < len(guess):
            best = _clear_best(self._context.logits(accepted))
            if best != guess[accepted]:
                break
            accepted += 1
        kept = self._keep(before, guess, accepted)
        seconds, self._owed_s = time.perf_counter() - began + self._owed_s, 0.0
        self._meter.note(seconds, 1 + len(kept), guessed=True)
        return kept

    def _keep(self, before: int, guess: list[int], accepted: int) -> list[int]:
        """Forget the guesses that were wrong; see that clear logits follow the ones kept."""
        assert self._lookup is not None
        self.n_guessed += len(guess)
        self.n_accepted += accepted
        if accepted == len(guess):
            self._n_guesses = min(2 * self._n_guesses, MOST_GUESSES)
        elif accepted == 0:
            self._n_guesses, self._pause = max(self._n_guesses // 2, LEAST_GUESSES), PAUSE_TOKENS
        self._last_output = accepted
        if self._together_from is None:
            self._together_from = before
        is_clear = _clear_best(self._context.logits(accepted)) is not None
        self._all.cut(self._conversation, before + 1 + accepted)
        if not is_clear:
            is_exact = self._context.goes_back_exactly
            self._compute_alone(self._together_from if is_exact else before + accepted)
            self._last_output = -1
        for token in guess[:accepted]:
            self._lookup.add(token)
        return guess[:accepted]

    def _settled(self, logits: Floats) -> Floats:
        """Where logits leave a doubt, see that nothing they come from was computed together."""
        if self._together_from is None or not self._context.goes_back_exactly:
            return logits
        if _clear_best(logits) is None:
            began = time.perf_counter()
            self._compute_alone(self._together_from)
            self._owed_s += time.perf_counter() - began
            logits = self._context.logits()
        return logits

    def _compute_alone(self, start: int) -> None:
        """Compute the tokens from `start` on again, one by one. A cancel ends it before its end."""
        again = self._conversation.tokens[start:]
        self._all.cut(self._conversation, start)
        self._together_from = None
        for token in again:
            if self._is_cancelled():
                break
            self._all.append(self._conversation, (token,))


def _clear_best(logits: Floats) -> int | None:
    """Return the token with the highest logit; None where another is within the margin."""
    best = int(np.argmax(logits))
    return best if np.count_nonzero(logits > logits[best] - MARGIN) == 1 else None


class HeldText:
    """Bytes to text that may be shown: whole characters, and nothing of a stop string."""

    def __init__(self, stop: Sequence[str]) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._stop = [s for s in stop if s]
        self._held = ""
        self.is_stopped = False

    def add(self, piece: bytes) -> str:
        """Return what can be shown now that `piece` has come."""
        self._held += self._decoder.decode(piece)
        ends = [at for at in (self._held.find(s) for s in self._stop) if at >= 0]
        if ends:
            self.is_stopped = True
            shown, self._held = self._held[: min(ends)], ""
            return shown
        n_held = max((_overlap(self._held, s) for s in self._stop), default=0)
        at = len(self._held) - n_held
        shown, self._held = self._held[:at], self._held[at:]
        return shown

    def rest(self) -> str:
        """Return what was held back for a stop string that did not come.

        The bytes of a character that stayed incomplete are dropped.
        """
        rest, self._held = self._held, ""
        return rest


def _overlap(text: str, stop: str) -> int:
    """Return the length of the longest end of `text` that begins `stop`."""
    for n in range(min(len(stop) - 1, len(text)), 0, -1):
        if text.endswith(stop[:n]):
            return n
    return 0
