# SPDX-License-Identifier: Apache-2.0
"""Scene to picture: analytic ray casting, each solid only within its own bounding box on screen.

Order of work: textured surface and wall, shadows on the surface, actor and objects against a depth buffer, then the
sensor (lens blur, vignetting, noise, gamma). Everything before the sensor is linear light in float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from . import actors
from .bodies import placed
from .ground import surface_albedo, wall_albedo
from .scene import Camera, Light, Scene
from .solids import Solid

_AMBIENT, _DIFFUSE, _SHADOW = 0.42, 0.75, 0.62
_NEAR = 0.05
_NOISE_CLOCK_HZ = 1000


@dataclass(frozen=True)
class Rendering:
    """A picture and its labels.

    image: uint8 (rows, cols, 3) RGB. object_ids: int16 (rows, cols), 0 on background and actors, k on objects[k - 1].
    objects: (kind index, colour index) of each object. actor_mask: bool (rows, cols).
    """

    image: np.ndarray
    object_ids: np.ndarray
    objects: tuple[tuple[int, int], ...]
    actor_mask: np.ndarray


@dataclass(frozen=True)
class Radiance:
    """What falls on the sensor, before noise: linear RGB (rows, cols, 3) and the labels of `Rendering`."""

    linear: np.ndarray
    object_ids: np.ndarray
    objects: tuple[tuple[int, int], ...]
    actor_mask: np.ndarray


def render(scene: Scene, time_s: float = 0.0, size: tuple[int, int] = (224, 224)) -> Rendering:
    """The picture of `scene`, `size` = (rows, cols), `time_s` after its sampled instant. Same arguments, same bytes."""
    radiance = cast(scene, time_s, size)
    image = expose(radiance.linear, scene, time_s)
    return Rendering(image, radiance.object_ids, radiance.objects, radiance.actor_mask)


def cast(scene: Scene, time_s: float, size: tuple[int, int]) -> Radiance:
    """Noise-free linear light of the scene; the costly half of `render`, reusable while nothing moves."""
    view = View(scene.camera, size)
    canvas = _Canvas(view, scene)
    objects = [(group, placement) for group in scene.groups for placement in group.placements]
    bodies = [placed(group, placement) for group, placement in objects]
    pairs = [(group.kind, group.colour) for group, _ in objects]
    actor_solids = []
    if scene.actor:
        actor = scene.actor.at(time_s)
        actor_solids = actors.solids(actor)
        if actor.held:
            bodies.append(actors.carried(actor))
            pairs.append((actor.held.kind, actor.held.colour))
    canvas.shade_ground([solid for body in bodies for solid in body] + actor_solids)
    for index, body in enumerate(bodies, start=1):
        for solid in body:
            canvas.draw(solid, index)
    for solid in actor_solids:
        canvas.draw(solid, _Canvas.ACTOR)
    actor_mask = canvas.ids == _Canvas.ACTOR
    canvas.ids[actor_mask] = 0
    return Radiance(canvas.colour, canvas.ids, tuple(pairs), actor_mask)


def expose(linear: np.ndarray, scene: Scene, time_s: float) -> np.ndarray:
    """Linear RGB (rows, cols, 3) to the uint8 picture a small camera delivers; noise depends on seed and time."""
    rows, columns = linear.shape[:2]
    light = scene.light
    balance = np.array([1 + 0.12 * light.warmth, 1, 1 - 0.14 * light.warmth], np.float32) * np.float32(light.level)
    picture = cv2.GaussianBlur(linear, (3, 3), 0.55)
    picture *= _vignette(rows, columns)[..., None] * balance
    np.sqrt(np.clip(picture, 0, 1, out=picture), out=picture)
    rng = np.random.default_rng([scene.seed, int(round(time_s * _NOISE_CLOCK_HZ))])
    noise = rng.standard_normal(picture.shape, dtype=np.float32)
    # Read noise plus a shot-noise share; in the square-root domain shot noise has a constant spread.
    picture += np.float32(scene.noise_level) * noise
    picture *= 255
    return np.clip(picture + 0.5, 0, 255).astype(np.uint8)


class View:
    """Pinhole geometry of one image: a ray per pixel, and where world points fall."""

    def __init__(self, camera: Camera, size: tuple[int, int]):
        self.rows, self.columns = size
        self.focal_px = min(size) / (2 * np.tan(camera.field_of_view_rad / 2))
        cy, sy = np.cos(camera.yaw_rad), np.sin(camera.yaw_rad)
        cp, sp = np.cos(camera.pitch_rad), np.sin(camera.pitch_rad)
        self.origin = np.array([camera.x, camera.y, camera.height], np.float32)
        self.right = np.array([cy, sy, 0], np.float32)
        self.forward = np.array([-sy * cp, cy * cp, -sp], np.float32)
        self.up = np.cross(self.right, self.forward).astype(np.float32)
        self.across = ((np.arange(self.columns) + 0.5 - self.columns / 2) / self.focal_px).astype(np.float32)
        self.upward = ((self.rows / 2 - np.arange(self.rows) - 0.5) / self.focal_px).astype(np.float32)

    def project(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Column, row (pixels) and depth (units) of world points (n, 3)."""
        offset = points - self.origin
        depth = offset @ self.forward
        safe = np.maximum(depth, _NEAR)
        columns = self.columns / 2 + self.focal_px * (offset @ self.right) / safe
        rows = self.rows / 2 - self.focal_px * (offset @ self.up) / safe
        return columns, rows, depth

    def window(self, points: np.ndarray) -> tuple[slice, slice] | None:
        """Row and column slices around world points (n, 3); everything if one is behind, None if off screen."""
        columns, rows, depth = self.project(points)
        if depth.min() <= _NEAR:
            return slice(0, self.rows), slice(0, self.columns)
        top, bottom = max(int(rows.min()) - 1, 0), min(int(rows.max()) + 2, self.rows)
        left, right = max(int(columns.min()) - 1, 0), min(int(columns.max()) + 2, self.columns)
        return (slice(top, bottom), slice(left, right)) if top < bottom and left < right else None

    def directions(self, matrix: np.ndarray, window: tuple[slice, slice]) -> tuple[np.ndarray, ...]:
        """Three components (rows, cols) of matrix @ ray for the pixels of a window."""
        across, upward = self.across[window[1]], self.upward[window[0]]
        f, r, u = matrix @ self.forward, matrix @ self.right, matrix @ self.up
        return tuple((f[i] + upward * u[i])[:, None] + (across * r[i])[None, :] for i in range(3))


def towards(light: Light) -> np.ndarray:
    """Unit vector (3,) from the scene to the lamp."""
    flat = np.cos(light.elevation_rad)
    return np.array(
        [flat * np.sin(light.azimuth_rad), -flat * np.cos(light.azimuth_rad), np.sin(light.elevation_rad)], np.float32
    )


class _Canvas:
    """Colour, depth and id buffers of one picture."""

    ACTOR = -1

    def __init__(self, view: View, scene: Scene):
        self.view = view
        self.lamp = towards(scene.light)
        everything = (slice(0, view.rows), slice(0, view.columns))
        dx, dy, dz = view.directions(np.eye(3, dtype=np.float32), everything)
        with np.errstate(divide="ignore"):
            to_ground = np.where(dz < 0, -view.origin[2] / dz, np.float32(1e6))
            to_wall = np.where(dy > 0, (scene.wall_y - view.origin[1]) / dy, np.float32(1e6))
        self.on_wall = to_wall < to_ground
        self.depth = np.minimum(to_ground, to_wall)
        self.ground_x = view.origin[0] + to_ground * dx
        self.ground_y = view.origin[1] + to_ground * dy
        self.colour = surface_albedo(scene.surface, self.ground_x, self.ground_y)
        self.colour *= _AMBIENT + _DIFFUSE * self.lamp[2]
        wall_z = view.origin[2] + to_wall[self.on_wall] * dz[self.on_wall]
        self.colour[self.on_wall] = wall_albedo(scene.seed, wall_z) * np.float32(0.8)
        self.ids = np.zeros((view.rows, view.columns), np.int16)

    def shade_ground(self, solids: list[Solid]) -> None:
        """Darken the surface where a solid is between it and the lamp."""
        shadow = np.zeros(self.ids.shape, np.float32)
        for solid in solids:
            corners = solid.corners()
            window = self.view.window(corners - self.lamp * (corners[:, 2:] / self.lamp[2]))
            if window:
                shadow[window][self._shadowed(solid, window)] = 1
        shadow[self.on_wall] = 0
        # The lamp has an extent: penumbra.
        self.colour *= 1 - _SHADOW * cv2.blur(shadow, (5, 5))[..., None]

    def _shadowed(self, solid: Solid, window: tuple[slice, slice]) -> np.ndarray:
        m = solid.to_local
        x, y = self.ground_x[window], self.ground_y[window]
        start = m @ solid.centre
        origin = tuple(m[i, 0] * x + m[i, 1] * y - start[i] for i in range(3))
        return solid.intersect(origin, tuple(m @ self.lamp)) < 1e5

    def draw(self, solid: Solid, index: int) -> None:
        """Paint a solid where it is nearer than what is there."""
        window = self.view.window(solid.corners())
        if window is None:
            return
        origin = solid.to_local @ (self.view.origin - solid.centre)
        directions = self.view.directions(solid.to_local, window)
        t = solid.intersect(origin, directions)
        hit = t < self.depth[window]
        if not hit.any():
            return
        depth = t[hit]
        local = np.stack([o + depth * d[hit] for o, d in zip(origin, directions, strict=True)])
        self.depth[window][hit] = depth
        self.ids[window][hit] = index
        self.colour[window][hit] = self._lit(solid, local)

    def _lit(self, solid: Solid, local: np.ndarray) -> np.ndarray:
        normals = solid.normals(local)
        diffuse = np.maximum(normals @ self.lamp, 0)
        # Blinn's half vector with one viewing direction for the whole solid: objects are small on screen.
        half = self.lamp + (self.view.origin - solid.centre) / np.linalg.norm(self.view.origin - solid.centre)
        shine = np.maximum(normals @ (half / np.linalg.norm(half)), 0) ** 32 * np.float32(solid.paint.gloss)
        # A little more ambient light from above than from below shapes what the lamp does not reach.
        ambient = _AMBIENT * (0.8 + 0.2 * normals[:, 2])
        return solid.paint.albedo(local) * (ambient + _DIFFUSE * diffuse)[:, None] + shine[:, None]


@lru_cache(maxsize=8)
def _vignette(rows: int, columns: int) -> np.ndarray:
    y, x = np.linspace(-1, 1, rows, dtype=np.float32)[:, None], np.linspace(-1, 1, columns, dtype=np.float32)[None, :]
    return 1 - np.float32(0.16) * (x * x + y * y)
