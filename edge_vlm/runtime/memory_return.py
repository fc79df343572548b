# SPDX-License-Identifier: Apache-2.0
"""Hands freed memory back to the system: glibc keeps what bursts leave behind, and over days its heaps creep."""

from __future__ import annotations

import ctypes
import time

PERIOD_S = 10.0
_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # other C libraries have none


def return_freed_memory() -> bool:
    """Takes a millisecond or so. False where the C library cannot."""
    if _trim is None:
        return False
    _trim(0)
    return True


class MemoryReturn:
    """``sometimes()`` may be called as often as one likes; it acts every ten seconds."""

    def __init__(self, period_s: float = PERIOD_S) -> None:
        self._period_s = period_s
        self._last_s = time.monotonic()

    def sometimes(self) -> bool:
        """Whether memory was looked through this time."""
        now_s = time.monotonic()
        if now_s - self._last_s < self._period_s:
            return False
        self._last_s = now_s
        return return_freed_memory()
