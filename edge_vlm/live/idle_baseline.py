# SPDX-License-Identifier: Apache-2.0
"""The power that is drawn between frames, so that what captioning adds to it can be told apart."""

from __future__ import annotations

import math
import time
from collections import deque

from edge_vlm.meters import EnergyMeter
from edge_vlm.step_report import Energy

_WINDOWS = 256
_SHORTEST_S = 0.005  # a shorter pause says nothing about a sensor that is read every few milliseconds
_LONGEST_S = 60.0  # counters of processors wrap around after half an hour


class IdleBaseline:
    """An energy meter around another one: the pauses between its windows are measured too."""

    def __init__(self, meter: EnergyMeter) -> None:
        self._meter = meter
        self._idle_since_s: float | None = None
        self._pauses: deque[tuple[float, float]] = deque(maxlen=_WINDOWS)  # joules, seconds

    @property
    def source(self) -> str:
        return self._meter.source

    @property
    def idle_power_w(self) -> float:
        """Mean over the last pauses; NaN where none could be measured."""
        pauses = list(self._pauses)
        seconds = sum(pause_s for _, pause_s in pauses)
        return sum(joules for joules, _ in pauses) / seconds if seconds else math.nan

    def begin(self) -> None:
        if self._idle_since_s is not None:
            pause_s = time.perf_counter() - self._idle_since_s
            joules = self._meter.end().joules
            if joules is not None and _SHORTEST_S <= pause_s <= _LONGEST_S:
                self._pauses.append((joules, pause_s))
        self._meter.begin()

    def end(self) -> Energy:
        energy = self._meter.end()
        self._meter.begin()
        self._idle_since_s = time.perf_counter()
        return energy

    def close(self) -> None:
        self._meter.close()
