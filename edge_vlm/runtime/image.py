# SPDX-License-Identifier: Apache-2.0
"""From a camera image to the encoder's patches. Training uses these functions too, so both see the same pixels."""

from __future__ import annotations

import cv2
import numpy as np

from edge_vlm.errors import InputError
from edge_vlm.runtime.bundle import ImageInfo


def squash(image_rgb: np.ndarray, size: int) -> np.ndarray:
    """uint8 (height, width, 3) -> uint8 (size, size, 3), the aspect ratio given up as SmolVLM does without splits.

    Shrinking averages areas, which keeps small objects; growing interpolates. Raises InputError.
    """
    check_image(image_rgb)
    height, width = image_rgb.shape[:2]
    if (height, width) == (size, size):
        return np.ascontiguousarray(image_rgb)
    method = cv2.INTER_AREA if height >= size and width >= size else cv2.INTER_LINEAR
    return cv2.resize(np.ascontiguousarray(image_rgb), (size, size), interpolation=method)


def patchify(image_rgb: np.ndarray, info: ImageInfo, positions: np.ndarray | None = None) -> np.ndarray:
    """uint8 (size, size, 3) -> float32 (N, 3 P P): normalised patches, row by row, values in channel, y, x order.

    With ``positions`` (A,) only the patches of these token indices: (A, 3 P P).
    """
    size, patch = info.size, info.patch_size
    grid = size // patch
    pixels = image_rgb.reshape(grid, patch, grid, patch, 3).transpose(0, 2, 4, 1, 3)  # (row, column, channel, y, x)
    pixels = pixels.reshape(grid * grid, 3, patch * patch)
    values = (pixels if positions is None else pixels[positions]).astype(np.float32)
    mean, std = np.array(info.mean, np.float32), np.array(info.std, np.float32)
    values *= (1 / (255 * std))[:, None]  # (x / 255 - mean) / std in two passes
    values -= (mean / std)[:, None]
    return values.reshape(len(values), 3 * patch * patch)


def check_image(image_rgb: np.ndarray) -> None:
    """Raises InputError for anything but a non-empty uint8 RGB image."""
    if image_rgb.ndim != 3 or image_rgb.shape[2] != 3 or image_rgb.dtype != np.uint8:
        raise InputError(
            f"an image of {image_rgb.dtype} {image_rgb.shape}; expected uint8 (height, width, 3)",
            "convert it to 8-bit RGB",
        )
    if image_rgb.size == 0:
        raise InputError(f"an image of {image_rgb.shape[1]} x {image_rgb.shape[0]} pixels", "drop empty images")
