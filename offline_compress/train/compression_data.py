# SPDX-License-Identifier: Apache-2.0
"""What a model is compressed with: calibration pairs, training batches and held-out samples, of whichever source."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import torch

from edge_vlm.errors import SourceError
from offline_compress.evaluate.heldout import heldout_samples
from offline_compress.evaluate.samples import PairSample, Sample
from offline_compress.export.checkpoint import read_config
from offline_compress.export.model_shape import read_vision_shape
from offline_compress.models.chat_prompt import chat_prompt
from offline_compress.models.folder_tokenizer import open_tokenizer
from offline_compress.models.loading import ImageSettings, read_image_settings
from offline_compress.pairs.batches import PairBatches, pair_batches
from offline_compress.pairs.captioned_images import CaptionedImages
from offline_compress.train.calibration import CalibrationBatches
from offline_compress.train.qat import BatchSource
from offline_compress.train.scene_batches import scene_data

CALIBRATION_BATCH = 8
HELDOUT_SHARE = 0.2  # of a user's images at most
Calibration = Sequence[Mapping[str, torch.Tensor]]


class CompressionData(Protocol):
    image: ImageSettings
    tokenizer: object
    prompt: object
    usable: int | None  # calibration pairs; None: as many as anyone wants

    def calibration(self, pairs: int) -> Calibration:
        """Batches of that many pairs. Raises SourceError where there are fewer."""

    def training(self, size: int) -> BatchSource:
        """Batches of ``size`` for training."""

    def heldout(self, count: int) -> list[Sample]:
        """At most that many samples that calibration and training never see."""


class RenderedScenes:
    """The demo model's scenes, rendered by train-demo; held-out ones are rendered on the spot."""

    usable = None

    def __init__(self, folder: Path, cache: Path | None, seed: int) -> None:
        self.folder, self.cache, self.seed = folder, cache, seed
        config = read_config(folder)
        self.image = read_image_settings(folder, config)
        self.tokenizer = open_tokenizer(folder)
        self.prompt = chat_prompt(self.tokenizer, read_vision_shape(config).image_tokens)

    def data(self, size: int):
        return scene_data(self.folder, self.cache, size, self.seed)

    def calibration(self, pairs: int) -> Calibration:
        size = batch_size(pairs)
        return CalibrationBatches(self.training(size), pairs, size)

    def training(self, size: int) -> BatchSource:
        return self.data(size).batches

    def heldout(self, count: int) -> list[Sample]:
        return heldout_samples(count)


def batch_size(pairs: int) -> int:
    """Of calibration: the batches hold just so many pairs."""
    return next(size for size in range(min(CALIBRATION_BATCH, pairs), 0, -1) if pairs % size == 0)


class CaptionedPhotos:
    """A user's images with captions: the last ones are held out, at most a fifth of them."""

    def __init__(
        self, folder: Path, pairs: CaptionedImages, seed: int, heldout: int, plain_captions: bool = False,
        report: Callable[[int], None] = lambda done: None,
    ) -> None:  # fmt: skip
        """``report`` gets how many images were looked at. Raises SourceError where no image can be used,
        CheckpointError for a folder that is no model."""
        if plain_captions:
            pairs = pairs.plain()
        self.folder, self.seed, self.pairs = folder, seed, pairs
        self.image = read_image_settings(folder, read_config(folder))
        self.good, self.skipped = pairs.decodable(report=report)
        kept = min(heldout, int(HELDOUT_SHARE * len(self.good)))
        self.known, self.unseen = self.good[: len(self.good) - kept], self.good[len(self.good) - kept :]
        first = self.batches(1)
        self.tokenizer, self.prompt = first.tokenizer, first.prompt

    @property
    def usable(self) -> int:
        return len(self.known)

    def batches(self, size: int, most: int | None = None, augment: bool = False) -> PairBatches:
        pairs = self.pairs.chosen(self.known, decoded=True)
        return pair_batches(self.folder, pairs, size, self.seed, most=most, augment=augment)

    def calibration(self, pairs: int) -> Calibration:
        if len(self.known) < pairs:
            raise SourceError(
                f"{self.pairs.source}: {len(self.known)} usable pairs beside the held-out ones, {pairs} wanted",
                f"give --pairs {len(self.known)}, or more images",
            )
        size = batch_size(pairs)
        return CalibrationBatches(self.batches(size, pairs), pairs, size)

    def training(self, size: int) -> BatchSource:
        return self.batches(size, augment=True)

    def heldout(self, count: int) -> list[Sample]:
        return [PairSample(self.pairs, i) for i in self.unseen[:count]]
