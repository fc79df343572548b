# SPDX-License-Identifier: Apache-2.0
"""Held-out scenes: combinations that training never showed, rendered on the spot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from offline_compress.evaluate.caption_metrics import caption_metrics
from offline_compress.evaluate.samples import ImageSample, Sample
from offline_compress.models.dataset import render_sample


def heldout_samples(count: int) -> list[Sample]:
    """The first ``count`` held-out scenes with their five captions each; the same ones every time."""
    rendered = (render_sample("heldout", index) for index in range(count))
    return [ImageSample(image, tuple(captions)) for image, _, captions in rendered]


def caption_scores(captions: Sequence[str], references: Sequence[Sequence[str]]) -> Mapping[str, float]:
    """The metrics that this machine can compute; METEOR needs Java."""
    values = caption_metrics(captions, references)
    return {name: value for name, value in values.items() if isinstance(value, float)}
