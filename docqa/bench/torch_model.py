"""A GGUF in torch, as the benches of the torch engine load it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class TorchModel:
    """What the file says, sizes, and weights on a device."""

    file: Any
    shape: Any
    weights: Any
    device: Any

    def decoder(self, context_length: int, **how: Any) -> Any:
        """Return a decoder with the file's own positions; `how`: more of `Decoder`'s."""
        from models.settings import RopeSettings
        from models.torch_decoder import Decoder
        from models.torch_rope import rope_of

        rope = rope_of(self.file, self.shape, RopeSettings(), self.weights.rope_factors)
        return Decoder(self.shape, self.weights, rope, context_length, self.device, **how)


def load_model(path: Path, device: Any) -> TorchModel:
    """Read a GGUF onto a device."""
    from models.model_file import read_model
    from models.torch_shape import shape_of
    from models.torch_weights import load

    file = read_model(path)
    shape = shape_of(file)
    return TorchModel(file, shape, load(file, shape, device), device)
