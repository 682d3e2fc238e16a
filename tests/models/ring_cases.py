"""What the ranks of the ring's tests compute, and their one-process counterpart."""

from __future__ import annotations

import torch

from models.model_file import read_model
from models.settings import RopeSettings
from models.torch_decoder import Decoder
from models.torch_rope import rope_of
from models.torch_shape import shape_of
from models.torch_weights import load

HEADS, N_STEPS = 6, 5
PROMPT = [259 + (i * 37) % 125 for i in range(96)]


def qkv():
    generator = torch.Generator().manual_seed(5)
    return tuple(torch.randn(h, 96, 32, generator=generator) for h in (HEADS, 2, 2))


def decoder_of(path):
    model = read_model(path)
    shape = shape_of(model)
    weights = load(model, shape, torch.device("cpu"))
    rope = rope_of(model, shape, RopeSettings(), weights.rope_factors)
    return Decoder(shape, weights, rope, 1024, torch.device("cpu"))
