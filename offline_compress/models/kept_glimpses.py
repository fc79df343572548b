# SPDX-License-Identifier: Apache-2.0
"""Glimpses that come again a few times: the teacher takes longer over one than a small student learns from it."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from edge_vlm.files import make_folder, reporting
from offline_compress.models.photo_views import PhotoViews, View

REPEATS = 3  # times that a glimpse is shown; then another one takes its place, before it is learned by heart


@dataclass
class KeptGlimpses:
    """``per_photo`` glimpses of every photo at a time, in files below ``folder`` that are as large from the start. They
    are of these photos, this seed and this size alone: other ones lie beside them under other names.

    Raises OutputError where the disk is too small.
    """

    views: PhotoViews
    folder: Path
    per_photo: int
    seed: int
    pixels: np.memmap = field(init=False)
    features: np.memmap = field(init=False)
    made: np.memmap = field(init=False)

    def __post_init__(self) -> None:
        size, sample = self.views.size, self.views.whole(0).features
        told = repr((self.views.photos.names, self.per_photo, self.seed, size))
        name = hashlib.sha256(told.encode()).hexdigest()[:12]
        count = len(self.views) * self.per_photo
        make_folder(self.folder)
        self.pixels = reserved(self.folder / f"{name}.pixels", np.uint8, (count, size, size, 3))
        self.features = reserved(self.folder / f"{name}.features", np.float16, (count, *sample.shape))
        self.made = reserved(self.folder / f"{name}.made", np.int32, (count,))  # number, negative: mirrored; 0: none

    @property
    def nbytes(self) -> int:
        return self.pixels.nbytes + self.features.nbytes + self.made.nbytes

    def glimpse(self, index: int, turn: int) -> View:
        """Of photo `index` the one that belongs to `turn`: ``per_photo`` different ones in a row, `REPEATS` times."""
        place, round_ = turn % self.per_photo, turn // (self.per_photo * REPEATS)
        row, number = index * self.per_photo + place, 1 + place + round_ * self.per_photo
        if abs(self.made[row]) != number:
            seen = self.views.glimpse(index, np.random.default_rng([self.seed, 3, index, number]))
            self.made[row] = 0
            self.pixels[row], self.features[row] = seen.pixels, seen.features
            self.made[row] = -number if seen.mirrored else number
        return View(np.array(self.pixels[row]), self.features[row].astype(np.float32), bool(self.made[row] < 0))


def reserved(path: Path, dtype: type, shape: tuple[int, ...]) -> np.memmap:
    """A file of zeros, or what an earlier run left in it. Its bytes are taken from the disk at once: a full disk would
    end the process later, in the middle of a step."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    with reporting(path), open(path, "ab") as file:
        os.posix_fallocate(file.fileno(), 0, size)
    return np.memmap(path, dtype, "r+", shape=shape)
