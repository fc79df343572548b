# SPDX-License-Identifier: Apache-2.0
"""From a camera image to the encoder's patches. Training uses these functions too, so both see the same pixels."""

from __future__ import annotations

from math import gcd

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


def squash_patches(image_rgb: np.ndarray, info: ImageInfo, positions: np.ndarray) -> np.ndarray:
    """As `squash`, but only the patches of these token indices are to be relied on; the rest may be black.

    Averages areas of rectangles around them that begin and end between two pixels of the camera, so that the pixels are
    those of `squash`. Raises InputError.
    """
    check_image(image_rgb)
    (height, width), size = image_rgb.shape[:2], info.size
    if len(positions) == 0 or height <= size or width <= size:
        return squash(image_rgb, size)
    wanted = np.zeros((size // info.patch_size, size // info.patch_size), bool)
    wanted.reshape(-1)[positions] = True
    squashed = np.zeros((size, size, 3), np.uint8)
    for rows in _spans(wanted.any(axis=1)):
        top, bottom = _whole_pixels(rows, info, height)
        for columns in _spans(wanted[slice(*rows)].any(axis=0)):
            left, right = _whole_pixels(columns, info, width)
            crop = image_rgb[
                top * height // size : bottom * height // size, left * width // size : right * width // size
            ]
            squashed[top:bottom, left:right] = cv2.resize(
                crop, (right - left, bottom - top), interpolation=cv2.INTER_AREA
            )
    return squashed


def _spans(wanted: np.ndarray) -> list[tuple[int, int]]:
    """(begin, end) of each run of true values; one that is false for once does not end a run: the rectangles on both
    sides of it would nearly touch."""
    found = np.flatnonzero(wanted).tolist()
    spans = [(found[0], found[0] + 1)]
    for index in found[1:]:
        if index <= spans[-1][1] + 1:
            spans[-1] = (spans[-1][0], index + 1)
        else:
            spans.append((index, index + 1))
    return spans


def _whole_pixels(span: tuple[int, int], info: ImageInfo, length: int) -> tuple[int, int]:
    """Begin and end, in squashed pixels, of the patches along one side of ``length`` camera pixels, widened to where
    squashed and camera pixels begin together."""
    step = info.size // gcd(info.size, length)
    return span[0] * info.patch_size // step * step, -(-span[1] * info.patch_size // step) * step


def patchify(image_rgb: np.ndarray, info: ImageInfo, positions: np.ndarray | None = None) -> np.ndarray:
    """uint8 (size, size, 3) -> float32 (N, 3 P P): normalised patches, row by row, values in channel, y, x order.

    With ``positions`` (A,) only the patches of these token indices: (A, 3 P P).
    """
    size, patch = info.size, info.patch_size
    grid = size // patch
    rows, columns = np.divmod(np.arange(grid * grid) if positions is None else positions, grid)
    pixels = image_rgb.reshape(grid, patch, grid, patch, 3)[rows, :, columns]  # (A, y, x, channel)
    values = pixels.transpose(0, 3, 1, 2).astype(np.float32, order="C").reshape(-1, 3, patch * patch)
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
