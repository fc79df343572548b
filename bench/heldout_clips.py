# SPDX-License-Identifier: Apache-2.0
"""Rendered clips of held-out scenes: rest, and in between what a camera on a robot sees, with the true captions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from edge_vlm.observation import Frame, Observation
from offline_compress.models.scenes import captions, sample_scene
from offline_compress.models.scenes.clip import Clip, Segment
from offline_compress.models.scenes.motions import (
    ActorPasses,
    CameraMoves,
    GroupAppears,
    GroupLeaves,
    LampDims,
    Motion,
)
from offline_compress.models.scenes.scene import Actor, Camera, Scene

STILL = "still"
_FLOORS = ("tiled floor", "grey carpet", "striped rug", "green mat")
_FIRST_SEED = 5_000_000  # none of the held-out pictures of the other benchmarks


@dataclass(frozen=True)
class RenderedSequence:
    """``references``: the true captions of each frame; ``segments``: the name of what happens in it."""

    observations: tuple[Observation, ...]
    references: tuple[tuple[str, ...], ...]
    segments: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.observations)


def mixed_clip(index: int) -> Clip:
    """About 13 s of a held-out scene: five changes of different kinds, each followed by rest."""
    rng = np.random.default_rng([index, 31])
    scene = _scene(index)
    segments = [Segment(STILL, 1.0)]
    for name, motion, seconds in _five(scene, rng):
        segments += [Segment(name, seconds, motion), Segment(STILL, round(float(rng.uniform(0.8, 1.6)), 1))]
    return Clip(scene, tuple(segments))


def low_motion_clip(index: int) -> Clip:
    """12 s of a held-out scene in which one thing happens, for two seconds."""
    rng = np.random.default_rng([index, 32])
    scene = _scene(index)
    name, motion, _ = next(iter(_five(scene, rng)))
    return Clip(scene, (Segment(STILL, 4.0), Segment(name, 2.0, motion), Segment(STILL, 6.0)))


def render(clip: Clip) -> RenderedSequence:
    """All frames of a clip, with the noise of its sensor."""
    observations, references, segments = [], [], []
    for time_s, image, name in clip.frames():
        observations.append(Observation(Frame(round(time_s * 1e9), image)))
        references.append(captions(clip.scene_at(time_s)))
        segments.append(name)
    return RenderedSequence(tuple(observations), tuple(references), tuple(segments))


def _scene(index: int) -> Scene:
    """Two of three without an actor of their own, so that things can move; where a person could walk through, seen from
    where one in the distance fits in."""
    seed = _FIRST_SEED + 100 * index
    scene = sample_scene(seed, "heldout")
    while index % 3 and scene.actor is not None:
        seed += 1
        scene = sample_scene(seed, "heldout")
    if scene.actor is not None or scene.surface not in _FLOORS:
        return scene
    camera: Camera = scene.camera
    return replace(scene, camera=replace(camera, height=camera.height - 0.4, pitch_rad=camera.pitch_rad - 0.15))


def _five(scene: Scene, rng: np.random.Generator) -> Iterator[tuple[str, Motion, float]]:
    """Name, motion and seconds of five changes that this scene allows, in random order."""
    kinds = ["pan", "dolly", "dim"]
    if scene.actor is None:
        kinds += ["person", "cart"] if scene.surface in _FLOORS else []
        kinds += ["leaves"] if scene.relation in ("left", "row") else []
    group, dim = scene.groups[-1], float(rng.uniform(0.65, 0.85))
    for kind in rng.choice(kinds, 5, replace=len(kinds) < 5):
        if kind == "pan":
            yield "pan", CameraMoves(yaw_rad=float(rng.choice([-0.06, 0.06]))), 1.0
        elif kind == "dolly":
            yield "dolly", CameraMoves(x=float(rng.uniform(-0.25, 0.25)), y=float(rng.uniform(-0.3, 0.3))), 1.0
        elif kind == "dim":
            yield "dim", LampDims(dim), 0.5
            dim = 1 / dim
        elif kind == "leaves":
            yield "leaves", GroupLeaves(), 1.0
            yield "appears", GroupAppears(group), 1.0
        else:
            yield kind, ActorPasses(_passer(kind, rng)), 4.5 if kind == "person" else 3.5


def _passer(name: str, rng: np.random.Generator) -> Actor:
    to_right = bool(rng.integers(2))
    return Actor(
        name,
        "right" if to_right else "left",
        x=-5.8 if to_right else 5.8,
        y=8.0,
        tone=int(rng.integers(8)),
        pace=2.6 if name == "person" else 2.0,
    )
