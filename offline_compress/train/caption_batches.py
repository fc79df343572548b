# SPDX-License-Identifier: Apache-2.0
"""Training batches of rendered scenes: one of the five captions each, small changes of light, sensor and framing."""

from __future__ import annotations

import cv2
import numpy as np
import torch

from offline_compress.export.prompt import Prompt
from offline_compress.models.dataset import SceneSet
from offline_compress.train.distillation import IGNORED_LABEL

MOST_SHIFT_PX = 4


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


def sequences(prompt: list[int], answers: list[list[int]], pad: int) -> dict[str, torch.Tensor]:
    """Prompt and answer, padded at the end; labels are the answer's tokens."""
    length, start = max(map(len, answers)), len(prompt)
    ids = torch.full((len(answers), start + length), pad)
    labels = torch.full_like(ids, IGNORED_LABEL)
    ids[:, :start] = torch.tensor(prompt)
    mask = torch.ones_like(ids)
    for row, answer in enumerate(answers):
        end = start + len(answer)
        ids[row, start:end] = labels[row, start:end] = torch.tensor(answer)
        mask[row, end:] = 0
    return {"input_ids": ids, "labels": labels, "attention_mask": mask}


def prompt_ids(tokenizer, prompt: Prompt) -> list[int]:
    text = prompt.template.format(image=prompt.image, question=prompt.question)
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def answer_ids(tokenizer, texts: tuple[str, ...]) -> list[list[int]]:
    """Each caption with the space before it and the end marker after it."""
    rows = tokenizer([f" {text}" for text in texts], add_special_tokens=False)["input_ids"]
    return [[*row, tokenizer.eos_token_id] for row in rows]


def normalised(pixels: np.ndarray) -> torch.Tensor:
    """float32 (B, H, W, 3) in [0, 1] to (B, 1, 3, H, W) in [-1, 1]."""
    tensor = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()
    return tensor.mul_(2).sub_(1)[:, None]


def augmented(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """uint8 (B, H, W, 3) to float32 in [0, 1]: gamma, gain, colour balance, noise, shift. Never mirrored: captions
    say left and right."""
    count, height, width = images.shape[:3]
    levels = np.arange(256, dtype=np.float32) / 255
    out = np.empty(images.shape, np.float32)
    for i in range(count):
        dy, dx = rng.integers(-MOST_SHIFT_PX, MOST_SHIFT_PX + 1, 2)
        matrix = np.float32([[1, 0, dx], [0, 1, dy]])
        moved = cv2.warpAffine(
            images[i], matrix, (width, height), flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE
        )
        curve = np.float32(rng.uniform(0.8, 1.25)) * levels ** np.float32(rng.uniform(0.85, 1.18))
        curve = curve + np.float32(rng.uniform(-0.06, 0.06))
        balance = rng.uniform(0.93, 1.07, 3).astype(np.float32)
        cv2.LUT(moved, (curve[:, None] * balance)[None], out[i])  # (1, 256, 3)
    noise = rng.integers(-128, 128, images.shape[1:], dtype=np.int8).astype(np.float32) / 74  # unit spread
    for picture, strength in zip(out, rng.uniform(0, 0.02, count).astype(np.float32), strict=True):
        cv2.scaleAdd(noise, float(strength), picture, picture)
    return np.clip(out, 0, 1, out=out)
