# SPDX-License-Identifier: Apache-2.0
"""What can happen in a clip: each motion answers one question, how a scene looks some time into its segment.

Motions are asked for any instant and change nothing; the scene at the end of one segment begins the next.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

from .scene import Actor, Group, Scene

# Far enough to the side that no camera of the sampler sees a group any more (units).
_OFF_STAGE = 6.5


class Motion(Protocol):
    """A change over a segment of a clip."""

    def at(self, scene: Scene, elapsed_s: float, duration_s: float) -> Scene:
        """The scene `elapsed_s` into a segment of `duration_s` that began with `scene`."""


@dataclass(frozen=True)
class Still:
    """Nothing changes but the noise of the sensor."""

    def at(self, scene: Scene, elapsed_s: float, duration_s: float) -> Scene:
        return scene


@dataclass(frozen=True)
class ActorPasses:
    """An actor enters at its own x, moves at its own speed, and is gone when the segment ends."""

    actor: Actor

    def at(self, scene: Scene, elapsed_s: float, duration_s: float) -> Scene:
        return replace(scene, actor=self.actor.at(elapsed_s) if elapsed_s < duration_s else None)


@dataclass(frozen=True)
class CameraMoves:
    """The camera pans by `yaw_rad` (positive: to the left) and travels by `x` and `y` (units), starting softly."""

    yaw_rad: float = 0.0
    x: float = 0.0
    y: float = 0.0

    def at(self, scene: Scene, elapsed_s: float, duration_s: float) -> Scene:
        share, camera = _eased(elapsed_s / duration_s), scene.camera
        moved = replace(
            camera,
            yaw_rad=camera.yaw_rad + share * self.yaw_rad,
            x=camera.x + share * self.x,
            y=camera.y + share * self.y,
        )
        return replace(scene, camera=moved)


@dataclass(frozen=True)
class LampDims:
    """The light goes to `factor` of its level."""

    factor: float

    def at(self, scene: Scene, elapsed_s: float, duration_s: float) -> Scene:
        level = scene.light.level * (1 + (self.factor - 1) * elapsed_s / duration_s)
        return replace(scene, light=replace(scene.light, level=level))


@dataclass(frozen=True)
class GroupLeaves:
    """The last group is pulled out of sight to the right."""

    def at(self, scene: Scene, elapsed_s: float, duration_s: float) -> Scene:
        if elapsed_s >= duration_s:
            return _with_groups(scene, scene.groups[:-1])
        slid = _slid(scene.groups[-1], _OFF_STAGE * _eased(elapsed_s / duration_s))
        return replace(scene, groups=(*scene.groups[:-1], slid))


@dataclass(frozen=True)
class GroupAppears:
    """A group is pushed in from the right to its places, to the right of all others."""

    group: Group

    def at(self, scene: Scene, elapsed_s: float, duration_s: float) -> Scene:
        slid = _slid(self.group, _OFF_STAGE * (1 - _eased(elapsed_s / duration_s)))
        return _with_groups(scene, (*scene.groups, slid))


def _eased(share: float) -> float:
    """0..1 with no speed at either end."""
    return share * share * (3 - 2 * share)


def _slid(group: Group, distance: float) -> Group:
    return replace(group, placements=tuple(replace(place, x=place.x + distance) for place in group.placements))


def _with_groups(scene: Scene, groups: tuple[Group, ...]) -> Scene:
    return replace(scene, groups=groups, relation={1: "alone", 2: "left", 3: "row"}[len(groups)])
