# SPDX-License-Identifier: Apache-2.0
"""The rendered gestures: repeatable, apart by subject, and what their names say."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from edge_vlm.sources.dvs_gesture import GESTURES
from offline_compress.models.gestures import MIRRORED, TEST_SUBJECTS, TRAIN_SUBJECTS, gesture_clip
from offline_compress.models.gestures.clips import SIDE
from offline_compress.models.gestures.figure import draw, sample_subject
from offline_compress.models.gestures.movements import LEFT, RIGHT, Manner, pose, rest

MANNER = Manner(size=1.0, drift=(0.0, 0.0), shoulder=0.4, turn=1.0, kind=0.0)
CIRCLES = {
    "right arm clockwise": (RIGHT, 1),
    "right arm counter clockwise": (RIGHT, -1),
    "left arm clockwise": (LEFT, 1),
    "left arm counter clockwise": (LEFT, -1),
}


def test_a_clip_follows_from_its_numbers():
    first, again, other = gesture_clip(3, 8), gesture_clip(3, 8), gesture_clip(4, 8)
    for name in ("x", "y", "t_us", "polarity"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
    assert len(first) != len(other)
    assert (np.diff(first.t_us) >= 0).all()
    assert (first.width, first.height) == (SIDE, SIDE)
    assert 1_900_000 < first.t_us[-1] - first.t_us[0] <= 2_000_000


def test_training_and_test_subjects_differ():
    assert not set(TRAIN_SUBJECTS) & set(TEST_SUBJECTS)


@pytest.mark.parametrize(("gesture", "arm", "turn"), [(name, *value) for name, value in CIRCLES.items()])
def test_arms_turn_as_their_class_says(gesture, arm, turn):
    label = GESTURES.index(gesture)
    hands = np.array([pose(label, phase, MANNER).hands[arm] for phase in np.linspace(0, 2 * np.pi, 40)])
    centred = hands - hands[:-1].mean(axis=0)
    steps = [a[0] * b[1] - a[1] * b[0] for a, b in pairwise(centred)]  # y points down: positive is clockwise
    assert (np.sign(steps) == turn).all()
    assert pose(label, 1.0, MANNER).hands[1 - arm] == rest(1 - arm)


def test_the_class_of_a_mirror_image_is_that_of_the_mirrored_movement():
    for label, other in enumerate(MIRRORED):
        if other < 0 or GESTURES[label] in ("arm roll", "air drums", "other gestures"):
            continue
        for phase in np.linspace(0, 2 * np.pi, 9):
            right, left = pose(label, phase, MANNER).hands
            mirrored = np.array([(-left[0], left[1]), (-right[0], right[1])])
            path = [np.array(pose(other, p, MANNER).hands) for p in np.linspace(0, 2 * np.pi, 721)]
            assert min(np.abs(mirrored - hands).max() for hands in path) < 0.01


def test_people_and_rooms_differ():
    pictures = [
        draw(sample_subject(np.random.default_rng(seed), 64), pose(0, 0.0, MANNER), (0.0, 0.0), 64) for seed in (0, 1)
    ]
    assert pictures[0].shape == (64, 64)
    assert np.abs(pictures[0].astype(int) - pictures[1]).mean() > 10
