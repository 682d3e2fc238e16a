"""Where the kernels are tested: on a GPU, or in Triton's interpreter on a CPU.

Triton is an extra (`pip install -e '.[kernels]'`, 290 MB; torch for CUDA brings it along). The
interpreter is chosen by an environment variable that Triton reads when it is imported.
"""

from __future__ import annotations

import importlib.util
import os

import pytest
import torch

torch.set_num_threads(1)  # on a busy machine threads that wait for each other take ten times

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
if DEVICE == "cpu":
    os.environ.setdefault("TRITON_INTERPRET", "1")

needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="Triton is not installed (an extra)"
)
