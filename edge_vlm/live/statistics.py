# SPDX-License-Identifier: Apache-2.0
"""Running figures of a live captioner, kept in constant memory; the ROS diagnostics are read from here."""

from __future__ import annotations

import threading
from collections import Counter, deque
from dataclasses import dataclass, field

import numpy as np

from edge_vlm.step_report import Energy, StepReport

_WINDOW = 256  # frames in the moving latency figures
_NEW_STREAM_S = 10.0  # without a frame: what comes then is not late for what came before


@dataclass
class LiveStatistics:
    """Counts since configuration and latencies over the last 256 frames. Thread-safe; ``reset()`` starts again.

    Every frame that was received is processed, dropped, rejected, a duplicate, failed, or still waiting or in hand.
    """

    frames_received: int = 0
    frames_processed: int = 0
    frames_dropped: int = 0
    frames_rejected: Counter[str] = field(default_factory=Counter)
    frames_duplicate: int = 0
    frames_failed: int = 0
    messages_lost: int = 0
    captions: int = 0
    resets: int = 0
    failures_in_a_row: int = 0
    last_error: str = ""
    settings_error: str = ""  # why the last change of settings is not in use
    last_arrival_s: float | None = None  # steady clock
    last_rejection_s: float = float("-inf")
    last_result_s: float | None = None  # steady clock; when a frame was processed, or the first of a stream came
    duplicates_in_a_row: int = 0
    drawn: bool = False  # frames are drawn from events: none comes where nothing moves
    last_report: StepReport | None = None
    joules: float = 0.0
    captions_measured: int = 0
    measured_s: float = 0.0
    _latency_ms: deque[float] = field(default_factory=lambda: deque(maxlen=_WINDOW))
    _frame_age_ms: deque[float] = field(default_factory=lambda: deque(maxlen=_WINDOW))
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def arrived(self, now_s: float | None) -> None:
        """One frame came in; ``now_s`` None where it is none of a camera but drawn from events."""
        with self._lock:
            self.frames_received += 1
            self.drawn = now_s is None
            if now_s is not None:
                if self.last_arrival_s is None or now_s - self.last_arrival_s > _NEW_STREAM_S:
                    self.last_result_s = now_s
                self.last_arrival_s = now_s

    def heard(self, now_s: float) -> None:
        """The sensor is alive, without a frame."""
        with self._lock:
            self.last_arrival_s = now_s

    def dropped(self, count: int) -> None:
        with self._lock:
            self.frames_dropped += count

    def rejected(self, reason: str, now_s: float = 0.0) -> None:
        """One frame cannot be used; ``now_s`` on the steady clock."""
        with self._lock:
            self.frames_rejected[reason] += 1
            self.last_rejection_s = now_s

    def duplicate(self) -> None:
        with self._lock:
            self.frames_duplicate += 1
            self.duplicates_in_a_row += 1

    def lost(self, count: int) -> None:
        with self._lock:
            self.messages_lost += count

    def failed(self, error: str, in_a_row: int) -> None:
        with self._lock:
            self.frames_failed += 1
            self.last_error, self.failures_in_a_row = error, in_a_row

    def processed(
        self, report: StepReport, frame_age_ms: float, latency_ms: float | None = None, now_s: float | None = None
    ) -> None:
        """``frame_age_ms`` from the frame's stamp to its result; ``latency_ms`` from taking it out of the mailbox to
        its result (None: the pipeline's own time), decoding of the messages included; ``now_s`` on the steady clock
        (None: when the last frame came)."""
        with self._lock:
            self.frames_processed += 1
            self.failures_in_a_row = self.duplicates_in_a_row = 0
            self.last_result_s = self.last_arrival_s if now_s is None else now_s
            self.captions += report.caption_refreshed
            self.resets += bool(report.reset_reason)
            self.last_report = report
            self._frame_age_ms.append(frame_age_ms)
            self._latency_ms.append(report.total_ms if latency_ms is None else latency_ms)
            if report.energy.joules is not None:
                self.joules += report.energy.joules
                self.captions_measured += report.caption_refreshed
                self.measured_s += report.total_ms * 1e-3

    def latency_ms(self, percentile: float) -> float:
        """NaN before the first frame."""
        with self._lock:
            return float(np.percentile(self._latency_ms, percentile)) if self._latency_ms else float("nan")

    def frame_age_ms(self, percentile: float) -> float:
        """NaN before the first frame."""
        with self._lock:
            return float(np.percentile(self._frame_age_ms, percentile)) if self._frame_age_ms else float("nan")

    def joules_per_caption(self) -> float:
        """Of the frames that could be measured; NaN where none could, or nothing has been said in them yet."""
        with self._lock:
            return self.joules / self.captions_measured if self.captions_measured else float("nan")

    def average_power_w(self) -> float:
        """While frames were being computed; NaN where none could be measured."""
        with self._lock:
            return self.joules / self.measured_s if self.measured_s else float("nan")

    @property
    def energy(self) -> Energy:
        with self._lock:
            return self.last_report.energy if self.last_report else Energy(None, "none", "no frame yet")

    def reset(self) -> None:
        fresh = LiveStatistics()
        with self._lock:
            lock = self._lock
            self.__dict__.update(fresh.__dict__)
            self._lock = lock
