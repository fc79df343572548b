# SPDX-License-Identifier: Apache-2.0
"""Stamps of frames as they come: missing, impossible, or running backward."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass
class StampFollower:
    """Turns header stamps into nanoseconds and counts what is odd about them.

    ``replaced`` counts stamps that are zero or impossible (negative, past 2038, nanoseconds past a second, NaN), where
    the time of receipt is used; ``backward`` those before their predecessor. ``jumped_back`` and ``interval_us`` (since
    the one before; None at the start and after a jump back) are about the last one.
    """

    replaced: int = 0
    backward: int = 0
    jumped_back: bool = False
    interval_us: int | None = None
    _last_ns: int | None = None

    def reset(self) -> None:
        """Forget the last stamp; the counters stay."""
        self._last_ns, self.jumped_back, self.interval_us = None, False, None

    def follow(self, sec: float, nanosec: float, receive_ns: int) -> int:
        """The frame's stamp in ns, from a header's fields (integers, or seconds as a float with ``nanosec`` 0)."""
        usable = math.isfinite(sec) and math.isfinite(nanosec) and 0 <= sec < 2**31 and 0 <= nanosec < 1_000_000_000
        stamp_ns = round(sec * 1_000_000_000 + nanosec) if usable else 0
        if stamp_ns <= 0:
            self.replaced += 1
            stamp_ns = receive_ns
        self.jumped_back = self._last_ns is not None and stamp_ns < self._last_ns
        self.backward += self.jumped_back
        first = self._last_ns is None or self.jumped_back
        self.interval_us = None if first else (stamp_ns - self._last_ns) // 1000
        self._last_ns = stamp_ns
        return stamp_ns
