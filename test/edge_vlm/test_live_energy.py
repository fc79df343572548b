# SPDX-License-Identifier: Apache-2.0
"""Energy of a live captioner: samples that others send, and the draw between frames."""

import math
import time

from edge_vlm.live.idle_baseline import IdleBaseline
from edge_vlm.live.power_topic import PushedPowerMeter


def measured(meter, seconds: float):
    meter.begin()
    time.sleep(seconds)
    return meter.end()


def test_pushed_samples_are_integrated_over_the_window():
    meter = PushedPowerMeter("topic /power")
    meter.add(10.0)
    begun = time.monotonic()
    energy = measured(meter, 0.05)
    longest_s = time.monotonic() - begun
    assert 10.0 * 0.05 <= energy.joules <= 10.0 * longest_s
    assert energy.source == "topic /power"
    assert energy.note == "window between two samples"


def test_without_samples_there_is_no_figure_and_the_reason():
    meter = PushedPowerMeter("topic /power")
    assert measured(meter, 0.0).joules is None
    meter.add(math.nan)
    meter.add(-3.0)
    energy = measured(meter, 0.0)
    assert energy.joules is None
    assert "none has come" in energy.note
    assert "-3.0 W was refused" in energy.note


def test_samples_that_ceased_are_not_held_for_ever(monkeypatch):
    meter = PushedPowerMeter("topic /power")
    meter.add(10.0)
    later = time.perf_counter() + 60.0
    monkeypatch.setattr("edge_vlm.live.power_topic.time.perf_counter", lambda: later)
    meter.begin()
    energy = meter.end()
    assert energy.joules is None
    assert "the last is 60 s old" in energy.note


def test_idle_power_is_what_is_drawn_between_frames():
    power = PushedPowerMeter("topic /power")
    meter = IdleBaseline(power)
    assert math.isnan(meter.idle_power_w)
    power.add(30.0)
    measured(meter, 0.02)
    power.add(5.0)
    time.sleep(0.05)
    power.add(5.0)
    assert measured(meter, 0.01).joules >= 5.0 * 0.01
    assert 4.0 < meter.idle_power_w < 8.0
