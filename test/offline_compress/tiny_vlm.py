# SPDX-License-Identifier: Apache-2.0
"""A SmolVLM of a few thousand parameters with random weights, for tests."""

import torch
from transformers import SmolVLMConfig, SmolVLMForConditionalGeneration

IMAGE_TOKEN, VOCABULARY = 3, 40


def tiny_config(layers: int = 3, tied: bool = True) -> SmolVLMConfig:
    """32x32 images, patch 8 -> 16 patches -> 4 image tokens."""
    return SmolVLMConfig(
        vision_config=dict(
            hidden_size=24, intermediate_size=40, num_hidden_layers=layers, num_attention_heads=2, image_size=32,
            patch_size=8,
        ),
        text_config=dict(
            model_type="llama", hidden_size=20, intermediate_size=36, num_hidden_layers=layers, num_attention_heads=2,
            num_key_value_heads=1, head_dim=10, vocab_size=VOCABULARY, max_position_embeddings=64, pad_token_id=0,
            bos_token_id=1, eos_token_id=2, rope_theta=10000.0,
        ),
        scale_factor=2, image_token_id=IMAGE_TOKEN, pad_token_id=0, tie_word_embeddings=tied,
    )  # fmt: skip


def tiny_vlm(seed: int = 0, layers: int = 3, tied: bool = True) -> SmolVLMForConditionalGeneration:
    torch.manual_seed(seed)
    model = SmolVLMForConditionalGeneration(tiny_config(layers, tied)).float()
    with torch.no_grad():  # weights large enough that every matrix matters
        for name, value in model.named_parameters():
            if value.ndim > 1:
                value.normal_(0, 1.5 / value[0].numel() ** 0.5)
            elif name.endswith("bias"):
                value.normal_(0, 0.1)
    return model.eval()


def tiny_batch(seed: int = 0, size: int = 4, length: int = 12) -> dict:
    """pixel_values (B, 1, 3, 32, 32), input_ids, labels, attention_mask (B, T): 4 image tokens, then text."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(4, VOCABULARY, (size, length), generator=generator)
    ids[:, 0], ids[:, 1:5] = 1, IMAGE_TOKEN
    labels = ids.clone()
    labels[:, :6] = -100
    return {
        "pixel_values": torch.randn(size, 1, 3, 32, 32, generator=generator),
        "input_ids": ids,
        "labels": labels,
        "attention_mask": torch.ones_like(ids),
    }


def save_tiny(model: SmolVLMForConditionalGeneration, folder):
    """As a Hugging Face folder without a tokenizer; returns it."""
    model.save_pretrained(folder, safe_serialization=True)
    return folder
