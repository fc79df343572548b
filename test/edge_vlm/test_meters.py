# SPDX-License-Identifier: Apache-2.0
"""Latency and memory."""

import math
import time

import numpy as np
import pytest

from edge_vlm.meters import Durations, StageClock, peak_rss_mb, rss_mb, summarize


def test_stages_add_up_and_fit_into_the_total():
    clock = StageClock()
    for _ in range(2):
        with clock.stage("encode"):
            time.sleep(0.002)
    clock.add("decode", 5.0)
    assert clock.stage_ms["encode"] >= 4.0 and clock.stage_ms["decode"] == 5.0
    assert clock.total_ms() >= clock.stage_ms["encode"]


def test_a_stage_that_raises_is_measured_too():
    clock = StageClock()
    with pytest.raises(RuntimeError), clock.stage("encode"):
        raise RuntimeError
    assert "encode" in clock.stage_ms


def test_summary_of_durations():
    summary = summarize(float(value) for value in range(1, 101))
    assert (summary.count, summary.mean_ms, summary.p50_ms, summary.max_ms) == (100, 50.5, 50.5, 100.0)
    assert summary.p95_ms == pytest.approx(95.05) and summary.p99_ms == pytest.approx(99.01)
    assert summarize([]).count == 0 and summarize([]).p95_ms == 0.0


def test_durations_of_ten_days_take_bounded_memory(monkeypatch):
    monkeypatch.setattr("edge_vlm.meters.latency.MOST_DURATIONS", 100)
    durations = Durations()
    for value in range(1, 10_001):
        durations.add(float(value))
    summary = durations.summary()
    assert (summary.count, summary.mean_ms, summary.max_ms) == (10_000, 5000.5, 10_000.0)
    assert len(durations.kept) <= 100 and summary.p50_ms == pytest.approx(5000, rel=0.05)
    assert summary.p95_ms == pytest.approx(9500, rel=0.05)
    assert Durations().summary() == summarize([])


def test_resident_memory_follows_an_allocation():
    before = rss_mb()
    block = np.ones(200 << 20, np.uint8)
    assert rss_mb() - before > 100  # systems may take back other pages of a long run meanwhile
    assert peak_rss_mb() >= rss_mb() - 1
    del block


def test_memory_is_nan_where_the_system_does_not_tell(tmp_path):
    assert math.isnan(rss_mb(tmp_path / "status"))
    (tmp_path / "status").write_text("VmRSS:\t  2048 kB\nVmHWM:\t  broken\n")
    assert rss_mb(tmp_path / "status") == 2.0
    assert math.isnan(peak_rss_mb(tmp_path / "status"))
