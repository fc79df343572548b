# SPDX-License-Identifier: Apache-2.0
"""Events between two frames, counted per patch and not stored."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from edge_vlm.observation import Events, EventWindow
from edge_vlm.sources.counted_packet import CountedPacket
from edge_vlm.sources.pixel_events import PixelEvents, pixel_counts

_PENDING_PER_PIXEL = 2  # counting goes over the whole sensor, so it waits until that is worth it


@dataclass(frozen=True)
class HotPixelRule:
    """A pixel is hot where it fires at least ``min_events`` times in a window, and ``ratio`` times as often as the
    mean of its eight neighbours plus one: scenes move edges over neighbouring pixels, defects sit alone."""

    min_events: int = 16
    ratio: float = 8.0

    def find(self, counts: np.ndarray) -> np.ndarray:
        """Flat indices of hot pixels in ``counts`` (height, width)."""
        height, width = counts.shape
        candidates = np.flatnonzero(counts.reshape(-1) >= self.min_events)
        if not len(candidates):
            return candidates
        row, column = np.divmod(candidates, width)
        around = np.zeros(len(candidates), np.int64)
        seen = np.zeros(len(candidates), np.int64)
        for dy, dx in ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1)):
            y, x = row + dy, column + dx
            inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
            around[inside] += counts[y[inside], x[inside]]
            seen += inside
        own = counts.reshape(-1)[candidates]
        return candidates[own >= self.ratio * (around / np.maximum(seen, 1) + 1.0)]


@dataclass
class EventAccumulator:
    """Counts the events of one sensor on a grid of patches, window after window.

    ``grid`` is (rows, columns): the sensor is divided evenly, as the image is, both being squashed to a square.
    Past ``max_events`` in one window the rest goes uncounted and the window says ``overload``. A new sensor size
    starts the window anew. ``counts`` are the window's, but for those of lists of pixels that wait.
    """

    grid: tuple[int, int] = (14, 14)
    hot_pixels: HotPixelRule = field(default_factory=HotPixelRule)
    max_events: int = 4_000_000
    overload: bool = False
    counts: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.int32), repr=False)  # (height, width)
    _pending: list[np.ndarray] = field(default_factory=list, repr=False)
    _pending_count: int = 0
    _total: int = 0
    _outside: int = 0
    _lost: int = 0
    _first_us: int | None = None
    _last_us: int = 0

    def add(self, events: Events, outside: int = 0) -> None:
        """Count the events of one packet; ``outside`` of its events were off the sensor."""
        self.add_pixels(PixelEvents.of(events, outside))

    def add_pixels(self, pixels: PixelEvents | CountedPacket) -> None:
        """Count the events of one packet."""
        self._outside += pixels.outside
        if self._total + pixels.count > self.max_events:
            self.overload = True
        if self.overload and isinstance(pixels, CountedPacket):
            pixels.keep_out_of(self.counts)
        if self.overload or not pixels.count:
            return
        if self.counts.shape != (pixels.height, pixels.width):
            self._drop_counts()
            self.counts = np.zeros((pixels.height, pixels.width), np.int32)
        self._total += pixels.count
        if isinstance(pixels, CountedPacket):
            pixels.put_into(self.counts)
        else:
            self._defer(pixels.flat)
        self._first_us = pixels.first_us if self._first_us is None else min(pixels.first_us, self._first_us)
        self._last_us = max(pixels.last_us, self._last_us)

    def add_lost(self, packets: int) -> None:
        """``packets`` are missing from the sequence."""
        self._lost += packets

    def take(self, duration_us: int | None = None) -> EventWindow:
        """The window so far; the next one begins. ``duration_us``: how long it was, where the caller knows it from
        its frames; else the time from its first to its last event, which is too short where events are few."""
        self._flush()
        span_us = 0 if self._first_us is None else self._last_us - self._first_us
        counts, hot = self._patches()
        window = EventWindow(
            counts=counts,
            total=int(counts.sum()),
            duration_us=span_us if duration_us is None else duration_us,
            outside=self._outside,
            hot_pixels=hot,
            lost=self._lost,
            overload=self.overload,
            pixels_per_patch=self.counts.size / (self.grid[0] * self.grid[1]),
        )
        self.reset()
        return window

    def reset(self) -> None:
        """Drop the window so far."""
        self._drop_counts()
        self.overload = False
        self._outside = self._lost = self._last_us = 0
        self._first_us = None

    def _drop_counts(self) -> None:
        if self._total:
            self.counts.fill(0)
        self._pending = []
        self._pending_count = self._total = 0

    def _defer(self, flat: np.ndarray) -> None:
        self._pending.append(flat)
        self._pending_count += len(flat)
        if self._pending_count > _PENDING_PER_PIXEL * self.counts.size:
            self._flush()

    def _flush(self) -> None:
        if self._pending:
            flat = self._pending[0] if len(self._pending) == 1 else np.concatenate(self._pending)
            self.counts += pixel_counts(flat, *self.counts.shape).astype(np.int32)
            self._pending, self._pending_count = [], 0

    def _patches(self) -> tuple[np.ndarray, int]:
        """Events per patch int32 (rows, columns) without hot pixels, and how many pixels those were."""
        rows, columns = self.grid
        if not self._total:
            return np.zeros(self.grid, np.int32), 0
        hot = self.hot_pixels.find(self.counts)
        self.counts.reshape(-1)[hot] = 0
        summed = _sum_in_parts(self.counts, rows, axis=0)
        return _sum_in_parts(summed, columns, axis=1).astype(np.int32), len(hot)


def _sum_in_parts(counts: np.ndarray, parts: int, axis: int) -> np.ndarray:
    """Sums of ``parts`` even parts along an axis: index i belongs to part i * parts // size."""
    size = counts.shape[axis]
    if size < parts:  # a sensor smaller than the grid leaves parts empty
        shape = [parts if a == axis else n for a, n in enumerate(counts.shape)]
        summed = np.zeros(shape, np.int64)
        part = np.arange(size) * parts // size
        summed[(part,) if axis == 0 else (slice(None), part)] = counts
        return summed
    first = -(-np.arange(parts + 1) * size // parts)  # first index of each part
    if axis == 0:  # whole rows: many times as quick as reduceat
        return np.stack([counts[begin:end].sum(axis=0) for begin, end in zip(first, first[1:], strict=False)])
    return np.add.reduceat(counts, first[:-1], axis=axis)
