# SPDX-License-Identifier: Apache-2.0
"""Held-out scenes: combinations that training never showed, rendered on the spot."""

from __future__ import annotations

from offline_compress.evaluate.bundle_evaluation import Sample
from offline_compress.models.dataset import render_sample


def heldout_samples(count: int) -> list[Sample]:
    """The first ``count`` held-out scenes with their five captions each; the same ones every time."""
    rendered = (render_sample("heldout", index) for index in range(count))
    return [Sample(image, tuple(captions)) for image, _, captions in rendered]
