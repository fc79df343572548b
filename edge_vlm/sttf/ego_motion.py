# SPDX-License-Identifier: Apache-2.0
"""Global image shift between two frames, by phase correlation on the small luma image of the descriptors.

The shift is reported and is a feature of the router; a camera that moves makes most patches change, which the gate
answers with a keyframe. Cached tokens are not moved along with the image: their K,V live in the delegate, bound to
their positions.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np

_MIN_RESPONSE = 0.15
_MIN_CONTRAST_LEVELS = 2.0
_REACH_CELLS = 2  # around the peak: its centre is taken of these


@dataclass(frozen=True)
class GlobalShift:
    """``dx_px, dy_px`` in pixels of the encoder's input; ``response`` 0..1: how much of the image moved that way."""

    dx_px: float = 0.0
    dy_px: float = 0.0
    response: float = 0.0

    @property
    def magnitude_px(self) -> float:
        """Zero where the correlation is too weak to be believed."""
        return float(np.hypot(self.dx_px, self.dy_px)) if self.response >= _MIN_RESPONSE else 0.0


def global_shift(before: np.ndarray, now: np.ndarray, pixels_per_cell: float) -> GlobalShift:
    """Shift of one small luma image, float32 ``(rows, cols)``, against another.

    ``pixels_per_cell``: pixels of the encoder's input per pixel of the small images. No shift is told of images
    without contrast.
    """
    if min(_contrast(before), _contrast(now)) < _MIN_CONTRAST_LEVELS:
        return GlobalShift()
    window = _window(now.shape)
    cross = np.fft.rfft2(before * window) * np.conj(np.fft.rfft2(now * window))
    surface = np.fft.irfft2(cross / (np.abs(cross) + 1e-12), now.shape)
    peak = np.array(np.unravel_index(surface.argmax(), surface.shape))
    near = np.arange(-_REACH_CELLS, _REACH_CELLS + 1)
    box = surface.take(peak[0] + near, 0, mode="wrap").take(peak[1] + near, 1, mode="wrap")
    response = float(box.sum())
    if not response > 0:
        return GlobalShift()
    centre = peak + np.array([box.sum(axis=1) @ near, box.sum(axis=0) @ near]) / response
    dy, dx = -(centre - np.where(2 * peak > now.shape, now.shape, 0)) * pixels_per_cell
    return GlobalShift(float(dx), float(dy), response)


def _contrast(image: np.ndarray) -> float:
    """Standard deviation."""
    return float(cv2.meanStdDev(image)[1][0, 0])


@cache
def _window(shape: tuple[int, int]) -> np.ndarray:
    return cv2.createHanningWindow(shape[::-1], cv2.CV_32F)
