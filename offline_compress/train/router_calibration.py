# SPDX-License-Identifier: Apache-2.0
"""Sets the gate's thresholds for one encoder, from what its features do when nothing changes, and when much does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from edge_vlm.sttf import SttfConfig
from edge_vlm.sttf.fusion import scene_distance
from offline_compress.train.router_oracle import EncodedFrame, Encoder, GateQuality, gate_quality

THRESHOLDS = (2.0, 3.0, 4.5, 6.0, 8.0)
_NOISE_QUANTILE = 0.95
_TOLERANCE_OVER_NOISE, _MIN_TOLERANCE = 4.0, 0.15
_CAPTION_OVER_TOLERANCE = 1.25  # what reuse alone gets wrong must not ask for captions
_WORSE_ALLOWED = 1.1


@dataclass(frozen=True)
class Calibration:
    """``noise_distance``: 95th percentile of the scene distance of two frames that show the same; ``tolerance`` of
    reused features; the settings that follow, and what the gate gives with them."""

    noise_distance: float
    tolerance: float
    sttf: SttfConfig
    quality: GateQuality

    def to_json(self) -> dict:
        return {
            "noise_distance": self.noise_distance, "tolerance": self.tolerance, "sttf": self.sttf.to_json(),
            "errors": self.quality.errors.tolist(), "token_share": self.quality.token_share,
        }  # fmt: skip

    @classmethod
    def from_json(cls, values: dict) -> Calibration:
        quality = GateQuality(np.array(values["errors"]), values["token_share"])
        return cls(values["noise_distance"], values["tolerance"], SttfConfig.from_json(values["sttf"]), quality)


def noise_distance(clips: Sequence[Sequence[EncodedFrame]]) -> float:
    """How far sensor noise alone moves the features of a whole encode. 0 where no two frames show the same."""
    distances = [
        scene_distance(before.dense, after.dense)
        for clip in clips
        for before, after in zip(clip, clip[1:], strict=False)
        if after.still
    ]
    return float(np.quantile(distances, _NOISE_QUANTILE)) if distances else 0.0


def tolerance_of(clips: Sequence[Sequence[EncodedFrame]]) -> tuple[float, float]:
    """Noise distance, and the tolerance of reused features that follows from it."""
    noise = noise_distance(clips)
    return noise, max(_MIN_TOLERANCE, _TOLERANCE_OVER_NOISE * noise)


def kept(
    encoder: Encoder, clips: Sequence[Sequence[EncodedFrame]], config: SttfConfig, grid: tuple[int, int], size: int
) -> Calibration:
    """What a gate gives as it is."""
    return Calibration(*tolerance_of(clips), config, gate_quality(encoder, clips, config, grid, size))


def calibrate(
    encoder: Encoder, clips: Sequence[Sequence[EncodedFrame]], base: SttfConfig, grid: tuple[int, int], size: int
) -> Calibration:
    """The highest thresholds that cost no accuracy.

    That is: 95 % of the frames within the tolerance, or hardly worse than with the lowest thresholds. What a fine
    gate gets wrong too (much appears at once, and unchanged tokens keep the context of before) is the router's matter.
    """
    noise, tolerance = tolerance_of(clips)
    best, best_error = None, 0.0
    for threshold in THRESHOLDS:
        config = replace(
            base,
            threshold_on=threshold,
            threshold_off=round(threshold * 2 / 3, 2),
            scene_distance=round(_CAPTION_OVER_TOLERANCE * tolerance, 3),
        )
        quality = gate_quality(encoder, clips, config, grid, size)
        error = float(np.quantile(quality.errors, _NOISE_QUANTILE))
        if best is None or error <= max(tolerance, _WORSE_ALLOWED * best_error):
            best, best_error = (config, quality), best_error or error
    return Calibration(noise, tolerance, *best)
