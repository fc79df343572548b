# SPDX-License-Identifier: Apache-2.0
"""The demo model: the smallest SmolVLM that captions the rendered scenes, saved as any Hugging Face folder."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import GenerationConfig, PreTrainedTokenizerFast, SmolVLMConfig, SmolVLMForConditionalGeneration
from transformers.utils import logging

from edge_vlm.files import check_replaceable, whole_folder, write_json
from offline_compress.export.prompt import LONGEST_CAPTION
from offline_compress.models.tokenizer import BEGIN, END, IMAGE, PAD, SPECIAL_TOKENS, VOCABULARY

IMAGE_SIZE, PATCH_SIZE, SCALE_FACTOR = 224, 16, 2
IMAGE_TOKENS = (IMAGE_SIZE // PATCH_SIZE // SCALE_FACTOR) ** 2


def demo_config(vocabulary: int = VOCABULARY) -> SmolVLMConfig:
    """196 patches, 49 image tokens; about 5 million parameters."""
    ids = {token: SPECIAL_TOKENS.index(token) for token in (PAD, BEGIN, END, IMAGE)}
    special = {"pad_token_id": ids[PAD], "bos_token_id": ids[BEGIN], "eos_token_id": ids[END]}
    return SmolVLMConfig(
        vision_config={
            "hidden_size": 192, "intermediate_size": 768, "num_hidden_layers": 6, "num_attention_heads": 3,
            "image_size": IMAGE_SIZE, "patch_size": PATCH_SIZE,
        },
        text_config={
            "model_type": "llama", "hidden_size": 192, "intermediate_size": 512, "num_hidden_layers": 6,
            "num_attention_heads": 3, "num_key_value_heads": 1, "head_dim": 64, "vocab_size": vocabulary,
            "max_position_embeddings": 256, "rope_theta": 10000.0, "tie_word_embeddings": True, **special,
        },
        scale_factor=SCALE_FACTOR, image_token_id=ids[IMAGE], tie_word_embeddings=True, **special,
    )  # fmt: skip


def build_demo_model(seed: int = 0, config: SmolVLMConfig | None = None) -> SmolVLMForConditionalGeneration:
    """Random weights, float32; the same seed gives the same weights."""
    torch.manual_seed(seed)
    return SmolVLMForConditionalGeneration(config or demo_config()).float()


def save_folder(model: SmolVLMForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """config.json, model.safetensors (float32), tokenizer, processor settings: what `AutoProcessor` reads too.

    The folder appears whole and replaces a model of that name. Raises OutputError.
    """
    check_model_replaceable(folder)
    special = {"bos_token_id": model.config.text_config.bos_token_id,
               "eos_token_id": model.config.text_config.eos_token_id,
               "pad_token_id": model.config.text_config.pad_token_id}  # fmt: skip
    implementation = model.config._attn_implementation
    logging.disable_progress_bar()
    with whole_folder(folder) as target:
        model.set_attn_implementation("sdpa")
        try:
            model.generation_config = GenerationConfig(max_new_tokens=LONGEST_CAPTION, do_sample=False, **special)
            model.save_pretrained(target, safe_serialization=True)
        finally:
            model.set_attn_implementation(implementation)
        tokenizer.save_pretrained(target)
        size = model.config.vision_config.image_size
        tokens = (size // model.config.vision_config.patch_size // model.config.scale_factor) ** 2
        write_json(target / "preprocessor_config.json", preprocessor_settings(size))
        processor = {"image_seq_len": tokens, "processor_class": "SmolVLMProcessor"}
        write_json(target / "processor_config.json", processor)
        write_json(target / "chat_template.json", {"chat_template": tokenizer.chat_template})


def check_model_replaceable(folder: Path) -> None:
    """Raises OutputError for a folder that is no model."""
    check_replaceable(folder, "config.json", "a model")


def preprocessor_settings(size: int) -> dict:
    """One square picture per image, never split."""
    return {
        "image_processor_type": "SmolVLMImageProcessor",
        "processor_class": "SmolVLMProcessor",
        "do_convert_rgb": True, "do_image_splitting": False, "do_normalize": True, "do_pad": True,
        "do_rescale": True, "do_resize": True,
        "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5], "rescale_factor": 1 / 255, "resample": 1,
        "max_image_size": {"longest_edge": size}, "size": {"longest_edge": size},
    }  # fmt: skip
