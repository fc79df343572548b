# SPDX-License-Identifier: Apache-2.0
"""Hands memory that bursts have freed back to the system every ten seconds, and keeps it at hand in between.

glibc does neither well by itself: it returns the pages of a large array as soon as that is freed, so that the next
frame's page faults cost as much as counting its events; what lies between small blocks it keeps, and over days its
heaps creep.
"""

from __future__ import annotations

import ctypes
import time

PERIOD_S = 10.0
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_MMAP_THRESHOLD = 32 << 20  # bytes, the most that glibc takes
_TRIM_THRESHOLD = 128 << 20


class MemoryReturn:
    """``sometimes()`` may be called as often as one likes; it acts every ten seconds, for a millisecond or so."""

    def __init__(self, period_s: float = PERIOD_S) -> None:
        self._period_s = period_s
        self._last_s = time.monotonic()
        library = ctypes.CDLL(None)
        self._trim = getattr(library, "malloc_trim", None)  # other C libraries have none
        if self._trim is not None:
            library.mallopt(_M_MMAP_THRESHOLD, _MMAP_THRESHOLD)
            library.mallopt(_M_TRIM_THRESHOLD, _TRIM_THRESHOLD)

    def sometimes(self) -> bool:
        """Whether memory was looked through this time."""
        now_s = time.monotonic()
        if self._trim is None or now_s - self._last_s < self._period_s:
            return False
        self._last_s = now_s
        self._trim(0)
        return True
