# SPDX-License-Identifier: Apache-2.0
"""The pipeline at the end of a mailbox: one delivery in, at most one report out, every frame accounted for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from edge_vlm.errors import InputError
from edge_vlm.live.mailbox import Delivery
from edge_vlm.live.observer import LiveObserver, rejection
from edge_vlm.live.statistics import LiveStatistics
from edge_vlm.observation import Observation
from edge_vlm.step_report import Caption, StepReport


@dataclass
class CaptionRequest:
    """Somebody waits for a caption of the next frame. ``done`` is set once ``caption`` or ``error`` is there."""

    caption: Caption | None = None
    error: str = ""
    done: threading.Event = field(default_factory=threading.Event)

    def fail(self, error: str) -> None:
        self.error = error
        self.done.set()


class LiveCaptioner:
    """Owns a pipeline and feeds it what the worker takes out of the mailbox.

    ``open_pipeline`` makes the pipeline, at first in the constructor and again after a failure or for new settings.
    ``now_ns`` is the clock of the stamps. ``on_step(observation, report)`` is called on the worker's thread.
    Requests may come from any thread; they are carried out before the next frame.
    """

    def __init__(
        self,
        open_pipeline: Callable[[], object],
        now_ns: Callable[[], int],
        on_step: Callable[[Observation, StepReport], None],
        statistics: LiveStatistics | None = None,
    ) -> None:
        self.statistics = statistics or LiveStatistics()
        self.observer = LiveObserver()
        self._open_pipeline, self._now_ns, self._on_step = open_pipeline, now_ns, on_step
        self._pipeline = open_pipeline()
        self._busy = threading.Lock()
        self._requests = threading.Lock()
        self._reset_reason = ""
        self._reopen = self._broken = False
        self._closed = self._released = False
        self._waiting: list[CaptionRequest] = []

    @property
    def grid(self) -> tuple[int, int]:
        return self._pipeline.grid

    @property
    def energy_source(self) -> str:
        return getattr(self._pipeline, "energy_source", "")

    def request_reset(self, reason: str) -> None:
        """Forget all past frames before the next one."""
        with self._requests:
            self._reset_reason = reason

    def request_reopen(self) -> None:
        """Make the pipeline anew before the next frame, for other settings. Where that fails, what there is goes on."""
        with self._requests:
            self._reopen = True

    def request_caption(self) -> CaptionRequest:
        """Decode a caption of the next frame whatever the scene does."""
        request = CaptionRequest()
        with self._requests:
            self._waiting.append(request)
        return request

    def fail_requests(self, reason: str) -> None:
        """Nobody will answer: tell those who wait."""
        with self._requests:
            waiting, self._waiting = self._waiting, []
        for request in waiting:
            request.fail(reason)

    def process(self, delivery: Delivery) -> None:
        """One delivery. Raises what the pipeline raises for reasons other than the image; it is then made anew."""
        self.statistics.dropped(delivery.frames_dropped)
        with self._busy:
            try:
                if not self._closed:
                    self._process(delivery)
            except Exception:
                self._broken = True
                raise
            finally:
                if self._closed:
                    self._release()

    def close(self, timeout_s: float = 1.0) -> None:
        """Release the pipeline: now, or by the worker once it is done with the frame in hand."""
        self.fail_requests("the captioner was closed")
        self._closed = True
        if self._busy.acquire(timeout=timeout_s):
            self._release()
            self._busy.release()

    def _release(self) -> None:
        if not self._released:
            self._released = True
            self._pipeline.close()

    def _process(self, delivery: Delivery) -> None:
        started_s = time.perf_counter()
        wanted = self._carry_out_requests()
        try:
            observation = self.observer.observe(delivery)
            if observation is None:
                self.statistics.duplicate()
                self._put_back(wanted)
                return
            report = self._pipeline.step(observation)
        except InputError as error:
            self.statistics.rejected(rejection(error), time.monotonic())
            self._put_back(wanted)
            return
        except Exception as error:
            for request in wanted:
                request.fail(str(error))
            raise
        age_ms = (self._now_ns() - report.stamp_ns) * 1e-6
        self.statistics.processed(report, age_ms, (time.perf_counter() - started_s) * 1e3, time.monotonic())
        for request in wanted:
            request.caption = report.caption
            request.done.set()
        self._on_step(observation, report)

    def _carry_out_requests(self) -> list[CaptionRequest]:
        with self._requests:
            reopen, self._reopen = self._reopen, False
            reset_reason, self._reset_reason = self._reset_reason, ""
            wanted, self._waiting = self._waiting, []
        if reopen or self._broken:
            try:
                fresh = self._open_pipeline()
            except Exception as error:
                if self._broken:
                    self._put_back(wanted)
                    raise
                self.statistics.settings_error = str(error)
                for request in wanted:
                    request.fail(str(error))
                wanted = []
            else:
                self._pipeline.close()
                self._pipeline, self._broken = fresh, False
                self.statistics.settings_error = ""
        if reset_reason:
            self.observer.reset()
            self._pipeline.reset(reset_reason)
        if wanted:
            self._pipeline.request_caption()
        return wanted

    def _put_back(self, wanted: list[CaptionRequest]) -> None:
        with self._requests:
            self._waiting = wanted + self._waiting
