# SPDX-License-Identifier: Apache-2.0
"""The closed vocabulary of the rendered scenes, and which combinations are kept out of training.

Scenes store indices into these tuples; captions and renderer look the words and colours up here.
"""

from __future__ import annotations

KINDS = (
    "ball", "box", "can", "bottle", "mug", "cone", "plate", "book",
    "lamp", "flower", "bucket", "car", "egg", "brick", "duck", "mushroom",
)  # fmt: skip

# Display-referred RGB in [0, 1].
COLOUR_RGB = {
    "red": (0.82, 0.10, 0.10),
    "orange": (0.98, 0.50, 0.05),
    "yellow": (0.96, 0.88, 0.10),
    "green": (0.12, 0.66, 0.18),
    "blue": (0.12, 0.27, 0.85),
    "purple": (0.55, 0.15, 0.70),
    "white": (0.95, 0.95, 0.95),
    "black": (0.11, 0.11, 0.12),
}
COLOURS = tuple(COLOUR_RGB)

SURFACES = ("wooden table", "steel bench", "tiled floor", "grey carpet", "green mat", "striped rug")

ACTORS = ("gripper", "person", "cart")
ACTIONS = {
    "gripper": ("reaching", "holding", "open"),
    "person": ("left", "right", "standing"),
    "cart": ("left", "right", "standing"),
}

# People and carts do not move on furniture; a gripper may be mounted anywhere.
_FURNITURE = ("wooden table", "steel bench")


def allowed_on(actor: str, surface: str) -> bool:
    """Whether `actor` can appear in a scene with this surface."""
    return actor == "gripper" or surface not in _FURNITURE


def blends_in(colour: str, surface: str) -> bool:
    """Whether an object of this colour would hardly stand out from the surface."""
    return (colour, surface) in {("green", "green mat"), ("white", "steel bench")}


ACTOR_COMBINATIONS = tuple(
    (actor, action, surface)
    for actor in ACTORS
    for action in ACTIONS[actor]
    for surface in SURFACES
    if allowed_on(actor, surface)
)


def is_reserved_pair(kind_index: int, colour_index: int) -> bool:
    """Whether this (kind, colour) is only shown in the held-out split: one colour in eight per kind."""
    return (3 * kind_index + 5 * colour_index) % len(COLOURS) == 1


def is_reserved_actor(actor: str, action: str, surface: str) -> bool:
    """Whether this (actor, action, surface) is only shown in the held-out split: one in seven."""
    return ACTOR_COMBINATIONS.index((actor, action, surface)) % 7 == 3
