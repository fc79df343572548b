# SPDX-License-Identifier: Apache-2.0
"""Resident memory of this process, read from /proc (no psutil on board)."""

from __future__ import annotations

import math
from pathlib import Path


def _status_mb(key: str, status: Path) -> float:
    try:
        for line in status.read_text().splitlines():
            if line.startswith(key + ":"):
                return int(line.split()[1]) / 1024.0  # the kernel's "kB" are KiB
    except (OSError, ValueError, IndexError):
        pass
    return math.nan


def rss_mb(status: Path = Path("/proc/self/status")) -> float:
    """Resident memory now, MiB; NaN where the system does not tell."""
    return _status_mb("VmRSS", status)


def peak_rss_mb(status: Path = Path("/proc/self/status")) -> float:
    """Highest resident memory since the process started, MiB; NaN where the system does not tell."""
    return _status_mb("VmHWM", status)
