# SPDX-License-Identifier: Apache-2.0
"""What models and bundles are evaluated on: images with the captions that describe them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from offline_compress.pairs.captioned_images import CaptionedImages


class Sample(Protocol):
    """One image uint8 (height, width, 3) RGB and the captions that describe it."""

    @property
    def image_rgb(self) -> np.ndarray: ...

    @property
    def references(self) -> tuple[str, ...]: ...


@dataclass(frozen=True)
class ImageSample:
    """A `Sample` in memory."""

    image_rgb: np.ndarray
    references: tuple[str, ...]


@dataclass(frozen=True)
class PairSample:
    """The `Sample` ``index`` of a set that need not fit in memory: decoded whenever it is asked for."""

    pairs: CaptionedImages
    index: int

    @property
    def image_rgb(self) -> np.ndarray:
        return self.pairs.image(self.index)

    @property
    def references(self) -> tuple[str, ...]:
        return self.pairs.captions[self.index]


@dataclass(frozen=True)
class Squares:
    """Images of ``samples`` as a model takes them, each made by ``square`` when it is asked for."""

    samples: Sequence[Sample]
    square: Callable[[np.ndarray], np.ndarray]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> np.ndarray:
        return self.square(self.samples[index].image_rgb)
