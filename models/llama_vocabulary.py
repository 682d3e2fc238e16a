"""A GGUF's vocabulary in llama.cpp, without its weights: ids, pieces, ends, grammars.

The torch engine computes; what a token is stays llama.cpp's word, so that both engines agree on
every vocabulary and a grammar works on both.
"""

from __future__ import annotations

from models.llama_context import LlamaContext, LogTail
from models.llama_library import llama
from models.settings import LoadSettings


class LlamaVocabulary(LlamaContext):
    """The vocabulary half of a `LlamaContext`. Nothing can be computed with it."""

    def __init__(self, settings: LoadSettings, log: LogTail) -> None:
        """Read the vocabulary of the file.

        Raises:
            ModelRefused: llama.cpp cannot read it.
        """
        self.settings, self.log = settings, log
        self._owns_model, self._model, self._context = True, None, None
        self._adapters: list[object] = []
        self._pieces: dict[int, bytes] = {}
        llama.llama_backend_init()
        params = llama.llama_model_default_params()
        params.vocab_only = True
        params.n_gpu_layers = 0
        overrides = (llama.llama_model_kv_override * 2)()
        overrides[0].tag = llama.LLAMA_KV_OVERRIDE_TYPE_BOOL
        overrides[0].key = b"tokenizer.ggml.add_space_prefix"
        overrides[0].value.val_bool = False  # as `LlamaContext` does, for the same reason
        params.kv_overrides = overrides
        self._model = llama.llama_model_load_from_file(settings.path.encode(), params)
        if not self._model:
            raise self._refused("llama.cpp cannot read the vocabulary")
        self.vocab = llama.llama_model_get_vocab(self._model)
        self.n_vocab: int = llama.llama_vocab_n_tokens(self.vocab)
