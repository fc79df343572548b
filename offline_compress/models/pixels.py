# SPDX-License-Identifier: Apache-2.0
"""Pictures as models take them, and small changes of light, sensor and framing."""

from __future__ import annotations

import cv2
import numpy as np
import torch

MOST_SHIFT_PX = 4


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
