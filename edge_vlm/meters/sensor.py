# SPDX-License-Identifier: Apache-2.0
"""Reading sysfs, and the integration of power samples that all power sensors share."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from edge_vlm.step_report import Energy

_MAX_SAMPLES = 512  # the newest; 12 s at 40 Hz, a window is one frame
_STALE_PERIODS = 10


class SensorUnavailable(Exception):
    """This sensor cannot be used here; the message names it, the reason and, where there is one, the remedy."""


def read_integer(path: Path) -> int:
    """The number in a sysfs file. Raises OSError or ValueError."""
    return int(path.read_text().strip())


def read_text(path: Path, default: str = "") -> str:
    """The stripped text of a sysfs file, ``default`` where it cannot be read."""
    try:
        return path.read_text().strip()
    except OSError:
        return default


def integrate_j(samples: Sequence[tuple[float, float]], begin_s: float, end_s: float) -> float:
    """Joules between two times from ``(time_s, watts)`` samples: linear between samples, held beyond the outer ones.

    Raises ValueError where there is no sample.
    """
    if not samples:
        raise ValueError("no sample")
    times, watts = zip(*samples, strict=True)
    inside = [time_s for time_s in times if begin_s < time_s < end_s]
    points = np.array([begin_s, *inside, end_s])
    power = np.interp(points, times, watts)
    return float((0.5 * (power[1:] + power[:-1]) * np.diff(points)).sum())


class PowerIntegrator:
    """Integrates a power sensor over windows; a thread of its own samples it from the first window until ``close``.

    ``read_watts`` may raise OSError or ValueError: that sample is lost. A window is given up (``joules=None``) when
    the newest sample is older than ``_STALE_PERIODS`` sampling periods. The thread runs on between windows: a
    sensor that takes milliseconds to read must not be read in the frame's own time.
    """

    def __init__(self, read_watts: Callable[[], float], source: str, rate_hz: float, note: str = "") -> None:
        self.source = source
        self._read_watts, self._note = read_watts, note
        self._period_s = 1.0 / rate_hz
        self._lock = threading.Lock()
        self._samples: deque[tuple[float, float]] = deque(maxlen=_MAX_SAMPLES)
        self._failure = ""
        self._begin_s = 0.0
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        """Starts a window; the first call takes the first sample and starts the thread."""
        if self._thread is None:
            self._closing.clear()
            self._sample()
            self._thread = threading.Thread(target=self._run, name="edge_vlm power meter", daemon=True)
            self._thread.start()
        self._begin_s = time.perf_counter()

    def end(self) -> Energy:
        """Ends the window. ``note`` says so where no sample fell into it and the last one was held."""
        end_s = time.perf_counter()
        with self._lock:
            samples, failure = list(self._samples), self._failure
        if not samples or samples[-1][0] < end_s - _STALE_PERIODS * self._period_s:
            return Energy(None, self.source, f"{self.source}: no good sample in the window ({failure or 'too slow'})")
        held = samples[-1][0] < self._begin_s
        note = "; ".join(part for part in (self._note, "window between two samples" if held else "") if part)
        return Energy(integrate_j(samples, self._begin_s, end_s), self.source, note)

    def close(self) -> None:
        self._closing.set()
        if self._thread is not None:
            self._thread.join(timeout=2.0)
            self._thread = None

    def _sample(self) -> None:
        try:
            watts = self._read_watts()
        except (OSError, ValueError) as error:
            with self._lock:
                self._failure = str(error)
            return
        with self._lock:
            self._samples.append((time.perf_counter(), watts))

    def _run(self) -> None:
        while not self._closing.wait(self._period_s):
            self._sample()
