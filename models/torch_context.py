"""A model and its conversations' KV in torch, behind the calls of `LlamaContext`.

Everything above – prefix reuse, forks, parking in RAM, guessing, sampling, stop strings, saved
sessions – is `models.llama_engine` and what it uses, unchanged; only the computing is another.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from docqa.errors import EngineOutOfMemory, ModelRefused
from kernels.kv_pages import PAGE, hadamard
from models.compression.evict import Observed, compress, refuse_eviction, sees_question
from models.conversations import ABORTED, NO_ROOM
from models.kv_cache import KvCache, KvFormat, NoRoom, PagePool
from models.kv_state import from_bytes, to_bytes
from models.llama_context import N_OUTPUTS, Compressed, Floats, LogTail
from models.llama_vocabulary import LlamaVocabulary
from models.model_file import ModelFile, read_model
from models.settings import LoadSettings
from models.torch_decoder import Aborted, Decoder
from models.torch_rope import rope_of
from models.torch_shape import Shape, refused, shape_of
from models.torch_weights import apply_adapter, load

if TYPE_CHECKING:
    from models.torch_step import GraphStep  # needs Triton

REPEAT_PROMPT = b"\nRepeat the text:\n"  # of KVzip
KV_BITS = {"f16": 16, "bf16": 16, "q8_0": 8, "q4_0": 4}


class TorchContext(LlamaVocabulary):
    """A loaded model on one device. Not thread-safe; one decode at a time."""

    is_recurrent = False
    can_shift = False  # K is kept rotated, partly in few bits
    goes_back_exactly = False  # numbers of reopened pages went through few bits

    def __init__(self, settings: LoadSettings, log: LogTail) -> None:
        """Load the model.

        Raises:
            ModelRefused: it cannot be run, or does not fit; the message names why.
        """
        model = read_model(Path(settings.path))
        self.shape = shape_of(model)
        self.device = device_of(settings)
        self.form = kv_format(settings)
        refuse_kv(model, self.shape, self.form)
        super().__init__(settings, log)
        self.n_context = settings.context_length
        self.set_threads(settings.n_threads)
        n_pages = pool_pages(self.shape, self.n_context, settings.n_sequences)
        pages = PagePool(1, self.shape.head_dim, self.form)
        weights = load(model, self.shape, self.device, n_pages * pages.page_bytes)
        rope = rope_of(model, self.shape, settings.rope, weights.rope_factors)
        for adapter in settings.adapters:
            apply_adapter(model, weights, Path(adapter.path), adapter.scale, self.device)
        rotation = hadamard(self.shape.head_dim, self.device) if self.form.rotation else None
        self.decoder = Decoder(
            self.shape, weights, rope, self.n_context, self.device, rotation=rotation
        )
        self.pool = PagePool(n_pages, self.shape.head_dim, self.form, self.device)
        self.caches = [KvCache(self.pool, self.shape) for _ in range(settings.n_sequences)]
        self.step = fused_step(self.decoder, self.caches[0], self.n_context)
        self.description = f"{model.name}, torch {torch.__version__} on {self.device}"
        if settings.eviction:
            refuse_eviction(self.shape, settings.eviction, settings.eviction_keep)
        self._observed: dict[int, Observed] = {}  # of sequences that were not compressed yet
        self._abort: Callable[[], bool] | None = None
        self._logits = torch.zeros(1, self.shape.n_vocab)

    # -- computing --------------------------------------------------------------------------------

    def decode(
        self,
        tokens: Sequence[int],
        start: int,
        sequence: int,
        *,
        all_logits: bool = False,
        logits: bool = True,
    ) -> int:
        """Compute `tokens` at positions `start`… of a sequence, as `LlamaContext.decode`.

        Returns 0 done, 1 no room, 2 aborted; in the last two nothing has changed.

        Raises:
            EngineOutOfMemory: the device has no memory for it; the sequence is as it was.
        """
        cache = self.caches[sequence]
        assert start == cache.n_tokens, "positions are those that the cache expects"
        ids = torch.tensor(list(tokens), dtype=torch.int64)
        observe = self._observer(sequence, start)
        try:
            if len(tokens) == 1 and self.step is not None and observe is None:
                self._logits = self.step.run(tokens[0], cache)[None]
                return 0
            chunk = self.decoder.compute(ids, cache, observe=observe, is_aborted=self._is_aborted)
            if all_logits:
                assert len(tokens) <= N_OUTPUTS
                self._logits = self.decoder.logits(chunk.hidden)
            elif logits:
                self._logits = self.decoder.logits(chunk.hidden[-1:])
            cache.append(chunk.k, chunk.v)
        except Aborted:
            return ABORTED
        except NoRoom:
            return NO_ROOM
        except torch.OutOfMemoryError as error:
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            raise EngineOutOfMemory(
                f"{self.device} has no memory left to compute {len(tokens)} tokens after "
                f"{start}; the conversation is kept: ask for a shorter context or answer"
            ) from error
        return 0

    def _observer(self, sequence: int, start: int) -> Observed | None:
        """Return what is to watch a prompt being read; None: nothing has to."""
        method = self.settings.eviction
        if method and start == 0:
            self._observed[sequence] = Observed(method)
        observed = self._observed.get(sequence)
        return observed if observed is not None and observed.is_needed else None

    def logits(self, index: int = -1) -> Floats:
        """Return the logits (n_vocab,) of an output of the last decode."""
        found: Floats = self._logits[index][: self.n_vocab].float().cpu().numpy()
        return found

    def set_abort(self, check: Callable[[], bool] | None) -> None:
        """Have a running decode ask `check`, between layers, whether to stop."""
        self._abort = check

    def _is_aborted(self) -> bool:
        return self._abort is not None and self._abort()

    def set_threads(self, n: int) -> None:
        """Compute with `n` threads from now on."""
        torch.set_num_threads(max(1, n))

    # -- memory -----------------------------------------------------------------------------------

    def remove(self, sequence: int, start: int, end: int = -1) -> bool:
        """Forget the tokens from `start` on; False where the cache cannot (after an eviction)."""
        if end >= 0 and end < self.caches[sequence].n_tokens:
            return False  # a piece out of the middle
        return self.caches[sequence].truncate(max(start, 0))

    def fork(self, source: int, target: int, end: int) -> None:
        """Let `target` share the first `end` tokens of `source`."""
        self._observed.pop(target, None)
        self.caches[target].clear()
        self.caches[target] = self.caches[source].fork(end)

    def compress(self, sequence: int, tokens: Sequence[int]) -> Compressed:
        """Evict what the settings say from a prompt that was read from its beginning."""
        observed, keep = self._observed.pop(sequence, None), self.settings.eviction_keep
        cache = self.caches[sequence]
        if observed is None or keep * cache.n_paged > cache.n_paged - PAGE:
            return "nothing"  # a fork, or too short to gain a page
        again = self.tokenize(REPEAT_PROMPT, False)
        compress(self.decoder, cache, tokens, observed, keep, repeat_prompt=again)
        return "for this question" if sees_question(observed.method) else "for all"

    def last_position(self, sequence: int) -> int:
        """Return the last position that a sequence holds; -1: it is empty."""
        return self.caches[sequence].next_position - 1

    def state(
        self,
        sequence: int,
        *,
        is_kept: bool = False,
        spare: npt.NDArray[np.uint8] | None = None,
    ) -> npt.NDArray[np.uint8]:
        """Return the KV of a sequence as bytes, always in memory of its own."""
        del is_kept, spare
        return to_bytes(self.caches[sequence])

    def set_state(self, sequence: int, state: npt.NDArray[np.uint8]) -> bool:
        """Replace the KV of a sequence; False where the bytes are not of such a cache."""
        self._observed.pop(sequence, None)
        self.caches[sequence].clear()
        try:
            self.caches[sequence] = from_bytes(state, self.pool, self.shape)
        except (ValueError, NoRoom):
            return False
        return True

    def close(self) -> None:
        """Free the vocabulary; the rest goes with the object."""
        super().close()


def fused_step(decoder: Decoder, cache: KvCache, context_length: int) -> GraphStep | None:
    """Return the fast step for single tokens; None where there is no GPU or it does not suit.

    Triton comes with torch for CUDA on Linux; on Windows it may be missing.
    """
    if decoder.device.type != "cuda" or importlib.util.find_spec("triton") is None:
        return None
    from models.torch_step import GraphStep

    try:
        return GraphStep(decoder, cache, context_length)
    except ModelRefused:
        return None


def device_of(settings: LoadSettings) -> torch.device:
    """Return where to compute: the GPU, if torch has one and it is not declined (0 layers).

    Raises:
        ModelRefused: only a part of the layers is wanted on the GPU.
    """
    if not torch.cuda.is_available() or settings.n_gpu_layers == 0:
        return torch.device("cpu")
    if settings.n_gpu_layers > 0:
        raise ModelRefused(
            "the torch engine runs on the GPU whole or not at all: set n_gpu_layers to -1 or 0, or "
            "use --engine llama"
        )
    return torch.device("cuda")


def kv_format(settings: LoadSettings) -> KvFormat:
    """Return the bits of KV for the names that both engines share."""
    return KvFormat(KV_BITS[settings.kv_type_k], KV_BITS[settings.kv_type_v])


def refuse_kv(model: ModelFile, shape: Shape, form: KvFormat) -> None:
    """Refuse heads that a page's layout cannot hold.

    Raises:
        ModelRefused: their number is named.
    """
    if shape.head_dim % 4 and form.v_bits < 16:
        raise refused(model, f"KV of {form.v_bits} bits needs heads in multiples of 4")


def pool_pages(shape: Shape, context_length: int, n_sequences: int) -> int:
    """Return the pages that hold a full context, and one more for each conversation's cut."""
    per_head = -(-context_length // PAGE) + n_sequences
    return per_head * shape.n_layers * shape.n_kv_heads
