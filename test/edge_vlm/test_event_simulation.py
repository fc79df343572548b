# SPDX-License-Identifier: Apache-2.0
"""Simulated events against the pixel model: numbers, places, times, noise, rest."""

import math

import numpy as np
import pytest

from edge_vlm.errors import InputError
from edge_vlm.sources.event_simulation import EventSimulator, SimulatorConfig

WIDTH, HEIGHT = 40, 30
QUIET = SimulatorConfig(threshold_spread=0.0, noise_hz=0.0, refractory_us=0)


def grey(level: int) -> np.ndarray:
    return np.full((HEIGHT, WIDTH, 3), level, np.uint8)


def test_the_first_frame_and_unchanged_frames_give_no_events():
    simulator = EventSimulator(WIDTH, HEIGHT, QUIET)
    assert [len(simulator.step(grey(90), t)) for t in (0, 1000, 2000)] == [0, 0, 0]


@pytest.mark.parametrize(("start", "end"), [(40, 160), (160, 40)])
def test_a_step_of_light_fires_once_per_threshold_with_its_sign_and_in_time_order(start, end):
    simulator = EventSimulator(WIDTH, HEIGHT, QUIET)
    simulator.step(grey(start), 1000)
    events = simulator.step(grey(end), 51_000)
    expected = int(abs(math.log((end + 12) / (start + 12))) / QUIET.threshold)
    assert len(events) == expected * WIDTH * HEIGHT
    assert (events.polarity == (end > start)).all()
    assert np.all(np.diff(events.t_us) >= 0)
    times = np.unique(events.t_us)
    assert len(times) == expected
    assert times[0] > 1000
    assert times[-1] <= 51_000
    assert np.allclose(np.diff(times), np.diff(times).mean(), atol=2)  # straight between the frames


def test_small_changes_add_up_over_frames():
    simulator = EventSimulator(WIDTH, HEIGHT, QUIET)
    counts = [len(simulator.step(grey(100 + 2 * n), 10_000 * n)) // (WIDTH * HEIGHT) for n in range(30)]
    assert max(counts) == 1
    assert sum(counts) == int(math.log((158 + 12) / (100 + 12)) / QUIET.threshold)


def test_events_lie_where_the_picture_changes():
    simulator = EventSimulator(WIDTH, HEIGHT, QUIET)
    simulator.step(grey(60), 0)
    moved = grey(60)
    moved[5:10, 12:20] = 220
    events = simulator.step(moved, 10_000)
    assert (events.y.min(), events.y.max(), events.x.min(), events.x.max()) == (5, 9, 12, 19)
    assert events.polarity.all()


def test_a_resting_pixel_does_not_fire():
    restless, resting = (
        EventSimulator(WIDTH, HEIGHT, SimulatorConfig(threshold_spread=0.0, noise_hz=0.0, refractory_us=rest))
        for rest in (0, 3000)
    )
    for simulator in (restless, resting):
        simulator.step(grey(10), 0)
    many, few = restless.step(grey(250), 10_000), resting.step(grey(250), 10_000)
    assert len(few) < len(many)
    per_pixel = few.t_us[(few.x == 3) & (few.y == 4)]
    assert np.all(np.diff(per_pixel) >= 3000)


def test_background_noise_has_its_rate():
    simulator = EventSimulator(WIDTH, HEIGHT, SimulatorConfig(noise_hz=2.0))
    simulator.step(grey(90), 0)
    events = simulator.step(grey(90), 1_000_000)
    assert len(events) == pytest.approx(2.0 * WIDTH * HEIGHT, rel=0.1)
    assert 0.4 < events.polarity.mean() < 0.6


def test_the_same_frames_give_the_same_events():
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8) for _ in range(4)]
    simulator = EventSimulator(WIDTH, HEIGHT)

    def all_events():
        simulator.reset()
        return [(e.x.tolist(), e.t_us.tolist()) for e in (simulator.step(f, 10_000 * n) for n, f in enumerate(frames))]

    assert all_events() == all_events()


def test_wrong_sizes_and_times_are_input_errors():
    simulator = EventSimulator(WIDTH, HEIGHT)
    with pytest.raises(InputError, match="frame size"):
        simulator.step(np.zeros((8, 8, 3), np.uint8), 0)
    simulator.step(grey(1), 1000)
    with pytest.raises(InputError, match="backward"):
        simulator.step(grey(1), 1000)
