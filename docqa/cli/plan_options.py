"""How a model is loaded, on the command line. Imports argparse only: `docqa --help` needs it."""

from __future__ import annotations

import argparse

KV_TYPES = ("f16", "q8_0", "q4_0", "bf16")
ROPES = ("auto", "none", "linear", "ntk", "yarn")
TEST_TOKENS = 512


def kv_types(text: str) -> str:
    """Check a KV type, or a pair K/V, as it is typed on the command line."""
    kinds = text.split("/")
    if text != "auto" and (len(kinds) > 2 or any(kind not in KV_TYPES for kind in kinds)):
        raise argparse.ArgumentTypeError(
            f"'{text}': {', '.join(KV_TYPES)}, auto, or a pair K/V of them such as q8_0/q4_0"
        )
    return text


def load_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say how a model is loaded: of `ask` and `plan`."""
    group = parser.add_argument_group("how the model is loaded")
    group.add_argument("--context", type=int, metavar="N", help="context length in tokens")
    group.add_argument(
        "--rope",
        choices=ROPES,
        help="positions beyond the trained length; auto: YaRN where it is exceeded",
    )
    group.add_argument(
        "--kv-type",
        type=kv_types,
        metavar="T[/T]",
        help="f16, q8_0 (default), q4_0, auto; a pair K/V where the build can",
    )
    group.add_argument(
        "--memory", type=float, metavar="GIB", help="memory to use; none: what is free"
    )
    group.add_argument(
        "--evict",
        metavar="METHOD:N",
        help="engine torch: make the KV of the prompt N times smaller by streaming, h2o, snapkv or "
        "kvzip; h2o and snapkv choose for this question alone",
    )
    group.add_argument(
        "--force", action="store_true", help="more than 8 times the trained length, or no room"
    )


def plan_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `docqa plan`."""
    parser.add_argument("model", metavar="MODEL", nargs="?", help="a GGUF file or a known name")
    load_options(parser)
    parser.add_argument(
        "--measure", action="store_true", help="load it as planned and measure what was estimated"
    )
    parser.add_argument(
        "--test-kv",
        metavar="FILE",
        help="compare KV types on this document: divergence from f16, and which to take",
    )
    parser.add_argument(
        "--tokens", type=int, default=TEST_TOKENS, metavar="N", help="of FILE (default: 512)"
    )


def kv_flags(typed: str | None) -> dict[str, object]:
    """Return `--kv-type` as settings of the configuration."""
    if typed is None:
        return {}
    k, _, v = typed.partition("/")
    return {"model.kv_type_k": k, "model.kv_type_v": v or k}
