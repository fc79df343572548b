# SPDX-License-Identifier: Apache-2.0
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

from edge_vlm.live.mailbox import Mailbox
from edge_vlm.live.statistics import LiveStatistics
from edge_vlm.live.worker import Worker
from edge_vlm.meters import rss_mb
from edge_vlm.ros.diagnostics import OK, STALE, WARN, health
from edge_vlm.ros.refused_transitions import refusing
from edge_vlm.runtime.memory_return import MemoryReturn
from edge_vlm.step_report import Caption, Energy, StepReport


def report(**changes):
    values = {
        "index": 0,
        "stamp_ns": 1,
        "frame_id": "camera",
        "branch": "sparse",
        "branch_reason": "test",
        "tokens_computed": 10,
        "tokens_total": 196,
        "caption": Caption("a red ball", 0.9, 1),
        "caption_refreshed": True,
        "caption_reason": "first frame",
        "staleness_ms": 0.0,
        "stage_ms": {},
        "total_ms": 5.0,
        "energy": Energy(None, "none", "no sensor"),
        "encoder_macs": 1,
        "active": np.zeros((14, 14), bool),
    }
    return StepReport(**(values | changes))


def test_newest_image_wins_and_the_replaced_ones_are_counted():
    mailbox = Mailbox()
    for image in ("first", "second", "third"):
        mailbox.put_image(image)
    delivery = mailbox.take(timeout_s=0.0)
    assert delivery.image == "third"
    assert delivery.frames_dropped == 2
    assert mailbox.take(timeout_s=0.0) is None


def test_events_wait_for_the_image_that_follows_them():
    mailbox = Mailbox()
    mailbox.put_events("a", 10)
    mailbox.put_events("b", 10)
    assert mailbox.take(timeout_s=0.0) is None, "events alone are not an observation"
    mailbox.put_image("image")
    assert mailbox.take(timeout_s=0.0).event_packets == ("a", "b")


def test_event_bytes_are_bounded_and_the_loss_is_told():
    mailbox = Mailbox(max_event_bytes=2000)
    for index in range(1000):
        mailbox.put_events(index, 30)
    mailbox.put_image("image")
    delivery = mailbox.take(timeout_s=0.0)
    assert len(delivery.event_packets) <= 3
    assert delivery.events_overflowed


def test_worker_survives_a_failing_frame_and_reports_it():
    mailbox, failures, done = Mailbox(), [], threading.Event()

    def process(delivery):
        if delivery.image == "bad":
            raise ValueError("bad frame")
        done.set()

    worker = Worker(mailbox, process, lambda error, count: failures.append((str(error), count)), backoff_s=0.001)
    worker.start()
    mailbox.put_image("bad")
    deadline = time.monotonic() + 5
    while not failures and time.monotonic() < deadline:
        time.sleep(0.005)
    mailbox.put_image("good")
    assert done.wait(5), "the worker must go on after a failure"
    assert worker.stop()
    assert failures == [("bad frame", 1)]


def test_worker_survives_any_number_of_failures():
    failures, enough = [], threading.Event()

    class Endless(Mailbox):
        def take(self, timeout_s):
            return "bad"

    def failed(error, count):
        failures.append(count)
        if count == 1200:
            enough.set()

    worker = Worker(Endless(), lambda delivery: 1 / 0, failed, backoff_s=0.0)
    worker.start()
    assert enough.wait(5), f"ended after {len(failures)} failures"
    assert worker.stop()


def test_worker_stops_at_once_when_idle():
    worker = Worker(Mailbox(), lambda delivery: None, lambda error, count: None)
    worker.start()
    started = time.monotonic()
    assert worker.stop()
    assert time.monotonic() - started < 1.0


def test_energy_per_caption_is_nan_where_nothing_was_measured():
    statistics = LiveStatistics()
    statistics.processed(report(), frame_age_ms=1.0)
    assert np.isnan(statistics.joules_per_caption())
    statistics.processed(report(energy=Energy(0.5, "rapl")), frame_age_ms=1.0)
    assert statistics.joules_per_caption() == pytest.approx(0.5)
    statistics.processed(report(), frame_age_ms=1.0)
    assert statistics.joules_per_caption() == pytest.approx(0.5), "a sensor that has ceased makes no caption cheaper"


def test_health_is_not_fine_where_nothing_is_described():
    statistics = LiveStatistics()
    for now_s in range(10):
        statistics.arrived(float(now_s))
        if now_s < 3:
            statistics.processed(report(), frame_age_ms=1.0, now_s=float(now_s))
    assert health(statistics, 3.0, 2.0) == (OK, "captioning")
    assert health(statistics, 9.0, 2.0) == (WARN, "images arrive, and none has been described for 7.0 s")
    for _ in range(6):
        statistics.duplicate()
    level, said = health(statistics, 9.0, 2.0)
    assert level == STALE and said.startswith("6 images with the stamp of the one before")
    statistics.processed(report(), frame_age_ms=1.0, now_s=9.5)
    assert health(statistics, 9.6, 2.0) == (OK, "captioning")


def test_a_transition_that_does_not_fit_is_answered_with_no():
    said = []
    request = SimpleNamespace(transition=SimpleNamespace(id=1, label=""))

    def configure(request, response):
        raise RuntimeError("transition is not registered")

    response = refusing(configure, RuntimeError, said.append)(request, SimpleNamespace(success=True))
    assert response.success is False and said == [
        "no such transition in the present state: 1 (transition is not registered)"
    ]
    assert refusing(lambda request, response: "done", RuntimeError, said.append)(None, None) == "done"


def test_a_still_event_camera_is_fine():
    statistics = LiveStatistics()
    statistics.arrived(None)
    statistics.processed(report(), frame_age_ms=1.0, now_s=1.0)
    for now_s in range(2, 9):
        statistics.heard(float(now_s))
        statistics.arrived(None)
        statistics.duplicate()
    assert health(statistics, 8.1, 2.0) == (OK, "captioning")


def test_memory_of_bursts_goes_back_to_the_system():
    memory = MemoryReturn(period_s=0.0)
    blocks = [bytearray(100_000) for _ in range(400)]
    held_mb = rss_mb()
    del blocks[::2], blocks[:-1]
    if not memory.sometimes():
        pytest.skip("this C library has no malloc_trim")
    assert rss_mb() < held_mb - 20.0
    assert not MemoryReturn().sometimes(), "not before ten seconds are over"


def test_reset_forgets_everything():
    statistics = LiveStatistics()
    statistics.arrived(1.0)
    statistics.rejected("unknown encoding")
    statistics.processed(report(), frame_age_ms=1.0)
    statistics.reset()
    assert (statistics.frames_received, statistics.frames_processed, statistics.last_report) == (0, 0, None)
    assert np.isnan(statistics.latency_ms(95))
