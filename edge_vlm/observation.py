# SPDX-License-Identifier: Apache-2.0
"""The values that flow into the pipeline: frames, events, and the two together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Frame:
    """One camera image. ``image`` uint8 (height, width, 3), RGB; ``stamp_ns`` the message's own stamp."""

    stamp_ns: int
    image: np.ndarray
    frame_id: str = ""


@dataclass(frozen=True)
class Events:
    """Decoded events in time order. ``x, y`` uint16 (n,), ``t_us`` int64 (n,), ``polarity`` bool (n,)."""

    x: np.ndarray
    y: np.ndarray
    t_us: np.ndarray
    polarity: np.ndarray
    width: int
    height: int

    def __len__(self) -> int:
        return len(self.x)


@dataclass(frozen=True)
class EventWindow:
    """Events between two frames, counted and not stored.

    ``counts`` int32 (grid_rows, grid_cols): events per patch, hot pixels taken out. ``total`` counts what was
    used, ``outside`` events with coordinates off the sensor, ``hot_pixels`` pixels that were taken out,
    ``lost`` packets missing from the sequence. ``overload`` says that the stream was too dense to be counted
    in time: everything is taken as changed. ``pixels_per_patch``: sensor pixels that one patch covers, 0 if unknown.
    """

    counts: np.ndarray
    total: int
    duration_us: int
    outside: int = 0
    hot_pixels: int = 0
    lost: int = 0
    overload: bool = False
    pixels_per_patch: float = 0.0


@dataclass(frozen=True)
class Observation:
    """What the pipeline gets for one frame: the frame, and the events since the frame before it, if any."""

    frame: Frame
    events: EventWindow | None = None

    @property
    def stamp_ns(self) -> int:
        return self.frame.stamp_ns
