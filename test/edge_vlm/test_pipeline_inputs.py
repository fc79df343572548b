# SPDX-License-Identifier: Apache-2.0
"""The pipeline on hard and on bad input: it goes on, stays near full recomputation, and says what it gave up."""

import numpy as np
import pytest
from pipeline_fakes import (
    GRID,
    PERIOD_NS,
    FakeDecoder,
    FakeEncoder,
    background,
    fake_bundle,
    observe,
    relit,
    with_noise,
    with_square,
)

from edge_vlm.observation import Events, EventWindow, Frame, Observation
from edge_vlm.pipeline import CaptionPipeline
from edge_vlm.sources.event_accumulator import EventAccumulator

TOLERANCE = 0.08  # relative error of features that is left alone


def make():
    return CaptionPipeline(fake_bundle(), encoder=FakeEncoder(), decoder=FakeDecoder())


def step(pipeline, image, index, events=None, stamp_ns=None):
    stamp_ns = index * PERIOD_NS if stamp_ns is None else stamp_ns
    return pipeline.step(Observation(Frame(stamp_ns, image), events))


def error(pipeline, image):
    """Relative distance of the features from those of a whole encode of this picture."""
    encoder = FakeEncoder()
    dense = encoder.encode(encoder.patchify(encoder.resize(image)), np.arange(196))
    return np.linalg.norm(pipeline._state.features - dense) / np.linalg.norm(dense)


def warm(pipeline, image, frames=6):
    for index in range(frames):
        step(pipeline, with_noise(image, 3, index), index)
    return frames


def window(counts=None, **options):
    counts = np.zeros(GRID, np.int32) if counts is None else counts
    return EventWindow(counts, int(counts.sum()), PERIOD_NS // 1000, pixels_per_patch=459.0, **options)


def test_slow_drift_of_a_region_is_followed():
    pipeline, image = make(), background()
    start, errors = warm(pipeline, image), []
    for index in range(30):
        scene = image.copy()
        scene[120:240, 160:320] = np.clip(scene[120:240, 160:320] + index, 0, 255)
        step(pipeline, with_noise(scene, 3, index), start + index)
        errors.append(error(pipeline, scene))
    assert max(errors) < TOLERANCE


@pytest.mark.parametrize("frames", [1, 12])
def test_a_lamp_at_once_or_an_exposure_that_follows_leaves_most_tokens_alone(frames):
    pipeline, image = make(), background()
    start, computed = warm(pipeline, image), 0
    for index in range(frames):
        scene = relit(image, 1 + 0.12 * (index + 1) / frames, 0)
        computed += step(pipeline, with_noise(scene, 3, index), start + index).tokens_computed
    assert computed < 0.1 * 196 * max(1, frames // 4)


def test_a_scene_cut_is_whole_at_once():
    pipeline, image = make(), background()
    start = warm(pipeline, image)
    other = background(seed=9)
    report = step(pipeline, other, start)
    assert report.branch == "full" and report.caption_refreshed and error(pipeline, other) < 1e-6


def test_a_shaking_camera_stays_near_full_recomputation():
    pipeline, image = make(), background()
    start, rng = warm(pipeline, image), np.random.default_rng(0)
    for index in range(12):
        scene = np.roll(image, rng.integers(-8, 9, 2), (0, 1))
        step(pipeline, with_noise(scene, 3, index), start + index)
        assert error(pipeline, scene) < 0.25, "fine texture that moved by a pixel or two"
    for index in range(4):
        step(pipeline, with_noise(image, 3, index), start + 12 + index)
    assert error(pipeline, image) < TOLERANCE


def test_dropped_frames_change_nothing_but_the_number_of_steps():
    pipeline, image = make(), background()
    start = warm(pipeline, image)
    moved = with_square(image, 300, 200)
    report = step(pipeline, with_noise(moved, 3, 99), start + 25)
    assert report.tokens_computed > 0 and error(pipeline, moved) < TOLERANCE


def test_no_ghost_after_an_object_that_waited_at_video_rate():
    """At 30 Hz changes wait for company; what has left is gone from the features 140 ms later."""
    pipeline, image = make(), background()
    for index in range(30):
        scene = with_square(image, 200 + 10 * index, 200) if index < 20 else image
        step(pipeline, scene, index, stamp_ns=round(index * 1e9 / 30))
        if index >= 24:
            assert error(pipeline, image) < TOLERANCE


@pytest.mark.parametrize("level", [0, 255])
def test_black_and_saturated_frames_are_named_and_the_scene_comes_back(level):
    pipeline, image = make(), background()
    start = warm(pipeline, image)
    report = step(pipeline, np.full_like(image, level), start)
    assert ("black" if level == 0 else "saturated") in report.degradation[0]
    assert report.branch == "full"
    assert step(pipeline, image, start + 1).degradation == ()
    assert error(pipeline, image) < TOLERANCE


def test_an_event_stream_that_ends_is_named_and_frames_go_on():
    pipeline, image = make(), background()
    assert step(pipeline, image, 0, window()).degradation == ()
    moved = with_square(image, 300, 200)
    report = step(pipeline, moved, 1)
    assert "frames alone" in report.degradation[0] and error(pipeline, moved) < TOLERANCE
    assert step(pipeline, moved, 2, window()).degradation == ()


def test_frames_that_stop_while_events_go_on_find_all_of_them_counted():
    """One frame after 5 s of events: a long window, no overload, and the patches that changed are computed."""
    pipeline, image = make(), background()
    start = warm(pipeline, image)
    accumulator = EventAccumulator(GRID)
    for second in range(5):
        accumulator.add(moving_edge(second * 1_000_000, 20_000))
    events = accumulator.take(5_000_000)
    report = step(pipeline, image, start + 50, events)
    assert not events.overload and report.active.any() and report.tokens_computed < 196


def moving_edge(begin_us, count, width=640, height=480):
    """Events in the middle of the sensor, stamped in order."""
    rng = np.random.default_rng(begin_us)
    t_us = begin_us + np.sort(rng.integers(0, 1_000_000, count))
    x, y = rng.integers(280, 320, count), rng.integers(200, 240, count)
    return Events(x.astype(np.uint16), y.astype(np.uint16), t_us, rng.random(count) < 0.5, width, height)


def test_events_out_of_order_count_as_those_in_order():
    events = moving_edge(0, 5000)
    shuffled = np.random.default_rng(1).permutation(5000)
    mixed = Events(events.x[shuffled], events.y[shuffled], events.t_us[shuffled], events.polarity[shuffled], 640, 480)
    counted = []
    for stream in (events, mixed):
        accumulator = EventAccumulator(GRID)
        accumulator.add(stream)
        counted.append(accumulator.take())
    np.testing.assert_array_equal(counted[0].counts, counted[1].counts)
    assert counted[0].duration_us == counted[1].duration_us


def test_another_sensor_size_in_the_middle_starts_the_window_anew():
    accumulator = EventAccumulator(GRID)
    accumulator.add(moving_edge(0, 3000))
    accumulator.add(moving_edge(1_000_000, 2000, 1280, 720))
    taken = accumulator.take()
    assert taken.total == 2000 and taken.pixels_per_patch == pytest.approx(1280 * 720 / 196)
    assert step(make(), background(), 0, taken).tokens_computed == 196


def test_a_burst_of_50_million_events_a_second_is_an_overload_and_passes():
    """A tenth of a second of it, in packets of a millisecond."""
    pipeline, image, accumulator = make(), background(), EventAccumulator(GRID)
    start = warm(pipeline, image)
    packet = moving_edge(0, 50_000)
    for _ in range(100):
        accumulator.add(packet)
    report = step(pipeline, image, start, accumulator.take(100_000))
    assert report.branch == "full" and "too many events" in report.degradation[0]
    accumulator.add(moving_edge(0, 100))
    report = step(pipeline, image, start + 1, accumulator.take(100_000))
    assert report.degradation == () and report.branch != "full"


def test_lost_packets_hot_pixels_and_foreign_coordinates_are_named():
    report = step(make(), background(), 0, window(lost=2, outside=7, hot_pixels=1))
    assert [note.split()[0] for note in report.degradation] == ["2", "7", "1"]


def test_frames_of_changing_size_begin_anew_each_time():
    pipeline, image = make(), background()
    for index, side in enumerate((480, 240, 240, 480)):
        report = step(pipeline, np.ascontiguousarray(image[:side]), index)
        assert report.reset_reason == ("image size changed" if index in (1, 3) else "")
        assert (report.branch == "full") == (index != 2)


def test_costs_are_those_counted_by_hand():
    pipeline, image = make(), background()
    first = step(pipeline, image, 0)
    assert first.costs["encode"].macs == 196 * (1000 + 6 * 196) + 5000
    assert first.costs["encode"].bytes == 1_000_000 + 196 * (768 * 4 + 4) + 49 * 192 * 4
    per_token, head = 200_000 - 512 * 192, 512 * 192
    attended = sum(position + 1 for position in range(18, 68))  # 50 of 68 prompt tokens
    assert first.costs["prefill"].macs == 50 * per_token + head + 2 * 6 * 192 * attended
    assert first.costs["prefill"].bytes == 2_000_000 + 40 * 192 * 4 + 50 * 8
    attended = sum(position + 1 for position in range(68, 71))
    assert first.costs["decode"].macs == 3 * (per_token + head) + 2 * 6 * 192 * attended
    assert first.costs["decode"].flops == 2 * first.costs["decode"].macs
    assert first.costs["decode"].bytes == 2 * 2_000_000 + 3 * 12
    still = step(pipeline, image, 1)
    assert still.costs["encode"].macs == still.costs["encode"].bytes == 0 and still.tokens_reused == 196
    assert still.costs["change"].bytes == 480 * 640 * 3 + 196 * 48 * 4
    assert still.costs.keys() == {"change", "encode"}


def test_each_caption_carries_its_staleness():
    pipeline, image = make(), background()
    reports = [pipeline.step(observe(image, index)) for index in range(5)]
    assert [report.staleness_ms for report in reports] == [0, 100, 200, 300, 400]
