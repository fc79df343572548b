# SPDX-License-Identifier: Apache-2.0
"""Event frames of labelled clips, drawn once and kept in a file: what the event classifier is trained on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from edge_vlm.errors import InputError
from edge_vlm.events.surface import EventSurface, SurfaceConfig
from edge_vlm.files import make_folder, whole_file
from edge_vlm.sources.event_clip import EventClip, clip_between

LEVELS = 255  # frames are kept as uint8


@dataclass(frozen=True)
class FrameRule:
    """Which steps of a clip are kept: ``frames`` of them, evenly spaced from ``first_ms`` to its end."""

    surface: SurfaceConfig
    window_ms: float
    frames: int
    first_ms: float


@dataclass(frozen=True)
class EventFrames:
    """``frames`` uint8 (clips, frames, N, C P P), in the order of time; ``labels`` (clips,)."""

    frames: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


def cached_frames(
    path: Path, clips: Callable[[], Iterable[EventClip]], rule: FrameRule, source: str, report: Callable[[int], None]
) -> EventFrames:
    """The frames in ``path``, drawn where they are missing or of another rule or source.

    ``report`` is told the number of clips drawn. Raises InputError where there is no training clip, OutputError for
    a full disk.
    """
    made_from = hashlib.sha256(json.dumps([asdict(rule), source, 1]).encode()).hexdigest()
    kept = _read(path, made_from)
    if kept is not None:
        return kept
    frames, labels = [], []
    for clip in clips():
        frames.append(draw_frames(clip, rule))
        labels.append(clip.label)
        report(len(labels))
    if not frames:
        raise InputError(f"{source}: no training clips", "name a data set with a training part")
    drawn = EventFrames(np.stack(frames), np.array(labels, np.int64))
    make_folder(path.parent)
    with whole_file(path) as file:
        np.savez(file, frames=drawn.frames, labels=drawn.labels, made_from=np.array(made_from))
    return drawn


def _read(path: Path, made_from: str) -> EventFrames | None:
    try:
        with np.load(path, allow_pickle=False) as file:
            if str(file["made_from"]) == made_from:
                return EventFrames(file["frames"], file["labels"])
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        pass
    return None


def draw_frames(clip: EventClip, rule: FrameRule) -> np.ndarray:
    """uint8 (frames, N, C P P)."""
    events, window_us = clip.events, round(rule.window_ms * 1000)
    surface, start_us = EventSurface(rule.surface), int(clip.events.t_us[0])
    steps = (int(events.t_us[-1]) - start_us) // window_us + 1
    first = min(round(rule.first_ms / rule.window_ms), steps - 1)
    wanted = np.linspace(first, steps - 1, rule.frames).round().astype(int)
    drawn = []
    for step in range(steps):
        begin_us = start_us + step * window_us
        surface.add(clip_between(events, begin_us, begin_us + window_us))
        repeats = int((wanted == step).sum())
        if repeats:
            drawn += [np.rint(surface.patches() * LEVELS).astype(np.uint8)] * repeats
    return np.stack(drawn)
