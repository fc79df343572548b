# SPDX-License-Identifier: Apache-2.0
"""Hands memory that bursts have freed back to the system: glibc keeps it, and over days its heaps creep."""

from __future__ import annotations

import ctypes
import time

PERIOD_S = 10.0


class MemoryReturn:
    """``sometimes()`` may be called as often as one likes; it acts every ten seconds, for a millisecond or so."""

    def __init__(self, period_s: float = PERIOD_S) -> None:
        self._period_s = period_s
        self._last_s = time.monotonic()
        self._trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # other C libraries have none

    def sometimes(self) -> bool:
        """Whether memory was looked through this time."""
        now_s = time.monotonic()
        if self._trim is None or now_s - self._last_s < self._period_s:
            return False
        self._last_s = now_s
        self._trim(0)
        return True
