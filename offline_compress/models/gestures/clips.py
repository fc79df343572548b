# SPDX-License-Identifier: Apache-2.0
"""Gesture clips: a subject makes a gesture for two seconds before a simulated event camera of 128 x 128 pixels.

Every clip follows from its subject's and its class's numbers alone. Training and test subjects differ.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from edge_vlm.observation import Events
from edge_vlm.sources.dvs_gesture import GESTURES
from edge_vlm.sources.event_clip import EventClip
from edge_vlm.sources.event_simulation import EventSimulator, SimulatorConfig
from offline_compress.models.gestures.figure import draw, sample_subject
from offline_compress.models.gestures.movements import FREQUENCY_HZ, Manner, pose

SIDE = 128
DURATION_S, FRAMES_PER_S = 2.0, 100
TRAIN_SUBJECTS = range(96)
# Six kinds of movement share the class "other gestures": these subjects make nothing else.
TRAIN_SUBJECTS_OF_OTHERS = range(96, 240)
TEST_SUBJECTS = range(1000, 1020)
# The class of a gesture's mirror image; a mirrored guitar is played by no one else's hands.
MIRRORED = (0, 2, 1, 6, 5, 4, 3, 7, 8, -1, 10)
_LABEL_STREAM = 1  # random streams of a subject: its looks, then one for each of its gestures


def read_rendered_gestures(path: Path | None = None) -> Iterator[EventClip]:
    """One clip of each class from every subject, training subjects first; and more training clips of the class that
    varies most. ``path`` is not used: nothing is read."""
    yield from _clips(TRAIN_SUBJECTS, is_test=False)
    yield from _clips(TRAIN_SUBJECTS_OF_OTHERS, is_test=False, names=GESTURES[-1:])
    yield from read_test_gestures()


def read_test_gestures() -> Iterator[EventClip]:
    yield from _clips(TEST_SUBJECTS, is_test=True)


def _clips(subjects: range, is_test: bool, names: Sequence[str] = GESTURES) -> Iterator[EventClip]:
    for subject in subjects:
        for name in names:
            label = GESTURES.index(name)
            yield EventClip(f"subject{subject}/{name}", gesture_clip(subject, label), label, is_test)


def gesture_clip(subject: int, label: int) -> Events:
    """The events of one clip; the same numbers give the same events."""
    person = sample_subject(np.random.default_rng([subject, 0]), SIDE)
    random = np.random.default_rng([subject, _LABEL_STREAM + label])
    simulator = EventSimulator(SIDE, SIDE, sample_sensor(random))
    parts = []
    for time_s, frame_pose, sway in sample_motion(random, label, person.shoulder / person.arm):
        events = simulator.step(draw(person, frame_pose, sway, SIDE), round(time_s * 1e6))
        parts.append(events)
    return Events(
        *(np.concatenate([getattr(part, name) for part in parts]) for name in ("x", "y", "t_us", "polarity")),
        SIDE,
        SIDE,
    )


def sample_sensor(random: np.random.Generator) -> SimulatorConfig:
    return SimulatorConfig(
        threshold=random.uniform(0.2, 0.35), noise_hz=random.uniform(0.02, 0.2), seed=int(random.integers(1 << 31))
    )


def sample_motion(random: np.random.Generator, label: int, shoulder: float):
    """(seconds, pose, sway) of every frame. ``shoulder``: half the distance of the shoulders, in arm lengths."""
    manner = Manner(
        size=random.uniform(0.8, 1.2),
        drift=tuple(random.uniform(-0.08, 0.08, 2)),
        shoulder=shoulder,
        turn=random.choice([-1.0, 1.0]),
        kind=random.random(),
    )
    frequency, start = random.uniform(*FREQUENCY_HZ[GESTURES[label]]), random.uniform(0, 2 * np.pi)
    uneven, uneven_hz, uneven_start = random.uniform(0, 0.3), random.uniform(0.3, 0.8), random.uniform(0, 2 * np.pi)
    sway, sway_hz = random.uniform(0, 0.008, 2), random.uniform(0.2, 0.6)
    for index in range(round(DURATION_S * FRAMES_PER_S) + 1):
        time_s = index / FRAMES_PER_S
        phase = 2 * np.pi * frequency * time_s + start
        phase += uneven * np.sin(2 * np.pi * uneven_hz * time_s + uneven_start)
        swing = np.sin(2 * np.pi * sway_hz * time_s + uneven_start)
        yield time_s, pose(label, phase, manner), (sway[0] * swing, 0.4 * sway[1] * swing)
