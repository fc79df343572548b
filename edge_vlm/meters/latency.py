# SPDX-License-Identifier: Apache-2.0
"""Wall-clock time per stage, on the monotonic clock."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np


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
