"""Token ids without a model process: tiktoken built from a BPE GGUF's own vocabulary.

The ids equal llama.cpp's (tests hold it on odd Unicode, whitespace, digits, CJK, emoji and on every
token of the vocabulary; `models.host` compares a probe text at each load). Where they cannot –
SentencePiece and other vocabularies, pre-tokenizers whose pattern is not known here –
`build_tokenizer` returns None and the engine process counts.

Special tokens are parsed from control segments only. llama.cpp parses user-defined tokens
everywhere, `parse_special` or not; here those that look like markup (`<think>`, `<|channel|>`) stay
plain text in content, so that no document can speak for a role.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import tiktoken

from docqa.types import Segment
from models.bpe import merge_word
from models.model_file import Vocabulary

CONTROL, UNKNOWN, USER = 3, 2, 4

# A word of so many bytes is merged by `models.bpe`, whose time grows as n log n; tiktoken's grows
# with the square in places, and its regex engine gives up on a million blanks.
LONG_WORD_CHARS = 2_000
PROBE = (
    "Hello, world! 3.14 it's 2026-01-02T03:04:05Z\n\n\ttab  two   naïve e\u0301a हिन्दी 日本語 "
    "🙂 don't x=y;"
)

_CONTRACTION = r"'(?:[sS]|[tT]|[rR][eE]|[vV][eE]|[mM]|[lL][lL]|[dD])"
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
# llama.cpp cuts out single digits first and matches the rest between them, so a digit ends a run of
# blanks as the end of the text does.
_DIGITS = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?![^\s\p{N}])|\s+"
_TAIL = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_LLAMA3 = _CONTRACTION + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}" + _TAIL
_QWEN2 = _CONTRACTION + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}" + _TAIL
_QWEN35 = (
    _CONTRACTION + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)

# `tokenizer.ggml.pre` → (pattern, whether a whole word that is a token is taken before merging).
# From llm_tokenizer_bpe and llama_vocab::impl::load in llama.cpp.
PRE_TOKENIZERS: dict[str, tuple[str, bool]] = {
    **dict.fromkeys(
        ("gpt-2", "phi-2", "mpt", "olmo", "jais", "trillion", "granite-docling", "modern-bert"),
        (_GPT2, False),
    ),
    **dict.fromkeys(
        ("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"),
        (_DIGITS, False),
    ),
    **dict.fromkeys(
        ("llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"),
        (_LLAMA3, True),
    ),
    **dict.fromkeys(("dbrx", "smaug-bpe", "glm4", "chatglm-bpe"), (_LLAMA3, False)),
    **dict.fromkeys(
        ("qwen2", "deepseek-r1-qwen", "stablelm2", "hunyuan", "megrez", "solar-open"),
        (_QWEN2, False),
    ),
    "qwen35": (_QWEN35, False),
}

# Token texts that llama.cpp makes control tokens whatever the file says, as far as the file may
# have them as user-defined.
_ALWAYS_CONTROL = frozenset(
    (
        "<|eot_id|>",
        "<|im_end|>",
        "<|end|>",
        "<|return|>",
        "<|call|>",
        "<|flush|>",
        "<|calls|>",
        "<end_of_turn>",
        "<|endoftext|>",
        "</s>",
        "<|eom_id|>",
        "<EOT>",
        "_<EOT>",
        "[EOT]",
        "[EOS]",
        "<|end_of_text|>",
        "<end_of_utterance>",
        "<eos>",
        "<turn|>",
        "<|tool_response>",
        "<｜end▁of▁sentence｜>",
        "[e~[",
    )
)
_MARKUP = re.compile(r"^[<\[{(].*[>\]})]$|^[^\s\w]*\|.*\|[^\s\w]*$", re.DOTALL)


def well_formed(text: str) -> str:
    """Return `text` with lone surrogates replaced by U+FFFD, so that it has UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


@dataclass(frozen=True, slots=True)
class SpecialTokens:
    """Strings that are cut out before any merging: longest first, as llama.cpp does it."""

    in_control: tuple[tuple[str, int], ...]
    in_content: tuple[tuple[str, int], ...]
    refused: tuple[str, ...]  # user-defined and markup: llama.cpp would parse them in content

    @classmethod
    def of(cls, vocabulary: Vocabulary) -> SpecialTokens:
        """Return the special tokens of a vocabulary."""
        control: list[tuple[str, int]] = []
        content: list[tuple[str, int]] = []
        refused: list[str] = []
        kinds = vocabulary.types.tolist()
        for token, raw in enumerate(vocabulary.tokens.raw()):
            kind = kinds[token]
            if kind not in (CONTROL, UNKNOWN, USER) or not raw:
                continue
            text = raw.decode("utf-8", "replace")
            control.append((text, token))
            if kind == USER and text not in _ALWAYS_CONTROL:
                if _MARKUP.match(text):
                    refused.append(text)
                else:
                    content.append((text, token))
        control.sort(key=lambda entry: -len(entry[0].encode()))
        content.sort(key=lambda entry: -len(entry[0].encode()))
        return cls(tuple(control), tuple(content), tuple(refused))

    def split(self, text: str, is_control: bool) -> list[str | int]:
        """Return `text` cut into raw text and special token ids."""
        special = self.in_control if is_control else self.in_content
        parts: list[str | int] = [text]
        for word, token in special:
            if word not in text:
                continue
            cut: list[str | int] = []
            for part in parts:
                if isinstance(part, int) or word not in part:
                    cut.append(part)
                    continue
                for i, raw in enumerate(part.split(word)):
                    if i:
                        cut.append(token)
                    if raw:
                        cut.append(raw)
            parts = cut
        return [part for part in parts if part != ""]


class BpeTokenizer:
    """Text to the ids that llama.cpp gives, for one byte-level BPE vocabulary."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        """Build the encoding: some 50 ms for 50,000 tokens."""
        pattern, self._takes_words = PRE_TOKENIZERS[vocabulary.pre]
        self.special = SpecialTokens.of(vocabulary)
        self.bos = vocabulary.bos if _adds_bos(vocabulary) else None
        ranks, self._ids = _ranks(vocabulary, self._takes_words)
        self._ranks = ranks
        self._encoding = tiktoken.Encoding(
            vocabulary.pre, pat_str=pattern, mergeable_ranks=ranks, special_tokens={}
        )
        self._is_plain = all(token >= 0 for token in self._ids)
        self._long = re.compile(rf"\S{{{LONG_WORD_CHARS},}}|\s{{{LONG_WORD_CHARS},}}")
        self._pattern = pattern

    def encode(self, text: str, *, is_control: bool = False) -> list[int]:
        """Return the ids of `text`, no BOS; special tokens are parsed where `is_control`."""
        text = well_formed(text)
        found: list[int] = []
        for part in self.special.split(text, is_control):
            if isinstance(part, int):
                found.append(part)
            else:
                found += self._encode_raw(part)
        return found

    def encode_segments(self, segments: Sequence[Segment]) -> list[list[int]]:
        """Return the ids of each segment, with the BOS in the first where the model wants one."""
        found = [self.encode(s.text, is_control=s.is_control) for s in segments]
        return with_bos(found, self.bos)

    def _encode_raw(self, text: str) -> list[int]:
        if len(text) >= LONG_WORD_CHARS and self._long.search(text):
            return self._encode_long(text)
        ids = self._ids
        found = [ids[rank] for rank in self._encoding.encode_ordinary(text)]
        return found if self._is_plain else [token for token in found if token >= 0]

    def _encode_long(self, text: str) -> list[int]:
        """The same, word by word, for text with words so long that tiktoken would crawl."""
        import regex  # type: ignore[import-untyped]

        found: list[int] = []
        for match in regex.finditer(self._pattern, text):
            word = match.group().encode()
            whole = self._ranks.get(word)
            ranks = [whole] if whole is not None else merge_word(word, self._ranks)
            found += [self._ids[rank] for rank in ranks if self._ids[rank] >= 0]
        return found


def with_bos(segments: list[list[int]], bos: int | None) -> list[list[int]]:
    """Put `bos` before the first token, unless the template has already done so."""
    if bos is None or not segments:
        return segments
    first = next((ids[0] for ids in segments if ids), None)
    if first != bos:
        segments[0] = [bos, *segments[0]]
    return segments


def build_tokenizer(vocabulary: Vocabulary) -> BpeTokenizer | None:
    """Return a tokenizer whose ids equal llama.cpp's, or None where only llama.cpp can tell."""
    if vocabulary.model != "gpt2" or vocabulary.pre not in PRE_TOKENIZERS:
        return None
    if vocabulary.merges is None or not len(vocabulary.merges):
        return None
    return BpeTokenizer(vocabulary)


def _adds_bos(vocabulary: Vocabulary) -> bool:
    if vocabulary.add_bos is not None:
        return vocabulary.add_bos
    return PRE_TOKENIZERS[vocabulary.pre][1]  # llama.cpp: the Llama-3 family


def byte_of_char() -> dict[int, int]:
    """Return GPT-2's mapping of printable characters to bytes (its `bytes_to_unicode`, inverted).

    As a table for `str.translate`: what it maps to has the code point of the byte.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    mapping = {byte: byte for byte in printable}
    rest = (byte for byte in range(256) if byte not in set(printable))
    mapping.update({256 + n: byte for n, byte in enumerate(rest)})
    # What stands for no byte must not pass for one: NUL … blank are written otherwise.
    mapping.update({byte: 0xFFFD for byte in range(256) if byte not in mapping})
    return mapping


def _ranks(vocabulary: Vocabulary, takes_words: bool) -> tuple[dict[bytes, int], list[int]]:
    """Return (bytes → merge rank, rank → token id).

    Ranks are not ids: bytes come first, then the results of the merges in the order of the merges,
    which is what decides. A byte or result without a token has the id -1; llama.cpp drops it.
    """
    table = byte_of_char()
    ids_of: dict[bytes, int] = {}
    for token, raw in enumerate(vocabulary.tokens.raw()):
        try:
            ids_of[raw.decode().translate(table).encode("latin-1")] = token
        except UnicodeError:
            continue  # a special token, or one that no text can give
    ranks = {bytes([byte]): byte for byte in range(256)}
    ids = [ids_of.get(bytes([byte]), -1) for byte in range(256)]
    for raw in vocabulary.merges.raw() if vocabulary.merges else ():
        try:  # "left right": a blank within one of them is written as another character
            word = raw.replace(b" ", b"", 1).decode().translate(table).encode("latin-1")
        except UnicodeError:
            continue
        if word and word not in ranks:
            ranks[word] = len(ids)
            ids.append(ids_of.get(word, -1))
    if takes_words:
        for word, token in ids_of.items():
            if word and word not in ranks:
                ranks[word] = len(ids)
                ids.append(token)
    return ranks, ids
