"""What a KV type costs on the user's own text: next-token distributions against those of f16.

Small models suffer from 4-bit KV far more than large ones, and tables of perplexity are of other
models and other texts. So: the same tokens through the same weights, once for each KV type, and at
every position the Kullback-Leibler divergence from f16 and whether the best token is the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from models.kv_quality import KvComparison
from models.llama_context import LlamaContext
from models.settings import KV_BLOCKS

CHUNK_TOKENS = 64
SKIPPED_TOKENS = 16  # at the beginning there is hardly any context to be wrong about

Floats64 = npt.NDArray[np.float64]


def compare(
    loaded: LlamaContext, tokens: Sequence[int], kv_types: Sequence[str]
) -> list[KvComparison]:
    """Return a comparison for each KV type over `tokens`, with the weights that are loaded.

    Raises:
        ModelRefused: the tokens do not fit, or a type does not work for the model.
    """
    kinds = ["f16", *(kind for kind in kv_types if kind != "f16")]
    contexts: list[LlamaContext] = []
    try:
        contexts += (_context(loaded, kind, len(tokens)) for kind in kinds)
        kls: list[list[Floats64]] = [[] for _ in kinds[1:]]
        same: list[list[npt.NDArray[np.bool_]]] = [[] for _ in kinds[1:]]
        for start in range(0, len(tokens), CHUNK_TOKENS):
            chunk = tokens[start : start + CHUNK_TOKENS]
            expected = _log_probs(contexts[0], chunk, start)
            for i, context in enumerate(contexts[1:]):
                found = _log_probs(context, chunk, start)
                kls[i].append((np.exp(expected) * (expected - found)).sum(axis=1))
                same[i].append(expected.argmax(axis=1) == found.argmax(axis=1))
    finally:
        for context in contexts:
            context.close()
    return [
        _comparison(kind, np.concatenate(kls[i]), np.concatenate(same[i]))
        for i, kind in enumerate(kinds[1:])
    ]


def _context(loaded: LlamaContext, kind: str, n_tokens: int) -> LlamaContext:
    settings = msgspec.structs.replace(
        loaded.settings,
        context_length=n_tokens,
        n_batch=CHUNK_TOKENS,
        n_ubatch=CHUNK_TOKENS,
        kv_type_k=kind,
        kv_type_v=kind,
        n_sequences=1,
    )
    return LlamaContext(settings, loaded.log, n_outputs=CHUNK_TOKENS, beside=loaded)


def _log_probs(context: LlamaContext, chunk: Sequence[int], start: int) -> Floats64:
    code = context.decode(chunk, start, 0, all_logits=True)
    assert code == 0, f"llama_decode returned {code}"
    logits = context.all_logits(len(chunk)).astype(np.float64)
    logits -= logits.max(axis=1, keepdims=True)
    result: Floats64 = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return result


def _comparison(kind: str, kl: Floats64, same: npt.NDArray[np.bool_]) -> KvComparison:
    kl, same = kl[SKIPPED_TOKENS:], same[SKIPPED_TOKENS:]
    n_bytes, n_elements = KV_BLOCKS[kind]
    return KvComparison(
        kv_type=kind,
        n_tokens=len(kl),
        mean_kl=float(kl.mean()),
        p99_kl=float(np.quantile(kl, 0.99)),
        top1_agreement=float(same.mean()),
        bytes_ratio=n_bytes / n_elements / 2,
    )
