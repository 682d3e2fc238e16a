"""What KV computed here depends on: the identity that a saved file must share."""

from __future__ import annotations

import functools
import hashlib
import os
from pathlib import Path

import msgspec

from models.file_hash import sha256_of
from models.kv_file import KvIdentity
from models.model_file import ModelFile
from models.settings import LoadSettings

TORCH_LAYOUT = 2  # raised when `models.kv_state` or `kernels.kv_pages` changes


def identity_of(settings: LoadSettings, model: ModelFile, context_length: int) -> KvIdentity:
    """Return the identity of KV under these settings. Hashes the model once, then remembers."""
    hashes = [sha256_of(part) for part in model.parts]
    whole = hashes[0] if len(hashes) == 1 else _digest("".join(hashes).encode())
    rope = msgspec.structs.astuple(settings.rope)
    return KvIdentity(
        model_sha256=whole,
        architecture=model.architecture,
        tokenizer=_vocabulary_digest(model),
        template=_digest((model.chat_template or "").encode()),
        adapters=tuple((sha256_of(Path(a.path)), a.scale) for a in settings.adapters),
        rope=tuple(float(value) for value in rope),
        context_length=context_length,
        kv_type_k=settings.kv_type_k,
        kv_type_v=settings.kv_type_v,
        flash_attention=True,
        rotation=rotates(settings, model),
        unified=True,
        library=library_build() if settings.engine == "llama" else torch_build(),
    )


def rotates(settings: LoadSettings, model: ModelFile) -> bool:
    """Whether llama.cpp rotates K or V before it quantises them (llama-kv-cache.cpp)."""
    if settings.engine != "llama":
        return False
    if os.environ.get("LLAMA_ATTN_ROT_DISABLE", "0").strip() not in ("", "0"):
        return False
    pairs = ((settings.kv_type_k, model.head_dim_k), (settings.kv_type_v, model.head_dim_v))
    return any(kind in ("q8_0", "q4_0") and dim % 64 == 0 for kind, dim in pairs)


@functools.cache
def library_build() -> str:
    """Return version and digest of the llama.cpp library in use."""
    from models.llama_library import VERSION, llama

    return f"{VERSION}-{sha256_of(Path(llama._lib._name))[:16]}"


def torch_build() -> str:
    """Return what a cache of the torch engine depends on: its layout. The numbers are portable."""
    from kernels.kv_pages import PAGE
    from models.kv_cache import N_SINK

    return f"torch-kv{TORCH_LAYOUT}-page{PAGE}-sink{N_SINK}"


def _vocabulary_digest(model: ModelFile) -> str:
    vocabulary = model.vocabulary
    digest = hashlib.sha256(f"{vocabulary.model}\0{vocabulary.pre}\0".encode())
    digest.update(vocabulary.tokens.data)
    if vocabulary.merges is not None:
        digest.update(vocabulary.merges.data)
    digest.update(vocabulary.types.tobytes())
    return digest.hexdigest()


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
