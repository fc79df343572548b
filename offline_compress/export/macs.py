# SPDX-License-Identifier: Apache-2.0
"""Multiply-accumulates of the graphs, counted from the shapes of their matrices."""

from __future__ import annotations

from offline_compress.export.model_shape import TextShape, VisionShape


def vision_macs(vision: VisionShape, text: TextShape, shallow_layers: int) -> dict[str, int]:
    """The counts of bundle.json's ``vision``: see `edge_vlm.runtime.bundle.VisionInfo`."""
    width, block = vision.hidden_size, block_macs(vision)
    embed = vision.patch_values * width
    return {
        "encode_macs_per_token": embed + vision.layers * block,
        "shallow_macs_per_token": embed + shallow_layers * block,
        "attention_macs_per_pair": 2 * width,  # one product with a key, one with its value
        "project_macs": vision.image_tokens * width * vision.scale_factor**2 * text.hidden_size,
    }


def block_macs(vision: VisionShape) -> int:
    """The matrices of one vision block for one token: q, k, v, out; fc1, fc2."""
    return 4 * vision.hidden_size**2 + 2 * vision.hidden_size * vision.intermediate_size


def text_macs_per_token(text: TextShape) -> int:
    """All matrices that one decoded token passes, the head among them; attention not counted."""
    heads = text.query_heads + 2 * text.kv_heads
    attention = text.hidden_size * heads * text.head_dim + text.query_heads * text.head_dim * text.hidden_size
    block = attention + 3 * text.hidden_size * text.intermediate_size
    return text.layers * block + text.vocab_size * text.hidden_size
