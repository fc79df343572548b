# SPDX-License-Identifier: Apache-2.0
"""All change signals of one frame, taken together: what the gate and the router look at."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from custom_ops.frame_look import CELLS, FrameLooker
from edge_vlm.observation import EventWindow
from edge_vlm.sttf.change import EventChange, FrameChange, cell_image, combine
from edge_vlm.sttf.config import SttfConfig
from edge_vlm.sttf.ego_motion import GlobalShift, global_shift
from edge_vlm.sttf.illumination import Light
from edge_vlm.sttf.token_state import TokenState


@dataclass(frozen=True)
class Glance:
    """One frame: ``scores (tokens,)`` in noise units, ``descriptors (tokens, 16, 3)`` and the light they were seen
    under, their mean grey level, and the descriptors of the frame before it.

    ``luma`` and ``shift`` are worked out when they are first asked for: a still frame needs neither.
    """

    scores: np.ndarray
    descriptors: np.ndarray
    light: Light
    grid: tuple[int, int]
    pixels_per_cell: float
    mean_level: float
    previous: np.ndarray | None = None

    @cached_property
    def luma(self) -> np.ndarray:
        """The small luma image, float32 ``(4 rows, 4 cols)``."""
        return cell_image(self.descriptors, self.grid)

    @cached_property
    def shift(self) -> GlobalShift:
        """How far the image has moved since the frame before."""
        if self.previous is None:
            return GlobalShift()
        return global_shift(cell_image(self.previous, self.grid), self.luma, self.pixels_per_cell)


@dataclass
class SceneWatch:
    """Frame change and event change of one stream. Build with ``SceneWatch.of``; one ``look`` per frame."""

    grid: tuple[int, int]
    frames: FrameChange
    events: EventChange
    pixels_per_cell: float
    signals: str = "both"

    @classmethod
    def of(
        cls, config: SttfConfig, grid: tuple[int, int], image_size: int, looker: FrameLooker | None = None
    ) -> SceneWatch:
        frames, pixels_per_cell = FrameChange.of(config, looker), image_size / (grid[1] * CELLS)
        return cls(grid, frames, EventChange(config), pixels_per_cell, config.signals)

    def reset(self) -> None:
        self.frames.reset()
        self.events.reset()

    def look(self, image: np.ndarray, events: EventWindow | None, state: TokenState) -> Glance:
        """``image``: uint8 RGB of any size. Adds the events to the counts in ``state``."""
        previous = self.frames.previous
        scores, descriptors, light, mean_level = self.frames.look(image, state)
        event_scores = None
        if events is not None and self.signals != "frames":
            event_scores = self.events.measure(events, state)
            scores = None if self.signals == "events" else scores
        scores = combine(scores, event_scores)
        return Glance(scores, descriptors, light, self.grid, self.pixels_per_cell, mean_level, previous)
