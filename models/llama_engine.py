"""Generation on llama.cpp: prefix reuse, chunked prefill, streaming, cancel.

Several conversations keep their KV side by side (`n_sequences`); a prompt continues the one that
shares the longest prefix with it, forking it where the rest is worth keeping. What is reused is
what was found to be equal, token by token, never more.

Prefill chunks end at multiples of `n_batch`, wherever they begin: a prompt that is computed again
after a cancel meets the same shapes and gives the same numbers.
"""

from __future__ import annotations

import codecs
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from docqa.errors import ContextOverflow, ModelRefused
from docqa.protocols import Piece, Prefill, Sampling, Stop
from models.kv_ram import ParkedKv
from models.llama_context import Floats, LlamaContext
from models.prefix import shared_prefix
from models.sampling import Sampler
from models.threads import IdleCores

NO_ROOM, ABORTED = 1, 2
FORK_WORTH_TOKENS = 64  # a remainder shorter than this is overwritten, not kept by forking


@dataclass(slots=True)
class Conversation:
    """A sequence of the KV memory: its cells hold exactly `tokens`, from position 0."""

    sequence: int
    tokens: array[int] = field(default_factory=lambda: array("i"))
    used_at: int = 0  # a counter, not a time


class Cancelled(Exception):
    """The caller wants no more; the cache is consistent."""


class LlamaEngine:
    """Token ids in, pieces out, over one `LlamaContext`. Used from one thread."""

    def __init__(self, context: LlamaContext) -> None:
        self.context = context
        self._conversations = [Conversation(i) for i in range(context.settings.n_sequences)]
        self._clock = 0
        self._parked = ParkedKv(context.settings.kv_ram_bytes)
        self._bytes_per_token = 0.0  # of a saved state; known once one was made
        settings = context.settings
        self._idle = IdleCores(settings.n_threads) if settings.adapts_threads else None
        self._n_threads = settings.n_threads
        self.last: Conversation | None = None  # the conversation of the last request

    @property
    def n_parked_bytes(self) -> int:
        """KV kept in RAM outside the context."""
        return self._parked.n_bytes

    @property
    def n_cached(self) -> int:
        """Tokens whose KV is kept, over all conversations."""
        return self._n_cells()

    # -- generating -------------------------------------------------------------------------------

    def generate(
        self,
        tokens: Sequence[int],
        *,
        max_tokens: int,
        sampling: Sampling,
        stop: Sequence[str] = (),
        is_cancelled: Callable[[], bool] = lambda: False,
    ) -> Iterator[Prefill | Piece | Stop]:
        """Yield Prefill …, Piece …, then one Stop.

        Raises:
            ContextOverflow: prompt and `max_tokens` do not fit.
            ModelRefused: bad grammar, or weights that give no numbers.
        """
        self._check(tokens, max_tokens)
        began = time.perf_counter()
        conversation, n_reused = self._claim(tokens)
        with Sampler(self.context, sampling) as sampler:
            try:
                yield from self._prefill(conversation, tokens, n_reused, is_cancelled)
            except Cancelled:
                prefill_s = time.perf_counter() - began
                yield Stop("cancelled", len(tokens), n_reused, 0, prefill_s, 0.0)
                return
            prefilled = time.perf_counter()
            run = _Run(self, conversation, sampler, max_tokens, tuple(stop), is_cancelled)
            yield from run.pieces()
            yield Stop(
                run.reason,
                len(tokens),
                n_reused,
                run.n_generated,
                prefilled - began,
                time.perf_counter() - prefilled,
            )

    def next_token_probs(self, tokens: Sequence[int], candidates: Sequence[int]) -> list[float]:
        """Return the probability of each candidate token after `tokens`."""
        self._check(tokens, 0)
        conversation, n_reused = self._claim(tokens)
        for _ in self._prefill(conversation, tokens, n_reused, lambda: False):
            pass
        logits = self.context.logits().astype(np.float64)
        weights = np.exp(logits - logits.max())
        return [float(p) for p in weights[list(candidates)] / weights.sum()]

    def _check(self, tokens: Sequence[int], max_tokens: int) -> None:
        n_context = self.context.n_context
        if not tokens:
            raise ContextOverflow("an empty prompt")
        if len(tokens) + max_tokens > n_context:
            raise ContextOverflow(
                f"{len(tokens)} prompt tokens and {max_tokens} for the answer do not fit the "
                f"context of {n_context} tokens; raise context_length or lower evidence_tokens"
            )
        if min(tokens) < 0 or max(tokens) >= self.context.n_vocab:
            raise ContextOverflow("token ids of another vocabulary")

    # -- memory -----------------------------------------------------------------------------------

    def _claim(self, tokens: Sequence[int]) -> tuple[Conversation, int]:
        """Return the conversation to continue, cut to the prefix that it shares with `tokens`.

        At least the last token of the prompt is left to compute, for its logits.
        """
        prompt = array("i", tokens)
        found = {c.sequence: shared_prefix(c.tokens, prompt) for c in self._conversations}
        best = max(self._conversations, key=lambda c: (self._usable(c, found), -c.used_at))
        n_shared = min(self._usable(best, found), len(prompt) - 1)
        best = self._unparked(prompt, n_shared) or best
        n_shared = min(shared_prefix(best.tokens, prompt), len(prompt) - 1)
        if n_shared == 0:
            best = self._oldest()
        elif len(best.tokens) - n_shared >= FORK_WORTH_TOKENS and not self.context.is_recurrent:
            best = self._forked(best, n_shared)
        self._use(best)
        n_shared = self._cut(best, n_shared)
        self._make_room(best, len(prompt) - n_shared)
        return best, n_shared

    def _usable(self, conversation: Conversation, shared: dict[int, int]) -> int:
        """Return how many tokens a conversation can give: a recurrent state all or nothing."""
        n = shared[conversation.sequence]
        return 0 if self.context.is_recurrent and n < len(conversation.tokens) else n

    def _use(self, conversation: Conversation) -> None:
        self._clock += 1
        conversation.used_at = self._clock
        self.last = conversation

    def _oldest(self, but: Conversation | None = None) -> Conversation:
        """Return an empty conversation, or the least recently used one, parked in RAM."""
        others = [c for c in self._conversations if c is not but] or self._conversations
        oldest = min(others, key=lambda c: (len(c.tokens) > 0, c.used_at))
        self._park(oldest)
        return oldest

    def _park(self, conversation: Conversation) -> None:
        """Keep the KV of a conversation in RAM before it goes."""

        def state() -> npt.NDArray[np.uint8]:
            found = self.context.state(conversation.sequence)
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

    def restore(self, tokens: array[int], state: npt.NDArray[np.uint8]) -> Conversation | None:
        """Put saved KV back into the context; None where llama.cpp refuses it."""
        if len(tokens) >= self.context.n_context:
            return None
        target = self._oldest()
        self._cut(target, 0)
        self._make_room(target, len(tokens))
        if not self.context.set_state(target.sequence, state):
            return None
        target.tokens = tokens[:]
        self._use(target)
        return target

    def cached(self, tokens: array[int]) -> Conversation | None:
        """Return a conversation that begins with `tokens`."""
        for conversation in self._conversations:
            if shared_prefix(conversation.tokens, tokens) == len(tokens):
                return conversation
        return None

    def _forked(self, source: Conversation, n_shared: int) -> Conversation:
        """Return the least recently used other conversation, sharing the prefix of `source`."""
        if len(self._conversations) == 1:
            self._park(source)
            return source
        target = self._oldest(but=source)
        self.context.fork(source.sequence, target.sequence, n_shared)
        target.tokens = source.tokens[:n_shared]
        return target

    def _cut(self, conversation: Conversation, n_kept: int) -> int:
        """Forget all but the first `n_kept` tokens; return how many are left: `n_kept`, or 0."""
        if n_kept < len(conversation.tokens) and not self.context.remove(
            conversation.sequence, n_kept
        ):
            n_kept = 0  # a recurrent state has no past to go back to
            self.context.remove(conversation.sequence, -1)
        del conversation.tokens[n_kept:]
        return n_kept

    def _make_room(self, keep: Conversation, n_needed: int) -> None:
        """Drop old conversations until `n_needed` more cells are free."""
        by_age = sorted(self._conversations, key=lambda c: c.used_at)
        for conversation in by_age:
            if self._n_cells() + n_needed <= self.context.n_context:
                return
            if conversation is not keep and conversation.tokens:
                self._park(conversation)
                self._cut(conversation, 0)

    def _n_cells(self) -> int:
        """Return an upper bound of the cells in use: prefixes shared in pairs counted once."""
        total = 0
        seen: list[array[int]] = []
        for conversation in sorted(self._conversations, key=lambda c: -len(c.tokens)):
            shared = max((shared_prefix(conversation.tokens, other) for other in seen), default=0)
            total += len(conversation.tokens) - shared
            seen.append(conversation.tokens)
        return total

    # -- computing --------------------------------------------------------------------------------

    def _prefill(
        self,
        conversation: Conversation,
        tokens: Sequence[int],
        n_reused: int,
        is_cancelled: Callable[[], bool],
    ) -> Iterator[Prefill]:
        n_total, size = len(tokens), self.context.settings.n_batch
        yield Prefill(n_reused, n_total, n_reused)
        done = n_reused
        self.context.set_abort(is_cancelled)
        try:
            while done < n_total:
                if is_cancelled():
                    raise Cancelled
                end = min(n_total, (done // size + 1) * size)
                self._decode(conversation, tokens[done:end], logits=end == n_total)
                done = end
                yield Prefill(done, n_total, n_reused)
        finally:
            self.context.set_abort(None)

    def _decode(
        self, conversation: Conversation, tokens: Sequence[int], *, logits: bool = True
    ) -> None:
        """Append `tokens` to a conversation. On any failure its cache is as it was before."""
        self._adapt_threads()
        start = len(conversation.tokens)
        code = self.context.decode(tokens, start, conversation.sequence, logits=logits)
        if code == NO_ROOM:
            for other in self._conversations:
                if other is not conversation:
                    self._cut(other, 0)
            code = self.context.decode(tokens, start, conversation.sequence, logits=logits)
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

    def _adapt_threads(self) -> None:
        if self._idle is not None and self._idle.count() != self._n_threads:
            self._n_threads = self._idle.count()
            self.context.set_threads(self._n_threads)

    def logits_after(self, conversation: Conversation, token: int) -> Floats:
        """Append one token and return the logits that follow it."""
        self._decode(conversation, (token,))
        return self.context.logits()


class _Run:
    """The decoding of one answer, up to its end, its limit, a stop string or a cancel."""

    def __init__(
        self,
        engine: LlamaEngine,
        conversation: Conversation,
        sampler: Sampler,
        max_tokens: int,
        stop: tuple[str, ...],
        is_cancelled: Callable[[], bool],
    ) -> None:
        self.engine, self.conversation, self.sampler = engine, conversation, sampler
        self.max_tokens, self.is_cancelled = max_tokens, is_cancelled
        self.text = HeldText(stop)
        self.reason = "length"
        self.n_generated = 0

    def pieces(self) -> Iterator[Piece]:
        context = self.engine.context
        logits = context.logits()
        while self.n_generated < self.max_tokens:
            if self.is_cancelled():
                self.reason = "cancelled"
                break
            token = self.sampler.choose(logits)
            if context.is_end(token):
                self.reason = "end"
                break
            self.n_generated += 1
            yield Piece(self.text.add(context.piece(token)), token)
            if self.text.is_stopped:
                self.reason = "end"
                break
            if self.n_generated < self.max_tokens:
                logits = self.engine.logits_after(self.conversation, token)
        rest = self.text.rest()
        if rest:
            yield Piece(rest, -1)


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
