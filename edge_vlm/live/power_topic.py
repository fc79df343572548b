# SPDX-License-Identifier: Apache-2.0
"""Energy from power samples that somebody else sends: a wattmeter or a battery monitor on a topic."""

from __future__ import annotations

import math
import threading
import time
from collections import deque

from edge_vlm.meters.sensor import integrate_j
from edge_vlm.step_report import Energy

_MAX_SAMPLES = 512
_STALE_S = 5.0


class PushedPowerMeter:
    """An energy meter (see ``edge_vlm.meters.EnergyMeter``) over samples given to ``add`` from any thread.

    A window is given up (``joules=None``) where the newest sample is older than five seconds; between two samples the
    last one is held, and the note says so.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self._lock = threading.Lock()
        self._samples: deque[tuple[float, float]] = deque(maxlen=_MAX_SAMPLES)
        self._refused = ""
        self._begin_s = 0.0

    def add(self, watts: float) -> None:
        """One sample, now. What is no power (NaN, negative) is refused and named in the note."""
        with self._lock:
            if math.isfinite(watts) and watts >= 0.0:
                self._samples.append((time.perf_counter(), float(watts)))
            else:
                self._refused = f"; {watts} W was refused"

    def begin(self) -> None:
        self._begin_s = time.perf_counter()

    def end(self) -> Energy:
        end_s = time.perf_counter()
        with self._lock:
            samples, refused = list(self._samples), self._refused
        if not samples or samples[-1][0] < end_s - _STALE_S:
            age = f"the last is {end_s - samples[-1][0]:.0f} s old" if samples else "none has come"
            return Energy(None, self.source, f"{self.source}: no power sample in the window, {age}{refused}")
        held = "window between two samples" if samples[-1][0] < self._begin_s else ""
        return Energy(integrate_j(samples, self._begin_s, end_s), self.source, held)

    def close(self) -> None:
        """Nothing to release; the subscription is the node's."""
