"""One model and one context of llama.cpp, over the low-level C API of llama-cpp-python 0.3.36.

The thinnest layer that is safe: every parameter explicit, every return code looked at, buffers
owned here, llama.cpp's log kept instead of printed. What to decode, and when, is decided in
`models.llama_engine`. Runs in the engine's process only: a broken model may abort it.
"""

from __future__ import annotations

import collections
import ctypes
import os
from collections.abc import Callable, Sequence
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt

from docqa.errors import ModelRefused
from models.buffers import byte_buffer, lock
from models.llama_library import llama
from models.settings import KV_TYPES, AdapterSettings, LoadSettings

LOG_LINES = 200
N_OUTPUTS = 16  # logits of one decode: of the last token, or of a speculated run
LOG_INFO = 2  # ggml_log_level: none, debug, info, warn, error, continued
_DEBUG, _CONTINUED = 1, 5

Floats = npt.NDArray[np.float32]
Compressed = Literal["nothing", "for all", "for this question"]


class LogTail:
    """The last lines that llama.cpp logged. Also written to stderr, which outlives an abort."""

    # llama.cpp calls the last callback that was set, long after its owner is gone, and holds no
    # reference to it: without this one the next log line is a jump to freed memory.
    _set_in_c: ClassVar[object] = None

    def __init__(self) -> None:
        self.lines: collections.deque[str] = collections.deque(maxlen=LOG_LINES)
        self._n_bytes = 0
        callback = llama.llama_log_callback(self._take)
        llama.llama_log_set(callback, ctypes.c_void_p())
        LogTail._set_in_c = callback

    def _take(self, level: int, text: bytes, _user_data: object) -> None:
        if level in (_DEBUG, _CONTINUED) or not text.strip():
            return
        self.lines.append(text.decode("utf-8", "replace").rstrip())
        self._n_bytes += len(text)
        if self._n_bytes < 1_000_000:
            os.write(2, text if text.endswith(b"\n") else text + b"\n")

    def tail(self, n: int = 3) -> str:
        """Return the last `n` lines that tell of a problem, or the last ones at all."""
        words = ("error", "fail", "assert", "invalid", "unable", "missing", "not ")
        telling = [line for line in self.lines if any(word in line.lower() for word in words)]
        return " | ".join((telling or list(self.lines))[-n:])


class LlamaContext:
    """A loaded model with its adapters and KV memory. Not thread-safe; one decode at a time."""

    goes_back_exactly = True  # what is left after `remove` is as it was when only that was computed

    def __init__(
        self,
        settings: LoadSettings,
        log: LogTail,
        *,
        n_outputs: int = N_OUTPUTS,
        beside: LlamaContext | None = None,
    ) -> None:
        """Load the model, or make another context `beside` one that has loaded it.

        `n_outputs`: tokens of one decode whose logits may be asked for.

        Raises:
            ModelRefused: llama.cpp could not load it, with its own words.
        """
        self.settings, self.log, self._n_outputs = settings, log, n_outputs
        self._owns_model = beside is None
        self._model: object = beside._model if beside else None
        self._context: object = None
        self._adapters: list[object] = beside._adapters if beside else []
        llama.llama_backend_init()
        if beside is None:
            self._load_model()
        self._load_context()
        self.vocab = llama.llama_model_get_vocab(self._model)
        self.memory = llama.llama_get_memory(self._context)
        self.n_vocab: int = llama.llama_vocab_n_tokens(self.vocab)
        self.n_context: int = min(llama.llama_n_ctx_seq(self._context), settings.context_length)
        self.is_recurrent: bool = llama.llama_model_is_recurrent(
            self._model
        ) or llama.llama_model_is_hybrid(self._model)
        self.description = self._describe()
        scaling = self._meta(f"{self._meta('general.architecture')}.rope.scaling.type")
        self._is_yarn = settings.rope.scaling == llama.LLAMA_ROPE_SCALING_TYPE_YARN or (
            settings.rope.scaling < 0 and scaling == "yarn"
        )
        self._pieces: dict[int, bytes] = {}
        self._batch = _Batch(settings.n_batch)
        self._abort_callback: object = None

    # -- loading ----------------------------------------------------------------------------------

    def _load_model(self) -> None:
        settings = self.settings
        params = llama.llama_model_default_params()
        params.n_gpu_layers = settings.n_gpu_layers
        maps = llama.LLAMA_LOAD_MODE_MMAP
        params.load_mode = maps if settings.maps_file else llama.LLAMA_LOAD_MODE_NONE
        params.check_tensors = False
        # SentencePiece puts a blank before every text that it is given; the segments of a prompt
        # are given one by one, and where a blank belongs is decided in `tokenize`.
        overrides = (llama.llama_model_kv_override * 2)()
        overrides[0].tag = llama.LLAMA_KV_OVERRIDE_TYPE_BOOL
        overrides[0].key = b"tokenizer.ggml.add_space_prefix"
        overrides[0].value.val_bool = False
        params.kv_overrides = overrides
        self._model = llama.llama_model_load_from_file(settings.path.encode(), params)
        if not self._model:
            raise self._refused("llama.cpp cannot load the model")

    def _load_context(self) -> None:
        self._context = llama.llama_init_from_model(self._model, self._context_params())
        if not self._context:
            raise self._refused("llama.cpp cannot make a context of these settings")
        if self._owns_model:
            for adapter in self.settings.adapters:
                self._load_adapter(adapter)
        if self._adapters:
            self._apply_adapters()

    def _context_params(self) -> llama.llama_context_params:
        settings, rope = self.settings, self.settings.rope
        params = llama.llama_context_default_params()
        params.n_ctx = settings.context_length
        params.n_batch = settings.n_batch
        params.n_ubatch = settings.n_ubatch
        params.n_seq_max = settings.n_sequences
        # The default, n_batch, would set n_batch * n_vocab floats aside for logits nobody reads.
        params.n_outputs_max = self._n_outputs
        params.n_outputs_max_per_seq = self._n_outputs
        params.n_threads = settings.n_threads
        params.n_threads_batch = settings.n_threads
        params.flash_attn_type = llama.LLAMA_FLASH_ATTN_TYPE_ENABLED
        params.type_k = KV_TYPES[settings.kv_type_k]
        params.type_v = KV_TYPES[settings.kv_type_v]
        params.kv_unified = True  # sequences share cells, so that a fork costs nothing
        params.swa_full = True  # otherwise the tail of a sliding window cannot be removed
        params.offload_kqv = True
        params.op_offload = True
        params.no_perf = True
        params.rope_scaling_type = rope.scaling
        params.rope_freq_base = rope.freq_base
        params.rope_freq_scale = rope.freq_scale
        params.yarn_ext_factor = rope.ext_factor
        params.yarn_beta_fast = rope.beta_fast
        params.yarn_beta_slow = rope.beta_slow
        params.yarn_orig_ctx = rope.original_context
        return params

    def _load_adapter(self, adapter: AdapterSettings) -> None:
        loaded = llama.llama_adapter_lora_init(self._model, adapter.path.encode())
        if not loaded:
            raise self._refused(f"the adapter {adapter.path} does not fit the model")
        self._adapters.append(loaded)

    def _apply_adapters(self) -> None:
        n = len(self._adapters)
        pointers = (llama.llama_adapter_lora_p_ctypes * n)(*self._adapters)
        scales = (ctypes.c_float * n)(*(a.scale for a in self.settings.adapters))
        if llama.llama_set_adapters_lora(self._context, pointers, n, scales):
            raise self._refused("llama.cpp cannot apply the adapters")

    def _refused(self, problem: str) -> ModelRefused:
        tail = self.log.tail()
        self.close()
        return ModelRefused(f"{self.settings.path}: {problem}: {tail}")

    def _describe(self) -> str:
        buffer = ctypes.create_string_buffer(256)
        llama.llama_model_desc(self._model, buffer, 256)
        return buffer.value.decode("utf-8", "replace")

    def _meta(self, key: str) -> str:
        """Return a metadata value of the file as text; "" where there is none."""
        buffer = ctypes.create_string_buffer(256)
        n = llama.llama_model_meta_val_str(self._model, key.encode(), buffer, 256)
        return buffer.value.decode("utf-8", "replace") if n >= 0 else ""

    def close(self) -> None:
        """Free context and model."""
        if self._context:
            llama.llama_free(self._context)
            self._context = None
        if self._model and self._owns_model:  # frees its adapters, too
            llama.llama_model_free(self._model)
        self._model = None

    # -- vocabulary -------------------------------------------------------------------------------

    def tokenize(self, text: bytes, parse_special: bool) -> list[int]:
        """Return llama.cpp's ids of `text`, nothing put before or after."""
        n = len(text) + 8
        buffer = (llama.llama_token * n)()
        found = llama.llama_tokenize(self.vocab, text, len(text), buffer, n, False, parse_special)
        if found < 0:  # more tokens than bytes: user-defined tokens that expand
            n = -found
            buffer = (llama.llama_token * n)()
            found = llama.llama_tokenize(
                self.vocab, text, len(text), buffer, n, False, parse_special
            )
        return list(buffer[: max(found, 0)])

    def piece(self, token: int) -> bytes:
        """Return the bytes of a token; nothing of a control token."""
        known = self._pieces.get(token)
        if known is None:
            buffer = ctypes.create_string_buffer(64)
            n = llama.llama_token_to_piece(self.vocab, token, buffer, 64, 0, False)
            if n < 0:
                buffer = ctypes.create_string_buffer(-n)
                n = llama.llama_token_to_piece(self.vocab, token, buffer, -n, 0, False)
            known = self._pieces[token] = buffer.raw[: max(n, 0)]
        return known

    def is_end(self, token: int) -> bool:
        """Whether a token ends the generation."""
        return bool(llama.llama_vocab_is_eog(self.vocab, token))

    def token_text(self, token: int) -> str:
        """Return a token as the vocabulary writes it; "" where there is none (-1)."""
        if not 0 <= token < self.n_vocab:
            return ""
        raw: bytes | None = llama.llama_vocab_get_text(self.vocab, token)
        return (raw or b"").decode("utf-8", "replace")

    @property
    def bos(self) -> int | None:
        """The token that a text begins with, where the model wants one."""
        if not llama.llama_vocab_get_add_bos(self.vocab):
            return None
        token: int = llama.llama_vocab_bos(self.vocab)
        return token if token >= 0 else None

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
        """Compute `tokens` at positions `start`… of a sequence; at most `n_batch` of them.

        Returns llama_decode's code: 0 done, 1 no room, 2 aborted, negative: failed.
        """
        batch = self._batch.fill(tokens, start, sequence, all_logits, logits)
        return int(llama.llama_decode(self._context, batch))

    def all_logits(self, n: int) -> Floats:
        """Return a copy of the logits (n, n_vocab) of a decode with `all_logits`."""
        return np.stack([self.logits(i) for i in range(n)])

    def logits(self, index: int = -1) -> Floats:
        """Return a view of the logits (n_vocab,) of an output of the last decode."""
        pointer = llama.llama_get_logits_ith(self._context, index)
        return np.ctypeslib.as_array(pointer, (self.n_vocab,))

    @property
    def handle(self) -> object:
        """The llama_context pointer, for samplers and state."""
        return self._context

    def set_threads(self, n: int) -> None:
        """Compute with `n` threads from now on."""
        llama.llama_set_n_threads(self._context, n, n)

    def set_abort(self, check: Callable[[], bool] | None) -> None:
        """Have a running decode ask `check` whether to stop. Heeded by the CPU backend only."""
        if check is None:
            self._abort_callback = llama.ggml_abort_callback()  # NULL
        else:
            self._abort_callback = llama.ggml_abort_callback(lambda _: check())
        llama.llama_set_abort_callback(self._context, self._abort_callback, ctypes.c_void_p())

    # -- memory -----------------------------------------------------------------------------------

    def remove(self, sequence: int, start: int, end: int = -1) -> bool:
        """Forget positions [start, end) of a sequence; False where the model cannot."""
        return bool(llama.llama_memory_seq_rm(self.memory, sequence, start, end))

    def fork(self, source: int, target: int, end: int) -> None:
        """Let `target` share the first `end` positions of `source`."""
        llama.llama_memory_seq_rm(self.memory, target, -1, -1)
        llama.llama_memory_seq_cp(self.memory, source, target, 0, end)

    @property
    def can_shift(self) -> bool:
        """Whether positions may be moved; not under YaRN, where llama.cpp's shift is wrong."""
        if self.is_recurrent or self._is_yarn:
            return False
        return bool(llama.llama_memory_can_shift(self.memory))

    def shift(self, sequence: int, start: int, end: int, by: int) -> None:
        """Move positions [start, end) of a sequence by `by`; K is rotated at the next decode."""
        llama.llama_memory_seq_add(self.memory, sequence, start, end, by)

    def compress(self, sequence: int, tokens: Sequence[int]) -> Compressed:
        """Evict what the settings say: llama.cpp evicts nothing."""
        return "nothing"

    def last_position(self, sequence: int) -> int:
        """Return the last position that a sequence holds; -1: it is empty."""
        return int(llama.llama_memory_seq_pos_max(self.memory, sequence))

    # -- state ------------------------------------------------------------------------------------

    def state(
        self,
        sequence: int,
        *,
        is_kept: bool = False,
        spare: npt.NDArray[np.uint8] | None = None,
    ) -> npt.NDArray[np.uint8]:
        """Return the KV of a sequence as llama.cpp writes it; empty where it cannot.

        `is_kept`: it is to come back from this very memory. `spare`: memory to write it to, where
        that is large enough and not much too large.
        """
        size = int(llama.llama_state_seq_get_size(self._context, sequence))
        if spare is not None and size <= spare.nbytes <= 2 * size:
            buffer = spare
        else:
            buffer = byte_buffer(size, is_locked=is_kept and self.settings.n_gpu_layers != 0)
        pointer = buffer.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
        n = int(llama.llama_state_seq_get_data(self._context, pointer, size, sequence))
        return buffer[:n]

    def set_state(self, sequence: int, state: npt.NDArray[np.uint8]) -> bool:
        """Replace the KV of a sequence. `state` must be trusted: llama.cpp aborts on some bytes."""
        if self.settings.n_gpu_layers != 0:
            lock(state)
        llama.llama_memory_seq_rm(self.memory, sequence, -1, -1)
        pointer = state.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
        n = int(llama.llama_state_seq_set_data(self._context, pointer, state.nbytes, sequence))
        if n != state.nbytes:
            llama.llama_memory_seq_rm(self.memory, sequence, -1, -1)
        return n == state.nbytes


class _Batch:
    """Buffers of a llama_batch, made once. All tokens of a batch belong to one sequence."""

    def __init__(self, n: int) -> None:
        self.tokens = np.zeros(n, np.int32)
        self.positions = np.zeros(n, np.int32)
        self.outputs = np.zeros(n, np.int8)
        self._counts = np.ones(n, np.int32)
        self._sequence = ctypes.c_int32(0)
        one = ctypes.pointer(self._sequence)
        self._sequences = (ctypes.POINTER(ctypes.c_int32) * n)(*([one] * n))
        batch = llama.llama_batch()
        batch.token = self.tokens.ctypes.data_as(ctypes.POINTER(llama.llama_token))
        batch.embd = None
        batch.pos = self.positions.ctypes.data_as(ctypes.POINTER(llama.llama_pos))
        batch.n_seq_id = self._counts.ctypes.data_as(ctypes.POINTER(ctypes.c_int32))
        batch.seq_id = self._sequences
        batch.logits = self.outputs.ctypes.data_as(ctypes.POINTER(ctypes.c_int8))
        self._batch = batch

    def fill(
        self, tokens: Sequence[int], start: int, sequence: int, all_logits: bool, logits: bool
    ) -> llama.llama_batch:
        n = len(tokens)
        assert 0 < n <= len(self.tokens)
        self.tokens[:n] = tokens
        self.positions[:n] = np.arange(start, start + n, dtype=np.int32)
        self.outputs[:n] = all_logits
        self.outputs[n - 1] = logits or all_logits
        self._sequence.value = sequence
        self._batch.n_tokens = n
        return self._batch
