# SPDX-License-Identifier: Apache-2.0
"""Which way edges move, from the times of the latest events: normal flow by a plane fitted to them (after Benosman et
al., Event-Based Visual Flow, 2014).

An edge that moves passes its pixels one after the other, so the time of their latest events rises in the direction of
its movement. Found where events have just arrived and nowhere else: what is not told anew stays as it was.
"""

from __future__ import annotations

import cv2
import numpy as np

DIRECTIONS = 4  # right, left, down, up: each its own number, so that one weight can ask for "up, and here"
_RADIUS = 2  # of the window of pixels to which a plane is fitted
_FEWEST = 4  # events of one polarity in the window
_RIDGE = 1.5  # square pixels: events along a line say nothing of what is across it
_STEEPNESS_S = 1e-4  # seconds a pixel: less is no movement but light that changes at once
_NEVER_US = -(1 << 60)


class MotionField:
    """The times of the latest events of one stream on a picture of ``side`` x ``side`` pixels, by polarity.

    ``memory_us``: older events are no part of the same movement.
    """

    def __init__(self, side: int, memory_us: int) -> None:
        self.memory_us = memory_us
        self._latest_us = np.full((2, side * side), _NEVER_US, np.int64)
        self._falls = np.zeros(side * side, bool)  # polarity of the latest event of each pixel
        self._side = side

    def reset(self) -> None:
        """As before the first event."""
        self._latest_us.fill(_NEVER_US)

    def add(self, pixel: np.ndarray, t_us: np.ndarray, polarity: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Events at the pixels (n,), counted row by row, the events of each in time order.

        Returns the pixels of them that show a movement (m,), and its direction: float32 (4, m), the positive parts of
        a unit vector towards right, left, down and up.
        """
        polarity = polarity.astype(np.intp)
        self._latest_us[polarity, pixel] = t_us  # of repeated pixels the last one stays
        self._falls[pixel] = polarity == 0
        pixel = np.unique(pixel)
        along_x, along_y, count = (
            np.where(self._falls[pixel], falling, rising)
            for falling, rising in zip(*(self._slope(kind, int(t_us.max()), pixel) for kind in (0, 1)), strict=True)
        )
        steepness = np.hypot(along_x, along_y)
        moves = (count >= _FEWEST) & (steepness >= _STEEPNESS_S)
        x, y = (slope[moves] / steepness[moves] for slope in (along_x, along_y))
        return pixel[moves], np.maximum(np.stack([x, -x, y, -y]), 0)

    def _slope(self, kind: int, now_us: int, pixel: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Seconds per pixel along x and y at which the latest events around each pixel rise, and how many they are."""
        age_s = ((self._latest_us[kind] - now_us) * 1e-6).reshape(self._side, self._side).astype(np.float32)
        known = (age_s > -1e-6 * self.memory_us).astype(np.float32)
        time = age_s * known
        flat, ramp = np.ones(2 * _RADIUS + 1, np.float32), np.arange(-_RADIUS, _RADIUS + 1, dtype=np.float32)

        def moment(picture: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
            return cv2.sepFilter2D(picture, -1, x, y, borderType=cv2.BORDER_CONSTANT).reshape(-1)[pixel]

        count = np.maximum(moment(known, flat, flat), 1)
        x, y, t = moment(known, ramp, flat), moment(known, flat, ramp), moment(time, flat, flat)
        xx = moment(known, ramp**2, flat) - x * x / count + _RIDGE
        yy = moment(known, flat, ramp**2) - y * y / count + _RIDGE
        xy = moment(known, ramp, ramp) - x * y / count
        xt, yt = moment(time, ramp, flat) - x * t / count, moment(time, flat, ramp) - y * t / count
        determinant = xx * yy - xy * xy
        return (yy * xt - xy * yt) / determinant, (xx * yt - xy * xt) / determinant, count
