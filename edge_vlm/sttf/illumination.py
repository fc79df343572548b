# SPDX-License-Identifier: Apache-2.0
"""Global changes of lighting (lamp, auto exposure, white balance), told apart from changes of content.

Ours, not the papers': per colour channel ``now = gain * then + offset`` fitted robustly over the whole image, so
that what moved in a part of it does not pull the fit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache

import numpy as np

MID_LEVEL = 128.0
_SATURATED_LOW, _SATURATED_HIGH = 4.0, 251.0
_RIDGE_LEVELS2 = 25.0  # pulls the gain of a nearly uniform image to 1
_FIT_ROUNDS = 3
_MIN_INLIERS = 0.5
_STEADY_OFFSET_LEVELS = 0.25  # far under the smallest change that the gate sees
_STEADY_GAIN = 0.004  # half a level at the ends of the range
_FRAMES_WITHOUT_FIT = 8
_GAIN_MIN, _GAIN_MAX = 0.25, 4.0  # of one fit: no lamp does more between two frames
_FAR_LOG_GAIN, _FAR_LEVELS = 0.4, 50.0


@dataclass(frozen=True)
class Light:
    """``now - 128 = gain * (anchor - 128) + offset`` per channel, float32 (3,) each; gain 1, offset 0 is no change."""

    gain: np.ndarray = field(default_factory=lambda: np.ones(3, np.float32))
    offset: np.ndarray = field(default_factory=lambda: np.zeros(3, np.float32))

    def after(self, first: Light) -> Light:
        """This change applied after ``first``."""
        return Light(self.gain * first.gain, self.gain * first.offset + self.offset)

    def relative_to(self, base: Light) -> Light:
        """The same light where ``base`` counts as none: ``light.relative_to(base).after(base)`` is ``light``."""
        gain = self.gain / base.gain
        return Light(gain, self.offset - gain * base.offset)

    def is_far(self) -> bool:
        """Whether so much has added up that another base is due, long before numbers run out."""
        return bool(np.abs(np.log(self.gain)).max() > _FAR_LOG_GAIN or np.abs(self.offset).max() > _FAR_LEVELS)


def fit_light(then: np.ndarray, now: np.ndarray, noise_levels: float = 1.0) -> tuple[Light, float]:
    """The lighting change between two sets of grey levels ``(3, n)``, and the fraction of samples that agree with it.

    Iterated over the samples whose residual is small against the median residual; saturated ones carry no information
    and are left out. The gain is the ratio of the spreads (reduced major axis), as noise and movement are in both:
    least squares would take them for noise of ``now`` alone and find the gain too small.
    """
    low, high = np.minimum(then, now), np.maximum(then, now)
    usable = (low > _SATURATED_LOW) & (high < _SATURATED_HIGH)
    x, y = then - MID_LEVEL, now - MID_LEVEL
    gain, offset = np.ones(3, np.float32), _median(y - x)
    for _ in range(_FIT_ROUNDS):
        residual = np.abs(y - gain[:, None] * x - offset[:, None])
        bound = np.maximum(3.0 * _median(residual), 2.0 * noise_levels)
        weight = (usable & (residual <= bound[:, None])).astype(np.float32)
        weighted_x = weight * x
        count, sum_x = np.maximum(weight.sum(axis=1), 1), weighted_x.sum(axis=1)
        sum_y = np.einsum("cn,cn->c", weight, y)
        spread_x = np.einsum("cn,cn->c", weighted_x, x) - sum_x * sum_x / count
        spread_y = np.einsum("cn,cn->c", weight * y, y) - sum_y * sum_y / count
        gain = np.sqrt((spread_y + count * _RIDGE_LEVELS2) / (spread_x + count * _RIDGE_LEVELS2))
        gain = np.clip(gain, _GAIN_MIN, _GAIN_MAX)
        offset = (sum_y - gain * sum_x) / count
    agrees = usable & (np.abs(y - gain[:, None] * x - offset[:, None]) <= max(3.0 * noise_levels, 2.5))
    agreement = agrees.sum(axis=1) / np.maximum(usable.sum(axis=1), 1)
    return Light(gain.astype(np.float32), offset.astype(np.float32)), float(agreement.min())


def is_steady(residual: np.ndarray, now: np.ndarray, noise_levels: float) -> bool:
    """Whether grey levels ``(3, n)`` that differ by ``residual`` from what was expected show the lighting expected.

    A tenth of the work of a fit, and enough for most frames: neither offset nor gain is left in the residual.
    """
    bound = max(3.0 * noise_levels, 2.5)
    agrees = np.abs(residual) <= bound
    if np.count_nonzero(agrees) < 0.8 * agrees.size:
        return False
    residual, x = residual * agrees, now - MID_LEVEL
    samples = residual.shape[1]
    offset = residual.sum(axis=1) / samples
    gain = np.einsum("cn,cn->c", residual, x) / (np.einsum("cn,cn->c", x, x) + samples * _RIDGE_LEVELS2)
    return bool(np.abs(offset).max() <= _STEADY_OFFSET_LEVELS and np.abs(gain).max() <= _STEADY_GAIN)


def _median(values: np.ndarray) -> np.ndarray:
    """Upper median of each row."""
    middle = values.shape[1] // 2
    return np.partition(values, middle, axis=1)[:, middle]


def relight(levels: np.ndarray, then: Light, now: Light, gain_max: float, offset_max: float) -> np.ndarray:
    """Grey levels ``(tokens, cells, 3)`` seen under ``then`` as they would look under ``now``.

    ``then.gain`` and ``then.offset`` may be ``(tokens, 3)``. Beyond the limits a change of lighting is left in the
    difference: it changes what an encoder sees as well.
    """
    if (then.gain == now.gain).all() and (then.offset == now.offset).all():
        return levels
    gain = now.gain / then.gain
    offset = now.offset - gain * then.offset
    gain = np.minimum(np.maximum(gain, 1.0 / gain_max), gain_max)
    offset = np.minimum(np.maximum(offset, -offset_max), offset_max) + MID_LEVEL * (1.0 - gain)
    tokens, cells, _ = levels.shape
    every_cell = _every_cell(cells)  # rows of 48 numbers: three at a time are slow
    relit = levels.reshape(tokens, -1) * (gain @ every_cell)
    relit += offset @ every_cell
    return np.minimum(np.maximum(relit, 0.0, out=relit), 255.0, out=relit).reshape(levels.shape)


@cache
def _every_cell(cells: int) -> np.ndarray:
    """``x @ this`` repeats three channels for every cell, ``(..., 3) -> (..., 3 cells)``, to the bit; numpy.tile takes
    several times as long."""
    return np.tile(np.eye(3, dtype=np.float32), cells)


@dataclass
class LightTracker:
    """Lighting of each frame against one anchor frame, so that errors do not add up from frame to frame.

    Where most of the image no longer agrees with the anchor (the camera moved on), the previous frame becomes
    the anchor; where it does not agree either (a cut), the lighting is taken as unchanged.
    """

    anchor: np.ndarray | None = None  # (3, n) grey levels
    anchor_light: Light = field(default_factory=Light)
    expected: np.ndarray | None = None  # the anchor as it looked under the light of the last frame
    previous: np.ndarray | None = None
    light: Light = field(default_factory=Light)
    frames_without_fit: int = 0

    def reset(self) -> None:
        self.anchor = self.expected = self.previous = None
        self.anchor_light = self.light = Light()
        self.frames_without_fit = 0

    def rebase(self) -> Light:
        """The light of this frame counts as none from now on; returns what it was. A camera that moves on for hours
        takes one anchor after another, and the small errors of their fits add up."""
        base, self.light = self.light, Light()
        self.anchor_light = self.anchor_light.relative_to(base)
        return base

    def update(
        self, levels: np.ndarray, noise_levels: float, steady: Callable[[np.ndarray | None], bool] | None = None
    ) -> Light:
        """The light of this frame, sampled as ``(3, n)`` grey levels, relative to the first frame since ``reset`` or
        to that of the last ``rebase``.

        ``steady`` says whether the levels show the light of those it is given, where `is_steady` need not be asked.
        """
        steady = steady or (lambda then: is_steady(levels - then, levels, noise_levels))
        if self.anchor is None or self.anchor.shape != levels.shape:
            self.reset()
            self.anchor = self.expected = levels
        elif steady(self.expected):
            self.frames_without_fit = 0
        elif self.frames_without_fit < _FRAMES_WITHOUT_FIT and steady(self.previous):
            # Something has moved since the anchor, nothing does now. Not for ever: a light that fades too slowly to be
            # seen from frame to frame is found against the anchor.
            self.frames_without_fit += 1
        else:
            self._fit(levels, noise_levels)
        self.previous = levels
        return self.light

    def _fit(self, levels: np.ndarray, noise_levels: float) -> None:
        self.frames_without_fit = 0
        change, agreement = fit_light(self.anchor, levels, noise_levels)
        if agreement < _MIN_INLIERS:
            self.anchor, self.anchor_light = self.previous, self.light
            change, agreement = fit_light(self.anchor, levels, noise_levels)
        if agreement < _MIN_INLIERS:
            self.anchor, change = levels, Light()
        self.light = change.after(self.anchor_light)
        self.expected = change.gain[:, None] * (self.anchor - MID_LEVEL) + (change.offset + MID_LEVEL)[:, None]
