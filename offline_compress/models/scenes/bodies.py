# SPDX-License-Identifier: Apache-2.0
"""What each kind of object looks like: a body of solids, modelled around the origin with its base at z = 0.

Bodies are about one unit in their largest extent. The object's colour is on its largest part; the other parts tell
the kinds apart (a can has silver rims, a mug a handle, a ball a band).
"""

from __future__ import annotations

from functools import cache

import numpy as np

from .scene import Group, Placement
from .solids import Paint, Solid, box, ellipsoid, frustum
from .vocabulary import COLOUR_RGB, COLOURS, KINDS

Rgb = tuple[float, float, float]


def linear(rgb: Rgb) -> Rgb:
    """Display-referred RGB to linear light; a gamma of 2 keeps the way back a plain square root."""
    return tuple(float(c) ** 2 for c in rgb)


SILVER = Paint(linear((0.72, 0.74, 0.76)), gloss=0.6)
DARK = Paint(linear((0.16, 0.16, 0.17)), gloss=0.2)
CREAM = Paint(linear((0.90, 0.84, 0.70)), gloss=0.1)
CLAY = Paint(linear((0.48, 0.30, 0.20)), gloss=0.05)
LEAF = Paint(linear((0.16, 0.42, 0.14)), gloss=0.1)


@cache
def body(kind: int, colour: int) -> tuple[Solid, ...]:
    """The solids of one object of KINDS[kind] in COLOURS[colour]."""
    name = COLOURS[colour]
    # The contrasting detail has to show on white objects too, and a lighter grey reads as a detail on black ones.
    detail = {"white": (0.42, 0.44, 0.48), "black": (0.70, 0.70, 0.72)}.get(name, (0.96, 0.96, 0.94))
    return tuple(_BUILDERS[KINDS[kind]](linear(COLOUR_RGB[name]), linear(detail), name))


def placed(group: Group, placement: Placement) -> list[Solid]:
    """The solids of one object of the group, in world coordinates."""
    position = np.array([placement.x, placement.y, placement.z], np.float32)
    return [part.placed(position, placement.yaw_rad, group.size) for part in body(group.kind, group.colour)]


@cache
def extent(kind: int) -> np.ndarray:
    """Corners (8, 3) of the box around the body of a kind, in units."""
    corners = np.concatenate([part.corners() for part in body(kind, 0)])
    sides = np.stack([corners.min(axis=0), corners.max(axis=0)])
    return np.array([(sides[i, 0], sides[j, 1], sides[k, 2]) for i in (0, 1) for j in (0, 1) for k in (0, 1)])


def bounds(kind: int) -> tuple[float, float]:
    """(radius, height) in units of a cylinder around the body of a kind."""
    corners = extent(kind)
    return float(np.abs(corners[:, :2]).max()), float(corners[:, 2].max())


def _ball(rgb, detail, _):
    band = Paint(rgb, detail, lambda p: np.abs(p[2] + 0.35 * p[0]) < 0.2, 0.5)
    return [ellipsoid((0, 0, 0.46), (0.46, 0.46, 0.46), band)]


def _box(rgb, detail, _):
    tape = Paint(rgb, detail, lambda p: (np.abs(p[0]) < 0.14) & ((p[2] > 0.55) | (np.abs(p[1]) < 0.9)), 0.05)
    return [box((0, 0, 0.42), (0.42, 0.42, 0.42), tape)]


def _can(rgb, _, __):
    rims = Paint(rgb, SILVER.rgb, lambda p: (p[2] > 0.9) | (p[2] < 0.1), 0.6)
    return [frustum((0, 0, 0), (0, 0, 0.95), 0.33, 0.33, rims)]


def _bottle(rgb, detail, _):
    label = Paint(rgb, detail, lambda p: (p[2] > 0.3) & (p[2] < 0.75), 0.7)
    plain = Paint(rgb, gloss=0.7)
    return [
        frustum((0, 0, 0), (0, 0, 0.66), 0.25, 0.25, label),
        frustum((0, 0, 0.66), (0, 0, 0.88), 0.25, 0.10, plain),
        frustum((0, 0, 0.88), (0, 0, 1.12), 0.10, 0.10, plain),
        frustum((0, 0, 1.12), (0, 0, 1.24), 0.12, 0.12, Paint(detail)),
    ]


def _mug(rgb, _, name):
    inside = linear((0.30, 0.16, 0.08)) if name != "black" else linear((0.75, 0.70, 0.62))
    drink = Paint(rgb, inside, lambda p: (p[2] > 0.99) & (p[0] ** 2 + p[1] ** 2 < 0.7), 0.5)
    return [
        frustum((0, 0, 0), (0, 0, 0.74), 0.33, 0.36, drink),
        frustum((0.40, -0.07, 0.38), (0.40, 0.07, 0.38), 0.27, 0.27, Paint(rgb, gloss=0.5), hole=0.6),
    ]


def _cone(rgb, detail, _):
    band = Paint(rgb, detail, lambda p: (p[2] > 0.36) & (p[2] < 0.62), 0.2)
    return [
        box((0, 0, 0.04), (0.44, 0.44, 0.04), Paint(rgb, gloss=0.2)),
        frustum((0, 0, 0.08), (0, 0, 1.1), 0.33, 0.05, band),
    ]


def _plate(rgb, detail, _):
    ring = Paint(rgb, detail, lambda p: _between(p[0] ** 2 + p[1] ** 2, 0.42, 0.56) & (p[2] > 0.99), 0.5)
    return [frustum((0, 0, 0), (0, 0, 0.12), 0.42, 0.68, ring)]


def _book(rgb, detail, _):
    def pages_and_title(p):
        side = (np.abs(p[0]) > 0.995) | (p[1] > 0.995)
        title = (p[2] > 0.99) & (np.abs(p[0]) < 0.55) & _between(p[1], 0.05, 0.55)
        return (side & (np.abs(p[2]) < 0.7)) | title

    return [box((0, 0, 0.14), (0.40, 0.56, 0.14), Paint(rgb, detail, pages_and_title, 0.1), _quarter_turn())]


def _lamp(rgb, _, __):
    return [
        frustum((0, 0, 0), (0, 0, 0.07), 0.30, 0.26, DARK),
        frustum((0, 0, 0.07), (0, 0, 0.62), 0.05, 0.05, DARK),
        frustum((0, 0, 0.60), (0, 0, 1.12), 0.46, 0.22, Paint(rgb, gloss=0.0)),
    ]


def _flower(rgb, _, name):
    # Petals lie in a disc tilted towards the camera: bodies of flowers are placed with little yaw.
    across, up, centre = np.array([1, 0, 0]), np.array([0, 0.45, 0.89]), np.array([0, -0.04, 0.86])
    axes = np.stack([across, up, np.array([0, -0.89, 0.45])], axis=1).astype(np.float32)
    angles = np.arange(6) * np.pi / 3
    spots = [centre + 0.24 * (np.cos(a) * across + np.sin(a) * up) for a in angles]
    petals = [ellipsoid(spot, (0.17, 0.17, 0.06), Paint(rgb, gloss=0.1), axes) for spot in spots]
    heart = CLAY.rgb if name in ("yellow", "orange") else linear((0.98, 0.80, 0.10))
    return [
        frustum((0, 0, 0), (0, 0, 0.30), 0.18, 0.25, CLAY),
        frustum((0, 0, 0.30), (0, 0, 0.84), 0.035, 0.035, LEAF),
        ellipsoid((0.14, -0.02, 0.44), (0.16, 0.05, 0.06), LEAF),
        *petals,
        ellipsoid(centre + np.array([0, -0.05, 0.02]), (0.12, 0.12, 0.07), Paint(heart), axes),
    ]


def _bucket(rgb, _, name):
    dark = linear((0.30, 0.30, 0.32)) if name == "black" else tuple(0.18 * c for c in rgb)
    hollow = Paint(rgb, dark, lambda p: (p[2] > 0.99) & (p[0] ** 2 + p[1] ** 2 < 0.8), 0.3)
    return [
        frustum((0, 0, 0), (0, 0, 0.70), 0.29, 0.44, hollow),
        frustum((0, -0.02, 0.68), (0, 0.02, 0.68), 0.44, 0.44, SILVER, hole=0.88),
    ]


def _car(rgb, _, __):
    glass = linear((0.55, 0.70, 0.80))
    windows = Paint(rgb, glass, lambda p: (np.abs(p[0]) > 0.1) & (p[2] < 0.7) & (p[2] > -0.8) & (np.abs(p[0]) < 0.85))
    hub = Paint(DARK.rgb, SILVER.rgb, lambda p: p[0] ** 2 + p[1] ** 2 < 0.25)
    wheels = [
        frustum((x, 0.34 * side, 0.17), (x, 0.42 * side, 0.17), 0.17, 0.17, hub)
        for x in (-0.36, 0.36)
        for side in (-1, 1)
    ]
    return [
        box((0, 0, 0.28), (0.64, 0.34, 0.15), Paint(rgb, gloss=0.5)),
        box((-0.06, 0, 0.56), (0.34, 0.30, 0.15), windows),
        *wheels,
    ]


def _egg(rgb, _, __):
    return [ellipsoid((0, 0, 0.50), (0.35, 0.35, 0.50), Paint(rgb, gloss=0.35))]


def _brick(rgb, detail, name):
    dark = detail if name == "black" else tuple(0.3 * c + 0.01 for c in rgb)

    def holes(p):
        x = np.abs(np.abs(p[0]) - 0.56) * (np.abs(p[0]) > 0.28) + np.abs(p[0]) * (np.abs(p[0]) <= 0.28)
        return (p[2] > 0.99) & ((x / 0.19) ** 2 + (p[1] / 0.45) ** 2 < 1)

    return [box((0, 0, 0.22), (0.56, 0.27, 0.22), Paint(rgb, dark, holes, 0.02))]


def _duck(rgb, _, name):
    beak = linear((0.98, 0.50, 0.05)) if name not in ("orange", "red") else linear((0.98, 0.85, 0.10))
    eye = DARK if name != "black" else Paint(linear((0.95, 0.95, 0.95)))
    plain = Paint(rgb, gloss=0.3)
    return [
        ellipsoid((0, 0, 0.30), (0.50, 0.33, 0.31), plain),
        ellipsoid((-0.46, 0, 0.46), (0.17, 0.14, 0.12), plain),
        ellipsoid((0.30, 0, 0.74), (0.25, 0.24, 0.24), plain),
        frustum((0.48, 0, 0.70), (0.74, 0, 0.66), 0.11, 0.03, Paint(beak)),
        ellipsoid((0.38, -0.20, 0.82), (0.06, 0.05, 0.06), eye),
        ellipsoid((0.38, 0.20, 0.82), (0.06, 0.05, 0.06), eye),
    ]


def _mushroom(rgb, detail, _):
    def dots(p):
        turn = np.arctan2(p[1], p[0]) * (5 / (2 * np.pi))
        ring = (2 * np.abs(turn - np.round(turn))) ** 2 * 0.45 + ((p[2] - 0.42) / 0.3) ** 2 < 0.35
        return (ring | (p[2] > 0.90)) & (p[2] > 0)

    cap = Paint(rgb, detail, dots, 0.3)
    return [
        frustum((0, 0, 0), (0, 0, 0.52), 0.20, 0.15, CREAM),
        frustum((0, 0, 0.46), (0, 0, 0.56), 0.34, 0.50, Paint(rgb)),
        ellipsoid((0, 0, 0.56), (0.50, 0.50, 0.36), cap),
    ]


def _between(values: np.ndarray, low: float, high: float) -> np.ndarray:
    return (values > low) & (values < high)


def _quarter_turn() -> np.ndarray:
    """Axes (3, 3) that lay a body's local y along world x, keeping the local frame right-handed."""
    return np.array([[0, 1, 0], [-1, 0, 0], [0, 0, 1]], np.float32)


_BUILDERS = {
    "ball": _ball, "box": _box, "can": _can, "bottle": _bottle, "mug": _mug, "cone": _cone, "plate": _plate,
    "book": _book, "lamp": _lamp, "flower": _flower, "bucket": _bucket, "car": _car, "egg": _egg, "brick": _brick,
    "duck": _duck, "mushroom": _mushroom,
}  # fmt: skip
