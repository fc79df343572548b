# SPDX-License-Identifier: Apache-2.0
"""All change signals of one frame, taken together: what the gate and the router look at."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edge_vlm.observation import EventWindow
from edge_vlm.sttf.change import CELLS, EventChange, FrameChange, cell_image, combine, describe
from edge_vlm.sttf.config import SttfConfig
from edge_vlm.sttf.ego_motion import EgoMotion, GlobalShift
from edge_vlm.sttf.illumination import Light
from edge_vlm.sttf.token_state import TokenState


@dataclass(frozen=True)
class Glance:
    """One frame: ``scores (tokens,)`` in noise units, ``descriptors (tokens, 16, 3)`` and the light they were seen
    under, ``luma`` float32 (4 rows, 4 cols), the global shift, and events per patch and second (0 without events)."""

    scores: np.ndarray
    descriptors: np.ndarray
    light: Light
    luma: np.ndarray
    shift: GlobalShift
    events_per_patch_s: float


@dataclass
class SceneWatch:
    """Frame change, event change and ego-motion of one stream. Build with ``SceneWatch.of``; one ``look`` per frame."""

    grid: tuple[int, int]
    frames: FrameChange
    events: EventChange
    ego_motion: EgoMotion

    @classmethod
    def of(cls, config: SttfConfig, grid: tuple[int, int], image_size: int) -> SceneWatch:
        pixels_per_cell = image_size / (grid[1] * CELLS)
        return cls(grid, FrameChange.of(config), EventChange(config), EgoMotion(pixels_per_cell))

    def reset(self) -> None:
        self.frames.reset()
        self.events.reset()
        self.ego_motion.reset()

    def look(self, resized: np.ndarray, events: EventWindow | None, state: TokenState) -> Glance:
        """``resized``: uint8 RGB at the encoder's input size. Adds the events to the counts in ``state``."""
        descriptors = describe(resized, self.grid)
        scores, light = self.frames.measure(descriptors, state)
        event_scores, rate = None, 0.0
        if events is not None:
            event_scores = self.events.measure(events, state)
            rate = events.total / (events.counts.size * max(events.duration_us, 1) * 1e-6) if events.total else 0.0
        luma = cell_image(descriptors, self.grid)
        shift = self.ego_motion.update(luma)
        return Glance(combine(scores, event_scores), descriptors, light, luma, shift, rate)
