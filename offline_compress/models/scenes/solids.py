# SPDX-License-Identifier: Apache-2.0
"""Three solids with analytic ray intersection: ellipsoid, box, frustum (cylinder and cone included).

A solid is a unit shape in its own local frame and an affine map into it, so that rays are intersected with
|p| = 1, with [-1, 1]^3, or with x^2 + y^2 = r(z)^2, 0 <= z <= 1. Rays are p = origin + t * direction with a direction
that is not normalised: t is then the depth along the optical axis, comparable between solids.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

_FAR = np.float32(1e6)
_CAP_TOLERANCE = 2e-3
_CORNERS = np.array([(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], np.float32)

Pattern = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Paint:
    """Surface appearance: linear RGB, a second RGB where `pattern(local points (3, n))` is 1, and a gloss weight."""

    rgb: tuple[float, float, float]
    second_rgb: tuple[float, float, float] = (0.0, 0.0, 0.0)
    pattern: Pattern | None = None
    gloss: float = 0.25

    def albedo(self, local: np.ndarray) -> np.ndarray:
        """Linear RGB (n, 3) at local points (3, n)."""
        base = np.asarray(self.rgb, np.float32)
        if self.pattern is None:
            return np.broadcast_to(base, (local.shape[1], 3))
        mix = self.pattern(local).astype(np.float32)[:, None]
        return base + mix * (np.asarray(self.second_rgb, np.float32) - base)


@dataclass(frozen=True)
class Solid:
    """One primitive. `to_local` (3, 3) maps world offsets from `centre` (3,) into the unit shape's frame.

    `taper` holds the frustum's local radii at z = 0 and z = 1; caps are open inside the local radius `hole`.
    """

    shape: str
    centre: np.ndarray
    to_local: np.ndarray
    paint: Paint
    taper: tuple[float, float] = (1.0, 1.0)
    hole: float = 0.0

    def placed(self, position: np.ndarray, yaw_rad: float, size: float) -> Solid:
        """This solid, part of a body modelled around the origin, with the body put at `position` (3,)."""
        turn = rotation_z(yaw_rad)
        return replace(
            self, centre=position + size * (turn @ self.centre), to_local=(self.to_local @ turn.T) / np.float32(size)
        )

    def corners(self) -> np.ndarray:
        """World corners (8, 3) of the solid's local bounding box."""
        local = _CORNERS.copy()
        if self.shape == "frustum":
            local[:, 2] = (local[:, 2] + 1) / 2
        # Rows of to_local are orthogonal (a rotation, scaled per axis), so the inverse is a scaled transpose.
        return self.centre + (local / (self.to_local**2).sum(axis=1)) @ self.to_local

    def intersect(self, origin: np.ndarray, direction: tuple[np.ndarray, ...]) -> np.ndarray:
        """Depth t of the first hit per local ray, 1e6 where there is none.

        `origin` and `direction` hold three local components that broadcast against each other.
        """
        if self.shape == "ellipsoid":
            return _intersect_sphere(origin, direction)
        if self.shape == "box":
            return _intersect_box(origin, direction)
        return _intersect_frustum(origin, direction, self.taper, self.hole)

    def normals(self, local: np.ndarray) -> np.ndarray:
        """Outward unit normals (n, 3) in the world frame at local surface points (3, n)."""
        if self.shape == "ellipsoid":
            gradient = local
        elif self.shape == "box":
            gradient = np.where(np.abs(local) == np.abs(local).max(axis=0), np.sign(local), 0)
        else:
            gradient = _frustum_gradient(local, self.taper)
        normals = gradient.T @ self.to_local
        return normals / np.sqrt(np.einsum("ij,ij->i", normals, normals))[:, None]


def rotation_z(angle_rad: float) -> np.ndarray:
    """Rotation matrix (3, 3) about the vertical."""
    c, s = np.cos(angle_rad), np.sin(angle_rad)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]], np.float32)


def ellipsoid(centre, radii, paint: Paint, axes: np.ndarray | None = None) -> Solid:
    """An ellipsoid with `radii` (3,) along the columns of `axes` (3, 3)."""
    return Solid("ellipsoid", np.asarray(centre, np.float32), _to_local(radii, axes), paint)


def box(centre, half_extents, paint: Paint, axes: np.ndarray | None = None) -> Solid:
    """A box with `half_extents` (3,) along the columns of `axes` (3, 3)."""
    return Solid("box", np.asarray(centre, np.float32), _to_local(half_extents, axes), paint)


def frustum(start, end, start_radius: float, end_radius: float, paint: Paint, hole: float = 0.0) -> Solid:
    """A round bar from the disc around `start` (3,) to the disc around `end` (3,); one radius may be zero."""
    start, end = np.asarray(start, np.float32), np.asarray(end, np.float32)
    length, radius = float(np.linalg.norm(end - start)), max(start_radius, end_radius)
    taper = (start_radius / radius, end_radius / radius)
    to_local = _to_local((radius, radius, length), _axes_along((end - start) / length))
    return Solid("frustum", start, to_local, paint, taper, hole)


def _to_local(scale, axes: np.ndarray | None) -> np.ndarray:
    axes = np.eye(3, dtype=np.float32) if axes is None else axes
    return (axes.T / np.asarray(scale, np.float32)[:, None]).astype(np.float32)


def _axes_along(z_axis: np.ndarray) -> np.ndarray:
    """A rotation whose third column is `z_axis` and whose first stays as close to world x as it can."""
    seed = np.array([1, 0, 0], np.float32) if abs(z_axis[0]) < 0.9 else np.array([0, 0, 1], np.float32)
    x_axis = seed - z_axis * (seed @ z_axis)
    x_axis /= np.linalg.norm(x_axis)
    return np.stack([x_axis, np.cross(z_axis, x_axis), z_axis], axis=1).astype(np.float32)


def _intersect_sphere(origin, direction) -> np.ndarray:
    ox, oy, oz = origin
    dx, dy, dz = direction
    a = dx * dx + dy * dy + dz * dz
    b = ox * dx + oy * dy + oz * dz
    discriminant = b * b - a * (ox * ox + oy * oy + oz * oz - 1)
    t = (-b - np.sqrt(np.maximum(discriminant, 0))) / a
    return np.where(discriminant > 0, t, _FAR)


def _intersect_box(origin, direction) -> np.ndarray:
    near, far = np.float32(-_FAR), _FAR
    for o, d in zip(origin, direction, strict=True):
        inverse = 1 / np.where(np.abs(d) < 1e-9, np.float32(1e-9), d)
        middle, half = -o * inverse, np.abs(inverse)
        near, far = np.maximum(near, middle - half), np.minimum(far, middle + half)
    return np.where(near < far, near, _FAR)


def _intersect_frustum(origin, direction, taper, hole) -> np.ndarray:
    ox, oy, oz = origin
    dx, dy, dz = direction
    slope = np.float32(taper[1] - taper[0])
    radius = np.float32(taper[0]) + slope * oz
    a = dx * dx + dy * dy - (slope * dz) ** 2
    a = np.where(np.abs(a) < 1e-9, np.float32(1e-9), a)
    b = ox * dx + oy * dy - slope * radius * dz
    discriminant = b * b - a * (ox * ox + oy * oy - radius * radius)
    root = np.sqrt(np.maximum(discriminant, 0)) / a
    best = _FAR
    for t in (-b / a - root, -b / a + root):
        z = oz + t * dz
        inside = (discriminant > 0) & (z >= 0) & (z <= 1) & (taper[0] + slope * z >= 0)
        best = np.minimum(best, np.where(inside, t, _FAR))
    # One cap is enough: a camera sees only the one that it is outside of, and a ray from the surface to the lamp that
    # enters through the other leaves through the side or this one.
    cap = 0.0 if np.ndim(oz) == 0 and oz < 0 else 1.0
    cap_radius = taper[1] if cap else taper[0]
    if cap_radius > 0:
        t = (cap - oz) / np.where(np.abs(dz) < 1e-9, np.float32(1e-9), dz)
        rho2 = (ox + t * dx) ** 2 + (oy + t * dy) ** 2
        on_cap = (rho2 <= cap_radius**2) & (rho2 >= (hole * cap_radius) ** 2)
        best = np.minimum(best, np.where(on_cap, t, _FAR))
    return best


def _frustum_gradient(local: np.ndarray, taper) -> np.ndarray:
    slope = taper[1] - taper[0]
    x, y, z = local
    gradient = np.stack([x, y, -slope * (taper[0] + slope * z)])
    # Only interior points of a disc are the cap's: on its rim the side normal gives a smoother edge.
    rho2 = x * x + y * y
    for cap, radius, sign in ((0.0, taper[0], -1), (1.0, taper[1], 1)):
        on_cap = (np.abs(z - cap) < _CAP_TOLERANCE) & (rho2 < (0.995 * radius) ** 2)
        gradient[:, on_cap] = np.array([[0], [0], [sign]], np.float32)
    return gradient
