# SPDX-License-Identifier: Apache-2.0
"""The photo captioner: a SmolVLM of 7 million parameters whose image tokens lie where the teacher's features lie."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional
from transformers import SmolVLMConfig, SmolVLMForConditionalGeneration

from offline_compress.models.tokenizer import BEGIN, END, IMAGE, PAD, SPECIAL_TOKENS

# 14 x 14 patches, 7 x 7 image tokens: a MobileNetV2 sees 224 pixels as 7 x 7 features. With patches of 24 pixels, as
# many as tokens, the encoder learns much more slowly (docs/decisions.md).
IMAGE_SIZE, PATCH_SIZE, SCALE_FACTOR = 168, 12, 2
IMAGE_TOKENS = (IMAGE_SIZE // PATCH_SIZE // SCALE_FACTOR) ** 2
VOCABULARY = 3072
EMBEDDED_DEVIATION = 0.5  # of whitened patches: beside it positions and what blocks add are not small


def photo_config(vocabulary: int = VOCABULARY) -> SmolVLMConfig:
    """196 patches, 49 image tokens."""
    ids = {token: SPECIAL_TOKENS.index(token) for token in (PAD, BEGIN, END, IMAGE)}
    special = {"pad_token_id": ids[PAD], "bos_token_id": ids[BEGIN], "eos_token_id": ids[END]}
    return SmolVLMConfig(
        vision_config={
            "hidden_size": 192, "intermediate_size": 768, "num_hidden_layers": 4, "num_attention_heads": 3,
            "image_size": IMAGE_SIZE, "patch_size": PATCH_SIZE,
        },
        text_config={
            "model_type": "llama", "hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 5,
            "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64, "vocab_size": vocabulary,
            "max_position_embeddings": 256, "rope_theta": 10000.0, "tie_word_embeddings": True, **special,
        },
        scale_factor=SCALE_FACTOR, image_token_id=ids[IMAGE], tie_word_embeddings=True, **special,
    )  # fmt: skip


def build_photo_model(config: SmolVLMConfig, seed: int = 0) -> SmolVLMForConditionalGeneration:
    """Random weights, float32; the same seed gives the same weights."""
    torch.manual_seed(seed)
    return SmolVLMForConditionalGeneration(config).float()


@torch.no_grad()
def whiten_patches(embedding: nn.Conv2d, pixels: torch.Tensor) -> None:
    """Let an encoder begin with the principal components of its patches, each of the same deviation: photographs hold
    most of their variance in brightness and slow gradients, beside which edges would be learned late.

    ``pixels`` (B, 3, H, W) as the encoder sees them, some thousand patches altogether.
    """
    patches = functional.unfold(pixels, embedding.kernel_size, stride=embedding.stride)  # (B, 3 P P, patches)
    patches = patches.transpose(1, 2).flatten(0, 1).double()
    mean = patches.mean(0)
    variances, components = torch.linalg.eigh(torch.cov(patches.T))
    kept = min(embedding.out_channels, len(variances))
    variances, components = variances[-kept:].flip(0), components[:, -kept:].flip(1)
    scale = EMBEDDED_DEVIATION / (variances + variances[-1]).sqrt()  # the weakest, mostly noise, half as strong
    weight = (components * scale).T
    embedding.weight[:kept] = weight.reshape(kept, *embedding.weight.shape[1:]).float()
    embedding.bias[:kept] = -(weight @ mean).float()
