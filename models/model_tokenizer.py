"""Tokens and chat format as the loaded model has them: for vocabularies that only llama.cpp reads.

The counterpart of `models.tokenizer` in the engine's process. Special tokens are cut out here and
llama.cpp gets raw text, so that nothing in a document is parsed that `models.tokenizer` would not.
"""

from __future__ import annotations

from pathlib import Path

from models.chat_template import ChatTemplate, family_of
from models.llama_context import LlamaContext
from models.model_file import ModelFile, read_model
from models.tokenizer import SpecialTokens, well_formed


class ModelTokenizer:
    """Text to ids by llama.cpp, and the model's chat template."""

    def __init__(self, context: LlamaContext, path: Path) -> None:
        self._context, self._path = context, path
        self._model: ModelFile | None = None
        self._special: SpecialTokens | None = None

    @property
    def model(self) -> ModelFile:
        """The file, read when it is first needed."""
        if self._model is None:
            self._model = read_model(self._path)
        return self._model

    def encode(self, text: str, is_control: bool, *, is_first: bool = False) -> list[int]:
        """Return the ids of `text`, no BOS; special tokens are parsed where `is_control`.

        SentencePiece wants a blank at the beginning of a prompt and after a special token of the
        template; content continues what stands before it.
        """
        if self._special is None:
            self._special = SpecialTokens.of(self.model.vocabulary)
        special = self._special
        found: list[int] = []
        wants_blank = is_first and is_control
        for part in special.split(well_formed(text), is_control):
            if isinstance(part, int):
                found.append(part)
                wants_blank = is_control
                continue
            blank = " " if wants_blank and self._puts_blank else ""
            wants_blank = False
            for piece in _broken(blank + part, special.refused):
                found += self._context.tokenize(piece.encode(), False)
        return found

    @property
    def _puts_blank(self) -> bool:
        vocabulary = self.model.vocabulary
        stated = vocabulary.add_space_prefix
        return vocabulary.model == "llama" if stated is None else stated

    def chat_template(self, uses_file: bool) -> ChatTemplate:
        """Return the chat format; `uses_file` False leaves the file's own template out."""
        model, context = self.model, self._context
        known = {raw for raw in model.vocabulary.tokens.raw() if raw[:1] in (b"<", b"[")}
        fallback = family_of(lambda token: token.encode() in known, model.architecture)
        bos, eos = model.vocabulary.bos, model.vocabulary.eos
        return ChatTemplate(
            model.chat_template if uses_file else None,
            fallback,
            "" if bos is None else context.token_text(bos),
            "" if eos is None else context.token_text(eos),
        )


def _broken(text: str, refused: tuple[str, ...]) -> list[str]:
    """Return `text` cut inside each string that llama.cpp would take for a special token."""
    parts = [text]
    for word in refused:
        if word in text:
            parts = [cut for part in parts for cut in _cut(part, word)]
    return parts


def _cut(text: str, word: str) -> list[str]:
    pieces = text.split(word)
    found = []
    for i, piece in enumerate(pieces):
        head = word[1:] if i else ""
        tail = word[:1] if i + 1 < len(pieces) else ""
        if head + piece + tail:
            found.append(head + piece + tail)
    return found
