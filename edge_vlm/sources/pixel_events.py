# SPDX-License-Identifier: Apache-2.0
"""What counting needs of a packet's events: their pixels and the time they span, nothing for each event."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edge_vlm.observation import Events


@dataclass(frozen=True)
class PixelEvents:
    """``count`` events on a sensor of ``width`` x ``height`` pixels between ``first_us`` and ``last_us``.

    ``flat`` int64 (n,), n >= count: y * width + x of every event on the sensor, in any order; entries of ``width *
    height`` and more are no events. ``outside`` more events lay off the sensor.
    """

    flat: np.ndarray
    count: int
    outside: int
    first_us: int
    last_us: int
    width: int
    height: int

    @classmethod
    def of(cls, events: Events, outside: int = 0) -> PixelEvents:
        """Decoded events, all of them on the sensor."""
        flat = events.y.astype(np.int64) * events.width + events.x
        span_us = (int(events.t_us.min()), int(events.t_us.max())) if len(events) else (0, 0)
        return cls(flat, len(events), outside, *span_us, events.width, events.height)

    @classmethod
    def spanning(cls, t_us: np.ndarray, *fields) -> PixelEvents:
        """``fields``: flat, count, outside, width, height. ``t_us``: times of words with events, in any order."""
        flat, count, outside, width, height = fields
        span_us = (int(t_us.min()), int(t_us.max())) if len(t_us) else (0, 0)
        return cls(flat, count, outside, *span_us, width, height)

    @classmethod
    def joined(cls, parts: list[PixelEvents], width: int, height: int) -> PixelEvents:
        """Several kinds of events of one packet."""
        if len(parts) == 1:
            return parts[0]
        flat = np.concatenate([part.flat for part in parts]) if parts else np.zeros(0, np.int64)
        spans = [(part.first_us, part.last_us) for part in parts if part.count] or [(0, 0)]
        return cls(
            flat,
            sum(part.count for part in parts),
            sum(part.outside for part in parts),
            min(first for first, _ in spans),
            max(last for _, last in spans),
            width,
            height,
        )

    def counts(self) -> np.ndarray:
        """Events of every pixel, int64 (height, width)."""
        return pixel_counts(self.flat, self.height, self.width)


def pixel_counts(flat: np.ndarray, height: int, width: int) -> np.ndarray:
    """How often each pixel stands in ``flat``, int64 (height, width); what lies behind the last pixel is left out."""
    size = height * width
    return np.bincount(flat, minlength=size)[:size].reshape(height, width)
