# SPDX-License-Identifier: Apache-2.0
"""Scripted recordings of a rendered scene: stretches in which nothing, an actor, the camera or the lamp moves.

A clip is a value and can be asked for any instant, so the same script gives the frames of a camera and, at a higher
rate and without sensor noise, the input of an event simulator.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from .motions import (
    ActorPasses,
    CameraMoves,
    GroupAppears,
    GroupLeaves,
    LampDims,
    Motion,
    Still,
)
from .renderer import cast, expose
from .sampling import sample_scene
from .scene import Actor, Scene

# Instants this close before a boundary belong to the next segment: frame times are sums of rounded numbers.
_CLOCK_TOLERANCE_S = 1e-6


@dataclass(frozen=True)
class Segment:
    """`motion` for `duration_s` seconds; `name` is what reports call this stretch."""

    name: str
    duration_s: float
    motion: Motion = Still()


@dataclass(frozen=True)
class Clip:
    """`segments` played one after the other from `scene`; `fps` frames a second of `size` = (rows, cols)."""

    scene: Scene
    segments: tuple[Segment, ...]
    fps: float = 10.0
    size: tuple[int, int] = (256, 256)

    @property
    def duration_s(self) -> float:
        return sum(segment.duration_s for segment in self.segments)

    @property
    def times(self) -> np.ndarray:
        """Stamps (frames,) of the frames in seconds, from 0."""
        return self.times_at(self.fps)

    def times_at(self, fps: float) -> np.ndarray:
        """Stamps (frames,) in seconds at another rate."""
        return np.arange(int(np.ceil(self.duration_s * fps - _CLOCK_TOLERANCE_S))) / fps

    def segment_at(self, time_s: float) -> Segment:
        """The segment that plays at an instant; the last one from its end on."""
        return self.segments[self._index_at(time_s)]

    def scene_at(self, time_s: float) -> Scene:
        """The whole scene at an instant: `captions` of it are right then."""
        index = self._index_at(time_s)
        segment, start_s = self.segments[index], self._starts_s[index]
        elapsed_s = min(max(time_s - start_s, 0.0), segment.duration_s)
        return segment.motion.at(self._opening_scenes[index], elapsed_s, segment.duration_s)

    def frames(self, fps: float | None = None, noise: bool = True) -> Iterator[tuple[float, np.ndarray, str]]:
        """(stamp in seconds, uint8 (rows, cols, 3) RGB, segment name) of every frame.

        `fps` overrides the clip's rate. Without `noise` the frames of a still stretch are equal byte for byte.
        """
        seen, linear = None, None
        for time_s in self.times_at(fps or self.fps).tolist():
            scene = self.scene_at(time_s)
            # The lamp acts on the exposure alone: nothing is cast anew while only the light or nothing changes.
            cast_from = replace(scene, light=replace(scene.light, level=1.0))
            if cast_from != seen:
                seen, linear = cast_from, cast(scene, 0.0, self.size).linear
            noise_level = scene.noise_level if noise else 0.0
            image = expose(linear, replace(scene, noise_level=noise_level), time_s)
            yield time_s, image, self.segment_at(time_s).name

    @cached_property
    def _starts_s(self) -> list[float]:
        return np.concatenate([[0.0], np.cumsum([segment.duration_s for segment in self.segments])]).tolist()

    @cached_property
    def _opening_scenes(self) -> list[Scene]:
        """The scene with which each segment begins."""
        scenes = [self.scene]
        for segment in self.segments[:-1]:
            scenes.append(segment.motion.at(scenes[-1], segment.duration_s, segment.duration_s))
        return scenes

    def _index_at(self, time_s: float) -> int:
        index = int(np.searchsorted(self._starts_s, time_s + _CLOCK_TOLERANCE_S, side="right")) - 1
        return min(max(index, 0), len(self.segments) - 1)


def sample_clip(seed: int) -> Clip:
    """The script of the sample recording: 24 s, about half of it still.

    A person walks through, the camera pans and travels, the lamp is dimmed, a group is taken away and put back, a
    cart drives through. It is square as the pictures of the training are: the encoder resizes without cropping.
    """
    scene = _quiet_floor_scene(seed)
    person = Actor("person", "right", x=-5.8, y=8.0, tone=seed, pace=2.6)
    cart = Actor("cart", "left", x=6.0, y=8.0, tone=seed, pace=2.4)
    segments = (
        Segment("still", 2.0),
        Segment("person", 4.5, ActorPasses(person)),
        Segment("still", 2.0),
        Segment("pan", 1.0, CameraMoves(yaw_rad=0.08)),
        Segment("still", 1.5),
        Segment("dolly", 1.0, CameraMoves(yaw_rad=-0.08, x=0.25, y=-0.3)),
        Segment("still", 1.5),
        Segment("dim", 0.5, LampDims(0.6)),
        Segment("still", 1.5),
        Segment("leaves", 1.0, GroupLeaves()),
        Segment("still", 1.5),
        Segment("appears", 1.0, GroupAppears(scene.groups[-1])),
        Segment("still", 1.0),
        Segment("cart", 3.5, ActorPasses(cart)),
        Segment("still", 1.0),
    )
    return Clip(scene, segments)


def _quiet_floor_scene(seed: int) -> Scene:
    """The first training scene from this seed on with one group left of another on a floor and nobody else.

    It is seen from where a person in the distance fits in, as scenes with a person are.
    """
    while True:
        scene = sample_scene(seed, "train")
        floor = scene.surface in ("tiled floor", "grey carpet", "striped rug", "green mat")
        if scene.relation == "left" and scene.actor is None and floor:
            camera = replace(scene.camera, height=scene.camera.height - 0.4, pitch_rad=scene.camera.pitch_rad - 0.15)
            return replace(scene, camera=camera)
        seed += 1
