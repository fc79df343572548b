# SPDX-License-Identifier: Apache-2.0
"""Where the groups and the actor stand, checked against the picture before any pixel is drawn."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from . import actors, bodies
from .content import Content
from .renderer import View
from .scene import Actor, Camera, Group, Placement
from .solids import Solid, rotation_z
from .vocabulary import KINDS

# All limits are for the 224 x 224 picture, the size the scenes are made for.
_SIZE = (224, 224)
_MARGIN_PX = 3
_SMALLEST_PX = 28
_OBJECT_OVERLAP, _ACTOR_OVERLAP = 0.25, 0.12
_GAP_PX = 5

# Offsets (x, y) of the members of a group, in member widths.
_FORMATIONS = {
    1: ((0.0, 0.0),),
    2: ((-0.55, 0.0), (0.55, 0.0)),
    3: ((-0.62, 0.5), (0.62, 0.5), (0.0, -0.65)),
    4: ((-0.62, 0.7), (0.62, 0.7), (-0.62, -0.6), (0.62, -0.6)),
}
# Bodies grow where there is room for it: the more groups share the picture, the smaller they are.
_SIZES = {"alone": (1.15, 1.55), "left": (1.0, 1.3), "front": (1.0, 1.25), "row": (0.9, 1.1)}
_SIDEWAYS_KINDS = ("car", "duck")


def place(rng: np.random.Generator, content: Content, camera: Camera) -> tuple[tuple[Group, ...], Actor | None] | None:
    """Groups and actor for `content`, or None when this draw is crowded, cut off, too small or ambiguous."""
    view = View(camera, _SIZE)
    groups = _groups(rng, content, camera)
    boxes = [_object_boxes(view, group) for group in groups]
    if not (_well_seen(boxes) and _decidable(content.relation, boxes)):
        return None
    if content.actor is None:
        return groups, None
    actor = _actor(rng, content, groups)
    if not _actor_seen(view, actor, boxes):
        return None
    return groups, actor


def _groups(rng: np.random.Generator, content: Content, camera: Camera) -> tuple[Group, ...]:
    low, high = _SIZES[content.relation]
    sizes = [float(rng.uniform(low, high)) * (1.0 if count < 3 else 0.82) for count in content.counts]
    members = [2 * bodies.bounds(kind)[0] * size for (kind, _), size in zip(content.pairs, sizes, strict=True)]
    shapes = [_offsets(kind, count) for (kind, _), count in zip(content.pairs, content.counts, strict=True)]
    spans = [width * (np.ptp(shape[:, 0]) + 1) for width, shape in zip(members, shapes, strict=True)]
    centres = _centres(rng, content.relation, spans, camera)
    return tuple(
        Group(kind, colour, size, _formation(rng, kind, shape, size, centre))
        for (kind, colour), size, shape, centre in zip(content.pairs, sizes, shapes, centres, strict=True)
    )


def _centres(rng: np.random.Generator, relation: str, spans: list[float], camera: Camera) -> list[tuple[float, float]]:
    """World (x, y) of each group of width `spans` (units), on the visible part of the surface."""
    near, far = (3.9, 5.2) if camera.pitch_rad > 0.5 else (3.8, 5.0)
    if relation == "alone":
        return [(float(rng.uniform(-1.3, 1.3)), float(rng.uniform(near, far)))]
    if relation == "front":
        x = rng.uniform(-1.2, 1.2)
        front, back = rng.uniform(-0.3, 0.3, size=2)
        return [(float(x + front), near - 0.3), (float(x + back), far + 0.8)]
    gaps = rng.uniform(0.25, 0.8, size=len(spans) - 1)
    x = -(sum(spans) + gaps.sum()) / 2 + rng.uniform(-0.3, 0.3)
    y = rng.uniform(near + 0.1, far)
    centres = []
    for span, gap in zip(spans, (*gaps, 0.0), strict=True):
        centres.append((float(x + span / 2), float(y + rng.uniform(-0.3, 0.3))))
        x += span + gap
    return centres


def _offsets(kind: int, count: int) -> np.ndarray:
    """Offsets (count, 2) of the members: flat bodies cluster, tall ones would hide each other and stand in line."""
    radius, height = bodies.bounds(kind)
    if height > 2 * radius:
        return np.array([((i - (count - 1) / 2) * 1.12, 0.0) for i in range(count)])
    return np.array(_FORMATIONS[count])


def _formation(
    rng: np.random.Generator, kind: int, offsets: np.ndarray, size: float, centre: tuple[float, float]
) -> tuple[Placement, ...]:
    """Places of bodies at `offsets` (count, 2) in members around a centre (x, y), all turned about the same way."""
    radius, height = bodies.bounds(kind)
    width, depth = 2 * radius * size, max(2 * radius, 0.95 * height) * size
    flipped = KINDS[kind] in _SIDEWAYS_KINDS and rng.random() < 0.5
    turn = float(rng.uniform(-0.5, 0.5)) + (np.pi if flipped else 0.0)
    return tuple(
        Placement(
            x=centre[0] + width * dx + float(rng.uniform(-0.05, 0.05)),
            y=centre[1] + depth * dy + float(rng.uniform(-0.05, 0.05)),
            yaw_rad=turn + float(rng.uniform(-0.15, 0.15)),
        )
        for dx, dy in offsets.tolist()
    )


def _screen_box(view: View, solids: list[Solid]) -> np.ndarray:
    """(left, top, right, bottom) in pixels around some solids, not clipped to the picture."""
    points = np.concatenate([solid.corners() for solid in solids])
    columns, rows, _ = view.project(points)
    return np.array([columns.min(), rows.min(), columns.max(), rows.max()])


def _object_boxes(view: View, group: Group) -> np.ndarray:
    """Boxes (count, 4) as in `_screen_box`, from the extent of the whole body: a little too large, but cheap."""
    corners = bodies.extent(group.kind) * group.size
    points = [corners @ rotation_z(p.yaw_rad).T + (p.x, p.y, p.z) for p in group.placements]
    columns, rows, _ = view.project(np.concatenate(points))
    columns, rows = columns.reshape(-1, 8), rows.reshape(-1, 8)
    return np.stack([columns.min(1), rows.min(1), columns.max(1), rows.max(1)], axis=1)


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection of two boxes over the smaller box."""
    width, height = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    smaller = min(np.prod(a[2:] - a[:2]), np.prod(b[2:] - b[:2]))
    return float(max(width, 0) * max(height, 0) / smaller)


def _well_seen(boxes: list[np.ndarray]) -> bool:
    """Everything inside the picture, large enough, and hardly hidden by anything else."""
    every = np.concatenate(boxes)
    limits = np.array([_SIZE[1], _SIZE[0]]) - _MARGIN_PX
    inside = every[:, :2].min() >= _MARGIN_PX and bool((every[:, 2:] <= limits).all())
    large = bool(((every[:, 2:] - every[:, :2]).max(axis=1) >= _SMALLEST_PX).all())
    apart = all(_overlap(every[i], every[j]) <= _OBJECT_OVERLAP for i in range(len(every)) for j in range(i))
    return inside and large and apart


def _decidable(relation: str, boxes: list[np.ndarray]) -> bool:
    """Left of: no shared columns and about the same depth. In front of: clearly lower, about the same columns."""
    whole = [np.concatenate([b[:, :2].min(0), b[:, 2:].max(0)]) for b in boxes]
    if relation in ("left", "row"):
        return all(a[2] + _GAP_PX <= b[0] for a, b in pairwise(whole))
    if relation == "front":
        a, b = whole
        centre_a, centre_b = (a[0] + a[2]) / 2, (b[0] + b[2]) / 2
        return a[3] - b[3] >= 30 and abs(centre_a - centre_b) <= 34
    return True


def _actor(rng: np.random.Generator, content: Content, groups: tuple[Group, ...]) -> Actor:
    name, action, tone = content.actor, content.action, int(rng.integers(12))
    if name != "gripper":
        reach, depth = (3.0, 7.2) if name == "person" else (2.6, 7.0)
        return Actor(name, action, float(rng.uniform(-reach, reach)), depth + float(rng.uniform(0, 0.6)), tone=tone)
    if action == "reaching":
        index = len(groups) - 1
        group = groups[index]
        spot, height = group.placements[0], bodies.bounds(group.kind)[1] * group.size
        return Actor(name, action, spot.x, spot.y, z=0.88 * height, tone=tone, target=index)
    x, y = float(rng.uniform(-2.2, 2.2)), float(rng.uniform(5.2, 6.0))
    if action == "open":
        return Actor(name, action, x, y, z=float(rng.uniform(1.5, 1.9)), tone=tone)
    base = float(rng.uniform(1.2, 1.5))
    kind, colour = content.held_pair
    radius, height = bodies.bounds(kind)
    size = min(1.15, 0.62 / radius)
    held = actors.hold(kind, colour, size, x, y, base)
    return Actor(name, action, x, y, z=base + 0.45 * height * size, tone=tone, held=held)


def _actor_seen(view: View, actor: Actor, boxes: list[np.ndarray]) -> bool:
    """Inside the picture (an arm may leave through the top) and not in front of, or behind, any object."""
    solids = actors.solids(actor)
    if actor.name == "gripper":
        # The first solid is the arm, which reaches out of the picture by design.
        box = _screen_box(view, solids[1:] + actors.carried(actor))
    else:
        box = _screen_box(view, solids)
    top = -30 if actor.name == "gripper" else 2
    if box[0] < _MARGIN_PX or box[2] > _SIZE[1] - _MARGIN_PX or box[1] < top:
        return False
    # A gripper has to be over the object that it reaches for, its target in the last group.
    others = boxes[:-1] if actor.action == "reaching" else boxes
    return all(_overlap(box, other) <= _ACTOR_OVERLAP for group in others for other in group)
