# SPDX-License-Identifier: Apache-2.0
"""What a scene shows, drawn at random: surface, kinds, colours, counts, relation, actor. Not yet where.

This is where the split is decided: training content never holds a reserved combination, held-out content always does.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from .vocabulary import (
    ACTIONS,
    ACTOR_COMBINATIONS,
    ACTORS,
    COLOURS,
    KINDS,
    SURFACES,
    allowed_on,
    blends_in,
    is_reserved_actor,
    is_reserved_pair,
)


@dataclass(frozen=True)
class Content:
    """What a scene shows, without where: pairs are (kind, colour) per group, `held_pair` that of a held object."""

    surface: str
    relation: str
    pairs: tuple[tuple[int, int], ...]
    counts: tuple[int, ...]
    actor: str | None
    action: str | None
    held_pair: tuple[int, int] | None

    def is_reserved(self) -> bool:
        """Whether any combination in it is kept out of training."""
        pairs = self.pairs + ((self.held_pair,) if self.held_pair else ())
        reserved_actor = self.actor is not None and is_reserved_actor(self.actor, self.action, self.surface)
        return reserved_actor or any(is_reserved_pair(*pair) for pair in pairs)


def sample_content(rng: np.random.Generator, split: str) -> Content:
    while True:
        content = _draw_content(rng)
        if split == "heldout" and not content.is_reserved():
            content = _make_reserved(rng, content)
        if content.is_reserved() == (split == "heldout") and _distinct(content):
            return content


def _draw_content(rng: np.random.Generator) -> Content:
    surface = SURFACES[rng.integers(len(SURFACES))]
    actor = action = held_pair = None
    if rng.random() < 0.5:
        # Grippers fit everywhere, the others on floors only: weighting them down evens the three out.
        names = [name for name in ACTORS if allowed_on(name, surface)]
        weights = np.array([0.2 if name == "gripper" and len(names) > 1 else 0.4 for name in names])
        actor = str(rng.choice(names, p=weights / weights.sum()))
        action = str(rng.choice(ACTIONS[actor]))
    group_count = int(rng.choice([1, 2, 3], p=[0.28, 0.50, 0.22] if actor is None else [0.4, 0.6, 0.0]))
    relation = {1: "alone", 2: "left" if rng.random() < 0.55 else "front", 3: "row"}[group_count]
    pairs = tuple(_draw_pair(rng) for _ in range(group_count))
    if action == "holding":
        held_pair = _draw_pair(rng)
    most = {"alone": 4, "left": 3, "front": 3, "row": 2}[relation]
    counts = tuple(int(c) for c in rng.integers(1, most + 1, size=group_count))
    if action == "reaching":
        counts = counts[:-1] + (1,)
    return Content(surface, relation, pairs, counts, actor, action, held_pair)


def _draw_pair(rng: np.random.Generator) -> tuple[int, int]:
    return int(rng.integers(len(KINDS))), int(rng.integers(len(COLOURS)))


def _make_reserved(rng: np.random.Generator, content: Content) -> Content:
    """Put one reserved combination into the content: usually a pair, else the actor."""
    if content.actor and rng.random() < 0.4:
        choices = [c for c in ACTOR_COMBINATIONS if is_reserved_actor(*c) and c[1] == content.action]
        if choices:
            actor, action, surface = choices[rng.integers(len(choices))]
            return replace(content, actor=actor, action=action, surface=surface)
    index, kind = int(rng.integers(len(content.pairs))), int(rng.integers(len(KINDS)))
    colour = next(c for c in range(len(COLOURS)) if is_reserved_pair(kind, c))
    pairs = content.pairs[:index] + ((kind, colour),) + content.pairs[index + 1 :]
    return replace(content, pairs=pairs)


def _distinct(content: Content) -> bool:
    """Kinds and colours all differ between groups, and everything stands out from the surface."""
    pairs = content.pairs + ((content.held_pair,) if content.held_pair else ())
    kinds, colours = {kind for kind, _ in pairs}, {colour for _, colour in pairs}
    visible = not any(blends_in(COLOURS[colour], content.surface) for _, colour in pairs)
    return visible and len(kinds) == len(pairs) and len(colours) == len(pairs)


def thinned(content: Content) -> Content:
    """One object less in the largest group, down to one in each."""
    largest = content.counts.index(max(content.counts))
    counts = tuple(max(count - (i == largest), 1) for i, count in enumerate(content.counts))
    return replace(content, counts=counts)
