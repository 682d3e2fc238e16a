"""GPU kernels and their plain torch reference. Import `kernels.ops`; this file imports nothing.

A package named `kernels` exists on PyPI and transformers probes for it by version: the line below
keeps that probe negative.
"""

__version__ = "0.0.0"
