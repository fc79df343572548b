# SPDX-License-Identifier: Apache-2.0
"""From a seed to a scene whose picture decides its caption.

Content is drawn first, then places for it, until the projected boxes are large enough, apart from each other and
inside the picture; a crowded choice is thinned out before it is given up.
"""

from __future__ import annotations

import numpy as np

from edge_vlm.errors import SourceError

from .content import Content, sample_content, thinned
from .placement import place
from .scene import Camera, Light, Scene
from .vocabulary import is_reserved_actor, is_reserved_pair

SPLITS = ("train", "heldout")
_PLACEMENT_TRIES = 8
_THINNINGS = 4


def sample_scene(seed: int, split: str) -> Scene:
    """The scene of this seed: no reserved combination in 'train', at least one in 'heldout'.

    Raises SourceError for another split.
    """
    if split not in SPLITS:
        raise SourceError(f"split {split!r} is unknown", f"use one of {', '.join(SPLITS)}")
    rng = np.random.default_rng([seed, SPLITS.index(split)])
    while True:
        content = sample_content(rng, split)
        for _ in range(_THINNINGS):
            for _ in range(_PLACEMENT_TRIES):
                scene = _arrange(rng, content, seed, split)
                if scene is not None:
                    return scene
            content = thinned(content)


def is_reserved(scene: Scene) -> bool:
    """Whether the scene shows a combination that training never does."""
    actor = scene.actor
    reserved_actor = actor is not None and is_reserved_actor(actor.name, actor.action, scene.surface)
    return reserved_actor or any(is_reserved_pair(*pair) for pair in scene.pairs())


def _arrange(rng: np.random.Generator, content: Content, seed: int, split: str) -> Scene | None:
    camera = _sample_camera(rng, content.actor)
    layout = place(rng, content, camera)
    if layout is None:
        return None
    groups, actor = layout
    light = Light(
        azimuth_rad=float(rng.uniform(-1.2, 1.2)),
        elevation_rad=float(rng.uniform(0.75, 1.15)),
        level=float(rng.choice([1.0, 0.5], p=[0.9, 0.1]) * rng.uniform(0.85, 1.15)),
        warmth=float(rng.uniform(-0.6, 0.6)),
    )
    wall_y = float(rng.uniform(9.5, 12.0))
    noise = float(rng.uniform(0.004, 0.014))
    return Scene(seed, split, content.surface, content.relation, groups, actor, camera, light, wall_y, noise)


def _sample_camera(rng: np.random.Generator, actor: str | None) -> Camera:
    """Looks down more steeply unless somebody in the distance has to fit in."""
    height, pitch = (3.1, 0.43) if actor in ("person", "cart") else (3.5, 0.58)
    return Camera(
        height=height + float(rng.uniform(-0.25, 0.25)),
        pitch_rad=pitch + float(rng.uniform(-0.03, 0.03)),
        yaw_rad=float(rng.uniform(-0.04, 0.04)),
    )
