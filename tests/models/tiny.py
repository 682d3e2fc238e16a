"""Tiny random models in GGUF: the shapes, vocabularies and templates of real families, in 1 MB."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.models import tiny_recurrent

N_EMBD, HEAD_DIM, N_FF, N_CONTEXT = 128, 64, 192, 512

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}{{ '<|start_header_id|>' + m.role + "
    "'<|end_header_id|>\n\n' + m.content | trim + '<|eot_id|>' }}{% endfor %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate user/assistant') }}{% endif %}"
    "{% if m.role == 'user' %}{{ '[INST] ' + m.content + ' [/INST]' }}"
    "{% else %}{{ m.content + eos_token }}{% endif %}{% endfor %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}{% for m in messages %}"
    "{{ '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) + '\n' + "
    "m.content | trim + '<end_of_turn>\n' }}{% endfor %}{{ '<start_of_turn>model\n' }}"
)


@dataclass(frozen=True)
class Family:
    """What of a family matters to the engine."""

    architecture: str
    vocabulary: str  # a `tokenizer.ggml.pre`, or "spm"
    template: str
    specials: tuple[str, ...]
    bos: str | None = None
    eos: str = ""
    is_hybrid: bool = False
    sliding_window: int = 0
    is_mla: bool = False
    n_layers: int = 2
    recurrence: str = ""  # of tests.models.tiny_recurrent


FAMILIES: dict[str, Family] = {
    "llama3": Family(
        "llama",
        "llama-bpe",
        LLAMA3,
        tuple(
            [
                "<|begin_of_text|>",
                "<|end_of_text|>",
                "<|start_header_id|>",
                "<|end_header_id|>",
                "<|eot_id|>",
            ]
        ),
        "<|begin_of_text|>",
        "<|eot_id|>",
    ),
    "qwen3": Family(
        "qwen3",
        "qwen2",
        CHATML,
        ("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
        None,
        "<|im_end|>",
    ),
    "mistral": Family("llama", "spm", MISTRAL, ("<unk>", "<s>", "</s>"), "<s>", "</s>"),
    "gemma2": Family(
        "gemma2",
        "spm",
        GEMMA,
        ("<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"),
        "<bos>",
        "<eos>",
        sliding_window=64,
    ),
    "gemma3": Family(
        "gemma3",
        "spm",
        GEMMA,
        ("<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"),
        "<bos>",
        "<eos>",
        sliding_window=64,
        n_layers=6,  # its pattern: five layers with a window, one without
    ),
    "qwen35": Family(
        "qwen35",
        "qwen2",
        CHATML,
        ("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
        None,
        "<|im_end|>",
        n_layers=4,
        recurrence="delta",
    ),
    "granite": Family(
        "granitehybrid",
        "llama-bpe",
        CHATML,
        ("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
        None,
        "<|im_end|>",
        recurrence="mamba",
    ),
    "lfm2": Family(
        "lfm2",
        "llama-bpe",
        CHATML,
        ("<|pad|>", "<|startoftext|>", "<|endoftext|>", "<|im_start|>", "<|im_end|>"),
        "<|startoftext|>",
        "<|im_end|>",
        is_hybrid=True,
    ),
    "deepseek2": Family(
        "deepseek2",
        "llama-bpe",
        CHATML,
        ("<|pad|>", "<|startoftext|>", "<|endoftext|>", "<|im_start|>", "<|im_end|>"),
        None,
        "<|im_end|>",
        is_mla=True,
    ),
}

NAMES = tuple(FAMILIES)  # tests add others for a moment

LORA, ROPE_DIM = 64, 32  # of MLA: the latent row of a token is LORA + ROPE_DIM wide

WORDS = tuple(
    re.findall(
        r"\w+", "the of and to in is pump valve seal oil line error page table what how many"
    )
)


def write_model(
    path: Path,
    name: str,
    *,
    seed: int = 0,
    tensor_type: type = np.float32,
    quantised: str | None = None,
) -> Path:
    """Write the tiny model of a family and return `path`; `quantised`: a type such as Q4_0."""
    import gguf

    family = FAMILIES[name]
    architecture = family.architecture
    writer = gguf.GGUFWriter(path, architecture)
    n_kv = 1
    writer.add_name(f"tiny {name}")
    writer.add_file_type(0)
    writer.add_block_count(family.n_layers)
    writer.add_context_length(N_CONTEXT)
    writer.add_embedding_length(N_EMBD)
    writer.add_feed_forward_length(N_FF)
    writer.add_head_count(2)
    has_gaps = family.is_hybrid or family.recurrence == "mamba"
    writer.add_head_count_kv([0, n_kv] if has_gaps else n_kv)
    if family.is_mla:
        _add_mla(writer)
    else:
        writer.add_key_length(HEAD_DIM)
        writer.add_value_length(HEAD_DIM)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10_000.0)
    writer.add_rope_dimension_count(ROPE_DIM if family.is_mla else HEAD_DIM)
    if family.sliding_window:
        writer.add_sliding_window(family.sliding_window)
    if family.is_hybrid:
        writer.add_shortconv_l_cache(3)
    if family.recurrence:
        tiny_recurrent.add_metadata(writer, family.recurrence)
    n_vocab = _add_vocabulary(writer, family)
    writer.add_vocab_size(n_vocab)
    _add_tensors(writer, family, n_vocab, np.random.default_rng(seed), tensor_type, quantised)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_mla(writer: object) -> None:
    writer.add_key_length(LORA + ROPE_DIM)
    writer.add_value_length(LORA)
    writer.add_key_length_mla(HEAD_DIM)
    writer.add_value_length_mla(HEAD_DIM)
    writer.add_q_lora_rank(LORA)
    writer.add_kv_lora_rank(LORA)
    writer.add_leading_dense_block_count(2)
    writer.add_expert_feed_forward_length(N_FF)
    writer.add_expert_shared_count(1)


def _add_vocabulary(writer: object, family: Family) -> int:
    tokens, scores, types, merges = (
        _spm_tokens(family) if family.vocabulary == "spm" else _bpe_tokens(family)
    )
    writer.add_tokenizer_model("llama" if family.vocabulary == "spm" else "gpt2")
    if family.vocabulary != "spm":
        writer.add_tokenizer_pre(family.vocabulary)
        writer.add_token_merges(merges)
    else:
        writer.add_token_scores(scores)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    if family.bos:
        writer.add_bos_token_id(tokens.index(family.bos))
    writer.add_add_bos_token(family.bos is not None)
    writer.add_eos_token_id(tokens.index(family.eos))
    if family.architecture.startswith("gemma"):
        writer.add_add_space_prefix(False)
    writer.add_chat_template(family.template)
    return len(tokens)


def _bpe_tokens(family: Family):
    from models.tokenizer import byte_of_char

    char_of = {byte: chr(char) for char, byte in byte_of_char().items() if byte < 256}
    tokens = [char_of[byte] for byte in range(256)]
    merges: list[str] = []
    for word in WORDS:
        left = char_of[0x20]
        for char in word:
            if left + char not in tokens:
                merges.append(f"{left} {char}")
                tokens.append(left + char)
            left += char
    types = [1] * len(tokens) + [3] * len(family.specials)
    tokens += family.specials
    return tokens, [], types, merges


def _spm_tokens(family: Family):
    tokens, types = list(family.specials), [3] * len(family.specials)
    types[tokens.index("<unk>")] = 2
    tokens += [f"<0x{byte:02X}>" for byte in range(256)]
    types += [6] * 256
    texts = ["▁"] + [chr(c) for c in range(0x21, 0x7F)]
    for word in WORDS:
        texts += ["▁" + word[:n] for n in range(1, len(word) + 1)]
        texts += [word[:n] for n in range(2, len(word) + 1)]
    texts = [t for t in dict.fromkeys(texts) if t not in tokens]
    tokens += texts
    types += [1] * len(texts)
    scores = [0.0] * (len(tokens) - len(texts)) + [-float(i) for i in range(len(texts))]
    return tokens, scores, types, []


def _add_tensors(
    writer: object,
    family: Family,
    n_vocab: int,
    rng: np.random.Generator,
    dtype: type,
    quantised: str | None,
) -> None:
    def add(name: str, *shape: int, scale: float = 0.25) -> None:
        values = (rng.standard_normal(shape) * scale).astype(dtype)
        if quantised is None:
            writer.add_tensor(name, values)
            return
        import gguf

        kind = gguf.GGMLQuantizationType[quantised]
        writer.add_tensor(name, gguf.quantize(values, kind), raw_dtype=kind)

    def ones(name: str, n: int) -> None:
        writer.add_tensor(name, np.ones(n, np.float32))

    add("token_embd.weight", n_vocab, N_EMBD, scale=0.3)
    is_gemma = family.architecture.startswith("gemma")
    if not (family.is_hybrid or is_gemma):
        add("output.weight", n_vocab, N_EMBD, scale=0.3)
    ones("token_embd_norm.weight" if family.is_hybrid else "output_norm.weight", N_EMBD)
    for i in range(family.n_layers):
        block = f"blk.{i}."
        ones(block + "attn_norm.weight", N_EMBD)
        if family.recurrence != "delta":
            ones(block + "ffn_norm.weight", N_EMBD)
        else:
            ones(block + "post_attention_norm.weight", N_EMBD)
        if tiny_recurrent.is_recurrent(family.recurrence, i):
            tiny_recurrent.add_layer(writer, family.recurrence, block, add, ones, N_EMBD)
        elif family.is_hybrid and i == 0:
            writer.add_tensor(
                block + "shortconv.conv.weight", rng.standard_normal((N_EMBD, 3)).astype("f4")
            )
            add(block + "shortconv.in_proj.weight", 3 * N_EMBD, N_EMBD)
            add(block + "shortconv.out_proj.weight", N_EMBD, N_EMBD)
        elif family.is_mla:
            add(block + "attn_q_a.weight", LORA, N_EMBD)
            ones(block + "attn_q_a_norm.weight", LORA)
            add(block + "attn_q_b.weight", 2 * HEAD_DIM, LORA)
            add(block + "attn_kv_a_mqa.weight", LORA + ROPE_DIM, N_EMBD)
            ones(block + "attn_kv_a_norm.weight", LORA)
            add(block + "attn_k_b.weight", 2, LORA, HEAD_DIM - ROPE_DIM)
            add(block + "attn_v_b.weight", 2, HEAD_DIM, LORA)
            add(block + "attn_output.weight", N_EMBD, 2 * HEAD_DIM)
        else:
            gate = 2 if family.recurrence == "delta" else 1  # a gate beside each query
            add(block + "attn_q.weight", 2 * HEAD_DIM * gate, N_EMBD)
            add(block + "attn_k.weight", HEAD_DIM, N_EMBD)
            add(block + "attn_v.weight", HEAD_DIM, N_EMBD)
            add(block + "attn_output.weight", N_EMBD, 2 * HEAD_DIM)
            if family.architecture in ("qwen3", "lfm2", "gemma3", "qwen35"):
                ones(block + "attn_q_norm.weight", HEAD_DIM)
                ones(block + "attn_k_norm.weight", HEAD_DIM)
        add(block + "ffn_gate.weight", N_FF, N_EMBD)
        add(block + "ffn_up.weight", N_FF, N_EMBD)
        add(block + "ffn_down.weight", N_EMBD, N_FF)
        if is_gemma:
            ones(block + "post_attention_norm.weight", N_EMBD)
            ones(block + "post_ffw_norm.weight", N_EMBD)
