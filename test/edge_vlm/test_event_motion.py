# SPDX-License-Identifier: Apache-2.0
"""The motion channels of event frames: which way an edge moves is seen, and only where events tell it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from tiny_event_model import write_event_model

from edge_vlm.errors import BundleError
from edge_vlm.events.model import EventModel
from edge_vlm.events.surface import LIGHT_CHANNELS, EventSurface, SurfaceConfig
from edge_vlm.observation import Events
from edge_vlm.sources.event_clip import clip_between

RIGHT, LEFT, DOWN, UP = range(LIGHT_CHANNELS, LIGHT_CHANNELS + 4)
SURFACE = SurfaceConfig(grid=4, patch_size=4, decay_events_per_pixel=4.0, motion_memory_ms=100.0)
SIDE = 32  # of the sensor


def edge(to: int, polarity: bool = True, pixel_us: int = 2000, length: int = SIDE) -> Events:
    """An edge across the whole sensor that moves one pixel in ``pixel_us``, over ``length`` pixels."""
    step, along = (part.reshape(-1) for part in np.mgrid[0:length, 0:SIDE])
    place = step if to in (RIGHT, DOWN) else SIDE - 1 - step
    x, y = (place, along) if to in (RIGHT, LEFT) else (along, place)
    t_us = 1000 + step * pixel_us
    return Events(x.astype(np.uint16), y.astype(np.uint16), t_us, np.full(len(x), polarity), SIDE, SIDE)


def drawn(*parts: Events) -> np.ndarray:
    """(grid, grid, channels): the means of the patches, drawn in steps of 50 ms."""
    surface = EventSurface(SURFACE)
    for events in parts:
        for begin_us in range(0, int(events.t_us[-1]) + 1, 50_000):
            surface.add(clip_between(events, begin_us, begin_us + 50_000))
    return surface.patches().reshape(SURFACE.grid, SURFACE.grid, SURFACE.channels, -1).mean(axis=3)


@pytest.mark.parametrize("to", [RIGHT, LEFT, DOWN, UP])
@pytest.mark.parametrize("polarity", [True, False])
@pytest.mark.parametrize("pixel_us", [500, 5000])
def test_an_edge_is_seen_to_move_where_it_moves(to, polarity, pixel_us):
    motion = drawn(edge(to, polarity, pixel_us))[..., LIGHT_CHANNELS:]
    own = to - LIGHT_CHANNELS
    assert (motion[..., own] > 0.2).all()
    assert (np.delete(motion, own, axis=2) < 0.05 * motion[..., own : own + 1]).all()


def test_a_patch_without_events_keeps_its_motion_bit_for_bit():
    surface = EventSurface(SURFACE)
    surface.add(edge(RIGHT))
    before = surface.patches()
    surface.add(edge(DOWN, length=8))  # the uppermost row of patches alone
    after = surface.patches()
    np.testing.assert_array_equal(after[4:], before[4:])
    assert (after[:4] != before[:4]).any(axis=1).all()
    upper = after[:4].reshape(4, SURFACE.channels, -1).mean(axis=2)
    assert (upper[:, DOWN] > upper[:, RIGHT]).all()  # the later movement has faded the earlier one


def test_light_that_changes_at_once_is_no_movement():
    y, x = (part.reshape(-1) for part in np.mgrid[0:SIDE, 0:SIDE])
    flash = Events(x.astype(np.uint16), y.astype(np.uint16), np.full(len(x), 1000), np.ones(len(x), bool), SIDE, SIDE)
    picture = drawn(flash)
    assert (picture[..., :LIGHT_CHANNELS] > 0).any()
    assert not picture[..., LIGHT_CHANNELS:].any()


def test_an_edge_that_stopped_long_ago_is_no_part_of_a_new_movement():
    old, new = edge(LEFT, length=SIDE), edge(RIGHT, length=8)
    later = Events(new.x, new.y, new.t_us + 1_000_000, new.polarity, SIDE, SIDE)
    left_column = drawn(old, later)[:, 0]
    assert (left_column[:, RIGHT] > left_column[:, LEFT]).all()


def test_reset_forgets_movement():
    surface = EventSurface(SURFACE)
    surface.add(edge(LEFT))
    surface.reset()
    assert not surface.patches().any()
    surface.add(edge(RIGHT))
    fresh = EventSurface(SURFACE)
    fresh.add(edge(RIGHT))
    np.testing.assert_array_equal(surface.patches(), fresh.patches())


def test_a_model_of_an_earlier_version_has_no_motion_and_an_absurd_memory_is_refused(tmp_path):
    folder = write_event_model(tmp_path / "model")
    path = folder / "event_model.json"
    values = json.loads(path.read_text())
    del values["surface"]["motion_memory_ms"]
    path.write_text(json.dumps(values))
    assert EventModel.load(folder).surface.channels == LIGHT_CHANNELS
    values["surface"]["motion_memory_ms"] = -1.0
    path.write_text(json.dumps(values))
    with pytest.raises(BundleError, match="motion_memory_ms does not fit"):
        EventModel.load(folder)
