# SPDX-License-Identifier: Apache-2.0
"""Views of training photos with what the teacher sees in them. A view is recoloured and cropped before both look at
it, so that the student is always asked for what the teacher gives for the very same picture (Beyer et al. 2022, the
consistent teacher)."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from offline_compress.models.mobilenet_features import MobileNetFeatures
from offline_compress.pairs.captioned_images import CaptionedImages

MOST_ASPECT = 1.25
LEAST_TOLD, LEAST_GLIMPSED = 0.5, 0.2  # of a photo's area
WHOLE = 0.25  # of the views that captions are told of


@dataclass(frozen=True)
class View:
    """pixels uint8 (size, size, 3), the teacher's maps of them; mirrored: left is right."""

    pixels: np.ndarray
    maps: dict[str, np.ndarray]
    mirrored: bool


@dataclass(frozen=True)
class PhotoViews:
    """Two kinds of views, each drawn with the given generator alone."""

    photos: CaptionedImages
    teacher: MobileNetFeatures
    size: int

    def __len__(self) -> int:
        return len(self.photos)

    def told(self, index: int, rng: np.random.Generator) -> View:
        """At least half of photo `index`: its captions are still true of it, but for left and right."""
        image, mirrored = self.photos.image(index), bool(rng.integers(2))
        area = 1.0 if rng.random() < WHOLE else rng.uniform(LEAST_TOLD, 1)
        return self.seen(recoloured(crop(image, area, mirrored, rng), rng), mirrored)

    def glimpse(self, index: int, rng: np.random.Generator) -> View:
        """Some part of photo `index`, perhaps too little for its captions."""
        area, mirrored = rng.uniform(LEAST_GLIMPSED, 1), bool(rng.integers(2))
        return self.seen(recoloured(crop(self.photos.image(index), area, mirrored, rng), rng), mirrored)

    def whole(self, index: int) -> View:
        return self.seen(self.photos.image(index), False)

    def seen(self, picture: np.ndarray, mirrored: bool) -> View:
        return View(squared(picture, self.size), self.teacher(picture), mirrored)


def crop(image: np.ndarray, area: float, mirrored: bool, rng: np.random.Generator) -> np.ndarray:
    """A rectangle of that share of the image somewhere in it, wider or higher by up to `MOST_ASPECT`."""
    height, width = image.shape[:2]
    aspect = 1.0 if area == 1 else MOST_ASPECT ** rng.uniform(-1, 1)
    rows, cols = min(1.0, (area * aspect) ** 0.5), min(1.0, (area / aspect) ** 0.5)
    rows, cols = max(1, round(rows * height)), max(1, round(cols * width))
    top, left = rng.integers(0, height - rows + 1), rng.integers(0, width - cols + 1)
    part = image[top : top + rows, left : left + cols]
    return np.ascontiguousarray(part[:, ::-1] if mirrored else part)


def recoloured(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """uint8 (rows, cols, 3) with another light, contrast and colour balance."""
    gain = rng.uniform(0.8, 1.2) * rng.uniform(0.93, 1.07, 3)
    shift = 255 * (rng.uniform(-0.08, 0.08) + 0.5 * (1 - gain))
    curves = np.arange(256)[:, None] * gain + shift  # (256, 3)
    return cv2.LUT(image, np.clip(np.rint(curves), 0, 255).astype(np.uint8)[None])


def squared(image: np.ndarray, size: int) -> np.ndarray:
    method = cv2.INTER_AREA if max(image.shape[:2]) > size else cv2.INTER_LINEAR
    return cv2.resize(image, (size, size), interpolation=method)
