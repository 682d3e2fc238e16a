"""Choosing the next token: greedy, temperature and top-p with a seed, and grammars (GBNF).

A grammar is applied to the one token that would be chosen; only where it forbids that one, to the
whole vocabulary. That is the same choice for greedy, and what llama.cpp's own tools do.
"""

from __future__ import annotations

import ctypes
from types import TracebackType

import numpy as np

from docqa.errors import ModelRefused
from docqa.protocols import Sampling
from models.llama_context import Floats, LlamaContext
from models.llama_library import llama


def grammar_of_schema(schema: str) -> str:
    """Return the GBNF grammar of JSON of a schema.

    Raises:
        ModelRefused: no JSON, or a schema that says what a grammar cannot.
    """
    from llama_cpp.llama_grammar import json_schema_to_gbnf

    try:
        grammar: str = json_schema_to_gbnf(schema)
    except Exception as error:  # the converter raises whatever a strange schema makes it
        raise ModelRefused(f"the JSON schema cannot be used: {error}") from error
    return grammar


class Sampler:
    """Draws tokens for one generation. A context manager: C memory is freed at the end."""

    def __init__(self, context: LlamaContext, sampling: Sampling) -> None:
        """Prepare a generation.

        Raises:
            ModelRefused: the grammar is not valid GBNF.
        """
        self._sampling = sampling
        self._random = np.random.Generator(np.random.PCG64(sampling.seed))
        self._grammar: object = None
        grammar = sampling.grammar
        if sampling.json_schema is not None:
            grammar = grammar_of_schema(sampling.json_schema)
        if grammar is not None:
            self._grammar = llama.llama_sampler_init_grammar(
                context.vocab, grammar.encode(), b"root"
            )
            if not self._grammar:
                raise ModelRefused(f"the grammar is not valid GBNF: {context.log.tail(1)}")

    def __enter__(self) -> Sampler:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._grammar:
            llama.llama_sampler_free(self._grammar)
            self._grammar = None

    @property
    def is_greedy(self) -> bool:
        """Whether the choice is the most probable token, with nothing to forbid it."""
        return self._sampling.temperature <= 0 and self._grammar is None

    def choose(self, logits: Floats) -> int:
        """Return the next token for logits (n_vocab,), and take note of it.

        Raises:
            ModelRefused: the logits are not numbers (broken weights).
        """
        token = self._draw(logits)
        if self._grammar:
            if not np.isfinite(self._allowed(logits, np.array([token], np.int32))[0]):
                every = np.arange(len(logits), dtype=np.int32)
                allowed = self._allowed(logits, every)
                if not np.isfinite(allowed).any():
                    raise ModelRefused("the grammar leaves no token to continue with")
                token = self._draw(allowed)
            llama.llama_sampler_accept(self._grammar, token)
        return token

    def _draw(self, logits: Floats) -> int:
        best = int(np.argmax(logits))
        if not np.isfinite(logits[best]):
            raise ModelRefused("the model computes no numbers (NaN): its weights are broken")
        if self._sampling.temperature <= 0:
            return best
        scaled = (logits.astype(np.float64) - float(logits[best])) / self._sampling.temperature
        return nucleus_draw(np.exp(scaled), self._sampling.top_p, float(self._random.random()))

    def _allowed(
        self, logits: Floats, tokens: np.ndarray[tuple[int], np.dtype[np.int32]]
    ) -> Floats:
        """Return the logits of `tokens`, -inf where the grammar forbids one."""
        n = len(tokens)
        data = (llama.llama_token_data * n)()
        table = np.frombuffer(data, dtype=[("id", "<i4"), ("logit", "<f4"), ("p", "<f4")])
        table["id"] = tokens
        table["logit"] = logits[tokens]
        array = llama.llama_token_data_array(
            data=ctypes.cast(data, llama.llama_token_data_p), size=n, selected=-1, sorted=False
        )
        llama.llama_sampler_apply(self._grammar, ctypes.byref(array))
        return np.array(table["logit"])


def nucleus_draw(
    weights: np.ndarray[tuple[int], np.dtype[np.float64]], top_p: float, u: float
) -> int:
    """Return the index drawn from `weights` (N,) cut to the most probable that sum to `top_p`.

    `u` in [0, 1) decides. At least one index is kept (Holtzman et al. 2019, arXiv:1904.09751).
    """
    if top_p >= 1.0:
        total = np.cumsum(weights)
        return int(min(np.searchsorted(total, u * total[-1], side="right"), len(weights) - 1))
    order = np.argsort(-weights, kind="stable")
    total = np.cumsum(weights[order])
    n_kept = int(np.searchsorted(total, top_p * total[-1], side="left")) + 1
    kept = total[:n_kept]
    return int(order[min(np.searchsorted(kept, u * kept[-1], side="right"), n_kept - 1)])
