"""Generation on llama.cpp: prefix reuse, chunked prefill, streaming, cancel.

Prefill chunks end at multiples of `n_batch`, wherever they begin: a prompt that is computed again
after a cancel meets the same shapes and gives the same numbers.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from docqa.errors import ContextOverflow
from docqa.protocols import Piece, Prefill, Sampling, Stop
from models.conversations import Cancelled, Claim, Conversation, Conversations
from models.decoding import Run
from models.llama_context import N_OUTPUTS, Floats, LlamaContext
from models.lookup import GuessMeter
from models.sampling import Sampler
from models.threads import IdleCores


class LlamaEngine:
    """Token ids in, pieces out, over one `LlamaContext`. Used from one thread."""

    def __init__(self, context: LlamaContext) -> None:
        self.context = context
        self._conversations = Conversations(context)
        settings = context.settings
        self._idle = IdleCores(settings.n_threads) if settings.adapts_threads else None
        self._n_threads = settings.n_threads
        self._meter = GuessMeter() if settings.guesses else None

    @property
    def last(self) -> Conversation | None:
        """The conversation of the last request."""
        return self._conversations.last

    @property
    def n_parked_bytes(self) -> int:
        """KV kept in RAM outside the context."""
        return self._conversations.n_parked_bytes

    @property
    def n_cached(self) -> int:
        """Tokens whose KV is kept, over all conversations."""
        return self._conversations.n_cells

    def cached(self, tokens: array[int]) -> Conversation | None:
        """Return a conversation that begins with `tokens`."""
        return self._conversations.cached(tokens)

    def restore(
        self, tokens: array[int], state: npt.NDArray[np.uint8], n_sinks: int = 0
    ) -> Conversation | None:
        """Put saved KV back into the context; None where llama.cpp refuses it."""
        return self._conversations.restore(tokens, state, n_sinks)

    def forget(self) -> int:
        """Drop all KV; return the tokens that the context held."""
        return self._conversations.forget()

    def generate(
        self,
        tokens: Sequence[int],
        *,
        max_tokens: int,
        sampling: Sampling,
        stop: Sequence[str] = (),
        is_cancelled: Callable[[], bool] = lambda: False,
        may_shift: bool = False,
    ) -> Iterator[Prefill | Piece | Stop]:
        """Yield Prefill …, Piece …, then one Stop.

        `max_tokens` 0 reads the prompt and writes nothing. `may_shift`: see `conversations`.

        Raises:
            ContextOverflow: prompt and `max_tokens` do not fit.
            ModelRefused: bad grammar, or weights that give no numbers.
        """
        self._check(tokens, max_tokens)
        began = time.perf_counter()
        claim = self._conversations.claim(tokens, may_shift=may_shift)
        with Sampler(self.context, sampling) as sampler:
            run, is_for_one = None, False
            try:
                yield from self._prefill(claim, tokens, is_cancelled)
                is_for_one = self._conversations.compress(claim.conversation)
                prefilled = time.perf_counter()
                run = Run(
                    self._conversations,
                    claim.conversation,
                    sampler,
                    max_tokens,
                    stop,
                    is_cancelled,
                    meter=self._meter,
                )
                for piece in run.pieces():
                    yield piece
                    self._adapt_threads()
            except Cancelled:
                prefilled = time.perf_counter()
            finally:
                if is_for_one:
                    self._conversations.cut(claim.conversation, 0)
            yield self._stop(run, claim, len(tokens), prefilled - began, prefilled)

    def _stop(
        self, run: Run | None, claim: Claim, n_prompt: int, prefill_s: float, prefilled: float
    ) -> Stop:
        return Stop(
            run.reason if run else "cancelled",
            n_prompt,
            claim.n_reused,
            run.n_generated if run else 0,
            prefill_s,
            time.perf_counter() - prefilled,
            n_shifted=claim.n_shifted,
            n_guessed=run.n_guessed if run else 0,
            n_accepted=run.n_accepted if run else 0,
            kv_bytes=self.context.settings.kv_bytes_per_token * len(claim.conversation.tokens),
        )

    def log_probs(
        self, tokens: Sequence[int], continuations: Sequence[Sequence[int]]
    ) -> list[float]:
        """Return log P of each continuation, one token or more, after `tokens`.

        Raises:
            ContextOverflow: the prompt and the longest continuation do not fit.
        """
        self._check(tokens, max(map(len, continuations), default=0))
        conversation, first = self._read(tokens)
        found = []
        for ids in continuations:
            if self._conversations.cut(conversation, len(tokens)) < len(tokens):
                conversation, first = self._read(tokens)  # a cache that cannot go back to there
            total = float(first[ids[0]])
            for at in range(0, len(ids) - 1, N_OUTPUTS):
                part = ids[at : min(at + N_OUTPUTS, len(ids) - 1)]
                self._conversations.append(conversation, part, all_logits=True)
                for i, token in enumerate(ids[at + 1 : at + 1 + len(part)]):
                    total += float(_log_shares(self.context.logits(i))[token])
            found.append(total)
        return found

    def _read(self, tokens: Sequence[int]) -> tuple[Conversation, npt.NDArray[np.float64]]:
        """Read a prompt as far as it is not cached; return log P of each token after it, too."""
        claim = self._conversations.claim(tokens)
        for _ in self._prefill(claim, tokens, lambda: False):
            pass
        return claim.conversation, _log_shares(self.context.logits())

    def _check(self, tokens: Sequence[int], max_tokens: int) -> None:
        n_context = self.context.n_context
        if not tokens:
            raise ContextOverflow("an empty prompt")
        if len(tokens) + max_tokens > n_context:
            raise ContextOverflow(
                f"{len(tokens)} prompt tokens and {max_tokens} for the answer do not fit the "
                f"context of {n_context} tokens; raise context_length or lower evidence_tokens"
            )
        ids = np.asarray(tokens)  # min and max of 100,000 in Python are 5 ms of a question
        if ids.min() < 0 or ids.max() >= self.context.n_vocab:
            raise ContextOverflow("token ids of another vocabulary")

    def _prefill(
        self, claim: Claim, tokens: Sequence[int], is_cancelled: Callable[[], bool]
    ) -> Iterator[Prefill]:
        n_total, size, done = len(tokens), self.context.settings.n_batch, claim.n_reused
        yield Prefill(done, n_total, claim.n_reused)
        self.context.set_abort(is_cancelled)
        try:
            while done < n_total:
                if is_cancelled():
                    raise Cancelled
                self._adapt_threads()
                end = min(n_total, (done // size + 1) * size)
                self._conversations.append(
                    claim.conversation, tokens[done:end], logits=end == n_total
                )
                done = end
                yield Prefill(done, n_total, claim.n_reused)
        finally:
            self.context.set_abort(None)

    def _adapt_threads(self) -> None:
        if self._idle is None:
            return
        n = self._idle.count()
        if n != self._n_threads:
            self._n_threads = n
            self.context.set_threads(n)


def _log_shares(logits: Floats) -> npt.NDArray[np.float64]:
    """Return log P of each token."""
    shifted: npt.NDArray[np.float64] = logits.astype(np.float64) - float(logits.max())
    shifted -= np.log(np.exp(shifted).sum())
    return shifted
