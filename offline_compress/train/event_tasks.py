# SPDX-License-Identifier: Apache-2.0
"""The event benchmarks: for each its classes, model, event frames, gate and training."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from edge_vlm.events.surface import SurfaceConfig
from edge_vlm.sources.dvs_gesture import GESTURES, read_gestures
from edge_vlm.sources.event_clip import EventClip
from edge_vlm.sources.nmnist import DIGITS, read_nmnist
from edge_vlm.sttf import SttfConfig
from offline_compress.export.model_shape import VisionShape
from offline_compress.models.gestures import MIRRORED, read_rendered_gestures, read_test_gestures
from offline_compress.train.event_batches import Augmentation, Schedule
from offline_compress.train.event_frames import FrameRule
from offline_compress.train.event_training import EventTrainingConfig


@dataclass(frozen=True)
class EventTask:
    """``clips(path)`` gives the recordings of the data set at ``path``, None where ``needs_path`` is False.

    ``window_ms``, ``memory_s``, ``sttf``: see `edge_vlm.events.model`. ``test_clips_alone``: where clips are rendered,
    those to test on, without rendering the others first.
    """

    name: str
    classes: tuple[str, ...]
    clips: Callable[[Path | None], Iterator[EventClip]]
    needs_path: bool
    shape: VisionShape
    surface: SurfaceConfig
    window_ms: float
    memory_s: float
    sttf: SttfConfig
    frames: FrameRule
    augmentation: Augmentation
    schedule: Schedule
    training: EventTrainingConfig
    test_clips_alone: Callable[[], Iterator[EventClip]] | None = None

    def test_clips(self, path: Path | None) -> Iterator[EventClip]:
        """Those recordings that are not trained on."""
        if self.test_clips_alone is not None:
            return self.test_clips_alone()
        return (clip for clip in self.clips(path) if clip.is_test)


def event_gate(budget_tokens: int) -> SttfConfig:
    """The gate for event frames: they change only where events arrive, so nothing else is ever due.

    No keyframe but the first; tokens over the budget wait. Context debt and age are left out: no token is computed
    anew unless its own patch changed.
    """
    return SttfConfig(
        budget_tokens=budget_tokens,
        dilation=0,
        keyframe_fraction=1.0,
        context_share=0.0,
        context_debt_max=1e9,
        max_age_s=1e6,
    )


def encoder_shape(width: int, layers: int, surface: SurfaceConfig) -> VisionShape:
    return VisionShape(
        hidden_size=width, layers=layers, heads=width // 32, intermediate_size=3 * width, image_size=surface.size,
        patch_size=surface.patch_size, epsilon=1e-6, scale_factor=1, channels=surface.channels,
    )  # fmt: skip


def nmnist_task() -> EventTask:
    surface = SurfaceConfig(grid=8, patch_size=4, decay_events_per_pixel=3.0)
    return EventTask(
        name="nmnist",
        classes=DIGITS,
        clips=read_nmnist,
        needs_path=True,
        shape=encoder_shape(96, 3, surface),
        surface=surface,
        window_ms=10.0,
        memory_s=0.3,
        sttf=event_gate(budget_tokens=8),
        frames=FrameRule(surface, window_ms=10.0, frames=12, first_ms=60.0),
        augmentation=Augmentation(
            rotation_rad=0.15, log_scale=0.12, shear=0.15, shift=0.06, elastic=0.03, log_gain=0.2
        ),
        schedule=Schedule(steps=4, fewest=0.1, most=0.5, dense=0.15),
        training=EventTrainingConfig(steps=1800, batch=48),
    )


def gesture_task(name: str, clips: Callable[[Path | None], Iterator[EventClip]], **more) -> EventTask:
    surface = SurfaceConfig(grid=14, patch_size=4, decay_events_per_pixel=2.0, motion_memory_ms=100.0)
    return EventTask(
        name=name,
        classes=GESTURES,
        clips=clips,
        shape=encoder_shape(64, 3, surface),
        surface=surface,
        window_ms=50.0,
        memory_s=2.0,
        sttf=event_gate(budget_tokens=24),
        frames=FrameRule(surface, window_ms=50.0, frames=8, first_ms=200.0),
        augmentation=Augmentation(
            rotation_rad=0.15, log_scale=0.15, shear=0.1, shift=0.08, elastic=0.02, log_gain=0.2,
            mirrored=MIRRORED, swap_polarity=True,
        ),
        schedule=Schedule(steps=3, fewest=0.06, most=0.3, dense=0.1),
        training=EventTrainingConfig(steps=1200, batch=32),
        **more,
    )  # fmt: skip


def event_tasks() -> dict[str, EventTask]:
    """By name."""
    tasks = (
        nmnist_task(),
        gesture_task("gestures", read_rendered_gestures, needs_path=False, test_clips_alone=read_test_gestures),
        gesture_task("dvs128", read_gestures, needs_path=True),
    )
    return {task.name: task for task in tasks}
