# SPDX-License-Identifier: Apache-2.0
"""Short rendered recordings on which the router learns: stretches of one kind of change after the other.

Rest, an actor at work, something pushed along, put down or taken away, a lamp switched or carried around, a camera
that pans, a cut: in random order and strength, from scenes of the training split.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from offline_compress.models.scenes.renderer import cast, expose
from offline_compress.models.scenes.sampling import sample_scene
from offline_compress.models.scenes.scene import Light, Scene

PERIOD_S = 0.1
_STRETCHES = ("rest", "actor", "actor", "push", "push", "content", "lamp", "sun", "pan", "cut")
_SIZE = (224, 224)


@dataclass(frozen=True)
class ClipFrame:
    """``image`` uint8 RGB ``(rows, cols, 3)``. ``still``: nothing but noise differs from the frame before."""

    stamp_ns: int
    image: np.ndarray
    still: bool


def render_clip(seed: int, stretches: int = 4) -> list[ClipFrame]:
    """One clip of about ``8 * stretches`` frames at 10 Hz. Same seed, same bytes."""
    rng = np.random.default_rng([seed, 77])
    scene = sample_scene(int(rng.integers(1 << 30)), "train")
    frames: list[ClipFrame] = []
    view = _View()
    time_s, actor_s = 0.0, 0.0
    for _ in range(stretches):
        kind = str(rng.choice(_STRETCHES))
        for now, moved_s in _stretch(kind, scene, rng):
            scene = now
            time_s += PERIOD_S
            actor_s += moved_s
            image, still = view.picture(scene, actor_s, time_s)
            frames.append(ClipFrame(round(time_s * 1e9), image, still))
    return frames


class _View:
    """Renders; while only the sensor changes, the costly half of the last picture serves again."""

    def __init__(self) -> None:
        self._content: tuple | None = None
        self._light: Light | None = None
        self._linear: np.ndarray | None = None

    def picture(self, scene: Scene, actor_s: float, time_s: float) -> tuple[np.ndarray, bool]:
        """The picture, and whether it shows the same as the one before."""
        lamp = (scene.light.azimuth_rad, scene.light.elevation_rad)  # level and warmth act on the sensor
        content = (scene.groups, scene.actor, scene.camera, scene.surface, scene.seed, lamp, actor_s)
        last = self._content
        if content != last:
            self._content, self._linear = content, cast(scene, actor_s, _SIZE).linear
        still = content == last and scene.light == self._light
        self._light = scene.light
        return expose(self._linear, scene, time_s), still


def _stretch(kind: str, scene: Scene, rng: np.random.Generator) -> Iterator[tuple[Scene, float]]:
    """Scene and seconds of actor movement for each frame of one stretch; the last scene is where the next begins."""
    frames = int(rng.integers(5, 11))
    if kind == "actor" and scene.actor is None:
        kind = "push"
    if kind == "content":
        scene = _other_content(scene, rng)
    elif kind == "cut":
        scene = sample_scene(int(rng.integers(1 << 30)), "train")
    elif kind == "lamp":
        light = replace(scene.light, level=scene.light.level * float(rng.uniform(0.8, 1.25)))
        scene = replace(scene, light=light)
    speed, group = rng.normal(0, 1, 2), int(rng.integers(len(scene.groups)))
    for _ in range(frames):
        if kind == "pan":
            scene = _panned(scene, 0.02 * float(speed[0]), 0.006 * float(speed[1]))
        elif kind == "push":
            scene = _pushed(scene, group, 0.06 * float(speed[0]), 0.06 * float(speed[1]))
        elif kind == "sun":
            light = replace(scene.light, azimuth_rad=scene.light.azimuth_rad + 0.05 * float(speed[0]))
            scene = replace(scene, light=light)
        yield scene, PERIOD_S if kind == "actor" else 0.0


def _panned(scene: Scene, yaw_rad: float, pitch_rad: float) -> Scene:
    camera = scene.camera
    turned = replace(camera, yaw_rad=camera.yaw_rad + yaw_rad, pitch_rad=camera.pitch_rad + pitch_rad)
    return replace(scene, camera=turned)


def _pushed(scene: Scene, index: int, dx: float, dy: float) -> Scene:
    group = scene.groups[index]
    placements = tuple(replace(place, x=place.x + dx, y=place.y + dy) for place in group.placements)
    moved = replace(group, placements=placements)
    return replace(scene, groups=scene.groups[:index] + (moved,) + scene.groups[index + 1 :])


def _other_content(scene: Scene, rng: np.random.Generator) -> Scene:
    """A group taken away where there are several, else one exchanged for that of another scene."""
    groups = list(scene.groups)
    index = int(rng.integers(len(groups)))
    if len(groups) > 1 and rng.random() < 0.5 and (scene.actor is None or scene.actor.target is None):
        return replace(scene, groups=tuple(groups[:index] + groups[index + 1 :]))
    other = sample_scene(int(rng.integers(1 << 30)), "train").groups[0]
    groups[index] = replace(groups[index], kind=other.kind, colour=other.colour)
    return replace(scene, groups=tuple(groups))
