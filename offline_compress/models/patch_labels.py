# SPDX-License-Identifier: Apache-2.0
"""What every patch of a rendered scene shows: dense targets that make training from random weights many times faster.

The heads that learn them are thrown away after training.
"""

from __future__ import annotations

import numpy as np

from offline_compress.models.scenes import KINDS, SURFACES, Rendering, Scene
from offline_compress.models.scenes.vocabulary import ACTIONS, ACTORS, COLOURS

IGNORED = 255
PATCH = 16

ACTOR_ACTIONS = tuple((actor, action) for actor in ACTORS for action in ACTIONS[actor])
RELATIONS = ("alone", "left", "front", "row")

# Channel: number of classes. cover: 0 background, then kinds, then what an actor does; centre: whether an object's
# middle lies here, which is how objects are counted; order: place in the caption (3: held); count: of the group.
CHANNELS = {
    "cover": 1 + len(KINDS) + len(ACTOR_ACTIONS),
    "colour": len(COLOURS),
    "centre": 2,
    "order": 4,
    "count": 4,
    "relation": len(RELATIONS),
    "surface": len(SURFACES),
}


def patch_labels(scene: Scene, rendering: Rendering, patch: int = PATCH) -> np.ndarray:
    """uint8 (rows / patch, cols / patch, len(CHANNELS)); IGNORED where a channel has no meaning."""
    covering = covering_object(rendering.object_ids, patch)  # (rows, cols)
    table = object_table(scene, rendering)
    labels = table[covering]
    if scene.actor is not None:
        acting = 1 + len(KINDS) + ACTOR_ACTIONS.index((scene.actor.name, scene.actor.action))
        share = blocks(rendering.actor_mask, patch).mean(-1)
        labels[..., 0][(covering == 0) & (share > 0.25)] = acting
    labels[..., 2] = 0
    for row, column in object_centres(rendering.object_ids, len(rendering.objects)):
        labels[int(row) // patch, int(column) // patch, 2] = 1
    labels[..., 6] = SURFACES.index(scene.surface)
    return labels


def blocks(image: np.ndarray, patch: int) -> np.ndarray:
    """(rows, cols) to (rows / patch, cols / patch, patch * patch)."""
    rows, columns = image.shape[0] // patch, image.shape[1] // patch
    tiles = image[: rows * patch, : columns * patch].reshape(rows, patch, columns, patch)
    return tiles.transpose(0, 2, 1, 3).reshape(rows, columns, patch * patch)


def covering_object(object_ids: np.ndarray, patch: int) -> np.ndarray:
    """Id of the object that covers most of each patch, 0 where none covers a quarter of it."""
    tiles = blocks(object_ids, patch)
    shares = np.stack([(tiles == index).mean(-1) for index in range(1, int(object_ids.max(initial=0)) + 1)] or
                      [np.zeros(tiles.shape[:2])], axis=-1)  # fmt: skip
    return np.where(shares.max(-1) >= 0.25, shares.argmax(-1) + 1, 0)


def object_table(scene: Scene, rendering: Rendering) -> np.ndarray:
    """uint8 (objects + 1, len(CHANNELS)): the labels of a patch by the object on it; row 0 is background."""
    table = np.full((len(rendering.objects) + 1, len(CHANNELS)), IGNORED, np.uint8)
    table[0, 0] = 0
    groups = [(order, group) for order, group in enumerate(scene.groups) for _ in group.placements]
    if scene.actor is not None and scene.actor.held is not None:
        groups.append((3, scene.actor.held))
    for row, ((kind, colour), (order, group)) in enumerate(zip(rendering.objects, groups, strict=True), start=1):
        table[row, :2], table[row, 3] = (1 + kind, colour), order
        if order < 3:
            table[row, 4:6] = min(group.count, 4) - 1, RELATIONS.index(scene.relation)
    return table


def object_centres(object_ids: np.ndarray, objects: int) -> list[tuple[float, float]]:
    """Mean (row, column) of the visible pixels of each object that is visible."""
    centres = []
    for index in range(1, objects + 1):
        rows, columns = np.nonzero(object_ids == index)
        if len(rows):
            centres.append((rows.mean(), columns.mean()))
    return centres
