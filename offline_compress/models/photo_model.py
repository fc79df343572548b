# SPDX-License-Identifier: Apache-2.0
"""The photo captioner: a SmolVLM of 16 million parameters; its encoder may start as the first blocks of a DINOv2."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import SmolVLMConfig, SmolVLMForConditionalGeneration

from offline_compress.models.dinov2 import read_dinov2, vision_state
from offline_compress.models.tokenizer import BEGIN, END, IMAGE, PAD, SPECIAL_TOKENS

IMAGE_SIZE, PATCH_SIZE, SCALE_FACTOR = 140, 14, 2
IMAGE_TOKENS = (IMAGE_SIZE // PATCH_SIZE // SCALE_FACTOR) ** 2
VOCABULARY = 3072
MEAN = STD = (0.5, 0.5, 0.5)


def photo_config(vocabulary: int = VOCABULARY) -> SmolVLMConfig:
    """100 patches, 25 image tokens."""
    ids = {token: SPECIAL_TOKENS.index(token) for token in (PAD, BEGIN, END, IMAGE)}
    special = {"pad_token_id": ids[PAD], "bos_token_id": ids[BEGIN], "eos_token_id": ids[END]}
    return SmolVLMConfig(
        vision_config={
            "hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 6, "num_attention_heads": 6,
            "image_size": IMAGE_SIZE, "patch_size": PATCH_SIZE,
        },
        text_config={
            "model_type": "llama", "hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 5,
            "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64, "vocab_size": vocabulary,
            "max_position_embeddings": 256, "rope_theta": 10000.0, "tie_word_embeddings": True, **special,
        },
        scale_factor=SCALE_FACTOR, image_token_id=ids[IMAGE], tie_word_embeddings=True, **special,
    )  # fmt: skip


def build_photo_model(config: SmolVLMConfig, seed: int = 0, dinov2: Path | None = None):
    """Random weights but for the vision encoder where ``dinov2`` is given; the same seed gives the same weights.

    Raises InputError for a file that holds no DINOv2 or one of another width.
    """
    torch.manual_seed(seed)
    model = SmolVLMForConditionalGeneration(config).float()
    if dinov2 is not None:
        vision = config.vision_config
        grid = vision.image_size // vision.patch_size
        model.model.vision_model.load_state_dict(vision_state(read_dinov2(dinov2), vision.num_hidden_layers, grid))
    return model
