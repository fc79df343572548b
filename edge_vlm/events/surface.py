# SPDX-License-Identifier: Apache-2.0
"""Event frames for the encoder: per patch, what its latest events drew. They change only where events arrive.

Ours, not the paper's. Each event marks its pixel and fades all that its patch held before, by the same factor
whatever time has passed: a slow movement leaves the same picture as a fast one, and a patch without events is exactly
what it was. So a token that is reused because its patch saw no events is the token that would be computed.

Where the surface has channels of motion, each pixel keeps the direction in which its latest edge moved (`motion`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edge_vlm.errors import InputError
from edge_vlm.events.motion import DIRECTIONS, MotionField
from edge_vlm.observation import Events

RISING, FALLING, RECENCY = range(3)  # events of rising and of falling light; how recent the pixel's last event is
LIGHT_CHANNELS = 3


@dataclass(frozen=True)
class SurfaceConfig:
    """``grid`` x ``grid`` patches of ``patch_size`` pixels; the sensor is squashed onto them.

    ``decay_events_per_pixel``: after so many events per sensor pixel of a patch, what it held has faded to 1/e.
    ``motion_memory_ms``: events that far apart belong to one movement; 0 leaves the four channels of motion out.
    """

    grid: int
    patch_size: int
    decay_events_per_pixel: float
    motion_memory_ms: float = 0.0

    @property
    def channels(self) -> int:
        """Rising light, falling light, recency; movement to the right, left, down, up."""
        return LIGHT_CHANNELS + (DIRECTIONS if self.motion_memory_ms else 0)

    @property
    def size(self) -> int:
        """Pixels along one side."""
        return self.grid * self.patch_size

    @property
    def tokens(self) -> int:
        return self.grid * self.grid


class EventSurface:
    """The drawing of one stream of events; values are events per sensor pixel, faded, float32."""

    def __init__(self, config: SurfaceConfig) -> None:
        self.config = config
        self._pixels = config.patch_size**2
        self._drawing = np.zeros((config.channels, config.tokens, self._pixels), np.float32)
        self._motion = MotionField(config.size, round(1000 * config.motion_memory_ms))
        self._row_major = row_major(config)
        self._patch_major = np.argsort(self._row_major)
        self._sensor: tuple[int, int] | None = None  # (width, height) that the tables below are for

    def reset(self) -> None:
        """Blank, as before the first event."""
        self._drawing.fill(0)
        self._motion.reset()

    def add(self, events: Events) -> None:
        """Draw events that lie on the sensor, in time order. Motion is told once for all of them.

        Raises:
            InputError: the sensor has fewer pixels than the drawing, or another size than the events before.
        """
        if not len(events):
            return
        self._follow_sensor(events.width, events.height)
        pixel = self._pixel_of[events.y.astype(np.intp) * events.width + events.x]
        token = (pixel // self._pixels).astype(np.int16)
        order = np.argsort(token, kind="stable")  # patch by patch, in time order within each
        pixel, token, polarity = pixel[order], token[order], np.asarray(events.polarity, bool)[order]
        count = np.bincount(token, minlength=self.config.tokens)
        newer = np.repeat(np.cumsum(count), count) - 1 - np.arange(len(token))  # events of the patch after this one
        weight = np.exp(-newer / self._decay_events[token]).astype(np.float32)
        self._drawing *= np.exp(-count / self._decay_events).astype(np.float32)[:, None]
        share = weight / self._sensor_pixels[pixel]
        channels = self._drawing.reshape(self.config.channels, -1)
        rising, falling, recency = channels[:LIGHT_CHANNELS]
        rising += np.bincount(pixel, np.where(polarity, share, 0), rising.size).astype(np.float32)
        falling += np.bincount(pixel, np.where(polarity, 0, share), falling.size).astype(np.float32)
        recency[pixel] = weight  # of repeated pixels the last one stays
        if self.config.motion_memory_ms:
            moved, directions = self._motion.add(self._row_major[pixel], events.t_us[order], polarity)
            moved = self._patch_major[moved]
            channels[LIGHT_CHANNELS:, moved] = directions * recency[moved]

    def patches(self, positions: np.ndarray | None = None) -> np.ndarray:
        """float32 (N, C P P), or (A, C P P) of the tokens ``positions``: values ``1 - exp(-events per pixel)``, the
        recency and the motion, all in 0..1 and zero where there was nothing; in channel, y, x order."""
        drawing = self._drawing if positions is None else self._drawing[:, positions]
        values = np.array(drawing.transpose(1, 0, 2), order="C")  # (A, C, P P)
        values[:, :RECENCY] = -np.expm1(-values[:, :RECENCY])
        return values.reshape(len(values), self.config.channels * self._pixels)

    def _follow_sensor(self, width: int, height: int) -> None:
        if self._sensor == (width, height):
            return
        if self._sensor is not None:
            raise InputError(
                f"events of a {width}x{height} sensor after those of a {self._sensor[0]}x{self._sensor[1]} one",
                "call reset() and start anew with the other sensor",
            )
        size = self.config.size
        if width < size or height < size:
            raise InputError(
                f"a sensor of {width}x{height} pixels; this model draws events on {size}x{size}",
                "use a model that was trained for such a small sensor",
            )
        self._sensor = (width, height)
        self._pixel_of = pixel_table(width, height, self.config)
        self._sensor_pixels = np.bincount(self._pixel_of, minlength=size * size).astype(np.float32)
        of_patch = self._sensor_pixels.reshape(self.config.tokens, self._pixels).sum(axis=1)
        self._decay_events = self.config.decay_events_per_pixel * of_patch


def pixel_table(width: int, height: int, config: SurfaceConfig) -> np.ndarray:
    """Which pixel of the drawing each sensor pixel (row by row) falls on, int64 (height * width,).

    Pixels of the drawing are counted patch by patch. Patches divide the sensor as EventAccumulator's grid does.
    """
    row, column = (np.arange(n) * config.size // n for n in (height, width))
    patch = (row // config.patch_size)[:, None] * config.grid + column // config.patch_size
    inside = (row % config.patch_size)[:, None] * config.patch_size + column % config.patch_size
    return (patch * config.patch_size**2 + inside).reshape(-1)


def row_major(config: SurfaceConfig) -> np.ndarray:
    """Number of each pixel of the drawing counted row by row, in the order patch by patch, int64 (size * size,)."""
    rows = np.arange(config.size**2).reshape(config.grid, config.patch_size, config.grid, config.patch_size)
    return rows.transpose(0, 2, 1, 3).reshape(-1)
