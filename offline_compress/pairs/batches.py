# SPDX-License-Identifier: Apache-2.0
"""Batches of images with captions for calibration and quantisation-aware training, prepared as the model wants them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from offline_compress.export.checkpoint import read_config
from offline_compress.export.model_shape import read_vision_shape
from offline_compress.export.prompt import Prompt
from offline_compress.models.chat_prompt import chat_prompt
from offline_compress.models.folder_tokenizer import open_tokenizer
from offline_compress.models.loading import ImageSettings, read_image_settings
from offline_compress.models.pixels import augmented
from offline_compress.models.token_sequences import answer_ids, prompt_ids, sequences
from offline_compress.pairs.captioned_images import CaptionedImages

KEPT_BYTES = 512 << 20  # of squares: some 900 of 448 pixels, 10,000 of 128


@dataclass
class PairBatches:
    """Batch `step` depends on the seed and `step` alone: every image once per pass, one of its captions each.

    Images are decoded when they are used; the first squares of the model's size are kept, up to `KEPT_BYTES`. Those
    that cannot be decoded are left out from the start; ``skipped`` names them.
    """

    pairs: CaptionedImages
    tokenizer: object
    prompt: Prompt
    image: ImageSettings
    size: int
    seed: int = 0
    augment: bool = False
    most: int | None = None

    def __post_init__(self) -> None:
        self.kept, _ = self.pairs.decodable(self.most, None if self.most is None else self.seed)
        told = [self.pairs.captions[i] for i in self.kept]
        self.answers = [answer_ids(self.tokenizer, t) for t in told]
        self.start, self.squares = prompt_ids(self.tokenizer, self.prompt), {}

    def __len__(self) -> int:
        return len(self.kept)

    def square(self, index: int) -> np.ndarray:
        """uint8 (size, size, 3)."""
        if index in self.squares:
            return self.squares[index]
        square = self.image.square(self.pairs.image(self.kept[index]))
        if (len(self.squares) + 1) * square.nbytes <= KEPT_BYTES:
            self.squares[index] = square
        return square

    def batch(self, step: int) -> dict[str, torch.Tensor]:
        """pixel_values (B, 1, 3, H, W), input_ids, labels, attention_mask (B, T)."""
        size = min(self.size, len(self))
        epoch, position = divmod(step, len(self) // size)
        order = np.random.default_rng([self.seed, 0, epoch]).permutation(len(self))
        chosen = np.sort(order[position * size : (position + 1) * size])
        rng = np.random.default_rng([self.seed, 1, step])
        phrasings = rng.integers(0, [len(self.answers[i]) for i in chosen])
        squares = np.stack([self.square(i) for i in chosen])
        pixels = augmented(squares, rng) if self.augment else squares.astype(np.float32) / 255
        batch = sequences(self.start, [self.answers[i][k] for i, k in zip(chosen, phrasings, strict=True)],
                          self.tokenizer.pad_token_id)  # fmt: skip
        return batch | {"pixel_values": self.image.normalised(pixels)}


def pair_batches(folder: Path, pairs: CaptionedImages, size: int, seed: int, **options) -> PairBatches:
    """``pairs`` for the model in ``folder``: its tokenizer, chat template and processor settings.

    Raises CheckpointError for a folder that is no model, SourceError where no image can be decoded.
    """
    cv2.setNumThreads(1)
    config = read_config(folder)
    tokenizer = open_tokenizer(folder)
    prompt = chat_prompt(tokenizer, read_vision_shape(config).image_tokens)
    return PairBatches(pairs, tokenizer, prompt, read_image_settings(folder, config), size, seed, **options)
