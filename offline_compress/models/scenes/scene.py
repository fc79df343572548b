# SPDX-License-Identifier: Apache-2.0
"""Scene values: what stands where, seen from where, under which light. No pixels here.

World frame: x to the right, y away from the camera, z up; the surface is z = 0. One unit is about the size of an
object, so that a mug and a lamp have the same extent in the picture.
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Placement:
    """Where one object stands: base centre (units) and heading about the vertical (radians)."""

    x: float
    y: float
    yaw_rad: float
    z: float = 0.0


@dataclass(frozen=True)
class Group:
    """One to four equal objects. `kind` and `colour` index KINDS and COLOURS; `size` scales the unit body."""

    kind: int
    colour: int
    size: float
    placements: tuple[Placement, ...]

    @property
    def count(self) -> int:
        """How many objects."""
        return len(self.placements)


@dataclass(frozen=True)
class Actor:
    """The one thing that can move. `target` is a group index (gripper reaching); `held` an object in the air.

    `tone` picks clothes and skin, `pace` multiplies the usual speed, `elapsed_s` is how long it has been moving.
    """

    name: str
    action: str
    x: float
    y: float
    z: float = 0.0
    tone: int = 0
    target: int | None = None
    held: Group | None = None
    pace: float = 1.0
    elapsed_s: float = 0.0

    @property
    def velocity(self) -> float:
        """Units per second along x; zero for whoever stands and for grippers."""
        speed = {"person": 1.0, "cart": 1.6}.get(self.name, 0.0)
        return self.pace * {"left": -speed, "right": speed}.get(self.action, 0.0)

    def at(self, time_s: float) -> Actor:
        """The same actor `time_s` later."""
        return replace(self, x=self.x + self.velocity * time_s, elapsed_s=self.elapsed_s + time_s)


@dataclass(frozen=True)
class Camera:
    """Pinhole camera above the surface. Positive pitch looks down, positive yaw looks to the left."""

    height: float
    pitch_rad: float
    yaw_rad: float = 0.0
    x: float = 0.0
    y: float = 0.0
    field_of_view_rad: float = 1.04  # across the shorter image side


@dataclass(frozen=True)
class Light:
    """A distant lamp: azimuth 0 shines from behind the camera; `level` 1 is normal, `warmth` in [-1, 1]."""

    azimuth_rad: float
    elevation_rad: float
    level: float = 1.0
    warmth: float = 0.0


@dataclass(frozen=True)
class Scene:
    """A complete, immutable description of one picture. `relation` is 'alone', 'left', 'front' or 'row'.

    Groups are stored in reading order: left to right for 'left' and 'row', nearest first for 'front'.
    """

    seed: int
    split: str
    surface: str
    relation: str
    groups: tuple[Group, ...]
    actor: Actor | None
    camera: Camera
    light: Light
    wall_y: float
    noise_level: float

    def pairs(self) -> tuple[tuple[int, int], ...]:
        """(kind, colour) of every group, and of the held object if there is one."""
        held = (self.actor.held,) if self.actor and self.actor.held else ()
        return tuple((group.kind, group.colour) for group in self.groups + held)
