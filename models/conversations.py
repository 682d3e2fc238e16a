"""Which KV is in the context: several conversations side by side, shared, cut, shifted, parked.

A prompt continues the conversation that shares the longest prefix with it, forking it where the
rest is worth keeping; forks share cells (unified KV). What is reused is what was found to be equal,
token by token, never more. A conversation that must leave goes to RAM (`models.kv_ram`).

**Shifting.** Where a caller allows it, a prompt that is a cached conversation with a piece cut out
of its middle (the oldest turns, dropped; Xiao et al. 2023, arXiv:2309.17453: keep the first tokens,
the sinks, and the recent window) is not computed again: the tail is moved down. Its K and V stay
what they were, computed while the dropped text could be seen: good for an endless chat, not exact,
and therefore counted apart. Never under YaRN: llama.cpp's shift multiplies every K by YaRN's
magnitude a second time (measured: logits off by 1 to 2 standard deviations). There the prompt is
computed from the cut on, which is exact.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from docqa.errors import ContextOverflow, ModelRefused
from models.kv_ram import ParkedKv
from models.llama_context import LlamaContext
from models.prefix import shared_prefix

NO_ROOM, ABORTED = 1, 2
FORK_WORTH_TOKENS = 64  # a remainder shorter than this is overwritten, not kept by forking
SHIFT_WORTH_TOKENS = 64
NEEDLE_TOKENS = 16  # of the tail, by which it is found behind a cut


@dataclass(slots=True)
class Conversation:
    """A sequence of the KV memory: its cells hold exactly `tokens`, from position 0."""

    sequence: int
    tokens: array[int] = field(default_factory=lambda: array("i"))
    used_at: int = 0  # a counter, not a time
    n_sinks: int = 0  # tokens before the first cut, where any was made; what follows is inexact
    is_compressed: bool = False  # KV was evicted: it is continued as a whole or not at all


@dataclass(frozen=True, slots=True)
class Claim:
    """A conversation to continue and how much of the prompt it holds already."""

    conversation: Conversation
    n_reused: int
    n_shifted: int = 0  # of them: moved down over a cut


class Cancelled(Exception):
    """The caller wants no more; the cache is consistent."""


class Conversations:
    """All conversations in one context. Keeps `tokens` and the cells in step, whatever happens."""

    def __init__(self, context: LlamaContext) -> None:
        self.context = context
        self._all = [Conversation(i) for i in range(context.settings.n_sequences)]
        self._clock = 0
        self._parked = ParkedKv(context.settings.kv_ram_bytes)
        self._bytes_per_token = 0.0  # of a saved state; known once one was made
        self.last: Conversation | None = None  # the one used last

    @property
    def n_parked_bytes(self) -> int:
        """KV kept in RAM outside the context."""
        return self._parked.n_bytes

    @property
    def n_cells(self) -> int:
        """Cells in use: an upper bound, prefixes that are shared in pairs counted once."""
        total = 0
        seen: list[array[int]] = []
        for conversation in sorted(self._all, key=lambda c: -len(c.tokens)):
            shared = max((shared_prefix(conversation.tokens, other) for other in seen), default=0)
            total += len(conversation.tokens) - shared
            seen.append(conversation.tokens)
        return total

    # -- claiming ---------------------------------------------------------------------------------

    def claim(self, tokens: Sequence[int], *, may_shift: bool = False) -> Claim:
        """Return the conversation to continue, cut to what it shares with the prompt `tokens`.

        At least the last token of the prompt is left to compute, for its logits.
        """
        prompt = array("i", tokens)
        best = max(self._all, key=lambda c: (self._usable(c, prompt), -c.used_at))
        n_shared = self._usable(best, prompt)
        best = self._unparked(prompt, n_shared) or best
        n_shifted = self._shift(best, prompt) if may_shift else 0
        n_shared = min(self._usable(best, prompt), len(prompt) - 1)
        if n_shared == 0:
            best = self._oldest()
        elif len(best.tokens) - n_shared >= FORK_WORTH_TOKENS and not self.context.is_recurrent:
            best = self._forked(best, n_shared)
        self._use(best)
        n_shared = self.cut(best, n_shared)
        self._make_room(best, len(prompt) - n_shared)
        return Claim(best, n_shared, min(n_shifted, n_shared))

    def _usable(self, conversation: Conversation, prompt: array[int]) -> int:
        """Return how many tokens a conversation can give: some all or nothing."""
        n = shared_prefix(conversation.tokens, prompt)
        is_whole = self.context.is_recurrent or conversation.is_compressed
        return 0 if is_whole and n < len(conversation.tokens) else n

    def _use(self, conversation: Conversation) -> None:
        self._clock += 1
        conversation.used_at = self._clock
        self.last = conversation

    def _oldest(self, but: Conversation | None = None) -> Conversation:
        """Return an empty conversation, or the least recently used one, parked in RAM."""
        others = [c for c in self._all if c is not but] or self._all
        oldest = min(others, key=lambda c: (len(c.tokens) > 0, c.used_at))
        self._park(oldest)
        return oldest

    def _forked(self, source: Conversation, n_shared: int) -> Conversation:
        """Return the least recently used other conversation, sharing the prefix of `source`."""
        if len(self._all) == 1:
            self._park(source)
            return source
        target = self._oldest(but=source)
        self.context.fork(source.sequence, target.sequence, n_shared)
        target.tokens = source.tokens[:n_shared]
        target.n_sinks = source.n_sinks if source.n_sinks < n_shared else 0
        return target

    def cut(self, conversation: Conversation, n_kept: int) -> int:
        """Forget all but the first `n_kept` tokens; return how many are left: `n_kept`, or 0."""
        if n_kept < len(conversation.tokens) and not self.context.remove(
            conversation.sequence, n_kept
        ):
            n_kept = 0  # a recurrent state has no past to go back to
            self.context.remove(conversation.sequence, -1)
        del conversation.tokens[n_kept:]
        if n_kept <= conversation.n_sinks:
            conversation.n_sinks = 0
        if n_kept == 0:
            conversation.is_compressed = False
        return n_kept

    def _make_room(self, keep: Conversation, n_needed: int) -> None:
        """Drop old conversations until `n_needed` more cells are free."""
        for conversation in sorted(self._all, key=lambda c: c.used_at):
            if self.n_cells + n_needed <= self.context.n_context:
                return
            if conversation is not keep and conversation.tokens:
                self._park(conversation)
                self.cut(conversation, 0)

    # -- dropping from the middle -----------------------------------------------------------------

    def _shift(self, conversation: Conversation, prompt: array[int]) -> int:
        """Drop what the prompt leaves out of the middle of a conversation; return what was moved.

        Nothing is done, and 0 returned, unless the prompt goes on with what followed the piece;
        where it leaves that again (the last answer as it was written, not as it is kept), the rest
        goes, too.
        """
        kept = shared_prefix(conversation.tokens, prompt)
        if not self.context.can_shift or not 0 < kept < min(len(conversation.tokens), len(prompt)):
            return 0
        at, n_moved = _tail_after_cut(conversation.tokens, prompt, kept)
        if n_moved == 0:
            return 0
        for other in self._all:
            # Cells that another conversation shares would move for it, too.
            if (
                other is not conversation
                and shared_prefix(other.tokens, conversation.tokens) > kept
            ):
                self.cut(other, kept)
        if self.cut(conversation, at + n_moved) == 0:
            return 0
        if not self.context.remove(conversation.sequence, kept, at):
            return 0
        self.context.shift(conversation.sequence, at, -1, kept - at)
        del conversation.tokens[kept:at]
        conversation.n_sinks = min(kept, conversation.n_sinks or kept)
        return n_moved

    # -- tiers ------------------------------------------------------------------------------------

    def _park(self, conversation: Conversation) -> None:
        """Keep the KV of a conversation in RAM before it goes. Not what is inexact."""
        if conversation.n_sinks or conversation.is_compressed:
            return

        def state() -> npt.NDArray[np.uint8]:
            spare = self._parked.lend()
            found = self.context.state(conversation.sequence, is_kept=True, spare=spare)
            self._bytes_per_token = found.nbytes / len(conversation.tokens)
            return found

        self._parked.park(conversation.tokens, self._bytes_per_token, state)

    def _unparked(self, prompt: array[int], n_shared: int) -> Conversation | None:
        """Bring back a conversation from RAM that shares clearly more with the prompt."""
        entry, n = self._parked.best(prompt, whole=self.context.is_recurrent)
        if entry is None or n < n_shared + FORK_WORTH_TOKENS:
            return None
        self._parked.take(entry)
        return self.restore(entry.tokens, entry.state)

    def restore(
        self, tokens: array[int], state: npt.NDArray[np.uint8], n_sinks: int = 0
    ) -> Conversation | None:
        """Put saved KV back into the context; None where llama.cpp refuses it."""
        if len(tokens) >= self.context.n_context:
            return None
        target = self._oldest()
        self.cut(target, 0)
        self._make_room(target, len(tokens))
        if not self.context.set_state(target.sequence, state):
            return None
        self._parked.reuse(state)
        target.tokens = tokens[:]
        target.n_sinks = n_sinks
        self._use(target)
        return target

    def cached(self, tokens: array[int]) -> Conversation | None:
        """Return a conversation that begins with `tokens`."""
        for conversation in self._all:
            if shared_prefix(conversation.tokens, tokens) == len(tokens):
                return conversation
        return None

    def forget(self) -> int:
        """Drop every conversation, in the context and in RAM; return how many tokens that were."""
        n_tokens = self.n_cells
        for conversation in self._all:
            self.cut(conversation, 0)
        self._parked.clear()
        self.last = None
        return n_tokens

    # -- compressing ------------------------------------------------------------------------------

    def compress(self, conversation: Conversation) -> bool:
        """Evict what the settings say from a prompt that was just read, once.

        Returns whether it was done for this question alone: the conversation must then be dropped
        after the answer, because what another question needs is gone.
        """
        if conversation.is_compressed:
            return False
        done = self.context.compress(conversation.sequence, conversation.tokens)
        conversation.is_compressed = done != "nothing"
        return done == "for this question"

    # -- computing --------------------------------------------------------------------------------

    def append(
        self,
        conversation: Conversation,
        tokens: Sequence[int],
        *,
        logits: bool = True,
        all_logits: bool = False,
    ) -> None:
        """Compute `tokens` at the end of a conversation. On any failure it is as it was before.

        Raises:
            Cancelled: the abort check said so.
            ContextOverflow: no room, even with every other conversation gone.
            ModelRefused: llama.cpp failed.
        """
        start = len(conversation.tokens)
        code = self._decode(conversation, tokens, start, logits, all_logits)
        if code == NO_ROOM:
            for other in self._all:
                if other is not conversation:
                    self.cut(other, 0)
            code = self._decode(conversation, tokens, start, logits, all_logits)
        if code == 0:
            conversation.tokens.extend(tokens)
            return
        if not self.context.remove(conversation.sequence, start):
            self.context.remove(conversation.sequence, -1)
            del conversation.tokens[:]
        if code == ABORTED:
            raise Cancelled
        if code == NO_ROOM:
            raise ContextOverflow("the KV memory has no room for the prompt")
        raise ModelRefused(f"llama.cpp failed to compute ({code}): {self.context.log.tail()}")

    def _decode(
        self,
        conversation: Conversation,
        tokens: Sequence[int],
        start: int,
        logits: bool,
        all_logits: bool,
    ) -> int:
        return self.context.decode(
            tokens, start, conversation.sequence, logits=logits, all_logits=all_logits
        )


def _tail_after_cut(cached: array[int], prompt: array[int], kept: int) -> tuple[int, int]:
    """Return where in `cached` the prompt goes on after its first `kept` tokens, and for how long.

    (0, 0) where it does not, or for too short to be worth it.
    """
    wanted = np.frombuffer(prompt, np.int32)[kept:]
    tail = np.frombuffer(cached, np.int32)
    if min(len(wanted), len(tail) - kept - 1) < SHIFT_WORTH_TOKENS:
        return 0, 0
    best = (0, 0)
    windows = np.lib.stride_tricks.sliding_window_view(tail[kept + 1 :], NEEDLE_TOKENS)
    for found in np.flatnonzero((windows == wanted[:NEEDLE_TOKENS]).all(axis=1)).tolist():
        at = kept + 1 + int(found)
        n = min(len(tail) - at, len(wanted))
        differs = tail[at : at + n] != wanted[:n]
        n_same = int(differs.argmax()) if differs.any() else n
        if n_same >= SHIFT_WORTH_TOKENS and n_same > best[1]:
            best = (at, n_same)
    return best
