# SPDX-License-Identifier: Apache-2.0
"""Any local SmolVLM / Idefics3 folder as a PyTorch model with its tokenizer and settings. Nothing is downloaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import nn

from edge_vlm.errors import InputError
from offline_compress.errors import CheckpointError
from offline_compress.export.checkpoint import COPY_AGAIN, read_json_object
from offline_compress.export.model_shape import read_vision_shape
from offline_compress.export.prompt import QUESTION, Prompt
from offline_compress.models.chat_prompt import chat_prompt
from offline_compress.models.families import open_checkpoint
from offline_compress.models.folder_tokenizer import open_tokenizer


@dataclass(frozen=True)
class ImageSettings:
    """One square picture of `size` pixels; mean and std of RGB in [0, 1]."""

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def square(self, image_rgb: np.ndarray) -> np.ndarray:
        """uint8 (rows, cols, 3) RGB, squashed to (size, size, 3). Raises InputError."""
        if image_rgb.dtype != np.uint8 or image_rgb.ndim != 3 or image_rgb.shape[2] != 3 or not image_rgb.size:
            raise InputError(f"an image of {image_rgb.dtype} {image_rgb.shape}", "give uint8 (rows, cols, 3) RGB")
        shrinking = max(image_rgb.shape[:2]) > self.size
        method = cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR
        if image_rgb.shape[:2] == (self.size, self.size):
            return image_rgb
        return cv2.resize(image_rgb, (self.size, self.size), interpolation=method)

    def pixels(self, image_rgb: np.ndarray) -> np.ndarray:
        """uint8 (rows, cols, 3) RGB, squashed and normalised: float32 (3, size, size). Raises InputError."""
        values = (self.square(image_rgb).astype(np.float32) / 255 - np.float32(self.mean)) / np.float32(self.std)
        return np.ascontiguousarray(values.transpose(2, 0, 1))

    def normalised(self, squares: np.ndarray) -> torch.Tensor:
        """float32 (B, size, size, 3) in [0, 1] to what models take: (B, 1, 3, size, size)."""
        values = (squares - np.float32(self.mean)) / np.float32(self.std)
        return torch.from_numpy(np.ascontiguousarray(values.transpose(0, 3, 1, 2)))[:, None]


@dataclass(frozen=True)
class LoadedVlm:
    """A model in float32 and evaluation mode, with all that its inputs need."""

    folder: Path
    model: nn.Module
    tokenizer: object
    image: ImageSettings
    prompt: Prompt


def load_vlm(folder: Path | str, question: str = QUESTION) -> LoadedVlm:
    """Raises CheckpointError naming the file that is missing, damaged or of another model family."""
    from transformers import AutoModelForImageTextToText
    from transformers.utils import logging

    logging.disable_progress_bar()
    folder = Path(folder)
    config = open_checkpoint(folder).config
    tokenizer = open_tokenizer(folder)
    try:
        model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    except Exception as error:  # transformers and safetensors raise many kinds for damaged files
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise CheckpointError(f"{folder}: the model cannot be loaded ({reason})", COPY_AGAIN) from error
    prompt = chat_prompt(tokenizer, read_vision_shape(config).image_tokens, question)
    return LoadedVlm(folder, model.eval(), tokenizer, read_image_settings(folder, config), prompt)


def read_image_settings(folder: Path, config: dict) -> ImageSettings:
    """Size from config.json; mean and std from preprocessor_config.json, 0.5 where there is none."""
    path = folder / "preprocessor_config.json"
    settings = read_json_object(path) if path.is_file() else {}
    mean, std = (tuple(float(v) for v in settings.get(key, (0.5, 0.5, 0.5))) for key in ("image_mean", "image_std"))
    if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
        raise CheckpointError(f"{path}: image_mean {mean}, image_std {std}", "give three values each, std positive")
    return ImageSettings(read_vision_shape(config).image_size, mean, std)
