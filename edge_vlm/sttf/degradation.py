# SPDX-License-Identifier: Apache-2.0
"""What was wrong with the input of a frame, and what the gate does about it: said in each report, never silent."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edge_vlm.observation import EventWindow

_DARK_LEVEL, _BRIGHT_LEVEL = 4.0, 251.0
_BLIND_SHARE = 0.95  # of the image's cells


@dataclass
class InputWatch:
    """Remembers whether there was an event stream, so that its end is noticed."""

    has_events: bool = False

    def reset(self) -> None:
        self.has_events = False

    def notes(self, events: EventWindow | None, descriptors: np.ndarray, mean_level: float) -> tuple[str, ...]:
        """One line for each thing wrong with this frame. ``descriptors (tokens, cells, 3)`` are those of the frame,
        ``mean_level`` is their mean."""
        ended = self.has_events and events is None
        self.has_events = self.has_events or events is not None
        found = ["no events came: changes are seen in frames alone"] if ended else []
        found += _about_events(events) if events is not None else []
        blind = _blindness(descriptors, mean_level)
        if blind:
            found.append(f"the image is {blind}: only events can show change")
        return tuple(found)


def _blindness(descriptors: np.ndarray, mean: float) -> str:
    """Empty for an image that shows something. The mean alone tells most images apart."""
    if mean <= _DARK_LEVEL + (1 - _BLIND_SHARE) * 255:
        return "black" if np.count_nonzero(descriptors <= _DARK_LEVEL) >= _BLIND_SHARE * descriptors.size else ""
    if mean >= _BLIND_SHARE * _BRIGHT_LEVEL:
        enough = np.count_nonzero(descriptors >= _BRIGHT_LEVEL) >= _BLIND_SHARE * descriptors.size
        return "saturated" if enough else ""
    return ""


def _about_events(events: EventWindow) -> list[str]:
    found = []
    if events.overload:
        found.append("too many events to count: everything is taken as changed")
    if events.lost:
        found.append(f"{events.lost} event packets were lost: changes they showed are seen in frames alone")
    if events.outside:
        found.append(f"{events.outside} events off the sensor were left out")
    if events.hot_pixels:
        found.append(f"{events.hot_pixels} hot pixels were left out")
    return found
