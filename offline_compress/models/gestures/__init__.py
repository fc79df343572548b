# SPDX-License-Identifier: Apache-2.0
"""Rendered gestures seen by a simulated event camera: eleven classes after DVS128 Gesture, subjects that differ."""

from offline_compress.models.gestures.clips import (
    MIRRORED,
    TEST_SUBJECTS,
    TRAIN_SUBJECTS,
    gesture_clip,
    read_rendered_gestures,
    read_test_gestures,
)

__all__ = [
    "MIRRORED",
    "TEST_SUBJECTS",
    "TRAIN_SUBJECTS",
    "gesture_clip",
    "read_rendered_gestures",
    "read_test_gestures",
]
