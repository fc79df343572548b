# SPDX-License-Identifier: Apache-2.0
"""Modules of a model, named as in the Hugging Face checkpoint, for instance
``model.vision_model.encoder.layers.0.self_attn.q_proj`` or ``lm_head``; `linear_names` lists every matrix."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from offline_compress.errors import CheckpointError
from offline_compress.export.checkpoint import Checkpoint

VISION = "model.vision_model"
TEXT = "model.text_model"
PATCH_EMBEDDING = f"{VISION}.embeddings.patch_embedding"
POSITION_EMBEDDING = f"{VISION}.embeddings.position_embedding.weight"
CONNECTOR = "model.connector.modality_projection.proj"
EMBED_TOKENS = f"{TEXT}.embed_tokens"
HEAD = "lm_head"


def is_tied(config: dict, tensors: Mapping[str, np.ndarray]) -> bool:
    """Tied where the config says so, or where the checkpoint has one table only."""
    tied = config.get("tie_word_embeddings", config.get("text_config", {}).get("tie_word_embeddings", False))
    return bool(tied) or f"{HEAD}.weight" not in tensors


def check_tied(checkpoint: Checkpoint) -> None:
    """Raises CheckpointError where config.json ties two tables that differ."""
    tables = [f"{name}.weight" for name in (HEAD, EMBED_TOKENS) if f"{name}.weight" in checkpoint]
    if len(tables) == 2 and not np.array_equal(checkpoint[tables[0]], checkpoint[tables[1]]):
        raise CheckpointError(
            f"{checkpoint.folder}: config.json ties {HEAD} to {EMBED_TOKENS}, but the two tables differ",
            "set tie_word_embeddings to false in config.json, or save the model again",
        )


def linear_names(config: dict, tied: bool = True) -> list[str]:
    """Module names of every matrix, in the order in which data flows."""
    return [
        PATCH_EMBEDDING,
        *(name for layer in range(layer_count(config, "vision_config")) for name in vision_block_names(layer)),
        CONNECTOR,
        *([] if tied else [EMBED_TOKENS]),
        *(name for layer in range(layer_count(config, "text_config")) for name in text_block_names(layer)),
        HEAD,
    ]


def vision_block_names(layer: int) -> list[str]:
    """q, k, v, out, fc1, fc2 of one vision block."""
    block = f"{VISION}.encoder.layers.{layer}"
    attention = [f"{block}.self_attn.{name}_proj" for name in ("q", "k", "v", "out")]
    return [*attention, f"{block}.mlp.fc1", f"{block}.mlp.fc2"]


def text_block_names(layer: int) -> list[str]:
    """q, k, v, o, gate, up, down of one text block."""
    block = f"{TEXT}.layers.{layer}"
    return [
        *(f"{block}.self_attn.{name}_proj" for name in "qkvo"),
        *(f"{block}.mlp.{name}_proj" for name in ("gate", "up", "down")),
    ]


def layer_count(config: dict, part: str) -> int:
    try:
        return int(config[part]["num_hidden_layers"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"config.json: no {part}.num_hidden_layers", "save the full configuration") from error
