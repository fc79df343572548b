# SPDX-License-Identifier: Apache-2.0
"""Reuse on one real video beside full recomputation of the same frames: tokens, features, time, captions."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from edge_vlm.pipeline import CaptionPipeline, PipelineConfig
from edge_vlm.runtime import Bundle, TextDecoder, VisionEncoder
from edge_vlm.sources.video import open_video
from edge_vlm.sttf import SttfConfig


@dataclass(frozen=True)
class VideoReuse:
    """One video's figures, all arrays per frame ``(frames,)``.

    cosine: to the dense features, averaged over the image's tokens; skip_cosine: the same for frame skipping with as
    many tokens; frozen_cosine: where the first frame's features are kept for ever, which tells how much the measure
    can see at all. same_caption: as the dense pipeline's.
    """

    reused: np.ndarray
    cosine: np.ndarray
    skip_cosine: np.ndarray
    frozen_cosine: np.ndarray
    reuse_ms: np.ndarray
    dense_ms: np.ndarray
    same_caption: np.ndarray


def measure_video(bundle: Bundle, path: Path, frames: int, sttf: SttfConfig | None = None) -> VideoReuse:
    """The first ``frames`` frames through two pipelines in turn; ``sttf`` in place of the bundle's gate.

    Raises SourceError for a video that cannot be read.
    """
    encoder, dense_encoder = VisionEncoder(bundle, threads=1), VisionEncoder(bundle, threads=1)
    reuse = CaptionPipeline(bundle, PipelineConfig(sttf=sttf), encoder=encoder, decoder=TextDecoder(bundle, threads=1))
    dense = CaptionPipeline(
        bundle, PipelineConfig(reuse=False), encoder=dense_encoder, decoder=TextDecoder(bundle, threads=1)
    )
    source = open_video(str(path))
    per_frame, dense_features = [], []
    try:
        for observation in islice(source, frames):
            sparse_report, dense_report = reuse.step(observation), dense.step(observation)
            dense_features.append(dense_encoder.image_features.copy())
            per_frame.append(
                (
                    1 - sparse_report.tokens_computed / sparse_report.tokens_total,
                    mean_cosine(encoder.image_features, dense_features[-1]),
                    sparse_report.total_ms,
                    dense_report.total_ms,
                    sparse_report.caption.text == dense_report.caption.text,
                )
            )
    finally:
        source.close()
        reuse.close()
        dense.close()
    reused, cosine, reuse_ms, dense_ms, same = (np.array(column, float) for column in zip(*per_frame, strict=True))
    skipping, frozen = frame_skipping(dense_features, 1 - reused.mean()), frame_skipping(dense_features, 0.0)
    return VideoReuse(reused, cosine, skipping, frozen, reuse_ms, dense_ms, same)


def frame_skipping(dense_features: list[np.ndarray], computed: float) -> np.ndarray:
    """Cosine per frame where whole frames are encoded, the first and then a ``computed`` part of all, evenly spaced."""
    cosine, shown, share = [], 0, 1.0
    for index, features in enumerate(dense_features):
        if share >= 1.0:
            shown, share = index, share - 1.0
        cosine.append(mean_cosine(dense_features[shown], features))
        share += computed
    return np.array(cosine)


def mean_cosine(features: np.ndarray, reference: np.ndarray) -> float:
    """Cosine of each token ``(tokens, dim)`` to its reference, averaged; a token of zeros counts 0."""
    norms = np.linalg.norm(features, axis=1) * np.linalg.norm(reference, axis=1)
    return float(((features * reference).sum(axis=1) / np.maximum(norms, 1e-12)).mean())
