"""Recurrent layers of tiny models: Qwen3.5's gated delta net and Mamba 2 as Granite 4 has it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

CONV, STATE, GROUPS, HEADS = 4, 16, 2, 4
HEAD_DIMS = {"delta": 16, "mamba": 64}  # Mamba 2 in Granite: twice the embedding's width in all
DELTA_INTERVAL = 4  # every fourth layer attends


def is_recurrent(kind: str, layer: int) -> bool:
    if kind == "delta":
        return (layer + 1) % DELTA_INTERVAL != 0
    return kind == "mamba" and layer == 0


def add_metadata(writer: object, kind: str) -> None:
    writer.add_ssm_conv_kernel(CONV)
    writer.add_ssm_inner_size(HEADS * HEAD_DIMS[kind])
    writer.add_ssm_state_size(STATE)
    writer.add_ssm_time_step_rank(HEADS)
    writer.add_ssm_group_count(GROUPS)
    if kind == "delta":
        writer.add_full_attention_interval(DELTA_INTERVAL)
        writer.add_rope_dimension_sections([16, 8, 8, 0])
    else:
        writer.add_embedding_scale(1.0)
        writer.add_residual_scale(1.0)
        writer.add_logit_scale(1.0)
        writer.add_attention_scale(0.125)


def add_layer(
    writer: object,
    kind: str,
    block: str,
    add: Callable[..., None],
    ones: Callable[[str, int], None],
    n_embd: int,
) -> None:
    inner = HEADS * HEAD_DIMS[kind]
    channels = inner + 2 * GROUPS * STATE
    if kind == "delta":
        add(block + "attn_qkv.weight", channels, n_embd)
        add(block + "attn_gate.weight", inner, n_embd)
        add(block + "ssm_conv1d.weight", channels, CONV)
        ones(block + "ssm_dt.bias", HEADS)
        writer.add_tensor(block + "ssm_a", -np.ones(HEADS, np.float32))  # a decay
        add(block + "ssm_beta.weight", HEADS, n_embd)
        add(block + "ssm_alpha.weight", HEADS, n_embd)
        ones(block + "ssm_norm.weight", HEAD_DIMS[kind])
        add(block + "ssm_out.weight", n_embd, inner)
        return
    add(block + "ssm_in.weight", inner + channels + HEADS, n_embd)
    add(block + "ssm_conv1d.weight", channels, CONV)
    add(block + "ssm_conv1d.bias", channels)
    ones(block + "ssm_dt.bias", HEADS)
    writer.add_tensor(block + "ssm_a", -np.ones((HEADS, 1), np.float32))
    add(block + "ssm_d", HEADS, 1)
    add(block + "ssm_norm.weight", GROUPS, inner // GROUPS)
    add(block + "ssm_out.weight", n_embd, inner)
