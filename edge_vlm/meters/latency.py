# SPDX-License-Identifier: Apache-2.0
"""Wall-clock time per stage, on the monotonic clock."""

from __future__ import annotations

import time
from array import array
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np

MOST_DURATIONS = 1 << 17


@dataclass
class StageClock:
    """Milliseconds per named stage of one frame. ``with clock.stage("encode"): ...``; a stage entered twice adds up."""

    stage_ms: dict[str, float] = field(default_factory=dict)
    started_s: float = field(default_factory=time.perf_counter)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.add(name, (time.perf_counter() - begin) * 1e3)

    def add(self, name: str, duration_ms: float) -> None:
        self.stage_ms[name] = self.stage_ms.get(name, 0.0) + duration_ms

    def total_ms(self) -> float:
        """Milliseconds since the clock was made, stages and what lies between them."""
        return (time.perf_counter() - self.started_s) * 1e3


@dataclass
class Durations:
    """Milliseconds of any number of frames in bounded memory: count, sum and maximum of all; for the percentiles all of
    them at first, later every 2nd, every 4th and so on."""

    count: int = 0
    sum_ms: float = 0.0
    max_ms: float = 0.0
    kept: array = field(default_factory=lambda: array("d"))
    every: int = 1

    def add(self, duration_ms: float) -> None:
        if self.count % self.every == 0:
            self.kept.append(duration_ms)
            if len(self.kept) > MOST_DURATIONS:
                self.kept, self.every = self.kept[::2], 2 * self.every
        self.count += 1
        self.sum_ms += duration_ms
        self.max_ms = max(self.max_ms, duration_ms)

    def summary(self) -> LatencySummary:
        if not self.count:
            return summarize(())
        mean_ms = self.sum_ms / self.count
        return replace(summarize(self.kept), count=self.count, mean_ms=mean_ms, max_ms=self.max_ms)


@dataclass(frozen=True)
class LatencySummary:
    """Milliseconds. All zero, ``count`` too, where nothing was measured."""

    count: int
    mean_ms: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float


def summarize(durations_ms: Iterable[float]) -> LatencySummary:
    """Mean, percentiles and maximum of durations in milliseconds."""
    values = np.fromiter(durations_ms, dtype=np.float64)
    if values.size == 0:
        return LatencySummary(0, 0.0, 0.0, 0.0, 0.0, 0.0)
    p50, p95, p99 = np.percentile(values, (50, 95, 99))
    return LatencySummary(
        int(values.size), float(values.mean()), float(p50), float(p95), float(p99), float(values.max())
    )
