"""llama.cpp's greedy text of several prompts at a time, with the logits of every token."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import torch

from models.llama_context import LlamaContext, LogTail
from models.llama_library import llama
from models.settings import LoadSettings

OTHER_BATCH = 32  # tokens of a prompt at a time, where llama.cpp is put beside itself

Answer = tuple[list[int], torch.Tensor]
"""Tokens, and logits (answer, n_vocab)."""


class LlamaGreedy:
    """A model on a CPU, one thread, f16 KV."""

    def __init__(self, path: Path, n_prompt: int, n_answer: int, at_once: int = 1) -> None:
        """Load it; `at_once`: prompts that are answered side by side."""
        self.n_answer = n_answer
        self._settings = LoadSettings(
            path=str(path),
            context_length=at_once * (n_prompt + n_answer) + 64,
            kv_type_k="f16",
            kv_type_v="f16",
            n_sequences=at_once,
            n_gpu_layers=0,
        )
        self._log = LogTail()
        self.context = LlamaContext(self._settings, self._log, n_outputs=max(at_once, 16))
        self._batch = llama.llama_batch_init(at_once, 0, 1)
        self._other: LlamaContext | None = None

    def close(self) -> None:
        """Free llama.cpp's memory."""
        llama.llama_batch_free(self._batch)
        if self._other is not None:
            self._other.close()
        self.context.close()

    def windows(self, text: str, n: int, size: int) -> list[list[int]]:
        """Return `n` windows of the text, each of `size` tokens."""
        ids = self.context.tokenize(text[:1_000_000].encode(), False)
        step = (len(ids) - size) // n
        return [ids[i * step : i * step + size] for i in range(n)]

    def answers(self, prompts: list[list[int]]) -> list[Answer]:
        """Return the greedy answer to each prompt, all prompts of one length.

        A step computes a token of each, so that the weights are read once for all.
        """
        context, n = self.context, len(prompts)
        for sequence in range(self._settings.n_sequences):
            context.remove(sequence, 0)
        logits = np.empty((n, self.n_answer, context.n_vocab), np.float32)
        tokens = np.empty((n, self.n_answer), np.int64)
        for sequence, ids in enumerate(prompts):
            context.decode(ids, 0, sequence)
            logits[sequence, 0] = context.logits()
        for at in range(self.n_answer):
            if at:
                self._step(tokens[:, at - 1], len(prompts[0]) + at - 1)
                for sequence in range(n):
                    logits[sequence, at] = context.logits(sequence)
            tokens[:, at] = logits[:, at].argmax(-1)
        return [(tokens[i].tolist(), torch.from_numpy(logits[i])) for i in range(n)]

    def otherwise(self, prompt: list[int], answer: list[int]) -> torch.Tensor:
        """Return the logits of an answer whose prompt is read some tokens at a time."""
        if self._other is None:
            settings = msgspec.structs.replace(self._settings, n_ubatch=OTHER_BATCH)
            self._other = LlamaContext(settings, self._log, beside=self.context)
        context = self._other
        context.remove(0, 0)
        context.decode(prompt, 0, 0)
        found = [context.logits().copy()]
        for at, token in enumerate(answer[:-1], len(prompt)):
            context.decode([token], at, 0)
            found.append(context.logits().copy())
        return torch.from_numpy(np.stack(found))

    def _step(self, tokens: npt.NDArray[np.int64], position: int) -> None:
        """Compute one token of each sequence, all at one position."""
        batch = self._batch
        batch.n_tokens = len(tokens)
        for i, token in enumerate(tokens):
            batch.token[i], batch.pos[i], batch.logits[i] = int(token), position, 1
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, i
        if llama.llama_decode(self.context.handle, batch):
            raise RuntimeError("llama.cpp could not decode")
