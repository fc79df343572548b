# SPDX-License-Identifier: Apache-2.0
"""What gripper, person and cart look like, posed so that one frame tells what they are doing.

A walking person leans and strides towards a cap's visor, a driving cart leaves puffs of dust behind its lit front,
standing ones do neither; a gripper straddles an object, carries one, or is spread wide above everything.
"""

from __future__ import annotations

import numpy as np

from .bodies import CREAM, DARK, SILVER, bounds, linear, placed
from .scene import Actor, Group, Placement
from .solids import Paint, Solid, box, ellipsoid, frustum

FINGER_LENGTH = 0.62

_JACKETS = tuple(linear(c) for c in ((0.20, 0.45, 0.50), (0.50, 0.38, 0.28), (0.38, 0.42, 0.32), (0.55, 0.45, 0.55)))
_SKINS = tuple(linear(c) for c in ((0.88, 0.68, 0.55), (0.62, 0.42, 0.30), (0.40, 0.26, 0.18)))
_TROUSERS = Paint(linear((0.20, 0.22, 0.30)), gloss=0.0)
_HIGH_VISIBILITY = Paint(linear((0.85, 0.90, 0.20)), gloss=0.2)
_DUST = Paint(linear((0.88, 0.85, 0.78)), gloss=0.0)
_STEP_RAD_PER_S = 6.0


def solids(actor: Actor) -> list[Solid]:
    """The actor's solids in world coordinates."""
    if actor.name == "gripper":
        return _gripper(actor)
    parts = _person(actor) if actor.name == "person" else _cart(actor)
    position = np.array([actor.x, actor.y, actor.z], np.float32)
    return [part.placed(position, 0.0, 1.0) for part in parts]


def carried(actor: Actor) -> list[Solid]:
    """The solids of the object in the gripper's fingers; empty when nothing is held."""
    if actor.held is None:
        return []
    rise = np.array([0, 0, _lift(actor.elapsed_s)], np.float32)
    return [part.placed(rise, 0.0, 1.0) for part in placed(actor.held, actor.held.placements[0])]


def hold(kind: int, colour: int, size: float, x: float, y: float, z: float) -> Group:
    """A single object in the air with its base at height z (units)."""
    return Group(kind, colour, size, (Placement(x, y, 0.0, z),))


def _lift(elapsed_s: float) -> float:
    """A gripper moves up and down: height (units) above its sampled pose."""
    return 0.35 * (1 - np.cos(2.0 * elapsed_s))


def _gripper(actor: Actor) -> list[Solid]:
    """Arm, wrist and two fingers; `actor.z` is the height of the finger tips (units)."""
    spread = {"reaching": 0.50, "open": 0.40}.get(actor.action, 0.0)
    if actor.held:
        spread = bounds(actor.held.kind)[0] * actor.held.size
    splay = {"reaching": 0.16, "holding": 0.0, "open": 0.55}[actor.action]
    tip = np.array([actor.x, actor.y, actor.z + _lift(actor.elapsed_s)], np.float32)
    palm = tip + np.array([0, 0, FINGER_LENGTH + 0.08], np.float32)
    parts = [
        frustum(palm + (0, 0, 0.3), palm + (0, 0, 4.0), 0.17, 0.17, SILVER),
        frustum(palm + (0, 0, 0.08), palm + (0, 0, 0.42), 0.24, 0.24, DARK),
        box(palm, (spread + 0.14, 0.17, 0.12), Paint(linear((0.56, 0.58, 0.62)), gloss=0.5)),
    ]
    for side in (-1, 1):
        top = palm + np.array([side * spread, 0, -0.05], np.float32)
        end = palm + np.array([side * (spread + splay), 0, -FINGER_LENGTH], np.float32)
        middle = top + 0.6 * (end - top)
        parts += [frustum(top, middle, 0.10, 0.09, DARK), frustum(middle, end, 0.09, 0.07, CREAM)]
    return parts


def _person(actor: Actor) -> list[Solid]:
    facing = {"left": -1, "right": 1, "standing": 0}[actor.action]
    jacket = Paint(_JACKETS[actor.tone % len(_JACKETS)], gloss=0.0)
    skin = Paint(_SKINS[actor.tone % len(_SKINS)], gloss=0.1)
    swing = 0.62 * np.cos(_STEP_RAD_PER_S * actor.pace * actor.elapsed_s) if facing else 0.0
    lean = 0.34 * facing
    hip, neck = np.array([0, 0, 1.25]), np.array([lean, 0, 2.25])
    parts = [frustum(hip + (0, 0, -0.1), neck, 0.30, 0.38, jacket)]
    for side in (-1, 1):
        apart = np.array([0.0 if facing else 0.18 * side, 0.12 * side if facing else 0, 0])
        foot = np.array([side * swing, 0, 0.08]) + apart
        toe = foot + (0.22 * facing, 0 if facing else -0.2, 0)
        hand = neck + (-side * 0.75 * swing, 0, -0.85) + 2.2 * apart
        parts += [
            frustum(hip + apart, foot, 0.19, 0.12, _TROUSERS),
            ellipsoid((foot + toe) / 2, (0.24 if facing else 0.14, 0.13 if facing else 0.24, 0.09), DARK),
            frustum(neck + (0, 0, -0.1) + 1.9 * apart, hand, 0.13, 0.09, jacket),
            ellipsoid(hand, (0.11, 0.11, 0.12), skin),
        ]
    head = neck + (0.10 * facing, 0, 0.34)
    visor = head + ((0.44 * facing, 0, 0.08) if facing else (0, -0.32, 0.08))
    cap = Paint(jacket.rgb, gloss=0.1)
    return parts + [
        ellipsoid(head, (0.28, 0.28, 0.33), skin),
        ellipsoid(head + (-0.04 * facing, 0, 0.15), (0.31, 0.31, 0.23), cap),
        box(visor, (0.28, 0.18, 0.05) if facing else (0.17, 0.18, 0.05), cap),
    ]


def _cart(actor: Actor) -> list[Solid]:
    """A delivery cart with a tall cab and a lamp at its front, dust behind when it drives."""
    facing = {"left": -1, "right": 1, "standing": 1 if actor.tone % 2 else -1}[actor.action]
    hub = Paint(DARK.rgb, SILVER.rgb, lambda p: p[0] ** 2 + p[1] ** 2 < 0.2)
    shell = Paint(linear((0.80, 0.82, 0.84)), _HIGH_VISIBILITY.rgb, lambda p: np.abs(p[2]) < 0.35, 0.3)
    glass = Paint(linear((0.80, 0.82, 0.84)), linear((0.15, 0.22, 0.30)), lambda p: (p[2] > -0.1) & (p[2] < 0.85), 0.5)
    parts = [
        box((-0.35 * facing, 0, 0.62), (0.85, 0.5, 0.30), shell),
        box((0.72 * facing, 0, 0.86), (0.34, 0.5, 0.54), glass),
        ellipsoid((1.06 * facing, -0.25, 0.50), (0.10, 0.14, 0.14), Paint(linear((1.0, 0.95, 0.55)))),
        box((0, 0, 0.28), (1.15, 0.45, 0.07), DARK),
    ]
    parts += [
        frustum((x, 0.42 * side, 0.26), (x, 0.54 * side, 0.26), 0.26, 0.26, hub)
        for x in (-0.72, 0.66)
        for side in (-1, 1)
    ]
    if actor.action == "standing":
        return parts
    puffs = ((1.52, 0.34), (2.14, 0.27), (2.64, 0.19))
    return parts + [ellipsoid((-facing * x, 0, r * 0.8), (r * 1.25, r, r * 0.8), _DUST) for x, r in puffs]
