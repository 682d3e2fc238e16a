"""Triton: kernels that start while the one before them still runs (Hopper and newer).

A kernel launched so (`launch_options`) loads what no other kernel writes – weights, tables – and
only then waits for the one before. Each calls `begin`, before anything else, and `wait` before it
reads or writes what other kernels of the step touch, so that all before it have ended there.
"""

# ruff: noqa: ANN201 (what a kernel takes are pointers and tensors of Triton)
from __future__ import annotations

import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait


@triton.jit
def begin(overlaps: tl.constexpr):
    """Let the next kernel start as soon as all programs of this have started."""
    if overlaps:
        gdc_launch_dependents()


@triton.jit
def wait(overlaps: tl.constexpr):
    """Wait until the kernel before has ended and what it wrote can be read."""
    if overlaps:
        gdc_wait()


def launch_options(overlaps: bool) -> dict[str, bool]:
    """Return what a launch takes; the interpreter knows no such option."""
    return {"launch_pdl": True} if overlaps else {}
