# SPDX-License-Identifier: Apache-2.0
"""Global changes of lighting (lamp, auto exposure, white balance), told apart from changes of content.

Ours, not the papers': per colour channel ``now = gain * then + offset`` fitted robustly over the whole image, so
that what moved in a part of it does not pull the fit.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

MID_LEVEL = 128.0
_SATURATED_LOW, _SATURATED_HIGH = 4.0, 251.0
_RIDGE_LEVELS2 = 25.0  # pulls the gain of a nearly uniform image to 1
_FIT_ROUNDS = 4
_MIN_INLIERS = 0.5


@dataclass(frozen=True)
class Light:
    """``now - 128 = gain * (anchor - 128) + offset`` per channel, float32 (3,) each; gain 1, offset 0 is no change."""

    gain: np.ndarray = field(default_factory=lambda: np.ones(3, np.float32))
    offset: np.ndarray = field(default_factory=lambda: np.zeros(3, np.float32))

    def after(self, first: Light) -> Light:
        """This change applied after ``first``."""
        return Light(self.gain * first.gain, self.gain * first.offset + self.offset)


def fit_light(then: np.ndarray, now: np.ndarray, noise_levels: float = 1.0) -> tuple[Light, float]:
    """The lighting change between two sets of grey levels ``(n, 3)``, and the fraction of samples that agree with it.

    Iterated least squares over the samples whose residual is small against the median residual. Saturated samples
    carry no information and are left out.
    """
    usable = (then > _SATURATED_LOW) & (then < _SATURATED_HIGH) & (now > _SATURATED_LOW) & (now < _SATURATED_HIGH)
    x, y = then - MID_LEVEL, now - MID_LEVEL
    total = np.maximum(usable.sum(axis=0), 1)
    gain, offset = np.ones(3, np.float32), np.median(y - x, axis=0).astype(np.float32)
    inlier = usable
    for _ in range(_FIT_ROUNDS):
        residual = np.abs(y - gain * x - offset)
        middle = np.partition(residual, len(residual) // 2, axis=0)[len(residual) // 2]
        inlier = usable & (residual <= np.maximum(3.0 * middle, 2.0 * noise_levels))
        weight = inlier.astype(np.float32)
        count = np.maximum(weight.sum(axis=0), 1)
        mean_x, mean_y = (weight * x).sum(axis=0) / count, (weight * y).sum(axis=0) / count
        dx = weight * (x - mean_x)
        gain = ((dx * (y - mean_y)).sum(axis=0) + count * _RIDGE_LEVELS2) / (
            (dx * (x - mean_x)).sum(axis=0) + count * _RIDGE_LEVELS2
        )
        offset = mean_y - gain * mean_x
    agrees = usable & (np.abs(y - gain * x - offset) <= np.maximum(3.0 * noise_levels, 2.5))
    return Light(gain.astype(np.float32), offset.astype(np.float32)), float((agrees.sum(axis=0) / total).min())


def relight(levels: np.ndarray, then: Light, now: Light, gain_max: float, offset_max: float) -> np.ndarray:
    """Grey levels ``(tokens, cells, 3)`` seen under ``then`` as they would look under ``now``.

    ``then.gain`` and ``then.offset`` may be ``(tokens, 3)``. Beyond the limits a change of lighting is left in the
    difference: it changes what an encoder sees as well.
    """
    gain = now.gain / then.gain
    offset = now.offset - gain * then.offset
    gain = np.clip(gain, 1.0 / gain_max, gain_max)[..., None, :]
    offset = np.clip(offset, -offset_max, offset_max)[..., None, :]
    return np.clip(gain * (levels - MID_LEVEL) + (offset + MID_LEVEL), 0.0, 255.0)


@dataclass
class LightTracker:
    """Lighting of each frame against one anchor frame, so that errors do not add up from frame to frame.

    Where most of the image no longer agrees with the anchor (the camera moved on), the previous frame becomes
    the anchor; where it does not agree either (a cut), the lighting is taken as unchanged.
    """

    anchor: np.ndarray | None = None  # (n, 3) grey levels
    anchor_light: Light = field(default_factory=Light)
    previous: np.ndarray | None = None
    light: Light = field(default_factory=Light)

    def reset(self) -> None:
        self.anchor = self.previous = None
        self.anchor_light = self.light = Light()

    def update(self, levels: np.ndarray, noise_levels: float) -> Light:
        """The light of this frame ``(n, 3)``, relative to the first frame since ``reset``."""
        if self.anchor is None or self.anchor.shape != levels.shape:
            self.reset()
            self.anchor = self.previous = levels
            return self.light
        change, agreement = fit_light(self.anchor, levels, noise_levels)
        if agreement < _MIN_INLIERS:
            self.anchor, self.anchor_light = self.previous, self.light
            change, agreement = fit_light(self.anchor, levels, noise_levels)
        if agreement < _MIN_INLIERS:
            self.anchor, change = levels, Light()
        self.light = change.after(self.anchor_light)
        self.previous = levels
        return self.light
