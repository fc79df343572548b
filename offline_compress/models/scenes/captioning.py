# SPDX-License-Identifier: Apache-2.0
"""Five ways to say what a scene shows, in a closed grammar with one reading order.

Groups are named left to right, or nearest first; one of the five phrasings names them the other way round. The
actor always comes last. Syntax varies between the five, content words do not.
"""

from __future__ import annotations

from .scene import Actor, Group, Scene
from .vocabulary import COLOURS, KINDS

_COUNTS = (None, "one", "two", "three", "four")
_PLURALS = {"box": "boxes"}

# Half the picture's width at the depth where people and carts move; beyond it they are out of sight.
_VISIBLE_HALF_WIDTH = 4.6


def captions(scene: Scene, time_s: float = 0.0) -> tuple[str, ...]:
    """Exactly five different captions of the scene `time_s` after its sampled instant, 8 to 22 words each."""
    actor = scene.actor if scene.actor and _in_view(scene, scene.actor, time_s) else None
    described = _describe(scene)
    return tuple(f"{text} {tail}".strip() for text, tail in zip(described, _actor_clauses(actor, scene), strict=True))


def noun(group: Group) -> str:
    """'a red ball', 'three orange boxes'."""
    kind, colour = KINDS[group.kind], COLOURS[group.colour]
    if group.count == 1:
        return f"{'an' if colour[0] in 'aeiou' else 'a'} {colour} {kind}"
    return f"{_COUNTS[group.count]} {colour} {_PLURALS.get(kind, kind + 's')}"


def _in_view(scene: Scene, actor: Actor, time_s: float) -> bool:
    return abs(actor.at(time_s).x - scene.camera.x) < _VISIBLE_HALF_WIDTH


def _be(group: Group) -> str:
    return "is" if group.count == 1 else "are"


def _describe(scene: Scene) -> tuple[str, ...]:
    surface, first = scene.surface, scene.groups[0]
    nouns = [noun(group) for group in scene.groups]
    if scene.relation == "alone":
        return _describe_one(nouns[0], _be(first), surface)
    if scene.relation == "row":
        return _describe_row(nouns, _be(first), surface)
    forward, backward = {"left": ("left of", "right of"), "front": ("in front of", "behind")}[scene.relation]
    a, b = nouns
    long_forward = "to the left of" if scene.relation == "left" else forward
    return (
        f"{a} {forward} {b} on a {surface}",
        f"{a} {long_forward} {b} on the {surface}",
        f"there {_be(first)} {a} {forward} {b} on a {surface}",
        f"on a {surface} {a} {_be(first)} {forward} {b}",
        f"{b} {backward} {a} on a {surface}",
    )


def _describe_one(a: str, be: str, surface: str) -> tuple[str, ...]:
    return (
        f"there {be} {a} on a {surface}",
        f"{a} placed on the {surface}",
        f"a view of {a} on a {surface}",
        f"on a {surface} there {be} {a}",
        f"the robot sees {a} on a {surface}",
    )


def _describe_row(nouns: list[str], be: str, surface: str) -> tuple[str, ...]:
    row = f"{nouns[0]}, {nouns[1]} and {nouns[2]}"
    return (
        f"{row} on a {surface}",
        f"there {be} {row} on the {surface}",
        f"{row} in a row on a {surface}",
        f"on a {surface} there {be} {row}",
        f"{row} side by side on a {surface}",
    )


def _actor_clauses(actor: Actor | None, scene: Scene) -> tuple[str, ...]:
    if actor is None:
        return ("",) * 5
    if actor.name == "gripper":
        return _gripper_clauses(actor, scene)
    name, action = actor.name, actor.action
    if action == "standing":
        return (
            f"and a {name} standing still",
            f"while a {name} stands still",
            f"and a {name} standing still",
            f"while a {name} stands still",
            f"with a {name} standing still",
        )
    verb, gerund = ("walks", "walking") if name == "person" else ("drives", "driving")
    return (
        f"and a {name} {gerund} to the {action}",
        f"while a {name} {verb} {action}",
        f"and a {name} {gerund} {action}",
        f"while a {name} {verb} to the {action}",
        f"with a {name} {gerund} to the {action}",
    )


def _gripper_clauses(actor: Actor, scene: Scene) -> tuple[str, ...]:
    if actor.action == "open":
        return (
            "under an open gripper",
            "below an open gripper",
            "under an open gripper",
            "and an open gripper above",
            "with an open gripper above",
        )
    if actor.action == "holding":
        thing, verb, gerund = noun(actor.held), "holds", "holding"
    else:
        thing, verb, gerund = f"the {KINDS[scene.groups[actor.target].kind]}", "reaches for", "reaching for"
    return (
        f"and a gripper {gerund} {thing}",
        f"while a gripper {verb} {thing}",
        f"and a gripper {gerund} {thing}",
        f"while a gripper {verb} {thing}",
        f"with a gripper {gerund} {thing}",
    )
