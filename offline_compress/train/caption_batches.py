# SPDX-License-Identifier: Apache-2.0
"""Training batches of rendered scenes: one of the five captions each, small changes of light, sensor and framing."""

from __future__ import annotations

import numpy as np
import torch

from offline_compress.export.prompt import Prompt
from offline_compress.models.dataset import SceneSet
from offline_compress.models.pixels import augmented, normalised
from offline_compress.models.token_sequences import answer_ids, prompt_ids, sequences


class CaptionBatches:
    """Batch `step` depends on the seed and `step` alone, so that a resumed run sees the same data."""

    def __init__(self, scenes: SceneSet, tokenizer, prompt: Prompt, size: int, seed: int = 0, augment: bool = True):
        self.scenes, self.size, self.seed, self.augment = scenes, size, seed, augment
        self.pad = tokenizer.pad_token_id
        self.prompt = prompt_ids(tokenizer, prompt)
        self.answers = [answer_ids(tokenizer, texts) for texts in scenes.captions]

    def batch(self, step: int) -> dict[str, torch.Tensor]:
        """pixel_values (B, 1, 3, H, W), input_ids, labels, attention_mask (B, T), patch_labels (B, patches, c)."""
        per_epoch = max(1, len(self.scenes) // self.size)
        epoch, position = divmod(step, per_epoch)
        order = np.random.default_rng([self.seed, 0, epoch]).permutation(len(self.scenes))
        chosen = np.sort(order[position * self.size : (position + 1) * self.size])
        rng = np.random.default_rng([self.seed, 1, step])
        phrasings = rng.integers(0, [len(self.answers[i]) for i in chosen])
        images = np.stack([self.scenes.image(i) for i in chosen])
        pixels = augmented(images, rng) if self.augment else images.astype(np.float32) / 255
        answers = [self.answers[i][k] for i, k in zip(chosen, phrasings, strict=True)]
        batch = sequences(self.prompt, answers, self.pad)
        batch["pixel_values"] = normalised(pixels)
        batch["patch_labels"] = torch.from_numpy(self.scenes.labels[chosen].astype(np.int64)).flatten(1, 2)
        return batch
